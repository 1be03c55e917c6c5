"""In which form ``predict`` writes a mask: like its image, or as a DICOM object that belongs to the image's series."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from nnlite.data.dataset import Case
from nnlite.data.dicom.headers import SUFFIX, is_series
from nnlite.data.geometry import StoredGrid
from nnlite.data.image import write_mask
from nnlite.data.labels import Labels
from nnlite.errors import UsageError

OutputFormat = Literal["nifti", "dicom-seg", "rtstruct"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOutput:
    """The form of the masks, and the DICOM folder of each case; ``series`` is which one was read of several."""

    form: OutputFormat
    labels: Labels
    sources: Mapping[str, Path]
    series: str | None

    def path(self, folder: Path, case_id: str, grid: StoredGrid) -> Path:
        """Where the mask of a case goes."""
        return folder / f"{case_id}{grid.mask_suffix if self.form == 'nifti' else SUFFIX}"

    def write(self, path: Path, case_id: str, values: np.ndarray, grid: StoredGrid) -> None:
        """Write label values (z, y, x) in canonical orientation."""
        if self.form == "nifti":
            write_mask(path, values, grid)
            return
        from nnlite.data.dicom.series import read_series
        from nnlite.data.dicom.stack import stack
        from nnlite.interop.dicom_seg import write_segments
        from nnlite.interop.rtstruct import write_structures

        # read again: headers are small, and need not wait in memory while their case is predicted
        slices = stack(read_series(self.sources[case_id], self.series))
        indices = grid.as_stored(self.labels.to_indices(values)[None])[0]
        write = write_segments if self.form == "dicom-seg" else write_structures
        members = self.labels.members if self.labels.regions else None
        write(path, indices, self.labels.structures, slices, members)


def mask_output(
    cases: Iterable[Case], labels: Labels, form: OutputFormat, series: str | None, *, channel: int = 0
) -> MaskOutput:
    """For the cases of a prediction; ``UsageError`` where DICOM is asked for and an image is none.

    Masks belong to the series of this ``channel``.
    """
    sources = {case.id: case.images[channel if len(case.images) > 1 else 0] for case in cases}
    others = [path for path in sources.values() if not is_series(path)]
    if others and form != "nifti":
        raise UsageError(
            f"{others[0]} is no DICOM series, and its mask cannot refer to one; leave out --output-format {form}, "
            "or give folders of DICOM slices"
        )
    if series is not None and len(others) == len(sources):
        raise UsageError(f"--series chooses among DICOM series, and {others[0]} is none; leave it out")
    if form == "dicom-seg":
        from nnlite.interop.dicom_seg import require_highdicom

        require_highdicom()  # now, not after an hour of predicting
    return MaskOutput(form=form, labels=labels, sources=sources, series=series)
