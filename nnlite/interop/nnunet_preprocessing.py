"""Make a case ready as nnU-Net does, so that its networks see what they saw in their training.

The same libraries in the same precision and order of axes: numpy sums float32 along memory, scikit-image resizes in
float64, batchgenerators lets the label of the nearest voxel win where labels tie. ``preprocess_exactly`` repeats all of
it; ``preprocess_alike`` resamples images with nnlite's operators, which are much faster and differ in the last digits.
Labels have no last digits, but ties: both resample them in the same way.
Facts: nnU-Net 2.8.1, default_preprocessor.py, default_normalization_schemes.py and default_resampling.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from nnlite.errors import ImageError
from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties, nonzero_box
from nnlite.planning.planner import Plan
from nnlite.preprocessing.normalize import RGB_MAX, SMALLEST_DIVISOR
from nnlite.preprocessing.preprocess import (
    NormalizedCase,
    PreprocessedCase,
    Restoration,
    inside,
    plan_restoration,
    resample_case,
)
from nnlite.preprocessing.resample import separate_axis

OUTSIDE = -1  # nnU-Net's label for what lies outside of the non-zero region


def preprocess_alike(
    case_id: str,
    image: np.ndarray,
    spacing_mm: Sequence[float],
    plan: Plan,
    configuration: Configuration,
    *,
    previous: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> PreprocessedCase:
    """``image`` (channels, z, y, x) for ``configuration``, normalised to the bit, resampled to float32's rounding.

    ``previous`` holds label indices (z, y, x) of the first stage of a cascade. ImageError as in ``preprocess``.
    """
    case, nonzero = _normalized(case_id, image, spacing_mm, plan, configuration)
    ready = resample_case(replace(case, image=case.image.to(device)), plan, configuration)
    return replace(ready, previous=_resampled_previous(previous, nonzero, ready.restoration))


def preprocess_exactly(
    case_id: str,
    image: np.ndarray,
    spacing_mm: Sequence[float],
    plan: Plan,
    configuration: Configuration,
    *,
    previous: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> PreprocessedCase:
    """As ``preprocess_alike``, to the bit; on the CPU, whatever ``device`` is."""
    case, nonzero = _normalized(case_id, image, spacing_mm, plan, configuration)
    way = plan_restoration(case, plan, configuration)
    separate = separate_axis(way.spacing_mm, way.resampled_spacing_mm)
    resampled = resize(case.image.numpy(), way.resampled_shape, order=3, separate=separate)
    return PreprocessedCase(
        case_id=case_id,
        image=resampled,
        label=None,
        previous=_resampled_previous(previous, nonzero, way),
        restoration=way,
    )


def resize(volumes: np.ndarray, new_shape: Sequence[int], *, order: int, separate: int | None) -> np.ndarray:
    """Each of ``volumes`` (channels, z, y, x) on a grid of ``new_shape``, computed in float64, in the type it had.

    Where there is an axis to ``separate``, its slices are resized one by one and chosen by nearest neighbour.
    """
    from skimage.transform import resize as resized

    if tuple(volumes.shape[1:]) == tuple(new_shape):
        return volumes
    result = np.empty((len(volumes), *new_shape), dtype=volumes.dtype)

    def plane(part: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        return resized(part, shape, order, mode="edge", anti_aliasing=False)

    for volume, target in zip(volumes, result, strict=True):
        target[...] = _along_slices(plane, volume.astype(np.float64), new_shape, separate)
    return result


def _normalized(
    case_id: str, image: np.ndarray, spacing_mm: Sequence[float], plan: Plan, configuration: Configuration
) -> tuple[NormalizedCase, np.ndarray]:
    """The case cropped and normalised, in the plan's order of axes, and which of its voxels (z, y, x) are not zero.

    The image is only a view until here: numpy's sums depend on the order in which voxels lie in memory.
    """
    from scipy.ndimage import binary_fill_holes

    if len(image) != len(plan.channels):
        raise ImageError(
            f"{case_id}: {len(image)} instead of {len(plan.channels)} channels ({', '.join(plan.channels)}); "
            "give the channels that were trained on, in the same order"
        )
    image = image.astype(np.float32)
    box = nonzero_box(image)
    nonzero = inside(binary_fill_holes(np.any(image != 0, axis=0)), box, plan.transpose)
    cropped = inside(image, box, plan.transpose)
    for index, scheme in enumerate(configuration.normalization):
        mask = nonzero if configuration.use_nonzero_mask[index] else None
        try:
            _normalize(cropped[index], scheme, plan.intensities[index], mask)
        except ImageError as error:
            raise ImageError(f"{case_id}: {error}") from error
    z, y, x = (float(spacing_mm[axis]) for axis in plan.transpose)
    depth, height, width = image.shape[1:]
    case = NormalizedCase(
        case_id=case_id,
        shape=(depth, height, width),
        box=box,
        spacing_mm=(z, y, x),
        image=torch.from_numpy(np.ascontiguousarray(cropped)),
        label=None,
    )
    return case, nonzero


def _normalize(channel: np.ndarray, scheme: str, dataset: IntensityProperties, mask: np.ndarray | None) -> None:
    """Normalise a float32 channel (z, y, x) in place; see ``nnlite.preprocessing.normalize`` for the schemes."""
    if scheme == "ct":
        np.clip(channel, dataset.percentile_00_5, dataset.percentile_99_5, out=channel)
        channel -= dataset.mean
        channel /= max(dataset.std, SMALLEST_DIVISOR)
    elif scheme == "zscore" and mask is not None:
        voxels = channel[mask]
        channel[mask] = (voxels - voxels.mean()) / max(voxels.std(), SMALLEST_DIVISOR)
    elif scheme == "zscore":
        mean, std = channel.mean(), channel.std()
        channel -= mean
        channel /= max(std, SMALLEST_DIVISOR)
    elif scheme == "rescale_to_0_1":
        channel -= channel.min()
        channel /= max(channel.max(), SMALLEST_DIVISOR)
    elif scheme == "rgb_to_0_1":
        if channel.min() < 0 or channel.max() > RGB_MAX:
            raise ImageError(
                f"a colour channel holds values from {channel.min():g} to {channel.max():g}, colours go from 0 to "
                f"{RGB_MAX}; store the image with 8 bits per colour"
            )
        channel /= RGB_MAX


def _resampled_previous(previous: np.ndarray | None, nonzero: np.ndarray, way: Restoration) -> np.ndarray | None:
    """Label indices of the image's grid on that of the network; what is outside competes as a label of its own."""
    from batchgenerators.augmentations.utils import resize_segmentation

    if previous is None:
        return None
    marked = way.inside(previous).astype(np.int32)
    marked[(marked == 0) & ~nonzero] = OUTSIDE

    def resized(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        return resize_segmentation(labels, tuple(shape), order=1)

    separate = separate_axis(way.spacing_mm, way.resampled_spacing_mm)
    return np.maximum(_along_slices(resized, marked, way.resampled_shape, separate), 0).astype(previous.dtype)


def _along_slices(
    resized: Callable[[np.ndarray, Sequence[int]], np.ndarray],
    volume: np.ndarray,
    new_shape: Sequence[int],
    separate: int | None,
) -> np.ndarray:
    """``volume`` (z, y, x) on the new grid, as a whole or slice by slice along the axis to ``separate``."""
    from scipy.ndimage import map_coordinates

    if tuple(volume.shape) == tuple(new_shape):
        return volume
    if separate is None:
        return resized(volume, new_shape)
    old, new = volume.shape[separate], new_shape[separate]
    plane = [size for axis, size in enumerate(new_shape) if axis != separate]
    source = np.arange(old)
    if old != new:
        at = float(old) / new * (np.arange(new) + 0.5) - 0.5
        source = map_coordinates(np.arange(old, dtype=float), [at], order=0, mode="nearest").astype(int)
    slices = {number: resized(volume.take(number, axis=separate), plane) for number in set(source.tolist())}
    return np.stack([slices[number] for number in source.tolist()], axis=separate)
