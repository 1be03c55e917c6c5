"""Make the page: contents in, one HTML text out, with its style, scripts, drawings and volumes inside.

The page names no address outside of itself, and its content security policy forbids the browser to ask for any. Names
of cases, labels and folders come from the dataset, so everything is escaped (jinja2's autoescape) unless it was made
here as markup.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnlite.evaluation.palette import CONFUSED, EXTRA, MISSED, hexadecimal
from nnlite.evaluation.report import figures, tables
from nnlite.evaluation.report.contents import Course, ReportContents, ScoredCandidate
from nnlite.evaluation.report.svg import number
from nnlite.evaluation.scores import LabelSummary
from nnlite.planning.cost import costs

PACKAGE = "nnlite.evaluation.report"
STYLES = ("report.css",)
SCRIPTS = ("inflate.js", "tables.js", "volume.js", "viewer.js")  # in this order: later ones use earlier ones
SUMMARY = ("dice", "iou", "nsd", "hd95_mm", "asd_mm", "sensitivity", "precision", "volume_error_ml")


def render(contents: ReportContents) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["fixed"] = fixed
    environment.filters["by"] = lambda values, form="g": " × ".join(format(value, form) for value in values)
    environment.filters["duration"] = in_words
    return environment.get_template("page.html").render(_view(contents))


def _view(contents: ReportContents) -> dict[str, Any]:
    """Everything that the templates name."""
    labels = contents.labels.foreground
    folds = {case.fold for case in contents.dataset.cases if case.fold}
    return {
        "report": contents,
        "plan": contents.plan,
        "dataset": contents.dataset,
        "main": contents.main,
        "evidence": contents.evidence,
        "styles": _assets(STYLES),
        "scripts": _assets(SCRIPTS),
        "label_legend": figures.label_legend(labels),
        "error_legend": [
            ("missed", hexadecimal(MISSED)),
            ("extra", hexadecimal(EXTRA)),
            ("another label", hexadecimal(CONFUSED)),
        ],
        "dataset_figures": figures.dataset_figures(contents.dataset, contents.main, contents.plan.channels, labels),
        "costs": costs(contents.plan, max(1, len(folds))),  # where none can be held out, one training has them all
        "trainings": _trainings(contents),
        "environments": sorted(
            {", ".join(f"{k} {v}" for k, v in course.versions.items()) for course in contents.courses}
        ),
        "summary_columns": [one for one in tables.metrics(planar=contents.dataset.planar) if one.field in SUMMARY],
        "summaries": [_summary(candidate) for candidate in contents.candidates],
        "instances": [(one.name, one.instances) for one in contents.candidates if one.instances is not None],
        "distributions": figures.distribution_figures(contents) if contents.candidates else [],
        "selection_figure": figures.selection_figure(contents.evidence) if contents.evidence else None,
        "reliability": contents.reliability,
        "reliability_figures": figures.reliability_figures(contents.reliability, labels),
        "case_table": tables.case_table(contents.dataset, contents.main),
        "score_table": tables.score_table(contents.candidates, planar=contents.dataset.planar),
        "viewer": _viewer(contents),
    }


def in_words(seconds: float) -> str:
    """A duration in its two largest units.

    >>> in_words(8.0), in_words(200.0), in_words(7384.0)
    ('8 s', '3 min 20 s', '2 h 03 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def fixed(value: float | None, decimals: int = 3) -> str:
    """A number with so many decimals, so that columns line up; a dash for none.

    >>> fixed(0.86), fixed(None), fixed(-0.02, 2)
    ('0.860', '–', '−0.02')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.{decimals}f}".replace("-", "−")


def _assets(names: tuple[str, ...]) -> Markup:
    """Files of this package as they are."""
    folder = files(PACKAGE) / "assets"
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))


def _trainings(contents: ReportContents) -> list[tuple[str, list[Course], list[figures.Figure]]]:
    """Per configuration that was begun: its folds, and their curves."""
    begun: dict[str, list[Course]] = {}
    for course in contents.courses:
        begun.setdefault(course.configuration, []).append(course)
    return [
        (name, courses, figures.training_figures(courses, contents.labels.structures))
        for name, courses in begun.items()
    ]


def _summary(candidate: ScoredCandidate) -> tuple[ScoredCandidate, dict[str, LabelSummary], dict[str, float | None]]:
    summary = candidate.scores.summary()
    return candidate, summary.labels, summary.foreground


def _viewer(contents: ReportContents) -> Markup:
    """What ``viewer.js`` needs, as JSON that cannot end the script element it stands in."""
    cases = []
    for case in contents.shown:
        dice = {name: None if math.isnan(value) else round(value, 4) for name, value in case.dice.items()}
        mean = None if math.isnan(case.mean_dice) else round(case.mean_dice, 4)
        about = {"id": case.case_id, "rank": case.rank, "fold": case.fold, "mean": mean, "dice": dice}
        cases.append({**about, **asdict(case.volume)})
    colours = {
        "labels": [colour for _, colour in figures.label_legend(contents.labels.foreground)],
        "errors": [hexadecimal(colour) for colour in (MISSED, EXTRA, CONFUSED)],
    }
    text = json.dumps({"cases": cases, "colours": colours, "labels": contents.labels.names}, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
