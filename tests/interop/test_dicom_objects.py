"""Patient coordinates, and the identity that a derived object takes over."""

from __future__ import annotations

import dicom_files as made
import numpy as np

from nnlite.data.geometry import Geometry
from nnlite.interop.dicom_objects import described_like, to_patient, to_voxels


def test_voxels_and_millimetres_are_each_other_s_way_back():
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    grid = Geometry(
        shape=(4, 5, 6),
        spacing_mm=(3.0, 0.7, 1.1),
        origin_mm=(-50.0, 12.5, 7.0),
        direction=tuple(tuple(row) for row in turn.tolist()),  # type: ignore[arg-type]
    )
    points = np.random.default_rng(1).uniform(-100, 100, (20, 3))
    np.testing.assert_allclose(to_patient(grid, to_voxels(grid, points)), points)
    np.testing.assert_allclose(to_patient(grid, np.zeros((1, 3))), [[7.0, 12.5, -50.0]])  # x first


def test_a_derived_object_belongs_to_the_patient_and_study_and_to_a_series_of_its_own():
    source = made.header(made.ramp())
    del source.AccessionNumber
    file = described_like(source, "1.2.3", modality="RTSTRUCT", description="masks")
    assert (file.PatientID, file.StudyInstanceUID, file.FrameOfReferenceUID) == ("P 1", "1.2.3", "1.2.3.9")
    assert file.AccessionNumber == ""  # has to be there
    assert file.SeriesInstanceUID != source.SeriesInstanceUID
    assert "PatientAge" not in file
