"""The kinds of plot in the report: histograms, curves, strips with boxes, intervals, scatter. Numbers in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nnlite.evaluation.report.svg import (
    Scale,
    bar,
    bottom_axis,
    dot,
    drawing,
    left_axis,
    line,
    number,
    path,
    scale_of,
    text,
)

PLOT_WIDTH = 326  # three of them side by side on a laptop
WIDE = 500  # two of them
PLOT_HEIGHT = 190
MOST_BINS = 20  # of a histogram: bars that a reader can still tell apart
MOST_POINTS = 250  # of a curve or a strip: one per pixel or so; more only make the file larger
ROW_PX = 34  # of a strip
LOG_BEYOND = 100  # times the median: what lies so far out would press all else into one pixel
GOLDEN = 0.6180339887  # multiples of it spread evenly: points beside each other do not hide each other
INK = "var(--accent)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line through points (x, y); NaN leaves a gap unbridged only where it is at an end."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One row of a distribution: a value per case."""

    name: str
    colour: str
    values: Sequence[float]
    cases: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its interval; ``marked`` is the one that was chosen."""

    name: str
    value: float
    interval: tuple[float, float] | None
    marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where the numbers of a channel lie."""

    name: str
    low: float
    percentile_00_5: float
    median: float
    percentile_99_5: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A mark in a scatter plot."""

    x: float
    y: float
    colour: str
    title: str


def histogram(values: Sequence[float], *, label: str) -> Markup:
    """How often values occur; whole numbers get bins of whole numbers."""
    low, high = min(values), max(values)
    whole = all(float(value).is_integer() for value in values)
    bins = min(MOST_BINS, len(set(values)))
    if whole and high > low:
        width = math.ceil((high - low + 1) / MOST_BINS)
        edges = np.arange(low, high + width + 1, width) - 0.5
    else:
        air = 0.5 * max(abs(low), 1e-6) if low == high else 0.0
        edges = np.linspace(low - air, high + air, bins + 1)
    counts, edges = np.histogram(values, bins=edges)
    x = Scale(low=float(edges[0]), high=float(edges[-1]), start=44, stop=PLOT_WIDTH - 12)
    y = scale_of([0, int(counts.max())], start=PLOT_HEIGHT - 40, stop=26, zero=True)
    parts = left_axis(y, left=x.start, right=x.stop, label="cases")
    for count, first, last in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            title = f"{number(float(first))} to {number(float(last))}: {count} cases"
            parts.append(bar(x(first) + 0.5, y(count), x(last) - x(first) - 1, y.start - y(count), INK, title))
    parts += bottom_axis(x, top=y.start, bottom=y.start, label=label)
    return drawing(PLOT_WIDTH, PLOT_HEIGHT, f"histogram of {label}: {len(values)} cases, {low:g} to {high:g}", parts)


def curves(series: Sequence[Curve], *, label: str, x_label: str, limits: tuple[float, float] | None = None) -> Markup:
    """Lines over one axis; ``limits`` fix the vertical axis."""
    points = [point for curve in series for point in curve.points if math.isfinite(point[1])]
    x = Scale(low=1, high=max([2.0, *(point[0] for point in points)]), start=44, stop=PLOT_WIDTH - 12)
    bottom, top = PLOT_HEIGHT + 10 - 40, 26
    if limits is not None:
        y = Scale(low=limits[0], high=limits[1], start=bottom, stop=top)
    else:
        y = scale_of([point[1] for point in points], start=bottom, stop=top, zero=True)
    parts = left_axis(y, left=x.start, right=x.stop, label=label) + bottom_axis(
        x, top=bottom, bottom=bottom, label=x_label
    )
    for curve in series:
        pixels = [(x(where), y(value)) for where, value in thinned(curve.points) if math.isfinite(value)]
        if len(pixels) == 1:
            parts.append(dot(*pixels[0], curve.colour, curve.name))
        elif pixels:
            parts.append(path(pixels, curve.colour, curve.name))
    return drawing(PLOT_WIDTH, PLOT_HEIGHT + 10, f"{label} by {x_label}", parts)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most ``MOST_POINTS`` points: means of neighbours, so that a long training stays a small drawing.

    >>> len(thinned([(float(x), 0.5) for x in range(1000)]))
    250
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    parts = np.array_split(np.array(points, dtype=np.float64), MOST_POINTS)
    return [(float(np.mean(part[:, 0])), float(np.mean(part[:, 1]))) for part in parts]


def strips(rows: Sequence[Strip], *, label: str, limits: tuple[float, float] | None = None) -> Markup:
    """A row per distribution: every case a dot, the box its quartiles, the bar across the median."""
    widest = max(len(row.name) for row in rows)
    left = min(40 + 6.2 * widest, 240)
    width, bottom = WIDE, 8 + ROW_PX * len(rows)
    everything = [value for row in rows for value in row.values]
    if limits is not None:
        x = Scale(low=limits[0], high=limits[1], start=left, stop=width - 14)
    else:
        x = scale_of(everything, start=left, stop=width - 14, zero=True)
    parts = bottom_axis(x, top=6, bottom=bottom, label=label)
    for place, row in enumerate(rows):
        middle = 8 + ROW_PX * (place + 0.5)
        parts.append(text(left - 8, middle + 4, row.name, anchor="end", kind="row"))
        parts += _strip(row, x, middle)
    return drawing(width, bottom + 38, f"distribution of {label}", parts)


def _strip(row: Strip, x: Scale, middle: float) -> list[str]:
    """The dots and the box of one row around a pixel line; values that are not defined are left out."""
    known = sorted((value, case) for value, case in zip(row.values, row.cases, strict=True) if math.isfinite(value))
    if not known:
        return [text(x.start + 6, middle + 4, "not defined in any case", kind="tick")]
    shown = known
    if len(known) > MOST_POINTS:  # evenly by rank, both ends included
        shown = [known[round(rank)] for rank in np.linspace(0, len(known) - 1, MOST_POINTS)]
    parts = []
    for rank, (value, case) in enumerate(shown):
        offset = ((rank * GOLDEN) % 1 - 0.5) * ROW_PX * 0.62
        parts.append(dot(x(value), middle + offset, row.colour, f"{case}: {number(value)}", radius=1.9))
    low, median, high = (float(np.quantile([value for value, _ in known], part)) for part in (0.25, 0.5, 0.75))
    half = ROW_PX * 0.34
    parts.append(
        f'<rect class="box" x="{x(low):.1f}" y="{middle - half:.1f}" width="{max(x(high) - x(low), 1):.1f}" '
        f'height="{2 * half:.1f}" rx="2"/>'
    )
    parts.append(line(x(median), middle - half, x(median), middle + half, "median"))
    return parts


def intervals(rows: Sequence[Estimate], *, label: str) -> Markup:
    """Estimates with their intervals, one below the other."""
    left = min(40 + 6.2 * max(len(row.name) for row in rows), 240)
    width, bottom = WIDE, 8 + 26 * len(rows)
    ends = [end for row in rows for end in (row.value, *(row.interval or ()))]
    x = scale_of(ends, start=left, stop=width - 14)
    parts = bottom_axis(x, top=6, bottom=bottom, label=label)
    for place, row in enumerate(rows):
        middle = 8 + 26 * (place + 0.5)
        colour = INK if row.marked else "var(--muted)"
        parts.append(text(left - 8, middle + 4, row.name, anchor="end", kind="row"))
        if row.interval is not None:
            low, high = row.interval
            parts.append(bar(x(low), middle - 1.5, x(high) - x(low), 3, colour))
        parts.append(dot(x(row.value), middle, colour, f"{row.name}: {number(row.value, 4)}", radius=5))
    return drawing(width, bottom + 38, f"{label} of {len(rows)} candidates, with 95 % intervals", parts)


def spans(rows: Sequence[Span], *, label: str) -> Markup:
    """From the lowest to the highest number, the middle 99 % as a bar, the median across; powers of ten if it must."""
    left = min(40 + 6.2 * max(len(row.name) for row in rows), 240)
    width, bottom = WIDE, 8 + ROW_PX * len(rows)
    lowest, highest = min(row.low for row in rows), max(row.high for row in rows)
    x = scale_of([lowest, highest], start=left, stop=width - 14)
    bulk = [abs(row.median) for row in rows if row.median]
    if lowest >= 0 and bulk and highest > LOG_BEYOND * max(bulk):  # else a line would hold all of the bulk
        powers = math.floor(math.log10(min(bulk))) - 1, math.ceil(math.log10(highest))
        x = Scale(low=10.0 ** powers[0], high=10.0 ** powers[1], start=left, stop=width - 14, log=True)
    parts = bottom_axis(x, top=6, bottom=bottom, label=label)
    for place, row in enumerate(rows):
        middle = 8 + ROW_PX * (place + 0.5)
        low, early, median, late, high = (
            x(max(value, x.low)) for value in (row.low, row.percentile_00_5, row.median, row.percentile_99_5, row.high)
        )
        parts += [
            text(left - 8, middle + 4, row.name, anchor="end", kind="row"),
            line(low, middle, high, middle, "axis"),
            bar(early, middle - 7, late - early, 14, INK),
            line(median, middle - 10, median, middle + 10, "median"),
        ]
    return drawing(width, bottom + 38, f"{label}: lowest, middle 99 %, highest", parts)


def scatter(points: Sequence[Point], *, x_label: str, y_label: str) -> Markup:
    """Predicted against true shares, both from 0 to 1, with the line on which they are equal."""
    size = PLOT_WIDTH + 60
    known = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    low = min([0.9, *(math.floor(min(point.x, point.y) * 10) / 10 for point in known)])
    x = Scale(low=low, high=1, start=44, stop=size - 14)
    y = Scale(low=low, high=1, start=size - 40, stop=26)
    parts = left_axis(y, left=x.start, right=x.stop, label=y_label)
    parts += bottom_axis(x, top=y.stop, bottom=y.start, label=x_label)
    parts.append(line(x(low), y(low), x(1), y(1), "median"))
    parts += [dot(x(point.x), y(point.y), point.colour, point.title, radius=3) for point in known]
    return drawing(size, size, f"{y_label} against {x_label}: {len(known)} cases", parts)
