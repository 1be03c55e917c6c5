"""What a reader of scores should know of the folds of a training: what they do not share, and what they began with.

The folds of a cross-validation are to be of one kind. Whoever trains them one by one can have them otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.decisions import decisions
from nnlite.training.loss import Loss


def fold_remarks(jobs: Mapping[str, RunConfig]) -> tuple[str, ...]:
    """In words, the settings in which the folds of one training differ, and what was noted of their first weights."""
    first = next(iter(jobs.values()))
    settings = {fold: _settings(job) for fold, job in jobs.items()}
    apart = [
        f"{name} ({', '.join(f'{fold}: {one[name]}' for fold, one in settings.items())})"
        for name in _settings(first)
        if len({one[name] for one in settings.values()}) > 1
    ]
    plans = [decisions(job.plan, job.configuration) for job in jobs.values()]
    if any(plan != plans[0] for plan in plans):
        apart.append("the plan")
    remarks = [f"{first.configuration}: its folds were not trained alike: {', '.join(apart)}"] if apart else []
    noted = {fold: job.initial.remark for fold, job in jobs.items() if job.initial is not None}
    remarks += [f"{first.configuration} {fold}: {remark}" for fold, remark in noted.items() if remark]
    return tuple(remarks)


def _settings(job: RunConfig) -> dict[str, Any]:
    """How a fold is trained, by the names in its config.json; of its model no path, for reports are shown around."""
    model = None if job.initial is None else Path(job.initial.model).name
    return {**asdict(job.train), "loss": Loss.named(job.train.loss).in_words(), "initial": model}
