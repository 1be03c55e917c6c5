"""A pipeline that answers at once, for tests of the command line: what it was called with, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from typer.testing import CliRunner

from nnlite.cli import app

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
