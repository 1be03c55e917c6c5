"""Masks are paired by name, and their values named by the nearest table."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from nnlite.data.dataset import find_dataset
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import DatasetError
from nnlite.evaluation.masks import find_labels, pair_masks


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_masks_of_one_name_are_a_pair_whatever_their_formats(tmp_path: Path) -> None:
    truth = touch(tmp_path / "truth", "b.nii.gz", "a.v2.png", "notes.txt", ".hidden.nii.gz")
    prediction = touch(tmp_path / "prediction", "b.nrrd", "a.v2.png", "scores.csv")
    pairs, missing = pair_masks(truth, prediction)
    assert [(pair.case_id, pair.truth.name, pair.prediction.name) for pair in pairs] == [
        ("a.v2", "a.v2.png", "a.v2.png"),
        ("b", "b.nii.gz", "b.nrrd"),
    ]
    assert missing == []


def test_truth_without_prediction_is_told_and_prediction_without_truth_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth, prediction = touch(tmp_path / "truth", "a.png", "b.png"), touch(tmp_path / "pred", "b.png", "c.png")
    with caplog.at_level(logging.WARNING):
        pairs, missing = pair_masks(truth, prediction)
    assert [pair.case_id for pair in pairs] == ["b"]
    assert missing == ["a"]
    assert [Path(str(record.args[0])).name for record in caplog.records] == ["c.png"]


def test_what_predict_writes_beside_its_masks_is_not_taken_for_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = touch(tmp_path / "truth", "a.png")
    prediction = touch(tmp_path / "pred", "a.png", "a.preview.png", "a.probabilities.nii", "a.entropy.nii")
    with caplog.at_level(logging.WARNING):
        pairs, _ = pair_masks(truth, prediction)
    assert [pair.prediction.name for pair in pairs] == ["a.png"]
    assert caplog.records == []


def test_two_single_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    folder = touch(tmp_path, "truth.nii.gz", "result.nrrd")
    pairs, missing = pair_masks(folder / "truth.nii.gz", folder / "result.nrrd")
    assert [(pair.case_id, pair.prediction.name) for pair in pairs] == [("truth", "result.nrrd")]
    assert missing == []


def test_one_truth_finds_its_prediction_in_a_folder(tmp_path: Path) -> None:
    truth, prediction = touch(tmp_path / "truth", "b.png"), touch(tmp_path / "pred", "a.png", "b.png")
    pairs, _ = pair_masks(truth / "b.png", prediction)
    assert [pair.prediction for pair in pairs] == [prediction / "b.png"]


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        pair_masks(tmp_path / "nowhere", tmp_path)


def test_a_folder_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no masks in .*known suffixes are \.nii\.gz"):
        pair_masks(touch(tmp_path, "notes.txt"), tmp_path)


def test_two_masks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a\.nii\.gz and a\.png; keep one"):
        pair_masks(touch(tmp_path, "a.png", "a.nii.gz"), tmp_path)


@pytest.mark.parametrize("place", [".", "labelsTr"])
def test_a_table_in_or_beside_the_folder_names_the_labels(tmp_path: Path, place: str) -> None:
    truth = touch(tmp_path / "labelsTr", "a.png")
    (tmp_path / place / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "Anterior"}}))
    expected = Labels(names=("background", "Anterior"), values=(0, 1))
    assert find_labels(truth) == expected
    assert find_labels(truth / "a.png") == expected


def test_what_the_user_wrote_comes_before_what_the_dataset_says(tmp_path: Path) -> None:
    truth = touch(tmp_path / "labels", "a.png")
    (truth / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "theirs": 1}}))
    (tmp_path / "nnlite.json").write_text(json.dumps({"labels": {"background": 0, "mine": 255}}))
    assert find_labels(truth) == Labels(names=("background", "mine"), values=(0, 255))


def test_a_description_without_labels_leaves_the_question_to_the_next(tmp_path: Path) -> None:
    truth = touch(tmp_path / "labels", "a.png")
    assert find_labels(truth) is None
    (tmp_path / "nnlite.json").write_text(json.dumps({"channels": ["CT"]}))
    assert find_labels(truth) is None
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    assert find_labels(truth) == Labels(names=("background", "liver"), values=(0, 1))


@pytest.mark.parametrize("word", ["components", "numbered"])
def test_labels_and_the_word_for_their_instances_may_stand_in_two_files(tmp_path: Path, word: str) -> None:
    truth, _ = touch(tmp_path / "labelsTr", "a.png"), touch(tmp_path / "imagesTr", "a.png")
    (tmp_path / "nnlite.json").write_text(json.dumps({"instances": word}))
    objects = Labels(names=("background", "object"), values=(0, 1), instances=Instances(numbered=word == "numbered"))
    assert find_labels(truth) == find_dataset(tmp_path).labels == objects
    table = {"labels": {"background": 0, "nucleus": 1, "ignore": 65535}, "instances": "of another program"}
    (tmp_path / "dataset.json").write_text(json.dumps(table))
    nuclei = replace(objects, names=("background", "nucleus"), ignore=65535)
    assert find_labels(truth) == find_dataset(tmp_path).labels == nuclei


def test_a_misspelt_word_is_refused_as_where_a_dataset_is_planned(tmp_path: Path) -> None:
    (tmp_path / "nnlite.json").write_text(json.dumps({"labels": {"nucleus": 1}, "instances": "numberd"}))
    with pytest.raises(DatasetError, match=r'nnlite\.json: \'instances\' should be "components" or "numbered"'):
        find_labels(touch(tmp_path / "labels", "a.png"))


@pytest.mark.parametrize("text", ["{broken", '{"labels": {"background": 0, "whole": "both"}}'])
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "nnlite.json").write_text(text)
    with pytest.raises(DatasetError, match=r"nnlite\.json"):
        find_labels(touch(tmp_path / "labels", "a.png"))
