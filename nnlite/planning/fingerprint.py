"""What a dataset is like: the few numbers per case that every planning decision rests on.

Arrays in, numbers out. Which numbers, the crop to the non-zero box, and intensities weighing each case alike follow
nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Where nnU-Net draws the same number of voxels from each case
however small, nnlite takes each foreground voxel once and weighs it, which is the limit of infinitely many draws.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nnlite.data.geometry import COARSEST_SPACING_MM, FINEST_SPACING_MM
from nnlite.data.records import record
from nnlite.errors import PlanError

TOTAL_SAMPLES = 10_000_000  # per channel over all cases: places percentile 0.5 within 0.005 points, in 40 MB
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@record
class IntensityProperties:
    """One channel's intensities in the foreground, every case weighing alike."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFingerprint:
    """What one case adds to the fingerprint. ``samples`` are foreground intensities, float32 of shape (channels, n)."""

    case_id: str
    spacing_mm: tuple[float, float, float]
    shape_after_crop: tuple[int, int, int]
    relative_size_after_crop: float
    samples: np.ndarray


@record
class Fingerprint:
    """What a dataset is like. Cases in one order throughout; tuples are ordered like the array: (z, y, x)."""

    spacings_mm: tuple[tuple[float, float, float], ...]
    shapes_after_crop: tuple[tuple[int, int, int], ...]
    intensities: tuple[IntensityProperties, ...]
    median_relative_size_after_crop: float

    def __post_init__(self) -> None:
        if not self.spacings_mm:
            raise PlanError("there is no case to plan for: the fingerprint is empty; add labelled training cases")
        if len(self.spacings_mm) != len(self.shapes_after_crop):
            raise PlanError(
                f"fingerprint: {len(self.spacings_mm)} spacings_mm but {len(self.shapes_after_crop)} shapes_after_crop"
            )
        for spacing, shape in zip(self.spacings_mm, self.shapes_after_crop, strict=True):
            _require_sane("a case", spacing, shape)
        if not self.intensities:
            raise PlanError("fingerprint: intensities holds no channel")
        numbers = [getattr(channel, field.name) for channel in self.intensities for field in fields(channel)]
        if not all(math.isfinite(number) for number in numbers):
            raise PlanError(
                "fingerprint: intensities are not all numbers, as if no case had a foreground voxel: there is nothing "
                "to learn; check that labels hold values above 0 where the structures are"
            )
        if not 0 < self.median_relative_size_after_crop <= 1:
            raise PlanError(
                f"fingerprint: median_relative_size_after_crop is {self.median_relative_size_after_crop}, "
                "it must be above 0 and at most 1"
            )


def nonzero_box(image: np.ndarray) -> Box:
    """First and one-past-last index per axis of the voxels that are not zero in some channel of (channels, z, y, x).

    An image of zeros alone is kept whole.

    >>> image = np.zeros((1, 4, 4, 4)); image[0, 1:3, 2, 0] = 7
    >>> nonzero_box(image)
    ((1, 3), (2, 3), (0, 1))
    """
    mask = np.any(image != 0, axis=0)
    spans = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append((int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else (0, mask.shape[axis]))
    return spans[0], spans[1], spans[2]


def nonzero_mask(image: np.ndarray) -> np.ndarray:
    """Which voxels (z, y, x) are not zero in some channel, enclosed holes included; in a single slice, in-plane ones.

    >>> ring = np.ones((1, 1, 3, 3)); ring[0, 0, 1, 1] = 0
    >>> bool(nonzero_mask(ring)[0, 1, 1])
    True
    """
    from scipy import ndimage

    mask = np.any(image != 0, axis=0)
    if 1 in mask.shape:  # to fill in three dimensions, a single slice is open on both its faces
        flat = mask.shape.index(1)
        return np.expand_dims(ndimage.binary_fill_holes(mask.squeeze(flat)), flat)
    return ndimage.binary_fill_holes(mask)


def samples_per_case(cases: int) -> int:
    """How many foreground voxels of each case to keep at most, so that a dataset of any size fits in memory."""
    return max(1, TOTAL_SAMPLES // max(1, cases))


def case_fingerprint(
    case_id: str,
    image: np.ndarray,
    label: np.ndarray | None,
    spacing_mm: Sequence[float],
    *,
    samples: int,
    ignore: int | None = None,
    seed: int = 12345,
) -> CaseFingerprint:
    """Measure one case: ``image`` (channels, z, y, x), ``label`` (z, y, x) with foreground above 0, or None.

    Voxels of the value ``ignore`` are no foreground: nobody knows what they are. (nnU-Net counts them in.)
    At most ``samples`` foreground voxels are kept; if there are more, they are drawn at random, the same ones for the
    same ``seed`` and ``case_id`` whatever the other cases.
    """
    spacing = (float(spacing_mm[0]), float(spacing_mm[1]), float(spacing_mm[2]))
    _require_sane(case_id, spacing, image.shape[1:])
    box = nonzero_box(image)
    crop = tuple(slice(first, end) for first, end in box)
    shape = (box[0][1] - box[0][0], box[1][1] - box[1][0], box[2][1] - box[2][0])
    values = np.zeros((len(image), 0), np.float32)
    if label is not None:
        labelled = label[crop] > 0
        if ignore is not None:
            labelled &= label[crop] != ignore
        foreground = np.flatnonzero(labelled)
        if foreground.size > samples:
            generator = np.random.default_rng([seed, zlib.crc32(case_id.encode())])
            foreground = foreground[generator.integers(foreground.size, size=samples)]
        values = np.stack([channel[crop].ravel()[foreground] for channel in image]).astype(np.float32)
    return CaseFingerprint(
        case_id=case_id,
        spacing_mm=spacing,
        shape_after_crop=shape,
        relative_size_after_crop=math.prod(shape) / math.prod(image.shape[1:]),
        samples=values,
    )


def merge(cases: Iterable[CaseFingerprint]) -> Fingerprint:
    """The dataset's fingerprint. Cases are put in the order of their ids: the answer does not depend on theirs."""
    ordered = sorted(cases, key=lambda case: case.case_id)
    if not ordered:
        raise PlanError("there is no case to plan for: add labelled training cases")
    channels = {len(case.samples) for case in ordered}
    if len(channels) > 1:
        raise PlanError(f"the cases differ in their number of channels: {sorted(channels)}; all need the same")
    labelled = [case.samples for case in ordered if case.samples.shape[1]]
    if not labelled:
        raise PlanError(
            f"not one foreground voxel in {len(ordered)} cases: there is nothing to learn; check that labels hold "
            "values above 0 where the structures are, inside the part of the image that is not zero"
        )
    # Each case weighs 1 in all, however large its foreground.
    weights = np.concatenate([np.full(values.shape[1], 1 / values.shape[1]) for values in labelled])
    return Fingerprint(
        spacings_mm=tuple(case.spacing_mm for case in ordered),
        shapes_after_crop=tuple(case.shape_after_crop for case in ordered),
        intensities=tuple(
            _intensity_properties(np.concatenate([values[channel] for values in labelled]), weights)
            for channel in range(channels.pop())
        ),
        median_relative_size_after_crop=float(np.median([case.relative_size_after_crop for case in ordered])),
    )


def from_nnunet(content: Mapping[str, Any]) -> Fingerprint:
    """The fingerprint in the content of nnU-Net v2's ``dataset_fingerprint.json``; PlanError names what is missing."""
    try:
        channels = content["foreground_intensity_properties_per_channel"]
        names = [field.name for field in fields(IntensityProperties)]
        return Fingerprint(
            spacings_mm=tuple((float(z), float(y), float(x)) for z, y, x in content["spacings"]),
            shapes_after_crop=tuple((int(z), int(y), int(x)) for z, y, x in content["shapes_after_crop"]),
            intensities=tuple(
                IntensityProperties(**{name: float(channels[key][name]) for name in names})
                for key in sorted(channels, key=int)
            ),
            median_relative_size_after_crop=float(content["median_relative_size_after_cropping"]),
        )
    except KeyError as problem:
        raise PlanError(f"this is no nnU-Net v2 dataset fingerprint: it has no {problem}") from problem
    except (TypeError, ValueError, AttributeError) as problem:
        raise PlanError(f"this is no nnU-Net v2 dataset fingerprint: {problem}") from problem


def _intensity_properties(values: np.ndarray, weights: np.ndarray) -> IntensityProperties:
    order = np.argsort(values)
    values, weights = values[order].astype(np.float64), weights[order]
    mean = float(np.average(values, weights=weights))
    # Percentile p is the value up to which lies p % of the weight, each value standing in the middle of its own.
    share = 100 * (np.cumsum(weights) - weights / 2) / np.sum(weights)
    percentiles = {name: float(np.interp(percent, share, values)) for name, percent in PERCENTILES.items()}
    return IntensityProperties(
        mean=mean,
        std=math.sqrt(np.average((values - mean) ** 2, weights=weights)),
        min=float(values[0]),
        max=float(values[-1]),
        **percentiles,
    )


def _require_sane(case: str, spacing_mm: Sequence[float], shape: Sequence[int]) -> None:
    if not all(FINEST_SPACING_MM <= step <= COARSEST_SPACING_MM for step in spacing_mm):
        raise PlanError(
            f"{case}: spacing {tuple(spacing_mm)} mm (z, y, x) cannot be true; correct the spacing in the file's header"
        )
    if not all(size >= 1 for size in shape):
        raise PlanError(f"{case}: shape {tuple(shape)} (z, y, x) has an empty axis; remove the case")
