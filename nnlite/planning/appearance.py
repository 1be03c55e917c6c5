"""What the training images look like from outside, so that a new image can be compared with them before it is trusted.

Gathered while the fingerprint is taken, from the image alone: spacing, extent, orientation, quantiles of intensity, and
a thumbnail of a few voxels, of which only the mean over all cases is kept. The thumbnails also tell, by leaving one
case out, how well a mirrored image of this dataset can be told from one that is not. Numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nnlite.data.image import Image
from nnlite.data.records import record
from nnlite.planning.fingerprint import nonzero_box

QUANTILES = (0.005, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.995)  # denser means nothing: they follow
SAMPLED_LENGTH = 128  # at most so many voxels along an axis are looked at: two millions place a quantile well enough
THUMBNAIL_LENGTH = 8  # coarse enough to forgive a few voxels of shift, fine enough to show where an organ lies
FEWEST_CASES = 10  # with less, ten cases that happen to lie alike would pass for alignment
WRONG_SIDE = 0.01  # share of training images that may look more like the others when mirrored
LOW_QUANTILE = 0.05  # how clearly all but a few training images lie the right way round
CLEARLY = 0.5  # an image is called mirrored when it is half as clearly so as they are the right way round

Triple = tuple[float, float, float]


@record
class ChannelAppearance:
    """Intensities of the voxels of one channel that are not zero: their ``QUANTILES``, mean and standard deviation."""

    quantiles: tuple[float, ...]
    mean: float
    std: float

    def __post_init__(self) -> None:
        if len(self.quantiles) != len(QUANTILES):
            raise ValueError(f"{len(self.quantiles)} quantiles instead of {len(QUANTILES)}")


@record
class ImageAppearance:
    """One image from outside; tuples are ordered (z, y, x).

    ``orientation`` tells where the file's axes x, y and z point, as in "RAS"; empty for a 2D image.
    """

    case: str
    spacing_mm: Triple
    size_mm: Triple
    orientation: str
    channels: tuple[ChannelAppearance, ...]


@record
class MirrorTest:
    """How a mirrored image can be told along one axis: by its side, see ``sides``, below ``threshold``.

    ``recognised`` is the share of training images that, mirrored, would be called so; ``mistaken`` of those that would
    be as they are. ``threshold`` is None where the images are not aligned enough, or too few, to tell.
    """

    threshold: float | None
    recognised: float
    mistaken: float


@record
class Appearance:
    """What the training images of a dataset look like.

    ``template`` is the mean thumbnail (channels x z x y x x, in that order), ``mirror`` the test along z, y and x.
    """

    images: tuple[ImageAppearance, ...]
    template: tuple[float, ...]
    mirror: tuple[MirrorTest, MirrorTest, MirrorTest]

    def __post_init__(self) -> None:
        channels = {len(image.channels) for image in self.images}
        if channels != {len(self.template) // THUMBNAIL_LENGTH**3} or len(self.template) % THUMBNAIL_LENGTH**3:
            raise ValueError(f"a template of {len(self.template)} values for images of {sorted(channels)} channels")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """One image: what is kept of it, and its thumbnail, float64 (channels, 8, 8, 8)."""

    appearance: ImageAppearance
    thumbnail: np.ndarray


def look(case_id: str, image: Image) -> Look:
    """Look at one image within the box of its voxels that are not zero."""
    crop = tuple(slice(*ends) for ends in nonzero_box(image.array))
    strides = [-(-(part.stop - part.start) // SAMPLED_LENGTH) for part in crop]
    z, y, x = (slice(part.start, part.stop, stride) for part, stride in zip(crop, strides, strict=True))
    channels, thumbnails = [], []
    for channel in image.array[:, z, y, x].astype(np.float32):
        values = channel[channel != 0]
        values = values if values.size else np.zeros(1, np.float32)
        quantiles = _quantiles(values)
        channels.append(
            ChannelAppearance(
                quantiles=tuple(quantiles.tolist()),
                mean=float(values.mean(dtype=np.float64)),
                std=float(values.std(dtype=np.float64)),
            )
        )
        thumbnails.append(thumbnail(channel.clip(quantiles[0], quantiles[-1])))
    size = tuple(n * step for n, step in zip(image.geometry.shape, image.geometry.spacing_mm, strict=True))
    return Look(
        appearance=ImageAppearance(
            case=case_id,
            spacing_mm=image.geometry.spacing_mm,
            size_mm=(size[0], size[1], size[2]),
            orientation="" if image.planar else image.stored.code,
            channels=tuple(channels),
        ),
        thumbnail=np.stack(thumbnails),
    )


def _quantiles(values: np.ndarray) -> np.ndarray:
    """``np.quantile`` of all ``QUANTILES``, to the bit; to sort once is faster than to partition for each of them."""
    ordered = np.sort(values)
    places = np.asarray(QUANTILES) * (len(ordered) - 1)
    below = places.astype(np.intp)
    low, high, way = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)], places - below
    return np.where(way < 0.5, low + (high - low) * way, high - (high - low) * (1 - way))


def merge_looks(looks: Iterable[Look]) -> Appearance:
    """What all images of a dataset look like; ``ValueError`` for no image at all."""
    ordered = sorted(looks, key=lambda one: one.appearance.case)
    thumbnails = np.stack([one.thumbnail for one in ordered])
    along = sides_of_each(thumbnails)
    z, y, x = (_mirror_test(along[:, axis]) for axis in range(3))
    return Appearance(
        images=tuple(one.appearance for one in ordered),
        template=tuple(thumbnails.mean(axis=0).round(4).ravel().tolist()),
        mirror=(z, y, x),
    )


def sides(thumbnail: np.ndarray, template: np.ndarray) -> tuple[float, float, float]:
    """How much more an image resembles the template than its mirror image does, along z, y and x.

    The difference of the two correlations, from -2 to 2; mirroring the image changes the sign.

    >>> ramp = np.arange(8.0).reshape(1, 1, 1, 8)
    >>> [round(side, 6) for side in sides(ramp, ramp)]
    [0.0, 0.0, 2.0]
    """
    z, y, x = (
        _correlation(thumbnail, template) - _correlation(np.flip(thumbnail, axis), template) for axis in (1, 2, 3)
    )
    return z, y, x


def sides_of_each(thumbnails: np.ndarray) -> np.ndarray:
    """The ``sides`` (cases, 3) of thumbnails (cases, channels, 8, 8, 8), each against the mean of the others."""
    total, count = thumbnails.sum(axis=0), len(thumbnails)
    others = [(total - one) / max(count - 1, 1) for one in thumbnails]
    return np.array([sides(one, rest) for one, rest in zip(thumbnails, others, strict=True)])


def _mirror_test(along: np.ndarray) -> MirrorTest:
    """The test along one axis, from the sides (cases,) of the training images, each against the others."""
    wrong = float((along <= 0).mean())
    clear = float(np.quantile(along, LOW_QUANTILE))
    if len(along) < FEWEST_CASES or wrong > WRONG_SIDE or clear <= 0:
        return MirrorTest(threshold=None, recognised=0.0, mistaken=wrong)
    threshold = -CLEARLY * clear
    recognised, mistaken = float((-along < threshold).mean()), float((along < threshold).mean())
    return MirrorTest(threshold=threshold, recognised=recognised, mistaken=mistaken)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else 0.0


def thumbnail(channel: np.ndarray) -> np.ndarray:
    """A channel (z, y, x) as 8 x 8 x 8 means of equal parts, with mean 0 and standard deviation 1."""
    small = channel.astype(np.float64)
    for axis in range(3):
        small = np.moveaxis(np.tensordot(_means(small.shape[axis]), small, axes=(1, axis)), 0, axis)
    return (small - small.mean()) / (small.std() or 1.0)


def _means(length: int) -> np.ndarray:
    """Weights (8, length) that average an axis in eight equal parts, voxels on a border shared."""
    ends = np.linspace(0, length, THUMBNAIL_LENGTH + 1)
    voxels = np.arange(length)
    overlap = np.minimum(ends[1:, None], voxels + 1) - np.maximum(ends[:-1, None], voxels)
    weights = np.maximum(overlap, 0)
    return weights / weights.sum(axis=1, keepdims=True)
