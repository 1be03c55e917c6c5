"""From aligned images to masks with an atlas: planned with the evidence, trained, predicted, handed on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from nnlite import pipeline
from nnlite.data.image import Geometry, read_label, write_image
from nnlite.inference.predict import Model, logit_slabs
from nnlite.pipeline.model_file import read_model_file
from nnlite.planning.prior import Prior
from nnlite.planning.topology import Architecture, plan_topology
from nnlite.training.augmentation.spatial import STILL
from nnlite.training.patches import PatchLoader, Place, draw_start

GEOMETRY = Geometry(shape=(1, 48, 48), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
TOLD_APART = 0.9  # Dice of the two structures, which look alike and are told apart by their place alone


def write_cases(folder: Path, seeds: range, *, anywhere: bool = False, ignored_rows: int = 0) -> list[Path]:
    """Three discs of one size and brightness: the two lower ones have a label each, the upper one has none.

    The lowest rows are to be ignored.
    """
    for seed in seeds:
        rng = np.random.default_rng(seed)
        _, y, x = np.indices(GEOMETRY.shape)
        image, label = rng.normal(60, 10, GEOMETRY.shape), np.zeros(GEOMETRY.shape, dtype=np.uint8)
        for value, (row, column) in ((1, (32, 13)), (2, (32, 35)), (0, (11, 24))):
            far = 20 if anywhere else 2
            row, column = row + rng.uniform(-far, far), column + rng.uniform(-far, far)
            disc = np.hypot(y - row, x - column) < 7
            image[disc] += 80
            label[disc] = value
        label[:, 48 - ignored_rows :] = 9
        write_image(folder / "images" / f"case_{seed}.nii.gz", image[None].astype(np.float32), GEOMETRY)
        write_image(folder / "labels" / f"case_{seed}.nii.gz", label[None], GEOMETRY)
    labels = {"background": 0, "one": 1, "other": 2} | ({"ignore": 9} if ignored_rows else {})
    (folder / "nnlite.json").write_text(json.dumps({"channels": ["xray"], "labels": labels}))
    return sorted((folder / "images").iterdir())


@pytest.mark.parametrize("use", ["channel", "product"])
def test_structures_that_look_alike_are_told_apart_by_their_place(use, tmp_path: Path):
    write_cases(tmp_path / "discs", range(10))
    images = write_cases(tmp_path / "new", range(100, 103))
    options = {"work": tmp_path / "work", "device": "cpu"}
    result = pipeline.plan(tmp_path / "discs", probe=False, prior=use, **options)
    assert result.plan.prior is not None
    assert result.plan.reasons["prior"].startswith(f"{use}: asked for; the images are aligned: extents differ")
    pipeline.train(tmp_path / "discs", "2d", ("fold0", "fold1"), epochs=1, iterations=25, **options)
    predicted = pipeline.predict(tmp_path / "discs", images, tmp_path / "masks", **options).masks
    for mask in predicted:
        answer, truth = (read_label(path).array for path in (mask, tmp_path / "new" / "labels" / mask.name))
        for value in (1, 2):
            both = 2 * ((answer == value) & (truth == value)).sum() / ((answer == value).sum() + (truth == value).sum())
            assert both > TOLD_APART
    pipeline.export(tmp_path / "discs", tmp_path / "discs.nnlite", work=tmp_path / "work")
    file = read_model_file(tmp_path / "discs.nnlite")
    first, second = (file.checkpoint(run).weights["atlas"] for run in file.model.runs)
    assert not np.array_equal(first, second)  # each fold has its own, of other cases
    again = pipeline.predict(tmp_path / "discs.nnlite", images, tmp_path / "again", **options).masks
    for one, other in zip(predicted, again, strict=True):
        assert np.array_equal(read_label(one).array, read_label(other).array)


@pytest.mark.parametrize("ignored_rows", [0, 8])
def test_unaligned_images_are_warned_of_with_numbers(ignored_rows: int, tmp_path: Path):
    write_cases(tmp_path / "discs", range(10), anywhere=True, ignored_rows=ignored_rows)
    result = pipeline.plan(tmp_path / "discs", work=tmp_path / "work", device="cpu", probe=False, prior="channel")
    [note] = [note for note in result.notes if note.startswith("prior")]
    assert "warning: the images are NOT aligned, so it may mislead: extents differ by up to a factor of 1.00" in note
    assert "a mean Dice of 0.0" in note
    assert note.endswith("to plan without it, leave --prior out")


class Witness(nn.Module):
    """Answers with zeros for a patch, and remembers what it saw."""

    def __init__(self, patch_size: tuple[int, ...]):
        super().__init__()
        self.patch_size, self.seen = patch_size, []

    def forward(self, batch: Tensor) -> Tensor:
        self.seen.append(batch)
        return torch.zeros(len(batch), 3, *self.patch_size)


@pytest.mark.parametrize("architecture", ["unet", "unet-2015"])
def test_training_and_prediction_know_the_same_places_beyond_a_case(architecture: Architecture, tmp_path: Path):
    stored, plan = tiny.store_cases(tmp_path), tiny.plan()
    topology, patch_size = plan_topology((1.0,) * 3, (24, 24, 24), architecture=architecture, base_features=4)
    shape = stored["case_0"].image.shape[1:]
    assert all(size > length for size, length in zip(patch_size, shape, strict=True))
    configuration = replace(plan.configuration("3d"), topology=topology, patch_size=patch_size)
    plan = replace(plan, prior=Prior(use="channel", atlas_shape=(8, 8, 8)), configurations={"3d": configuration})
    network = Witness(patch_size)
    model = Model(plan=plan, configuration=configuration, networks=(network,), device=torch.device("cpu"))
    assert next(logit_slabs(model, stored["case_0"])).shape == (3, *shape)
    [[predicted]] = network.seen

    loader = PatchLoader(stored, patch_size=patch_size, batch_size=1, margin=topology.margin, with_places=True)
    begins = (0, 0, 0) if any(topology.margin) else draw_start(np.random.default_rng(), shape, patch_size, None)
    start = tuple(first - more for first, more in zip(begins, topology.margin, strict=True))
    size = topology.seen_size(patch_size)
    trained = loader.read(Place(case_id="case_0", start=start, size=size, motion=STILL, seed=None)).image
    assert np.array_equal(trained, predicted)
    assert (trained[1:].min() >= 1) == any(topology.margin)  # mirrored places are those of the case
