"""What a perfect network would lose by the way in which borders take objects apart, counted on true masks.

    python benchmarks/perfect_borders.py ../shared/data/cells [--json FILE]

The true instances of every label map of a dataset are made into a mask and a border, or a rim, of some width, and
instances are made from these again: average precision of all images together. docs/how-to/segment-cells.md shows it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nnlite.data.image import read_label
from nnlite.data.instances import components
from nnlite.evaluation.instances import THRESHOLDS, InstanceOverlaps
from nnlite.preprocessing.instance_border import border, rim
from nnlite.preprocessing.instances import split_by_border, split_by_distance

BORDER_WIDTHS = (1, 2, 3, 4)
RIM_WIDTHS = (1, 2, 3)

Split = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Print a row per way, and write all numbers as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    truths = [components(read_label(path).array[0] > 0) for path in sorted((options.dataset / "labels").iterdir())]
    ways: dict[str, Split] = {f"border, {width} pixels": partial(by, border, width) for width in BORDER_WIDTHS}
    ways |= {f"rim, {width} pixels": partial(by, rim, width) for width in RIM_WIDTHS}
    ways["watershed on distance"] = lambda instances: split_by_distance(instances > 0)
    rows = {name: average_precision(truths, split) for name, split in ways.items()}
    nuclei = sum(int(one.max()) for one in truths)
    print("| instances from | AP 0.5 | 0.75 | 0.9 |\n|---|---|---|---|")
    for name, precision in rows.items():
        shown = [f"{precision[THRESHOLDS.index(threshold)]:.4f}" for threshold in (0.5, 0.75, 0.9)]
        print(f"| {name} | {' | '.join(shown)} |")
    print(f"\n{len(truths)} images, {nuclei} objects")
    if options.json:
        about = {"images": len(truths), "objects": nuclei, "thresholds": THRESHOLDS, "precision": rows}
        options.json.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def by(marked: Callable[[np.ndarray, int], np.ndarray], width: int, instances: np.ndarray) -> np.ndarray:
    """Instances made again from the mask and what is marked of it."""
    return split_by_border(instances > 0, marked(instances, width))


def average_precision(truths: Sequence[np.ndarray], split: Split) -> list[float]:
    """Of all images together, at each threshold."""
    sums = np.zeros((len(THRESHOLDS), 3), dtype=np.int64)
    for true in truths:
        overlaps = InstanceOverlaps.of(true, split(true))
        for counts, met in zip(sums, map(overlaps.matches, THRESHOLDS), strict=True):
            counts += (met.found, met.false_alarms, met.missed)
    precision: list[float] = (sums[:, 0] / sums.sum(axis=1)).tolist()
    return precision


if __name__ == "__main__":
    main()
