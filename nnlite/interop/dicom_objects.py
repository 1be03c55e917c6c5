"""What segmentations and structure sets share: patient coordinates, references to slices, the identity of a patient.

DICOM names x first and measures in mm; voxels are (slice, row, column) as everywhere in nnlite.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from nnlite.data.dicom.headers import Frame, require_pydicom
from nnlite.data.geometry import Geometry

if TYPE_CHECKING:
    import pydicom

MANUFACTURER = "nnlite"
SERIES_NUMBER = 9000  # beyond what scanners count to, so that results come last
Members = Sequence[Sequence[int]]  # for each structure, the labels it consists of
KNOWN_OR_EMPTY = (  # to be there even if nobody knows them (type 2)
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("ReferringPhysicianName", "StudyID", "AccessionNumber"),
)
IDENTITY = (  # of patient and study: what is derived from a series belongs to them (PS3.3 C.7.1.1, C.7.2.1)
    *KNOWN_OR_EMPTY,
    *("PatientAge", "PatientWeight", "StudyInstanceUID", "StudyDescription"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "SpecificCharacterSet"),
)


def to_patient(geometry: Geometry, voxels: np.ndarray) -> np.ndarray:
    """Points (n, 3) as x, y, z in mm from points as slice, row, column.

    >>> grid = Geometry(shape=(4, 4, 4), spacing_mm=(2.0, 1.0, 0.5), origin_mm=(-7.0, 0.0, 5.0))
    >>> to_patient(grid, np.array([[1, 2, 3]])).tolist()
    [[6.5, 2.0, -5.0]]
    """
    zyx = (voxels * geometry.spacing_mm) @ np.transpose(geometry.direction) + geometry.origin_mm
    return zyx[:, ::-1]


def to_voxels(geometry: Geometry, points_mm: np.ndarray) -> np.ndarray:
    """Points (n, 3) as slice, row, column from points as x, y, z in mm: the way back of ``to_patient``."""
    offset = points_mm[:, ::-1] - np.array(geometry.origin_mm)
    return offset @ np.linalg.inv(np.transpose(geometry.direction)) / geometry.spacing_mm


def reference(kind: str, frame: Frame) -> pydicom.Dataset:
    """Which slice is meant, as other objects name it; ``kind`` is the class UID of its file."""
    item = require_pydicom().Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, frame.instance_uid
    if frame.number:
        item.ReferencedFrameNumber = frame.number + 1  # DICOM counts from 1
    return item


def described_like(source: pydicom.Dataset, kind: str, *, modality: str, description: str) -> pydicom.Dataset:
    """A new object of class ``kind`` for the patient and study of ``source``, in a series of its own."""
    pydicom = require_pydicom()
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    # explicit ones have no room for outlines of more than 64 kB
    file.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    for keyword in IDENTITY:
        if keyword in source:
            file[keyword] = source[keyword]
        elif keyword in KNOWN_OR_EMPTY:
            setattr(file, keyword, "")
    now = datetime.now()
    file.SOPClassUID, file.SOPInstanceUID = kind, pydicom.uid.generate_uid()
    file.SeriesInstanceUID, file.SeriesNumber = pydicom.uid.generate_uid(), SERIES_NUMBER
    file.InstanceNumber, file.Modality, file.SeriesDescription = 1, modality, description
    file.SeriesDate = file.InstanceCreationDate = now.strftime("%Y%m%d")
    file.SeriesTime = file.InstanceCreationTime = now.strftime("%H%M%S")
    file.Manufacturer, file.ManufacturerModelName = MANUFACTURER, MANUFACTURER
    file.SoftwareVersions, file.OperatorsName = version("nnlite"), ""
    return file
