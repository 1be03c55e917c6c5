"""Which plots a report has: from its contents to drawings, section by section."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnlite.evaluation.palette import hexadecimal, label_colour
from nnlite.evaluation.report.contents import (
    Course,
    DatasetFacts,
    Evidence,
    Reliability,
    ReportContents,
    ScoredCandidate,
)
from nnlite.evaluation.report.plots import (
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
from nnlite.evaluation.report.tables import Metric, metrics

DISTRIBUTIONS = ("dice", "nsd", "hd95_mm", "asd_mm", "volume_error_ml")  # overlap, surface, outliers, volume
LEAST_SPREAD = 0.8  # an axis of shares reaches down to it at least: small differences are not to look large
MOST_ROWS = 16  # of a plot of distributions; with more only the main candidate's are drawn
TRAINING, VALIDATION = hexadecimal(label_colour(2)), hexadecimal(label_colour(1))
AXES = ("z", "y", "x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A drawing with the sentence below it; ``legend`` has names and colours."""

    drawing: Markup
    caption: str
    legend: tuple[tuple[str, str], ...] = ()


def dataset_figures(
    dataset: DatasetFacts, main: ScoredCandidate | None, channels: Sequence[str], labels: Sequence[str]
) -> list[Figure]:
    """Sizes, spacings and intensities of the cases; volumes of the labels as far as held-out cases are scored."""
    axes = [1, 2] if dataset.planar else [0, 1, 2]
    unit = "pixels" if dataset.planar else "voxels"
    shapes, spacings = dataset.fingerprint.shapes_after_crop, dataset.fingerprint.spacings_mm
    figures = [
        Figure(drawing=histogram([shape[axis] for shape in shapes], label=f"{AXES[axis]} ({unit})"), caption="")
        for axis in axes
    ]
    for axis in [] if dataset.planar else axes:
        steps = [round(spacing[axis], 4) for spacing in spacings]
        if len(set(steps)) > 1:
            figures.append(Figure(drawing=histogram(steps, label=f"{AXES[axis]} spacing (mm)"), caption=""))
    figures.append(_intensity_figure(dataset, channels))
    if main is not None:
        field, name = ("truth_voxels", "true area (pixels)") if dataset.planar else ("truth_ml", "true volume (ml)")
        rows = _strips([main], labels, field, named=False)
        figures.append(
            Figure(
                drawing=strips(rows, label=name),
                caption=f"Of the {len(main.scores.cases)} held-out cases that are scored.",
            )
        )
    return figures


def _intensity_figure(dataset: DatasetFacts, channels: Sequence[str]) -> Figure:
    rows = [
        Span(
            name=name,
            low=of.min,
            percentile_00_5=of.percentile_00_5,
            median=of.median,
            percentile_99_5=of.percentile_99_5,
            high=of.max,
        )
        for name, of in zip(channels, dataset.fingerprint.intensities, strict=True)
    ]
    caption = "Of labelled voxels, every case weighing alike: lowest to highest, the middle 99 % as a bar, the median."
    return Figure(drawing=spans(rows, label="intensity"), caption=caption)


def training_figures(courses: Sequence[Course], labels: Sequence[str]) -> list[Figure]:
    """Loss, pseudo Dice and learning rate of the folds of one configuration, a thin line per fold."""
    shown = [course for course in courses if course.epochs]
    loss = [
        curve
        for course in shown
        for curve in (
            _curve(f"{course.fold}, training", TRAINING, ((e.epoch, e.train_loss) for e in course.epochs)),
            _curve(f"{course.fold}, validation", VALIDATION, ((e.epoch, e.validation_loss) for e in course.epochs)),
        )
    ]
    dice = [
        _curve(f"{course.fold}, {label}", colour, ((e.epoch, e.pseudo_dice[place]) for e in course.epochs))
        for course in shown
        for place, (label, colour) in enumerate(label_legend(labels))
    ]
    rate = [
        _curve(course.fold, "var(--accent)", ((e.epoch, e.learning_rate) for e in course.epochs)) for course in shown
    ]
    return [
        Figure(
            drawing=curves(loss, label="loss", x_label="epoch"),
            caption=f"{', '.join(dict.fromkeys(course.loss for course in shown))} on patches; lower is better.",
            legend=(("training", TRAINING), ("validation", VALIDATION)),
        ),
        Figure(
            drawing=curves(dice, label="pseudo Dice", x_label="epoch", limits=(0, 1)),
            caption="On patches of held-out cases.",
            legend=tuple(label_legend(labels)),
        ),
        Figure(drawing=curves(rate, label="learning rate", x_label="epoch"), caption="At the start of each epoch."),
    ]


def distribution_figures(contents: ReportContents) -> list[Figure]:
    """How the measures spread over the held-out cases, a row per label and candidate."""
    labels = contents.labels.structures
    candidates: Sequence[ScoredCandidate] = contents.candidates
    if len(candidates) * len(labels) > MOST_ROWS and contents.main is not None:
        candidates = [contents.main]
    drawn = []
    for metric in _distributed(planar=contents.dataset.planar):
        rows = _strips(candidates, labels, metric.field, named=len(candidates) > 1)
        worst = [value for row in rows for value in row.values if value == value]
        if not worst:
            continue
        lowest = math.floor(10 * min([*worst, LEAST_SPREAD])) / 10
        limits = (lowest, 1.0) if metric.limits else None
        drawn.append(Figure(drawing=strips(rows, label=metric.title, limits=limits), caption=_sentence(metric.about)))
    return drawn


def selection_figure(evidence: Evidence) -> Figure:
    """All candidates with their intervals."""
    rows = [
        Estimate(
            name=" + ".join(one.members),
            value=one.mean_dice,
            interval=one.mean_dice_interval,
            marked=place == 0,
        )
        for place, one in enumerate(evidence.candidates)
    ]
    return Figure(
        drawing=intervals(rows, label="mean Dice"),
        caption="Mean over labels of the mean over held-out cases; bars hold 95 % of 10,000 bootstrap resamples.",
    )


def reliability_figures(reliability: Reliability | None, labels: Sequence[str]) -> list[Figure]:
    """Expected against true Dice, a plot per label, so that each shows its own spread."""
    drawn = []
    for label, colour in label_legend(labels):
        points = [
            Point(x=row.expected_dice, y=row.dice, colour=colour, title=f"{row.case}, {row.fold}")
            for row in (reliability.rows if reliability else ())
            if row.label == label and row.expected_dice is not None and row.dice is not None
        ]
        if points:
            plot = scatter(points, x_label=f"expected Dice of {label}", y_label="true Dice")
            drawn.append(Figure(drawing=plot, caption=f"{len(points)} held-out cases."))
    return drawn


def label_legend(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Names and colours of the foreground labels."""
    return [(label, hexadecimal(label_colour(index))) for index, label in enumerate(labels, start=1)]


def _distributed(*, planar: bool) -> list[Metric]:
    known = {metric.field: metric for metric in metrics(planar=planar)}
    return [known[field] for field in DISTRIBUTIONS if field in known]


def _strips(candidates: Sequence[ScoredCandidate], labels: Sequence[str], field: str, *, named: bool) -> list[Strip]:
    rows = []
    for label, colour in label_legend(labels):
        for candidate in candidates:
            ours = [row for row in candidate.scores.rows if row.label == label]
            rows.append(
                Strip(
                    name=f"{label} · {candidate.name}" if named else label,
                    colour=colour,
                    values=[float(getattr(row, field)) for row in ours],
                    cases=[row.case for row in ours],
                )
            )
    return rows


def _curve(name: str, colour: str, points: Iterable[tuple[int, float | None]]) -> Curve:
    known = [(float(epoch + 1), float("nan") if value is None else value) for epoch, value in points]
    return Curve(name=name, colour=colour, points=known)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
