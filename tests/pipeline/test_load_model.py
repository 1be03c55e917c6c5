"""Checkpoints become one model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from nnunet_files import write_result

from nnlite.errors import CheckpointError, UsageError
from nnlite.networks.build import build_network
from nnlite.pipeline.import_model import import_nnunet
from nnlite.pipeline.load_model import load
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_model, save_model
from nnlite.workspace import Workspace

CPU = torch.device("cpu")
VOLUMES = tiny.plan("3d").configurations


@pytest.fixture
def paths(trained_work: Path) -> list[Path]:
    workspace = Workspace(root=trained_work, dataset="balls")
    return [run.checkpoint_final for run in workspace.existing_runs()]


def test_each_fold_brings_its_own_network(paths: list[Path]):
    model = load(paths, device=CPU)
    assert len(model.networks) == 2
    for path, network in zip(paths, model.networks, strict=True):
        weights = load_model(path).weights
        assert weights.keys() == network.state_dict().keys()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
        assert not network.training


def test_mirroring_follows_the_training_unless_it_is_switched_off(paths: list[Path]):
    assert load(paths, device=CPU).mirror_axes == (0, 1, 2)
    assert load(paths, device=CPU, mirroring=False).mirror_axes == ()


@pytest.mark.parametrize(
    ("axes", "shared", "said"),
    [
        ((), (), "fold0 along z y x, fold1 along no axis): predicted with mirrors along no axis"),
        ((2, 0), (0, 2), "z x;"),
    ],
)
def test_folds_are_shown_only_mirrors_that_all_of_them_were_trained_with(
    paths: list[Path],
    tmp_path: Path,
    axes: tuple[int, ...],
    shared: tuple[int, ...],
    said: str,
    caplog: pytest.LogCaptureFixture,
):
    checkpoint, other = load_model(paths[1]), tmp_path / "other.safetensors"
    save_model(other, replace(checkpoint, card=replace(checkpoint.card, mirror_axes=axes)))
    assert load([paths[0], other], device=CPU).mirror_axes == shared
    assert said in caplog.text
    caplog.clear()
    assert load([paths[0], other], device=CPU, mirroring=False).mirror_axes == ()
    assert load([other], device=CPU).mirror_axes == axes
    assert load(paths, device=CPU).mirror_axes == (0, 1, 2)
    assert caplog.text == ""
    assert set(load([other, *paths], device=CPU).mirror_axes) == set(shared)  # in whatever order they are named


def test_axes_of_slices_are_named_as_in_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Slices of a plan that puts y first have the axes z and x."""
    for number, axes in enumerate([(0, 1), (1,)]):
        save_model(tmp_path / str(number), checkpoint_of_slices(f"fold{number}", axes))
    assert load([tmp_path / "0", tmp_path / "1"], device=CPU).mirror_axes == (1,)
    assert "folds of 2d were not mirrored alike in training (fold0 along z x, fold1 along x)" in caplog.text


def checkpoint_of_slices(fold: str, mirror_axes: tuple[int, ...]) -> Checkpoint:
    made = replace(tiny.plan("2d"), transpose=(1, 0, 2))
    weights = build_network(made, made.configuration("2d")).state_dict()
    card = ModelCard(plan=made, configuration="2d", fold=fold, epoch=1, mirror_axes=mirror_axes)
    return Checkpoint(card=card, weights=weights)


def test_folds_of_two_plans_are_not_averaged(paths: list[Path], tmp_path: Path):
    checkpoint = load_model(paths[1])
    older = replace(checkpoint.card.plan, dataset="other")
    save_model(tmp_path / "older.safetensors", replace(checkpoint, card=replace(checkpoint.card, plan=older)))
    with pytest.raises(CheckpointError, match=r"follows another plan than .*name folds of one plan with --folds"):
        load([paths[0], tmp_path / "older.safetensors"], device=CPU)


def test_folds_are_averaged_though_between_them_something_else_was_planned(tmp_path: Path):
    checkpoint = checkpoint_of_slices("fold0", ())
    plan = checkpoint.card.plan
    later = replace(plan, reasons={"planner": "in other words"}, configurations={**plan.configurations, **VOLUMES})
    for name, one in (("first", plan), ("second", later)):
        save_model(tmp_path / name, replace(checkpoint, card=replace(checkpoint.card, plan=one)))
    assert len(load([tmp_path / "first", tmp_path / "second"], device=CPU).networks) == 2


def test_weights_that_do_not_fit_the_plan_are_refused(paths: list[Path], tmp_path: Path):
    checkpoint = load_model(paths[0])
    weights = dict(list(checkpoint.weights.items())[:-1])
    save_model(tmp_path / "damaged.safetensors", replace(checkpoint, weights=weights))
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors does not fit the network"):
        load([tmp_path / "damaged.safetensors"], device=CPU)


def test_a_model_of_nnunet_sees_images_as_their_files_have_them(tmp_path: Path):
    folder = import_nnunet([write_result(tmp_path)], tmp_path / "model").folder
    path = folder / "runs" / "3d" / "fold0" / "checkpoint_final.safetensors"
    for exact in (False, True):
        arithmetic = load([path], device=CPU, exact=exact).arithmetic
        assert (arithmetic.orientation, arithmetic.folds_apart, arithmetic.windows_alone) == ("file", True, exact)


def test_exact_is_for_models_of_nnunet_alone(paths: list[Path]):
    with pytest.raises(UsageError, match=r"3d fold0 was trained by nnlite.*leave --exact out"):
        load(paths, device=CPU, exact=True)
