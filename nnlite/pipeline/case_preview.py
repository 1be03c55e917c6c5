"""The picture that ``predict`` writes beside a mask when it is asked to: ``CASE.preview.png``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.channels import read_channels
from nnlite.data.dataset import Case
from nnlite.data.image import StoredGrid
from nnlite.evaluation.overlay import preview, write_preview
from nnlite.planning.planner import Plan

PREVIEW_SUFFIX = ".preview.png"  # not CASE.png, which may be the mask itself
SOFT_TISSUE_HU = 400.0  # the usual width of a window on soft tissue


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """Where the images of the cases are, and the plan that tells what their masks hold."""

    plan: Plan
    images: Mapping[str, tuple[Path, ...]]
    series: str | None = None

    def write(self, folder: Path, case_id: str, values: np.ndarray, grid: StoredGrid) -> Path:
        """Draw a mask of label values (z, y, x) on its image; ``grid`` tells in which order of axes the mask is."""
        # read again: an image need not stay in memory while its case is predicted
        image = read_channels(self.images[case_id], self.series, reference=self.plan.reference)
        path = folder / f"{case_id}{PREVIEW_SUFFIX}"
        canonical = image.stored.canonical(grid.as_stored(values[None]))[0]
        indices = self.plan.labels.to_indices(canonical)
        write_preview(path, preview(image, indices, self.plan.labels, window=window(self.plan)))
        return path


def previews_of(cases: Iterable[Case], plan: Plan, series: str | None = None) -> Previews:
    """For the cases of a prediction; ``series`` is which DICOM series was read of several."""
    return Previews(plan=plan, images={case.id: case.images for case in cases}, series=series)


def window(plan: Plan) -> tuple[float, float] | None:
    """What a CT shows of the planned labels, at least as wide as soft tissue is looked at; None for other images."""
    configuration = next(iter(plan.configurations.values()))
    if configuration.normalization[0] != "ct":
        return None
    low, high = plan.intensities[0].percentile_00_5, plan.intensities[0].percentile_99_5
    half = max(high - low, SOFT_TISSUE_HU) / 2
    return (low + high) / 2 - half, (low + high) / 2 + half
