"""Which names are each other's mirror image, and what that makes of labels and regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlite.data.labels import Labels
from nnlite.data.records import from_json, to_json
from nnlite.data.sides import one_sided, pairs_by_name
from nnlite.errors import DatasetError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left kidney", "right kidney"),
        ("Kidney_Right", "kidney_left"),
        ("leftLung", "RightLung"),
        ("lung (L)", "Lung R"),
        ("L-femur", "r femur"),
        ("ctx-lh-insula", "ctx-rh-insula"),
        ("Left-Lateral-Ventricle", "Right-Lateral-Ventricle"),
    ],
)
def test_names_that_differ_in_their_side_are_a_pair(one: str, other: str):
    assert pairs_by_name(["spine", one, "skull", other]) == ((one, other),)


@pytest.mark.parametrize(
    "names",
    [
        ["left kidney", "kidney"],
        ["left kidney", "right lung"],
        ["left ventricle", "right ventricle"],  # of the heart: two halves that are not alike
        ["heart_atrium_left", "heart_atrium_right"],
        ["liver left lobe", "liver right lobe"],
        ["left kidney", "Left_Kidney", "right kidney"],  # which of the two?
        ["cleft", "cright"],
        ["vitamin l deposit", "vitamin r deposit"],  # a letter counts at the ends alone
        ["left vertebra l", "right vertebra r"],  # the word is the side, so the letter is not
    ],
)
def test_other_names_are_no_pair(names: list[str]):
    assert pairs_by_name(names) == ()


def test_a_side_without_a_counterpart_is_told_from_halves_of_one_organ_and_from_single_letters():
    names = ["left kidney", "right lung", "left lung", "heart_atrium_left", "bright spot", "vitamin l"]
    assert one_sided(names, pairs_by_name(names)) == ("left kidney",)
    assert one_sided(names, []) == ("left kidney", "right lung", "left lung")


def test_a_table_finds_its_pairs_and_exchanges_their_indices_and_channels():
    labels = Labels.from_table({"left lung": 3, "heart": 7, "right lung": 9, "ignore": 20})
    assert labels.mirrored == (("left lung", "right lung"),)
    assert labels.mirror_images == (0, 3, 2, 1, 4)  # background, left, heart, right, ignored
    assert labels.mask_mirror_images == labels.mirror_images
    assert labels.mirror_channels == ((1, 3),)
    assert from_json(to_json(labels), Labels, source="labels") == labels


def test_labels_that_a_user_names_are_a_pair_by_name_or_by_value_and_none_if_so_said():
    table = {"Leber": 1, "linke Niere": 2, "rechte Niere": 3}
    assert Labels.from_table(table).mirrored == ()
    by_name = Labels.from_table(table, mirrored=[["linke Niere", "rechte Niere"]])
    assert by_name == Labels.from_table(table, mirrored=[[2, 3]])
    assert by_name.mirror_images == (0, 1, 3, 2)
    assert Labels.from_table({"left lung": 1, "right lung": 2}, mirrored=[]).mirrored == ()


def test_regions_change_places_and_their_labels_with_them():
    table = {"lungs": [1, 2, 3, 4, 5], "left lung": [1, 2], "right lung": [3, 4, 5]}
    labels = Labels.from_table(table, (1, 2, 4))
    assert labels.mirrored == (("left lung", "right lung"),)
    assert labels.mirror_channels == ((1, 2),)  # regions have no channel of the background
    members = dict(zip(labels.structures, map(set, labels.members), strict=True))
    for label in range(1, 6):
        image = labels.mirror_images[label]
        assert (label in members["left lung"]) == (image in members["right lung"])
        assert (label in members["right lung"]) == (image in members["left lung"])
        assert image in members["lungs"]
    assert labels.mask_mirror_images == (0, 1, 4, 3, 2, 5)  # painted 2 and 4; what is painted 1 has no side


def test_regions_whose_labels_have_no_mirror_image_stay_one_sided_and_cannot_be_named_a_pair():
    table = {"left lung": [1, 2], "right lung": [3], "tumour": 2}  # a tumour in the right lung has no label
    labels = Labels.from_table(table)
    assert labels.mirrored == ()
    assert labels.one_sided == ("left lung", "right lung")
    with pytest.raises(DatasetError, match=r'overlap others .*write "mirrored": \[\]'):
        Labels.from_table(table, mirrored=[["left lung", "right lung"]])


@pytest.mark.parametrize(
    ("mirrored", "words"),
    [
        ([["left lung", "right lang"]], "mirrored names right lang, which is not learned; there are left lung, right"),
        ([["left lung", 9]], "mirrored names 9, which is not learned"),
        ([["left lung", "background"]], "mirrored names background"),
        ([["left lung", "right lung"], ["heart", "left lung"]], "a name occurs twice"),
        ([["heart", "heart"]], "a name occurs twice"),
    ],
)
def test_a_pair_that_cannot_be_is_refused(mirrored, words: str):
    with pytest.raises(DatasetError, match=words):
        Labels.from_table({"left lung": 1, "right lung": 2, "heart": 3}, mirrored=mirrored)


def test_labels_written_before_there_were_pairs_have_none():
    text = '{"format_version": 1, "names": ["background", "left lung", "right lung"], "values": [0, 1, 2]}'
    assert from_json(text, Labels, source="labels").mirrored == ()


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.permutations(["left a", "right a", "b_L", "b_R", "c", "left d"]), st.integers(0, 2), st.integers(0, 9))
def test_an_image_and_its_labels_mirrored_twice_are_as_before(names: list[str], axis: int, seed: int):
    labels = Labels.from_table({name: 1 + at for at, name in enumerate(names)})
    images = np.array(labels.mirror_images)
    label = np.random.default_rng(seed).integers(0, labels.index_count, (3, 4, 5))
    once = np.flip(images[label], axis)
    np.testing.assert_array_equal(np.flip(images[once], axis), label)
    for one, other in (("left a", "right a"), ("b_L", "b_R"), ("c", "c"), ("left d", "left d")):
        mirrored = np.flip(label == labels.names.index(one), axis)
        np.testing.assert_array_equal(once == labels.names.index(other), mirrored)
