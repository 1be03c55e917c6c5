"""Streaks around metal in a CT: bright and dark rays from a point, in the plane of the scanner, in Hounsfield units.

Metal starves the projections through it of quanta and hardens the beam: reconstruction turns that into rays from its
edges, and into a dark band between two pieces (Barrett and Keat, RadioGraphics 24, 1679-1691, 2004). This draws what
that looks like; it does not simulate a scanner.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from nnlite.training.augmentation.chance import Chance

RAYS = (6, 14)  # through each piece of metal
RAY_WIDTH_RAD = (0.03, 0.12)
METAL_RADIUS_MM = (1.5, 5.0)  # a filling, a screw, a clip
METAL_HEIGHT_MM = (4.0, 15.0)  # standard deviation along the body
METAL_HU = 3000.0  # beyond what a scan is clipped to
FADES_MM = 30.0  # distance at which a ray has lost half of its strength
TWO_PIECES = 0.5  # probability


def add_streaks(images: Tensor, chance: Chance) -> Tensor:
    """Metal and its rays in the CT channels of a sample; the number drawn is what the strongest ray adds, in HU.

    Nothing happens to images without CT, and to slices that do not lie in the plane of a scanner. Nor do rays change
    voxels that are beyond the limits of all channels of a scan: nobody knows how far.
    """
    axial = chance.imaging.axial
    if axial is None or not chance.imaging.ct_channels:
        return images
    for row, rng in chance.own():
        rays, metal = _drawn(rng, images.shape[2:], chance, axial, images.device)
        for ct in chance.imaging.hounsfield_units(images[row]):
            hu = ct.hu.add_(rays * ct.known)
            images[row, ct.channel] = ct.read.from_hu(hu.lerp_(torch.full_like(hu, METAL_HU), metal))
    return images


def _drawn(
    rng: np.random.Generator, size: tuple[int, ...], chance: Chance, axial: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What the rays add (*size) in HU, and the share of each voxel that is metal (*size)."""
    strongest_hu = rng.uniform(*chance.limits)
    steps_mm = chance.imaging.spacing_mm
    extents_mm = [size[axis] * steps_mm[axis] for axis in axial]
    pieces = 1 + int(rng.random() < TWO_PIECES)
    places_mm = rng.uniform(-0.4, 0.4, size=(pieces, 2)) * extents_mm  # from the centre; not at the border
    grid = [_places_mm(size[axis], steps_mm[axis], device).view(-1, *(1,) * (len(size) - 1 - axis)) for axis in axial]
    rays, metal = torch.zeros((), device=device), torch.zeros((), device=device)
    for place_mm in places_mm:
        down, right = (along - float(at) for along, at in zip(grid, place_mm, strict=True))
        distance_mm, angle = torch.hypot(down, right), torch.atan2(down, right)
        towards = [] if pieces == 1 else [math.atan2(*(places_mm[1] - places_mm[0]).tolist())]
        rays = rays + _rays(rng, angle, towards) / (1 + distance_mm / FADES_MM)
        radius_mm = rng.uniform(*METAL_RADIUS_MM)
        soft_mm = max(steps_mm[axis] for axis in axial) / 2
        metal = torch.maximum(metal, torch.sigmoid((radius_mm - distance_mm) / soft_mm))
    height_mm, middle = rng.uniform(*METAL_HEIGHT_MM), rng.random()
    for axis in set(range(len(size))) - set(axial):
        along = _places_mm(size[axis], steps_mm[axis], device) + (0.5 - middle) * size[axis] * steps_mm[axis]
        nearby = torch.exp(-((along / height_mm) ** 2) / 2).view(-1, *(1,) * (len(size) - 1 - axis))
        rays, metal = rays * nearby, metal * nearby
    return rays.clamp(-1, 1) * strongest_hu, metal


def _rays(rng: np.random.Generator, angle: Tensor, dark: list[float]) -> Tensor:
    """Strength of the rays at each angle, which go through the metal to both sides; those in ``dark`` are dark."""
    count = int(rng.integers(*RAYS))
    angles = [*rng.uniform(0, math.pi, size=count).tolist(), *dark]
    strengths = [*rng.uniform(-1, 1, size=count).tolist(), *(-1.0 for _ in dark)]
    widths = rng.uniform(*RAY_WIDTH_RAD, size=len(angles)).tolist()
    total = torch.zeros_like(angle)
    for middle, strength, width in zip(angles, strengths, widths, strict=True):
        # a bell over the angle, twice around: sin(d)^2 is d^2 near both ends of a ray
        total.add_(torch.exp(-(torch.sin(angle - middle) ** 2) / (2 * width**2)), alpha=strength)
    return total


def _places_mm(length: int, step_mm: float, device: torch.device) -> Tensor:
    """Where the voxels along an axis lie, from its middle."""
    return (torch.arange(length, device=device, dtype=torch.float32) - (length - 1) / 2) * step_mm
