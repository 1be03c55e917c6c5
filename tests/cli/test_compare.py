from __future__ import annotations

from pathlib import Path

import pytest
from fake_pipeline import FakePipeline, nn

from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.pipeline.compare_runs import ComparedRun, RunComparison


def compared(name: str, *, difference: float, **costs: float | None) -> ComparedRun:
    scores = CandidateScore(
        members=(name,),
        mean_dice=0.9 + difference,
        mean_dice_interval=(0.85, 0.95),
        labels={"liver": 0.9 + difference},
        difference=difference,
        difference_interval=(difference - 0.01, difference + 0.01),
        wilcoxon_p=0.03 if difference else None,
        parameters=1_400_000,
    )
    times = {"step_s": 0.25, "training_s": 600.0} | costs
    return ComparedRun(
        name=name,
        folds=("fold0",),
        scores=scores,
        parameters=1_400_000,
        memory_gib=0.4,
        memory_measured=bool(difference),
        **times,  # type: ignore[arg-type]
    )


def test_the_first_is_what_others_are_set_against(pipeline: FakePipeline, tmp_path: Path) -> None:
    runs = (
        compared("3d", difference=0),
        compared("3d@focal", difference=-0.0123),
        compared("3d@imported", difference=0.01, step_s=None, training_s=None),
    )
    pipeline.answers["compare"] = RunComparison(
        dataset="brain", cases=("a", "b"), labels=("liver",), runs=runs, remarks=("3d: 3 cases left out",)
    )
    shown = nn("compare", "brain", "3d", "3d@focal", "3d@imported", "-o", str(tmp_path / "numbers.json"))
    assert shown.exit_code == 0
    lines = shown.stdout.splitlines()
    assert " ".join(lines[0].split()) == "training liver mean 95 % interval difference 95 % interval p"
    assert " ".join(lines[2].split()) == "3d@focal 0.8877 0.8877 0.8500 .. 0.9500 -0.0123 -0.0223 .. -0.0023 0.03"
    words = [" ".join(line.split()) for line in lines]
    assert "3d fold0 1.40 M 0.250 0.40 predicted 10 min 00 s" in words
    assert "3d@imported fold0 1.40 M - 0.40 -" in words
    assert lines[-1].startswith("2 held-out cases -> ")
    assert "3d: 3 cases left out" in shown.stderr


@pytest.mark.parametrize("words", [(), ("brain",)])
def test_without_runs_the_usage_is_told(pipeline: FakePipeline, words: tuple[str, ...]) -> None:
    assert nn("compare", *words).exit_code == 2
