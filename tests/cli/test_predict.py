from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn, predicted

from nnlite.inference.postprocess import Postprocessing, Rule


def test_predict_passes_everything_on(pipeline: FakePipeline):
    pipeline.answers["predict"] = predicted()
    options = [
        "--folds",
        "fold0,fold1",
        "--config",
        "3d",
        "--no-mirroring",
        "--probabilities",
        "--exact",
        "--depth",
        "2",
        "--preview",
        "--entropy",
        "--output-format",
        "dicom-seg",
        "--series",
        "Thorax",
        "--cluster",
        "scheduler.json",
        "--resample-channels-to",
        "CT",
        "--device",
        "cuda",
    ]
    shown = nn("predict", "brain", "a.nii.gz", "more", "-o", "o", *options)
    (_, arguments, given) = pipeline.calls[0]
    assert arguments == (Path("brain"), [Path("a.nii.gz"), Path("more")], Path("o"))
    assert (given["folds"], given["configuration"]) == (("fold0", "fold1"), "3d")
    assert (given["mirroring"], given["probabilities"], given["device"]) == (False, True, "cuda")
    assert given["exact"]
    assert given["depth"] == 2
    assert given["previews"]
    assert (given["output_format"], given["series"]) == ("dicom-seg", "Thorax")
    assert given["entropy"]
    assert given["cluster"] == "scheduler.json"
    assert given["resample_channels_to"] == "CT"
    assert "3d fold0 + fold1: 2 masks, 8.0 s per case -> o\n" in shown.stdout


def case_record(name: str, dice: float | None, unusual: tuple[str, ...] = ()) -> SimpleNamespace:
    findings = tuple(SimpleNamespace(what=what, remedy="look at it") for what in unusual)
    return SimpleNamespace(case=name, labels={"liver": SimpleNamespace(expected_dice=dice)}, unusual=findings)


def test_predict_tells_the_dice_to_expect_and_what_is_unusual(pipeline: FakePipeline):
    result = predicted()
    result.records = (case_record("a", 0.9), case_record("b", 0.7, ("it seems mirrored",)), case_record("c", None))
    pipeline.answers["predict"] = result
    shown = nn("predict", "brain", "a.nii.gz", "-o", "o")
    assert "expected Dice 0.800, lowest 0.700 (b liver)\n" in shown.stdout
    assert "b: it seems mirrored; look at it" in shown.stderr
    result.records = (case_record("c", None, tuple(f"fault {number}" for number in range(14))),)
    shown = nn("predict", "brain", "a.nii.gz", "-o", "o")
    assert "expected Dice" not in shown.stdout
    assert "c: fault 11; look at it" in shown.stderr
    assert "fault 12" not in shown.stderr
    assert "2 more such findings are in the files o/*.prediction.json" in shown.stderr


def test_predict_tells_which_imported_rules_it_applied(pipeline: FakePipeline):
    rules = Postprocessing(rules=(Rule(operation="keep_largest", label="liver", ties="all"),))
    pipeline.answers["predict"] = SimpleNamespace(**{**vars(predicted()), "postprocessing": rules})
    shown = nn("predict", "model", "a.nii.gz", "-o", "o")
    told = "postprocessing, as imported with the model: liver: only the largest component"
    assert shown.stdout.splitlines()[0] == told


def test_evaluate_shows_a_row_per_label_and_a_dash_for_an_absent_one(pipeline: FakePipeline):
    def average(mean: float | None) -> SimpleNamespace:
        return SimpleNamespace(mean=mean, median=mean)

    def label(mean: float | None) -> SimpleNamespace:
        names = ("dice", "nsd", "hd95_mm", "sensitivity", "precision", "truth_ml", "volume_error_ml")
        return SimpleNamespace(cases=4, **dict.fromkeys(names, average(mean)))

    foreground = {"dice": 0.5, "nsd": 0.25, "hd95_mm": 3.0, "sensitivity": 0.75, "precision": None}
    summary = SimpleNamespace(cases=4, foreground=foreground, labels={"liver": label(0.5), "lesion": label(None)})
    pipeline.answers["evaluate"] = SimpleNamespace(summary=lambda: summary, mean_dice=0.5)
    shown = nn("evaluate", "truth", "prediction", "-o", "scores", "--tolerance-mm", "1", "--metrics", "overlap,lesions")
    _, folders, given = pipeline.calls[0]
    assert folders == (Path("truth"), Path("prediction"))
    assert (given["output"], given["tolerance_mm"]) == (Path("scores"), 1.0)
    assert given["metrics"] == ["overlap", "lesions"]
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["liver", "4", "0.500", "0.500", "0.500", "0.5", "0.500", "0.500", "0.5", "0.5"] in rows
    assert ["lesion", "4", *["-"] * 8] in rows
    assert ["mean", "of", "labels", "4", "0.500", "0.250", "3.0", "0.750", "-"] in rows
    assert shown.stdout.endswith("mean Dice 0.500 over 4 cases -> scores\n")


def test_evaluate_scores_single_objects_where_that_is_asked_for(pipeline: FakePipeline):
    summary = SimpleNamespace(cases=0, foreground=dict.fromkeys(("dice", "nsd", "hd95_mm", "sensitivity", "precision")))
    pipeline.answers["evaluate"] = SimpleNamespace(
        summary=lambda: SimpleNamespace(**vars(summary), labels={}), mean_dice=0.5
    )
    told = SimpleNamespace(in_words=lambda: "AP 0.5 0.800 over 12 instances")
    pipeline.answers["evaluate_instances"] = SimpleNamespace(summary=lambda: told)
    shown = nn("evaluate", "truth", "prediction", "-o", "scores", "--instances")
    assert [call[0] for call in pipeline.calls] == ["evaluate", "evaluate_instances"]
    assert pipeline.calls[1][2]["output"] == Path("scores")
    assert shown.stdout.endswith("instances: AP 0.5 0.800 over 12 instances\n")
    nn("evaluate", "truth", "prediction")
    assert pipeline.calls[-1][0] == "evaluate"
