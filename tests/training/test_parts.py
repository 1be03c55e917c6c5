"""A batch that does not fit is run in parts, and only memory is a reason for that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nnlite.errors import MemoryShortError
from nnlite.training.assemble import Batch
from nnlite.training.parts import Parts, on_device_or_cpu, split

CPU, META = torch.device("cpu"), torch.device("meta")


def batch(samples: int = 4) -> Batch:
    images = torch.arange(float(samples)).view(-1, 1, 1, 1)
    return Batch(images=images, labels=torch.zeros(samples, 1, 1, dtype=torch.int64), cases=("a",) * samples)


def with_memory_for(samples: int):
    """Work that adds up a batch, a part of at most so many samples at a time."""

    def work(parts: list[Batch]) -> float:
        if max(len(part.images) for part in parts) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return sum(float(part.images.sum()) for part in parts)

    return work


@pytest.mark.parametrize(("samples", "number"), [(4, 1), (3, 2), (2, 2), (1, 4)])
def test_the_number_of_parts_is_doubled_until_they_fit(samples: int, number: int) -> None:
    parts = Parts(CPU)
    assert parts.run(batch(), with_memory_for(samples)) == 0 + 1 + 2 + 3
    assert parts.number == number
    assert parts.run(batch(), with_memory_for(samples)) == 6  # at once


def test_where_a_single_sample_does_not_fit_there_is_no_way_on() -> None:
    with pytest.raises(MemoryShortError, match=r"cpu has too little memory for a single sample \(CUDA out of memory"):
        Parts(CPU).run(batch(), with_memory_for(0))


def test_other_errors_come_out_as_they_are() -> None:
    def broken(parts: list[Batch]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        Parts(CPU).run(batch(), broken)


def test_parts_are_the_batch() -> None:
    parts = split(batch(5), 3)
    assert torch.equal(torch.cat([part.images for part in parts]), batch(5).images)
    assert [len(part.labels) for part in parts] == [2, 2, 1]


def test_what_a_gpu_has_no_memory_to_prepare_is_prepared_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def make(device: torch.device) -> Batch:
        tried.append(device.type)
        if device.type != "cpu":
            raise torch.OutOfMemoryError("no memory")
        return batch()

    made = on_device_or_cpu(make, META, "training batch 3")  # a device without memory that every machine has
    assert tried == ["meta", "cpu"]
    assert made.images.device == made.labels.device == META
    assert "too little memory to prepare training batch 3" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        on_device_or_cpu(lambda device: make(META), CPU, "training batch 3")


def test_each_part_keeps_what_is_drawn_in_its_samples_and_their_atlases() -> None:
    atlases = torch.rand(3, 2, 4, 5, 6)
    whole = replace(batch(3), drawn=torch.tensor([[True, False], [True, True], [False, True]]), atlases=atlases)
    parts = split(whole, 2)
    assert [part.drawn.tolist() for part in parts if part.drawn is not None] == [
        [[True, False], [True, True]],
        [[False, True]],
    ]
    assert torch.equal(torch.cat([part.atlases for part in parts if part.atlases is not None]), atlases)
    assert [(part.drawn, part.atlases) for part in split(batch(3), 2)] == [(None, None)] * 2
