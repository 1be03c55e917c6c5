"""Windows and masks are read as they are typed, and made of CT alone."""

from __future__ import annotations

import pytest

from nnlite.errors import PlanError, UsageError
from nnlite.planning.hu_channels import (
    WINDOWS,
    HuChannel,
    as_typed,
    hu_channels,
    parse_masks,
    parse_windows,
)


def test_a_named_window_is_its_centre_and_half_its_width_to_both_sides() -> None:
    limits = {one.name: (one.low_hu, one.high_hu) for one in parse_windows(",".join(WINDOWS))}
    assert limits == {
        "lung": (-1350, 150),
        "mediastinum": (-125, 225),
        "soft-tissue": (-150, 250),
        "liver": (-45, 105),
        "vessels": (-100, 500),
        "bone": (-500, 1300),
        "brain": (0, 80),
    }


def test_windows_and_masks_may_be_numbers() -> None:
    [lung, own] = parse_windows("lung, -1000:400")
    assert (lung.kind, own.name, own.low_hu, own.high_hu) == ("window", "-1000:400", -1000, 400)
    assert [(one.kind, one.low_hu, one.high_hu) for one in parse_masks("200:,:-900,-50:60.5")] == [
        ("mask", 200, None),
        ("mask", None, -900),
        ("mask", -50, 60.5),
    ]
    assert parse_windows("") == parse_masks("") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lungs", 'the window "lungs": is no range; write one of lung, .*, or LOW:HIGH in HU'),
        ("400:-100", "400 is not below -100 HU"),
        ("5:5", "5 is not below 5 HU"),
        ("200:", "a window has two limits"),
        ("0:inf", "its limits must be finite numbers"),
        ("a:b", "is no range"),
        ("lung,,bone", "leaves a place between commas empty"),
        ("bone,lung,bone", "names one twice"),
    ],
)
def test_windows_that_mean_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_windows(text)


@pytest.mark.parametrize(
    ("text", "words"), [(":", "at least one limit"), ("bone", "is no range"), ("9:1", "not below")]
)
def test_masks_that_mean_nothing_are_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_masks(text)


def test_every_ct_channel_brings_all_of_them_and_says_which_is_whose() -> None:
    ranges = (*parse_windows("lung"), *parse_masks("200:"))
    assert [one.name for one in hu_channels(ranges, ["CT"], ["CT", "PET"])] == ["lung", "200:"]
    assert hu_channels((), [], ["MR"]) == ()


def test_scans_that_are_called_alike_are_told_apart_by_their_numbers() -> None:
    channels = ["CT", "PET", "CT", "ct"]
    made = hu_channels(parse_windows("lung"), ["CT", "CT", "ct"], channels)
    assert [one.name for one in made] == ["CT 1 lung", "CT 2 lung", "ct lung"]
    assert [one.scan_among(channels) for one in made] == [0, 2, 3]
    assert made[1].in_words() == "CT 2 lung (window of CT 2 from -1350 to 150 HU)"


def test_without_ct_there_is_nothing_to_make_them_of() -> None:
    with pytest.raises(PlanError, match=r"none of the channels \(T1, T2\) is; leave --hu-windows and --hu-masks out"):
        hu_channels(parse_windows("lung"), [], ["T1", "T2"])


def test_a_channel_edited_by_hand_is_checked() -> None:
    with pytest.raises(PlanError, match="hu_channels: lung: a window has two limits"):
        HuChannel(source="CT", name="lung", kind="window", low_hu=-1000.0, high_hu=None)


@pytest.mark.parametrize(("source", "number", "words"), [("CT", 3, "CT 3"), ("CT", 0, "CT 0"), ("MR", None, "MR")])
def test_a_channel_that_is_made_of_none_of_those_there_are_is_refused(source, number, words: str) -> None:
    made = HuChannel(source=source, name="bone", kind="mask", low_hu=200.0, high_hu=None, source_number=number)
    with pytest.raises(PlanError, match=f"hu_channels: bone is made of {words}; there are CT, CT$"):
        made.scan_among(["CT", "CT"])


@pytest.mark.parametrize("ct", [["CT"], ["CT", "ct"], ["CT", "CT"]])
def test_what_was_typed_can_be_read_from_the_channels(ct: list[str]) -> None:
    ranges = (*parse_windows("lung,-160:240"), *parse_masks("-1000:-300,200:"))
    made = hu_channels(ranges, ct, [*ct, "PET"])
    assert (as_typed(made, "window"), as_typed(made, "mask")) == ("lung,-160:240", "-1000:-300,200:")
    assert (*parse_windows(as_typed(made, "window")), *parse_masks(as_typed(made, "mask"))) == ranges
    assert as_typed((), "window") == ""
