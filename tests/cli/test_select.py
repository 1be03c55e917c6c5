from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn

from nnlite.evaluation.choose_crf import CrfTrial
from nnlite.evaluation.choose_rules import RuleTrial
from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.crf import CrfParameters
from nnlite.inference.postprocess import Postprocessing, Rule
from nnlite.pipeline.selection import Selection


def candidate(*members: str, difference: float) -> CandidateScore:
    chosen = difference == 0
    return CandidateScore(
        members=members,
        mean_dice=0.9 + difference,
        mean_dice_interval=(0.85, 0.95),
        labels={"liver": 0.9 + difference},
        difference=difference,
        difference_interval=(difference - 0.01, difference + 0.01),
        wilcoxon_p=None if chosen else 0.03,
        parameters=1,
    )


def selection() -> Selection:
    largest, holes = Rule(operation="keep_largest"), Rule(operation="fill_holes", label="liver")
    means = {"mean_dice_before": 0.9, "mean_dice_after": 0.92, "cases_better": 3, "cases_worse": 0}
    return Selection(
        dataset="brain",
        members=("3d",),
        postprocessing=Postprocessing(rules=(largest,)),
        cases=4,
        labels=("liver",),
        mean_dice=0.9,
        mean_dice_postprocessed=0.92,
        candidates=(candidate("3d", difference=0), candidate("2d", "3d", difference=-0.02)),
        trials=(
            RuleTrial(rule=largest, accepted=True, reason="", **means),
            RuleTrial(rule=holes, accepted=False, reason="changes no mean", **means),
        ),
        left_out={"3d-lowres": "fold3 not finished"},
        remarks=("spleen: in the truth of no held-out case; it decides nothing",),
        runs=(),
        reliability={"liver": calibration()},
    )


def calibration() -> LabelCalibration:
    return LabelCalibration(
        intercept=0,
        weights={"estimated_dice": 1.0},
        cases=12,
        mean_dice=0.9,
        spearman=0.456,
        mean_absolute_error=0.0312,
        error_of_the_mean=0.0404,
        not_predicted=0,
        missed=0,
    )


def test_select_shows_the_candidates_the_rules_and_the_decision(pipeline: FakePipeline):
    pipeline.answers["select"] = SimpleNamespace(selection=selection(), path=Path("work/brain/selection.json"))
    shown = nn("select", "brain", "--most", "3", "--device", "cpu", "--work", "work")
    assert pipeline.calls[0][:2] == ("select", (Path("brain"),))
    assert {"most": 3, "device": "cpu", "work": Path("work")}.items() <= pipeline.calls[0][2].items()
    rows = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "3d 0.9000 0.8500 .. 0.9500 chosen" in rows
    assert "2d + 3d 0.8800 0.8500 .. 0.9500 -0.0200 -0.0300 .. -0.0100 0.03" in rows
    assert "all foreground: only the largest component 0.9000 0.9200 accepted" in rows
    assert "liver: holes filled 0.9000 0.9200 changes no mean" in rows
    assert "liver 12 0.46 0.031 0.040" in rows
    last = "3d: mean Dice 0.9000, 0.9200 postprocessed, 4 held-out cases -> work/brain/selection.json\n"
    assert shown.stdout.endswith(last)
    assert "3d-lowres: left out, fold3 not finished\nspleen: in the truth of no" in shown.stderr


def test_a_crf_is_tried_where_it_is_asked_for_and_shown_before_the_rules(pipeline: FakePipeline):
    parameters = CrfParameters(
        smoothness_weight=2, smoothness_mm=1.5, appearance_weight=3, appearance_mm=6, appearance_intensity=0.25
    )
    means = {"mean_dice_before": 0.9, "mean_dice_after": 0.91, "cases_better": 3, "cases_worse": 0}
    trial = CrfTrial(parameters=parameters, accepted=True, reason="", **means)
    found = replace(selection(), crf_trials=(trial,))
    pipeline.answers["select"] = SimpleNamespace(selection=found, path=Path("work/brain/selection.json"))
    result = nn("select", "brain", "--crf")
    assert pipeline.calls[-1][2]["crf"] is True
    shown = " ".join(result.stdout.split())
    assert shown.index("dense CRF") < shown.index("all foreground")
    assert "0.9100" in shown
