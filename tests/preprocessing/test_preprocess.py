"""There and back again: what preprocessing does to a case, and that restoring undoes it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from nnlite.data.labels import Labels
from nnlite.data.records import from_json, to_json
from nnlite.errors import ImageError
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.topology import plan_topology
from nnlite.preprocessing import resample as resampling
from nnlite.preprocessing.preprocess import Restoration, preprocess
from nnlite.preprocessing.restore import restore_labels

TRANSPOSES = list(itertools.permutations(range(3)))
ISO = (1.0, 1.0, 1.0)


def make_configuration(spacing_mm: tuple[float, ...], channels: int = 1, **changes) -> Configuration:
    ndim = len(spacing_mm)
    topology, patch_size = plan_topology(spacing_mm, (16,) * ndim)
    configuration = Configuration(
        name=f"{ndim}d",
        spacing_mm=spacing_mm,
        median_shape=(32,) * ndim,
        patch_size=patch_size,
        batch_size=2,
        normalization=("zscore",) * channels,
        use_nonzero_mask=(False,) * channels,
        batch_dice=False,
        topology=topology,
        previous_stage=None,
        reasons={},
    )
    return replace(configuration, **changes)


def make_plan(transpose=(0, 1, 2), channels: int = 1, labels: int = 3) -> Plan:
    intensities = IntensityProperties(
        mean=0.0, median=0.0, std=1.0, min=0.0, max=1.0, percentile_00_5=0.0, percentile_99_5=1.0
    )
    return Plan(
        dataset="toy",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=transpose,
        channels=tuple(f"channel {index}" for index in range(channels)),
        labels=Labels(names=("background", *(f"label {i}" for i in range(1, labels))), values=tuple(range(labels))),
        intensities=(intensities,) * channels,
        training_cases=10,
        configurations={},
        reasons={},
    )


def blob(shape=(24, 40, 36)) -> tuple[np.ndarray, np.ndarray]:
    """An image with an empty margin, and a label of two nested ellipsoids within it."""
    axes = np.meshgrid(*((np.arange(size) + 0.5) / size * 2 - 1 for size in shape), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    label = (radius < 0.8).astype(np.uint8) + (radius < 0.5)
    image = np.random.default_rng(0).normal(100, 10, shape).astype(np.float32) + 50 * label
    image[0] = image[:, -3:] = image[..., :2] = 0
    return image[None], label


def logits_of(label: np.ndarray | None, count: int) -> torch.Tensor:
    assert label is not None
    return torch.nn.functional.one_hot(torch.from_numpy(label).long(), count).movedim(-1, 0).float() * 10


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.mark.parametrize("transpose", TRANSPOSES)
def test_restoring_gives_the_label_back_to_the_voxel_where_the_spacing_stays(transpose):
    image, label = blob()
    spacing = (3.0, 1.0, 0.5)
    configuration = make_configuration(tuple(spacing[axis] for axis in transpose))
    case = preprocess("blob", image, spacing, make_plan(transpose), configuration, label=label)
    assert case.restoration.box == ((1, 24), (0, 37), (2, 36))
    assert case.image.shape[1:] == tuple((23, 37, 34)[axis] for axis in transpose)
    restored = restore_labels(logits_of(case.label, 3), case.restoration)
    assert restored.dtype == np.uint8
    cropped_away = image[0] == 0
    np.testing.assert_array_equal(restored[~cropped_away], label[~cropped_away])
    assert not restored[cropped_away].any()


@pytest.mark.parametrize("transpose", TRANSPOSES)
@pytest.mark.parametrize(
    ("spacing", "target"),
    [
        ((3.0, 1.0, 1.2), (2.4, 0.8, 0.9)),  # finer, all axes alike
        ((4.0, 1.0, 1.0), (3.0, 0.8, 0.8)),  # thick slices: separate
        ((1.0, 0.9, 0.9), (0.8, 1.1, 1.1)),  # finer and coarser
    ],
)
def test_restoring_gives_the_label_back_within_a_voxel_at_its_border(transpose, spacing, target):
    image, label = blob()
    label[image[0] == 0] = 0
    configuration = make_configuration(tuple(target[axis] for axis in transpose))
    case = preprocess("blob", image, spacing, make_plan(transpose), configuration, label=label)
    assert case.label is not None
    assert case.label.shape == case.image.shape[1:] == case.restoration.resampled_shape
    restored = restore_labels(logits_of(case.label, 3), case.restoration)
    assert restored.shape == label.shape
    for index in (1, 2):
        assert dice(restored == index, label == index) > 0.97


@pytest.mark.parametrize("transpose", TRANSPOSES)
def test_label_and_image_stay_on_each_other_through_transpose_crop_and_resampling(transpose):
    image, label = blob()
    configuration = make_configuration(tuple((1.5, 0.7, 1.3)[axis] for axis in transpose))
    case = preprocess("blob", image, ISO, make_plan(transpose), configuration, label=label, previous=label)
    means = [case.image[0][case.label == index].mean() for index in (1, 2)]
    assert means[1] - means[0] > 0.5  # 50 grey values apart, as drawn
    np.testing.assert_array_equal(case.previous, case.label)


def test_thick_slices_are_normalised_then_resampled_in_plane_alone():
    image, _ = blob()
    configuration = make_configuration((5.0, 2.0, 2.0))
    case = preprocess("blob", image, (5.0, 1.0, 1.0), make_plan(), configuration)
    cropped = image[:, 1:, :37, 2:]
    normalized = torch.from_numpy((cropped - cropped.mean()) / cropped.std())
    expected = resampling.resample(normalized, (23, 18, 17), order=3, separate_axis=0, clip=True)
    assert case.label is None
    np.testing.assert_allclose(case.image, expected.numpy(), atol=1e-4)


def test_a_2d_configuration_resamples_within_its_slices_whatever_their_distance():
    image, label = blob()
    case = preprocess("blob", image, (7.0, 1.0, 1.0), make_plan(), make_configuration((0.5, 2.0)), label=label)
    assert case.image.shape == (1, 23, 74, 17)
    assert case.restoration.resampled_spacing_mm == (7.0, 0.5, 2.0)
    assert restore_labels(logits_of(case.label, 3), case.restoration).shape == label.shape


@pytest.mark.parametrize("target", [(1.0, 1.0), (0.6, 1.7)])
def test_a_2d_image_has_one_slice_before_and_after(target):
    image = np.full((3, 1, 30, 40), 128, dtype=np.uint8)
    image[:, 0, 10:20, 10:20] = 255
    label = (image[0] == 255).astype(np.uint8)
    configuration = make_configuration(target, channels=3, normalization=("rgb_to_0_1",) * 3)
    case = preprocess("photo", image, (999.0, 1.0, 1.0), make_plan(channels=3), configuration, label=label)
    assert case.image.shape == (3, 1, round(30 / target[0]), round(40 / target[1]))
    assert case.image.min() >= np.float32(128 / 255) - 1e-6
    assert case.image.max() == 1
    np.testing.assert_array_equal(restore_labels(logits_of(case.label, 2), case.restoration), label)


def test_an_image_of_zeros_goes_through_whole():
    case = preprocess("empty", np.zeros((1, 4, 5, 6), np.int16), ISO, make_plan(), make_configuration(ISO))
    assert case.image.shape == (1, 4, 5, 6)
    assert not case.image.any()


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.uint32, np.float64])
def test_voxels_of_every_type_give_the_same(kind):
    image, _ = blob()
    image = image.round()
    expected = preprocess("blob", image, ISO, make_plan(), make_configuration((0.8, 1.0, 1.3))).image
    case = preprocess("blob", image.astype(kind), ISO, make_plan(), make_configuration((0.8, 1.0, 1.3)))
    np.testing.assert_array_equal(case.image, expected)


def test_zscore_within_the_nonzero_mask_counts_enclosed_zeros_and_leaves_the_outside_at_zero():
    image = np.full((1, 7, 7, 7), 4.0, np.float32)
    image[0, 3, 3, 3] = 0  # enclosed: belongs to the mask
    image[0, 0, 0] = 0  # an edge of the box: does not
    configuration = make_configuration(ISO, use_nonzero_mask=(True,))
    case = preprocess("head", image, ISO, make_plan(), configuration)
    inside = np.ones((7, 7, 7), bool)
    inside[0, 0] = False
    assert not case.image[0][~inside].any()
    assert case.image[0][inside].mean() == pytest.approx(0, abs=1e-5)
    assert case.image[0, 3, 3, 3] < -10  # one of 336 voxels, far from the others


def test_the_image_given_is_not_changed():
    image, _ = blob()
    before = image.copy()
    preprocess("blob", image, ISO, make_plan(), make_configuration(ISO))
    np.testing.assert_array_equal(image, before)


def test_a_wrong_number_of_channels_is_told_with_those_of_the_plan():
    with pytest.raises(ImageError, match=r"extra: 2 instead of 1 channels \(channel 0\)"):
        preprocess("extra", np.ones((2, 4, 4, 4)), ISO, make_plan(), make_configuration(ISO))


def test_colours_beyond_8_bits_are_told_with_the_case():
    configuration = make_configuration((1.0, 1.0), normalization=("rgb_to_0_1",))
    with pytest.raises(ImageError, match=r"bright: .*4000"):
        preprocess("bright", np.full((1, 1, 4, 4), 4000, np.uint16), ISO, make_plan(), configuration)


def test_a_restoration_survives_the_disk():
    image, _ = blob()
    case = preprocess("blob", image, np.array(ISO), make_plan((2, 1, 0)), make_configuration((0.7, 1.0, 1.0)))
    assert from_json(to_json(case.restoration), Restoration, source="memory") == case.restoration


@pytest.mark.gpu
def test_a_gpu_preprocesses_alike():
    image, label = blob()
    plan, configuration = make_plan((2, 0, 1)), make_configuration((0.8, 1.0, 1.3))
    here, there = (
        preprocess("blob", image, ISO, plan, configuration, label=label, device=device) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.image, here.image, atol=1e-4)
