"""What a picture has to state of its pixels before a network may see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.errors import ImageError

STATED = {"imagej": True, "metadata": {"unit": "um"}}


def write(path: Path, seed: int, pixels_per_um: float | None) -> None:
    """A noisy picture with a bright square, and its label where there is a folder for it."""
    label = np.zeros((48, 40), np.uint8)
    label[10:30, 10:30] = 1
    grey = (np.random.default_rng(seed).integers(0, 60, label.shape) + 150 * label).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {} if pixels_per_um is None else {**STATED, "resolution": (pixels_per_um, pixels_per_um)}
    tifffile.imwrite(path, grey, **size)
    if path.parent.name == "images":
        (path.parent.parent / "labels").mkdir(exist_ok=True)
        tifffile.imwrite(path.parent.parent / "labels" / path.name, label)


def trained(root: Path, pixels_per_um: float | None, *overrides: str) -> Path:
    for number in range(3):
        write(root / "cells" / "images" / f"c{number}.tif", number, pixels_per_um)
    pipeline.plan(root / "cells", work=root / "work", device="cpu", probe=False, overrides=overrides)
    pipeline.train(root / "cells", "2d", ("all",), work=root / "work", device="cpu", epochs=1, iterations=1)
    return root / "cells"


def test_pictures_are_compared_by_the_size_of_their_pixels_where_a_model_knows_it(tmp_path: Path):
    model = trained(tmp_path, 2.0)
    options = {"work": tmp_path / "work", "device": "cpu", "mirroring": False}
    write(tmp_path / "stated.tif", 9, 4.0)  # half the size: resampled for the network, and back
    pipeline.predict(model, [tmp_path / "stated.tif"], tmp_path / "out", **options)
    assert read_image(tmp_path / "out" / "stated.tif").array.shape == (1, 1, 48, 40)
    write(tmp_path / "silent.tif", 9, None)
    with pytest.raises(ImageError, match=r"silent\.tif: states no size of its pixels.*0\.5 x 0\.5 micrometres"):
        pipeline.predict(model, [tmp_path / "silent.tif"], tmp_path / "other", **options)


@pytest.mark.parametrize("overrides", [(), ("2d.spacing_mm=2,2",)])
def test_a_size_does_not_count_where_the_training_pictures_had_none(tmp_path: Path, overrides: tuple[str, ...]):
    model = trained(tmp_path, None, *overrides)
    write(tmp_path / "stated.tif", 9, 4.0)
    write(tmp_path / "silent.tif", 9, None)
    inputs = [tmp_path / f"{name}.tif" for name in ("stated", "silent")]
    pipeline.predict(model, inputs, tmp_path / "out", work=tmp_path / "work", device="cpu", mirroring=False)
    stated, silent = (read_image(tmp_path / "out" / path.name).array for path in inputs)
    np.testing.assert_array_equal(stated, silent)
