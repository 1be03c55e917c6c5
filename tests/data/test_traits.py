"""What is noted of a case in passing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nnlite.data.geometry import Geometry, grids
from nnlite.data.image import Image
from nnlite.data.traits import traits


def image(array: np.ndarray) -> Image:
    stored, grid = grids(Geometry(shape=array.shape[1:], spacing_mm=(2.0, 1.0, 1.0)), ".nii.gz")
    return Image(array=array, geometry=grid, stored=stored)


def test_labels_are_counted_and_intensities_measured():
    array = np.arange(120.0, dtype=np.float32).reshape(1, 4, 5, 6)
    label = (array[0] >= 100).astype(np.uint8) * 3
    seen = traits(image(array), label, (0, 3))
    assert seen.voxels == {0: 100, 3: 20}
    assert (seen.voxel_ml, seen.orientation) == (0.002, "LPS")
    [channel] = seen.channels
    assert (channel.least, channel.median, channel.most) == (0.0, 59.5, 119.0)


def test_the_content_is_the_same_whatever_the_type_and_another_for_another_image():
    array = np.random.default_rng(0).integers(0, 255, (1, 70, 80, 90))
    same = {traits(image(array.astype(dtype)), None, ()).contents for dtype in (np.uint8, np.int16, np.float32)}
    assert len(same) == 1
    assert traits(image(array + 1), None, ()).contents not in same


def test_an_image_of_one_value_has_no_content():
    assert traits(image(np.zeros((1, 4, 4, 4))), None, ()).contents == ()


def test_the_order_of_the_file_tells_a_copy_with_another_header():
    array = np.random.default_rng(0).random((1, 4, 5, 6))
    turned = replace(image(array).stored, flips=(False, False, True))
    one = traits(image(array), None, ())
    other = traits(Image(array=array[..., ::-1], geometry=image(array).geometry, stored=turned), None, ())
    assert one.contents[0] != other.contents[0]
    assert one.contents[1] == other.contents[1]
