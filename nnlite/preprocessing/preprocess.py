"""Make one case ready for the network, and note down what ``restore`` needs for the way back.

The order is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021): transpose, crop to the non-zero box,
normalise, resample. Each step that has to be undone leaves its numbers in the ``Restoration``. Resampling runs on any
device; files are the concern of ``store``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from nnlite.data.records import record
from nnlite.errors import ImageError
from nnlite.planning.fingerprint import nonzero_box, nonzero_mask
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.normalize import normalize
from nnlite.preprocessing.resample import (
    resample,
    resample_labels,
    resampled_shape,
    separate_axis,
)

T = TypeVar("T")


@record
class Restoration:
    """What undoes the preprocessing of one case.

    ``shape`` and ``box`` (first voxel and one past the last, per axis) are in the image's own axis order (z, y, x); the
    others in that of the plan, whose axis i is axis ``transpose[i]`` of the image.
    """

    case_id: str
    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    transpose: tuple[int, int, int]
    cropped_shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    resampled_shape: tuple[int, int, int]
    resampled_spacing_mm: tuple[float, float, float]

    @property
    def separate_axis(self) -> int | None:
        """The axis to restore by nearest neighbour, if any."""
        return separate_axis(self.resampled_spacing_mm, self.spacing_mm)

    def inside(self, volume: np.ndarray) -> np.ndarray:
        """The box of ``volume`` (..., z, y, x) in the axis order of the plan: a view, to read from or write into."""
        z, y, x = (slice(*ends) for ends in self.box)
        box = volume[..., z, y, x]
        leading = volume.ndim - 3
        return box.transpose(*range(leading), *(leading + axis for axis in self.transpose))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessedCase:
    """One case as the network sees it, every array on the same grid, in the axis order of the plan.

    ``image`` is float32 (channels, z, y, x). ``label`` holds label indices (z, y, x). ``previous`` is the
    low-resolution stage's prediction, also as label indices, where the configuration is the second stage of a cascade.
    """

    case_id: str
    image: np.ndarray
    label: np.ndarray | None
    previous: np.ndarray | None
    restoration: Restoration


def preprocess(
    case_id: str,
    image: np.ndarray,
    spacing_mm: Sequence[float],
    plan: Plan,
    configuration: Configuration,
    *,
    label: np.ndarray | None = None,
    previous: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> PreprocessedCase:
    """Make ``image`` (channels, z, y, x) with ``spacing_mm`` (z, y, x) ready for ``configuration``.

    ``label`` and ``previous`` are label indices (z, y, x) on the image's grid. A 2D configuration resamples within its
    slices alone. Raises ``ImageError`` when the image has not the channels the plan was made for.
    """
    if image.shape[0] != len(plan.channels):
        raise ImageError(
            f"{case_id}: {image.shape[0]} instead of {len(plan.channels)} channels ({', '.join(plan.channels)}); "
            "give the channels that were trained on, in the same order"
        )
    restoration = _restoration(case_id, image, spacing_mm, plan, configuration)
    new_shape = restoration.resampled_shape
    separate = separate_axis(restoration.spacing_mm, restoration.resampled_spacing_mm)
    # normalise before resampling: afterwards the non-zero mask no longer fits the image
    normalized = _normalized(image, restoration, plan, configuration, device)
    resampled = resample(normalized, new_shape, order=3, separate_axis=separate, clip=True)

    def labels_on_grid(volume: np.ndarray | None) -> np.ndarray | None:
        if volume is None:
            return None
        indices = _tensor(restoration.inside(volume), device)
        return resample_labels(indices, new_shape, count=plan.labels.count, separate_axis=separate).cpu().numpy()

    return PreprocessedCase(
        case_id=case_id,
        image=resampled.cpu().numpy(),
        label=labels_on_grid(label),
        previous=labels_on_grid(previous),
        restoration=restoration,
    )


def _restoration(
    case_id: str, image: np.ndarray, spacing_mm: Sequence[float], plan: Plan, configuration: Configuration
) -> Restoration:
    box = nonzero_box(image)
    cropped_shape = [box[axis][1] - box[axis][0] for axis in plan.transpose]
    spacing = [float(spacing_mm[axis]) for axis in plan.transpose]
    # a 2D configuration says nothing about the first axis: slices stay at their own distance
    target = [*spacing[: 3 - len(configuration.spacing_mm)], *configuration.spacing_mm]
    return Restoration(
        case_id=case_id,
        shape=_per_axis(image.shape[1:]),
        box=box,
        transpose=plan.transpose,
        cropped_shape=_per_axis(cropped_shape),
        spacing_mm=_per_axis(spacing),
        resampled_shape=_per_axis(resampled_shape(cropped_shape, spacing, target)),
        resampled_spacing_mm=_per_axis(target),
    )


def _per_axis(values: Sequence[T]) -> tuple[T, T, T]:
    z, y, x = values
    return z, y, x


def _normalized(
    image: np.ndarray, restoration: Restoration, plan: Plan, configuration: Configuration, device: torch.device | str
) -> Tensor:
    use_mask = configuration.use_nonzero_mask
    mask = _tensor(restoration.inside(nonzero_mask(image)), device) if any(use_mask) else None
    cropped = _tensor(restoration.inside(image), device)  # of the file's type: normalize makes float32 of it
    try:
        return normalize(cropped, configuration.normalization, plan.intensities, mask=mask, use_mask=use_mask)
    except ImageError as error:
        raise ImageError(f"{restoration.case_id}: {error}") from error


def _tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
