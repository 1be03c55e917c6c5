"""A pipeline that answers at once, for tests of the command line: what it was called with, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import tiny
from typer.testing import CliRunner

from nnlite.cli import app
from nnlite.inference.postprocess import Postprocessing
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Plan

VERBS = (
    "convert",
    "check",
    "fix",
    "plan",
    "preprocess",
    "show_augmentation",
    "train",
    "status",
    "compare",
    "select",
    "report",
    "export",
    "predict",
    "evaluate",
)


class FakePipeline(ModuleType):
    """Answers each verb with what ``answers`` holds (an exception is raised) and remembers how it was called."""

    def __init__(self) -> None:
        super().__init__("nnlite.pipeline")
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        for verb in (*VERBS, "fix", "plan_fingerprint", "train_on_cluster", "evaluate_instances"):
            setattr(self, verb, self._verb(verb))

    def fold_names(self, dataset: Path, folds: list[str], *, work: Path) -> tuple[str, ...]:
        """The folds of a dataset that has two."""
        return tuple(name for fold in folds for name in (("fold0", "fold1") if fold == "folds" else (fold,)))

    def cluster_for(self, address: str, device: str, tasks: int) -> str | None:
        """The cluster that was named; a machine of this kind has no several GPUs."""
        return None if address in ("auto", "none") else address

    def _verb(self, verb: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((verb, arguments, options))
            answer = self.answers[verb]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*arguments, **options) if callable(answer) else answer

        return call


def nn(*arguments: str, **options: Any) -> Any:
    """Run a command; an unexpected exception is a failure of the test, not an exit status."""
    result = CliRunner().invoke(app, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def trained(
    fold: str = "fold0", mean_dice: float | None = 0.871, skipped: bool = False, resumed: int = 0
) -> SimpleNamespace:
    folder = Path("work/brain/runs/3d") / fold
    scores = None if mean_dice is None else folder / "scores.csv"
    result = {"configuration": "3d", "fold": fold, "folder": folder, "mean_dice": mean_dice, "scores": scores}
    return SimpleNamespace(**result, training_s=200.0, skipped=skipped, resumed_epochs=resumed, instances=None)


def predicted() -> SimpleNamespace:
    masks = (Path("o/a.nii.gz"), Path("o/b.nii.gz"))
    answer = {"configuration": "3d", "folds": ("fold0", "fold1"), "selection": None}
    answer |= {"postprocessing": Postprocessing(), "records": ()}
    return SimpleNamespace(masks=masks, seconds_per_case=(7.0, 9.0), **answer)


def a_plan() -> Plan:
    """A CPU's plan of one configuration, a step of which was measured."""
    made = tiny.plan()
    configuration = made.configurations["3d"]
    measured = StepMeasurement(
        device="two cores",
        precision="bf16",
        patch_size=configuration.patch_size,
        batch_size=configuration.batch_size,
        memory_gib=0.25,
        step_s=1.8,
        torch_version="2.13",
    )
    reasons = {"patch_size": "16 x 16 x 16: from 20 x 20 x 20", "batch_size": "3: at least 2"}
    configuration = replace(configuration, epochs=100, iterations=10, measured=measured, reasons=reasons)
    return replace(
        made,
        configurations={"3d": configuration},
        reasons={"3d-lowres": "at full resolution the patch already has 142%"},
    )
