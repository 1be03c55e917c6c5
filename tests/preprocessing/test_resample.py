"""Resampling agrees with scikit-image, leaves alone what keeps its size, and takes classes one at a time."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from nnlite.preprocessing import resample as module
from nnlite.preprocessing.resample import (
    axis_blocks,
    axis_operator,
    resample,
    resample_labels,
    resampled_shape,
    separate_axis,
    slabs,
    winner,
)

SHAPES = [
    ((9, 20, 14), (13, 11, 14)),  # one axis grows, one shrinks, one stays
    ((1, 17, 12), (1, 24, 9)),  # a 2D image
    ((1, 5, 6), (4, 6, 6)),  # from a single slice
    ((7, 8, 2), (1, 3, 5)),  # to a single slice
    ((16, 16, 16), (32, 8, 24)),
    ((5, 150, 70), (4, 100, 120)),  # several blocks of rows per axis
]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scikit(volume: np.ndarray, shape: tuple[int, ...], order: int, *, clip: bool = False) -> np.ndarray:
    """What nnU-Net calls, one channel."""
    return resize(volume.astype(float), shape, order=order, mode="edge", anti_aliasing=False, clip=clip)


def scikit_slice_by_slice(volume: np.ndarray, shape: tuple[int, ...], axis: int, *, clip: bool) -> np.ndarray:
    """Cubic in-plane, nearest neighbour along ``axis``, the way nnU-Net goes."""
    plane = tuple(size for other, size in enumerate(shape) if other != axis)
    slices = [scikit(part, plane, order=3, clip=clip) for part in np.moveaxis(volume, axis, 0)]
    old, new = volume.shape[axis], shape[axis]
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    nearest = map_coordinates(np.arange(old), [centres], order=0, mode="nearest")
    return np.moveaxis(np.stack(slices)[nearest], 0, axis)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_it_agrees_with_scikit_image_on_every_channel(old, new, order):
    image = noise(2, *old)
    expected = np.stack([scikit(channel, new, order) for channel in image])
    resampled = resample(torch.from_numpy(image), new, order=order).numpy()
    assert resampled.shape == (2, *new)
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, expected, atol=1e-5 * np.ptp(image))


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_clipped_it_agrees_with_scikit_images_default(old, new):
    image = noise(2, *old)
    expected = np.stack([scikit(channel, new, order=3, clip=True) for channel in image])
    resampled = resample(torch.from_numpy(image), new, order=3, clip=True).numpy()
    np.testing.assert_allclose(resampled, expected, atol=1e-5 * np.ptp(image))


def test_clipping_only_removes_the_overshoot_of_the_spline_at_sharp_borders():
    step = torch.zeros(1, 8, 8, 8)
    step[..., 4:] = 1
    free, clipped = (resample(step, (8, 8, 20), order=3, clip=clip) for clip in (False, True))
    assert free.min() < -0.05
    assert free.max() > 1.05
    assert torch.equal(clipped, free.clamp(0, 1))


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_a_separate_axis_is_resampled_to_its_nearest_slice(old, new, axis, clip):
    volume = noise(*old)
    expected = scikit_slice_by_slice(volume, new, axis, clip=clip)
    resampled = resample(torch.from_numpy(volume)[None], new, order=3, separate_axis=axis, clip=clip)[0].numpy()
    np.testing.assert_allclose(resampled, expected, atol=1e-5 * np.ptp(volume))


def test_a_grid_that_stays_is_returned_to_the_bit():
    image = torch.from_numpy(noise(2, 5, 6, 7))
    same = resample(image, (5, 6, 7), order=3, clip=True)
    assert torch.equal(same, image)
    assert same.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_an_axis_that_stays_never_mix(axis):
    volume = torch.from_numpy(noise(1, 6, 6, 6))
    spoilt = volume.clone()
    spoilt.select(axis + 1, 2).fill_(torch.nan)  # a matrix product along this axis would spread it everywhere
    shape = [9, 9, 9]
    shape[axis] = 6
    resampled = resample(spoilt, shape, order=3)
    others = [0, 1, 3, 4, 5]
    assert resampled.select(axis + 1, 2).isnan().all()
    whole = resample(volume, shape, order=3)
    kept = resampled.index_select(axis + 1, torch.tensor(others))
    torch.testing.assert_close(kept, whole.index_select(axis + 1, torch.tensor(others)))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_constant_image_stays_constant(order):
    resampled = resample(torch.full((1, 5, 9, 30), 7.0), (11, 4, 30), order=order)
    torch.testing.assert_close(resampled, torch.full((1, 11, 4, 30), 7.0))


def test_halving_an_axis_linearly_averages_pairs():
    expected = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    torch.testing.assert_close(axis_operator(4, 2, 1), expected)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("old", "new"), [(300, 200), (200, 300), (40, 40), (100, 1), (1, 100)])
def test_blocks_are_the_operator_without_most_of_its_zeros(old, new, order):
    blocks = axis_blocks(old, new, order, torch.device("cpu"))
    together = torch.zeros(new, old)
    for block in blocks:
        together[block.rows, block.columns] = block.weights
    assert torch.equal(together, axis_operator(old, new, order))
    assert sum(block.weights.numel() for block in blocks) <= max(0.4 * old * new, 40 * 40, old + new)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order 2"):
        axis_operator(4, 2, 2)


def test_a_size_is_rounded_half_to_even_and_never_zero():
    # 5 x 1/2 = 2.5 -> 2; 7 x 1/2 = 3.5 -> 4; 3 x 1/9 = 0.33 -> 1
    assert resampled_shape((5, 7, 3), (1, 1, 1), (2, 2, 9)) == (2, 4, 1)


@pytest.mark.parametrize(
    ("current", "target", "axis"),
    [
        ((3, 1, 1), (1, 1, 1), None),  # three times is not beyond three times
        ((3.1, 1, 1), (1, 1, 1), 0),
        ((1, 3.1, 1), (9, 1, 1), 1),  # the current grid decides
        ((1, 1, 1), (1, 1, 3.1), 2),  # unless it is isotropic
        ((4, 4, 1), (9, 1, 1), None),  # two axes tie: no fall back on the target
        ((999, 0.5, 0.5), (999, 1, 1), 0),  # a 2D image
    ],
)
def test_the_axis_to_separate(current, target, axis):
    assert separate_axis(current, target) == axis


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_a_label_wins_where_its_linear_interpolation_is_highest(old, new):
    label = np.random.default_rng(1).integers(0, 4, old).astype(np.uint8)
    scores = np.stack([scikit(label == index, new, order=1) for index in range(4)])
    resampled = resample_labels(torch.from_numpy(label), new, count=4)
    best = np.sort(scores, axis=0)
    clear = best[-1] - best[-2] > 1e-5  # ties are another test's matter
    assert resampled.dtype == torch.uint8
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(resampled.numpy()[clear], scores.argmax(axis=0)[clear])


def test_labels_along_a_separate_axis_are_copied():
    label = torch.tensor([1, 2]).view(2, 1, 1).expand(2, 3, 3)
    resampled = resample_labels(label, (5, 3, 3), count=3, separate_axis=0)
    # centres (i + 0.5) x 2/5 = 0.2, 0.6, 1.0, 1.4, 1.8: voxel 1 begins at 1.0
    assert resampled[:, 0, 0].tolist() == [1, 1, 2, 2, 2]


def test_of_labels_that_tie_the_highest_wins_so_that_thin_structures_survive():
    label = torch.tensor([[[0, 1, 0, 0]]])
    assert resample_labels(label, (1, 1, 2), count=2).tolist() == [[[1, 0]]]


def test_labels_on_a_grid_that_stays_are_copied_whatever_they_are():
    label = torch.from_numpy(np.random.default_rng(2).integers(0, 300, (3, 4, 5)).astype(np.int16))
    assert torch.equal(resample_labels(label, (3, 4, 5), count=300), label)


def test_many_labels_keep_their_numbers():
    label = torch.arange(300, dtype=torch.int16).view(1, 1, 300)
    assert torch.equal(resample_labels(label, (2, 2, 300), count=300), label.expand(2, 2, 300))


@pytest.mark.parametrize("axis", [None, 0, 2])
@pytest.mark.parametrize("new", [(13, 12, 9), (10, 5, 9), (4, 16, 20)])
def test_slabs_together_make_the_whole(new, axis, monkeypatch):
    volume = torch.from_numpy(noise(10, 8, 9))
    whole = resample(volume[None], new, order=1, separate_axis=axis)[0]
    monkeypatch.setattr(module, "SLAB_VOXELS", 3 * 12 * 9)  # one to four slices at a time
    parts = list(slabs(volume.shape, new, separate_axis=axis))
    assert len(parts) > 1
    assert all(part.source.stop - part.source.start < 10 for part in parts)
    together = torch.cat([part.resample(volume[part.source]) for part in parts])
    torch.testing.assert_close(together, whole)


def test_the_running_maximum_never_holds_more_than_two_scores():
    alive: list[weakref.ref[torch.Tensor]] = []

    def scores():
        for index in range(6):
            score = torch.full((4, 4, 4), float(index % 4))
            alive.append(weakref.ref(score))
            yield index, score
            del score
            assert sum(reference() is not None for reference in alive) <= 2

    assert (winner(scores()) == 3).all()


@pytest.mark.gpu
def test_a_gpu_gives_the_same_numbers():
    image = torch.from_numpy(noise(2, 20, 30, 40))
    for clip in (False, True):
        there = resample(image.cuda(), (31, 17, 40), order=3, clip=clip)
        assert there.device.type == "cuda"
        torch.testing.assert_close(there.cpu(), resample(image, (31, 17, 40), order=3, clip=clip), atol=1e-5, rtol=0)
    label = (image[0] * 2).abs().to(torch.uint8)
    same = resample_labels(label.cuda(), (31, 17, 40), count=12).cpu() == resample_labels(label, (31, 17, 40), count=12)
    assert same.float().mean() > 0.999  # but for ties
