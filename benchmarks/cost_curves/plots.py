"""Plots of a results file of cost_curves.py, one figure for each thing that was varied.

    python benchmarks/cost_curves/plots.py benchmarks/results/cost-curves-cpu.json docs/images

Left the wall time (dotted: processor time), right the largest resident set. All axes are logarithmic; the dashed line
shows what strict proportion would be. A number behind a curve's name is its slope between its last two points: 1 is
proportional, 0 flat.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

COLOURS = {"preprocess": "#0072b2", "restore": "#009e73", "predict": "#d55e00", "evaluate": "#cc79a7"}
MARKERS = {"preprocess": "o", "restore": "s", "predict": "^", "evaluate": "D"}
GREY = "#999999"
BESIDE = 0.8  # how far below the lowest curve the dashed line starts
ROOM = 1.2  # above and below the curves, so that at least two ticks are in sight
TITLES = {
    "voxels": "million voxels in the image (6 labels, 1 case)",
    "labels": "labels, background included (1 case of 96 x 192 x 192 voxels)",
    "cases": "cases of 48 x 96 x 96 voxels (6 labels)",
    "cores": "processor cores (8 cases of 48 x 96 x 96 voxels; restore: 1 of 96 x 192 x 192)",
}
Point = Mapping[str, Any]


def place(point: Point, varied: str) -> float:
    """Where on the horizontal axis a point lies."""
    return math.prod(point["shape"]) / 1e6 if varied == "voxels" else float(point[varied])


def slope(points: Sequence[Point], varied: str, cost: str) -> float:
    """Exponent of the growth between the last two points."""
    before, last = points[-2:]
    grown = math.log(place(last, varied) / place(before, varied))
    return math.log(last[cost] / before[cost]) / grown


def draw(axes: Axes, points: Sequence[Point], varied: str, cost: str, label: str) -> None:
    """One panel: a curve for each stage."""
    stages = [stage for stage in COLOURS if any(point["stage"] == stage for point in points)]
    for stage in stages:
        curve = [point for point in points if point["stage"] == stage]
        across, up = [place(point, varied) for point in curve], [point[cost] for point in curve]
        if cost == "wall_s":
            axes.plot(across, [point["cpu_s"] for point in curve], color=COLOURS[stage], linewidth=1, linestyle=":")
        name = f"{stage}  {slope(curve, varied, cost):.2f}" if len(curve) > 1 else stage
        axes.plot(across, up, color=COLOURS[stage], marker=MARKERS[stage], markersize=4, linewidth=1.5, label=name)
    places = sorted({place(point, varied) for point in points})
    if cost == "wall_s":
        start = min(point[cost] for point in points if place(point, varied) == places[0])
        grown = (places[-1] / places[0]) ** (-1 if varied == "cores" else 1)
        line = [start * BESIDE, start * BESIDE * grown]
        axes.plot([places[0], places[-1]], line, color=GREY, linewidth=1, linestyle="--", label="in proportion")
        axes.plot([], [], color=GREY, linewidth=1, linestyle=":", label="processor time")
    axes.set(xscale="log", yscale="log", ylabel=label)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}" if value < 10 else f"{value:.0f}"))
    low, high = axes.get_ylim()
    axes.set_ylim(low / ROOM, high * ROOM)
    axes.tick_params(labelsize=8)
    axes.grid(True, color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def figure(points: Sequence[Point], varied: str, path: Path) -> None:
    """Both panels of one curve, written without a date, so that equal numbers give equal files."""
    drawn = [point for point in points if point["varied"] == varied]
    picture, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
    draw(left, drawn, varied, "wall_s", "wall time, s")
    draw(right, drawn, varied, "peak_gib", "largest resident set, GiB")
    picture.supxlabel(TITLES[varied], fontsize=9)
    picture.savefig(path, metadata={"Date": None})
    plt.close(picture)


def main() -> None:
    """Draw all figures of a results file."""
    results, folder = Path(sys.argv[1]), Path(sys.argv[2])
    points = json.loads(results.read_text())["points"]
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {"svg.hashsalt": "nnlite", "font.size": 9}
    for varied in TITLES:
        figure(points, varied, folder / f"cost-{varied}.svg")


if __name__ == "__main__":
    main()
