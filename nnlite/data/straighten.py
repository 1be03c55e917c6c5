"""Put axes at right angles that are not quite so: the grid of a file whose header was rounded, averaged or sheared.

Between a header and a ``Geometry`` that can be trusted. The nearest axes at right angles are the orthogonal factor of
the polar decomposition (Higham, SIAM J. Sci. Stat. Comput. 7, 1160-1174, 1986); the centre of the volume stays where
it is, so that the corners move least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from nnlite.data.geometry import ORIGIN_TOLERANCE, Geometry, rows, triple

RIGHT_ANGLE_TOLERANCE = 1e-4  # of the cosine between two axes: rounding; ITK refuses NIfTI files beyond it
MOVED_VOXELS = 1.0  # a corner may move so far without being asked for: less than where structures are drawn
MOST_DEG = 5.0  # more is no rounding but a tilted scan, however few its voxels
SMALLEST_VOLUME = 1e-3  # of unit axes: below, two of them nearly coincide and no right angles can be told from them


@dataclass(frozen=True, slots=True, kw_only=True)
class Straightened:
    """A grid whose axes were put at right angles: how far they were off, and how far the farthest corner moved."""

    geometry: Geometry
    angle_deg: float
    corner_mm: float

    @property
    def noticed(self) -> bool:
        """Whether it is more than rounding."""
        return self.corner_mm > ORIGIN_TOLERANCE * min(self.geometry.spacing_mm)

    @property
    def small(self) -> bool:
        """Whether nobody could see the difference."""
        return self.corner_mm <= MOVED_VOXELS * min(self.geometry.spacing_mm) and self.angle_deg <= MOST_DEG

    def refused_in_words(self) -> str:
        """What is wrong with a grid that nobody straightens unasked."""
        off = f"its axes are up to {self.angle_deg:.2g} degrees off a right angle (a sheared or tilted scan)"
        return f"{off}; to straighten them would move its corners by up to {self.corner_mm:.3g} mm"

    def in_words(self) -> str:
        """What was done.

        >>> a = Geometry(shape=(9, 9, 9), spacing_mm=(1.0, 1.0, 1.0))
        >>> Straightened(geometry=a, angle_deg=0.21, corner_mm=0.4).in_words()
        'its axes are up to 0.21 degrees off a right angle; straightened, which moves its corners by up to 0.4 mm'
        """
        off = f"its axes are up to {self.angle_deg:.2g} degrees off a right angle"
        return f"{off}; straightened, which moves its corners by up to {self.corner_mm:.2g} mm"


def straighten(grid: Geometry) -> Straightened | None:
    """The grid with its axes at right angles; None if they are already. ``ValueError`` if axes coincide."""
    axes = np.array(grid.direction)
    cosines = np.abs(axes.T @ axes - np.eye(3))
    if cosines.max() <= RIGHT_ANGLE_TOLERANCE:
        return None
    if not abs(np.linalg.det(axes)) >= SMALLEST_VOLUME:
        raise ValueError("its axes lie in one plane or are empty, so that it has no place in the patient")
    left, _, right = np.linalg.svd(axes)
    moved = (left @ right - axes) * np.array(grid.spacing_mm)
    origin = np.array(grid.origin_mm) - moved @ ((np.array(grid.shape) - 1) / 2)
    straight = replace(grid, origin_mm=triple(origin), direction=rows(left @ right))
    return Straightened(
        geometry=straight,
        angle_deg=math.degrees(math.asin(min(1.0, float((cosines - np.diag(np.diag(cosines))).max())))),
        corner_mm=farthest_corner_mm(grid, straight),
    )


def farthest_corner_mm(first: Geometry, second: Geometry) -> float:
    """How far apart the same corner of two grids lies at most; infinite for grids of other shapes.

    >>> a = Geometry(shape=(9, 9, 9), spacing_mm=(1.0, 1.0, 1.0))
    >>> farthest_corner_mm(a, replace(a, origin_mm=(0.0, 3.0, 4.0)))
    5.0
    """
    if first.shape != second.shape:
        return math.inf
    ends = np.array(first.shape) - 1
    corners = np.array([np.array(corner) * ends for corner in product((0, 1), repeat=3)])
    places = [
        np.array(grid.origin_mm) + (corners * grid.spacing_mm) @ np.array(grid.direction).T for grid in (first, second)
    ]
    return float(np.linalg.norm(places[0] - places[1], axis=1).max())
