"""A training begins with another model's weights once, says so, and holds to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from nnlite import pipeline
from nnlite.data.labels import Labels
from nnlite.data.records import read_record, write_record
from nnlite.errors import CheckpointError, NnliteError, StoppedError, UsageError
from nnlite.networks.build import build_network
from nnlite.pipeline.init_from import initialised, weights_to_begin_with
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.planner import Plan
from nnlite.planning.variants import as_variant, parted
from nnlite.training.checkpoint import Checkpoint, ModelCard, load_model, save_model
from nnlite.training.config import TrainConfig
from nnlite.training.initial_weights import InitialWeights
from nnlite.workspace import Workspace

SHORT = {"device": "cpu", "epochs": 1, "iterations": 3}


@pytest.fixture(scope="module")
def model(balls: Path, trained_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline.export(balls, tmp_path_factory.mktemp("model") / "m.nnlite", work=trained_work).path


@pytest.fixture
def planned(trained_work: Path, tmp_path: Path) -> Workspace:
    """A workspace of its own with the same plan and cases, in which nothing is trained."""
    leave = shutil.ignore_patterns("runs")
    return Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work", ignore=leave)), dataset="balls")


def train(
    balls: Path, workspace: Workspace, fold: str = "fold0", name: str = "3d", **options: object
) -> list[InitialWeights]:
    told: list[InitialWeights] = []
    options = {**SHORT, "work": workspace.root, "on_init": told.append, **options}
    pipeline.train(balls, name, (fold,), **options)  # type: ignore[arg-type]
    return told


def stopped_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(10_000))
    return lambda: next(asked) >= steps


def initial_of(workspace: Workspace, fold: str = "fold0") -> InitialWeights | None:
    return read_record(workspace.run("3d", fold).config, RunConfig).initial


def two_of_a_kind() -> Plan:
    """A plan with networks of one shape at full and at low resolution."""
    made = tiny.plan()
    one = made.configurations["3d"]
    return replace(made, configurations={name: replace(one, name=name) for name in ("3d", "3d-lowres")})


def job_of(name: str, fold: str = "fold0") -> RunConfig:
    """A training of ``two_of_a_kind`` that is to begin."""
    plan = as_variant(two_of_a_kind(), parted(name)[1])
    return RunConfig(plan=plan, configuration=name, fold=fold, train=TrainConfig(), device="cpu", versions={})


def with_both(folder: Path) -> Path:
    """A dataset in a workspace, with a network of either configuration for fold0."""
    workspace, plan = Workspace(root=folder, dataset="phantom"), two_of_a_kind()
    for name, configuration in plan.configurations.items():
        run = workspace.run(name, "fold0")
        write_record(run.config, job_of(name))
        card = ModelCard(plan=plan, configuration=name, fold="fold0", epoch=1, mirror_axes=())
        weights = build_network(plan, configuration).state_dict()
        save_model(run.checkpoint_final, Checkpoint(card=card, weights=weights))
    write_record(workspace.plan, plan)
    return workspace.folder


def test_a_variant_begins_with_its_plain_configuration_rather_than_with_another_variant(tmp_path: Path):
    folder = with_both(tmp_path)
    workspace = Workspace(root=tmp_path, dataset="phantom")
    (workspace.runs / "3d-lowres").rename(workspace.runs / "3d@another")
    plain = workspace.run("3d", "fold0").checkpoint_final
    card = load_model(plain).card
    plan = replace(card.plan, labels=Labels(names=("background", "ball"), values=(0, 1)))  # of the other more would fit
    weights = build_network(plan, plan.configuration("3d")).state_dict()
    save_model(plain, Checkpoint(card=replace(card, plan=plan), weights=weights))
    begun = initialised(job_of("3d@new"), folder, tmp_path, like=None, told=lambda initial: None)
    assert begun.initial is not None
    assert Path(begun.initial.source).parent.parent.name == "3d"


@pytest.mark.parametrize("name", ["3d-lowres", "3d-lowres@pre"])
def test_a_variant_too_begins_with_the_network_of_its_configuration(name: str, tmp_path: Path):
    begun = initialised(job_of(name), with_both(tmp_path), tmp_path, like=None, told=lambda initial: None)
    assert begun.initial is not None
    assert begun.initial.configuration == "3d-lowres"


@pytest.mark.parametrize(
    ("fold", "remark"),
    [
        ("fold0", ""),
        ("fold1", "fold0 may have been trained on cases that fold1 holds out: its scores then promise too much"),
        ("all", ""),  # holds nothing out, so it has no scores
    ],
)
def test_only_a_fold_that_holds_cases_out_is_said_to(fold: str, remark: str, tmp_path: Path):
    begun = initialised(job_of("3d", fold), with_both(tmp_path), tmp_path, like=None, told=lambda initial: None)
    assert begun.initial is not None
    assert begun.initial.remark == remark


def test_it_is_told_and_noted_which_weights_were_taken(balls: Path, planned: Workspace, model: Path):
    [told] = train(balls, planned, init_from=model)
    assert (told.dataset, told.configuration, told.fold, told.remark) == ("balls", "3d", "fold0", "")
    assert (told.tensors, told.fresh) == (told.all_tensors, ())
    assert (told.source, told.model) == (str(model.resolve()), str(model))
    assert initial_of(planned) == told
    assert train(balls, planned, init_from=model) == []  # finished, and left as it is


def test_a_training_that_was_stopped_does_not_begin_with_them_again(
    balls: Path, planned: Workspace, model: Path, tmp_path: Path
):
    whole = Workspace(root=Path(shutil.copytree(planned.root, tmp_path / "whole")), dataset="balls")
    train(balls, whole, init_from=model)
    with pytest.raises(StoppedError):
        train(balls, planned, init_from=model, stop=stopped_after(1))
    assert train(balls, planned) == []
    ends = [load_model(one.run("3d", "fold0").checkpoint_final).weights for one in (whole, planned)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    fresh = Workspace(root=Path(shutil.copytree(planned.root, tmp_path / "fresh")), dataset="balls")
    shutil.rmtree(fresh.runs)
    train(balls, fresh)
    drawn = load_model(fresh.run("3d", "fold0").checkpoint_final).weights
    assert not torch.equal(ends[0]["encoder.0.0.0.weight"], drawn["encoder.0.0.0.weight"])


def test_a_training_killed_before_its_first_state_begins_with_what_was_noted(
    balls: Path, planned: Workspace, trained_work: Path
):
    source = trained_work / "balls" / "runs" / "3d" / "fold0"
    with pytest.raises(StoppedError):
        train(balls, planned, init_from=source, stop=stopped_after(1))
    job = read_record(planned.run("3d", "fold0").config, RunConfig)
    noted = load_model(source / "checkpoint_final.safetensors").weights
    begins = weights_to_begin_with(job)
    assert all(torch.equal(begins[name], noted[name]) for name in noted)
    assert job.initial is not None
    with pytest.raises(CheckpointError, match=r"holds other ones by now; put the file back"):
        weights_to_begin_with(replace(job, initial=replace(job.initial, digest="0")))
    assert weights_to_begin_with(replace(job, initial=None)) == {}


def test_other_weights_on_the_way_are_refused(balls: Path, planned: Workspace, model: Path, trained_work: Path):
    other = trained_work / "balls" / "runs" / "3d" / "fold1"
    with pytest.raises(StoppedError):
        train(balls, planned, init_from=model, stop=stopped_after(1))
    with pytest.raises(
        UsageError, match=r"3d fold0 was begun with weights of balls 3d fold0.*not with weights of .*1:"
    ):
        train(balls, planned, init_from=other)
    assert train(balls, planned, init_from=model) == []  # the same again is no contradiction
    with pytest.raises(StoppedError):
        train(balls, planned, "fold1", stop=stopped_after(1))
    with pytest.raises(UsageError, match="was begun with freshly drawn weights, not with weights of balls 3d fold1"):
        train(balls, planned, "fold1", init_from=model)


def test_a_model_of_which_more_folds_are_trained_by_now_is_still_the_same(
    balls: Path, planned: Workspace, trained_work: Path, tmp_path: Path
):
    fold1 = trained_work / "balls" / "runs" / "3d" / "fold1"
    source = Path(shutil.copytree(trained_work / "balls", tmp_path / "source" / "balls"))
    shutil.rmtree(source / "runs" / "3d" / "fold1")
    [told] = train(balls, planned, "fold1", init_from=source)
    assert told.fold == "fold0"
    shutil.copytree(fold1, source / "runs" / "3d" / "fold1")
    assert train(balls, planned, "fold1", init_from=source) == []  # finished, and left as it is
    with pytest.raises(UsageError, match=r"with weights of balls 3d fold0.*, not with weights of balls 3d fold1"):
        train(balls, planned, "fold1", init_from=fold1)


def test_a_finished_fold_is_no_answer_to_other_weights(balls: Path, trained_work: Path, model: Path, tmp_path: Path):
    workspace = Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")
    with pytest.raises(UsageError, match="3d fold0 was begun with freshly drawn weights, not with weights of balls 3d"):
        train(balls, workspace, init_from=model)


def test_a_fold_that_saw_what_is_held_out_is_told_of(balls: Path, planned: Workspace, trained_work: Path):
    [told] = train(balls, planned, "fold2", init_from=trained_work / "balls" / "runs" / "3d" / "fold1")
    assert told.remark == "fold1 may have been trained on cases that fold2 holds out: its scores then promise too much"


def test_further_folds_of_a_variant_begin_with_the_same_model_and_their_own_fold_of_it(
    balls: Path, planned: Workspace, model: Path
):
    train(balls, planned, "fold0", "3d@pre", init_from=model)
    [told] = train(balls, planned, "fold1", "3d@pre")
    assert (told.model, told.configuration, told.fold, told.remark) == (str(model), "3d", "fold1", "")
    assert train(balls, planned, "fold0") == []  # what is no variant begins with it only where it is asked to


def test_a_variant_takes_the_dataset_it_is_of_for_a_model_and_never_itself(
    balls: Path, trained_work: Path, tmp_path: Path
):
    workspace = Workspace(root=Path(shutil.copytree(trained_work, tmp_path / "work")), dataset="balls")
    [first] = train(balls, workspace, "fold0", "3d@pre", init_from=Path("balls"))  # a name in the workspace
    assert (first.model, first.configuration, first.fold) == ("balls", "3d", "fold0")
    assert train(balls, workspace, "fold0", "3d@pre", init_from=Path("balls")) == []  # the same again
    [second] = train(balls, workspace, "fold1", "3d@pre")
    assert (second.configuration, second.fold, second.remark) == ("3d", "fold1", "")


def test_the_model_of_a_variant_that_is_gone_is_named(balls: Path, planned: Workspace, model: Path, tmp_path: Path):
    copy = Path(shutil.copy(model, tmp_path / "copy.nnlite"))
    train(balls, planned, "fold0", "3d@pre", init_from=copy)
    copy.unlink()
    with pytest.raises(UsageError, match=r"there is no model .*copy\.nnlite"):
        train(balls, planned, "fold1", "3d@pre")
    assert not planned.run("3d@pre", "fold1").config.exists()


def test_another_dataset_lends_what_fits(balls: Path, planned: Workspace, trained_work: Path, tmp_path: Path):
    plan = read_record(planned.plan, Plan)
    labels = Labels(names=("background", "ball"), values=(0, 1), ignore=7)
    write_record(planned.plan, replace(plan, labels=labels))
    [told] = train(balls, planned, init_from=trained_work / "balls")  # a folder of a workspace, all of its folds
    assert told.fold == "fold0"
    assert set(told.fresh) == {name for name in told.fresh if name.startswith("heads.")} != set()


def test_what_is_no_model_and_what_does_not_fit_are_refused(
    balls: Path, planned: Workspace, trained_work: Path, tmp_path: Path
):
    (tmp_path / "text.nnlite").write_text("no model")
    for path in (tmp_path / "missing", tmp_path / "text.nnlite", tmp_path, balls / "nnlite.json"):
        with pytest.raises(NnliteError):
            train(balls, planned, init_from=path)
    flat = trained_work / "balls" / "runs" / "3d" / "fold0" / "checkpoint_final.safetensors"
    with pytest.raises(UsageError, match=r"none of the \d+ kernels of balls 2d has the name and shape of one in"):
        pipeline.train(balls, "2d", ("fold0",), work=planned.root, init_from=flat, **SHORT)
    assert not planned.run("2d", "fold0").config.exists()


def test_a_frozen_encoder_stays_as_it_came_for_other_labels_too(
    balls: Path, planned: Workspace, trained_work: Path, caplog: pytest.LogCaptureFixture
):
    plan = read_record(planned.plan, Plan)
    write_record(planned.plan, replace(plan, labels=Labels(names=("background", "ball"), values=(0, 1), ignore=7)))
    source = trained_work / "balls" / "runs" / "3d" / "fold0" / "checkpoint_final.safetensors"
    short = {"epochs": None, "time_budget_s": 1.0}  # for a few of many epochs
    [told] = train(balls, planned, init_from=source, freeze_encoder=1000, warm_up=2000.0, **short)
    assert "balls 3d fold0 ended after " in caplog.text
    assert "epochs, and --freeze-encoder 1000 held the encoder for all of them: give it more time" in caplog.text
    assert "epochs, and with --warm-up 2000 none of them had the full learning rate" in caplog.text
    assert told.fresh
    assert all(name.startswith("heads.") for name in told.fresh)
    given, learned = (load_model(path).weights for path in (source, planned.run("3d", "fold0").checkpoint_final))
    kernels = [name for name in given if name not in told.fresh and given[name].ndim > 1]
    stayed = [name for name in kernels if torch.equal(given[name], learned[name])]
    assert stayed == [name for name in kernels if name.startswith("encoder.")] != []


def test_weights_that_are_freshly_drawn_cannot_be_frozen(balls: Path, planned: Workspace):
    with pytest.raises(UsageError, match="--freeze-encoder 2 keeps weights that were learned before"):
        train(balls, planned, freeze_encoder=2)
