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
from nnlite.preprocessing.hu_windows import hu_windows
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
        return inside(volume, self.box, self.transpose)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessedCase:
    """One case as the network sees it, every array on the same grid, in the axis order of the plan.

    ``image`` is float32 (channels, z, y, x), with the channels ``plan.image_channels``. ``label`` holds label indices
    (z, y, x). ``previous`` is the low-resolution stage's prediction, also as label indices, where the configuration is
    the second stage of a cascade.
    """

    case_id: str
    image: np.ndarray
    label: np.ndarray | None
    previous: np.ndarray | None
    restoration: Restoration


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizedCase:
    """One case cropped and normalised, not yet resampled: what configurations that normalise alike share.

    ``image`` is (channels, z, y, x) float32 and ``label`` (z, y, x), both of the box alone and in the axis order of the
    plan, as is ``spacing_mm``. ``shape`` is that of the whole image.
    """

    case_id: str
    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    spacing_mm: tuple[float, float, float]
    image: Tensor
    label: Tensor | None


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
    case = normalize_case(case_id, image, spacing_mm, plan, configuration, label=label, device=device)
    return resample_case(case, plan, configuration, previous=previous)


def normalize_case(
    case_id: str,
    image: np.ndarray,
    spacing_mm: Sequence[float],
    plan: Plan,
    configuration: Configuration,
    *,
    label: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> NormalizedCase:
    """Transpose, crop and normalise: the part of ``preprocess`` that does not depend on the target spacing."""
    if image.shape[0] != len(plan.channels):
        raise ImageError(
            f"{case_id}: {image.shape[0]} instead of {len(plan.channels)} channels ({', '.join(plan.channels)}); "
            "give the channels that were trained on, in the same order"
        )
    box, use_mask = nonzero_box(image), configuration.use_nonzero_mask

    def cropped(volume: np.ndarray) -> Tensor:
        return _tensor(inside(volume, box, plan.transpose), device)

    mask = cropped(nonzero_mask(image)) if any(use_mask) else None
    voxels = cropped(image)  # of the file's type: normalize makes float32 of it
    try:
        normalized = normalize(voxels, configuration.normalization, plan.intensities, mask=mask, use_mask=use_mask)
    except ImageError as error:
        raise ImageError(f"{case_id}: {error}") from error
    if plan.hu_channels:
        normalized = torch.cat([normalized, hu_windows(voxels, plan.channels, plan.hu_channels)])
    return NormalizedCase(
        case_id=case_id,
        shape=_per_axis(image.shape[1:]),
        box=box,
        spacing_mm=_per_axis([float(spacing_mm[axis]) for axis in plan.transpose]),
        image=normalized,
        label=None if label is None else cropped(label),
    )


def resample_case(
    case: NormalizedCase, plan: Plan, configuration: Configuration, *, previous: np.ndarray | None = None
) -> PreprocessedCase:
    """Bring a normalised case to the spacing of ``configuration``; ``previous`` lies on the grid of the whole image."""
    restoration = plan_restoration(case, plan, configuration)
    new_shape = restoration.resampled_shape
    separate = separate_axis(restoration.spacing_mm, restoration.resampled_spacing_mm)
    # normalised before it is resampled: afterwards the non-zero mask would no longer fit the image
    resampled = resample(case.image, new_shape, order=3, separate_axis=separate, clip=True)

    def labels_on_grid(indices: Tensor | None) -> np.ndarray | None:
        if indices is None:
            return None
        return resample_labels(indices, new_shape, count=plan.labels.index_count, separate_axis=separate).cpu().numpy()

    first_stage = None if previous is None else _tensor(restoration.inside(previous), case.image.device)
    return PreprocessedCase(
        case_id=case.case_id,
        image=resampled.cpu().numpy(),
        label=labels_on_grid(case.label),
        previous=labels_on_grid(first_stage),
        restoration=restoration,
    )


def plan_restoration(case: NormalizedCase, plan: Plan, configuration: Configuration) -> Restoration:
    """The grid that a configuration brings the case to, and the way back."""
    cropped_shape = _per_axis(case.image.shape[1:])
    # a 2D configuration says nothing about the first axis: slices stay at their own distance
    target = [*case.spacing_mm[: 3 - len(configuration.spacing_mm)], *configuration.spacing_mm]
    return Restoration(
        case_id=case.case_id,
        shape=case.shape,
        box=case.box,
        transpose=plan.transpose,
        cropped_shape=cropped_shape,
        spacing_mm=case.spacing_mm,
        resampled_shape=_per_axis(resampled_shape(cropped_shape, case.spacing_mm, target)),
        resampled_spacing_mm=_per_axis(target),
    )


def inside(volume: np.ndarray, box: Sequence[tuple[int, int]], transpose: Sequence[int]) -> np.ndarray:
    """The box of ``volume`` (..., z, y, x) in the axis order of a plan: a view, to read from or write into."""
    z, y, x = (slice(*ends) for ends in box)
    leading = volume.ndim - 3
    return volume[..., z, y, x].transpose(*range(leading), *(leading + axis for axis in transpose))


def _per_axis(values: Sequence[T]) -> tuple[T, T, T]:
    z, y, x = values
    return z, y, x


def _tensor(array: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
