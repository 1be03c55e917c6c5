"""DICOM segmentations: all ways of storing read, and what nnlite writes read by highdicom, pydicom and SimpleITK."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
import SimpleITK
from scipy.spatial import cKDTree

from nnlite.data.dicom.headers import frames, read_header
from nnlite.data.dicom.series import Series, read_series
from nnlite.data.dicom.stack import Stack, stack
from nnlite.data.geometry import grids
from nnlite.data.image import read_image
from nnlite.errors import ImageError, UsageError
from nnlite.interop.dicom_objects import to_patient
from nnlite.interop.dicom_seg import read_segments, segment_names, segmented_series, write_segments

highdicom = pytest.importorskip("highdicom", reason="needs highdicom, which the extra dicom installs")

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, -0.8)
NAMES = ("left kidney", "tumour", "thing")


def series(folder: Path, **tags: object) -> Stack:
    made.write_series(folder, made.ramp((5, 16, 18)), **tags)  # type: ignore[arg-type]
    return stack(read_series(folder))


def labels() -> np.ndarray:
    indices = np.zeros((5, 16, 18), dtype=np.uint8)
    indices[1:4, 2:13, 3:14] = 1
    indices[2, 4:11, 5:12] = 2
    indices[0, 14, 17] = 3
    return indices


def assert_same_points(mine: np.ndarray, theirs: np.ndarray) -> None:
    """Each point of the one has its own of the other within 0.01 mm."""
    assert mine.shape == theirs.shape
    distances, partners = cKDTree(theirs).query(mine)
    assert distances.max() < 0.01
    assert len(set(partners.tolist())) == len(mine)


def grid_of(path: Path) -> Stack:
    """The slices that a segmentation has frames in, and those between, as if they were its series."""
    known = {frame.position_mm: frame for frame in frames(path, read_header(path)) if frame.position_mm}
    places = np.unique([place[2] for place in known])
    every = np.linspace(places[0], places[-1], 1 + round((places[-1] - places[0]) / np.diff(places).min()))
    first = next(iter(known.values()))
    x, y, _ = next(iter(known))
    slices = tuple(replace(first, position_mm=(x, y, place)) for place in every.tolist())
    return stack(Series(folder=path, uid="1", number="1", description="", modality="CT", patient="", frames=slices))


@pytest.mark.parametrize("orientation", [made.AXIAL, OBLIQUE, (0, 1, 0, 0, 0, -1)])
def test_other_libraries_read_the_same_voxels_at_the_same_places(tmp_path: Path, orientation: tuple[float, ...]):
    slices = series(tmp_path / "ct", orientation=orientation)
    path, indices = tmp_path / "seg.dcm", labels()
    write_segments(path, indices, NAMES, slices)
    for number, name in enumerate(NAMES, start=1):
        np.testing.assert_array_equal(read_segments(path, slices, NAMES)[name], indices == number)
        volume = highdicom.seg.segread(path).get_volume(segment_numbers=[number], combine_segments=True)
        theirs = np.argwhere(volume.array > 0)
        mine = to_patient(slices.geometry, np.argwhere(indices == number))
        assert_same_points(mine, volume.map_indices_to_reference(theirs))


@pytest.mark.parametrize("orientation", [made.AXIAL, OBLIQUE])
def test_simpleitk_sees_the_same_voxels_at_the_same_places(tmp_path: Path, orientation: tuple[float, ...]):
    slices = series(tmp_path / "ct", orientation=orientation)
    indices = np.zeros((5, 16, 18), dtype=np.uint8)
    for number in range(5):  # something in each slice: SimpleITK knows no slices that were left out
        indices[number, : number + 2, number:] = 1
    write_segments(tmp_path / "seg.dcm", indices, ("all",), slices)
    image = SimpleITK.ReadImage(str(tmp_path / "seg.dcm"))
    found = np.argwhere(SimpleITK.GetArrayFromImage(image) > 0)
    theirs = np.array([image.TransformIndexToPhysicalPoint(voxel[::-1].tolist()) for voxel in found])
    mine = to_patient(slices.geometry, np.argwhere(indices))
    assert_same_points(mine, theirs)


def test_segments_have_codes_and_sides_and_the_file_refers_to_its_slices(tmp_path: Path):
    slices = series(tmp_path / "ct")
    write_segments(tmp_path / "seg.dcm", labels(), NAMES, slices)
    file = made.pydicom.dcmread(tmp_path / "seg.dcm")
    assert segment_names(file) == NAMES
    assert segmented_series(file) == ("1.2.3.4",)
    named = {item.ReferencedSOPInstanceUID for item in file.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {frame.instance_uid for frame in slices.frames}
    kidney, tumour, thing = (segment.SegmentedPropertyTypeCodeSequence[0] for segment in file.SegmentSequence)
    assert (kidney.CodeValue, kidney.CodingSchemeDesignator) == ("64033007", "SCT")
    assert kidney.SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"  # left
    assert (tumour.CodeValue, tumour.CodeMeaning) == ("108369006", "Neoplasm")
    assert (thing.CodingSchemeDesignator, thing.CodeMeaning) == ("99NNLITE", "thing")
    assert file.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_segments_of_several_labels_may_overlap(tmp_path: Path):
    slices, indices = series(tmp_path / "ct"), labels()
    write_segments(tmp_path / "seg.dcm", indices, ("whole", "core"), slices, members=((1, 2), (2,)))
    masks = read_segments(tmp_path / "seg.dcm", slices, ("whole", "core"))
    np.testing.assert_array_equal(masks["whole"], (indices == 1) | (indices == 2))
    np.testing.assert_array_equal(masks["core"], indices == 2)


def test_a_mask_without_any_voxel_can_be_written_and_read(tmp_path: Path):
    slices = series(tmp_path / "ct")
    write_segments(tmp_path / "seg.dcm", np.zeros((5, 16, 18), np.uint8), ("liver",), slices)
    assert not read_segments(tmp_path / "seg.dcm", slices, ("liver",))["liver"].any()


def test_the_frames_of_an_enhanced_file_keep_their_slices(tmp_path: Path):
    made.write_enhanced(tmp_path / "ct" / "all.dcm", made.ramp((5, 16, 18)))
    slices = stack(read_series(tmp_path / "ct"))
    write_segments(tmp_path / "seg.dcm", labels(), NAMES, slices)
    masks = read_segments(tmp_path / "seg.dcm", slices, NAMES)
    assert [np.argwhere(mask).tolist() for mask in masks.values()] == [
        np.argwhere(labels() == number).tolist() for number in (1, 2, 3)
    ]


def test_a_segmentation_turned_against_its_series_is_turned_back(tmp_path: Path):
    indices = labels()
    write_segments(tmp_path / "seg.dcm", indices, NAMES, series(tmp_path / "ct"))
    # the same voxels as a series from feet to head, each row from left to right: x and z reversed
    x, y, z = made.ORIGIN_MM
    other = tmp_path / "other"
    for number, path in enumerate(made.write_series(other, made.ramp((5, 16, 18)))):
        made.change(
            path,
            ImageOrientationPatient=[-1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[x + 17 * 0.75, y, z + 3 * number],
        )
    masks = read_segments(tmp_path / "seg.dcm", stack(read_series(other)), NAMES)
    for number, name in enumerate(NAMES, start=1):
        np.testing.assert_array_equal(masks[name], (indices == number)[::-1, :, ::-1])


def test_a_segmentation_off_the_grid_or_beyond_it_is_refused(tmp_path: Path):
    slices = series(tmp_path / "ct")
    path = tmp_path / "seg.dcm"
    write_segments(path, labels(), NAMES, slices)
    for shift_mm, wanted in ((0.3, r"seg\.dcm: frame 1 is 0\.40 voxels off the grid"), (7.5, r"reaches beyond series")):
        z, y, x = slices.geometry.origin_mm
        moved = replace(slices, geometry=replace(slices.geometry, origin_mm=(z, y, x + shift_mm)))
        with pytest.raises(ImageError, match=wanted):
            read_segments(path, moved, NAMES)


def test_a_damaged_segmentation_is_told_of(tmp_path: Path):
    slices = series(tmp_path / "ct")
    path = tmp_path / "seg.dcm"
    write_segments(path, labels(), NAMES, slices)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"seg\.dcm: .*(get the file|export it) again"):
        read_segments(path, slices, NAMES)
    write_segments(path, labels(), NAMES, slices)
    made.change(path, PixelData=None)
    with pytest.raises(ImageError, match=r"seg\.dcm: cannot be read as a segmentation \(.*; export it again"):
        read_segments(path, slices, NAMES)


def test_without_highdicom_the_user_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    slices = series(tmp_path / "ct")
    real = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name.startswith("highdicom"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match=r"pip install 'nnlite\[dicom\]'"):
        write_segments(tmp_path / "seg.dcm", labels(), NAMES, slices)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("seg_image_ct_binary", ["first segment"]),
        ("seg_image_ct_binary_overlap", ["first segment", "second segment"]),
        ("seg_image_ct_binary_fractional", ["first segment"]),
        ("seg_image_ct_true_fractional", ["first segment"]),
    ],
)
def test_files_of_highdicom_read_as_highdicom_reads_them(real_data: Path, file: str, names: list[str]):
    path = real_data / "dicom" / "highdicom" / f"{file}.dcm"
    slices, theirs = grid_of(path), highdicom.seg.segread(path)
    masks = read_segments(path, slices, names)
    assert list(masks) == names
    for number, name in enumerate(names, start=1):
        volume = theirs.get_volume(segment_numbers=[number]).array[..., 0]
        inside = np.argwhere(volume >= 0.5)
        assert len(inside) > 0
        places = theirs.get_volume(segment_numbers=[number]).map_indices_to_reference(inside)
        assert_same_points(to_patient(slices.geometry, np.argwhere(masks[name])), places)


@pytest.mark.realdata
def test_files_of_dcmqi_hold_what_dcmqi_says(real_data: Path):
    folder = real_data / "dicom" / "dcmqi"
    slices = stack(read_series(folder / "ct-3slice"))
    liver = read_segments(folder / "liver.dcm", slices, ["Liver"])["Liver"]
    np.testing.assert_array_equal(canonical(slices, liver), read_image(folder / "liver_seg.nrrd").array[0] > 0)
    names = segment_names(read_header(folder / "partial_overlaps.dcm"))
    assert names == ("GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE")
    masks = read_segments(folder / "partial_overlaps.dcm", slices, names)
    merged = [read_image(folder / f"partial_overlaps-{number}.nrrd").array[0] for number in (1, 2, 3)]
    for value, name in enumerate(names, start=1):  # dcmqi packs segments that do not overlap into one file
        assert any(np.array_equal(canonical(slices, masks[name]), part == value) for part in merged)
    assert sum(mask.astype(int) for mask in masks.values()).max() > 1  # they do overlap


@pytest.mark.realdata
@pytest.mark.parametrize("file", ["noppv", "ppv5"])
def test_label_maps_of_dcmqi_hold_what_dcmqi_says(real_data: Path, file: str):
    folder = real_data / "dicom" / "dcmqi"
    path = folder / f"sparse-labelmap-{file}.dcm"
    slices = grid_of(path)
    assert segment_names(read_header(path)) == ("Liver",)  # the background is no segment
    mask = read_segments(path, slices, ["Liver"])["Liver"]
    theirs = read_image(folder / f"sparse_labelmap_{file}_seg.nrrd")
    mine = to_patient(slices.geometry, np.argwhere(mask))
    other = to_patient(theirs.geometry, np.argwhere(theirs.array[0] == 1))
    assert_same_points(mine, other)


def canonical(slices: Stack, mask: np.ndarray) -> np.ndarray:
    """A mask in canonical orientation."""
    return grids(slices.geometry, ".nii.gz")[0].canonical(mask[None])[0]
