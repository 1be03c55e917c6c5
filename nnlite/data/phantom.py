"""Draw an abdomen that never existed: a seeded CT phantom for the demo and for tests, no patient needed.

Each case is a body with a liver (and a lesion in it), a spleen, kidneys and a spine. As in life, Hounsfield units alone
do not tell them apart: unlabelled muscle, bowel and aorta share their range. Shape, place and enhancement vary from
case to case, borders are soft as a scanner's point spread makes them, and slices are thicker than their pixels are
wide. Organs are ellipsoids in millimetres, seen through a smooth random deformation. Numbers are rounded textbook
anatomy of an adult, enhanced as shortly before the portal venous phase.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.geometry import Geometry
from nnlite.data.image import write_image
from nnlite.data.progress import Progress, silent
from nnlite.data.records import write_text

LABELS = {"background": 0, "liver": 1, "spleen": 2, "kidneys": 3, "spine": 4, "lesion": 5}

SLICE_DISTANCE_MM = (6.0, 7.5)  # thick abdominal slices; every case draws its own
PIXEL_MM = (2.8, 3.4)  # coarser than a scanner's 0.7, so that the whole demo fits into minutes
SCAN_MM = (150.0, 230.0, 320.0)  # (z, y, x): the height that holds the organs, and a table-wide field of view
BORDER_MM = 1.5  # half-width of the blur between two tissues
NOISE_HU = 15.0
AIR_HU, FAT_HU, MUSCLE_HU, BOWEL_HU, VESSEL_HU, DISC_HU = -1000.0, -100.0, 55.0, 30.0, 160.0, 90.0
VERTEBRA_MM = 34.0  # one vertebra and the disc below it


@dataclass(frozen=True, slots=True)
class Organ:
    """An ellipsoid: half axes, and the centre relative to the body's; (z, y, x) grow upward, backward, to the left."""

    label: int
    hu: float
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]


LIVER = Organ(LABELS["liver"], 105.0, (25.0, -12.0, -62.0), (58.0, 62.0, 62.0))
SPINE = Organ(LABELS["spine"], 230.0, (0.0, 66.0, 0.0), (1e4, 20.0, 24.0))  # a column that leaves the scan at both ends
ORGANS = (
    LIVER,
    Organ(LABELS["spleen"], 145.0, (32.0, 32.0, 92.0), (40.0, 34.0, 24.0)),
    Organ(LABELS["kidneys"], 195.0, (-30.0, 46.0, -62.0), (42.0, 24.0, 25.0)),
    Organ(LABELS["kidneys"], 195.0, (-22.0, 48.0, 60.0), (44.0, 24.0, 25.0)),
    SPINE,
)
BODY = Organ(0, FAT_HU, (0.0, 0.0, 0.0), (1e4, 104.0, 148.0))
LESION_HU = 45.0
LESION_RADIUS_MM = (11.0, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomCase:
    """One drawn case; both arrays are (z, y, x)."""

    hu: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]


def draw_case(seed: int | Sequence[int]) -> PhantomCase:
    """Draw one abdomen: int16 Hounsfield units and uint8 labels, both (z, y, x). The same seed draws the same voxels.

    >>> case = draw_case(seed=1)
    >>> case.hu.shape == case.labels.shape, int(case.labels.max())
    (True, 5)
    """
    rng = np.random.default_rng(seed)
    pixel_mm = round(float(rng.uniform(*PIXEL_MM)), 2)
    spacing_mm = (round(float(rng.uniform(*SLICE_DISTANCE_MM)), 1), pixel_mm, pixel_mm)
    points = _deformed_points(rng, spacing_mm)
    size = float(rng.normal(1.0, 0.05))  # small and large people

    def inside(organ: Organ) -> np.ndarray:
        return _occupancy(_distance_mm(points, organ, size))

    hu = np.full(points.shape[1:], AIR_HU)
    labels = np.zeros(points.shape[1:], dtype=np.uint8)
    hu += inside(BODY) * (FAT_HU - hu)
    for unlabelled in _unlabelled(rng):
        hu += inside(unlabelled) * (unlabelled.hu - hu)
    for organ in ORGANS:
        organ = _varied(organ, rng)
        occupancy = inside(organ)
        hu += occupancy * ((_vertebrae(points[0], organ.hu) if organ.label == SPINE.label else organ.hu) - hu)
        labels[occupancy > 0.5] = organ.label
        if organ.label == LIVER.label:
            lesion = inside(_lesion(organ, rng)) * occupancy
            hu += lesion * (LESION_HU - hu)
            labels[lesion > 0.5] = LABELS["lesion"]
    return PhantomCase(hu=_noisy(hu, rng), labels=labels, spacing_mm=spacing_mm)


def write_phantom(
    folder: Path, *, cases: int, seed: int, prefix: str = "phantom", progress: Progress = silent
) -> tuple[str, ...]:
    """Write a dataset of ``cases`` NIfTI volumes: ``images/``, ``labels/`` and an ``nnlite.json``; return the case ids.

    Case i of a seed is the same whatever their number; another ``prefix`` draws other cases (held-out ones, say).
    """
    ids = tuple(f"{prefix}_{number:02d}" for number in range(1, cases + 1))
    for number, case_id in enumerate(ids):
        case = draw_case((seed, *prefix.encode(), number))
        shape = case.hu.shape
        centred = [-(n - 1) / 2 * mm for n, mm in zip(shape, case.spacing_mm, strict=True)]
        geometry = Geometry(
            shape=(shape[0], shape[1], shape[2]),
            spacing_mm=case.spacing_mm,
            origin_mm=(centred[0], centred[1], centred[2]),
            direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        )
        write_image(folder / "images" / f"{case_id}.nii.gz", case.hu[None], geometry)
        write_image(folder / "labels" / f"{case_id}.nii.gz", case.labels[None], geometry)
        progress("drawing phantoms", number + 1, cases)
    write_text(folder / "nnlite.json", json.dumps({"channels": ["CT"], "labels": LABELS}, indent=2) + "\n")
    return ids


def _deformed_points(rng: np.random.Generator, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Anatomical coordinates in mm of every voxel, (3, z, y, x): its place in the scan plus a few gentle waves."""
    shape = [round(mm / step) for mm, step in zip(SCAN_MM, spacing_mm, strict=True)]
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    place = points.copy()
    for axis in range(3):
        for wavelength_mm, height_mm in ((220.0, 5.0), (130.0, 3.0), (80.0, 2.0)):
            direction = rng.normal(size=3)
            wave = 2 * np.pi / wavelength_mm * direction / np.linalg.norm(direction)
            points[axis] += height_mm * np.sin(np.tensordot(wave, place, axes=1) + rng.uniform(0, 2 * np.pi))
    return points


def _distance_mm(points: np.ndarray, organ: Organ, size: float) -> np.ndarray:
    """About how far each point lies outside of an organ (negative: inside)."""
    radii = np.asarray(organ.radii_mm) * size
    offset = (points - (np.asarray(organ.centre_mm) * size)[:, None, None, None]) / radii[:, None, None, None]
    return (np.sqrt((offset**2).sum(axis=0)) - 1) * radii.min()


def _occupancy(distance_mm: np.ndarray) -> np.ndarray:
    """Share of a tissue in each voxel: 1/2 on its border, falling off within ``BORDER_MM``."""
    return 0.5 * (1 - np.tanh(distance_mm / BORDER_MM))


def _varied(organ: Organ, rng: np.random.Generator) -> Organ:
    """The same organ in another person."""
    z, y, x = np.asarray(organ.centre_mm) + rng.normal(0, 4.0, size=3)
    depth, height, width = np.asarray(organ.radii_mm) * rng.normal(1.0, 0.07, size=3).clip(0.8, 1.2)
    return Organ(organ.label, organ.hu + rng.normal(0, 8.0), (z, y, x), (depth, height, width))


def _lesion(liver: Organ, rng: np.random.Generator) -> Organ:
    """A roundish lesion with its centre within the middle half of the liver."""
    direction = rng.normal(size=3)
    offset = direction / np.linalg.norm(direction) * rng.uniform(0.1, 0.5)
    z, y, x = np.asarray(liver.centre_mm) + offset * np.asarray(liver.radii_mm)
    depth, height, width = rng.uniform(*LESION_RADIUS_MM) * rng.uniform(0.85, 1.15, size=3)
    return Organ(LABELS["lesion"], LESION_HU, (z, y, x), (depth, height, width))


def _unlabelled(rng: np.random.Generator) -> list[Organ]:
    """What else there is: back muscles, the aorta, and loops of bowel that look like organs."""
    muscles = [Organ(0, MUSCLE_HU, (0.0, 68.0, side * 42.0), (1e4, 24.0, 30.0)) for side in (-1, 1)]
    aorta = Organ(0, VESSEL_HU, (0.0, 34.0, 8.0), (1e4, 10.0, 10.0))
    loops = [
        Organ(
            0,
            BOWEL_HU + rng.normal(0, 15.0),
            (rng.uniform(-75, 30), rng.uniform(-70, 5), rng.uniform(0, 85)),
            (r, r, r),
        )
        for r in rng.uniform(12.0, 22.0, size=8)
    ]
    return [*muscles, aorta, *loops]


def _vertebrae(z_mm: np.ndarray, bone_hu: float) -> np.ndarray:
    """Hounsfield units along the spine: bone, with a softer disc every ``VERTEBRA_MM``."""
    disc = _occupancy(np.abs((z_mm % VERTEBRA_MM) - VERTEBRA_MM / 2) - 4.0)  # a disc is about 8 mm high
    return bone_hu + disc * (DISC_HU - bone_hu)


def _noisy(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise whose neighbours in a slice are alike, as reconstruction makes them, and store as scanners do."""
    noise = rng.normal(size=hu.shape)
    noise = (noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)) / np.sqrt(3)
    return np.clip(np.rint(hu + NOISE_HU * noise), -1024, 3071).astype(np.int16)
