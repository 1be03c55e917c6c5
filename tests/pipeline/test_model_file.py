"""A model file is read as it was written; what in it contradicts the rest is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from nnlite.errors import CheckpointError
from nnlite.inference.postprocess import Postprocessing, Rule
from nnlite.networks.build import build_network
from nnlite.pipeline.model_file import PackedModel, PackedRun, is_model_file, read_model_file, write_model_file
from nnlite.planning.planner import Plan
from nnlite.training.checkpoint import Checkpoint, ModelCard, save_model

FOLD = PackedRun(configuration="3d", fold="fold0", versions={"nnlite": "0.1.0"})
MODEL = PackedModel(
    members=("3d",),
    folds=("fold0",),
    runs=(FOLD,),
    postprocessing=Postprocessing(rules=(Rule(operation="keep_largest", label="ball"),)),
    selected=None,
    mean_dice_postprocessed=None,
    reliability={},
    scores={},
)


def write(path: Path, model: PackedModel = MODEL, *, fold: str = "fold0", plan: Plan | None = None) -> Path:
    """A file of ``model`` whose network is one of ``fold``; ``plan`` is the plan beside it."""
    own = tiny.plan()
    card = ModelCard(plan=own, configuration="3d", fold=fold, epoch=1, mirror_axes=())
    weights = build_network(own, own.configuration("3d")).state_dict()
    save_model(path.parent / "w.safetensors", Checkpoint(card=card, weights=weights))
    files = [path.parent / "w.safetensors"] * len(model.runs)
    write_model_file(path, model, plan or own, appearance=None, licence="free", weights=files, versions={"torch": "2"})
    return path


def test_a_model_file_comes_back(tmp_path: Path):
    read = read_model_file(write(tmp_path / "m.nnlite"))
    assert (read.model, read.plan, read.licence, read.appearance) == (MODEL, tiny.plan(), "free", None)
    assert read.model.folds_of("3d") == ("fold0",)
    assert read.model.folds_of("2d") == ()
    checkpoint = read.checkpoint(FOLD)
    assert checkpoint.card.fold == "fold0"
    network = build_network(read.plan, read.plan.configuration("3d"))
    network.load_state_dict(checkpoint.weights)
    assert all(tensor.dtype == torch.float32 for tensor in checkpoint.weights.values())


def test_a_model_file_is_known_by_its_suffix_or_its_beginning(tmp_path: Path):
    assert is_model_file(write(tmp_path / "any name"))
    (tmp_path / "empty.nnlite").touch()
    assert is_model_file(tmp_path / "empty.nnlite")  # else nobody would say that it is damaged
    (tmp_path / "cases.csv").write_text("image,label\n")
    assert not any(map(is_model_file, (tmp_path / "cases.csv", tmp_path / "missing.nnlite", tmp_path)))


def rules_for(label: str) -> Postprocessing:
    return Postprocessing(rules=(Rule(operation="keep_largest", label=label),))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (replace(MODEL, members=("2d",)), "lacks networks of 2d for fold0"),
        (replace(MODEL, folds=("fold0", "fold1")), "lacks networks of 3d for fold0, fold1"),
        (replace(MODEL, members=()), "lacks networks of any configuration for fold0"),
        (replace(MODEL, members=("3d", "3d")), "lacks networks of 3d, 3d for fold0"),
        (replace(MODEL, runs=(replace(FOLD, configuration="2d"),)), "lacks networks of 3d for fold0"),
        (replace(MODEL, postprocessing=rules_for("liver")), "has rules for liver, which is no label of its plan.json"),
    ],
)
def test_members_networks_and_rules_have_to_agree(tmp_path: Path, model: PackedModel, message: str):
    path = write(tmp_path / "m.nnlite", model)
    with pytest.raises(CheckpointError, match=message):
        read_model_file(path)


@pytest.mark.parametrize("name", ["3d@../../up", "3d@", "4d", "3d@one@two", "3d/@focal"])
def test_networks_under_names_that_no_configuration_has_are_refused(tmp_path: Path, name: str):
    run = replace(FOLD, configuration=name)
    path = write(tmp_path / "m.nnlite", replace(MODEL, members=(name,), runs=(run,)))
    with pytest.raises(CheckpointError, match="which does not belong there"):
        read_model_file(path)


def test_a_network_of_another_configuration_is_refused(tmp_path: Path):
    run = replace(FOLD, configuration="3d@focal")
    file = read_model_file(write(tmp_path / "m.nnlite", replace(MODEL, members=("3d@focal",), runs=(run,))))
    with pytest.raises(CheckpointError, match=r"weights/3d@focal/fold0\.safetensors of .*m\.nnlite is 3d fold0"):
        file.checkpoint(run)


def test_a_network_of_another_fold_or_with_other_labels_is_refused(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"weights/3d/fold0\.safetensors of .*m\.nnlite is 3d fold3"):
        read_model_file(write(tmp_path / "m.nnlite", fold="fold3")).checkpoint(FOLD)
    plan = tiny.plan()
    other = replace(plan, labels=replace(plan.labels, values=(0, 1, 3)))
    with pytest.raises(CheckpointError, match=r"has other labels or channels than plan\.json"):
        read_model_file(write(tmp_path / "n.nnlite", plan=other)).checkpoint(FOLD)
