"""One case against the others: what is told, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.dataset import Case, Dataset
from nnlite.data.geometry import grids, rows
from nnlite.data.image import Geometry, Image
from nnlite.data.labels import Labels
from nnlite.data.suspicions import outliers, suspicions
from nnlite.data.traits import CaseTraits, traits

LABELS = Labels(names=("background", "liver"), values=(0, 1))
SHAPE = (8, 9, 10)


def scan(
    seed: int, *, direction: np.ndarray | None = None, spacing_mm: tuple[float, float, float] = (2, 1, 1)
) -> Image:
    grid = Geometry(shape=SHAPE, spacing_mm=spacing_mm, direction=rows(np.eye(3) if direction is None else direction))
    stored, turned = grids(grid, ".nii.gz")
    array = np.random.default_rng(seed).normal(100, 400, (1, *SHAPE)).astype(np.float32)
    return Image(array=stored.canonical(array), geometry=turned, stored=stored)


def seen(image: Image, voxels: int = 100) -> CaseTraits:
    label = np.zeros(image.geometry.shape, np.uint8)
    label.reshape(-1)[:voxels] = 1
    return traits(image, label, (0, 1) if voxels else (0,))


def usual(count: int = 30) -> dict[str, CaseTraits]:
    return {f"c{number}": seen(scan(number), 100 + number) for number in range(count)}


def told(cases: dict[str, CaseTraits], channel: str = "MR", groups: dict[str, str] | None = None) -> list[str]:
    listed = tuple(
        Case(id=name, images=(Path(name),), label=Path(name), group=(groups or {}).get(name)) for name in cases
    )
    dataset = Dataset(name="d", root=Path("d"), layout="", channels=(channel,), labels=LABELS, cases=listed)
    return list(suspicions(dataset, LABELS, cases))


def test_nothing_is_told_of_cases_that_differ_as_cases_do():
    assert told(usual()) == []
    assert told(usual(), "CT") == []


def test_a_volume_far_from_the_others_is_named_with_both():
    [warning] = told({**usual(), "tiny": seen(scan(99), 2)})
    # the median of 2, 100, .., 129 voxels of 2 mm3
    assert warning.startswith("liver has 0.228 ml in a usual case but: tiny 0.004; look at these label maps")


def test_colours_beyond_8_bits_are_told_with_what_to_write():
    warning = told({"a": seen(scan(1))}, "rgb-red")[-1]
    assert warning.startswith("rgb-red of a holds values from -")
    assert warning.endswith('or name the channels other than rgb under "channels" in nnlite.json')


def test_a_volume_less_than_five_times_the_others_is_no_warning():
    assert told({**usual(), "large": seen(scan(99), 500)}) == []


def test_few_cases_have_no_usual():
    assert told({**usual(8), "tiny": seen(scan(99), 2)}) == []


def test_structures_that_vary_widely_have_no_outliers():
    rng = np.random.default_rng(0)
    sizes = {f"c{number}": float(size) for number, size in enumerate(rng.lognormal(3, 1.5, 200))}
    assert outliers(sizes, factor=5) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: array - array.min(), "nothing is below 0"),
        (lambda array: array / 100, "span less than a display shows"),
        (lambda array: array - 4000, "nothing is as dense as tissue"),
    ],
)
def test_ct_that_is_not_in_hounsfield_units_is_named(change, words):
    image = scan(99)
    cases = {**usual(3), "odd": seen(replace(image, array=change(image.array)))}
    [warning] = told(cases, "CT")
    assert warning.startswith("CT of odd is not in Hounsfield units: ")
    assert words in warning
    assert told(cases) == []  # of MR nobody knows


@pytest.mark.parametrize(("darkest", "told_of"), [(-1000, True), (-2048, True), (-4096, False), (-500, False)])
def test_hounsfield_units_in_a_channel_of_another_name_are_told(darkest: int, told_of: bool):
    image = scan(1)
    image.array[:, :2] = darkest
    warnings = told({"a": seen(image)}, "image")
    assert told({"a": seen(image)}, "ct") == []
    assert len(warnings) == told_of
    assert all("image looks like CT in Hounsfield units" in warning for warning in warnings)
    assert all('call it CT under "channels" in nnlite.json' in warning for warning in warnings)


def test_an_intensity_unlike_all_others_is_named_and_a_mixture_is_not():
    image = scan(99)
    odd = seen(replace(image, array=image.array * 1000))
    [warning] = told({**usual(), "odd": odd})
    assert "most cases but: odd" in warning
    several = {
        f"odd {number}": seen(replace(scan(50 + number), array=scan(50 + number).array * 1000)) for number in range(5)
    }
    assert told({**usual(), **several}) == []


def test_the_same_image_is_found_whatever_its_header_says():
    flipped = np.diag([1.0, 1.0, -1.0])
    image = scan(3)
    cases = {
        **usual(3),
        "same": seen(image),
        "copy": seen(image, 50),
        "moved": seen(scan(1, direction=flipped)),  # as stored it is c1, in the patient its mirror image
    }
    first, second = told(cases)
    assert first.startswith("same and copy are the same image, with different labels; one may be trained on")
    assert second.startswith("c1 and moved are the same image (with other headers), with")


def test_copies_in_one_group_leak_nothing():
    image = scan(3)
    [warning] = told({"a": seen(image), "b": seen(image)}, groups={"a": "p", "b": "p"})
    assert warning == (
        "a and b are the same image, with the same labels; they are one group and are held out together, "
        "but count twice: exclude all but one"
    )


def test_empty_images_are_no_copies_of_each_other_but_empty():
    image = scan(0)
    flat = seen(replace(image, array=np.zeros_like(image.array)))
    [warning] = told({**usual(2), "a": flat, "b": flat})
    assert warning.startswith("MR has one value in all voxels of a, b: nothing can be seen in it")


def test_a_case_stored_otherwise_than_nearly_all_is_named():
    odd = seen(scan(99, direction=np.diag([1.0, -1.0, 1.0])))
    [warning] = told({**usual(), "odd": odd})
    assert warning.startswith("odd is stored as LAS, 30 others as LPS; nnlite turns each as its header says")
    mixed = {f"m{number}": seen(scan(60 + number, direction=np.diag([1.0, -1.0, 1.0]))) for number in range(9)}
    assert told({**usual(), **mixed}) == []


def test_ids_that_differ_in_capitals_are_named():
    [warning] = told({"Case": seen(scan(0)), "case": seen(scan(1))})
    assert warning.startswith("the ids Case and case differ in capitals only")
