"""What predict is given as a model is opened: networks, rules, and what is known of how far to trust them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from hostile_files import write_real_ones

from nnlite import pipeline
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import CheckpointError, UsageError
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.predict import Model
from nnlite.networks.build import build_network
from nnlite.pipeline.model_file import PackedModel, PackedRun, read_model_file, write_model_file
from nnlite.pipeline.trained_model import TrainedModel, open_model
from nnlite.planning.planner import Plan
from nnlite.planning.topology import plan_topology
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_model, save_model
from nnlite.workspace import Workspace

CPU = torch.device("cpu")
CALIBRATION = LabelCalibration(
    intercept=0.1,
    weights={"estimated_dice": 0.9},
    cases=20,
    mean_dice=0.8,
    spearman=0.5,
    mean_absolute_error=0.04,
    error_of_the_mean=0.06,
    not_predicted=0,
    missed=0,
)


def opened(model: Path, work: Path, **options: object) -> TrainedModel:
    return open_model(model, work, device=CPU, **options)  # type: ignore[arg-type]


def same_networks(first: TrainedModel, second: TrainedModel) -> bool:
    pairs = zip(first.models, second.models, strict=True)
    states = [
        (one.state_dict(), other.state_dict())
        for a, b in pairs
        for one, other in zip(a.networks, b.networks, strict=True)
    ]
    return all(torch.equal(one[name], other[name]) for one, other in states for name in one)


def test_a_dataset_its_folder_a_run_and_a_file_are_the_same_model(balls: Path, trained_work: Path, tmp_path: Path):
    pipeline.export(balls, tmp_path / "m.nnlite", work=trained_work)
    dataset = opened(balls, trained_work)
    file = opened(tmp_path / "m.nnlite", tmp_path / "no workspace")
    assert (dataset.configurations, dataset.folds) == (("3d",), ("fold0", "fold1"))
    assert (file.configurations, file.folds) == (dataset.configurations, dataset.folds)
    assert same_networks(file, dataset)
    assert same_networks(opened(trained_work / "balls", tmp_path), dataset)
    assert [model.mirror_axes for model in file.models] == [model.mirror_axes for model in dataset.models]
    [run] = opened(trained_work / "balls/runs/3d/fold1", tmp_path).models
    assert len(run.networks) == 1
    assert dataset.appearance is not None
    assert file.appearance is not None
    assert file.appearance.template == dataset.appearance.template
    assert (file.selection, file.calibrations) == (None, {})


def test_a_file_and_its_dataset_mirror_windows_alike_where_their_folds_were_not(
    balls: Path, trained_work: Path, tmp_path: Path
):
    work = Path(shutil.copytree(trained_work, tmp_path / "work"))
    path = Workspace(root=work, dataset="balls").run("3d", "fold0").checkpoint_final
    checkpoint = load_model(path)
    save_model(path, replace(checkpoint, card=replace(checkpoint.card, mirror_axes=(1,))))
    pipeline.export(balls, tmp_path / "m.nnlite", work=work)
    for model in (balls, tmp_path / "m.nnlite"):
        assert [one.mirror_axes for one in opened(model, work).models] == [(1,)]


def test_a_run_that_was_moved_on_its_own_knows_no_training_images(trained_work: Path, tmp_path: Path):
    run = Workspace(root=trained_work, dataset="balls").run("3d", "fold0").folder
    moved = opened(Path(shutil.copytree(run, tmp_path / "moved")), tmp_path)
    assert (moved.configurations, moved.appearance) == (("3d",), None)


def test_exact_is_refused_for_a_file_of_nnlite_s_own_model(tmp_path: Path):
    write_real_ones(tmp_path)
    with pytest.raises(UsageError, match="leave --exact out"):
        opened(tmp_path / "archive", tmp_path, exact=True)


def test_a_cascade_without_its_first_stage_is_refused(tmp_path: Path):
    """As it may be in a file that someone else has put together."""
    from nnunet_files import write_result

    folders = [write_result(tmp_path, "3d_cascade_fullres", channels=3), write_result(tmp_path, "3d_lowres")]
    folder = pipeline.import_nnunet(folders, tmp_path / "model").folder
    whole = read_model_file(pipeline.export(folder, tmp_path / "m", configuration="3d-cascade").path)
    runs = tuple(run for run in whole.model.runs if run.configuration == "3d-cascade")
    weights = [folder / "runs/3d-cascade/fold0/checkpoint_final.safetensors"]
    write_model_file(
        tmp_path / "half.nnlite",
        replace(whole.model, runs=runs),
        whole.plan,
        appearance=None,
        licence="",
        weights=weights,
        versions={},
    )
    with pytest.raises(CheckpointError, match=r"half\.nnlite has no networks of 3d-lowres, which 3d-cascade continues"):
        opened(tmp_path / "half.nnlite", tmp_path)


def bordered_cascade(folder: Path, members: tuple[str, ...]) -> Path:
    """A file of networks never trained; the second stage learned a border of instances, the first did not."""
    plain = replace(tiny.plan("3d-cascade"), labels=Labels(names=("background", "nucleus"), values=(0, 1)))
    border = replace(plain, labels=replace(plain.labels, instances=Instances(border_px=2)))
    weights = []
    for plan, name in ((border, "3d-cascade"), (plain, "3d-lowres")):
        card = ModelCard(plan=plan, configuration=name, fold="fold0", epoch=1, mirror_axes=())
        weights.append(folder / f"{name}.safetensors")
        state = build_network(plan, plan.configuration(name)).state_dict()
        save_model(weights[-1], Checkpoint(card=card, weights=state))
    model = PackedModel(
        members=members,
        folds=("fold0",),
        runs=tuple(PackedRun(configuration=path.stem, fold="fold0", versions={}) for path in weights),
        postprocessing=Postprocessing(),
        selected=None,
        mean_dice_postprocessed=None,
        reliability={},
        scores={},
    )
    path = folder / "m.nnlite"
    write_model_file(path, model, border, appearance=None, licence="", weights=weights, versions={})
    return path


def test_a_first_stage_need_not_know_the_border_that_the_second_learned(tmp_path: Path):
    path = bordered_cascade(tmp_path, ("3d-cascade",))
    [cascade] = opened(path, tmp_path).models
    assert cascade.previous is not None
    assert (cascade.plan.labels.border_index, cascade.previous.plan.labels.border_index) == (2, None)
    [alone] = opened(path, tmp_path, configuration="3d-lowres").models
    assert alone.plan.labels.instances is None


def test_those_that_answer_together_have_to(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"3d-lowres/fold0\.safetensors of .* has other labels or channels than"):
        opened(bordered_cascade(tmp_path, ("3d-cascade", "3d-lowres")), tmp_path)


def nested(plan: Plan, name: str, previous: Model | None = None) -> Model:
    """A U-Net++ that was never trained."""
    configuration = plan.configuration(name)
    network = build_network(plan, configuration)
    return Model(plan=plan, configuration=configuration, networks=(network,), device=CPU, previous=previous)


def test_a_shallower_cascade_is_shallower_in_both_of_its_stages():
    plan = tiny.plan("3d-cascade", architecture="unet++")
    topology, patch_size = plan_topology((1.0,) * 3, (8,) * 3, architecture="unet++", base_features=4)
    low = replace(plan.configuration("3d-lowres"), topology=topology, patch_size=patch_size)
    plan = replace(plan, configurations={**plan.configurations, "3d-lowres": low})
    first = nested(plan, "3d-lowres")
    second = nested(plan, "3d-cascade", previous=first)
    assert [model.networks[0].deepest for model in (second, first)] == [2, 1]
    trained = TrainedModel(models=(second,), folds=("fold0",), postprocessing=Postprocessing())
    with pytest.raises(UsageError, match="--depth 2 is none of the depths of 3d-lowres; give one from 1 to 1"):
        trained.with_depth(2)
    assert [model.networks[0].depth for model in (second, first)] == [2, 1]  # nothing was pruned yet
    trained.with_depth(1)
    assert [model.networks[0].depth for model in (second, first)] == [1, 1]


def test_the_dice_to_expect_is_that_of_full_depth_alone():
    model = nested(tiny.plan(architecture="unet++"), "3d")
    assert model.networks[0].deepest == 2
    calibrations = {"ball": CALIBRATION}
    trained = TrainedModel(
        models=(model,), folds=("fold0",), postprocessing=Postprocessing(), calibrations=calibrations
    )
    whole = trained.with_depth(2)
    assert (whole.calibrations, whole.departures) == (calibrations, ())
    pruned = trained.with_depth(1)
    assert (pruned.calibrations, pruned.departures) == ({}, ("--depth 1",))
