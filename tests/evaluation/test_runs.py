"""Runs, components and centres of small maps counted by hand, and of noise against scipy.ndimage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nnlite.evaluation.runs import centres_mm, components, find_runs, meeting


def noise(seed: int, shape: tuple[int, int, int] = (7, 8, 9), labels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.integers(1, labels, size=shape) * (generator.random(shape) < 0.3)).astype(np.uint8)


def test_a_run_ends_with_its_label_or_its_row() -> None:
    runs = find_runs(np.array([[[0, 1, 1], [1, 2, 2]]]))
    assert runs.labels.tolist() == [1, 1, 2]
    assert runs.lengths.tolist() == [2, 1, 2]


def test_an_empty_map_has_no_runs_and_no_components() -> None:
    runs = find_runs(np.zeros((2, 3, 4), dtype=np.uint8))
    assert len(runs.labels) == 0
    assert components(runs)[0] == 0


def test_runs_of_two_maps_meet_where_they_share_voxels_and_label() -> None:
    first = find_runs(np.array([[[1, 1, 0, 2, 2, 0, 1]]]))
    second = find_runs(np.array([[[0, 1, 0, 1, 2, 1, 1]]]))
    ours, theirs = meeting(first, second)
    # runs of the first: 1 1, 2 2, 1; of the second: 1, 1, 2, 1 1
    assert list(zip(ours.tolist(), theirs.tolist(), strict=True)) == [(0, 0), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    "step", [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, -1), (1, -1, 0), (1, 0, 1), (1, 1, -1), (1, -1, -1)]
)
def test_faces_edges_and_corners_connect(step: tuple[int, int, int]) -> None:
    label_map = np.zeros((5, 5, 5), dtype=np.uint8)
    label_map[2, 2, 2] = label_map[tuple(2 + s for s in step)] = 1
    assert components(find_runs(label_map))[0] == 1
    label_map[2, 2, 2] = 2  # another label is another component
    assert components(find_runs(label_map))[0] == 2


def test_the_end_of_a_row_or_slice_does_not_touch_the_start_of_the_next() -> None:
    label_map = np.zeros((3, 3, 3), dtype=np.uint8)
    label_map[0, 0, 2] = label_map[0, 2, 0] = label_map[1, 0, 2] = 1
    label_map[2, 2, 0] = 1
    assert components(find_runs(label_map))[0] == 3  # the first two slices' corners (., 0, 2) lie on each other


@pytest.mark.parametrize("seed", range(5))
def test_components_of_noise_are_those_of_scipy(seed: int) -> None:
    label_map = noise(seed)
    runs = find_runs(label_map)
    number, of_run = components(runs)
    painted = np.zeros(label_map.shape, dtype=int)
    painted[label_map > 0] = np.repeat(of_run + 1, runs.lengths)
    expected = 0
    for label in (1, 2):
        theirs, count = ndimage.label(label_map == label, structure=np.ones((3, 3, 3)))
        expected += count
        pairs = np.unique(np.stack([painted[theirs > 0], theirs[theirs > 0]]), axis=1)
        assert pairs.shape[1] == count  # each of theirs is one of ours
    assert number == expected


def test_centres_of_noise_are_those_of_scipy() -> None:
    label_map = noise(9)
    ours = centres_mm(find_runs(label_map), (3.0, 1.0, 0.5), count=4)
    for label in (1, 2):
        theirs = np.array(ndimage.center_of_mass(label_map == label)) * (3.0, 1.0, 0.5)
        assert ours[label] == pytest.approx(theirs)
    assert np.isnan(ours[[0, 3]]).all()


def test_a_winding_component_is_followed_to_its_end() -> None:
    # a snake that turns at alternate ends of the rows between its windings: each run touches two others
    snake = np.zeros((1, 201, 5), dtype=np.uint8)
    snake[0, ::2] = 1
    snake[0, 1::4, -1] = snake[0, 3::4, 0] = 1
    assert components(find_runs(snake))[0] == 1
    snake[0, 101] = 0  # cut in two
    number, of_run = components(find_runs(snake))
    assert number == 2
    assert of_run.tolist() == sorted(of_run.tolist())
