"""A prediction that was interrupted goes on with what is missing; everything else is a job of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from nnlite.data.dataset import Case
from nnlite.inference.predict import Model
from nnlite.networks.build import build_network
from nnlite.pipeline.unfinished_prediction import UnfinishedPrediction, job_of


@pytest.fixture
def case(tmp_path: Path) -> Case:
    image = tmp_path / "liver_1.nii.gz"
    image.write_bytes(b"voxels")
    return Case(id="liver_1", images=(image,), label=None)


def written(output: Path, *endings: str) -> Path:
    """What a finished case leaves; its mask."""
    output.mkdir(exist_ok=True)
    for ending in (".nii.gz", ".prediction.json", *endings):
        (output / f"liver_1{ending}").write_text(ending)
    return output / "liver_1.nii.gz"


def test_a_case_that_is_done_is_known_to_the_next_sitting_of_the_job(case: Case, tmp_path: Path):
    output = tmp_path / "out"
    mask = written(output, ".entropy.nii")
    UnfinishedPrediction(output, "job").note(case, mask, [".entropy.nii"])
    assert UnfinishedPrediction(output, "job").mask_of(case) == mask
    assert UnfinishedPrediction(output, "another").mask_of(case) is None
    assert UnfinishedPrediction(output, "job").mask_of(replace(case, id="liver_2")) is None


@pytest.mark.parametrize("name", ["liver_1.nii.gz", "liver_1.prediction.json", "liver_1.entropy.nii"])
def test_a_case_of_which_a_file_is_gone_or_cut_is_done_again(case: Case, tmp_path: Path, name: str):
    output = tmp_path / "out"
    unfinished = UnfinishedPrediction(output, "job")
    unfinished.note(case, written(output, ".entropy.nii"), [".entropy.nii"])
    (output / name).write_text("")
    assert unfinished.mask_of(case) is None
    (output / name).unlink()
    assert unfinished.mask_of(case) is None


def test_a_case_whose_image_was_exchanged_is_done_again(case: Case, tmp_path: Path):
    output = tmp_path / "out"
    unfinished = UnfinishedPrediction(output, "job")
    unfinished.note(case, written(output), [])
    case.images[0].write_bytes(b"other voxels")
    assert unfinished.mask_of(case) is None


def test_a_case_of_which_a_slice_was_exchanged_is_done_again(tmp_path: Path):
    folder, output = tmp_path / "slices", tmp_path / "out"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(b"slice")
    case = Case(id="liver_1", images=(folder,), label=None)
    unfinished = UnfinishedPrediction(output, "job")
    mask = written(output)
    unfinished.note(case, mask, [])
    assert unfinished.mask_of(case) == mask
    (folder / "1.dcm").write_bytes(b"other slice")
    assert unfinished.mask_of(case) is None


def test_a_prediction_that_has_come_to_its_end_leaves_no_note(case: Case, tmp_path: Path):
    output = tmp_path / "out"
    unfinished = UnfinishedPrediction(output, "job")
    unfinished.finish()
    unfinished.note(case, written(output), [])
    unfinished.finish()
    assert sorted(path.name for path in output.iterdir()) == ["liver_1.nii.gz", "liver_1.prediction.json"]


def test_a_job_is_its_weights_its_way_to_predict_and_its_options():
    plan = tiny.plan()
    configuration = plan.configuration("3d")
    networks = (build_network(plan, configuration),)
    model = Model(plan=plan, configuration=configuration, networks=networks, device=torch.device("cpu"))
    others = [replace(model, mirror_axes=(0,)), replace(model, step=0.75), replace(model, previous=model)]
    jobs = {job_of([one], False) for one in (model, *others)} | {job_of([model], True), job_of([model, model], False)}
    assert len(jobs) == 6
    assert job_of([model], False) in jobs
    with torch.no_grad():
        next(networks[0].parameters()).flatten()[0] += 1
    assert job_of([model], False) not in jobs
