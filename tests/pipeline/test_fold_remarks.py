"""Folds that are trained alike need no remark, and others are told of with what they differ in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tiny import plan

from nnlite.pipeline.fold_remarks import fold_remarks
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.variants import as_variant
from nnlite.training.config import TrainConfig
from nnlite.training.initial_weights import InitialWeights

BEGUN = TrainConfig(epochs=100, iterations=50)
COUNTS = {"tensors": 1, "all_tensors": 2, "parameters": 1, "all_parameters": 2}


def job(fold: str, train: TrainConfig = BEGUN, **others: Any) -> RunConfig:
    return RunConfig(
        plan=as_variant(plan(), "x"), configuration="3d@x", fold=fold, train=train, device="cpu", versions={}, **others
    )


def begun_with(model: str, fold: str, remark: str = "") -> InitialWeights:
    source = {"source": f"{model}/{fold}", "dataset": "liver", "configuration": "3d", "fold": fold, "digest": fold}
    return InitialWeights(**source, **COUNTS, fresh=(), remark=remark, model=model)


def test_folds_that_are_trained_alike_need_none() -> None:
    alike = {fold: job(fold, initial=begun_with("work/liver", fold)) for fold in ("fold0", "fold1")}
    assert fold_remarks(alike) == ()
    assert fold_remarks({"fold0": job("fold0")}) == ()


def test_a_loss_in_another_order_is_the_same() -> None:
    first, second = (replace(BEGUN, loss=loss) for loss in ("focal+dice", "dice + focal"))
    assert fold_remarks({"fold0": job("fold0", first), "fold1": job("fold1", second)}) == ()


def test_every_setting_that_differs_is_named_with_its_values() -> None:
    other = job("fold1", replace(BEGUN, loss="dice", epochs=7), initial=begun_with("work/liver", "fold1"))
    [remark] = fold_remarks({"fold0": job("fold0"), "fold1": other, "fold2": job("fold2")})
    assert remark == (
        "3d@x: its folds were not trained alike: epochs (fold0: 100, fold1: 7, fold2: 100), "
        "loss (fold0: dice+ce, fold1: dice, fold2: dice+ce), initial (fold0: None, fold1: liver, fold2: None)"
    )


def test_another_plan_is_told() -> None:
    first = job("fold0")
    wider = replace(first.plan.configurations["3d@x"], batch_size=9)
    other = replace(first, plan=replace(first.plan, configurations={"3d@x": wider}))
    assert fold_remarks({"fold0": first, "fold1": other}) == ("3d@x: its folds were not trained alike: the plan",)
    reworded = replace(first, plan=replace(first.plan, reasons={"planner": "in other words"}))
    assert fold_remarks({"fold0": first, "fold1": reworded}) == ()


def test_what_was_noted_of_the_weights_it_began_with_is_passed_on() -> None:
    saw = "fold0 may have been trained on cases that fold1 holds out: its scores then promise too much"
    jobs = {fold: job(fold, initial=begun_with("m", "fold0", saw * (fold == "fold1"))) for fold in ("fold0", "fold1")}
    assert fold_remarks(jobs) == (f"3d@x fold1: {saw}",)
