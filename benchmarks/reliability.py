"""Can a single prediction be trusted? Expected against true Dice of held-out cases, and what raises a warning.

    python benchmarks/reliability.py DATASET [DATASET ...] --work WORK [--json FILE] [--plot FILE.png]

Each dataset was trained by cross-validation, and selected with ``nnlite select``; of one that was only planned, the
images alone are looked at. Prints three tables. First, how the
expected Dice (by a fit on the other folds) and each single feature rank the held-out cases, beside their true Dice.
Second, how many held-out images raise a warning as they are, and when they are mirrored, rescaled or of another kind:
each compared with the training images of its own fold alone. Third, what measuring costs: processor seconds of a
prediction with and without it, in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from nnlite.data.channels import read_channels
from nnlite.data.dataset import find_dataset
from nnlite.data.image import Image
from nnlite.data.records import read_record
from nnlite.evaluation.reliability import FEATURES, HeldOutReliability, rank_correlation
from nnlite.inference.ensemble import predict_cases
from nnlite.inference.familiarity import familiarity
from nnlite.inference.predict import ready_case
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.pipeline.choose_runs import choose_runs, load_models
from nnlite.pipeline.cross_validated import held_out_by_fold
from nnlite.pipeline.reliability import read_reliability
from nnlite.pipeline.selection import Selection
from nnlite.planning.appearance import look, merge_looks
from nnlite.planning.planner import Plan
from nnlite.workspace import Workspace

RESAMPLES = 2000  # the ends of an interval then vary by about 2 % of its width
TIMED_CASES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """How one label's held-out cases are ranked; rank correlations are with the true Dice."""

    dataset: str
    label: str
    cases: int
    mean_dice: float
    std_dice: float
    spearman: float | None
    interval: tuple[float, float]
    error: float
    error_of_the_mean: float
    features: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warnings:
    """How many images raise a warning after a change, and by which checks."""

    dataset: str
    change: str
    images: int
    warned: int
    checks: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Processor seconds of predicting the same cases with and without measuring their reliability."""

    dataset: str
    cases: int
    with_it_s: float
    without_s: float


def judged(dataset: str, workspace: Workspace, label: str) -> Trust:
    """How well the Dice of one label was foretold; cases without a Dice or a prediction are left out."""
    rows = [row for row in read_reliability(workspace) if row.label == label]
    rows = [row for row in rows if row.dice is not None and row.expected_dice is not None]
    true, expected = (np.array([getattr(row, name) for row in rows]) for name in ("dice", "expected_dice"))
    rng = np.random.default_rng(12345)
    drawn = [rng.integers(len(rows), size=len(rows)) for _ in range(RESAMPLES)]
    resampled = [rank_correlation(expected[cases], true[cases]) or 0.0 for cases in drawn]
    low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
    calibration = read_record(workspace.selection, Selection).reliability[label]
    return Trust(
        dataset=dataset,
        label=label,
        cases=len(rows),
        mean_dice=float(true.mean()),
        std_dice=float(true.std()),
        spearman=rank_correlation(expected, true),
        interval=(low, high),
        error=calibration.mean_absolute_error,
        error_of_the_mean=calibration.error_of_the_mean,
        features={name: _alone(rows, name, true) for name in FEATURES},
    )


def _alone(rows: Sequence[HeldOutReliability], feature: str, true: np.ndarray) -> float | None:
    values = [getattr(row, feature) for row in rows]
    return None if None in values else rank_correlation(np.array(values), true)


def warned(name: str, images: dict[str, Image], others: Sequence[Image], workspace: Workspace) -> list[Warnings]:
    """How many held-out images raise a warning, as they are and changed; ``others`` are of another kind."""
    plan = read_record(workspace.plan, Plan)
    configuration = next(iter(plan.configurations.values()))  # all of them normalise alike
    looks = {case_id: look(case_id, image) for case_id, image in images.items()}
    changes = _changes(others)
    found: dict[str, Counter[str]] = {change: Counter() for change in changes}
    for split in held_out_by_fold(workspace).values():
        known = merge_looks(looks[case_id] for case_id in split.train)
        for number, case_id in enumerate(split.validation):
            for change, make in changes.items():
                findings = familiarity(make(images[case_id], number), known, plan, configuration).findings
                found[change].update({"images", *({"warned"} if findings else ()), *(one.check for one in findings)})
    return [
        Warnings(
            dataset=name,
            change=change,
            images=counts.pop("images"),
            warned=counts.pop("warned", 0),
            checks=dict(sorted(counts.items())),
        )
        for change, counts in found.items()
    ]


def _changes(others: Sequence[Image]) -> dict[str, Callable[[Image, int], Image]]:
    """What is done to an image, by name; with its number, to take another one for it."""

    def array(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Image, int], Image]:
        return lambda image, number: replace(image, array=change(image.array.astype(np.float32)))

    def spaced(factor: float) -> Callable[[Image, int], Image]:
        def change(image: Image, number: int) -> Image:
            z, y, x = (factor * step for step in image.geometry.spacing_mm)
            return replace(image, geometry=replace(image.geometry, spacing_mm=(z, y, x)))

        return change

    def wrong_header(image: Image, number: int) -> Image:
        z, y, x = image.stored.flips
        turned = replace(image.stored, flips=(z, y, not x))
        return replace(image, array=image.array[..., ::-1], stored=turned)

    changes: dict[str, Callable[[Image, int], Image]] = {
        "as it is": lambda image, number: image,
        "voxels mirrored left to right": array(lambda a: a[..., ::-1]),
        "header mirrored left to right": wrong_header,
        "spacing x 2 in the header": spaced(2),
        "spacing / 2 in the header": spaced(0.5),
        "intensities x 3": array(lambda a: 3 * a),
        "intensities / 1000": array(lambda a: a / 1000),
        "intensities + 1024": array(lambda a: a + 1024),
    }
    if others:
        changes["image of the other dataset"] = lambda image, number: others[number % len(others)]
        changes["its voxels on this image's grid"] = lambda image, number: _on_grid(image, others[number % len(others)])
    return changes


def _on_grid(image: Image, other: Image) -> Image:
    """The middle of another image in the geometry of this one; where it is too small, it is repeated."""
    array = other.array
    for axis, size in enumerate(image.array.shape[1:], start=1):
        first = max(0, (array.shape[axis] - size) // 2)
        array = array.take(np.arange(first, first + size) % array.shape[axis], axis=axis)
    return replace(image, array=array)


def measure_cost(name: str, dataset: Path, workspace: Workspace, images: dict[str, Image]) -> Cost:
    """Predict a few cases with the selected model, with and without a meter."""
    models = load_models(choose_runs(dataset, workspace.root), device=torch.device("cpu"), mirroring=True, step=0.5)
    seconds = {True: 0.0, False: 0.0}
    chosen = list(images.items())[:TIMED_CASES]
    for case_id, image in chosen:
        cases = [ready_case(model, case_id, image) for model in models]
        predict_cases(models, cases)  # warms up
        for measuring in (True, False, False, True):
            started = time.process_time()
            predict_cases(models, cases, meter=ReliabilityMeter(models[0].plan.labels) if measuring else None)
            seconds[measuring] += time.process_time() - started
    return Cost(dataset=name, cases=len(chosen), with_it_s=seconds[True] / 2, without_s=seconds[False] / 2)


def plot(path: Path, by_dataset: Mapping[str, Sequence[HeldOutReliability]]) -> None:
    """Expected against true Dice, a panel for each dataset, a colour for each label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(by_dataset), 4.0), layout="constrained")
    panels = figure.subplots(1, len(by_dataset), squeeze=False)[0]
    for panel, (name, rows) in zip(panels, by_dataset.items(), strict=True):
        known = [row for row in rows if row.dice is not None and row.expected_dice is not None]
        for label in dict.fromkeys(row.label for row in known):
            points = [(row.expected_dice, row.dice) for row in known if row.label == label]
            panel.scatter(*zip(*points, strict=True), s=10, alpha=0.7, label=label)
        ends = [value for row in known for value in (row.expected_dice, row.dice) if value is not None]
        line = [min(ends, default=0), max(ends, default=1)]
        panel.plot(line, line, color="0.6", linewidth=1)
        panel.set(title=name, xlabel="expected Dice", ylabel="true Dice")
        panel.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def show(trusted: Sequence[Trust], warnings: Sequence[Warnings], costs: Sequence[Cost]) -> None:
    """Print the three tables as Markdown."""
    print("| dataset | label | cases | Dice | rank correlation (95 %) | error | error of always the mean | alone |")
    print("|---|---|---|---|---|---|---|---|")
    for one in trusted:
        low, high = one.interval
        alone = ", ".join(f"{name} {value:.2f}" for name, value in one.features.items() if value is not None)
        rank = "-" if one.spearman is None else f"{one.spearman:.2f} ({low:.2f} to {high:.2f})"
        print(
            f"| {one.dataset} | {one.label} | {one.cases} | {one.mean_dice:.3f} ± {one.std_dice:.3f} | {rank} "
            f"| {one.error:.3f} | {one.error_of_the_mean:.3f} | {alone} |"
        )
    print("\n| dataset | change | warned | checks |\n|---|---|---|---|")
    for change in warnings:
        checks = ", ".join(f"{name} {count}" for name, count in change.checks.items())
        print(f"| {change.dataset} | {change.change} | {change.warned} of {change.images} | {checks} |")
    print("\n| dataset | cases | with, s | without, s | more |\n|---|---|---|---|---|")
    for cost in costs:
        more = cost.with_it_s / cost.without_s - 1
        print(f"| {cost.dataset} | {cost.cases} | {cost.with_it_s:.2f} | {cost.without_s:.2f} | {more:+.1%} |")


def main() -> None:
    """Measure, print, and keep what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--plot", type=Path, help="file for the picture")
    options = parser.parse_args()
    found = {path: find_dataset(path) for path in options.datasets}
    images = {path: {one.id: read_channels(one.images) for one in data.cases} for path, data in found.items()}
    rows: dict[str, Sequence[HeldOutReliability]] = {}
    trusted, warnings, costs = [], [], []
    for path, data in found.items():
        workspace = Workspace(root=options.work, dataset=data.name)
        others = [image for other in options.datasets if other != path for image in images[other].values()]
        warnings += warned(data.name, images[path], others, workspace)
        if workspace.selection.exists():
            labels = read_record(workspace.selection, Selection).reliability
            rows[data.name] = read_reliability(workspace)
            trusted += [judged(data.name, workspace, label) for label in labels]
            costs.append(measure_cost(data.name, path, workspace, images[path]))
    show(trusted, warnings, costs)
    if options.json:
        content = {
            "trust": [asdict(one) for one in trusted],
            "warnings": [asdict(one) for one in warnings],
            "cost": [asdict(one) for one in costs],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        plot(options.plot, rows)


if __name__ == "__main__":
    main()
