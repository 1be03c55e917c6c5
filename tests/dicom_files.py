"""Small DICOM series made by the tests: any orientation, order of files, type of voxels and fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="needs pydicom, which the extra dicom installs")

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SPACING_MM = (3.0, 1.5, 0.75)  # slices, rows, columns
ORIGIN_MM = (-12.5, 20.0, -100.0)  # x, y, z


def ramp(shape: tuple[int, int, int] = (5, 6, 7), seed: int = 0) -> np.ndarray:
    """Stored values in which no two slices are alike."""
    return np.random.default_rng(seed).integers(0, 4000, shape).astype(np.int16)


def header(voxels: np.ndarray, kind: str = CT, **tags: Any) -> pydicom.Dataset:
    """A dataset with all that is the same in every slice of a series; ``tags`` overrule."""
    file = pydicom.Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.Modality = kind, "CT"
    file.PatientName, file.PatientID, file.PatientBirthDate, file.PatientSex = "Doe^Jane", "P 1", "", "O"
    file.StudyInstanceUID, file.StudyDate, file.StudyTime, file.StudyID = "1.2.3", "20200101", "120000", "1"
    file.ReferringPhysicianName, file.AccessionNumber, file.Manufacturer = "", "", "test"
    file.SeriesInstanceUID, file.SeriesNumber, file.SeriesDescription = "1.2.3.4", 4, "Thorax"
    file.FrameOfReferenceUID, file.PositionReferenceIndicator = "1.2.3.9", ""
    file.Rows, file.Columns = voxels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * voxels.dtype.itemsize
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(voxels.dtype.kind == "i")
    file.RescaleSlope, file.RescaleIntercept = 1, -1024
    file.PixelSpacing, file.SliceThickness = list(SPACING_MM[1:]), 99  # the thickness is not the distance
    file.ImageOrientationPatient = list(AXIAL)
    file.InstanceNumber, file.AcquisitionNumber = 1, 1
    for keyword, value in tags.items():
        setattr(file, keyword, value)
    return file


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    places_mm: Sequence[float] | None = None,
    prefix: str = "",
    **tags: Any,
) -> list[Path]:
    """Write slices (slices, rows, columns) whose names and instance numbers say nothing of their order.

    ``places_mm`` is where each lies along the normal, from ``ORIGIN_MM``; by default in steps of 3 mm.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    steps = places_mm if places_mm is not None else SPACING_MM[0] * np.arange(len(voxels))
    names = np.random.default_rng(5).permutation(len(voxels))
    paths = []
    for plane, place, name in zip(voxels, steps, names, strict=True):
        file = header(voxels, ImageOrientationPatient=list(orientation), **tags)
        file.SOPInstanceUID, file.InstanceNumber = generate_uid(), int(name) + 1
        file.ImagePositionPatient = [f"{value:.8g}" for value in np.array(ORIGIN_MM) + normal * place]
        file.PixelData = plane.tobytes()
        paths.append(folder / f"{prefix}{name:03d}.dcm")
        file.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(path: Path, voxels: np.ndarray) -> Path:
    """Write one file of many frames, in reversed order, each with a rescale slope of its own (frame number + 1)."""
    file = header(voxels, ENHANCED_CT, NumberOfFrames=len(voxels))
    for keyword in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(file, keyword)
    file.SOPInstanceUID = generate_uid()
    measures, orientation, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    orientation.ImageOrientationPatient = list(AXIAL)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence = [shared], []
    for number in range(len(voxels)):
        place, transformation, group = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        x, y, z = ORIGIN_MM
        place.ImagePositionPatient = [x, y, z + SPACING_MM[0] * (len(voxels) - 1 - number)]
        transformation.RescaleSlope, transformation.RescaleIntercept = number + 1, 0
        transformation.RescaleType = "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [transformation]
        file.PerFrameFunctionalGroupsSequence.append(group)
    file.PixelData = voxels[::-1].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path, enforce_file_format=True)
    return path


def change(path: Path, **tags: Any) -> None:
    """Set tags of a file, or take them away where the value is None."""
    file = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(file, keyword)
        else:
            setattr(file, keyword, value)
    file.save_as(path, enforce_file_format=True)
