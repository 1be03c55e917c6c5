"""A preset does its steps in order, is a function of its random numbers, and is refused where it means nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import INTENSITY, plan, store_cases

from nnlite.errors import UsageError
from nnlite.planning.configurations import Configuration
from nnlite.planning.planner import Plan
from nnlite.training.augmentation.augmentation import Augmentation, require_suited
from nnlite.training.augmentation.chance import LARGEST_SEED, Chance
from nnlite.training.augmentation.presets import PRESETS, PresetName
from nnlite.training.batches import BatchSource
from nnlite.training.ranks import Ranks
from nnlite.training.share import Share

CPU = torch.device("cpu")
HU = replace(INTENSITY, mean=80.0, std=150.0, percentile_00_5=-700.0, percentile_99_5=900.0)


def planned(*channels: str, name: str = "3d") -> tuple[Plan, Configuration]:
    """A plan for images of these channels, of which those called CT are normalised as such."""
    made = plan(name)  # type: ignore[arg-type]
    configuration = replace(
        made.configuration(name),
        normalization=tuple("ct" if channel == "CT" else "zscore" for channel in channels),
        use_nonzero_mask=(False,) * len(channels),
    )
    made = replace(made, channels=channels, intensities=(HU,) * len(channels), configurations={name: configuration})
    return made, configuration


SUITED = [("nnunet", "MR"), ("ct", "CT"), ("mr", "MR"), ("microscopy", "MR"), ("none", "MR")]


@pytest.mark.parametrize(("name", "channel"), SUITED)
@pytest.mark.parametrize("size", [(12, 10), (6, 8, 10)])
def test_a_preset_keeps_sizes_and_is_a_function_of_its_random_numbers(
    name: PresetName, channel: str, size: tuple[int, ...]
) -> None:
    made, configuration = planned(channel, name="2d" if len(size) == 2 else "3d")
    augmentation = Augmentation.of(name, made, configuration)
    images = torch.randn(16, 1, *size)
    first, again, other = (augmentation.change(images.clone(), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "none")
    assert first.shape == images.shape
    assert first.isfinite().all()


def test_steps_follow_one_another_and_draw_from_one_stream() -> None:
    images = torch.randn(12, 2, 6, 7, 8)
    rng = np.random.default_rng(3)
    noise = torch.Generator().manual_seed(int(rng.integers(LARGEST_SEED)))
    wanted = images.clone()
    for step in PRESETS["nnunet"].steps:
        draws = Chance(
            probability=step.probability, limits=step.limits, rng=rng, noise=noise, share=Share.whole(len(images))
        )
        wanted = step.transform(wanted, draws)
    assert torch.equal(Augmentation().change(images.clone(), np.random.default_rng(3)), wanted)


def test_ct_stays_within_the_values_that_it_was_clipped_to() -> None:
    augmentation = Augmentation.of("ct", *planned("CT"))
    low, high = (HU.percentile_00_5 - HU.mean) / HU.std, (HU.percentile_99_5 - HU.mean) / HU.std
    images = (torch.randn(40, 1, 8, 16, 16) * 3).clamp(low, high)
    after = augmentation.change(images.clone(), np.random.default_rng(0))
    assert not torch.equal(after, images)
    assert after.min() >= low - 1e-4
    assert after.max() <= high + 1e-4


@pytest.mark.parametrize(
    ("name", "channels", "words"),
    [
        ("ct", ("T1", "T2"), r"Hounsfield units, and none of the channels \(T1, T2\) is normalised as CT; take mr"),
        ("mr", ("CT",), r"the augmentation mr is for MR, and all channels \(CT\) are CT"),
    ],
)
def test_a_preset_that_means_nothing_here_is_refused(name: PresetName, channels: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Augmentation.of(name, *planned(*channels))


def test_whether_a_preset_suits_can_be_asked_without_being_told_what_it_leaves_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    require_suited("ct", *planned("CT", "PET"))
    with pytest.raises(UsageError, match="the augmentation mr is for MR"):
        require_suited("mr", *planned("CT"))
    assert caplog.messages == []


def test_channels_that_a_transform_leaves_alone_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    Augmentation.of("ct", *planned("CT", "PET"))
    Augmentation.of("mr", *planned("CT", "T1"))
    assert caplog.messages == [
        "augmentation ct: streaks and quantum noise leave PET alone, no CT",
        "augmentation mr: the bias field leaves CT alone, which is CT",
    ]


def test_without_augmentation_patches_are_voxels_as_they_are_and_no_prediction_is_mirrored(tmp_path: Path) -> None:
    made, cases = plan(), store_cases(tmp_path)
    source = BatchSource(made, made.configuration("3d"), cases, {}, seed=0, device=CPU, augmentation="none")
    known = {value for case in cases.values() for value in case.image.ravel().tolist()}
    assert source.mirrored_axes == ()
    for batch in source.training_batches(0, 4):
        assert set(batch.images.unique().tolist()) <= known


@pytest.mark.parametrize(("name", "channel"), SUITED)
@pytest.mark.parametrize("kind", ["2d", "3d"])
def test_processes_have_consecutive_parts_of_the_batches_of_one(
    name: PresetName, channel: str, kind: str, tmp_path: Path
) -> None:
    cases = store_cases(tmp_path)
    made, configuration = planned(channel, name=kind)

    def source(ranks: Ranks) -> BatchSource:
        return BatchSource(made, configuration, cases, {}, seed=3, device=CPU, ranks=ranks, augmentation=name)

    alone, parts = source(Ranks()), [source(Ranks(number, 2)) for number in range(2)]
    for whole, first, second in zip(*(one.training_batches(1, 4) for one in (alone, *parts)), strict=True):
        assert torch.equal(torch.cat([first.images, second.images]), whole.images)
        assert torch.equal(torch.cat([first.labels, second.labels]), whole.labels)
