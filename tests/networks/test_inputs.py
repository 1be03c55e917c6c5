"""Previous labels become one channel each, for one case and for a batch alike."""

from __future__ import annotations

import torch

from nnlite.networks.inputs import stack_previous


def test_each_foreground_label_becomes_a_channel_after_those_of_the_image() -> None:
    image = torch.randn(2, 1, 2, 2)
    previous = torch.tensor([[[0, 1], [3, 1]]], dtype=torch.uint8)
    stacked = stack_previous(image, previous, count=4)
    assert torch.equal(stacked[:2], image)
    assert stacked[2:, 0].tolist() == [[[0, 1], [0, 1]], [[0, 0], [0, 0]], [[0, 0], [1, 0]]]


def test_a_batch_gives_what_its_cases_give() -> None:
    images = torch.randn(3, 1, 2, 4, 5)
    previous = torch.randint(0, 3, (3, 2, 4, 5))
    stacked = stack_previous(images, previous, count=3)
    assert stacked.shape == (3, 3, 2, 4, 5)
    for i in range(3):
        assert torch.equal(stacked[i], stack_previous(images[i], previous[i], count=3))


def test_the_channels_have_the_type_of_the_image() -> None:
    image = torch.zeros(1, 1, 1, 2, dtype=torch.float16)
    assert stack_previous(image, torch.ones(1, 1, 2, dtype=torch.int16), count=2).dtype == torch.float16
