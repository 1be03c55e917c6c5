"""What the channels of a training image show and how its axes lie, for transforms that speak of more than numbers.

Normalised CT is turned back to Hounsfield units by the numbers it was normalised with (scheme "ct": clipped to the
dataset's percentiles, mean taken off, divided by the standard deviation; see ``preprocessing/normalize.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.hu_channels import HuChannel
from nnlite.planning.planner import Plan
from nnlite.preprocessing.normalize import SMALLEST_DIVISOR
from nnlite.preprocessing.places import PLACE_CHANNELS

HEAD_TO_FOOT = 0  # canonical axes are z, y, x: a scanner's plane is that of the others
AT_A_LIMIT = 1e-4  # of a channel's range: more than normalising and interpolating in float32 round


@dataclass(frozen=True, slots=True, kw_only=True)
class Hounsfield:
    """How the normalised values of a channel are read: HU = ``at_zero`` + ``per_unit`` x value, from low to high.

    ``scan`` is the channel that holds the scan itself: others may be made of it.
    """

    scan: int
    at_zero: float
    per_unit: float
    low: float
    high: float

    @classmethod
    def of_ct(cls, channel: int, intensities: IntensityProperties) -> Hounsfield:
        """A channel that was normalised by the scheme "ct"."""
        return cls(
            scan=channel,
            at_zero=intensities.mean,
            per_unit=max(intensities.std, SMALLEST_DIVISOR),
            low=intensities.percentile_00_5,
            high=intensities.percentile_99_5,
        )

    @classmethod
    def of_window(cls, made: HuChannel, channels: Sequence[str]) -> Hounsfield | None:
        """A channel that is a window of one of the ``channels``; None for a mask."""
        if made.kind == "mask":
            return None
        low, high = made.limits_hu
        scan = made.scan_among(channels)
        return cls(scan=scan, at_zero=(low + high) / 2, per_unit=(high - low) / 2, low=low, high=high)

    def to_hu(self, values: Tensor) -> Tensor:
        """Hounsfield units of normalised values."""
        return values * self.per_unit + self.at_zero

    def shows(self, hu: Tensor) -> Tensor:
        """Where the Hounsfield units of the channel are the scan's, and not the limits that they were clipped to."""
        margin = AT_A_LIMIT * (self.high - self.low)
        return (hu > self.low + margin) & (hu < self.high - margin)

    def from_hu(self, hu: Tensor) -> Tensor:
        """Normalised values of Hounsfield units, which are clipped as the images were; writes into ``hu``."""
        return hu.clamp_(self.low, self.high).sub_(self.at_zero).div_(self.per_unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class CtChannel:
    """A CT ``channel`` of an image: how it is read, its ``hu`` (*size), and where these are ``known`` (*size) bool.

    Where they are not, all channels of the scan are at a limit, and ``hu`` is the channel's own.
    """

    channel: int
    read: Hounsfield
    hu: Tensor
    known: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Imaging:
    """``hounsfield`` has an entry per channel, None where it is no CT; none at all where nothing is known.

    ``spacing_mm`` is that of the axes of a patch; ``axial`` are the two of them that span a scanner's plane, None for
    patches that have not both. ``masks`` are channels whose numbers are left as they are but where the image is hidden,
    ``places`` those that an atlas is looked up by, which are always left.
    """

    hounsfield: tuple[Hounsfield | None, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    axial: tuple[int, int] | None = None
    masks: tuple[int, ...] = ()
    places: tuple[int, ...] = ()

    @property
    def ct_channels(self) -> tuple[tuple[int, Hounsfield], ...]:
        """The channels that are CT, and how they are read."""
        return tuple((channel, read) for channel, read in enumerate(self.hounsfield) if read is not None)

    def hounsfield_units(self, image: Tensor) -> list[CtChannel]:
        """The CT channels of an image (channels, *size), with what others of the scan show where one is at a limit.

        Of several that show it the widest is asked: a channel that was clipped before it was resampled rings near its
        limits, and those of the widest are the farthest away.
        """
        own = {channel: read.to_hu(image[channel]) for channel, read in self.ct_channels}
        scans: dict[int, tuple[Tensor, Tensor]] = {}
        for channel, read in sorted(self.ct_channels, key=lambda one: one[1].high - one[1].low):
            hu, known = own[channel], read.shows(own[channel])
            if read.scan in scans:
                narrower, known_before = scans[read.scan]
                hu, known = torch.where(known, hu, narrower), known | known_before
            scans[read.scan] = hu, known
        made = []
        for channel, read in self.ct_channels:
            hu, known = scans[read.scan]
            hu = torch.where(known & ~read.shows(own[channel]), hu, own[channel])
            made.append(CtChannel(channel=channel, read=read, hu=hu, known=known))
        return made

    def is_ct(self, channel: int) -> bool:
        """Whether a channel holds Hounsfield units."""
        return channel < len(self.hounsfield) and self.hounsfield[channel] is not None


def imaging_of(plan: Plan, configuration: Configuration) -> Imaging:
    """What the preprocessed images of a configuration show."""
    axes = plan.transpose[3 - configuration.topology.ndim :]
    axial = tuple(axis for axis, canonical in enumerate(axes) if canonical != HEAD_TO_FOOT)
    made, count = plan.hu_channels, len(plan.image_channels)
    masks = tuple(place for place, one in enumerate(made, start=len(plan.channels)) if one.kind == "mask")
    places = tuple(range(count, count + PLACE_CHANNELS)) if plan.prior is not None else ()
    return Imaging(
        hounsfield=tuple(
            Hounsfield.of_ct(channel, intensities) if scheme == "ct" else None
            for channel, (scheme, intensities) in enumerate(
                zip(configuration.normalization, plan.intensities, strict=True)
            )
        )
        + tuple(Hounsfield.of_window(one, plan.channels) for one in made),
        masks=masks,
        places=places,
        spacing_mm=configuration.spacing_mm,
        axial=(axial[0], axial[1]) if len(axial) == 2 else None,
    )
