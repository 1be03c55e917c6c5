"""What is drawn for a whole batch is, sample by sample, what its shares are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import plan, store_cases

from nnlite.planning.configurations import ConfigurationName
from nnlite.training.augment_cascade import disturb_previous
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.batches import BatchSource
from nnlite.training.ranks import Ranks
from nnlite.training.share import Share

SHARES = (Share(first=0, stop=5, samples=12), Share(first=5, stop=6, samples=12), Share(first=6, stop=12, samples=12))


def test_a_share_is_all_of_a_batch_or_a_fraction():
    assert Share.whole(3) == Share(first=0, stop=3, samples=3)
    assert Share.whole(3).fraction == 1
    assert [share.fraction for share in SHARES] == pytest.approx([5 / 12, 1 / 12, 6 / 12])


def test_shares_are_augmented_as_they_are_in_the_whole_batch():
    images = torch.randn(12, 2, 8, 9, 10, generator=torch.Generator().manual_seed(0))
    change = Augmentation().change
    for seed in range(8):
        whole = change(images.clone(), np.random.default_rng(seed))
        parts = [
            change(images[share.first : share.stop].clone(), np.random.default_rng(seed), share) for share in SHARES
        ]
        assert torch.equal(torch.cat(parts), whole)
        assert not torch.equal(whole, images)


def test_shares_of_a_cascade_are_disturbed_as_they_are_in_the_whole_batch():
    previous = torch.zeros(12, 12, 12, 12, dtype=torch.int64)
    previous[:, 3:7, 3:7, 3:7] = 1
    previous[:, 8:10, 8:10, 8:10] = 2
    whole = disturb_previous(previous, np.random.default_rng(1))
    parts = [disturb_previous(previous[share.first : share.stop], np.random.default_rng(1), share) for share in SHARES]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, previous)


@pytest.mark.parametrize("name", ["2d", "3d", "3d-cascade"])
def test_processes_have_consecutive_parts_of_the_batches_of_one(name: ConfigurationName, tmp_path: Path):
    cases, made = store_cases(tmp_path, cascade=name == "3d-cascade"), plan(name)
    configuration = made.configuration(name)

    def source(ranks: Ranks) -> BatchSource:
        return BatchSource(made, configuration, cases, cases, seed=3, device=torch.device("cpu"), ranks=ranks)

    alone, parts = source(Ranks()), [source(Ranks(number, 2)) for number in range(2)]
    for batches in (lambda one: one.training_batches(1, 4), lambda one: one.validation_batches(1, 4)):
        for whole, first, second in zip(batches(alone), *map(batches, parts), strict=True):
            assert (len(first.images), len(second.images)) == (2, 1)
            assert torch.equal(torch.cat([first.images, second.images]), whole.images)
            assert torch.equal(torch.cat([first.labels, second.labels]), whole.labels)
            assert first.cases == second.cases == whole.cases
            assert (first.fraction, second.fraction, whole.fraction) == pytest.approx((2 / 3, 1 / 3, 1))
