"""The map of instance numbers that lies beside a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnlite.data.geometry import StoredGrid
from nnlite.data.image import write_image
from nnlite.data.instances import INSTANCES


def instances_path(folder: Path, case_id: str, grid: StoredGrid) -> Path:
    """Where the map of a case goes: ``CASE.instances.EXT``, in the format of its mask."""
    return folder / f"{case_id}{INSTANCES}{grid.mask_suffix}"


def write_instances(path: Path, instances: np.ndarray, grid: StoredGrid) -> None:
    """Write instance numbers (z, y, x) in canonical orientation: 16 bit, or 32 bit beyond 65535 instances."""
    wide = np.uint16 if int(instances.max()) <= np.iinfo(np.uint16).max else np.uint32
    write_image(path, grid.as_stored(instances.astype(wide)[None]), grid.geometry, planar=grid.planar)
