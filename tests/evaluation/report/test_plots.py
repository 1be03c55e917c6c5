"""What is drawn is what was given: as many marks as numbers, in their order."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from nnlite.evaluation.report.plots import (
    MOST_POINTS,
    Curve,
    Estimate,
    Point,
    Span,
    Strip,
    curves,
    histogram,
    intervals,
    scatter,
    spans,
    strips,
)


def marks(drawn: str, kind: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(str(drawn)).iter() if one.get("class") == kind]


def test_the_bars_of_a_histogram_hold_every_case():
    for values in ([5.0] * 7, [1, 2, 2, 3], [0.1, 0.25, 0.9], [10**6, 1]):
        titles = [bar[0].text or "" for bar in marks(histogram(values, label="x"), "bar")]
        assert sum(int(title.split(": ")[1].removesuffix(" cases")) for title in titles) == len(values)


def test_a_strip_has_a_dot_per_case_further_right_for_larger_values_and_its_median_in_the_box():
    values = [0.9, 0.2, math.nan, 0.5]
    drawn = strips([Strip(name="liver", colour="#000", values=values, cases="abcd")], label="Dice", limits=(0, 1))
    dots = marks(drawn, "dot")
    assert [dot[0].text for dot in dots] == ["b: 0.2", "d: 0.5", "a: 0.9"]
    places = [float(dot.get("cx") or 0) for dot in dots]
    assert places == sorted(places)
    [median] = marks(drawn, "median")
    assert float(median.get("x1") or 0) == places[1]


def test_of_very_many_cases_some_are_drawn_and_the_worst_and_best_among_them():
    values = [number / 10_000 for number in range(10_000)]
    row = Strip(name="liver", colour="#000", values=values, cases=[str(number) for number in range(10_000)])
    dots = marks(strips([row], label="Dice"), "dot")
    assert len(dots) == MOST_POINTS
    assert (dots[0][0].text, dots[-1][0].text) == ("0: 0", "9999: 1")


def test_a_label_that_is_defined_nowhere_is_said_to_be_so():
    drawn = strips([Strip(name="spleen", colour="#000", values=[math.nan], cases=["a"])], label="Dice")
    assert "not defined in any case" in drawn


def test_a_curve_goes_through_its_points_and_a_single_point_is_a_dot():
    line = Curve(name="fold0", colour="#000", points=[(1, 1.0), (2, math.nan), (3, 0.5)])
    [drawn] = marks(curves([line], label="loss", x_label="epoch"), "line")
    assert len((drawn.get("points") or "").split()) == 2
    alone = Curve(name="fold0", colour="#000", points=[(1, 1.0)])
    assert len(marks(curves([alone], label="loss", x_label="epoch"), "dot")) == 1
    assert marks(curves([], label="loss", x_label="epoch"), "line") == []


def test_an_interval_reaches_from_end_to_end_around_its_estimate():
    rows = [
        Estimate(name="3d", value=0.8, interval=(0.7, 0.9), marked=True),
        Estimate(name="2d", value=0.75, interval=None, marked=False),
    ]
    drawn = intervals(rows, label="mean Dice")
    [bar], dots = marks(drawn, "bar"), marks(drawn, "dot")
    left, width = float(bar.get("x") or 0), float(bar.get("width") or 0)
    assert float(dots[0].get("cx") or 0) == pytest.approx(left + width / 2, abs=0.2)
    assert len(dots) == 2


def test_intensities_that_reach_far_out_are_drawn_in_powers_of_ten():
    near = Span(name="CT", low=-1000, percentile_00_5=-900, median=50, percentile_99_5=1500, high=3071)
    far = Span(name="MR", low=0, percentile_00_5=28, median=358, percentile_99_5=272_638, high=465_995)
    assert "10^5" not in spans([near], label="intensity")
    assert "10^5" in spans([far], label="intensity")


def test_a_scatter_plot_leaves_out_what_is_not_defined():
    points = [Point(x=0.8, y=0.7, colour="#000", title="a"), Point(x=math.nan, y=0.7, colour="#000", title="b")]
    assert [dot[0].text for dot in marks(scatter(points, x_label="x", y_label="y"), "dot")] == ["a"]
