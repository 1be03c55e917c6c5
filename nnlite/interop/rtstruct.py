"""Structure sets of radiotherapy: outlines to masks, and masks to outlines (DICOM PS3.3 A.19, RTSTRUCT).

Masks lie on the grid of the series that the outlines were drawn on, (slices, rows, columns) in the order of
``Stack``; which voxels are inside is the rule of ``contours.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.dicom.headers import NOT_READABLE, STRUCTURE_SET, read_header, require_pydicom
from nnlite.data.dicom.stack import Stack
from nnlite.data.records import written_whole
from nnlite.errors import ImageError
from nnlite.evaluation.palette import label_colour
from nnlite.interop.contours import filled, traced
from nnlite.interop.dicom_objects import Members, described_like, reference, to_patient, to_voxels

if TYPE_CHECKING:
    import pydicom

IN_SLICE = 0.25  # of the slice distance: an outline further from every slice was drawn on another series
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")  # points and open lines enclose nothing
DIGITS = 10  # of a coordinate in mm; with sign and point it fits into the 16 letters that DICOM allows


def referenced_series(header: pydicom.Dataset) -> tuple[str, ...]:
    """UIDs of the image series that a structure set was drawn on."""
    return tuple(
        str(series.SeriesInstanceUID)
        for frame in header.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    )


def structure_names(header: pydicom.Dataset) -> tuple[str, ...]:
    """Names of the structures in a structure set, those without outlines included."""
    return tuple(str(roi.get("ROIName", "")).strip() for roi in header.get("StructureSetROISequence") or ())


def read_structures(path: Path, stack: Stack, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Masks (slices, rows, columns) of the structures of these names; a structure without outlines is empty.

    Raises ``ImageError`` where an outline does not lie in a slice of the series.
    """
    wanted = set(names)
    file = read_header(path)
    try:
        by_number = {
            int(roi.ROINumber): str(roi.get("ROIName", "")).strip() for roi in file.get("StructureSetROISequence") or ()
        }
        masks = {name: np.zeros(stack.geometry.shape, dtype=bool) for name in by_number.values() if name in wanted}
        for item in file.get("ROIContourSequence") or ():
            name = by_number.get(int(item.ReferencedROINumber), "")
            if name in masks:
                _fill(masks[name], _outlines(item), stack, f"{path}: structure {name!r}")
    except NOT_READABLE as error:
        raise ImageError(f"{path}: is cut short or damaged ({error}); get the file again") from error
    return masks


def _outlines(item: Any) -> list[np.ndarray]:
    """Closed outlines of a structure as points (n, 3) in mm, x first."""
    return [
        np.array(contour.ContourData, dtype=float).reshape(-1, 3)
        for contour in item.get("ContourSequence") or ()
        if contour.get("ContourGeometricType", CLOSED[0]) in CLOSED
    ]


def _fill(mask: np.ndarray, outlines_mm: Sequence[np.ndarray], stack: Stack, where: str) -> None:
    by_slice: dict[int, list[np.ndarray]] = defaultdict(list)
    for outline in outlines_mm:
        voxels = to_voxels(stack.geometry, outline)
        height = float(voxels[:, 0].mean())
        if np.abs(voxels[:, 0] - round(height)).max() > IN_SLICE or not 0 <= round(height) < len(mask):
            x, y, z = outline.mean(axis=0)
            raise ImageError(
                f"{where} has an outline at ({x:.1f}, {y:.1f}, {z:.1f}) mm that lies in no slice of series "
                f"{stack.series.in_words()}; it was drawn on another series, or between slices: export it again"
            )
        by_slice[round(height)].append(voxels[:, 1:])
    for index, outlines in by_slice.items():
        mask[index] ^= filled(outlines, mask[index].shape)


def write_structures(
    path: Path, indices: np.ndarray, names: Sequence[str], stack: Stack, members: Members | None = None
) -> None:
    """Write label k of ``indices`` (slices, rows, columns) as closed outlines called ``names[k - 1]``, k from 1.

    ``members`` makes a structure of several labels: for each name, the labels it consists of. The outlines lie in the
    slices of the series; the file appears whole.
    """
    pydicom = require_pydicom()
    source = read_header(stack.frames[0].path)
    file = described_like(source, STRUCTURE_SET, modality="RTSTRUCT", description="nnlite segmentation")
    file.StructureSetLabel = "nnlite"
    file.StructureSetDate, file.StructureSetTime = file.SeriesDate, file.SeriesTime
    file.ReferencedFrameOfReferenceSequence = pydicom.Sequence([_frame_of_reference(source, stack)])
    file.StructureSetROISequence = pydicom.Sequence()
    file.ROIContourSequence = pydicom.Sequence()
    file.RTROIObservationsSequence = pydicom.Sequence()
    parts = members or [(number,) for number in range(1, len(names) + 1)]
    for number, (name, labels) in enumerate(zip(names, parts, strict=True), start=1):
        roi, observation = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "AUTOMATIC"
        roi.ReferencedFrameOfReferenceUID = source.get("FrameOfReferenceUID", "")
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType, observation.ROIInterpreter = "", ""
        file.StructureSetROISequence.append(roi)
        file.RTROIObservationsSequence.append(observation)
        file.ROIContourSequence.append(_contours(number, np.isin(indices, labels), stack, str(source.SOPClassUID)))
    with written_whole(path) as beside:
        file.save_as(beside, enforce_file_format=True)


def _contours(number: int, mask: np.ndarray, stack: Stack, kind: str) -> pydicom.Dataset:
    """The outlines of one structure; ``kind`` is the class UID of the slices they lie in."""
    pydicom = require_pydicom()
    item = pydicom.Dataset()
    item.ReferencedROINumber = number
    item.ROIDisplayColor = list(label_colour(number))
    item.ContourSequence = pydicom.Sequence()
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        for outline in traced(mask[index]):
            voxels = np.column_stack([np.full(len(outline), float(index)), outline])
            contour = pydicom.Dataset()
            contour.ContourImageSequence = pydicom.Sequence([reference(kind, stack.frames[index])])
            contour.ContourGeometricType = CLOSED[0]
            contour.NumberOfContourPoints = len(outline)
            contour.ContourData = [f"{value:.{DIGITS}g}" for value in to_patient(stack.geometry, voxels).ravel()]
            item.ContourSequence.append(contour)
    return item


def _frame_of_reference(source: pydicom.Dataset, stack: Stack) -> pydicom.Dataset:
    """All slices of the series, by study and series, as the standard nests them."""
    pydicom = require_pydicom()
    series, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = stack.series.uid
    series.ContourImageSequence = pydicom.Sequence(
        [reference(str(source.SOPClassUID), frame) for frame in stack.frames]
    )
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, as the standard still asks
    study.ReferencedSOPInstanceUID = source.StudyInstanceUID
    study.RTReferencedSeriesSequence = pydicom.Sequence([series])
    frame.FrameOfReferenceUID = source.get("FrameOfReferenceUID", "")
    frame.RTReferencedStudySequence = pydicom.Sequence([study])
    return frame
