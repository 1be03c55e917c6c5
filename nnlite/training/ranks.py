"""Processes that train one network together, each on its share of every batch; the first of them leads.

torch.distributed carries the sums: gloo between CPUs, NCCL between GPUs. The loss of a batch is made of a few sums over
its samples (cross-entropy, and what Dice is the ratio of). These are added up over all processes, so each has the loss
of the whole batch; its gradient flows to the own samples only, and the gradients are added up after the backward pass.
That is the gradient of the whole batch, batch Dice and ignored voxels included, however unequal the shares are.

DistributedDataParallel takes the mean of what each process makes of its own loss, which is another loss where a batch
has one Dice together, and wants equal shares. It overlaps communication with the backward pass; the networks here have
some ten million weights, which a fast network adds up in a hundredth of a step. The rest is simpler without it: the
network stays what it is, be it compiled or saved, and outputs of deep supervision that nobody uses need no care.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from nnlite.errors import ProcessLostError, UsageError
from nnlite.networks.out_of_memory import is_out_of_memory
from nnlite.training.share import Share

STEP_TIMEOUT = timedelta(minutes=30)  # longer than a step, a save on a slow disk or a compiler ever takes
PATIENCE = timedelta(days=7)  # for what the first process does alone: preprocess, predict what was held out
BUCKET_ELEMENTS = 2**23  # of gradients that are added up in one go: 32 MiB, beyond which nothing gets faster


class Ranks:
    """The processes of a training, seen from the one that is ``number`` (from 0) of ``count``.

    All methods that communicate must be called by all processes in the same order. They raise ``ProcessLostError``
    where another one is gone. One process alone communicates with nobody.
    """

    def __init__(self, number: int = 0, count: int = 1, *, patient: Any = None):
        self.number, self.count, self._patient = number, count, patient

    @property
    def leads(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.number == 0

    def share(self, samples: int) -> Share:
        """Which samples of a batch are this process's: consecutive ones, as even as can be.

        >>> Ranks(1, 3).share(8)  # 3, 3 and 2
        Share(first=3, stop=6, samples=8)
        """
        if samples < self.count:
            raise UsageError(
                f"a batch of {samples} cannot be shared by {self.count} processes; start {samples} at most, or plan "
                f"a larger batch: nnlite plan DATASET --set CONFIG.batch_size={self.count}"
            )
        length, longer = divmod(samples, self.count)
        first = self.number * length + min(self.number, longer)
        return Share(first=first, stop=first + length + (self.number < longer), samples=samples)

    def total(self, part: Tensor) -> Tensor:
        """Sum of a tensor over all processes, the same bits on each; its gradient is that of the own part."""
        if self.count == 1:
            return part
        with self._in_contact():
            return _Total.apply(part)

    def add_gradients(self, network: nn.Module) -> None:
        """Put the sum over all processes in the place of each gradient."""
        if self.count == 1:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        with self._in_contact():
            for bucket in buckets(gradients):
                flat = torch.cat([gradient.flatten() for gradient in bucket])
                distributed.all_reduce(flat)
                parts = flat.split([gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))

    def agree(self, time_s: float, stop: bool) -> tuple[float, bool]:
        """The time of the first process, and whether any is asked to stop; does not wait for a GPU."""
        if self.count == 1:
            return time_s, stop
        said = torch.tensor([time_s if self.leads else 0.0, float(stop)], dtype=torch.float64)
        with self._in_contact():
            distributed.all_reduce(said)
        return float(said[0]), bool(said[1])

    def tell(self, content: bytes = b"", *, patiently: bool = False) -> bytes:
        """What the first process tells: give it there, get it everywhere. ``patiently`` waits for days if need be."""
        if self.count == 1:
            return content
        group = self._patient if patiently else None
        length = torch.tensor([len(content)])
        with self._in_contact():
            distributed.broadcast(length, 0, group=group)
            told = torch.empty(int(length), dtype=torch.uint8)
            if self.leads and content:
                told = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            distributed.broadcast(told, 0, group=group)
        return told.numpy().tobytes()

    def meet(self) -> None:
        """Wait until all have come this far."""
        self.agree(0.0, False)

    @contextmanager
    def _in_contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises has no kind of its own in all versions
            if is_out_of_memory(error):
                raise
            raise ProcessLostError(
                f"another of the {self.count} processes is gone; its own message tells why, and the same command goes "
                "on from what is saved"
            ) from error


ALONE = Ranks()
"""One process, as without torchrun."""


class _Total(torch.autograd.Function):
    """A sum over processes; backwards each gets the gradient of its own part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in groups of about ``BUCKET_ELEMENTS``, in their order."""
    group: list[Tensor] = []
    for tensor in tensors:
        group.append(tensor)
        if sum(one.numel() for one in group) >= BUCKET_ELEMENTS:
            yield group
            group = []
    if group:
        yield group


@contextmanager
def joined(number: int, count: int, device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun (or whoever set MASTER_ADDR and MASTER_PORT) has started; leave at the end.

    After an error nothing is said to the others: they notice when this process ends.
    """
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(backend, rank=number, world_size=count, timeout=STEP_TIMEOUT)
    yield Ranks(number, count, patient=distributed.new_group(backend="gloo", timeout=PATIENCE))
    distributed.destroy_process_group()
