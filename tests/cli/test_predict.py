from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn, predicted


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
        "--device",
        "cuda",
    ]
    shown = nn("predict", "brain", "a.nii.gz", "more", "-o", "o", *options)
    (_, arguments, given) = pipeline.calls[0]
    assert arguments == (Path("brain"), [Path("a.nii.gz"), Path("more")], Path("o"))
    assert (given["folds"], given["configuration"]) == (("fold0", "fold1"), "3d")
    assert (given["mirroring"], given["probabilities"], given["device"]) == (False, True, "cuda")
    assert given["exact"]
    assert "3d fold0 + fold1: 2 masks, 8.0 s per case -> o\n" in shown.stdout


def test_evaluate_shows_a_row_per_label_and_a_dash_for_an_absent_one(pipeline: FakePipeline):
    def average(mean: float | None) -> SimpleNamespace:
        return SimpleNamespace(mean=mean, median=mean)

    def label(mean: float | None) -> SimpleNamespace:
        names = ("dice", "nsd", "hd95_mm", "sensitivity", "precision", "truth_ml", "volume_error_ml")
        return SimpleNamespace(cases=4, **dict.fromkeys(names, average(mean)))

    foreground = {"dice": 0.5, "nsd": 0.25, "hd95_mm": 3.0, "sensitivity": 0.75, "precision": None}
    summary = SimpleNamespace(cases=4, foreground=foreground, labels={"liver": label(0.5), "lesion": label(None)})
    pipeline.answers["evaluate"] = SimpleNamespace(summary=lambda: summary, mean_dice=0.5)
    shown = nn("evaluate", "truth", "prediction", "-o", "scores", "--tolerance-mm", "1")
    assert pipeline.calls[0][1:] == (
        (Path("truth"), Path("prediction")),
        {"output": Path("scores"), "tolerance_mm": 1.0, "progress": pipeline.calls[0][2]["progress"]},
    )
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["liver", "4", "0.500", "0.500", "0.500", "0.5", "0.500", "0.500", "0.5", "0.5"] in rows
    assert ["lesion", "4", *["-"] * 8] in rows
    assert ["mean", "of", "labels", "4", "0.500", "0.250", "3.0", "0.750", "-"] in rows
    assert shown.stdout.endswith("mean Dice 0.500 over 4 cases -> scores\n")
