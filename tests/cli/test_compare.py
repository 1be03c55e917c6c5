from __future__ import annotations

from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from fake_pipeline import FakePipeline, nn

from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.evaluation.instance_scores import InstanceScore, InstanceScores
from nnlite.evaluation.instances import THRESHOLDS
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


def test_single_objects_have_a_table_where_all_trainings_tell_them_apart(pipeline: FakePipeline) -> None:
    # three true objects, two predicted ones, one of them right: AP 1 / (1 + 1 + 2)
    one = InstanceScore(
        case="a", true_instances=3, predicted_instances=2, aggregated_jaccard=0.375, found=(1,) * len(THRESHOLDS)
    )
    none = InstanceScore(
        case="a", true_instances=0, predicted_instances=0, aggregated_jaccard=nan, found=(0,) * len(THRESHOLDS)
    )
    scored, undefined = (InstanceScores(rows=(row,)).summary() for row in (one, none))
    runs = [
        replace(compared(name, difference=change), instances=found)
        for name, change, found in (("2d", 0, scored), ("2d@rim", -0.01, undefined), ("2d@plain", -0.02, None))
    ]
    lines = {}
    for number in (2, 3):
        answer = RunComparison(dataset="cells", cases=("a",), labels=("liver",), runs=tuple(runs[:number]), remarks=())
        pipeline.answers["compare"] = answer
        shown = nn("compare", "cells", *(run.name for run in answer.runs)).stdout.splitlines()
        lines[number] = [" ".join(line.split()) for line in shown]
    assert lines[2][3:6] == ["training AP 0.5 AJI", "2d 0.250 0.375", "2d@rim - -"]
    assert not any("AJI" in line for line in lines[3])


@pytest.mark.parametrize("words", [(), ("brain",)])
def test_without_runs_the_usage_is_told(pipeline: FakePipeline, words: tuple[str, ...]) -> None:
    assert nn("compare", *words).exit_code == 2
