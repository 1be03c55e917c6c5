"""Is a new image like those the network was trained on? Checked before the prediction is trusted.

Spacing, extent and orientation are compared with those of the training images. Intensities are compared as the network
gets them: a rescaled MR image, which z-scores undo, is no surprise, a CT that is not in Hounsfield units is. How far is
too far is told by the training images themselves: by the distance of each to the nearest of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from nnlite.data.image import Image
from nnlite.data.records import record
from nnlite.planning.appearance import (
    FEWEST_CASES,
    THUMBNAIL_LENGTH,
    Appearance,
    ChannelAppearance,
    ImageAppearance,
    look,
    sides,
)
from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan

SCALE_TOLERANCE = 1.4  # training zooms by 0.7 to 1.4: a network has seen that much beyond its images
DISTANCE_TOLERANCE = 1.5  # of the largest distance of a training image to its nearest: a new image may lie farther out
RGB_MAX = 255  # 8 bits per colour
SMALLEST_SPREAD = 1e-8  # an image of one value is not divided by zero

AXES = ("z (up)", "y (back)", "x (left)")
MIRRORED = ("upside down", "back to front", "mirrored left to right")

Check = Literal["header", "spacing", "field of view", "orientation", "intensity", "mirrored"]


@record
class Finding:
    """Something about an image that no training image has: the number, the range of theirs, and what to do.

    ``lowest`` and ``highest`` are those of the training images, or the bounds of a distance; None for words. Where
    several axes stand out, the numbers are of the one that does most.
    """

    check: Check
    what: str
    remedy: str
    value: float | str
    lowest: float | None = None
    highest: float | None = None


@record
class Familiarity:
    """What is unusual about an image, and, in words, which checks this dataset does not allow."""

    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]


def familiarity(image: Image, appearance: Appearance, plan: Plan, configuration: Configuration) -> Familiarity:
    """Compare an image with the training images of ``plan``, as ``configuration`` normalises them."""
    seen = look("", image)
    new, known = seen.appearance, appearance.images
    findings = [*_scales(new, known, planar=image.planar)]
    orientations = sorted({one.orientation for one in known})
    if not image.planar and new.orientation not in orientations:
        findings.append(
            Finding(
                check="orientation",
                what=f"its file is stored as {new.orientation}, training images as {' or '.join(orientations)}",
                remedy="it was turned as its header says; make sure that the header is right, left and right above all",
                value=new.orientation,
            )
        )
    not_checked = []
    if len(known) < FEWEST_CASES:
        not_checked.append(f"intensity: {len(known)} training images are too few, {FEWEST_CASES} are needed")
    else:
        findings += _intensities(new, known, plan, configuration)
    template = np.reshape(appearance.template, (-1, *(THUMBNAIL_LENGTH,) * 3))
    for axis, side in enumerate(sides(seen.thumbnail, template)):
        test = appearance.mirror[axis]
        if test.threshold is None:
            if not (image.planar and axis == 0):
                not_checked.append(f"{MIRRORED[axis]}: the training images are too few or not aligned enough to tell")
        elif side < test.threshold:
            findings.append(
                Finding(
                    check="mirrored",
                    what=f"it seems {MIRRORED[axis]}: its resemblance to the mean training image, less that of its "
                    f"mirror image, is {side:.2f}; below {test.threshold:.2f} lie {test.recognised:.0%} of mirrored "
                    f"training images and {test.mistaken:.0%} of the others",
                    remedy="look at it beside a training image; correct the voxels or the header of the file",
                    value=side,
                    lowest=test.threshold,
                )
            )
    return Familiarity(findings=tuple(findings), not_checked=tuple(not_checked))


def _scales(new: ImageAppearance, known: Sequence[ImageAppearance], *, planar: bool) -> Iterator[Finding]:
    """Spacings and extents beyond those of the training images."""
    checks: tuple[tuple[Check, np.ndarray, np.ndarray, str], ...] = (
        (
            "spacing",
            np.array(new.spacing_mm),
            np.array([one.spacing_mm for one in known]),
            "correct the header if it is wrong; else expect worse masks, or train with such images",
        ),
        (
            "field of view",
            np.array(new.size_mm),
            np.array([one.size_mm for one in known]),
            "crop it to what training images show, or look for missed and made-up structures",
        ),
    )
    unit = "pixels" if planar else "mm"
    for check, value, theirs, remedy in checks:
        lowest, highest = theirs.min(axis=0), theirs.max(axis=0)
        beyond = np.maximum(value / highest, lowest / value)
        if planar:
            beyond[0] = 0  # a 2D image has no depth
        if beyond.max() <= SCALE_TOLERANCE:
            continue
        told = (
            f"{value[axis]:.4g} {unit} along {AXES[axis]}, of training images {lowest[axis]:.4g} to {highest[axis]:.4g}"
            for axis in np.flatnonzero(beyond > SCALE_TOLERANCE)
        )
        worst = int(beyond.argmax())
        yield Finding(
            check=check,
            what=f"{check} is {'; '.join(told)}",
            remedy=remedy,
            value=float(value[worst]),
            lowest=float(lowest[worst]),
            highest=float(highest[worst]),
        )


def _intensities(
    new: ImageAppearance, known: Sequence[ImageAppearance], plan: Plan, configuration: Configuration
) -> Iterator[Finding]:
    """Channels whose intensities, as the network gets them, are far from those of every training image."""
    for index, (name, scheme) in enumerate(zip(plan.channels, configuration.normalization, strict=True)):
        dataset = plan.intensities[index]
        theirs = np.stack([as_normalized(one.channels[index], scheme, dataset) for one in known])
        apart = np.abs(theirs[:, None] - theirs[None]).mean(axis=2)
        np.fill_diagonal(apart, np.inf)
        highest = DISTANCE_TOLERANCE * float(apart.min(axis=1).max())
        mine = as_normalized(new.channels[index], scheme, dataset)
        distance = float(np.abs(theirs - mine).mean(axis=1).min())
        if distance <= highest:
            continue
        told = "; they must be Hounsfield units" if scheme == "ct" else ""
        q = new.channels[index].quantiles
        yield Finding(
            check="intensity",
            what=f"intensities of {name} ({q[0]:.4g} to {q[-1]:.4g}, median {q[len(q) // 2]:.4g}) are unlike those of "
            f"any training image: their distance is {distance:.2g}, that of training images up to {highest:.2g}{told}",
            remedy="check that it is the right kind of image, in the right units, and the channels in the right order",
            value=distance,
            highest=highest,
        )


def as_normalized(channel: ChannelAppearance, scheme: str, dataset: IntensityProperties) -> np.ndarray:
    """Quantiles of a channel as the network gets them: normalising keeps the order of intensities, so it may follow."""
    values = np.array(channel.quantiles)
    if scheme == "zscore":
        return (values - channel.mean) / max(channel.std, SMALLEST_SPREAD)
    if scheme == "rescale_to_0_1":
        return (values - values[0]) / max(values[-1] - values[0], SMALLEST_SPREAD)
    if scheme == "rgb_to_0_1":
        return values / RGB_MAX
    if scheme == "ct":
        values = values.clip(dataset.percentile_00_5, dataset.percentile_99_5)
    return (values - dataset.mean) / max(dataset.std, SMALLEST_SPREAD)
