"""The tables that a reader sorts and filters: columns and rows as compact data, shown by ``tables.js``.

A cross-validation easily has ten thousand rows. As data they take a tenth of what they take as HTML, and the page shows
a part of them at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from nnlite.evaluation.report.contents import DatasetFacts, ScoredCandidate
from nnlite.evaluation.report.volumes import deflated
from nnlite.evaluation.scores import LabelScore

Cell = str | float | None

SIGNIFICANT = 5  # digits that are sent: more than are shown, so that sorting is exact to the eye


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its heading, what it means, its kind; one with ``filter`` can be narrowed to one of its values."""

    title: str
    about: str = ""
    numeric: bool = True
    digits: int = 3
    filter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A field of ``LabelScore`` in words. ``limits`` are the ends of its axis, None where it has none."""

    field: str
    title: str
    about: str
    digits: int = 3
    limits: tuple[float, float] | None = None


def metrics(*, planar: bool) -> tuple[Metric, ...]:
    """All measures of a case and label; distances of pictures are in pixels, and their volumes mean nothing."""
    length = "px" if planar else "mm"
    share = (0.0, 1.0)
    volumes = (
        Metric(field="truth_ml", title="true ml", about="volume in the truth"),
        Metric(field="prediction_ml", title="pred. ml", about="volume in the prediction"),
        Metric(field="volume_error_ml", title="error ml", about="prediction less truth"),
    )
    voxels = (
        Metric(field="truth_voxels", title="true px", about="pixels in the truth", digits=0),
        Metric(field="prediction_voxels", title="pred. px", about="pixels in the prediction", digits=0),
    )
    return (
        Metric(field="dice", title="Dice", about="2 x overlap / (truth + prediction)", limits=share),
        Metric(field="iou", title="IoU", about="overlap / union", limits=share),
        Metric(field="sensitivity", title="sens.", about="part of the truth that was found", limits=share),
        Metric(
            field="specificity", title="spec.", about="part of the rest that was left alone", digits=4, limits=share
        ),
        Metric(field="precision", title="prec.", about="part of the prediction that is right", limits=share),
        Metric(field="nsd", title="NSD", about="surface Dice within the tolerance", limits=share),
        Metric(field="hd_mm", title=f"HD {length}", about="Hausdorff distance", digits=2),
        Metric(field="hd95_mm", title=f"HD95 {length}", about="95th percentile of the surface distances", digits=2),
        Metric(field="asd_mm", title=f"ASD {length}", about="average surface distance", digits=2),
        Metric(field="centre_distance_mm", title=f"centre {length}", about="distance of the centres", digits=2),
        *(voxels if planar else volumes),
        Metric(field="lesion_f1", title="lesion F1", about="F1 of connected components", limits=share),
        Metric(
            field="lesion_sensitivity", title="lesion sens.", about="part of the true components found", limits=share
        ),
        Metric(field="lesion_dice", title="lesion Dice", about="mean Dice by true component", limits=share),
    )


def score_table(candidates: Sequence[ScoredCandidate], *, planar: bool) -> str:
    """Every case, label and candidate with all of its measures, packed for the page."""
    shown = metrics(planar=planar)
    columns = [
        Column(title="case", numeric=False),
        Column(title="label", numeric=False, filter=True),
        Column(title="configuration", numeric=False, filter=True),
        *(Column(title=one.title, about=one.about, digits=one.digits) for one in shown),
    ]
    rows = [
        [row.case, row.label, candidate.name, *(measure(row, metric.field) for metric in shown)]
        for candidate in candidates
        for row in candidate.scores.rows
    ]
    return _packed(columns, rows)


def case_table(dataset: DatasetFacts, main: ScoredCandidate | None) -> str:
    """Every case of the dataset: its size, its fold, its scores so far, packed for the page."""
    dice: dict[str, list[float]] = {}
    for row in main.scores.rows if main else ():
        if not math.isnan(row.dice):
            dice.setdefault(row.case, []).append(row.dice)
    told = [name for name in ("group", "site", "annotated") if any(getattr(case, name) for case in dataset.cases)]
    sizes = ["y pixels", "x pixels"] if dataset.planar else ["z voxels", "y voxels", "x voxels"]
    steps = [] if dataset.planar else ["z mm", "y mm", "x mm"]  # pictures have none
    columns = [
        Column(title="case", numeric=False),
        Column(title="held out by", numeric=False, filter=True),
        *(Column(title=name, numeric=False, filter=name == "site") for name in told),
        *(Column(title=title, about="after cropping zeros away", digits=0) for title in sizes),
        *(Column(title=title, about="distance of neighbouring voxels", digits=3) for title in steps),
        Column(title="mean Dice", about="over labels, where held out and scored"),
    ]
    rows: list[list[Cell]] = []
    for case in dataset.cases:
        known = dice.get(case.case_id)
        shape, spacing = case.shape or (None,) * 3, case.spacing_mm or (None,) * 3
        mean = rounded(sum(known) / len(known)) if known else None
        numbers = [*shape[-len(sizes) :], *spacing[: len(steps)], mean]
        rows.append([case.case_id, case.fold, *(getattr(case, name) for name in told), *numbers])
    return _packed(columns, rows)


def measure(row: LabelScore, field: str) -> float | None:
    """A number of a row, None where it is not defined."""
    value: float = getattr(row, field)
    return rounded(value)


def rounded(value: float) -> float | None:
    """So many significant digits as are sent; None for NaN.

    >>> rounded(0.123456789), rounded(float("nan"))
    (0.12346, None)
    """
    return None if math.isnan(value) else float(f"{value:.{SIGNIFICANT}g}")


def _packed(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    content = {"columns": [asdict(column) for column in columns], "rows": rows}
    return deflated(json.dumps(content, separators=(",", ":"), allow_nan=False).encode())
