"""The weight map of U-Net, by hand and by its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnlite.training.loss_terms.border_weights import border_weights


def border(first: float, second: float) -> float:
    return 10 * math.exp(-((first + second) ** 2) / 50)


def test_the_gap_between_two_cells_counts_most() -> None:
    label = np.zeros((9, 31), dtype=np.uint8)
    label[2:7, 5:14] = label[2:7, 16:25] = 1  # 45 pixels each, a gap of two between them
    weights = border_weights(label)
    background, cells = 279 / (2 * 189), 279 / (2 * 90)
    assert weights[4, 14] == pytest.approx(background + border(1, 2))
    assert weights[4, 13] == pytest.approx(cells + border(1, 3))  # from within, the own border is one voxel away
    assert weights[4, 9] == pytest.approx(cells + border(3, 7))
    assert weights[4, 0] == pytest.approx(background + border(5, 16))
    assert weights[:, 14].mean() > 3 * weights[:, 0].mean()


def test_a_cell_alone_has_no_border_to_another() -> None:
    label = np.zeros((6, 6), dtype=np.uint8)
    label[2:4, 2:4] = 1
    weights = border_weights(label)
    assert np.allclose(weights[label == 1], 36 / 8)  # both labels count half of the 36 pixels
    assert np.allclose(weights[label == 0], 36 / 64)
    assert weights.mean() == pytest.approx(1)


def test_labels_of_few_voxels_count_no_more_than_a_border() -> None:
    label = np.zeros((40, 40), dtype=np.uint8)
    label[20, 20] = 1
    assert border_weights(label)[20, 20] == 10


def test_touching_cells_are_two_where_their_instances_are_known() -> None:
    label = np.ones((1, 8), dtype=np.uint8)
    label[0, 0] = label[0, 7] = 0
    numbers = np.array([[0, 1, 1, 1, 2, 2, 2, 0]])
    merged, apart = border_weights(label), border_weights(label, instances=numbers)
    assert np.allclose(merged, np.where(label, 8 / 12, 8 / 4))
    assert apart[0, 3] == pytest.approx(8 / 12 + border(1, 1))
    assert apart[0, 1] == pytest.approx(8 / 12 + border(1, 3))


def test_distances_are_taken_in_voxels_of_the_finest_axis() -> None:
    label = np.zeros((3, 5, 5), dtype=np.uint8)
    label[0], label[2] = 1, 2
    weights = border_weights(label, voxel=(4.0, 1.0, 1.0))
    assert weights[1, 2, 2] == pytest.approx(1 + border(4, 4))


def test_ignored_voxels_are_neither_cell_nor_background() -> None:
    label = np.array([[1, 1, 3, 3, 0, 0, 0, 0]])
    weights = border_weights(label, ignore=3)
    assert weights[0].tolist() == pytest.approx([6 / 4] * 2 + [0, 0] + [6 / 8] * 4)


def test_the_edge_to_ignored_voxels_is_no_border() -> None:
    label = np.array([[0, 1, 1, 3, 3, 0, 2, 0]])
    weights = border_weights(label, ignore=3)[0]
    # six voxels are known, in three labels; d1 and d2 of the second are 2 to the left and 4 to the other cell
    assert weights[2] == pytest.approx(6 / (3 * 2) + border(2, 4), rel=1e-4)
    assert weights[5] == pytest.approx(6 / (3 * 3) + border(1, 3), rel=1e-4)


@pytest.mark.parametrize("every", [2, 4])
def test_a_cell_of_which_some_slices_were_annotated_is_one_cell(every: int) -> None:
    ball = np.hypot.reduce(np.indices((25, 25, 25)) - 12.0) <= 10
    label = np.where((np.arange(25) % every == 0)[:, None, None], ball, 3)
    weights = border_weights(label, ignore=3)
    shares = np.bincount(label[label < 3]) / np.count_nonzero(label < 3)
    for index in (0, 1):  # the balance of the labels is all there is
        assert np.allclose(weights[label == index], 1 / (2 * shares[index]))


@pytest.mark.parametrize("ends", [(0, 31), (3, 16)])
def test_a_cell_that_a_line_of_ignored_pixels_cuts_is_one(ends: tuple[int, int]) -> None:
    label = np.zeros((9, 31), dtype=np.uint8)
    label[2:7, 5:14] = 1
    label[4, slice(*ends)] = 3
    known = 9 * 31 - (ends[1] - ends[0])
    assert np.allclose(border_weights(label, ignore=3)[label == 1], known / (2 * 4 * 9))


def test_a_line_of_ignored_pixels_across_two_cells_leaves_the_gap_between_them() -> None:
    label = np.zeros((9, 31), dtype=np.uint8)
    label[2:7, 5:14] = label[2:7, 16:25] = 1
    label[4] = 3
    weights = border_weights(label, ignore=3)
    background, cells = 248 / (2 * 176), 248 / (2 * 72)
    assert weights[3, 14] == pytest.approx(background + border(1, 2))
    assert weights[3, 13] == pytest.approx(cells + border(1, 3))  # not 1 + 2 as to its own part two rows below


def test_a_cell_in_the_next_annotated_slice_makes_no_one_of_two_that_are_apart_in_this() -> None:
    label = np.full((5, 9, 31), 3, dtype=np.uint8)
    label[0] = label[4] = 0
    label[0, 2:7, 5:14] = label[0, 2:7, 16:25] = 1
    label[4, 2:7, 9:21] = 1  # over both, and over the gap of two
    weights = border_weights(label, ignore=3)
    assert weights[0, 4, 14] == pytest.approx(558 / (2 * (558 - 150)) + border(1, 2))


def test_cells_of_different_labels_do_not_become_one_across_ignored_voxels() -> None:
    weights = border_weights(np.array([[0, 1, 3, 2, 0]]), ignore=3)[0]
    assert weights[1] == pytest.approx(4 / (3 * 1) + border(1, 2))


@pytest.mark.parametrize("filled", [0, 1, 3])
def test_a_patch_of_one_label_is_all_alike(filled: int) -> None:
    weights = border_weights(np.full((4, 4), filled), ignore=3)
    assert np.unique(weights).tolist() == ([0] if filled == 3 else [1])


def test_what_lies_beyond_the_reach_makes_no_difference() -> None:
    """Against the formula with the distances to all cells, over the whole image."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    label = (ndimage.gaussian_filter(rng.normal(size=(96, 96)), 4) > 0.02).astype(np.uint8)
    cells, count = ndimage.label(label)
    assert count > 5
    distances = np.sort(
        [
            ndimage.distance_transform_edt(cells != n) + ndimage.distance_transform_edt(cells == n)
            for n in range(1, count + 1)
        ],
        axis=0,
    )
    counts = np.bincount(label.ravel())
    wanted = label.size / (2 * counts)[label] + 10 * np.exp(-((distances[0] + distances[1]) ** 2) / 50)
    assert np.abs(border_weights(label) - wanted).max() < 0.005
