"""Average precision of single nuclei, of all and of those that nearly touch, for trained models side by side.

    python benchmarks/cell_instances.py ../shared/data/cells NAME=RUN [NAME=RUN ..] [--json FILE] [--within 3]

RUN is the folder of a run (WORK/cells/runs/2d/fold0) whose held-out cases were predicted: with `--instances distance`,
`border` or `rim` when it was planned, `--loss` when it was trained, or whatever is to be compared; all must hold out
the same cases. Each is scored by its own maps of instances, by these split once more at necks, and, as the baselines
that any mask allows, by the connected parts of its mask and by a watershed on the distance to the background. A nucleus
is counted as touching if the nearest pixel of another one is within so many pixels, centre to centre: 3 means at most
two pixels between them. A predicted object without a match is a false alarm of the touching ones if the nucleus that it
covers most is one of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from nnlite.data.image import read_label
from nnlite.data.instances import components
from nnlite.evaluation.instance_folders import instances_beside
from nnlite.evaluation.instances import THRESHOLDS, InstanceOverlaps, Matches, close_instances
from nnlite.evaluation.masks import pair_masks
from nnlite.evaluation.metrics import dice
from nnlite.preprocessing.instances import split_by_distance

WITHIN_PX = 3.0


def main() -> None:
    """Print a table, and write all numbers as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--within", type=float, default=WITHIN_PX, metavar="PIXELS")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = {name: Path(folder) for name, _, folder in (entry.partition("=") for entry in options.runs)}
    rows = {name: scored(options.dataset / "labels", run / "validation", options.within) for name, run in runs.items()}
    if len({(row["cases"], row["nuclei"], row["touching"]) for row in rows.values()}) > 1:
        parser.error("the runs hold out different cases, so their numbers do not compare")
    print("| run | instances | Dice | AP 0.5 | 0.75 | 0.5 to 0.95 | touching: AP 0.5 | 0.75 | 0.5 to 0.95 | AJI |")
    print("|" + "---|" * 10)
    for name, row in rows.items():
        for way, found in row["ways"].items():
            cells = [f"{value:.3f}" for key in ("all", "touching") for value in _shown(found[key])]
            print(f"| {name} | {way} | {row['dice']:.3f} | {' | '.join(cells)} | {found['aggregated_jaccard']:.3f} |")
    first = next(iter(rows.values()))
    print(f"\n{first['cases']} images, {first['nuclei']} nuclei, {first['touching']} within {options.within:g} pixels")
    if options.json:
        about = {"within_px": options.within, "thresholds": THRESHOLDS, "runs": rows}
        options.json.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def scored(labels: Path, validation: Path, within: float) -> dict[str, Any]:
    """All numbers of one run."""
    pairs, _ = pair_masks(labels, validation)
    counts: dict[str, dict[str, np.ndarray]] = {}
    jaccard: dict[str, list[float]] = {}
    overlap = np.zeros(3, dtype=np.int64)
    nuclei = touching = 0
    for pair in pairs:
        true = components(read_label(pair.truth).array[0] > 0)
        mask = read_label(pair.prediction).array[0] > 0
        overlap += [(mask & (true > 0)).sum(), (mask & (true == 0)).sum(), (~mask & (true > 0)).sum()]
        close = close_instances(true, within)
        nuclei, touching = nuclei + len(close), touching + int(close.sum())
        for way, found in _ways(mask, instances_beside(pair.prediction)).items():
            pairs_met = InstanceOverlaps.of(true, found)
            jaccard.setdefault(way, []).append(pairs_met.aggregated_jaccard())
            sums = counts.setdefault(way, {"all": _nothing(), "touching": _nothing()})
            sums["all"] += [_counts(pairs_met.matches(threshold)) for threshold in THRESHOLDS]
            sums["touching"] += [_counts(pairs_met.matches(threshold, close)) for threshold in THRESHOLDS]
    return {
        "cases": len(pairs),
        "nuclei": nuclei,
        "touching": touching,
        "dice": float(dice(*overlap)),
        "ways": {
            way: {
                "all": _precision(sums["all"]),
                "touching": _precision(sums["touching"]),
                "aggregated_jaccard": float(np.nanmean(jaccard[way])),
            }
            for way, sums in counts.items()
        },
    }


def _ways(mask: np.ndarray, own: Path | None) -> Mapping[str, np.ndarray]:
    """Instances of a mask: as the model found them, and what the mask alone allows."""
    ways = {"parts of the mask": components(mask), "watershed on distance": split_by_distance(mask)}
    if own is None:
        return ways
    predicted = read_label(own).array[0]
    return {"as predicted": predicted, "as predicted, then at necks": _at_necks(predicted), **ways}


def _at_necks(instances: np.ndarray) -> np.ndarray:
    """Each instance split where it is narrow, whatever it borders on."""
    parts = np.zeros(instances.shape, dtype=np.int32)
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is not None:
            inside = instances[box] == number
            parts[box][inside] = split_by_distance(inside)[inside] + parts.max()
    return parts


def _nothing() -> np.ndarray:
    return np.zeros((len(THRESHOLDS), 3), dtype=np.int64)


def _counts(matches: Matches) -> tuple[int, int, int]:
    return matches.found, matches.false_alarms, matches.missed


def _precision(sums: np.ndarray) -> list[float]:
    """Average precision of all images together at each threshold; 0 where there is nothing to find."""
    return (sums[:, 0] / np.maximum(sums.sum(axis=1), 1)).tolist()


def _shown(precision: list[float]) -> tuple[float, float, float]:
    """At 0.5, at 0.75, and the mean."""
    return precision[0], precision[THRESHOLDS.index(0.75)], float(np.mean(precision))


if __name__ == "__main__":
    main()
