"""A report of made-up numbers, complete and as small as can be; names are as unkind as a file system allows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tiny

from nnlite.data.image import Geometry
from nnlite.evaluation.choose_crf import CrfTrial, crf_choices
from nnlite.evaluation.choose_rules import RuleTrial
from nnlite.evaluation.cross_validation import Candidate, compare
from nnlite.evaluation.reliability import HeldOutReliability, calibrate
from nnlite.evaluation.report.contents import (
    CaseFacts,
    Command,
    Course,
    DatasetFacts,
    Evidence,
    Reliability,
    ReportContents,
    ScoredCandidate,
    ShownCase,
)
from nnlite.evaluation.report.volumes import PackedVolume, pack
from nnlite.evaluation.scores import Scores, score_case
from nnlite.inference.postprocess import Rule
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.measurement import StepMeasurement
from nnlite.training.curves import EpochRecord

UNKIND = "</script><b>&\"'"  # a case id that would break a page that does not escape
GEOMETRY = Geometry(shape=(12, 18, 16), spacing_mm=(2.0, 1.0, 1.0))
CASES = (UNKIND, *(f"case_{number}" for number in range(1, 20)))


def masks(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and prediction (z, y, x): a ball with a core, and the same shifted by more the lower the number."""
    place = np.moveaxis(np.indices(GEOMETRY.shape), 0, -1) * GEOMETRY.spacing_mm

    def ball(shift: float) -> np.ndarray:
        distance = np.linalg.norm(place - (12 + shift, 9, 8), axis=-1)
        return ((distance < 7).astype(np.uint8) + (distance < 3)).astype(np.uint8)

    return ball(0), ball(2 - number / 10)


def volume(number: int) -> PackedVolume:
    """A case of three distinct grey levels, a little noisy."""
    truth, prediction = masks(number)
    image = 100.0 * truth + np.random.default_rng(number).normal(0, 20, GEOMETRY.shape)
    return pack(
        image[None],
        truth,
        prediction,
        spacing_mm=GEOMETRY.spacing_mm,
        planar=False,
        channels=("MR",),
        most_voxels=10**6,
    )


def scores(shift: int = 0) -> Scores:
    """Of all cases; the first is the worst."""
    labels = tiny.plan().labels
    rows = [
        row
        for number, case in enumerate(CASES)
        for row in score_case(case, *masks(max(number - shift, 0)), labels, GEOMETRY)
    ]
    return Scores(rows=tuple(rows))


def course(fold: str) -> Course:
    """Ten epochs."""
    epochs = tuple(
        EpochRecord(
            epoch=number,
            epochs=10,
            learning_rate=0.01 * (1 - number / 10),
            train_loss=1 / (number + 1),
            validation_loss=None if number == 3 else 1.1 / (number + 1),
            pseudo_dice=(number / 10, None if number < 2 else number / 12),
            mean_pseudo_dice=number / 11,
            moving_pseudo_dice=number / 12,
            duration_s=1.0,
            elapsed_s=number + 1.0,
            data_wait_share=0.0,
            eta_s=0.0,
        )
        for number in range(10)
    )
    return Course(
        configuration="3d",
        fold=fold,
        state="done",
        length="10 epochs of 2 steps",
        loss="dice+ce",
        epochs=epochs,
        mean_dice=0.7,
        device="cpu",
        versions={"torch": "2.13"},
    )


def evidence() -> Evidence:
    """The selection among two candidates, with one rule accepted, and one and a CRF rejected."""
    candidates = (
        Candidate(members=("3d",), scores=scores(), parameters=10),
        Candidate(members=("2d", "3d"), scores=scores(shift=3), parameters=20),
    )
    compared = compare(candidates)
    largest, holes = Rule(operation="keep_largest"), Rule(operation="fill_holes", label="core")
    means = {"mean_dice_before": 0.7, "mean_dice_after": 0.72, "cases_better": 3, "cases_worse": 0}
    return Evidence(
        name="3d",
        rules=(largest.in_words(),),
        cases=len(CASES),
        labels=compared.labels,
        mean_dice=compared.candidates[0].mean_dice,
        mean_dice_postprocessed=0.72,
        candidates=compared.candidates,
        crf_trials=(
            CrfTrial(parameters=crf_choices((1.0,))[0], accepted=False, reason="the Dice of core falls", **means),
        ),
        trials=(
            RuleTrial(rule=largest, accepted=True, reason="", **means),
            RuleTrial(rule=holes, accepted=False, reason="changes no mean", **means),
        ),
        left_out={"3d-lowres": "fold3 not finished"},
        remarks=("spleen: decides nothing",),
    )


def reliability() -> Reliability:
    """Of the core, in two folds; the ball has too few cases."""
    rows = [row for row in scores().rows if row.label == "core"]
    calibration, judged = calibrate(
        [
            HeldOutReliability(
                case=row.case,
                fold=f"fold{number % 2}",
                label=row.label,
                estimated_dice=row.dice * 0.9 + 0.01 * (number % 3),
                flip_agreement=None,
                configuration_agreement=None,
                expected_dice=None,
                dice=row.dice,
            )
            for number, row in enumerate([*rows, *rows])
        ]
    )
    assert calibration is not None
    return Reliability(rows=judged, calibrations={"core": calibration})


def small_report() -> ReportContents:
    """Everything there is."""
    plan = tiny.plan()
    reasons = {"patch_size": "16 x 16 x 16: because", "batch_size": f"3: {UNKIND}"}
    one = plan.configurations["3d"]
    measured = StepMeasurement(
        device="a laptop",
        precision="fp32",
        patch_size=one.patch_size,
        batch_size=one.batch_size,
        memory_gib=0.17781448364257812,
        step_s=0.4330127018922193,
        torch_version="2.13.0",
    )
    plan = replace(plan, configurations={"3d": replace(one, reasons=reasons, measured=measured)})
    shapes = tuple((12, 18 + number % 3, 16) for number in range(len(CASES)))
    fingerprint = Fingerprint(
        spacings_mm=(GEOMETRY.spacing_mm,) * len(CASES),
        shapes_after_crop=shapes,
        intensities=plan.intensities,
        median_relative_size_after_crop=1.0,
    )
    facts = tuple(
        CaseFacts(case_id=case, shape=shape, spacing_mm=GEOMETRY.spacing_mm, fold="fold0", group="")
        for case, shape in zip(CASES, shapes, strict=True)
    )
    one = scores()
    shown = tuple(
        ShownCase(
            case_id=CASES[number],
            rank="worst" if number == 0 else "best",
            fold="fold0",
            mean_dice=float(np.mean([row.dice for row in one.rows if row.case == CASES[number]])),
            dice={row.label: row.dice for row in one.rows if row.case == CASES[number]},
            volume=volume(number),
        )
        for number in (0, 19)
    )
    return ReportContents(
        made="2026-01-01",
        versions={"nnlite": "0.1.0"},
        dataset=DatasetFacts(
            name="brain <3",
            root="/data/brain",
            layout="nnU-Net raw",
            planar=False,
            fingerprint=fingerprint,
            cases=facts,
            folds="5 folds: shuffled.",
        ),
        plan=plan,
        courses=(course("fold0"), replace(course("fold1"), state="unfinished")),
        candidates=(
            ScoredCandidate(name="3d", scores=one, folds=("fold0",)),
            ScoredCandidate(name="2d + 3d", scores=scores(shift=3), folds=("fold0",)),
        ),
        shown_candidate="3d",
        shown=shown,
        evidence=evidence(),
        reliability=reliability(),
        commands=(Command(line="nnlite plan brain", what="plans"),),
        missing=("2d: not trained",),
    )


def bare_report() -> ReportContents:
    """What there is after ``nnlite plan`` alone."""
    whole = small_report()
    nothing = {
        "courses": (),
        "candidates": (),
        "shown_candidate": "",
        "shown": (),
        "evidence": None,
        "reliability": None,
    }
    return replace(whole, **nothing, missing=("3d: not trained", "no model is selected"))  # type: ignore[arg-type]
