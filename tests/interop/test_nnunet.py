"""A result folder is looked over: which configuration, which folds, and what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from nnunet_files import checkpoint, plans, write_result

from nnlite.errors import CheckpointError, PlanError, UsageError
from nnlite.interop.nnunet import find_trained, joint_plan, read_model


def test_a_folder_is_one_configuration_with_its_folds(tmp_path: Path):
    trained = find_trained(write_result(tmp_path, folds=("0", "3")))
    assert (trained.configuration, trained.trainer, trained.notes) == ("3d_fullres", "nnUNetTrainer", ())
    assert list(trained.checkpoints) == ["fold0", "fold3"]
    plan = joint_plan([trained])
    assert list(plan.configurations) == ["3d"]
    card = read_model(trained, "fold3", plan).card
    assert (card.plan, card.configuration, card.fold, card.epoch, card.mirror_axes) == (plan, "3d", "fold3", 12, (0, 1))


def test_each_fold_has_its_own_weights(tmp_path: Path):
    trained = find_trained(write_result(tmp_path, folds=("0", "1")))
    plan = joint_plan([trained])
    first, second = (read_model(trained, fold, plan).weights["heads.0.weight"] for fold in ("fold0", "fold1"))
    assert not torch.equal(first, second)


def test_fold_all_is_taken_only_where_it_is_alone(tmp_path: Path):
    alone = find_trained(write_result(tmp_path / "a", folds=("all",)))
    assert list(alone.checkpoints) == ["all"]
    beside = find_trained(write_result(tmp_path / "b", folds=("0", "all")))
    assert list(beside.checkpoints) == ["fold0"]
    assert "fold_all" in beside.notes[0]


def test_the_best_checkpoint_is_taken_only_where_no_training_is_finished(tmp_path: Path):
    best = find_trained(write_result(tmp_path / "a", name="checkpoint_best.pth"))
    assert "checkpoint_best.pth is taken" in best.notes[0]
    folder = write_result(tmp_path / "b")
    (folder / "fold_1").mkdir()
    shutil.copy(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_1" / "checkpoint_best.pth")
    mixed = find_trained(folder)
    assert list(mixed.checkpoints) == ["fold0"]
    assert mixed.notes == ("left out, because the training is not finished: fold_1",)


def test_another_trainer_is_told(tmp_path: Path):
    folder = write_result(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    torch.save(checkpoint("3d_fullres", {}) | {"trainer_name": "MyTrainer"}, path)
    [trainer] = find_trained(folder).notes
    assert "MyTrainer" in trainer


def test_what_is_no_result_folder_is_told_with_the_way_out(tmp_path: Path):
    folder = write_result(tmp_path)
    with pytest.raises(CheckpointError, match=f"no plans.json, .*give one of the folders in it: {folder.name}"):
        find_trained(tmp_path)
    with pytest.raises(CheckpointError, match="unzip it first"):
        find_trained(tmp_path / "model.zip")
    shutil.rmtree(folder / "fold_0")
    with pytest.raises(CheckpointError, match=r"no fold_.*is its training finished"):
        find_trained(folder)
    (folder / "plans.pkl").touch()
    with pytest.raises(CheckpointError, match="nnU-Net v1"):
        find_trained(folder)


def test_broken_json_is_told_with_its_file(tmp_path: Path):
    folder = write_result(tmp_path)
    for text in ("{", "[]"):
        (folder / "plans.json").write_text(text)
        with pytest.raises(PlanError, match=r"plans\.json"):
            find_trained(folder)


def test_a_cascade_asks_for_its_first_stage(tmp_path: Path):
    cascade = find_trained(write_result(tmp_path, "3d_cascade_fullres", channels=3))
    with pytest.raises(UsageError, match="continues from 3d_lowres; give the result folder of 3d_lowres as well"):
        joint_plan([cascade])
    low = find_trained(write_result(tmp_path, "3d_lowres"))
    assert set(joint_plan([cascade, low]).configurations) == {"3d-lowres", "3d-cascade"}


def test_folders_of_two_plans_or_of_one_configuration_do_not_become_one_model(tmp_path: Path):
    full = find_trained(write_result(tmp_path / "a"))
    flat = write_result(tmp_path / "b", "2d")
    content = plans()
    content["transpose_forward"] = [1, 0, 2]
    (flat / "plans.json").write_text(json.dumps(content))
    with pytest.raises(PlanError, match="follows other plans than"):
        joint_plan([full, find_trained(flat)])
    with pytest.raises(UsageError, match="given twice"):
        joint_plan([full, full])


def test_a_fold_of_another_configuration_is_refused(tmp_path: Path):
    folder = write_result(tmp_path, folds=("0", "1"))
    torch.save(checkpoint("2d", {}), folder / "fold_1" / "checkpoint_final.pth")
    trained = find_trained(folder)
    with pytest.raises(CheckpointError, match=r"fold_1.*was trained as 2d, the other folds beside it as 3d_fullres"):
        read_model(trained, "fold1", joint_plan([trained]))
