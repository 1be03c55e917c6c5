"""How a patch is turned, scaled, deformed and mirrored: drawn before anything is read, carried out in ``assemble.py``.

Rotation, scaling and mirroring follow nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021). Quarter turns move
voxels without interpolation. A turn never mirrors, so no label is exchanged by one; but a mirror along y of an image
that is then turned by 90 degrees is a mirror along x. Where labels have sides, quarter turns therefore keep to planes
without the axis from right to left, and rotations in the others to the range of volumes: which side a label is on, and
along which axis mirrors exchange it, stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar

import numpy as np

from nnlite.planning.configurations import Configuration
from nnlite.planning.mirroring import left_right_axis
from nnlite.planning.planner import Plan
from nnlite.training.augmentation.elastic import draw_displacements, reach

SCALING_RANGE = (0.7, 1.4)
ROTATION_3D_DEG = 30.0
ROTATION_2D_DEG = 180.0
ROTATION_2D_ELONGATED_DEG = 15.0
ELONGATED_RATIO = 1.5  # a 2D patch longer than this would be turned out of the image
ANISOTROPY_RATIO = 3.0  # a patch flatter than this is turned in-plane only
MIRROR_PROBABILITY = 0.5
EQUAL_SPACING = 0.01  # relative difference up to which two axes may change places

Turn = tuple[int, int, int]
"""Two axes of a patch, and how many quarter turns lead from the first towards the second."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spatial:
    """How often patches are moved, and how much: the defaults are nnU-Net's.

    ``elastic_voxels`` are the limits of the standard deviation that displacements of the grid points are drawn with.
    """

    rotation: float = 0.2
    scaling: float = 0.2
    mirrors: bool = True
    elastic: float = 0.0
    elastic_points: int = 3
    elastic_voxels: tuple[float, float] = (0.0, 0.0)
    quarter_turns: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """All that is needed to draw where the voxels of a patch come from.

    ``mirror_axes`` are those along which patches may be mirrored, ``turn_planes`` pairs of axes that may change places.
    ``sided`` is the axis along which labels tell left from right, None where they do not.
    """

    spatial: Spatial = field(default_factory=Spatial)
    mirror_axes: tuple[int, ...] = ()
    sided: int | None = None
    turn_planes: tuple[tuple[int, int], ...] = ()
    spacing_mm: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What was drawn for a patch: ``pose`` and ``flips`` as those of ``Patch``.

    ``displacements`` (ndim, *grid) in voxels come on top of the pose; the patch is cut out after its ``turn``.
    """

    pose: np.ndarray | None = None
    displacements: np.ndarray | None = None
    flips: tuple[int, ...] = ()
    turn: Turn | None = None


STILL = Motion()


def placing_of(spatial: Spatial, plan: Plan, configuration: Configuration) -> Placing:
    """How patches of a configuration may be moved so that spacings and sides stay what they are."""
    sided = left_right_axis(plan.transpose, configuration.topology.ndim)
    if not (plan.labels.mirrored or plan.labels.one_sided):
        sided = None
    return Placing(
        spatial=spatial,
        mirror_axes=configuration.mirrored_axes if spatial.mirrors else (),
        sided=sided,
        turn_planes=turn_planes(configuration.spacing_mm, sided),
        spacing_mm=configuration.spacing_mm,
    )


def turn_planes(spacing_mm: Sequence[float], sided: int | None = None) -> tuple[tuple[int, int], ...]:
    """Pairs of axes of equal spacing; none with the axis ``sided`` along which labels tell left from right.

    >>> turn_planes((3.0, 1.0, 1.0)), turn_planes((1.0, 1.0, 1.0), sided=2)
    (((1, 2),), ((0, 1),))
    """
    return tuple(
        (first, second)
        for first, second in combinations(range(len(spacing_mm)), 2)
        if sided not in (first, second)
        and abs(spacing_mm[first] - spacing_mm[second]) <= EQUAL_SPACING * max(spacing_mm[first], spacing_mm[second])
    )


def draw_motion(rng: np.random.Generator, patch_size: Sequence[int], placing: Placing) -> Motion:
    """Pose, deformation, flips and turn of one sample."""
    spatial = placing.spatial
    pose = draw_pose(rng, patch_size, spatial, placing.sided)
    flips = tuple(axis for axis in placing.mirror_axes if rng.random() < MIRROR_PROBABILITY)
    displacements, turn = None, None
    if spatial.elastic and rng.random() < spatial.elastic:
        displacements = draw_displacements(
            rng,
            patch_size,
            points=spatial.elastic_points,
            std_voxels=rng.uniform(*spatial.elastic_voxels),
            spacing_mm=placing.spacing_mm,
            in_plane=_flat(patch_size),
        )
        pose = np.eye(len(patch_size)) if pose is None else pose
    if spatial.quarter_turns and placing.turn_planes and rng.random() < spatial.quarter_turns:
        first, second = placing.turn_planes[rng.integers(len(placing.turn_planes))]
        turn = (first, second, int(rng.integers(1, 4)))
    return Motion(pose=pose, displacements=displacements, flips=flips, turn=turn)


def draw_pose(
    rng: np.random.Generator, patch_size: Sequence[int], spatial: Spatial | None = None, sided: int | None = None
) -> np.ndarray | None:
    """Rotation and scaling of one sample as a matrix (patch offset -> image offset), or None for neither.

    Labels on the ``sided`` axis stay on their side.
    """
    spatial = spatial or Spatial()
    rotates = rng.random() < spatial.rotation
    scales = rng.random() < spatial.scaling
    if not (rotates or scales):
        return None
    ndim = len(patch_size)
    in_plane = _flat(patch_size)
    pose = np.eye(ndim)
    if rotates:
        pose = _rotation(rng, patch_size, in_plane, sided)
    if scales:
        low, high = SCALING_RANGE
        scale = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)  # as often smaller as larger
        factors = np.full(ndim, scale)
        if in_plane:
            factors[0] = 1
        pose = pose * factors
    return pose


def _flat(patch_size: Sequence[int]) -> bool:
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > ANISOTROPY_RATIO


def _rotation(rng: np.random.Generator, patch_size: Sequence[int], in_plane: bool, sided: int | None) -> np.ndarray:
    ndim = len(patch_size)
    if ndim == 2 or in_plane:
        plane = patch_size[-2:]
        limit = ROTATION_2D_ELONGATED_DEG if max(plane) / min(plane) > ELONGATED_RATIO else ROTATION_2D_DEG
        if sided in (ndim - 2, ndim - 1):
            limit = min(limit, ROTATION_3D_DEG)  # beyond 90 degrees left would be where right was
        return _plane_rotation(ndim, -2, -1, math.radians(rng.uniform(-limit, limit)))
    matrix = np.eye(3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = math.radians(rng.uniform(-ROTATION_3D_DEG, ROTATION_3D_DEG))
        matrix = matrix @ _plane_rotation(3, first, second, angle)
    return matrix


def _plane_rotation(ndim: int, first: int, second: int, angle: float) -> np.ndarray:
    matrix = np.eye(ndim)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second] = -math.sin(angle)
    matrix[second, first] = math.sin(angle)
    return matrix


def region_size(
    patch_size: Sequence[int], pose: np.ndarray | None, displacements: np.ndarray | None = None
) -> tuple[int, ...]:
    """Voxels per axis that a posed patch touches: the patch itself without a pose.

    >>> region_size((32, 32), np.eye(2) * 1.25)  # from the centre the patch reaches 15.5 x 1.25 = 19.4 voxels
    (40, 40)
    """
    if pose is None:
        return tuple(patch_size)
    half = (np.asarray(patch_size) - 1) / 2
    reached = np.abs(pose) @ half
    if displacements is not None:
        reached = reached + reach(displacements, patch_size)
    # the same parity as the patch, so that both centres fall together
    extra = np.maximum(0, np.ceil(reached - half)).astype(int)
    return tuple(int(size + 2 * more) for size, more in zip(patch_size, extra, strict=True))


def before_turn(per_axis: Sequence[T], turn: Turn | None) -> tuple[T, ...]:
    """Numbers per axis of a patch, as they are per axis of the image that it is turned from.

    >>> before_turn((8, 20, 30), (1, 2, 3)), before_turn((8, 20, 30), (1, 2, 2))
    ((8, 30, 20), (8, 20, 30))
    """
    values = list(per_axis)
    if turn is not None and turn[2] % 2:
        first, second, _ = turn
        values[first], values[second] = values[second], values[first]
    return tuple(values)


def turned(volume: np.ndarray, turn: Turn | None, ndim: int) -> np.ndarray:
    """A volume (..., *region) of ``ndim`` axes, turned: a view."""
    if turn is None:
        return volume
    leading = volume.ndim - ndim
    return np.rot90(volume, turn[2], axes=(leading + turn[0], leading + turn[1]))
