"""Everything wrong with the files of a dataset, told at once."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nnlite.data.check import COLOUR_CHANNELS, check_dataset
from nnlite.data.dataset import find_dataset, with_reference
from nnlite.data.image import Geometry, write_image
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError

SHAPE = (4, 5, 6)
GRID = Geometry(shape=SHAPE, spacing_mm=(2.0, 1.0, 1.0))


def label_array(*values: int) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint8)
    array.flat[: len(values)] = values
    return array


def add_case(root: Path, name: str, *, image=None, label=None, geometry=GRID, label_geometry=GRID) -> None:
    if image is None:
        image = np.random.default_rng(zlib.crc32(name.encode())).random((1, *SHAPE), np.float32)
    write_image(root / f"images/{name}.nii.gz", image, geometry)
    write_image(root / f"labels/{name}.nii.gz", (label_array(0, 1) if label is None else label)[None], label_geometry)


def add_picture(root: Path, name: str, components: int, values=(0, 1)) -> None:
    grid = Geometry(shape=(1, 2, 2), spacing_mm=(1, 1, 1))
    picture = np.arange(components * 4, dtype=np.uint8).reshape(components, 1, 2, 2)
    write_image(root / f"images/{name}.png", picture, grid, planar=True)
    label = np.array([*values, 0, 0], np.uint8)[:4].reshape(1, 1, 2, 2)
    write_image(root / f"labels/{name}.png", label, grid, planar=True)


def faults_of(root: Path) -> list[tuple[str | None, str]]:
    return [(fault.case, fault.what) for fault in check_dataset(find_dataset(root), workers=1).faults]


def test_a_good_dataset_has_names_for_channels_and_labels_and_no_faults(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 1, 2))
    add_case(tmp_path, "b")
    report = check_dataset(find_dataset(tmp_path), workers=2)
    assert (report.faults, report.warnings) == ((), ())
    assert report.dataset.channels == ("image",)
    assert report.dataset.labels == Labels(names=("background", "label 1", "label 2"), values=(0, 1, 2))
    assert report.foreground_labels() == {"a": ("label 1", "label 2"), "b": ("label 1",)}
    report.raise_if_faulty()


def test_a_visit_sees_image_and_raw_label_of_each_good_case(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 7))
    add_case(tmp_path, "b", image=np.full((1, *SHAPE), np.nan, np.float32))
    (tmp_path / "nnlite.json").write_text('{"labels": {"liver": 7}}')
    calls = []
    report = check_dataset(
        find_dataset(tmp_path),
        lambda case, image, label: (case.id, image.array.shape, label.shape, int(label.max())),
        workers=2,
        progress=lambda *call: calls.append(call),
    )
    assert report.findings == {"a": ("a", (1, *SHAPE), SHAPE, 7)}
    assert calls == [("check", 1, 2), ("check", 2, 2)]


def test_three_different_faults_make_one_message(tmp_path):
    for name in "abcde":
        add_case(tmp_path, name)
    (tmp_path / "labels/a.nii.gz").unlink()
    content = (tmp_path / "images/b.nii.gz").read_bytes()
    (tmp_path / "images/b.nii.gz").write_bytes(content[: len(content) // 2])
    add_case(tmp_path, "c", label_geometry=Geometry(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)))
    with pytest.raises(DatasetError) as caught:
        check_dataset(find_dataset(tmp_path), workers=2).raise_if_faulty()
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: 3 of 5 cases cannot be used:",
        "- a (images/a.nii.gz): an image but no label in labels/; add the label, "
        'or list the case under "exclude" in nnlite.json',
        "- b (images/b.nii.gz): the file is cut short: its compressed data ends too early; get the file again; "
        'or list the case under "exclude" in nnlite.json',
        "- c (labels/c.nii.gz): label spacing (1, 1, 1) mm but image spacing (2, 1, 1) mm; "
        'give the label the grid of its image, or list the case under "exclude" in nnlite.json',
    ]


def test_shape_origin_and_direction_disagreements_are_told_together(tmp_path):
    turned = ((1.0, 0.0, 0.0), (0.0, 0.8, 0.6), (0.0, -0.6, 0.8))
    add_case(tmp_path, "a")
    add_case(
        tmp_path,
        "b",
        label=np.ones((4, 5, 7), np.uint8),
        label_geometry=Geometry(shape=(4, 5, 7), spacing_mm=(2, 1, 1), origin_mm=(0, 0, 9), direction=turned),
    )
    [(case, what)] = faults_of(tmp_path)
    assert case == "b"
    assert "label shape" in what
    assert "label origin (0, 0, 9) mm but image origin (0, 0, 0) mm" in what
    assert "label direction" in what


def test_several_faults_of_one_case_are_all_told(tmp_path):
    add_case(
        tmp_path,
        "a",
        image=np.full((1, *SHAPE), np.inf, np.float32),
        label_geometry=Geometry(shape=SHAPE, spacing_mm=(1, 1, 1)),
        label=label_array(0, 1, 9),
    )
    (tmp_path / "nnlite.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    assert faults_of(tmp_path) == [
        ("a", "120 of 120 voxels are NaN or infinite"),
        ("a", "label spacing (1, 1, 1) mm but image spacing (2, 1, 1) mm"),
        ("a", "label value 9 is not in the label table (0 background, 1 liver)"),
    ]


def test_channels_of_a_case_are_compared_with_its_first(tmp_path):
    for name, spacing in [("a_0000", 2.0), ("a_0001", 3.0)]:
        grid = Geometry(shape=SHAPE, spacing_mm=(spacing, 1, 1))
        write_image(tmp_path / f"imagesTr/{name}.nii.gz", np.ones((1, *SHAPE), np.uint8), grid)
    write_image(tmp_path / "labelsTr/a.nii.gz", label_array(0, 1)[None], GRID)
    assert faults_of(tmp_path) == [("a", "channel spacing (3, 1, 1) mm but first channel spacing (2, 1, 1) mm")]


def test_unreadable_labels_and_fractions_are_faults(tmp_path):
    for name in "abc":
        add_case(tmp_path, name)
    (tmp_path / "labels/a.nii.gz").write_text("no image")
    write_image(tmp_path / "labels/b.nii.gz", np.full((1, *SHAPE), 0.5, np.float32), GRID)
    (_, text), (_, fraction) = faults_of(tmp_path)
    assert text.startswith("is no .nii.gz image")
    assert fraction.startswith("120 of 120 voxels of the label are fractions (0.5, ..)")


def test_listed_files_that_are_missing_are_faults_of_their_case(tmp_path):
    add_case(tmp_path, "a")
    rows = [{"id": name, "CT": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in "ab"]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    assert faults_of(tmp_path) == [
        ("b", f'column "CT": {tmp_path}/images/b.nii.gz does not exist'),
        ("b", f'column "label": {tmp_path}/labels/b.nii.gz does not exist'),
    ]


def test_the_channel_count_of_most_cases_decides(tmp_path):
    for name, components in [("a", 4), ("b", 3), ("c", 3)]:
        add_picture(tmp_path, name, components)
    report = check_dataset(find_dataset(tmp_path), lambda *_: 1, workers=1)
    assert report.dataset.channels == COLOUR_CHANNELS[:3]
    assert [(fault.case, fault.what) for fault in report.faults] == [
        ("a", "has 4 channels but the dataset 3 (rgb-red, rgb-green, rgb-blue)")
    ]
    assert list(report.findings) == ["b", "c"]


def test_colours_have_8_bits_and_channels_of_other_pictures_are_numbered(tmp_path):
    numbered = ("channel 0", "channel 1", "channel 2")
    for name in ("a", "b"):
        add_picture(tmp_path, name, 3)
    assert check_dataset(find_dataset(tmp_path), workers=1).dataset.channels == COLOUR_CHANNELS[:3]
    stack = np.linspace(0, 3999, 12).astype(np.uint16).reshape(3, 2, 2)
    (tmp_path / "images/b.png").unlink()
    tifffile.imwrite(tmp_path / "images/b.tif", stack, imagej=True, metadata={"axes": "CYX"})
    mixed = check_dataset(find_dataset(tmp_path), workers=1)
    assert (mixed.dataset.channels, mixed.faults) == (numbered, ())
    assert mixed.notes[0].startswith("1 of 2 pictures do not have 8 bits per channel (b), so the channels of none are")
    (tmp_path / "nnlite.json").write_text('{"channels": ["DAPI", "GFP", "RFP"]}')
    assert check_dataset(find_dataset(tmp_path), workers=1).notes == ()
    (tmp_path / "nnlite.json").unlink()
    (tmp_path / "images/a.png").unlink()
    tifffile.imwrite(tmp_path / "images/a.tif", stack, imagej=True, metadata={"axes": "CYX"})
    deep = check_dataset(find_dataset(tmp_path), workers=1)
    assert (deep.dataset.channels, deep.faults, deep.notes) == (numbered, (), ())


@pytest.mark.parametrize("suffix", ["tif", "nii.gz"])
def test_channels_of_8_bits_in_stacks_are_called_as_their_format_says(tmp_path, suffix):
    colours = np.arange(3 * 8, dtype=np.uint8).reshape(3, 2, 2, 2)
    label = (colours[0] % 2)[None]
    for name in ("a", "b"):
        grid = Geometry(shape=(2, 2, 2), spacing_mm=(1, 1, 1))
        write_image(tmp_path / f"labels/{name}.nii.gz", label, grid)
        write_image(tmp_path / f"images/{name}.nii.gz", colours, grid)
        if suffix == "tif":
            (tmp_path / f"images/{name}.nii.gz").unlink()
            (tmp_path / f"labels/{name}.nii.gz").unlink()
            tifffile.imwrite(tmp_path / f"labels/{name}.tif", label[0], imagej=True, metadata={"axes": "ZYX"})
            tifffile.imwrite(
                tmp_path / f"images/{name}.tif", np.moveaxis(colours, 0, 1), imagej=True, metadata={"axes": "ZCYX"}
            )
    found = check_dataset(find_dataset(tmp_path), workers=1).dataset.channels
    assert found == (COLOUR_CHANNELS[:3] if suffix == "tif" else ("channel 0", "channel 1", "channel 2"))


def test_unnamed_channels_in_several_files_are_numbered(tmp_path):
    for name in ("a_0000", "a_0001"):
        write_image(tmp_path / f"imagesTr/{name}.nii.gz", np.ones((1, *SHAPE), np.uint8), GRID)
    write_image(tmp_path / "labelsTr/a.nii.gz", label_array(0, 1)[None], GRID)
    assert check_dataset(find_dataset(tmp_path), workers=1).dataset.channels == ("channel 0", "channel 1")


def test_a_picture_among_volumes_is_a_fault(tmp_path):
    add_case(tmp_path, "a")
    add_case(tmp_path, "b")
    add_picture(tmp_path, "c", 1)
    assert faults_of(tmp_path) == [("c", "is a 2D image, but most cases are a volume")]


def test_pictures_with_and_without_the_size_of_their_pixels_do_not_mix(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number in range(3):
        grey = np.random.default_rng(number).integers(0, 255, (9, 8), dtype=np.uint8)
        stated = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}} if number else {}
        tifffile.imwrite(tmp_path / f"images/c{number}.tif", grey, **stated)
        tifffile.imwrite(tmp_path / f"labels/c{number}.tif", (grey > 99).astype(np.uint8))
    assert faults_of(tmp_path) == [("c0", "states no pixel size, most cases do")]


def test_a_header_that_is_odd_in_many_files_is_one_warning(tmp_path):
    for name in "abcdefg":
        add_case(tmp_path, name)
        for kind in ("images", "labels"):
            (tmp_path / kind / f"{name}.nii.gz").write_bytes(
                gzip.compress(without_directions(gzip.decompress((tmp_path / kind / f"{name}.nii.gz").read_bytes())))
            )
    [warning] = check_dataset(find_dataset(tmp_path), workers=1).warnings
    assert warning.startswith(
        "images/a.nii.gz, labels/a.nii.gz, images/b.nii.gz, labels/b.nii.gz, images/c.nii.gz, and 9 "
    )
    assert ": its header does not say where its axes point" in warning


def without_directions(content: bytes) -> bytes:
    return content[:252] + bytes(4) + content[256:]


def test_labels_of_0_and_255_are_one_fault_with_the_text_that_repairs_it(tmp_path):
    data, work = tmp_path / "data", tmp_path / "work"
    work.mkdir()
    for name in "abc":
        add_picture(data, name, 1, values=(0, 255))
    report = check_dataset(find_dataset(data, work / "nnlite.json"), workers=1, description_home=work)
    [fault] = report.faults
    assert fault.case is None
    assert fault.what.endswith("no table says what they mean: 0 and 255 in 3 files")
    assert f"write into {work / 'nnlite.json'} or {data / 'nnlite.json'}" in fault.remedy
    (work / "nnlite.json").write_text(fault.remedy[fault.remedy.index("{") :])  # do as the message says
    report = check_dataset(find_dataset(data, work / "nnlite.json"), workers=1, description_home=work)
    assert report.faults == ()
    assert report.dataset.labels == Labels(names=("background", "foreground"), values=(0, 255))


def test_a_description_without_labels_is_to_be_completed(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 5, 10))
    (tmp_path / "nnlite.json").write_text('{"channels": ["CT"]}')
    [fault] = check_dataset(find_dataset(tmp_path), workers=1).faults
    assert fault.remedy == (
        f"add to {tmp_path / 'nnlite.json'} (names are yours to choose): "
        '{"labels": {"background": 0, "label 5": 5, "label 10": 10}}'
    )


def test_many_kinds_of_values_are_shortened(tmp_path):
    for number in range(7):
        add_case(tmp_path, f"c{number}", label=label_array(0, 10 + number))
    [(_, what)] = faults_of(tmp_path)
    assert what.endswith("0 and 14 in 1 file; and 2 more combinations")


def test_hundreds_of_label_values_are_no_label_map(tmp_path):
    add_case(tmp_path, "a", label=np.arange(120, dtype=np.uint8).reshape(SHAPE) * 2)
    [fault] = check_dataset(find_dataset(tmp_path), workers=1).faults
    assert "120 different values from 0 to 238" in fault.what
    assert "JPEG blurs them" in fault.remedy


def test_many_unknown_values_are_shortened(tmp_path):
    add_case(tmp_path, "a", label=np.arange(120, dtype=np.uint8).reshape(SHAPE))
    (tmp_path / "nnlite.json").write_text('{"labels": {"liver": 1}}')
    [(_, what)] = faults_of(tmp_path)
    assert "20 and 21 (and 98 more) are not in the label table" in what


def test_a_dataset_without_foreground_is_a_fault(tmp_path):
    add_case(tmp_path, "a", label=label_array(0))
    assert faults_of(tmp_path) == [(None, "no label map has any voxel other than 0")]


def test_empty_label_maps_and_labels_that_never_occur_are_warnings(tmp_path):
    add_case(tmp_path, "a", label=label_array(0))
    add_case(tmp_path, "b", label=label_array(0, 1))
    (tmp_path / "nnlite.json").write_text('{"labels": {"liver": 1, "spleen": 2}}')
    report = check_dataset(find_dataset(tmp_path), workers=1)
    assert report.faults == ()
    assert report.warnings == (
        "1 of 2 label maps are empty (a); they teach that nothing is there: exclude those that nobody has labelled",
        "label 'spleen' (2) occurs in no case; it cannot be learned: add cases that have it, "
        "or take it out of the labels",
    )


def test_a_dataset_of_which_nothing_can_be_read_is_still_one_message(tmp_path):
    for name in ("images/a.png", "labels/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("text")
    report = check_dataset(find_dataset(tmp_path), workers=1)
    assert len(report.faults) == 2
    assert (report.dataset.channels, report.dataset.labels) == ((), None)
    with pytest.raises(DatasetError, match="1 of 1 cases cannot be used"):
        report.raise_if_faulty()


def test_no_more_cases_are_in_memory_than_workers(tmp_path):
    for number in range(8):
        add_case(tmp_path, f"c{number}")
    lock, inside, most = threading.Lock(), 0, 0

    def visit(*_) -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        with lock:
            inside -= 1

    check_dataset(find_dataset(tmp_path), visit, workers=2)
    assert most == 2


def test_an_error_in_a_visit_ends_the_check(tmp_path):
    add_case(tmp_path, "a")

    def visit(*_) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        check_dataset(find_dataset(tmp_path), visit, workers=1)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "cases"), [("hippocampus", 200), ("sarcoma", 21), ("cells", 100)])
def test_real_datasets_pass_within_seconds(real_data, name, cases):
    started = time.monotonic()
    report = check_dataset(find_dataset(real_data / name), lambda case, image, label: image.array.ndim, workers=2)
    report.raise_if_faulty()
    assert len(report.findings) == cases
    assert time.monotonic() - started < 20  # about one second on an idle machine


@pytest.mark.realdata
def test_membrane_needs_a_table_and_gets_it_from_another_folder(real_data, tmp_path):
    with pytest.raises(DatasetError) as caught:
        check_dataset(find_dataset(real_data / "membrane"), workers=2, description_home=tmp_path).raise_if_faulty()
    assert len(str(caught.value).splitlines()) == 2
    assert "0 and 255 in 20 files; write into " in str(caught.value)
    (tmp_path / "nnlite.json").write_text('{"labels": {"background": 0, "membrane": 255}}')
    report = check_dataset(find_dataset(real_data / "membrane", tmp_path / "nnlite.json"), workers=2)
    report.raise_if_faulty()
    assert report.dataset.labels == Labels(names=("background", "membrane"), values=(0, 255))


def test_a_label_map_that_holds_what_is_said_not_to_be_annotated_is_a_fault(tmp_path):
    for name, values in (("a", (1, 2)), ("b", (0, 1)), ("c", (0, 1))):
        add_case(tmp_path, name, label=label_array(*values))
    said = {"labels": {"liver": 1, "spleen": 2}, "annotated": {"a": ["spleen"], "b": ["liver"], "c": ["lung"]}}
    (tmp_path / "nnlite.json").write_text(json.dumps(said))
    assert faults_of(tmp_path) == [
        ("a", "its label map holds liver, but its list of annotated labels names only spleen"),
        ("c", "annotated names lung, which is no label; there are liver, spleen"),
    ]


def test_channels_on_other_grids_are_resampled_where_a_reference_is_named_and_told(tmp_path):
    coarse = Geometry(shape=(4, 3, 3), spacing_mm=(2.0, 2.0, 2.0))
    for name in "ab":
        add_case(tmp_path, name)
        (tmp_path / f"images/{name}.nii.gz").rename(tmp_path / f"images/{name}_0000.nii.gz")
        write_image(tmp_path / f"images/{name}_0001.nii.gz", np.ones((1, 4, 3, 3), np.float32), coarse)
    [(_, what), _] = faults_of(tmp_path)
    assert what.startswith("channel shape (4, 3, 3) but first channel shape (4, 5, 6)")
    (tmp_path / "nnlite.json").write_text('{"channels": ["CT", "PET"], "reference_channel": "CT"}')
    report = check_dataset(find_dataset(tmp_path), workers=1)
    assert report.faults == ()
    assert report.notes == ("PET is resampled onto the grid of CT (linear) in 2 cases",)
    assert report.warnings[:1] == report.notes
    (tmp_path / "nnlite.json").write_text('{"channels": ["CT", "PET"], "reference_channel": "PET"}')
    found = faults_of(tmp_path)  # the label has the grid of the CT
    assert found[0][1].startswith("label shape (4, 5, 6) but image shape (4, 3, 3)")
    with pytest.raises(DatasetError, match="the reference channel MR is no channel; there are CT, PET"):
        with_reference(find_dataset(tmp_path), "MR")


def test_numbered_instances_are_one_label_whatever_their_numbers(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 1, 200))
    add_case(tmp_path, "b", label=label_array(0, 5))
    (tmp_path / "nnlite.json").write_text('{"labels": {"nucleus": 1}, "instances": "numbered"}')
    report = check_dataset(find_dataset(tmp_path), workers=1)
    assert report.faults == ()
    assert report.dataset.labels is not None
    assert report.dataset.labels.instances == Instances(numbered=True)
    assert report.foreground_labels() == {"a": ("nucleus",), "b": ("nucleus",)}
    assert not any("occurs in no case" in warning for warning in report.warnings)


def test_numbers_that_are_not_announced_and_those_that_are_missing_are_told_with_the_word_to_write(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 1, 200))
    add_case(tmp_path, "b", label=label_array(0, 1))
    (tmp_path / "nnlite.json").write_text('{"labels": {"nucleus": 1}, "instances": "components"}')
    [(case, fault)] = faults_of(tmp_path)
    assert (case, "value 200 is not in the label table" in fault) == ("a", True)
    [told] = check_dataset(find_dataset(tmp_path), workers=1).faults
    assert 'or write "instances": "numbered" there if each object has its own number' in told.remedy
    add_case(tmp_path, "a", label=label_array(0, 1))
    (tmp_path / "nnlite.json").write_text('{"labels": {"nucleus": 1}, "instances": "numbered"}')
    [(case, fault)] = faults_of(tmp_path)
    assert (case, "no label map holds a number above 1" in fault) == (None, True)


def test_instances_of_several_labels_are_refused_with_their_names(tmp_path):
    add_case(tmp_path, "a", label=label_array(0, 1, 2))
    (tmp_path / "nnlite.json").write_text('{"labels": {"nucleus": 1, "cytoplasm": 2}, "instances": "components"}')
    assert "instances are those of one label, and there are nucleus, cytoplasm" in faults_of(tmp_path)[0][1]
    (tmp_path / "nnlite.json").write_text('{"instances": "nucleus"}')
    with pytest.raises(DatasetError, match='should be "components" or "numbered"'):
        find_dataset(tmp_path)
