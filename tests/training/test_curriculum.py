"""Easy cases come first: large structures, little noise."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import plan, store_cases

from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.resample import resample, separate_axis
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.batches import BatchSource
from nnlite.training.curriculum import easiest_first, noise, noise_left, pool_size, smallest_structure

SHAPE = (8, 16, 16)


def stored(folder: Path, *kinds: tuple[int, float]) -> dict[str, StoredCase]:
    """Cases named a, b, c, .. with a block of so many voxels and noise of this standard deviation."""
    store = CaseStore(folder)
    for number, (voxels, sigma) in enumerate(kinds):
        label = np.zeros(SHAPE, dtype=np.uint8)
        label.reshape(-1)[:voxels] = 1
        store.write(case("abcdefgh"[number], white_noise(sigma)[None], label))
    return {case_id: store.open(case_id) for case_id in store.ids()}


def white_noise(sigma: float, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma, shape).astype(np.float32)


def case(
    case_id: str, image: np.ndarray, label: np.ndarray, cropped_shape: tuple[int, int, int] = SHAPE
) -> PreprocessedCase:
    """A case whose image had ``cropped_shape`` and voxels of 1 mm before it was resampled."""
    return PreprocessedCase(
        case_id=case_id,
        image=image,
        label=label,
        previous=None,
        restoration=resampling(cropped_shape, image.shape[1:]),
    )


def resampling(
    old: tuple[int, ...], new: tuple[int, ...], spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Restoration:
    z, y, x = old
    return Restoration(
        case_id="any",
        shape=(z, y, x),
        box=((0, z), (0, y), (0, x)),
        transpose=(0, 1, 2),
        cropped_shape=(z, y, x),
        spacing_mm=spacing_mm,
        resampled_shape=(new[0], new[1], new[2]),
        resampled_spacing_mm=(spacing_mm[0] * z / new[0], spacing_mm[1] * y / new[1], spacing_mm[2] * x / new[2]),
    )


@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_the_noise_is_found_beside_structures_and_an_empty_background(sigma: float) -> None:
    rng, image = np.random.default_rng(0), np.zeros((1, 6, 64, 128))
    image[0, :, 16:48, 14:114] = 5 + rng.normal(0, sigma, (6, 32, 100))
    image[0, :, 24:40, 34:94] += 3
    assert noise(image) == pytest.approx(sigma, rel=0.15)
    assert noise(np.zeros((2, 3, 4, 5))) == 0


@pytest.mark.parametrize(
    ("new", "spacing_mm"),
    [
        ((10, 48, 96), (1.0, 1.0, 1.0)),  # finer along the axis of the differences
        ((20, 96, 96), (1.0, 1.0, 1.0)),
        ((10, 36, 36), (1.0, 1.0, 1.0)),
        ((30, 72, 72), (5.0, 1.0, 1.0)),  # slices one by one, as they are thick
        ((10, 48, 96), (1.0, 1.0, 5.0)),
    ],
)
def test_the_noise_of_a_scan_is_found_behind_its_resampling(
    new: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> None:
    sigma, old = 0.3, (10, 48, 48)
    restoration = resampling(old, new, spacing_mm)
    apart = separate_axis(spacing_mm, restoration.resampled_spacing_mm)
    scan = torch.from_numpy(white_noise(sigma, old))[None]
    resampled = resample(scan, new, order=3, separate_axis=apart, clip=True).numpy()
    assert noise(resampled) / noise_left(restoration) == pytest.approx(sigma, rel=0.15)


def test_what_was_not_resampled_keeps_all_its_noise() -> None:
    assert noise_left(resampling(SHAPE, SHAPE)) == 1
    assert noise_left(resampling((8, 16, 1), (8, 16, 2))) == 1  # no differences, so no noise is found in it either
    assert noise(np.ones((1, 8, 16, 2))) == 0


def test_the_smallest_structure_counts_of_those_that_are_there() -> None:
    label = np.array([0, 1, 1, 1, 3, 3])
    assert smallest_structure(label, [(1,), (2,), (3,)]) == 2
    assert smallest_structure(label, [(1, 3), (3,)]) == 2
    assert smallest_structure(label, [(1, 3), (2,)]) == 5
    assert smallest_structure(np.zeros(4, dtype=np.uint8), [(1,)]) == 0


def test_counting_voxels_makes_no_large_copy() -> None:
    label = np.random.default_rng(0).integers(0, 4, (64, 128, 128), dtype=np.uint8)
    label[label == 3] = 4  # of no structure
    tracemalloc.start()
    found = smallest_structure(label, [(1,), (2,)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == min((label == 1).sum(), (label == 2).sum())
    assert peak < label.nbytes


def test_of_equal_noise_the_large_structure_is_easier_and_of_equal_size_the_quiet_image(tmp_path: Path) -> None:
    by_size = easiest_first(stored(tmp_path / "s", (5, 0.1), (500, 0.1), (50, 0.1), (0, 0.1)), [(1,)], 1)
    assert by_size == ("b", "c", "a", "d")
    assert easiest_first(stored(tmp_path / "n", (9, 0.5), (9, 0.1), (9, 0.9)), [(1,)], 1) == ("b", "a", "c")


def test_the_noisier_scan_is_harder_though_a_mask_of_bone_is_stored_with_the_other(tmp_path: Path) -> None:
    """Half of the voxels of a are bone: its second channel has more edges than the noise of both scans."""
    bone = (white_noise(1.0) > 0).astype(np.float32)
    label, store = np.ones(SHAPE, dtype=np.uint8), CaseStore(tmp_path)
    store.write(case("a", np.stack([white_noise(0.1), bone]), label))
    store.write(case("b", np.stack([white_noise(0.3), np.zeros_like(bone)]), label))
    cases = {case_id: store.open(case_id) for case_id in store.ids()}
    assert easiest_first(cases, [(1,)], channels=1) == ("a", "b")
    assert easiest_first(cases, [(1,)], channels=2) == ("b", "a")


def test_the_noisier_scan_is_harder_though_its_grid_was_made_finer(tmp_path: Path) -> None:
    """Twice the voxels along x make neighbours of b so alike that it looks quieter than a, which has half its noise."""
    label, store = np.ones(SHAPE, dtype=np.uint8), CaseStore(tmp_path)
    coarse = (8, 16, 8)
    finer = resample(torch.from_numpy(white_noise(0.4, coarse))[None], SHAPE, order=3, clip=True).numpy()
    assert noise(finer) < noise(white_noise(0.2)[None])
    store.write(case("a", white_noise(0.2)[None], label))
    store.write(case("b", finer, label, cropped_shape=coarse))
    cases = {case_id: store.open(case_id) for case_id in store.ids()}
    assert easiest_first(cases, [(1,)], channels=1) == ("a", "b")


def test_both_decide_together(tmp_path: Path) -> None:
    # by size b a c d, by noise a b d c: so many are easier than a 1 + 0, b 0 + 1, c 2 + 3, d 3 + 2
    cases = stored(tmp_path, (100, 0.1), (200, 0.2), (50, 0.8), (25, 0.4))
    assert easiest_first(cases, [(1,)], 1) == ("a", "b", "c", "d")


def test_cases_without_any_structure_come_last_however_quiet_they_are(tmp_path: Path) -> None:
    # by size d c, by noise b a d c: so many are easier than a 2 + 1, b 2 + 0, c 1 + 3, d 0 + 2
    cases = stored(tmp_path, (0, 0.2), (0, 0.1), (9, 0.9), (500, 0.5))
    assert easiest_first(cases, [(1,)], 1) == ("d", "c", "b", "a")


def test_the_pool_grows_to_all_cases_by_the_middle_of_the_training() -> None:
    sizes = [pool_size(10, done) for done in np.linspace(0, 1, 11)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 3  # a quarter of ten, rounded up
    assert all(size == 10 for size in sizes[5:])
    assert pool_size(1, 0.0) == 1


def test_batches_are_drawn_from_the_easiest_cases_first_and_are_a_function_of_their_number(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)

    def seen(share_done: float, first: int = 0) -> list[tuple[str, ...]]:
        source = BatchSource(
            plan(),
            plan().configuration("3d"),
            cases,
            {},
            seed=1,
            device=torch.device("cpu"),
            easiest_first=("case_2", "case_0", "case_1"),
        )
        with closing(source.training_batches(0, 6, first=first, share_done=[share_done])) as batches:
            return [batch.cases for batch in batches]

    assert {case for batch in seen(0.0) for case in batch} == {"case_2"}  # a quarter of three cases, rounded up
    assert {case for batch in seen(0.2) for case in batch} == {"case_2", "case_0"}
    assert {case for batch in seen(0.5) for case in batch} == {"case_0", "case_1", "case_2"}
    assert seen(0.2, first=4) == seen(0.2)[4:]


def test_the_pool_grows_within_an_epoch_by_what_is_known_when_a_batch_is_asked_for(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)
    source = BatchSource(
        plan(),
        plan().configuration("3d"),
        cases,
        {},
        seed=1,
        device=torch.device("cpu"),
        easiest_first=("case_2", "case_0", "case_1"),
        threads=1,
    )
    done, seen = [0.0], []
    with closing(source.training_batches(0, 40, share_done=done)) as batches:
        for number, batch in enumerate(batches, start=1):
            seen.append(set(batch.cases))
            done.append(number / 40)
    # the fifth batch is asked for as soon as the second arrives; half of the training is done after 20 steps
    assert all(one == {"case_2"} for one in seen[:4])
    assert set().union(*seen[:20]) == {"case_2", "case_0", "case_1"}
    assert set().union(*seen[:12]) == {"case_2", "case_0"}
    assert set().union(*seen[24:]) == set(cases)
