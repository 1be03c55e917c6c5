"""A packed case is small, and what it shows is where it was."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlite.evaluation.report.volumes import (
    LEVELS,
    PackedVolume,
    box_means,
    foreground_box,
    merge_factors,
    middle_voxels,
    pack,
)


def unpacked(data: str, dtype: str, volume: PackedVolume) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype=dtype).reshape(volume.shape)


def packed(image: np.ndarray, truth: np.ndarray, **options: Any) -> PackedVolume:
    given = {"spacing_mm": (3.0, 1.0, 1.0), "planar": False, "channels": ("CT",), "most_voxels": 10**6, **options}
    return pack(image, truth, truth, **given)


def test_a_small_case_is_kept_voxel_by_voxel():
    image = np.linspace(-100, 100, 4 * 5 * 6).reshape(1, 4, 5, 6)
    truth = np.zeros((4, 5, 6), dtype=np.uint8)
    truth[1:3, 1:4, 1:4] = 2
    volume = packed(image, truth)
    assert (volume.shape, volume.spacing_mm, volume.note) == ((4, 5, 6), (3.0, 1.0, 1.0), "")
    assert np.array_equal(unpacked(volume.truth, "<u2", volume), truth)
    [channel] = volume.channels
    grey = unpacked(channel.data, "u1", volume)
    step = (channel.high - channel.low) / LEVELS
    inside = (image[0] > channel.low) & (image[0] < channel.high)
    assert np.abs(channel.low + grey * step - image[0])[inside].max() <= step / 2 + 1e-9


def test_a_large_case_is_cropped_to_its_foreground_and_merged_until_it_fits():
    truth = np.zeros((30, 300, 300), dtype=np.uint8)
    truth[10:20, 100:200, 100:200] = 1
    volume = packed(truth[None].astype(np.float32), truth, most_voxels=20_000)
    assert np.prod(volume.shape) <= 20_000
    assert volume.spacing_mm[1] == volume.spacing_mm[2] > 1
    assert "cropped to" in volume.note
    assert "voxels shown as one" in volume.note
    shown = unpacked(volume.truth, "<u2", volume)
    volume_ml = shown.sum() * np.prod(volume.spacing_mm)
    assert volume_ml == pytest.approx(truth.sum() * 3, rel=0.15)


def test_the_viewer_begins_with_the_window_it_is_given_as_far_as_there_are_such_intensities():
    image = np.linspace(-1000, 1000, 4 * 5 * 6).reshape(1, 4, 5, 6)
    truth = np.ones((4, 5, 6), dtype=np.uint8)
    for window, expected in (
        ((-160.0, 240.0), (-160, 240)),
        ((-2000.0, 0.0), (-1000, 0)),
        ((5000.0, 6000.0), (-1000, 1000)),
    ):
        [channel] = packed(image, truth, window=window).channels
        assert (channel.black, channel.white) == pytest.approx(expected, abs=5)


def test_empty_masks_show_the_whole_image():
    nothing = np.zeros((4, 5, 6), dtype=np.uint8)
    assert packed(np.zeros((1, 4, 5, 6)), nothing).shape == (4, 5, 6)  # and a constant image does no harm


def test_a_colour_picture_keeps_its_colours_and_loses_its_transparency():
    picture = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 9), dtype=np.uint8)
    truth = np.ones((1, 8, 9), dtype=np.uint8)
    volume = packed(picture, truth, planar=True, channels=("r", "g", "b", "a"))
    assert volume.colour
    assert volume.note == "3 of 4 channels shown"
    for channel, colour in zip(volume.channels, picture, strict=False):
        assert (channel.low, channel.high) == (volume.channels[0].low, volume.channels[0].high)
        shown = channel.low + unpacked(channel.data, "u1", volume) * ((channel.high - channel.low) / LEVELS)
        assert np.abs(shown - colour).max() <= 1


@given(
    shape=st.tuples(*[st.integers(1, 600)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    most=st.integers(1, 10**6),
)
def test_merged_voxels_never_exceed_the_limit_and_nothing_is_merged_in_vain(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], most: int
):
    factors = merge_factors(shape, spacing, most)
    left = np.prod([-(-size // factor) for size, factor in zip(shape, factors, strict=True)])
    assert left <= most
    if np.prod(shape) <= most:
        assert factors == (1, 1, 1)


@given(shape=st.tuples(*[st.integers(1, 9)] * 3), factors=st.tuples(*[st.sampled_from([1, 2, 4])] * 3))
def test_means_and_labels_of_merged_voxels_lie_on_one_grid(shape: tuple[int, ...], factors: tuple[int, ...]):
    volume = np.full(shape, 7.0)
    assert box_means(volume, factors).shape == middle_voxels(volume, factors).shape
    assert (box_means(volume, factors) == 7).all()


def test_the_box_holds_all_foreground_and_stays_within_the_image():
    mask = np.zeros((10, 20, 30), dtype=bool)
    mask[0, 19, 15] = True
    box = foreground_box(mask, (1.0, 1.0, 1.0), planar=False)
    assert mask[box].sum() == 1
    assert mask[box].shape == (9, 9, 17)  # 8 mm on either side, as far as the image reaches
