"""Datasets with something wrong, made from a good one: for each what a user has to be told, or that it is usable.

Each maker gets a folder with two good cases of images/ and labels/, and changes something.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from nnlite.data.image import Geometry, read_image, read_label, write_image


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenDataset:
    """A maker, and the words that a user has to read: of a refusal, or (``refused`` False) of a warning."""

    make: Callable[[Path], None]
    says: str
    refused: bool


BROKEN: dict[str, BrokenDataset] = {}
Maker = Callable[[Path], None]


def refused(says: str) -> Callable[[Maker], Maker]:
    """Register a maker whose dataset cannot be used."""
    return _registered(says, refused=True)


def understood(says: str = "") -> Callable[[Maker], Maker]:
    """Register a maker whose dataset is odd, and usable."""
    return _registered(says, refused=False)


def _registered(says: str, *, refused: bool) -> Callable[[Maker], Maker]:
    def register(make: Maker) -> Maker:
        BROKEN[make.__name__.replace("_", " ")] = BrokenDataset(make=make, says=says, refused=refused)
        return make

    return register


def relabel(folder: Path, change: Callable[[np.ndarray], np.ndarray], geometry: Geometry | None = None) -> None:
    path = folder / "labels" / "b.nii.gz"
    label = read_label(path)
    write_image(path, change(label.array), geometry or label.geometry)


def raw(folder: Path, content: Any) -> None:
    """The dataset in the layout of nnU-Net, with this as its dataset.json (text as it is, all else as JSON)."""
    (folder / "images").rename(folder / "imagesTr")
    (folder / "labels").rename(folder / "labelsTr")
    (folder / "nnlite.json").unlink()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "dataset.json").write_text(text, encoding="utf-8")


TABLE = {"background": 0, "ball": 1, "core": 7}


# --- labels ---


@refused("voxels of the label are fractions (0.5, 3.5, ..); save whole numbers")
def a_label_of_fractions(folder: Path) -> None:
    relabel(folder, lambda label: label * np.float32(0.5))


@understood()
def a_label_of_whole_floats(folder: Path) -> None:
    relabel(folder, lambda label: label.astype(np.float64))


@refused("label value 3 is not in the label table (0 background, 1 ball, 7 core); correct the label map, or name")
def a_label_of_unknown_value(folder: Path) -> None:
    relabel(folder, lambda label: np.where(label == 1, 3, label).astype(np.uint8))


@refused("label values -1 and")
def a_label_of_negative_values(folder: Path) -> None:
    relabel(folder, lambda label: label.astype(np.int16) - 1)


@refused("label shape (16, 20, 20) but image shape (16, 20, 18); give the label the grid of its image")
def a_label_larger_than_its_image(folder: Path) -> None:
    grid = Geometry(shape=(16, 20, 20), spacing_mm=(2.0, 1.5, 1.5), origin_mm=(-30.0, 5.0, 12.5))
    relabel(folder, lambda label: np.pad(label, ((0, 0), (0, 0), (0, 0), (0, 2))), grid)


@refused("label direction")
def a_label_tilted_against_its_image(folder: Path) -> None:
    label = read_label(folder / "labels" / "b.nii.gz")
    tilt = ((1.0, 0.0, 0.0), (0.0, 0.8, 0.6), (0.0, -0.6, 0.8))
    relabel(folder, lambda array: array, replace(label.geometry, direction=tilt))


@refused("a label map has one channel, this file has 4")
def a_label_of_several_channels(folder: Path) -> None:
    relabel(folder, lambda label: np.repeat(label, 4, axis=0))


@understood("1 of 2 label maps are empty (b); they teach that nothing is there")
def an_empty_label(folder: Path) -> None:
    relabel(folder, np.zeros_like)


@refused("no label map has any voxel other than 0; there is nothing to learn")
def labels_that_are_all_empty(folder: Path) -> None:
    relabel(folder, np.zeros_like)
    shutil.copy(folder / "labels" / "b.nii.gz", folder / "labels" / "a.nii.gz")


# --- files that are missing, or there twice ---


@refused("an image but no label in labels/; add the label, or list the case")
def a_label_that_is_missing(folder: Path) -> None:
    (folder / "labels" / "b.nii.gz").unlink()


@refused("a label but no image in images/; add the image, or remove the label")
def an_image_that_is_missing(folder: Path) -> None:
    (folder / "images" / "b.nii.gz").unlink()


@refused("several files for one id: images/b.nii, images/b.nii.gz; keep one of them, or rename the others")
def two_files_for_one_case(folder: Path) -> None:
    image = read_image(folder / "images" / "b.nii.gz")
    write_image(folder / "images" / "b.nii", image.array, image.geometry)


@understood("a and c are the same image, with the same labels; one may be trained on while the other is held out")
def one_image_under_two_names(folder: Path) -> None:
    for kind in ("images", "labels"):
        shutil.copy(folder / kind / "a.nii.gz", folder / kind / "c.nii.gz")


@understood("a and c are the same image (with other headers), with the same labels")
def one_image_with_two_headers(folder: Path) -> None:
    for kind in ("images", "labels"):
        image = read_image(folder / kind / "a.nii.gz")
        write_image(folder / kind / "c.nii.gz", image.array, Geometry(shape=(16, 20, 18), spacing_mm=(1.0, 1.0, 1.0)))


@refused("channel 1 (FLAIR) is missing; add the file, or list the case")
def a_channel_that_is_missing(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": TABLE})
    for name in ("a", "b"):
        (folder / "imagesTr" / f"{name}.nii.gz").rename(folder / "imagesTr" / f"{name}_0000.nii.gz")
    shutil.copy(folder / "imagesTr" / "a_0000.nii.gz", folder / "imagesTr" / "a_0001.nii.gz")


@refused("has 1 channel but the dataset 2 (T1, FLAIR); give all images the same channels")
def fewer_channels_than_named(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": TABLE})


@refused("channel spacing (4, 1.5, 1.5) mm but first channel spacing (2, 1.5, 1.5) mm; resample the channels")
def channels_on_two_grids(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": TABLE})
    for name in ("a", "b"):
        first = folder / "imagesTr" / f"{name}_0000.nii.gz"
        image = read_image((folder / "imagesTr" / f"{name}.nii.gz").rename(first))
        grid = Geometry(shape=(16, 20, 18), spacing_mm=(4.0, 1.5, 1.5), origin_mm=(-30.0, 5.0, 12.5))
        write_image(folder / "imagesTr" / f"{name}_0001.nii.gz", image.array, grid)


@refused("is a 2D image, but most cases are a volume; keep 2D images and volumes in separate datasets")
def a_picture_among_volumes(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 18), dtype=np.uint8)
    Picture.fromarray(noise).save(folder / "images" / "c.png")
    Picture.fromarray(np.eye(20, 18, dtype=np.uint8)).save(folder / "labels" / "c.png")


@understood("CT of a, b is not in Hounsfield units: nothing is below 0, while air is -1000 and fat -100; subtract")
def a_ct_without_its_offset(folder: Path) -> None:
    (folder / "nnlite.json").write_text(json.dumps({"channels": ["CT"], "labels": TABLE}))
    for name in ("a", "b"):
        image = read_image(folder / "images" / f"{name}.nii.gz")
        write_image(folder / "images" / f"{name}.nii.gz", image.array * 10, image.geometry)


@understood("the ids A and a differ in capitals only: on Windows and macOS their files would overwrite each other")
def ids_that_differ_in_capitals(folder: Path) -> None:
    rng = np.random.default_rng(0)
    image = read_image(folder / "images" / "a.nii.gz")
    noise = image.array + rng.normal(0, 1, image.array.shape).astype(np.float32)
    write_image(folder / "images" / "A.nii.gz", noise, image.geometry)
    shutil.copy(folder / "labels" / "a.nii.gz", folder / "labels" / "A.nii.gz")


@understood()
def hidden_files_and_notes_beside_the_images(folder: Path) -> None:
    (folder / "images" / "._a.nii.gz").write_bytes(b"\0\5\x16\7")  # what macOS leaves on foreign disks
    (folder / "images" / "Thumbs.db").write_bytes(b"x")
    (folder / "labels" / "read me.txt").write_text("labels by Dr. Doe")


@understood()
def a_link_from_a_folder_to_itself(folder: Path) -> None:
    (folder / "images" / "again").symlink_to(folder, target_is_directory=True)


@refused("may not be read; check its permissions")
def a_folder_that_may_not_be_read(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may read everything")
    (folder / "images").chmod(0)


@refused("cannot be opened (Permission denied); check its permissions")
def a_file_that_may_not_be_read(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may read everything")
    (folder / "images" / "b.nii.gz").chmod(0)


# --- dataset.json, nnlite.json and lists of cases ---


@refused("dataset.json is not valid JSON: Unterminated string")
def a_dataset_json_that_is_cut_short(folder: Path) -> None:
    raw(folder, '{"channel_names": {"0": "MR"}, "labels": {"backgr')


@refused("dataset.json is not valid JSON")
def an_empty_dataset_json(folder: Path) -> None:
    raw(folder, "")


@refused("dataset.json should hold one JSON object")
def a_dataset_json_that_is_a_list(folder: Path) -> None:
    raw(folder, [1, 2])


@refused("dataset.json is not valid JSON")
def a_dataset_json_nested_absurdly(folder: Path) -> None:
    raw(folder, "[" * 200_000 + "]" * 200_000)


@refused("dataset.json is not valid JSON")
def a_dataset_json_in_another_encoding(folder: Path) -> None:
    raw(folder, {})
    (folder / "dataset.json").write_bytes('{"name": "Größe"}'.encode("latin-1"))


@refused("channel names 'MR' are not understood; write for example")
def channel_names_that_are_a_text(folder: Path) -> None:
    raw(folder, {"channel_names": "MR", "labels": TABLE})


@refused("channel names")
def channel_names_without_numbers(folder: Path) -> None:
    raw(folder, {"channel_names": {"MR": "0"}, "labels": TABLE})


@refused("the label maps hold values other than 0, 1, 2, .. and no table says what they mean")
def a_dataset_json_without_labels(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "MR"}})


@refused("correct")
def labels_that_are_no_numbers(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": "one", "core": None}})


@refused("correct")
def two_labels_of_one_value(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 7, "core": 7}})


@refused("correct")
def labels_nested_in_labels(folder: Path) -> None:
    raw(folder, {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": {"left": 1}}})


@refused('entry 2 of "training" in dataset.json names no image; write {"image"')
def a_training_list_of_numbers(folder: Path) -> None:
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    raw(folder, {"modality": {"0": "MR"}, "labels": TABLE, "training": [entry, 5]})


@refused("does not exist")
def a_training_list_of_files_that_are_gone(folder: Path) -> None:
    entry = {"image": "imagesTr/z.nii.gz", "label": "labelsTr/z.nii.gz"}
    raw(folder, {"modality": {"0": "MR"}, "labels": TABLE, "training": [entry]})


@refused("the id occurs 2 times; give each case its own id")
def a_case_that_is_listed_twice(folder: Path) -> None:
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    raw(folder, {"modality": {"0": "MR"}, "labels": TABLE, "training": [entry, entry]})


@refused("unknown key 'lables'; the keys are name, labels")
def a_misspelt_key(folder: Path) -> None:
    (folder / "nnlite.json").write_text(json.dumps({"lables": TABLE}))


@refused("\"exclude\" names 'c', which is no case")
def an_excluded_case_that_is_none(folder: Path) -> None:
    (folder / "nnlite.json").write_text(json.dumps({"labels": TABLE, "exclude": ["c"]}))


@refused("cannot be part of a file name; use letters, digits, - and _")
def an_id_that_leads_out_of_the_workspace(folder: Path) -> None:
    rows = "id,MR,label\n../../evil,images/a.nii.gz,labels/a.nii.gz\nb,images/b.nii.gz,labels/b.nii.gz\n"
    (folder / "cases.csv").write_text(rows)


@refused("'name' should be a name that can be a folder's")
def a_name_that_leads_out_of_the_workspace(folder: Path) -> None:
    (folder / "nnlite.json").write_text(json.dumps({"name": "../evil", "labels": TABLE}))


@refused("cannot be read as a CSV table")
def a_spreadsheet_named_csv(folder: Path) -> None:
    (folder / "cases.csv").write_bytes(b"PK\x03\x04\xff\xfe\x00\x01")


@refused('a list of cases needs a column "label"')
def a_list_without_labels(folder: Path) -> None:
    (folder / "cases.csv").write_text("id;MR\na;images/a.nii.gz\n")


@refused("is empty")
def an_empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


# --- DICOM ---


def series(folder: Path, **options: Any) -> None:
    """A third case: a DICOM series and its label map."""
    from dicom_files import ramp, write_series

    write_series(folder / "images" / "c", ramp((6, 6, 7)), **options)


@refused("slices are missing (slices are 3 mm apart, but not from -97.00 to -91.00 mm); get the whole series")
def a_dicom_series_with_a_missing_slice(folder: Path) -> None:
    series(folder)
    sorted((folder / "images" / "c").iterdir())[2].unlink()


@refused("are equally long; choose one with --series, or keep one only")
def two_dicom_series_in_one_folder(folder: Path) -> None:
    series(folder)
    series(folder, prefix="other", SeriesInstanceUID="1.2.3.5", SeriesNumber=5)


@refused("its pixels are cut short or damaged")
def a_dicom_slice_that_is_cut_short(folder: Path) -> None:
    series(folder)
    first = min((folder / "images" / "c").iterdir())
    first.write_bytes(first.read_bytes()[:-40])
