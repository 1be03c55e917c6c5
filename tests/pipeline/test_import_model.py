"""A model of nnU-Net becomes a folder that predict takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_files import checkpoint, settings, weights, write_result

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.errors import CheckpointError, UsageError
from nnlite.inference.postprocess import Postprocessing, Rule, apply
from nnlite.pipeline.import_model import import_nnunet
from nnlite.workspace import Workspace


def predicted(model: Path, image: Path, out: Path, **options: object) -> np.ndarray:
    result = pipeline.predict(model, [image], out, device="cpu", **options)
    return read_image(result.masks[0]).array[0]


def test_predict_takes_the_imported_model_with_all_its_folds(tmp_path: Path, balls: Path):
    folder = write_result(tmp_path, folds=("0", "1"))
    result = import_nnunet([folder], tmp_path / "model")
    assert (result.folds, result.notes) == ({"3d": ("fold0", "fold1")}, ())
    image = balls / "images" / "ball_0.nii.gz"
    mask = predicted(tmp_path / "model", image, tmp_path / "both")
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert len(np.unique(mask)) > 1
    alone = predicted(tmp_path / "model", image, tmp_path / "one", folds=["fold0"])
    assert (alone != mask).any()


def test_the_run_folder_alone_is_a_model_as_well(tmp_path: Path, balls: Path):
    import_nnunet([write_result(tmp_path, "2d", encoder="residual")], tmp_path / "model")
    image = balls / "images" / "ball_0.nii.gz"
    whole = predicted(tmp_path / "model", image, tmp_path / "a")
    assert (predicted(tmp_path / "model/runs/2d/fold0", image, tmp_path / "b") == whole).all()


def decide(folder: Path, *labels: object) -> Path:
    """nnU-Net's decision to keep the largest component of these labels, call by call, and the pickle beside it."""
    folder.mkdir(parents=True)
    (folder / "postprocessing.pkl").write_bytes(b"a pickle that nobody opens")
    content = {
        "postprocessing_fns": ["remove_all_but_largest_component_from_segmentation"] * len(labels),
        "postprocessing_kwargs": [{"labels_or_regions": one} for one in labels],
    }
    (folder / "postprocessing.json").write_text(json.dumps(content))
    return folder / "postprocessing.json"


def test_what_nnunet_chose_as_postprocessing_is_applied_by_predict(tmp_path: Path, balls: Path):
    folder = write_result(tmp_path, folds=("0", "1"))
    decide(folder / "crossval_results_folds_0_1", [1, 2], 2)
    result = import_nnunet([folder], tmp_path / "model")
    assert result.notes == (
        "3d_fullres: postprocessing as nnU-Net chose it: all foreground: only the largest component, "
        "core: only the largest component",
    )
    image = balls / "images" / "ball_0.nii.gz"
    plain = predicted(tmp_path / "model", image, tmp_path / "plain", postprocessing=False)
    repaired = predicted(tmp_path / "model", image, tmp_path / "repaired")
    rules = Postprocessing(
        rules=(
            Rule(operation="keep_largest", ties="all"),
            Rule(operation="keep_largest", label="core", ties="all"),
        )
    )
    assert (repaired != plain).any()  # random weights leave specks
    assert np.array_equal(repaired, apply(plain, rules, result.plan.labels, voxel_ml=1.0))
    assert np.array_equal(predicted(tmp_path / "model", image, tmp_path / "named", configuration="3d"), repaired)


def test_a_decision_that_lies_elsewhere_is_given_by_hand_and_a_pickle_alone_is_told_of(tmp_path: Path):
    folder = write_result(tmp_path)
    given = decide(tmp_path / "elsewhere", 1)
    [note] = import_nnunet([folder], tmp_path / "given", postprocessing=given).notes
    assert note.endswith("chose it: ball: only the largest component")
    decide(folder / "crossval_results_folds_0").unlink()
    [note] = import_nnunet([folder], tmp_path / "without").notes
    assert "only its pickle is here, which is not opened" in note
    assert not Workspace(root=tmp_path, dataset="without").postprocessing("3d").exists()


def test_a_cascade_predicts_through_both_stages(tmp_path: Path, balls: Path):
    folders = [write_result(tmp_path, "3d_cascade_fullres", channels=3), write_result(tmp_path, "3d_lowres")]
    result = import_nnunet(folders, tmp_path / "model")
    assert result.folds == {"3d-cascade": ("fold0",), "3d-lowres": ("fold0",)}
    mask = predicted(tmp_path / "model", balls / "images" / "ball_0.nii.gz", tmp_path / "out")
    assert mask.shape == (16, 20, 18)


def test_progress_counts_the_folds(tmp_path: Path):
    told: list[tuple[str, int, int]] = []
    folder = write_result(tmp_path, folds=("0", "1"))
    import_nnunet([folder], tmp_path / "model", progress=lambda *step: told.append(step))
    assert told == [("import", 1, 2), ("import", 2, 2)]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    folder = write_result(tmp_path)
    (tmp_path / "model").mkdir()
    import_nnunet([folder], tmp_path / "model")  # an empty folder is as good as a new one
    with pytest.raises(UsageError, match="exists already"):
        import_nnunet([folder], tmp_path / "model")


def test_after_a_fold_that_does_not_fit_nothing_is_there(tmp_path: Path):
    folder = write_result(tmp_path, folds=("0", "1"))
    broken = checkpoint("3d_fullres", weights(settings(), labels=7))
    torch.save(broken, folder / "fold_1" / "checkpoint_final.pth")
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="does not fit the network"):
        import_nnunet([folder], out / "model")
    assert list(out.iterdir()) == []
