"""Scales and text of the plots."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlite.evaluation.report.svg import Scale, drawing, scale_of, text


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_ticks_are_few_and_lie_within_the_scale(low: float, width: float):
    scale = Scale(low=low, high=low + width, start=0, stop=100)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 6
    assert all(scale.low - 1e-6 * width <= tick <= scale.high + 1e-6 * width for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_a_scale_draws_its_ends_at_its_ends_and_what_is_beyond_as_well():
    scale = Scale(low=10, high=20, start=100, stop=0)
    assert [scale(value) for value in (10, 15, 20, 99, -99)] == [100, 50, 0, 0, 100]


def test_powers_of_ten_lie_evenly_on_a_logarithmic_scale():
    scale = Scale(low=1, high=1000, start=0, stop=90, log=True)
    assert scale.ticks() == [1, 10, 100, 1000]
    assert [scale(tick) for tick in scale.ticks()] == pytest.approx([0, 30, 60, 90])


def test_a_scale_of_equal_or_no_values_still_has_a_width():
    for values in ([], [3.0, 3.0], [float("nan")], [0.0]):
        for zero in (True, False):
            scale = scale_of(values, start=0, stop=1, zero=zero)
            assert scale.low < scale.high


def test_text_of_a_drawing_is_never_markup():
    drawn = drawing(10, 10, 'a "title" <b>', [text(0, 0, "<script>&")])
    [shown] = ElementTree.fromstring(str(drawn))
    assert shown.text == "<script>&"
