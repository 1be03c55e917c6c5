"""Average precision of single nuclei, of all and of those that nearly touch, for trained models side by side.

    python benchmarks/cell_instances.py ../shared/data/cells NAME=RUN [NAME=RUN ..] [--json FILE] [--within 3]

Runs of the same NAME are seeds of one model, of which means are shown, beside the average precision of each at 0.5. RUN
is the folder of a run (WORK/cells/runs/2d/fold0), or that of a configuration (WORK/cells/runs/2d) for all of its folds
together, whose held-out cases were predicted: with `--instances distance`,
`border` or `rim` when it was planned, `--loss` when it was trained, or whatever is to be compared; all must hold out
the same cases. Each is scored by its own maps of instances, by these split once more at necks, and, as the baselines
that any mask allows, by the connected parts of its mask and by a watershed on the distance to the background. A nucleus
is counted as touching if the nearest pixel of another one is within so many pixels, centre to centre: 3 means at most
two pixels between them. A predicted object without a match is a false alarm of the touching ones if the nucleus that it
covers most is one of them; specks are objects that cover none.

The gain in average precision at 0.5 over the first NAME's watershed is told with a 95 % interval: images are drawn with
replacement, the same for all, and the seeds of a model averaged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
BASELINE = "watershed on distance"
RESAMPLES = 10_000


def main() -> None:
    """Print a table, and write all numbers as JSON if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--within", type=float, default=WITHIN_PX, metavar="PIXELS")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {}
    for entry in options.runs:
        name, _, folder = entry.partition("=")
        found = scored(options.dataset / "labels", Path(folder), options.within)
        rows.setdefault(name, []).append(found)
    every = [seed for seeds in rows.values() for seed in seeds]
    if len({(*seed["cases"], seed["nuclei"], seed["touching"]) for seed in every}) > 1:
        parser.error("the runs hold out different cases, so their numbers do not compare")
    print_table(rows)
    first = every[0]
    images, nuclei, touching = len(first["cases"]), first["nuclei"], first["touching"]
    print(f"\n{images} images, {nuclei} nuclei, {touching} within {options.within:g} pixels\n")
    gains = {name: gain(seeds, next(iter(rows.values()))) for name, seeds in rows.items()}
    for name, ways in gains.items():
        for way, (mean, low, high) in ways.items():
            print(f"{name}, {way}: AP 0.5 of touching ones {mean:+.3f} ({low:+.3f} to {high:+.3f})")
    if options.json:
        about = {"within_px": options.within, "thresholds": THRESHOLDS, "models": rows, "gains": gains}
        options.json.write_text(json.dumps(about) + "\n", encoding="utf-8")


def print_table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Means of the seeds of each model, with the average precision of each seed at 0.5."""
    precision = "AP 0.5 | 0.75 | 0.5 to 0.95"
    print(f"| model | instances | Dice | {precision} | touching: {precision} | AJI | specks |\n{'|---' * 11}|")
    for name, seeds in rows.items():
        for way in seeds[0]["ways"]:
            found = [seed["ways"][way] for seed in seeds]
            cells = [f"{np.mean([seed['dice'] for seed in seeds]):.3f}"]
            for key in ("all", "touching"):
                each = np.array([_shown(one[key]) for one in found])
                shown = [f"{value:.3f}" for value in each.mean(axis=0)]
                cells += [f"{shown[0]} ({', '.join(f'{value:.3f}' for value in each[:, 0])})", *shown[1:]]
            cells.append(f"{np.mean([one['aggregated_jaccard'] for one in found]):.3f}")
            cells.append(", ".join(str(one["specks"]) for one in found))
            print(f"| {name} | {way} | {' | '.join(cells)} |")


def gain(
    seeds: Sequence[Mapping[str, Any]], baseline: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[float, float, float]]:
    """What each way gains over the baseline in average precision of touching ones at 0.5, and a 95 % interval."""
    images = len(seeds[0]["cases"])
    draws = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
    weights = np.concatenate([np.ones((1, images), dtype=np.int64), draws])  # as it was measured comes first

    def precision(model: Sequence[Mapping[str, Any]], way: str) -> np.ndarray:
        counts = weights @ np.array([seed["ways"][way]["touching_at_half"] for seed in model])  # (seeds, draws, 3)
        return (counts[..., 0] / np.maximum(counts.sum(axis=-1), 1)).mean(axis=0)

    told = {}
    for way in seeds[0]["ways"]:
        more = precision(seeds, way) - precision(baseline, BASELINE)
        low, high = np.quantile(more[1:], (0.025, 0.975))
        told[way] = (float(more[0]), float(low), float(high))
    return told


def scored(labels: Path, run: Path, within: float) -> dict[str, Any]:
    """All numbers of one run, or of all folds of a configuration."""
    pairs = sorted(
        (pair for held_out in sorted(run.glob("**/validation")) for pair in pair_masks(labels, held_out)[0]),
        key=lambda pair: pair.case_id,
    )
    ways: dict[str, list[_Met]] = {}
    overlap = np.zeros(3, dtype=np.int64)
    nuclei = touching = 0
    for pair in pairs:
        true = components(read_label(pair.truth).array[0] > 0)
        mask = read_label(pair.prediction).array[0] > 0
        overlap += [(mask & (true > 0)).sum(), (mask & (true == 0)).sum(), (~mask & (true > 0)).sum()]
        close = close_instances(true, within)
        nuclei, touching = nuclei + len(close), touching + int(close.sum())
        for way, found in _ways(mask, instances_beside(pair.prediction)).items():
            ways.setdefault(way, []).append(_Met.of(true, found, close))
    return {
        "cases": [pair.case_id for pair in pairs],
        "nuclei": nuclei,
        "touching": touching,
        "dice": float(dice(*overlap)),
        "ways": {
            way: {
                "all": _precision([one.all for one in met]),
                "touching": _precision([one.touching for one in met]),
                "touching_at_half": [one.touching[0].tolist() for one in met],
                "aggregated_jaccard": float(np.nanmean([one.aggregated_jaccard for one in met])),
                "specks": sum(one.specks for one in met),
            }
            for way, met in ways.items()
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Met:
    """How predicted instances of one image meet the true ones: found, false alarms, missed at each threshold."""

    all: np.ndarray
    touching: np.ndarray
    aggregated_jaccard: float
    specks: int

    @classmethod
    def of(cls, true: np.ndarray, found: np.ndarray, close: np.ndarray) -> _Met:
        met = InstanceOverlaps.of(true, found)
        return cls(
            all=np.array([_counts(met.matches(threshold)) for threshold in THRESHOLDS]),
            touching=np.array([_counts(met.matches(threshold, close)) for threshold in THRESHOLDS]),
            aggregated_jaccard=met.aggregated_jaccard(),
            specks=len(np.setdiff1d(found[found > 0], found[true > 0])),
        )


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


def _counts(matches: Matches) -> tuple[int, int, int]:
    return matches.found, matches.false_alarms, matches.missed


def _precision(images: Sequence[np.ndarray]) -> list[float]:
    """Average precision of all images together at each threshold; 0 where there is nothing to find."""
    sums = np.sum(images, axis=0)
    return (sums[:, 0] / np.maximum(sums.sum(axis=1), 1)).tolist()


def _shown(precision: list[float]) -> tuple[float, float, float]:
    """At 0.5, at 0.75, and the mean."""
    return precision[0], precision[THRESHOLDS.index(0.75)], float(np.mean(precision))


if __name__ == "__main__":
    main()
