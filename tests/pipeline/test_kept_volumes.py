"""Maps beside a mask lie on its image's grid and hold what the probabilities say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnlite.data.image import Geometry, read_image, write_image
from nnlite.pipeline.kept_volumes import volumes_kept
from nnlite.preprocessing.decide import Decision


def test_probabilities_and_entropy_are_written_together_part_by_part(tmp_path: Path):
    geometry = Geometry(shape=(4, 3, 5), spacing_mm=(3.0, 1.0, 2.0), origin_mm=(1.0, 2.0, 3.0))
    write_image(tmp_path / "image.nii.gz", np.zeros((1, 4, 3, 5), np.float32), geometry)
    grid = read_image(tmp_path / "image.nii.gz").stored
    half = np.full((2, 1, 3, 5), 0.5, np.float32)
    with volumes_kept(tmp_path / "case", grid, Decision(labels=2), probabilities=True, entropy=True) as keep:
        assert keep is not None
        keep((slice(2, 3), slice(0, 3), slice(0, 5)), half)
    probabilities, entropy = (read_image(tmp_path / f"case.{name}.nii") for name in ("probabilities", "entropy"))
    assert entropy.array.shape == (1, 4, 3, 5)
    assert entropy.geometry.differences(read_image(tmp_path / "image.nii.gz").geometry) == []
    assert np.unique(entropy.array[0, 2]).tolist() == [1.0]  # as undecided as can be
    assert np.unique(entropy.array[0, [0, 1, 3]]).tolist() == [0.0]  # nothing was told: background is certain
    assert np.unique(probabilities.array[0, [0, 1, 3]]).tolist() == [1.0]


def test_nothing_is_written_where_nothing_is_wanted(tmp_path: Path):
    write_image(
        tmp_path / "image.nii.gz", np.zeros((1, 2, 2, 2), np.float32), Geometry(shape=(2, 2, 2), spacing_mm=(1, 1, 1))
    )
    grid = read_image(tmp_path / "image.nii.gz").stored
    with volumes_kept(tmp_path / "case", grid, Decision(labels=2), probabilities=False, entropy=False) as keep:
        assert keep is None
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]
