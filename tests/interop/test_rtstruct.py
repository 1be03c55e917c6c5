"""Structure sets: what nnlite writes and reads, what others wrote, and outlines that do not fit."""

from __future__ import annotations

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from skimage.draw import polygon2mask

from nnlite.data.dicom.headers import STRUCTURE_SET, read_header
from nnlite.data.dicom.series import read_series
from nnlite.data.dicom.stack import Stack, stack
from nnlite.data.image import read_image
from nnlite.errors import ImageError
from nnlite.interop.rtstruct import read_structures, referenced_series, structure_names, write_structures

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)


def series(folder: Path, **tags: object) -> Stack:
    made.write_series(folder, made.ramp((5, 16, 18)), **tags)  # type: ignore[arg-type]
    return stack(read_series(folder))


def ring_and_block() -> np.ndarray:
    """Label 1 is a ring with an island in its hole, label 2 a block in one slice, label 3 nothing."""
    indices = np.zeros((5, 16, 18), dtype=np.uint8)
    indices[1:4, 2:13, 3:14] = 1
    indices[2, 4:11, 5:12] = 0
    indices[2, 6:8, 7:9] = 1
    indices[4, 13:15, 15:17] = 2
    return indices


@pytest.mark.parametrize("orientation", [made.AXIAL, OBLIQUE, (0, 1, 0, 0, 0, -1)])
def test_what_is_written_reads_back_voxel_by_voxel(tmp_path: Path, orientation: tuple[float, ...]):
    slices = series(tmp_path / "ct", orientation=orientation)
    indices, names = ring_and_block(), ("ring", "block", "nothing")
    write_structures(tmp_path / "rs.dcm", indices, names, slices)
    masks = read_structures(tmp_path / "rs.dcm", slices, names)
    for number, name in enumerate(names, start=1):
        np.testing.assert_array_equal(masks[name], indices == number)


def test_structures_of_several_labels_may_overlap(tmp_path: Path):
    slices, indices = series(tmp_path / "ct"), ring_and_block()
    write_structures(tmp_path / "rs.dcm", indices, ("both", "block"), slices, members=((1, 2), (2,)))
    masks = read_structures(tmp_path / "rs.dcm", slices, ("both", "block"))
    np.testing.assert_array_equal(masks["both"], indices > 0)
    np.testing.assert_array_equal(masks["block"], indices == 2)


def test_the_file_refers_to_its_series_and_slices(tmp_path: Path):
    slices = series(tmp_path / "ct")
    write_structures(tmp_path / "rs.dcm", ring_and_block(), ("ring", "block"), slices)
    file = made.pydicom.dcmread(tmp_path / "rs.dcm")
    assert (file.SOPClassUID, file.Modality, file.PatientID) == (STRUCTURE_SET, "RTSTRUCT", "P 1")
    assert referenced_series(file) == ("1.2.3.4",)
    assert structure_names(file) == ("ring", "block")
    block = file.ROIContourSequence[1].ContourSequence
    assert len(block) == 1
    assert block[0].ContourGeometricType == "CLOSED_PLANAR"
    assert block[0].ContourImageSequence[0].ReferencedSOPInstanceUID == slices.frames[4].instance_uid
    points = np.array(block[0].ContourData, dtype=float).reshape(-1, 3)
    # two by two voxels around rows 13, 14 and columns 15, 16 of slice 4, half a voxel further out
    x, y, z = made.ORIGIN_MM
    np.testing.assert_allclose(points.min(axis=0), [x + 14.5 * 0.75, y + 12.5 * 1.5, z + 12.0])
    np.testing.assert_allclose(points.max(axis=0), [x + 16.5 * 0.75, y + 14.5 * 1.5, z + 12.0])


def test_an_outline_may_be_longer_than_64_kilobytes(tmp_path: Path):
    made.write_series(tmp_path / "ct", made.ramp((2, 200, 200)))
    slices = stack(read_series(tmp_path / "ct"))
    comb = np.zeros((2, 200, 200), dtype=np.uint8)
    comb[0, 1] = comb[0, 1::2] = 1
    comb[0, :, 0] = 1  # rows joined by a column: one part
    comb[0, 1::2, 1::2] = 1
    comb[0, 2::4, 1:199:2] = 1  # and with many holes
    write_structures(tmp_path / "rs.dcm", comb, ("comb",), slices)
    file = made.pydicom.dcmread(tmp_path / "rs.dcm")
    points = file.ROIContourSequence[0].ContourSequence[0].ContourData
    assert len("\\".join(map(str, points))) > 2**16
    np.testing.assert_array_equal(read_structures(tmp_path / "rs.dcm", slices, ("comb",))["comb"], comb == 1)


def test_only_closed_outlines_enclose_something(tmp_path: Path):
    slices = series(tmp_path / "ct")
    write_structures(tmp_path / "rs.dcm", ring_and_block(), ("ring", "block"), slices)
    file = made.pydicom.dcmread(tmp_path / "rs.dcm")
    file.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"
    file.save_as(tmp_path / "rs.dcm")
    masks = read_structures(tmp_path / "rs.dcm", slices, ("block",))
    assert list(masks) == ["block"]
    assert not masks["block"].any()


def test_outlines_between_or_beyond_the_slices_are_refused_with_their_place(tmp_path: Path):
    slices = series(tmp_path / "ct")
    x, y, z = made.ORIGIN_MM
    for number, place in enumerate((z + 1.5, z - 9.0)):
        other = series(tmp_path / f"other{number}")
        write_structures(tmp_path / "rs.dcm", ring_and_block(), ("ring", "block"), other)
        file = made.pydicom.dcmread(tmp_path / "rs.dcm")
        outline = file.ROIContourSequence[1].ContourSequence[0]
        outline.ContourData = [x, y, place, x + 3, y, place, x, y + 3, place]
        file.save_as(tmp_path / "rs.dcm")
        wanted = rf"rs\.dcm: structure 'block' has an outline at \(-11\.5, 21\.0, {place}\) mm that lies in no slice"
        with pytest.raises(ImageError, match=wanted):
            read_structures(tmp_path / "rs.dcm", slices, ("block",))


def test_a_damaged_structure_set_is_told_of(tmp_path: Path):
    slices = series(tmp_path / "ct")
    write_structures(tmp_path / "rs.dcm", ring_and_block(), ("ring", "block"), slices)
    file = made.pydicom.dcmread(tmp_path / "rs.dcm")
    file.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0]  # no point has two numbers
    file.save_as(tmp_path / "rs.dcm")
    with pytest.raises(ImageError, match=r"rs\.dcm: is cut short or damaged .*; get the file again"):
        read_structures(tmp_path / "rs.dcm", slices, ("ring",))


@pytest.mark.realdata
def test_a_real_structure_set_is_filled_as_scikit_image_fills_it(real_data: Path):
    folder = real_data / "dicom" / "STS_001" / "CT"
    slices, path = stack(read_series(folder / "image")), folder / "mask" / "RS.dcm"
    mask = read_structures(path, slices, ("GTV_Mass_CT",))["GTV_Mass_CT"]
    other = np.zeros_like(mask)
    _, y0, x0 = slices.geometry.origin_mm
    for outline in read_header(path).ROIContourSequence[0].ContourSequence:
        points = np.array(outline.ContourData, dtype=float).reshape(-1, 3)
        index = round((points[0, 2] - slices.geometry.origin_mm[0]) / 3.27)
        rows_columns = (points[:, 1::-1] - (y0, x0)) / 0.976562
        other[index] ^= polygon2mask(mask.shape[1:], rows_columns)
    assert mask.sum() > 100_000
    dice = 2 * (mask & other).sum() / (mask.sum() + other.sum())
    assert dice > 0.999  # the two differ at most in centres that lie on an outline


@pytest.mark.realdata
def test_outlines_of_published_masks_give_the_masks_back(real_data: Path, tmp_path: Path):
    for name in ("STS_002", "STS_005"):
        label = read_image(real_data / "sarcoma" / "labelsTr" / f"{name}.nii.gz").array[0] > 0
        tumour = np.argwhere(label)
        cut = tuple(slice(low, high) for low, high in zip(tumour.min(axis=0), tumour.max(axis=0) + 1, strict=True))
        made.write_series(tmp_path / name, np.zeros(label[cut].shape, dtype=np.int16))
        slices = stack(read_series(tmp_path / name))
        write_structures(tmp_path / f"{name}.dcm", label[cut].astype(np.uint8), ("tumour",), slices)
        mask = read_structures(tmp_path / f"{name}.dcm", slices, ("tumour",))["tumour"]
        np.testing.assert_array_equal(mask, label[cut])
