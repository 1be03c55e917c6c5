"""The few pieces that every plot of the report is made of: scales with round ticks, axes, marks, as SVG text.

Colours that depend on the page (ink, grid) are left to its style sheet by class; text is always escaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

TICKS = 5  # about as many as can be read beside a small plot


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values ``low`` .. ``high`` on pixels ``start`` .. ``stop``; ``log`` spaces powers of ten evenly."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; values beyond the ends are drawn at the ends."""
        low, high, value = (math.log10(part) if self.log else part for part in (self.low, self.high, value))
        share = (value - low) / (high - low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Round values within the scale.

        >>> Scale(low=0, high=0.93, start=0, stop=100).ticks()
        [0.0, 0.2, 0.4, 0.6, 0.8]
        """
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**power for power in range(first, last + 1)]
        step = round_step((self.high - self.low) / TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


def scale_of(values: Iterable[float], *, start: float, stop: float, zero: bool = False) -> Scale:
    """A linear scale that holds all values, with a little air; from 0 on if ``zero``."""
    defined = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(defined), max(defined)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        low, high = (low, low + 1.0) if zero else (low - 0.5, high + 0.5)
    air = (high - low) * 0.04
    return Scale(low=low if zero and low == 0 else low - air, high=high + air, start=start, stop=stop)


def round_step(step: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, .. (and of 0.1, 0.2, ..) that is not below ``step``.

    >>> round_step(0.03), round_step(7.0)
    (0.05, 10.0)
    """
    power = 10.0 ** math.floor(math.log10(step))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9)))


def number(value: float | None, digits: int = 3) -> str:
    """A number for people, in so many significant digits, without exponents where that can be; a dash for none.

    >>> number(0.87143), number(272638.0), number(None), number(1e-9), number(-0.02)
    ('0.871', '272,638', '–', '1e-09', '−0.02')
    """
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}g}" if not 10**digits <= abs(value) < 1e9 else f"{value:,.0f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def drawing(width: float, height: float, title: str, parts: Iterable[str]) -> Markup:
    """A finished drawing; its title is what a screen reader says."""
    return Markup(
        f'<svg class="plot" role="img" width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "tick") -> str:
    """A line of text with its base line at y."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class of the style sheet."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bottom_axis(scale: Scale, *, top: float, bottom: float, label: str = "") -> list[str]:
    """Grid lines, ticks and the name of a horizontal axis."""
    parts = []
    for tick in scale.ticks():
        x, shown = scale(tick), f"10^{math.log10(tick):.0f}" if scale.log and tick >= 1e4 else number(tick)
        parts += [line(x, top, x, bottom, "grid"), text(x, bottom + 14, shown, anchor="middle")]
    parts.append(line(scale.start, bottom, scale.stop, bottom, "axis"))
    if label:
        parts.append(text((scale.start + scale.stop) / 2, bottom + 30, label, anchor="middle", kind="name"))
    return parts


def left_axis(scale: Scale, *, left: float, right: float, label: str = "") -> list[str]:
    """Grid lines, ticks and the name of a vertical axis; the name stands above it, where it can be read."""
    parts = []
    for tick in scale.ticks():
        y = scale(tick)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, number(tick), anchor="end")]
    if label:
        parts.append(text(left, scale.stop - 8, label, kind="name"))
    return parts


def path(points: Sequence[tuple[float, float]], colour: str, title: str, *, width: float = 1.4) -> str:
    """A line through pixels."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline class="line" stroke="{colour}" stroke-width="{width:g}" points="{steps}">'
        f"<title>{escape(title)}</title></polyline>"
    )


def dot(x: float, y: float, colour: str, title: str = "", *, radius: float = 2.2) -> str:
    """A point; its title is shown to who points at it."""
    shown = f"><title>{escape(title)}</title></circle>" if title else "/>"
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"{shown}'


def bar(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    """A filled rectangle."""
    shown = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return (
        f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{height:.1f}" '
        f'fill="{colour}"{shown}'
    )
