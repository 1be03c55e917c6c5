"""Outlines and masks of one slice: the one gives back the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import points_in_poly

from nnlite.interop.contours import filled, traced


@settings(max_examples=150, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_filling_the_outlines_of_a_mask_gives_the_mask(mask: np.ndarray):
    np.testing.assert_array_equal(filled(traced(mask), mask.shape), mask)


@settings(max_examples=50, deadline=None)
@given(mask=arrays(bool, (9, 9)), shift=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)))
def test_each_outline_alone_can_be_united_with_the_others(mask: np.ndarray, shift: tuple[float, float]):
    """Programs that unite all outlines of a slice see the same: holes are cut out of the outline around them."""
    united = np.zeros_like(mask)
    for outline in traced(mask):
        united |= filled([outline + shift], mask.shape)  # off the lattice, where a cut would open first
    np.testing.assert_array_equal(united, mask)


def test_straight_ways_have_no_points_but_their_ends():
    [outline] = traced(np.ones((30, 40), dtype=bool))
    assert len(outline) == 8  # a cut corner each


def test_nested_outlines_are_holes_and_islands():
    def square(low: float, high: float) -> np.ndarray:
        return np.array([(low, low), (low, high), (high, high), (high, low)])

    mask = filled([square(0.5, 9.5), square(2.5, 7.5), square(3.5, 6.5)], shape=(11, 11))
    assert mask.sum() == 9 * 9 - 5 * 5 + 3 * 3


def test_outlines_that_cross_themselves_and_leave_the_slice_follow_the_rule_of_even_and_odd():
    rng = np.random.default_rng(3)
    for _ in range(20):
        outline = rng.uniform(-3, 14, (7, 2))
        inside = points_in_poly(np.argwhere(np.ones((10, 12))), outline).reshape(10, 12)
        np.testing.assert_array_equal(filled([outline], (10, 12)), inside)


def test_centres_on_the_border_belong_to_one_of_two_neighbours():
    left = np.array([(0, 0), (0, 3), (4, 3), (4, 0)], dtype=float)
    right = left + np.array([0, 3])
    first, second = filled([left], (6, 8)), filled([right], (6, 8))
    assert not (first & second).any()
    np.testing.assert_array_equal(first | second, filled([np.array([(0, 0), (0, 6), (4, 6), (4, 0)])], (6, 8)))


@pytest.mark.parametrize("mask", [np.zeros((4, 4), bool), np.zeros((1, 1), bool)])
def test_an_empty_mask_has_no_outline(mask: np.ndarray):
    assert traced(mask) == []
    assert not filled([], mask.shape).any()
