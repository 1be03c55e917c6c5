"""Channels in several files: on one grid they are joined, on others resampled where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlite.data.channels import read_channels
from nnlite.data.image import Geometry, write_image
from nnlite.errors import ImageError

CT_GRID = Geometry(shape=(4, 6, 8), spacing_mm=(2.0, 1.0, 1.0), origin_mm=(10.0, -3.0, 5.0))
PET_GRID = Geometry(shape=(3, 4, 4), spacing_mm=(4.0, 2.0, 2.0), origin_mm=(10.0, -3.0, 5.0))


def ramp(grid: Geometry) -> np.ndarray:
    """A channel whose value is the sum of the three coordinates in mm."""
    z, y, x = (
        origin + step * np.arange(size)
        for origin, step, size in zip(grid.origin_mm, grid.spacing_mm, grid.shape, strict=True)
    )
    return (z[:, None, None] + y[:, None] + x)[None].astype(np.float32)


def write_ct_and_pet(folder: Path) -> list[Path]:
    write_image(folder / "ct.nii.gz", ramp(CT_GRID), CT_GRID)
    write_image(folder / "pet.nii.gz", 3 * ramp(PET_GRID), PET_GRID)
    return [folder / "ct.nii.gz", folder / "pet.nii.gz"]


def test_channels_on_another_grid_are_refused_with_both_grids_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"pet.*shape \(3, 4, 4\) but ct.*\(4, 6, 8\).*--resample-channels-to CHANNEL"):
        read_channels(write_ct_and_pet(tmp_path))


@pytest.mark.parametrize(("reference", "grid", "moved"), [(0, CT_GRID, 1), (1, PET_GRID, 0)])
def test_channels_are_resampled_linearly_onto_the_grid_of_the_reference(
    tmp_path: Path, reference: int, grid: Geometry, moved: int
) -> None:
    image = read_channels(write_ct_and_pet(tmp_path), reference=reference)
    assert image.geometry.differences(grid) == []
    assert image.stored.geometry.differences(grid) == []
    assert image.resampled == (moved,)
    ct, pet = image.array
    np.testing.assert_allclose(ct if reference == 0 else pet / 3, ramp(grid)[0], atol=1e-4)
    # a ramp is what linear interpolation makes of itself, wherever the other grid has voxels on both sides
    inside = np.s_[:4, :, :7] if reference == 0 else np.s_[:2, :3, :4]
    np.testing.assert_allclose((pet / 3 if reference == 0 else ct)[inside], ramp(grid)[0][inside], atol=1e-3)
    if reference == 1:  # where the CT ends, the lowest value that it has anywhere
        assert (ct[2] == ramp(CT_GRID).min()).all()


def test_a_turned_channel_is_resampled_in_patient_space(tmp_path: Path) -> None:
    turned = Geometry(shape=(8, 6, 4), spacing_mm=(1.0, 1.0, 2.0), origin_mm=CT_GRID.origin_mm, direction=TURNED)
    write_image(tmp_path / "ct.nii.gz", ramp(CT_GRID), CT_GRID)
    write_image(tmp_path / "mr.nii.gz", ramp(CT_GRID).transpose(0, 3, 2, 1), turned)  # z and x have changed places
    image = read_channels([tmp_path / "ct.nii.gz", tmp_path / "mr.nii.gz"], reference=0)
    np.testing.assert_allclose(image.array[1], image.array[0], atol=1e-4)


TURNED = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


def test_channels_on_one_grid_are_left_as_they_are(tmp_path: Path) -> None:
    write_image(tmp_path / "a.nii.gz", np.arange(192, dtype=np.int16).reshape(1, *CT_GRID.shape), CT_GRID)
    image = read_channels([tmp_path / "a.nii.gz"] * 2, reference=1)
    assert (image.resampled, image.array.dtype) == ((), np.int16)


def test_channels_of_a_case_are_joined_only_on_one_grid(tmp_path: Path) -> None:
    voxels = np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5)
    for name, spacing in [("a", 1.0), ("b", 1.0), ("c", 2.0)]:
        write_image(tmp_path / f"{name}.nii.gz", voxels, Geometry(shape=(3, 4, 5), spacing_mm=(spacing, 1, 1)))
    assert read_channels([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]).array.shape == (2, 3, 4, 5)
    with pytest.raises(ImageError, match=r"c\.nii\.gz spacing \(2, 1, 1\) mm but a\.nii\.gz spacing \(1, 1, 1\) mm"):
        read_channels([tmp_path / "a.nii.gz", tmp_path / "c.nii.gz"])
