"""Patches lie where they should, hold foreground as often as they should, and carry their labels along."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.transforms.color_transforms import BrightnessMultiplicativeTransform
from batchgenerators.transforms.crop_and_pad_transforms import CenterCropTransform
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

from nnlite.data.labels import Labels
from nnlite.errors import UsageError
from nnlite.planning.mirroring import Exchange
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.assemble import assemble
from nnlite.training.augmentation.spatial import Placing, Spatial, region_size
from nnlite.training.patches import Patch, PatchLoader, draw_start, read_region


def stored(
    folder: Path,
    label: np.ndarray,
    case_id: str = "case",
    *,
    cascade: bool = False,
    labels: Labels | None = None,
    annotated: tuple[bool, ...] | None = None,
) -> dict[str, StoredCase]:
    """A case whose image channels are its label, and a number that no other voxel has."""
    z, y, x = label.shape
    restoration = Restoration(
        case_id=case_id,
        shape=(z, y, x),
        box=((0, z), (0, y), (0, x)),
        transpose=(0, 1, 2),
        cropped_shape=(z, y, x),
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=(z, y, x),
        resampled_spacing_mm=(1.0, 1.0, 1.0),
    )
    number = np.arange(1, label.size + 1).reshape(label.shape)
    image = np.stack([label, number]).astype(np.float32)
    previous = (2 - label).clip(0).astype(np.uint8) if cascade else None
    store = CaseStore(folder)
    store.write(
        PreprocessedCase(
            case_id=case_id, image=image, label=label.astype(np.uint8), previous=previous, restoration=restoration
        ),
        labels,
        annotated,
    )
    return {case_id: store.open(case_id)}


def blobs(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, shape)


def loader(
    cases: dict[str, StoredCase],
    patch_size: Sequence[int],
    *,
    posed: bool = False,
    mirror_axes: tuple[int, ...] = (),
    placing: Placing | None = None,
    **others,
) -> PatchLoader:
    """As nnU-Net moves patches where ``posed``, and mirrored along these axes; or as ``placing`` says."""
    if posed or mirror_axes:
        spatial = Spatial() if posed else Spatial(rotation=0, scaling=0)
        placing = Placing(spatial=spatial, mirror_axes=mirror_axes)
    made = PatchLoader(cases, patch_size=patch_size, placing=placing, **{"batch_size": 4, **others})
    made.reseed(1)
    return made


def test_regions_of_a_network_without_padding_are_larger_and_mirrored_at_the_borders(tmp_path: Path) -> None:
    label = blobs(6, 7, 8)
    cases = stored(tmp_path, label)
    number = np.pad(np.arange(1, label.size + 1).reshape(label.shape), 3, mode="symmetric")
    for patch in loader(cases, (4, 4, 4), margin=(3, 2, 0)).draw(np.random.default_rng(0)):
        assert patch.image.shape[1:] == patch.label.shape == (10, 8, 4)
        centre = np.argwhere(number == patch.image[1, 3, 2, 0])  # the first voxel that is answered for
        z, y, x = next(place for place in centre if (place >= 3).all() and (place < np.array(label.shape) + 3).all())
        assert np.array_equal(patch.image[1], number[z - 3 : z + 7, y - 2 : y + 6, x : x + 4])


# places


def test_a_region_that_leaves_the_volume_is_filled_with_zeros() -> None:
    volume = np.arange(1, 2 * 4 * 5 + 1).reshape(2, 4, 5)
    padded = np.pad(volume, ((0, 0), (3, 3), (3, 3)))
    for start in [(-3, -2), (0, 0), (2, 3), (-1, 4)]:
        z, y = (first + 3 for first in start)
        assert np.array_equal(read_region(volume, start, (3, 4)), padded[:, z : z + 3, y : y + 4])
    assert not read_region(volume, (9, 0), (2, 2)).any()


def test_a_random_patch_lies_anywhere_inside_the_image() -> None:
    rng = np.random.default_rng(0)
    starts = {draw_start(rng, (10,), (4,), None)[0] for _ in range(300)}
    assert starts == set(range(7))  # 10 - 4 + 1 places


def test_a_centred_patch_stays_inside_the_image() -> None:
    rng = np.random.default_rng(0)
    assert draw_start(rng, (10, 10, 10), (4, 4, 4), (5, 0, 9)) == (3, 0, 6)


def test_an_image_smaller_than_the_patch_lies_in_its_middle() -> None:
    assert draw_start(np.random.default_rng(0), (4, 9), (8, 8), (1, 8)) == (-2, 1)


# the loader


def hardly_anything() -> np.ndarray:
    """One voxel of 27,000, which only 3 of the image's 28 x 28 x 28 places for a patch of 3 x 3 x 3 hold."""
    label = np.zeros((30, 30, 30), dtype=np.uint8)
    label[29, 3, 29] = 1
    return label


@pytest.mark.parametrize(
    ("batch_size", "anywhere"),  # 0.67 of the batch, rounded
    [(2, 1), (3, 2), (4, 3), (5, 3), (9, 6), (12, 8), (50, 34)],
)
def test_the_last_third_of_a_batch_is_forced_to_hold_foreground(batch_size: int, anywhere: int, tmp_path: Path) -> None:
    batch = next(loader(stored(tmp_path, hardly_anything()), (3, 3, 3), batch_size=batch_size))
    assert [bool(patch.label.any()) for patch in batch] == [False] * anywhere + [True] * (batch_size - anywhere)


def test_the_only_sample_of_a_batch_is_forced_a_third_of_the_time(tmp_path: Path) -> None:
    one = loader(stored(tmp_path, hardly_anything()), (3, 3, 3), batch_size=1)
    share = sum(bool(patch.label.any()) for _ in range(600) for patch in next(one)) / 600
    assert share == pytest.approx(0.33, abs=4 * math.sqrt(0.33 * 0.67 / 600))


def test_rare_labels_are_the_centre_as_often_as_common_ones(tmp_path: Path) -> None:
    label = np.full((12, 12, 12), 1, dtype=np.uint8)
    label[6, 6, 6] = 2
    batch = next(loader(stored(tmp_path, label), (1, 1, 1), batch_size=900))
    forced = [int(patch.label[0, 0, 0]) for patch in batch[603:]]
    assert forced.count(2) / len(forced) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(forced)))


def test_a_case_without_any_label_gives_random_patches(tmp_path: Path) -> None:
    batch = next(loader(stored(tmp_path, np.zeros((6, 6, 6))), (4, 4, 4)))
    assert all(patch.label.shape == (4, 4, 4) and not patch.label.any() for patch in batch)


@pytest.mark.parametrize("lesion", [False, True])
def test_all_patches_of_a_sparsely_labelled_case_hold_labelled_voxels_also_if_all_are_background(
    lesion: bool, tmp_path: Path
) -> None:
    label = np.full((30, 12, 12), 2, dtype=np.uint8)
    label[17] = 0  # 1 of the 30 slices is labelled: a patch one slice deep that lies anywhere mostly misses it
    label[17, 5, 5] = int(lesion)
    cases = stored(tmp_path, label, labels=Labels.from_table({"lesion": 1, "ignore": 2}))
    batch = next(loader(cases, (1, 4, 4), batch_size=60))
    assert all((patch.label != 2).all() for patch in batch)
    assert all((patch.label == 1).any() for patch in batch[40:]) == lesion  # the last third is forced


def test_cases_take_turns_at_random(tmp_path: Path) -> None:
    cases = {name: stored(tmp_path, blobs(6, 6, 6), name)[name] for name in ("a", "b", "c")}
    ids = [patch.case_id for patch in next(loader(cases, (4, 4, 4), batch_size=60))]
    assert min(ids.count(name) for name in cases) > 10


@pytest.mark.parametrize("posed", [False, True])
def test_image_label_and_previous_are_read_at_the_same_place(posed: bool, tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(20, 18, 22), cascade=True)
    batch = next(loader(cases, (8, 6, 8), batch_size=40, posed=posed))
    assert any(patch.pose is not None for patch in batch) == posed
    for patch in batch:
        assert patch.previous is not None
        assert patch.label.shape == region_size((8, 6, 8), patch.pose)
        assert np.array_equal(patch.image[0], patch.label)
        inside = patch.image[1] > 0
        assert np.array_equal(patch.previous[inside], 2 - patch.label[inside])
        assert not patch.label[~inside].any()


def test_a_posed_region_is_centred_where_the_plain_patch_would_be(tmp_path: Path) -> None:
    """With every voxel numbered, the middle of a region tells where it lies: it must be able to reach the border."""
    cases = stored(tmp_path, blobs(8, 8, 8))  # as large as the patch: only one place is possible
    for patch in next(loader(cases, (8, 8, 8), batch_size=40, posed=True)):
        margin = [(size - 8) // 2 for size in patch.label.shape]
        z, y, x = (slice(m, m + 8) for m in margin)
        assert np.array_equal(patch.image[1, z, y, x], cases["case"].image[1])


def test_slices_are_cut_from_volumes(tmp_path: Path) -> None:
    label = blobs(5, 12, 12)
    for patch in next(loader(stored(tmp_path, label), (8, 8), batch_size=30, posed=True)):
        assert patch.image.shape == (2, *region_size((8, 8), patch.pose))
        assert np.array_equal(patch.image[0], patch.label)
        numbers = patch.image[1][patch.image[1] > 0] - 1
        assert len({int(number) // 144 for number in numbers}) == 1  # 12 x 12 voxels per slice: all of one slice


def test_every_slice_can_be_drawn_and_forced_ones_hold_foreground(tmp_path: Path) -> None:
    label = np.zeros((5, 12, 12), dtype=np.uint8)
    label[3, 2, 9] = 1
    batch = next(loader(stored(tmp_path, label), (4, 4), batch_size=60))
    slices = [int(patch.image[1, 0, 0] - 1) // 144 for patch in batch]
    assert set(slices[:40]) == set(range(5))
    assert all(patch.label.any() for patch in batch[40:])
    assert set(slices[40:]) == {3}


def test_an_image_of_one_slice_smaller_than_the_patch_is_padded(tmp_path: Path) -> None:
    label = np.ones((1, 4, 20), dtype=np.uint8)
    for patch in next(loader(stored(tmp_path, label), (8, 8))):
        assert patch.label.sum(axis=0).tolist() == [4] * 8
        assert patch.label.sum(axis=1).tolist() == [0, 0, 8, 8, 8, 8, 0, 0]


def same(first: list[Patch], second: list[Patch]) -> bool:
    return all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_batches_are_a_function_of_the_seed(tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(20, 20, 20))
    first, second, other = (loader(cases, (8, 8, 8), posed=True) for _ in range(3))
    other.reseed(1, 2)
    runs = [[next(one) for _ in range(3)] for one in (first, second, other)]
    assert all(same(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not same(runs[0][0], runs[0][1])
    assert not same(runs[0][0], runs[2][0])


def test_a_draw_is_a_function_of_its_random_numbers_whatever_came_before(tmp_path: Path) -> None:
    one = loader(stored(tmp_path, blobs(20, 20, 20)), (8, 8, 8), posed=True)
    first = one.draw(np.random.default_rng(3))
    next(one)
    assert same(first, one.draw(np.random.default_rng(3)))
    assert not same(first, one.draw(np.random.default_rng(4)))


def test_patches_are_flipped_along_each_axis_half_of_the_time(tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(6, 6, 6))
    batch = next(loader(cases, (4, 4, 4), batch_size=400, mirror_axes=(0, 2)))
    for axis, probability in ((0, 0.5), (1, 0), (2, 0.5)):
        share = sum(axis in patch.flips for patch in batch) / 400
        assert share == pytest.approx(probability, abs=4 * 0.5 / math.sqrt(400) if probability else 0)
    both = sum(patch.flips == (0, 2) for patch in batch) / 400
    assert both == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 400))
    assert not any(patch.flips for patch in next(loader(cases, (4, 4, 4))))


@pytest.mark.parametrize("posed", [False, True])
def test_labels_change_places_in_patches_that_are_flipped_left_to_right(posed: bool, tmp_path: Path) -> None:
    # the first channel of an image is its label, and previous is 2 - label: both are exchanged like 1 and 2, or not
    exchange = Exchange(axis=2, indices=(0, 2, 1), channels=((1, 2),), previous=(0, 2, 1))
    cases = stored(tmp_path, blobs(9, 9, 9), cascade=True)
    batch = next(loader(cases, (4, 4, 4), batch_size=60, posed=posed, mirror_axes=(0, 2), exchange=exchange))
    for patch in batch:
        label = patch.image[0].astype(np.uint8)
        previous = np.where(patch.image[1] > 0, 2 - label, 0)  # outside of the image all is 0
        if 2 in patch.flips:
            label, previous = (np.choose(volume, (0, 2, 1)) for volume in (label, previous))
        np.testing.assert_array_equal(patch.label, label)
        np.testing.assert_array_equal(patch.previous, previous)
        assert patch.label.dtype == np.uint8
    assert {2 in patch.flips for patch in batch} == {False, True}


def test_what_is_drawn_changes_places_in_patches_that_are_flipped_left_to_right(tmp_path: Path) -> None:
    labels = Labels.from_table({"left lung": 1, "right lung": 2})
    exchange = Exchange(axis=2, indices=(0, 2, 1), channels=((1, 2),))
    cases = stored(tmp_path, blobs(9, 9, 9) % 2, labels=labels, annotated=(True, False))  # nobody drew the right one
    for patch in next(loader(cases, (4, 4, 4), batch_size=60, mirror_axes=(0, 2), exchange=exchange)):
        assert patch.drawn is not None
        assert patch.drawn.tolist() == ([True, False, True] if 2 in patch.flips else [True, True, False])


def test_only_what_is_drawn_is_a_place_to_centre_patches_on(tmp_path: Path) -> None:
    labels = Labels.from_table({"whole": [1, 2], "core": 2})
    [case] = stored(tmp_path, blobs(6, 6, 6), labels=labels, annotated=(False, True)).values()
    assert case.locations is not None
    assert case.locations.structures == (2,)


def test_batches_tell_what_is_drawn_in_each_sample_where_it_is_not_all(tmp_path: Path) -> None:
    labels = Labels.from_table({"ball": 1, "core": 2})
    whole = stored(tmp_path, blobs(6, 6, 6), "a", labels=labels)
    part = stored(tmp_path, blobs(6, 6, 6) % 2, "b", labels=labels, annotated=(True, False))
    patches = next(loader(whole | part, (4, 4, 4), batch_size=20, in_memory=True))
    batch = assemble(patches, (4, 4, 4), torch.device("cpu"))
    assert batch.drawn is not None
    rows = {"a": [True, True, True], "b": [True, True, False]}
    assert batch.drawn.tolist() == [rows[case] for case in batch.cases]
    assert assemble(next(loader(whole, (4, 4, 4))), (4, 4, 4), torch.device("cpu")).drawn is None


def test_what_lies_inside_is_not_copied(tmp_path: Path) -> None:
    volume = np.zeros((2, 8, 8, 8), np.float32)
    assert np.shares_memory(read_region(volume, (0, 1, 4), (4, 4, 4)), volume)
    assert not np.shares_memory(read_region(volume, (0, 1, 5), (4, 4, 4)), volume)


# transforms of a user's own


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8)])
def test_a_batchgenerators_transform_changes_images(patch_size: tuple[int, ...], tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(20, 20, 20))
    double = BrightnessMultiplicativeTransform(multiplier_range=(2.0, 2.0001))
    plain, doubled = next(loader(cases, patch_size)), next(loader(cases, patch_size, transforms=(double,)))
    assert np.allclose(doubled[0].image, 2 * plain[0].image, rtol=1e-3)  # sample 0: drawn before any transform ran
    assert np.array_equal(doubled[0].label, plain[0].label)


def test_a_spatial_batchgenerators_transform_moves_image_label_and_previous_alike(tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(8, 8, 8), cascade=True)
    original = cases["case"].image[1]
    batch = next(loader(cases, (8, 8, 8), batch_size=20, transforms=(MirrorTransform((0, 1, 2)),)))
    assert any(not np.array_equal(patch.image[1], original) for patch in batch)
    for patch in batch:
        assert np.array_equal(patch.image[0], patch.label)
        assert patch.previous is not None
        assert np.array_equal(patch.previous, 2 - patch.label)


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8)])
def test_labels_are_indices_and_images_float32_whatever_types_a_transform_returns(
    patch_size: tuple[int, ...], tmp_path: Path
) -> None:
    def in_float64(**patch: np.ndarray) -> dict[str, np.ndarray]:
        return {key: volumes.astype(np.float64) for key, volumes in patch.items()}

    cases = stored(tmp_path, blobs(20, 20, 20), cascade=True)
    side = len(patch_size) - 1
    exchange = Exchange(axis=side, indices=(0, 2, 1), channels=((1, 2),), previous=(0, 2, 1))
    transforms = (SpatialTransform(None, random_crop=False), in_float64)  # the first returns float32 label maps
    patches = next(
        loader(
            cases,
            patch_size,
            posed=True,
            mirror_axes=(side,),
            batch_size=60,
            exchange=exchange,
            transforms=transforms,
        )
    )
    for patch in patches:
        assert patch.previous is not None
        assert (patch.image.dtype, patch.label.dtype, patch.previous.dtype) == (np.float32, np.uint8, np.uint8)
    assert {(patch.pose is None, patch.flips) for patch in patches} == {
        (still, flips) for still in (False, True) for flips in ((), (side,))
    }
    batch = assemble(patches, patch_size, torch.device("cpu"))
    assert set(batch.labels.unique().tolist()) == {0, 1, 2}


def test_transforms_are_a_function_of_the_seed_too(tmp_path: Path) -> None:
    cases = stored(tmp_path, blobs(20, 20, 20))
    transforms = (BrightnessMultiplicativeTransform((0.5, 2)),)
    first, second = (loader(cases, (8, 8, 8), transforms=transforms) for _ in range(2))
    assert same(next(first), next(second))
    assert not same(next(first), next(loader(cases, (8, 8, 8), transforms=transforms)))


def test_a_transform_that_crops_is_refused_with_both_shapes(tmp_path: Path) -> None:
    cropping = loader(stored(tmp_path, blobs(20, 20, 20)), (8, 8, 8), transforms=(CenterCropTransform((4, 4, 4)),))
    with pytest.raises(UsageError, match=r"\(2, 8, 8, 8\) into \(2, 4, 4, 4\).*leave out transforms that crop"):
        next(cropping)
