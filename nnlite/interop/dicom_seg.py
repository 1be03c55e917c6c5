"""DICOM segmentations: segments to masks, and label maps to segments (DICOM PS3.3 A.51, C.8.20).

Reading needs pydicom alone and knows all four ways of storing: binary, fractional (a voxel belongs to a segment from
half of the largest value on), overlapping segments, and label maps. Writing is highdicom's (Bridge et al., Journal of
Digital Imaging 35, 1719-1737, 2022). Masks lie on the grid of the series, (slices, rows, columns) as in ``Stack``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnlite.data.dicom.headers import NOT_READABLE, Frame, frame_value, frames, read_header
from nnlite.data.dicom.stack import Stack
from nnlite.data.records import written_whole
from nnlite.errors import ImageError, UsageError
from nnlite.interop.dicom_objects import MANUFACTURER, SERIES_NUMBER, Members, to_voxels
from nnlite.interop.organ_codes import LONGEST_MEANING, meaning_of, private_code

if TYPE_CHECKING:
    import pydicom

HALF = 0.5  # of a fractional segment: the voxel belongs to it
OFF_GRID = 0.1  # of a voxel: a frame further off lies on another grid


def segment_names(header: pydicom.Dataset) -> tuple[str, ...]:
    """Labels of the segments; the background of a label map is none."""
    return tuple(dict.fromkeys(_labels(header).values()))


def segmented_series(header: pydicom.Dataset) -> tuple[str, ...]:
    """UIDs of the image series that a segmentation was made on."""
    return tuple(str(series.SeriesInstanceUID) for series in header.get("ReferencedSeriesSequence") or ())


def read_segments(path: Path, stack: Stack, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Masks (slices, rows, columns) of the segments of these names, on the grid of a series.

    Raises ``ImageError`` where the segmentation lies on another grid.
    """
    wanted = set(names)
    file = read_header(path, pixels=True)
    try:
        labels = {number: label for number, label in _labels(file).items() if label in wanted}
        masks = {label: np.zeros(stack.geometry.shape, dtype=bool) for label in labels.values()}
        slices = frames(path, file)
        stored = np.asarray(file.pixel_array).reshape(len(slices), *slices[0].shape)
        for frame in slices:
            for number, inside in _segments(file, frame.number, stored[frame.number]):
                if number in labels and inside.any():
                    _paint(masks[labels[number]], inside, frame, stack)
    except (*NOT_READABLE, NotImplementedError, RuntimeError) as error:
        raise ImageError(f"{path}: cannot be read as a segmentation ({error}); export it again") from error
    return masks


def _labels(header: pydicom.Dataset) -> dict[int, str]:
    named = {
        int(segment.SegmentNumber): str(segment.get("SegmentLabel", "")).strip()
        for segment in header.get("SegmentSequence") or ()
    }
    return {number: label or f"segment {number}" for number, label in named.items() if number > 0}


def _segments(file: pydicom.Dataset, number: int, stored: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The segments in one frame, each with its mask (rows, columns)."""
    if file.SegmentationType == "LABELMAP":
        for segment in np.unique(stored[stored > 0]).tolist():
            yield segment, stored == segment
        return
    segment = int(frame_value(file, number)("SegmentIdentificationSequence", "ReferencedSegmentNumber"))
    full = int(file.MaximumFractionalValue) if file.SegmentationType == "FRACTIONAL" else 1
    yield segment, stored >= HALF * full


def _paint(mask: np.ndarray, inside: np.ndarray, frame: Frame, stack: Stack) -> None:
    """Set the voxels of a frame in the mask of the volume, whatever way the frame is turned."""
    origin, steps = _place(frame, stack)
    voxels = np.argwhere(inside) @ steps + origin
    if (voxels < 0).any() or (voxels >= mask.shape).any():
        raise ImageError(
            f"{frame.path}: reaches beyond series {stack.series.in_words()}; give the series it belongs to"
        )
    mask[tuple(voxels.T)] = True


def _place(frame: Frame, stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """The voxel of the frame's first, and the steps (2, 3) in voxels to its next row and to its next column."""
    if not (frame.position_mm and frame.orientation and frame.spacing_mm):
        raise ImageError(f"{frame.path}: frame {frame.number + 1} tells no place in the patient; export it again")
    along_row, along_column = np.array(frame.orientation).reshape(2, 3)
    down, right = along_column * frame.spacing_mm[0], along_row * frame.spacing_mm[1]
    ends = np.array([[0, 0], [frame.shape[0] - 1, 0], [0, frame.shape[1] - 1], [1, 0], [0, 1]])
    points = np.array(frame.position_mm) + ends @ np.stack([down, right])
    exact = to_voxels(stack.geometry, points)
    origin, steps = np.rint(exact[0]).astype(int), np.rint(exact[3:] - exact[0]).astype(int)
    off = float(np.abs(exact - (origin + ends @ steps)).max())
    if off > OFF_GRID or (np.abs(steps).sum(axis=1) != 1).any():
        raise ImageError(
            f"{frame.path}: frame {frame.number + 1} is {off:.2f} voxels off the grid of series "
            f"{stack.series.in_words()}; resample the segmentation onto the series, or give the series it was made on"
        )
    return origin, steps


def write_segments(
    path: Path, indices: np.ndarray, names: Sequence[str], stack: Stack, members: Members | None = None
) -> None:
    """Write label k of ``indices`` (slices, rows, columns) as binary segment k called ``names[k - 1]``, k from 1.

    ``members`` makes a segment of several labels, and lets segments overlap: for each name, the labels it consists of.
    The file refers to every slice of the series, and appears whole.
    """
    highdicom = require_highdicom()
    sources = [read_header(file) for file in dict.fromkeys(frame.path for frame in stack.frames)]
    if len(sources) < len(stack.frames):  # one file of many frames: highdicom wants them in its order
        indices = indices[np.argsort([frame.number for frame in stack.frames])]
    pixels = indices if members is None else np.stack([np.isin(indices, labels) for labels in members], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the patient's name, which is as the scanner wrote it
        segmentation = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(number, name) for number, name in enumerate(names, start=1)],
            series_instance_uid=highdicom.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MANUFACTURER,
            software_versions=version("nnlite"),
            device_serial_number="none",
            series_description="nnlite segmentation",
        )
    with written_whole(path) as beside:
        segmentation.save_as(beside, enforce_file_format=True)


def _description(number: int, name: str) -> Any:
    """A segment's label with its code, side and the algorithm."""
    highdicom = require_highdicom()
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    meaning = meaning_of(name)
    kind = getattr(codes.SCT, meaning.keyword) if meaning.keyword else Code(*private_code(name))
    category = codes.SCT.MorphologicallyAbnormalStructure if meaning.abnormal else codes.SCT.AnatomicalStructure
    description = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:LONGEST_MEANING],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=MANUFACTURER, version=version("nnlite"), family=codes.DCM.ArtificialIntelligence
        ),
    )
    if meaning.side:
        side = highdicom.sr.CodedConcept.from_code(getattr(codes.SCT, meaning.side))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def require_highdicom() -> Any:
    """The library highdicom; ``UsageError`` where it is missing."""
    try:
        import highdicom
    except ImportError as error:
        raise UsageError(
            "DICOM segmentations are written with highdicom; install it with: pip install 'nnlite[dicom]'"
        ) from error
    return highdicom
