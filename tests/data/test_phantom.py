"""The phantom looks enough like an abdomen to learn from, and is the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.image import read_image, read_label
from nnlite.data.phantom import AIR_HU, LABELS, NOISE_HU, PhantomCase, draw_case, write_phantom

CASES = [draw_case((0, number)) for number in range(6)]


def volume_ml(case: PhantomCase, label: str) -> float:
    return float((case.labels == LABELS[label]).sum() * np.prod(case.spacing_mm) / 1000)


def test_the_same_seed_draws_the_same_voxels_and_another_seed_others():
    again = draw_case((0, 0))
    assert np.array_equal(again.hu, CASES[0].hu)
    assert np.array_equal(again.labels, CASES[0].labels)
    assert not np.array_equal(CASES[0].labels[:20, :80, :100], CASES[1].labels[:20, :80, :100])


def test_spacing_varies_and_slices_are_about_twice_as_thick_as_pixels_are_wide():
    assert len({case.spacing_mm for case in CASES}) == len(CASES)
    for case in CASES:
        z, y, x = case.spacing_mm
        assert y == x
        assert 6.0 / 3.4 <= z / y <= 7.5 / 2.8  # the extremes of the two ranges


def test_every_organ_is_in_every_case_at_a_size_of_life():
    for case in CASES:
        assert set(np.unique(case.labels)) == set(LABELS.values())
        assert 350 < volume_ml(case, "liver") < 2000
        assert 50 < volume_ml(case, "spleen") < 400
        assert volume_ml(case, "lesion") < 0.1 * volume_ml(case, "liver")


def test_organs_differ_from_case_to_case():
    livers = [volume_ml(case, "liver") for case in CASES]
    assert np.std(livers) > 0.05 * np.mean(livers)


def test_the_liver_is_on_the_right_the_spleen_on_the_left_and_the_spine_at_the_back():
    for case in CASES:  # canonical axes: y grows to the back, x to the patient's left
        centre = {name: np.argwhere(case.labels == value).mean(axis=0) for name, value in LABELS.items()}
        assert centre["liver"][2] < centre["spine"][2] < centre["spleen"][2]
        assert centre["spine"][1] > centre["liver"][1]


def test_the_lesion_lies_within_the_liver():
    from scipy.ndimage import binary_dilation

    for case in CASES:
        around = binary_dilation(case.labels == LABELS["lesion"]) & (case.labels != LABELS["lesion"])
        inside = np.isin(case.labels[around], [LABELS["liver"], LABELS["kidneys"], LABELS["spine"]])
        assert inside.mean() > 0.8  # a lesion may touch the liver's border


def test_intensities_are_hounsfield_units_with_noise():
    for case in CASES:
        assert case.hu.dtype == np.int16
        corner = case.hu[:, :5, :5].astype(float)  # outside of the body there is air, cut off at -1024
        assert corner.mean() == pytest.approx(AIR_HU, abs=NOISE_HU)
        liver = case.hu[case.labels == LABELS["liver"]]
        assert 70 < liver.mean() < 150
        assert liver.std() > 0.8 * NOISE_HU


def test_borders_are_soft():
    """Across the liver's border some voxels lie half-way between liver and fat."""
    case = CASES[0]
    liver = case.labels == LABELS["liver"]
    outside = np.roll(liver, 1, axis=2) & (case.labels == 0)
    fat, tissue = -100.0, float(case.hu[liver].mean())
    assert fat + 20 < float(np.median(case.hu[outside])) < tissue


def test_a_written_phantom_reads_back_with_its_geometry_and_its_description(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    ids = write_phantom(tmp_path, cases=2, seed=3, progress=lambda what, done, total: seen.append((done, total)))
    assert ids == ("phantom_01", "phantom_02")
    assert seen == [(1, 2), (2, 2)]
    image = read_image(tmp_path / "images" / "phantom_02.nii.gz")
    label = read_label(tmp_path / "labels" / "phantom_02.nii.gz")
    assert image.geometry.differences(label.geometry) == []
    assert set(np.unique(label.array)) == set(LABELS.values())
    assert np.all(np.asarray(image.geometry.spacing_mm) > 2.0)
    description = json.loads((tmp_path / "nnlite.json").read_text())
    assert description == {"channels": ["CT"], "labels": LABELS}


def test_a_case_does_not_depend_on_how_many_are_drawn_and_another_prefix_draws_others(tmp_path: Path):
    few, many, others = tmp_path / "few", tmp_path / "many", tmp_path / "others"
    write_phantom(few, cases=1, seed=3)
    write_phantom(many, cases=2, seed=3)
    write_phantom(others, cases=1, seed=3, prefix="test")
    first = read_image(few / "images" / "phantom_01.nii.gz")
    same = read_image(many / "images" / "phantom_01.nii.gz")
    other = read_image(others / "images" / "test_01.nii.gz")
    assert np.array_equal(first.array, same.array)
    assert first.geometry.spacing_mm != other.geometry.spacing_mm
