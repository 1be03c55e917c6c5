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
        return self.corner_mm <= MOVED_VOXELS * min(self.geometry.spacing_mm)

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
    spacing, ends = np.array(grid.spacing_mm), np.array(grid.shape) - 1
    moved = (left @ right - axes) * spacing
    origin = np.array(grid.origin_mm) - moved @ (ends / 2)
    corners = (np.array(corner) * ends - ends / 2 for corner in product((0, 1), repeat=3))
    return Straightened(
        geometry=replace(grid, origin_mm=triple(origin), direction=rows(left @ right)),
        angle_deg=math.degrees(math.asin(min(1.0, float((cosines - np.diag(np.diag(cosines))).max())))),
        corner_mm=max(float(np.linalg.norm(moved @ corner)) for corner in corners),
    )
