"""Predictions as nnU-Net computes them: against its own masks, and against the plain way to write its blending."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunet_files import write_images, write_stored_models
from skimage.transform import resize
from torch import Tensor

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.inference.sliding_window import predict_slabs, window_starts
from nnlite.interop.nnunet_arithmetic import HalfPrecisionBand, arithmetic, restore_exactly, window_weights
from nnlite.preprocessing.preprocess import Restoration

EXPECTED = Path(__file__).with_name("nnunet_predictions.npz")  # by nnU-Net 2.8.1: benchmarks/stored_predictions.py
CONFIGURATIONS = {"folds": "3d", "flat": "2d", "low": "3d-lowres", "cascade": "3d-cascade"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models whose masks are stored, imported: the cascade together with its first stage."""
    work = tmp_path_factory.mktemp("stored")
    folders = write_stored_models(work)
    imported = {
        name: pipeline.import_nnunet([folders[name]], work / "models" / name).folder for name in ("folds", "flat")
    }
    both = pipeline.import_nnunet([folders["cascade"], folders["low"]], work / "models" / "both").folder
    return imported | {"low": both, "cascade": both}


def predicted(model: Path, name: str, folder: Path, **options: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """nnlite's mask and nnU-Net's of each image, in the order of its file."""
    write_images(folder / "images")
    result = pipeline.predict(
        model, [folder / "images"], folder / "out", configuration=CONFIGURATIONS[name], device="cpu", **options
    )
    with np.load(EXPECTED) as expected:
        for path in result.masks:
            image = path.name.removesuffix(".nii.gz")
            yield read_image(path, orientation="file").array[0], expected[f"{name}/{image}"]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_exact_masks_are_those_of_nnunet(models: dict[str, Path], name: str, tmp_path: Path) -> None:
    for mask, expected in predicted(models[name], name, tmp_path, exact=True):
        assert len(np.unique(expected)) == 3
        assert np.array_equal(mask, expected)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_by_default_one_voxel_in_10000_may_differ(models: dict[str, Path], name: str, tmp_path: Path) -> None:
    pairs = list(predicted(models[name], name, tmp_path))
    differing = sum(int((mask != expected).sum()) for mask, expected in pairs)
    assert differing <= sum(mask.size for mask, _ in pairs) / 10_000


def test_weights_are_largest_behind_the_middle_and_nowhere_zero() -> None:
    weights = window_weights((8, 64, 64))
    assert weights.dtype == torch.half
    assert (weights.max(), weights.argmax()) == (10, (4 * 64 + 32) * 64 + 32)
    # a corner is 4 sigma from the centre along each axis: 10 exp(-24) = 4e-10, far below half precision's 6e-8
    assert weights[0, 0, 0] == weights.min() > 0


def test_slabs_are_what_half_precision_makes_of_the_whole_volume() -> None:
    generator = torch.Generator().manual_seed(3)
    image, kernel = (torch.randn(shape, generator=generator) for shape in ((1, 21, 13, 10), (2, 1, 3, 3, 3)))

    def network(batch: Tensor) -> Tensor:
        return 5 * torch.conv3d(batch, kernel, padding=1)

    window = (8, 8, 6)
    sums, seen = torch.zeros(2, *image.shape[1:]).half(), torch.zeros(image.shape[1:]).half()
    for corner in product(*(window_starts(n, w) for n, w in zip(image.shape[1:], window, strict=True))):
        region = tuple(slice(first, first + w) for first, w in zip(corner, window, strict=True))
        sums[:, *region] += network(image[:, *region][None])[0] * window_weights(window)
        seen[region] += window_weights(window)
    slabs = predict_slabs(network, image, patch_size=window, labels=2, device="cpu", band=HalfPrecisionBand)
    blended = torch.cat([slab.clone() for slab in slabs], dim=1)
    assert blended.dtype == torch.half
    assert torch.equal(blended, sums / seen)


def test_restored_logits_are_interpolated_in_double_and_rounded_to_half_precision() -> None:
    logits = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    restoration = Restoration(
        case_id="a",
        shape=(9, 8, 11),
        box=((0, 9), (0, 8), (0, 11)),
        transpose=(0, 1, 2),
        cropped_shape=(9, 8, 11),
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=(6, 5, 7),
        resampled_spacing_mm=(1.5, 1.6, 1.6),
    )

    def borrowed() -> Iterator[Tensor]:
        for part in logits.split(2, dim=1):
            slab = part.clone()
            yield slab
            slab.fill_(torch.nan)  # a slab is only good until the next is asked for

    restored, way = restore_exactly(borrowed(), restoration)
    expected = [
        resize(volume.numpy().astype(float), (9, 8, 11), 1, mode="edge", anti_aliasing=False) for volume in logits
    ]
    assert isinstance(restored, Tensor)
    assert np.array_equal(restored.numpy(), np.array(expected).astype(np.float16))
    assert way.resampled_shape == way.cropped_shape


def test_convolutions_are_in_single_precision_except_by_default_on_a_gpu() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [arithmetic(device, exact=exact).autocast_dtype for device in (cpu, gpu) for exact in (True, False)] == [
        None,
        None,
        None,
        torch.float16,
    ]
