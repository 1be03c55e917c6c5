"""Slabs of logits, cut anywhere, give the mask that the whole volume gives; only what is still needed is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from threading import current_thread

import numpy as np
import pytest
import torch
from torch import Tensor

from nnlite.preprocessing import resample as resampling
from nnlite.preprocessing import restore as module
from nnlite.preprocessing.decide import Decision, Scores
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import resample
from nnlite.preprocessing.restore import Logits, RestoredSlab, restore_labels, restored_slabs

TRANSPOSES = list(itertools.permutations(range(3)))


def way_back(
    resampled_shape: tuple[int, int, int],
    transpose: tuple[int, int, int] = (0, 1, 2),
    thick: float = 1.0,
) -> Restoration:
    """To a box of 13 x 18 x 16 voxels in an image of 16 x 20 x 24; ``thick`` is the slice distance of the network."""
    box = ((2, 15), (1, 19), (8, 24))
    cropped = [box[axis][1] - box[axis][0] for axis in transpose]
    return Restoration(
        case_id="blob",
        shape=(16, 20, 24),
        box=box,
        transpose=transpose,
        cropped_shape=(cropped[0], cropped[1], cropped[2]),
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=resampled_shape,
        resampled_spacing_mm=(thick, 1.0, 1.0),
    )


def logits_on(restoration: Restoration, labels: int = 4) -> Tensor:
    return torch.randn((labels, *restoration.resampled_shape), generator=torch.Generator().manual_seed(1))


def borrowed(logits: Tensor, depths: Sequence[int]) -> Iterator[Tensor]:
    """Slabs of these depths, again and again; each is spoilt as soon as the next is asked for."""
    begin = 0
    for depth in itertools.cycle(depths):
        slab = logits[:, begin : begin + depth].clone()
        begin += depth
        yield slab
        slab.fill_(torch.nan)
        if begin >= logits.shape[1]:
            return


def each_slab(logits: Logits, restoration: Restoration, *, stacked: bool = False) -> Iterator[RestoredSlab]:
    return itertools.chain.from_iterable(restored_slabs(logits, restoration, stacked=stacked))


def whole(logits: Tensor, restoration: Restoration) -> np.ndarray:
    """Scores (labels, z, y, x) of the box in the image's axis order, from whole volumes."""
    scores = resample(logits, restoration.cropped_shape, order=1, separate_axis=restoration.separate_axis)
    return scores.numpy().transpose(0, *(axis + 1 for axis in np.argsort(restoration.transpose)))


@pytest.mark.parametrize("voxels", [1, 700, 10**6])
@pytest.mark.parametrize("depths", [(1,), (3, 1, 5), (100,)])
@pytest.mark.parametrize(("depth", "thick"), [(20, 1.0), (13, 1.0), (6, 1.0), (4, 5.0), (40, 5.0)])
def test_slabs_cut_anywhere_give_the_mask_and_the_probabilities_of_whole_volumes(
    monkeypatch: pytest.MonkeyPatch, depth: int, thick: float, depths: tuple[int, ...], voxels: int
):
    monkeypatch.setattr(resampling, "SLAB_VOXELS", voxels)
    monkeypatch.setattr(module, "STACKED_SCORES", 4 * voxels)
    restoration = way_back((depth, 14, 21), thick=thick)
    assert (restoration.separate_axis == 0) == (thick != 1)
    logits = logits_on(restoration)
    scores = whole(logits, restoration)
    best, second = np.sort(scores, axis=0)[[-1, -2]]
    clear = best - second > 1e-5
    box = tuple(slice(*ends) for ends in restoration.box)
    restored = restore_labels(borrowed(logits, depths), restoration)
    np.testing.assert_array_equal(restored[box][clear], scores.argmax(axis=0)[clear])
    restored[box] = 0
    assert not restored.any()
    kept = np.full((4, *restoration.shape), np.nan, np.float32)

    def keep(region, probabilities):
        kept[(slice(None), *region)] = probabilities

    again = restore_labels(borrowed(logits, depths), restoration, keep_probabilities=keep)
    np.testing.assert_array_equal(again[box][clear], scores.argmax(axis=0)[clear])
    expected = torch.from_numpy(scores).softmax(dim=0).numpy()
    np.testing.assert_allclose(kept[(slice(None), *box)], expected, atol=1e-5)
    assert np.isfinite(kept).sum() == expected.size  # nothing is said outside of the box


@pytest.mark.parametrize("transpose", TRANSPOSES)
def test_regions_are_in_the_image_s_axis_order_whatever_that_of_the_plan(transpose, monkeypatch):
    monkeypatch.setattr(module, "STACKED_SCORES", 1)
    restoration = way_back((9, 11, 10), transpose)
    logits = logits_on(restoration)
    kept = np.zeros((4, *restoration.shape), np.float32)
    kept[0] = 1

    def keep(region, probabilities):
        kept[(slice(None), *region)] = probabilities

    mask = restore_labels(logits, restoration, keep_probabilities=keep)
    np.testing.assert_allclose(kept.sum(axis=0), 1, atol=1e-6)
    first, second = np.sort(kept, axis=0)[[-1, -2]]
    clear = first - second > 1e-5
    np.testing.assert_array_equal(mask[clear], kept.argmax(axis=0)[clear])
    assert mask.any()


def test_only_slices_that_are_still_needed_are_kept(monkeypatch):
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 1)  # one slice at a time
    restoration = way_back((40, 14, 21))
    for slab in each_slab(borrowed(logits_on(restoration), (8,)), restoration):
        # linear interpolation between two neighbours
        assert sum(part.shape[1] for part in slab.source) <= 2


def test_the_work_on_logits_goes_no_further_than_the_slab_asked_for(monkeypatch):
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 1)
    restoration = way_back((26, 14, 21))
    taken = []

    def slabs():
        for slab in borrowed(logits_on(restoration), (1,)):
            taken.append(slab)
            yield slab

    # two slices of logits per slice of the box: slice i lies between slices 2i and 2i + 1
    for done, _ in enumerate(each_slab(slabs(), restoration)):
        assert len(taken) == 2 * done + 2


@pytest.mark.parametrize("depths", [(8,), (1, 5)])
def test_threads_work_on_slabs_side_by_side_before_the_logits_they_are_made_from_are_spoilt(
    monkeypatch: pytest.MonkeyPatch, depths: tuple[int, ...]
) -> None:
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 1)
    restoration = way_back((40, 14, 21))
    logits = logits_on(restoration)
    working: set[str] = set()
    answer = Decision.from_logits

    def noted(decision: Decision, scores: Scores) -> Tensor:
        working.add(current_thread().name)
        return answer(decision, scores)

    monkeypatch.setattr(Decision, "from_logits", noted)
    threads = torch.get_num_threads()
    expected = restore_labels(logits, restoration)
    working.clear()
    try:
        torch.set_num_threads(3)
        mask = restore_labels(borrowed(logits, depths), restoration)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(mask, expected)
    assert working
    assert "MainThread" not in working


def test_slabs_of_different_grids_are_cut_alike():
    cuts = [
        [slab.target for slab in each_slab(logits_on(restoration), restoration, stacked=True)]
        for restoration in (way_back((9, 11, 10)), way_back((30, 40, 50)), way_back((4, 16, 16), thick=5.0))
    ]
    assert cuts[0] == cuts[1] == cuts[2]


def test_regions_are_painted_where_their_own_logit_is_above_zero():
    restoration = way_back((13, 18, 16))
    first, second, *_ = logits_on(restoration)
    box = tuple(slice(*ends) for ends in restoration.box)
    kept = np.zeros((2, *restoration.shape), np.float32)

    def keep(place, probabilities):
        kept[(slice(None), *place)] = probabilities

    painted = Decision(labels=6, painted=(5, 2))
    logits = torch.stack([first, second])
    restored = restore_labels(logits, restoration, decision=painted, keep_probabilities=keep)
    expected = np.where(second > 0, 2, np.where(first > 0, 5, 0))
    np.testing.assert_array_equal(restored[box], expected)
    np.testing.assert_allclose(kept[(slice(None), *box)], logits.sigmoid(), rtol=1e-6)


def test_logits_in_half_precision_are_restored_in_single():
    restoration = way_back((9, 11, 10))
    rounded = logits_on(restoration).half()
    np.testing.assert_array_equal(restore_labels(rounded, restoration), restore_labels(rounded.float(), restoration))


def test_restoring_leaves_the_logits_as_they_were():
    restoration = way_back((9, 11, 10))
    logits = logits_on(restoration)
    before = logits.clone()
    restore_labels(logits, restoration)
    restore_labels(logits, restoration, keep_probabilities=lambda region, probabilities: None)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(("labels", "dtype"), [(256, np.uint8), (300, np.int16)])
def test_masks_of_many_labels_have_room_for_their_numbers(labels, dtype):
    restoration = way_back((13, 18, 16))
    logits = torch.zeros(labels, 13, 18, 16)
    logits[-1] = 1
    restored = restore_labels(logits, restoration)
    assert restored.dtype == dtype
    assert restored.max() == labels - 1


def test_logits_of_another_grid_are_refused():
    restoration = way_back((9, 11, 10))
    with pytest.raises(ValueError, match=r"logits of blob have shape \(9, 11, 9\).* \(9, 11, 10\)"):
        restore_labels(torch.zeros(3, 9, 11, 9), restoration)
    with pytest.raises(ValueError, match=r"logits of blob have shape \(10, 11, 10\)"):
        restore_labels(torch.zeros(3, 10, 11, 10), restoration)
    with pytest.raises(ValueError, match="logits of blob end after 8 of 9 slices"):
        restore_labels(iter([torch.zeros(3, 4, 11, 10)] * 2), restoration)


@pytest.mark.gpu
def test_a_gpu_restores_alike():
    restoration = way_back((9, 11, 10), (2, 0, 1))
    logits = logits_on(restoration)
    same = restore_labels(logits.cuda(), restoration) == restore_labels(logits, restoration)
    assert same.mean() > 0.999  # but for ties


def test_scores_are_rounded_to_the_precision_of_the_logits() -> None:
    restoration = way_back((7, 9, 8))
    logits = logits_on(restoration).half()
    exact = torch.cat([slab.stacked() for slab in each_slab(logits.float(), restoration)], dim=1)
    rounded = torch.cat([slab.stacked() for slab in each_slab(logits, restoration)], dim=1)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, exact.half().float())
    assert not torch.equal(rounded, exact)
