"""The command line alone: a made-up pipeline answers, and what is shown, passed on and returned is looked at."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import nnlite
from nnlite import cli, demo
from nnlite.cli import app, parse_duration
from nnlite.errors import DatasetError, UsageError

VERBS = ("check", "plan", "preprocess", "train", "predict", "evaluate")


class FakePipeline(ModuleType):
    """Answers each verb with what ``answers`` holds (an exception is raised) and remembers how it was called."""

    def __init__(self) -> None:
        super().__init__("nnlite.pipeline")
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        for verb in (*VERBS, "plan_fingerprint"):
            setattr(self, verb, self._verb(verb))

    def _verb(self, verb: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((verb, arguments, options))
            answer = self.answers[verb]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*arguments, **options) if callable(answer) else answer

        return call


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "nnlite.pipeline", fake)
    monkeypatch.setattr(nnlite, "pipeline", fake, raising=False)
    monkeypatch.delenv("NNLITE_WORK", raising=False)
    return fake


def nn(*arguments: str, **options: Any) -> Any:
    """Run a command; an unexpected exception is a failure of the test, not an exit status."""
    result = CliRunner().invoke(app, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def trained(fold: str = "fold0", mean_dice: float | None = 0.871, skipped: bool = False) -> SimpleNamespace:
    folder = Path("work/brain/runs/3d") / fold
    scores = None if mean_dice is None else folder / "scores.csv"
    result = {"configuration": "3d", "fold": fold, "folder": folder, "mean_dice": mean_dice, "scores": scores}
    return SimpleNamespace(**result, training_s=200.0, skipped=skipped)


def predicted() -> SimpleNamespace:
    masks = (Path("o/a.nii.gz"), Path("o/b.nii.gz"))
    return SimpleNamespace(masks=masks, configuration="3d", folds=("fold0", "fold1"), seconds_per_case=(7.0, 9.0))


# --- answering at once ---


def test_the_command_line_loads_no_heavy_library():
    heavy = "{'torch', 'numpy', 'scipy', 'SimpleITK', 'pandas', 'matplotlib', 'pydantic'}"
    code = f"import sys, nnlite.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_does_not_wait_for_torch(tmp_path: Path):
    code = (
        "import sys\nfrom nnlite.cli import main\n"
        f"sys.argv = ['nnlite', 'check', {str(tmp_path / 'missing')!r}]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stdout == "False\n"


def test_help_answers_within_half_a_second():
    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "nnlite", "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    assert min(seconds() for _ in range(3)) < 0.5  # the best of three: other programs may keep the machine busy


def test_help_names_every_verb():
    shown = nn("--help")
    assert shown.exit_code == 0
    assert all(verb in shown.stdout for verb in (*VERBS, "demo"))


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert nn("--version").stdout == f"nnlite {version('nnlite')}\n"


# --- arguments become values ---


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5m", 90), ("1h30m", 5400)])
def test_durations_are_read_with_their_units(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "15 m", "0s", "-5m", "ten minutes", "5m!"])
def test_what_is_no_duration_is_refused_with_examples(text: str):
    with pytest.raises(UsageError, match="write for example 90s, 15m"):
        parse_duration(text)


def test_train_passes_everything_on_and_trains_fold_by_fold(pipeline: FakePipeline):
    pipeline.answers["train"] = lambda dataset, configuration, folds, **options: (trained(folds[0]),)
    options = [
        "--time-budget",
        "30m",
        "--iterations",
        "20",
        "--seed",
        "7",
        "--resume",
        "--device",
        "cpu",
        "--work",
        "w",
    ]
    shown = nn("train", "brain", "3d", "fold0", "fold3", *options)
    assert shown.exit_code == 0
    assert [call[1] for call in pipeline.calls] == [
        (Path("brain"), "3d", ("fold0",)),
        (Path("brain"), "3d", ("fold3",)),
    ]
    given = pipeline.calls[0][2]
    assert given | {"progress": None, "on_epoch": None} == {
        "work": Path("w"),
        "epochs": None,
        "iterations": 20,
        "time_budget_s": 1800.0,
        "seed": 7,
        "resume": True,
        "device": "cpu",
        "progress": None,
        "on_epoch": None,
    }
    assert "3d fold3: mean Dice 0.871 on the held-out cases, trained for 3 min 20 s -> work/brain/runs/3d/fold3" in (
        shown.stdout
    )


def test_predict_passes_everything_on(pipeline: FakePipeline):
    pipeline.answers["predict"] = predicted()
    options = ["--folds", "fold0,fold1", "--config", "3d", "--no-mirroring", "--probabilities", "--device", "cuda"]
    shown = nn("predict", "brain", "a.nii.gz", "more", "-o", "o", *options)
    (_, arguments, given) = pipeline.calls[0]
    assert arguments == (Path("brain"), [Path("a.nii.gz"), Path("more")], Path("o"))
    assert (given["folds"], given["configuration"]) == (("fold0", "fold1"), "3d")
    assert (given["mirroring"], given["probabilities"], given["device"]) == (False, True, "cuda")
    assert "3d fold0 + fold1: 2 masks, 8.0 s per case -> o\n" in shown.stdout


def test_the_workspace_comes_from_the_option_then_the_variable_then_the_default(pipeline: FakePipeline):
    pipeline.answers["preprocess"] = lambda dataset, names, *, work, progress: {"3d": work / "brain/cases/3d"}
    variable = {"NNLITE_WORK": "from_variable"}
    assert "from_option/brain" in nn("preprocess", "brain", "--work", "from_option", env=variable).stdout
    assert "from_variable/brain" in nn("preprocess", "brain", "3d", env=variable).stdout
    assert "nnlite_work/brain" in nn("preprocess", "brain").stdout
    assert [list(call[1][1]) for call in pipeline.calls] == [[], ["3d"], []]


def test_verbose_shows_what_nnlite_logs_and_not_what_its_libraries_log(
    pipeline: FakePipeline, caplog: pytest.LogCaptureFixture
):
    def preprocess(*arguments: Any, **options: Any) -> dict[str, Path]:
        logging.getLogger("nnlite.preprocessing.store").info("case a is new")
        logging.getLogger("matplotlib.font_manager").info("hundreds of fonts")
        return {}

    pipeline.answers["preprocess"] = preprocess
    logger = logging.getLogger("nnlite")
    level = logger.level
    try:
        nn("preprocess", "d")
        assert caplog.messages == []
        nn("preprocess", "d", "--verbose")
        assert caplog.messages == ["case a is new"]
    finally:
        logger.setLevel(level)


# --- what is shown ---


def a_plan() -> SimpleNamespace:
    from nnlite.planning.topology import plan_topology

    topology, patch = plan_topology((1.0, 1.0, 1.0), (40, 56, 40), base_features=8)
    configuration = SimpleNamespace(
        name="3d",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=patch,
        batch_size=2,
        topology=topology,
        previous_stage=None,
        reasons={"patch_size": "40 x 56 x 40: from 36 x 50 x 35", "batch_size": "2: at least 2"},
    )
    return SimpleNamespace(
        dataset="hippocampus",
        device="cpu",
        memory_gib=None,
        training_cases=200,
        channels=("MRI",),
        labels=SimpleNamespace(foreground=("Anterior", "Posterior"), count=3),
        configurations={"3d": configuration},
        reasons={"3d-lowres": "at full resolution the patch already has 142%"},
    )


def test_plan_shows_what_was_decided_and_where_it_lies(pipeline: FakePipeline):
    plan = a_plan()
    pipeline.answers["plan"] = SimpleNamespace(
        plan=plan, path=Path("w/hippocampus/plan.json"), notes=("no 3d-lowres: small",)
    )
    shown = nn("plan", "hippocampus", "--gpu-memory", "11", "--device", "cpu")
    assert pipeline.calls[0][2]["memory_gib"] == 11.0
    row = next(line for line in shown.stdout.splitlines() if line.split()[:1] == ["3d"])
    topology = plan.configurations["3d"].topology
    assert row.split()[1:4] == ["1.00x1.00x1.00", "40x56x40", "2"]
    assert row.split()[4:8] == ["8", "to", str(max(topology.features)), str(topology.stages)]
    assert "no 3d-lowres: small" in shown.stdout
    assert "-> w/hippocampus/plan.json" in shown.stdout


def test_explain_prints_each_decision_with_its_numbers(pipeline: FakePipeline):
    plan = a_plan()
    pipeline.answers["plan"] = SimpleNamespace(plan=plan, path=Path("plan.json"), notes=())
    assert "patch_size: " not in nn("plan", "hippocampus").stdout
    shown = nn("plan", "hippocampus", "--explain").stdout
    for configuration in plan.configurations.values():
        assert all(f"  {what}: {why}\n" in shown for what, why in configuration.reasons.items())
    assert "3d-lowres: at full resolution the patch already has 142%\n" in shown
    assert "  a training step: " in shown


def test_plan_passes_on_what_was_decided_by_hand(pipeline: FakePipeline):
    pipeline.answers["plan"] = SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=())
    nn("plan", "d", "--set", "3d.batch_size=4", "--set", "2d.batch_size=9", "--preset", "nnunet", "--residual", "L")
    options = pipeline.calls[0][2]
    assert options["overrides"] == ["3d.batch_size=4", "2d.batch_size=9"]
    assert (options["preset"], options["residual"], options["from_plan"]) == ("nnunet", "L", None)
    nn("plan", "d", "--from", "other")
    assert pipeline.calls[1][2]["from_plan"] == Path("other")


def test_a_fingerprint_is_planned_without_a_dataset(pipeline: FakePipeline):
    pipeline.answers["plan_fingerprint"] = SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=())
    shown = nn("plan", "--fingerprint", "f.json", "--labels", "3", "--channels", "T1, T2", "--name", "brain")
    assert shown.exit_code == 0
    [(verb, arguments, options)] = pipeline.calls
    assert (verb, arguments) == ("plan_fingerprint", (Path("f.json"),))
    assert (options["labels"], options["channels"], options["name"]) == (3, ["T1", "T2"], "brain")


def report(faults: tuple[str, ...] = ()) -> SimpleNamespace:
    def raise_if_faulty() -> None:
        if faults:
            raise DatasetError("\n".join((f"{len(faults)} of 4 cases cannot be used:", *faults)))

    labels = SimpleNamespace(foreground=("tumour",))
    dataset = SimpleNamespace(name="brain", layout="nnU-Net v2", cases=(1, 2, 3, 4), channels=("CT",), labels=labels)
    return SimpleNamespace(
        dataset=dataset, warnings=("one case is tiny",), faults=faults, raise_if_faulty=raise_if_faulty
    )


def test_check_says_that_a_dataset_has_no_faults(pipeline: FakePipeline):
    pipeline.answers["check"] = report()
    shown = nn("check", "brain")
    assert shown.exit_code == 0
    assert shown.stdout == "brain: nnU-Net v2, 4 cases\nchannels: CT; labels: tumour\nno faults found\n"
    assert shown.stderr == "warning: one case is tiny\n"


def test_three_faults_are_one_message_with_status_2(pipeline: FakePipeline):
    faults = ("a: NaN", "b: truncated file [/b]", "c: spacing (1, 1, 1) mm but (1, 1, 2) mm")
    pipeline.answers["check"] = report(faults)
    shown = nn("check", "brain")
    assert shown.exit_code == 2
    assert shown.stderr.endswith("error: 3 of 4 cases cannot be used:\n" + "\n".join(faults) + "\n")
    assert "no faults" not in shown.stdout


def test_evaluate_shows_a_row_per_label_and_a_dash_for_an_absent_one(pipeline: FakePipeline):
    def average(mean: float | None) -> SimpleNamespace:
        return SimpleNamespace(mean=mean, median=mean)

    def label(mean: float | None) -> SimpleNamespace:
        names = ("dice", "iou", "sensitivity", "precision", "truth_ml", "prediction_ml")
        return SimpleNamespace(cases=4, **dict.fromkeys(names, average(mean)))

    foreground = {"dice": 0.5, "iou": 0.25, "sensitivity": 0.75, "precision": None}
    summary = SimpleNamespace(cases=4, foreground=foreground, labels={"liver": label(0.5), "lesion": label(None)})
    pipeline.answers["evaluate"] = SimpleNamespace(summary=lambda: summary, mean_dice=0.5)
    shown = nn("evaluate", "truth", "prediction", "-o", "scores")
    assert pipeline.calls[0][1:] == (
        (Path("truth"), Path("prediction")),
        {"output": Path("scores"), "progress": pipeline.calls[0][2]["progress"]},
    )
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["liver", "4", "0.500", "0.500", "0.500", "0.500", "0.500", "0.5", "0.5"] in rows
    assert ["lesion", "4", "-", "-", "-", "-", "-", "-", "-"] in rows
    assert ["mean", "of", "labels", "4", "0.500", "0.250", "0.750", "-"] in rows
    assert shown.stdout.endswith("mean Dice 0.500 over 4 cases -> scores\n")


def test_a_training_tells_a_log_file_from_time_to_time_how_it_does(pipeline: FakePipeline):
    def train(*arguments: Any, on_epoch: Callable[[Any], None], **options: Any) -> tuple[SimpleNamespace]:
        for epoch in range(3):  # faster than a line every ten seconds: only the first is written
            on_epoch(
                SimpleNamespace(
                    epoch=epoch, epochs=3, train_loss=0.5, mean_pseudo_dice=None, data_wait_share=0.04, eta_s=200.0
                )
            )
        return (trained(mean_dice=None),)

    pipeline.answers["train"] = train
    shown = nn("train", "brain", "3d", "all")
    assert shown.stderr == ("3d all: epoch 1/3  loss 0.500  pseudo Dice -  waiting for data 4%  ETA 3 min 20 s\n")
    assert "no held-out cases to score" in shown.stdout


def test_a_fold_that_was_finished_before_is_said_to_be_left_alone(pipeline: FakePipeline):
    pipeline.answers["train"] = (trained(skipped=True),)
    shown = nn("train", "brain", "3d", "fold0")
    assert "finished before and left as it was -> work/brain/runs/3d/fold0" in shown.stdout


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "d", "4d", "fold0"], 'error: there is no configuration "4d"; CONFIG is one of 2d, 3d, 3d-lowres, '),
        (["preprocess", "d", "2d", "x"], 'error: there is no configuration "x"; CONFIG is one of 2d, 3d, 3d-lowres, '),
        (["train", "d", "3d", "fold5"], 'error: there is no fold "fold5"; FOLD is one of fold0, fold1, fold2, fold3, '),
        (["predict", "d", "i", "-o", "o", "--folds", "fold0,1"], 'error: there is no fold "1"; FOLD is one of fold0, '),
        (["train", "d", "3d", "fold0", "--time-budget", "9"], 'error: "9" is not a duration; write for example 90s'),
        (
            ["train", "d", "3d", "all", "--time-budget", "9s", "--epochs", "9"],
            "error: --epochs and --time-budget both ",
        ),
        (["plan", "d", "--preset", "best"], 'error: there is no preset "best"; --preset is one of nnlite, nnunet'),
        (["plan", "d", "--residual", "S"], 'error: there is no residual encoder "S"; --residual is one of M, L, XL'),
        (["plan"], "error: plan a DATASET, or a finished fingerprint with --fingerprint FILE: one of the two"),
        (["plan", "d", "--fingerprint", "f"], "error: plan a DATASET, or a finished fingerprint with --fingerprint"),
        (["plan", "d", "--labels", "2"], "error: --labels, --channels and --name belong to --fingerprint; a DATASET "),
        (["plan", "--fingerprint", "f", "--labels", "2"], "error: --fingerprint needs --labels N (background include"),
        (["plan", "d", "--device", "tpu"], 'error: there is no device "tpu"; --device is one of auto, cpu, cuda'),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_the_valid_ones(
    pipeline: FakePipeline, arguments: list[str], message: str
):
    shown = nn(*arguments)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(message)
    assert shown.stderr.count("\n") == 1
    assert pipeline.calls == []


@pytest.mark.parametrize(
    "arguments", [["train", "d"], ["predict", "d", "i"], ["plan", "d", "--no-such"], ["tarin", "d"]]
)
def test_a_misspelt_command_has_status_2(pipeline: FakePipeline, arguments: list[str]):
    assert nn(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "w/a.npy"), "w/a.npy: No space left on device; repair this"),
        (PermissionError(errno.EACCES, "Permission denied", "w"), "w: Permission denied"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory (Unable to allocate 9 GiB)"),
        (MemoryError(), "not enough memory (the system gave none)"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nmore"), "(CUDA out of memory.); "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    ],
)
def test_a_machine_at_its_limit_is_one_message_with_status_2(pipeline: FakePipeline, problem: Exception, words: str):
    pipeline.answers["plan"] = problem
    shown = nn("plan", "d")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: ")
    assert words in shown.stderr
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("problem", [RuntimeError("a defect"), FileNotFoundError(errno.ENOENT, "gone", "x")])
def test_a_defect_of_nnlite_keeps_its_traceback(pipeline: FakePipeline, problem: Exception):
    pipeline.answers["plan"] = problem
    with pytest.raises(type(problem)):
        nn("plan", "d")


def test_an_interrupted_training_says_how_to_go_on(pipeline: FakePipeline):
    pipeline.answers["train"] = KeyboardInterrupt()
    shown = nn("train", "my data", "3d", "fold0")
    assert shown.exit_code == 130
    assert "To go on: nnlite train 'my data' 3d fold0 --resume" in shown.stderr
    again = nn("train", "d", "3d", "fold0", "--resume")
    assert again.stderr.count("--resume") == 1


def test_another_interrupted_command_is_simply_run_again(pipeline: FakePipeline):
    pipeline.answers["preprocess"] = KeyboardInterrupt()
    shown = nn("preprocess", "d")
    assert shown.exit_code == 130
    assert shown.stderr.rstrip().endswith("To go on: nnlite preprocess d")


# --- the demo ---


@pytest.fixture
def quick_demo(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """The demo with two cases, and a pipeline that answers at once."""
    monkeypatch.setattr(demo, "TRAINING_CASES", 1)
    monkeypatch.setattr(demo, "TEST_CASES", 1)

    def train(dataset: Path, configuration: str, folds: tuple[str, ...], *, work: Path, **options: Any) -> Any:
        folder = work / dataset.name / "runs" / configuration / folds[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        return (trained(),)

    summary = SimpleNamespace(
        cases=1, foreground=dict.fromkeys(("dice", "iou", "sensitivity", "precision"), 0.9), labels={}
    )
    pipeline.answers |= {
        "plan": SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=()),
        "train": train,
        "predict": predicted(),
        "evaluate": SimpleNamespace(summary=lambda: summary, mean_dice=0.9),
    }
    return pipeline


def test_the_demo_prints_and_runs_the_commands_a_user_would_type(quick_demo: FakePipeline, tmp_path: Path):
    out = tmp_path / "demo"
    shown = nn("demo", "--out", str(out))
    assert shown.exit_code == 0
    assert [call[0] for call in quick_demo.calls] == ["plan", "train", "predict", "evaluate"]
    assert all(call[2].get("work", out / "work") == out / "work" for call in quick_demo.calls)
    typed = [line for line in shown.stdout.splitlines() if line.startswith("$ ")]
    assert typed[0] == f"$ nnlite plan {out}/phantom --device cpu --work {out}/work"
    assert [line.split()[2] for line in typed] == ["plan", "train", "predict", "evaluate"]
    for made in (*(out / "phantom" / "images").iterdir(), out / "test" / "labels" / "test_01.nii.gz"):
        assert made.is_file()
    assert f"Everything lies below {out}" in shown.stdout
    assert f"{out}/predictions" in shown.stdout


def test_the_demo_goes_on_where_it_was_interrupted(quick_demo: FakePipeline, tmp_path: Path):
    out = str(tmp_path / "demo")
    finished = quick_demo.answers["predict"]
    quick_demo.answers["predict"] = KeyboardInterrupt()
    assert nn("demo", "--out", out).exit_code == 130
    quick_demo.answers["predict"] = finished
    assert nn("demo", "--out", out).exit_code == 0
    assert [call[2]["resume"] for call in quick_demo.calls if call[0] == "train"] == [False, True]


def test_a_step_of_the_demo_that_fails_ends_it(quick_demo: FakePipeline, tmp_path: Path):
    quick_demo.answers["plan"] = DatasetError("nothing to plan")
    shown = nn("demo", "--out", str(tmp_path / "demo"))
    assert shown.exit_code == 2
    assert shown.stderr == "error: nothing to plan\n"
    assert [call[0] for call in quick_demo.calls] == ["plan"]


def test_the_entry_point_is_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["nnlite", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("nnlite ")
