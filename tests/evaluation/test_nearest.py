"""Distances to the nearest point: from the small map of the grid and from the tree, against all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nnlite.evaluation.nearest as nearest
from nnlite.evaluation.nearest import nearest_mm, shells

SPACINGS_MM = [(1.0, 1.0, 1.0), (3.27, 0.98, 0.7), (50.0, 0.3, 0.3), (2.5, 1.25)]


def clouds(dimensions: int, size: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(dimensions).integers(0, size, size=(2, points, dimensions), dtype=np.int32)
    return first, second


def all_pairs_mm(points: np.ndarray, others: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    steps = (points[:, None] - others[None]) * np.array(spacing_mm)
    return np.sqrt((steps**2).sum(axis=2)).min(axis=1)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("size", [8, 30, 300])
def test_the_nearest_of_all_is_found_near_and_far(spacing_mm: tuple[float, ...], size: int) -> None:
    points, others = clouds(len(spacing_mm), size, 200)
    expected = all_pairs_mm(points, others, spacing_mm)
    assert nearest_mm(points, others, spacing_mm) == pytest.approx(expected, rel=1e-14)


def test_map_and_tree_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    points, others = clouds(3, 30, 500)
    with_map = nearest_mm(points, others, (3.27, 0.98, 0.7))
    monkeypatch.setattr(nearest, "MAP_VOXELS", 0)
    assert with_map == pytest.approx(nearest_mm(points, others, (3.27, 0.98, 0.7)), rel=1e-14)


def test_a_stray_point_far_away_is_found_without_a_map_of_all_between() -> None:
    points = np.array([[0, 0, 0], [30_000, 40_000, 0]])  # a map would take more than a gigabyte
    assert nearest_mm(points, np.array([[0, 0, 1]]), (1.0, 1.0, 1.0)) == pytest.approx([1, math.hypot(50_000, 1)])


def test_without_any_other_point_the_distance_is_infinite() -> None:
    points, nothing = np.zeros((2, 3), dtype=np.int32), np.zeros((0, 3), dtype=np.int32)
    assert nearest_mm(points, nothing, (1.0, 1.0, 1.0)).tolist() == [math.inf, math.inf]
    assert nearest_mm(nothing, points, (1.0, 1.0, 1.0)).tolist() == []


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_shells_hold_every_offset_up_to_the_last_of_them(spacing_mm: tuple[float, ...]) -> None:
    found = shells(spacing_mm)
    distances = [distance_mm for distance_mm, _ in found]
    assert distances == sorted(distances)
    grid = np.stack(np.meshgrid(*[np.arange(-60, 61)] * len(spacing_mm), indexing="ij"), axis=-1)
    lengths = np.sqrt(((grid * spacing_mm) ** 2).sum(axis=-1))
    assert sum(len(offsets) for _, offsets in found) == np.count_nonzero(lengths <= distances[-1])
