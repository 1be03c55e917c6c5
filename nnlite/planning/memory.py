"""Count the bytes that a training step and a prediction hold at their fullest, without building the network.

Numbers in, numbers out, no torch. The operations of the network (``operations.py``) are run forward and backward by
``passes.py``; here stands what each of them takes. benchmarks/memory.py shows the result beside torch's own accounting,
so far on CPUs: that cuDNN needs the copies that oneDNN was seen to make is an assumption.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from nnlite.planning.architectures import tape_of
from nnlite.planning.operations import Map, Operation, Tape
from nnlite.planning.passes import Loss, Moment, forward, step
from nnlite.planning.topology import Topology

Precision = Literal["fp32", "bf16", "fp16"]
Optimizer = Literal["sgd", "adamw"]
Device = Literal["cpu", "cuda"]

FLOAT = 4  # bytes of weights, their gradients, images and the loss, whatever the precision
INDEX = 8  # bytes of a label
HALF = 2  # bytes of an activation under autocast
STATES = {"sgd": 1, "adamw": 2}  # tensors of the optimiser per weight: momentum, or two moments
CHANNEL_BLOCK = {"cpu": 16, "cuda": 8}  # convolution libraries copy maps into layouts padded to so many channels


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """Bytes of tensors alive when a training step holds most, by what they are for.

    ``gradients`` are those of the weights. ``passing`` lives only for a moment: gradients of activations, temporaries
    of loss and optimiser, copies that a convolution works on.
    """

    parameters: int
    gradients: int
    optimizer: int
    batch: int
    activations: int
    passing: int

    @property
    def peak(self) -> int:
        """The most bytes alive at any one time."""
        return self.parameters + self.gradients + self.optimizer + self.batch + self.activations + self.passing


def step_memory(
    topology: Topology,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    channels: int,
    labels: int,
    precision: Precision,
    optimizer: Optimizer = "sgd",
    device: Device,
) -> StepMemory:
    """What one step of training holds at its fullest: forward, loss, backward and optimiser.

    ``channels`` are those that the network sees, ``labels`` counts the background. The first step of a training, which
    has no gradients and no optimiser's state yet, needs less.

    >>> from nnlite.planning.topology import plan_topology
    >>> topology, patch = plan_topology((1.0, 1.0, 1.0), (40, 56, 40), base_features=16)
    >>> memory = step_memory(topology, patch, 2, channels=1, labels=3, precision="fp32", device="cpu")
    >>> round(memory.peak / 2**20), round(memory.activations / 2**20)  # MiB
    (194, 147)
    """
    tape = tape_of(topology, tuple(patch_size), channels=channels, labels=labels)
    sizes = _Sizes(tape, batch_size, precision, device)
    weights = [sizes.weights(operation) for operation in tape.operations]
    parameters = sum(weights)
    # Gradients are whole, only the logits are left of the activations: the optimiser's turn.
    update = Moment(parameters, sum(map(sizes.map, tape.heads)), parameters if device == "cuda" else 2 * max(weights))
    gradients, activations, passing = max(*step(tape, sizes, list(_losses(sizes))), update, key=sum)
    return StepMemory(
        parameters=parameters,
        gradients=gradients,
        optimizer=STATES[optimizer] * parameters,
        batch=sizes.images + batch_size * math.prod(patch_size) * INDEX,
        activations=activations,
        passing=passing,
    )


def window_memory(
    topology: Topology,
    patch_size: Sequence[int],
    batch_size: int,
    *,
    channels: int,
    labels: int,
    precision: Precision,
    device: Device,
) -> int:
    """Peak bytes of predicting a batch of windows, weights included; mirrored windows are predicted one by one.

    The volume that windows are cut from and the logits they are blended into are not counted.
    """
    tape = tape_of(topology, tuple(patch_size), channels=channels, labels=labels)
    sizes = _Sizes(tape, batch_size, precision, device)
    parameters = sum(map(sizes.weights, tape.operations))
    # Without a backward to come, autocast makes its copies of weights anew each time.
    alive = forward(tape.operations, sizes, saved=(), held=tape.held)
    peak = max(now + sizes.kept(operation) for operation, now in zip(tape.operations, alive, strict=True))
    # Beside the network: the windows, their mirror image, and the sum of the logits so far; in the end, the new ones
    # are widened, flipped back and added to it.
    logits = sizes.of_elements(tape.heads[0], FLOAT)
    return parameters + max(peak, 2 * logits) + logits + 2 * sizes.images


class _Sizes:
    """Bytes of maps and operations of a batch, in a precision, on a device."""

    def __init__(self, tape: Tape, batch_size: int, precision: Precision, device: Device):
        self.tape, self.batch_size, self.device = tape, batch_size, device
        self.autocast = precision != "fp32"
        self.element = HALF if self.autocast else FLOAT
        # For gradients of weights oneDNN transposes its copies in half precision, a sample per thread: counted as if
        # there were a thread per sample.
        self.copies = 2 if self.autocast and device == "cpu" else 1
        self.images = self.of_elements(tape.image, FLOAT)
        self.value = batch_size * self.element  # of a feature, in every sample
        self.image = tape.image

    def map(self, one: Map) -> int:
        """A map, or its gradient; of the image, which belongs to the batch, the copy that autocast makes."""
        return self.value * one.voxels * one.features if one is not self.image or self.autocast else 0

    def of_elements(self, one: Map, element: int) -> int:
        """A map of values of so many bytes."""
        return self.batch_size * one.voxels * one.features * element

    def weights(self, operation: Operation) -> int:
        """The weights of an operation, or their gradients."""
        return operation.weights * FLOAT

    def kept(self, operation: Operation) -> int:
        """The copy of weights that autocast keeps from their first use to the backward; what pooling has widened."""
        cast = self.weights(operation) // 2 if self.autocast and operation.kind == "convolution" else 0
        return cast + self._widened(operation)

    def working(self, operation: Operation) -> int:
        """What an operation takes while it runs forward, its output included."""
        output = self.map(operation.output)
        if operation.overwrites:
            return 0
        if operation.kind != "convolution":
            return output
        copied = self._copied(operation) + self._kernel(operation)
        if self.device == "cuda":
            return output + copied
        # On a CPU the output is the last to be made, out of its copy, when those of input and weights are gone.
        return max(copied, self._padded(operation.output) + output)

    def working_back(self, operation: Operation, *, partial: bool) -> int:
        """What it takes while it runs backward, its inputs' gradients included; ``partial``: its output's is a view."""
        if operation.kind in ("add", "cat"):
            return 0
        made = sum(self.map(one) for one in operation.inputs if one.learns)
        if operation.kind == "norm" and self.device == "cpu":
            return 2 * made
        if operation.kind != "convolution":
            return made
        whole = self.map(operation.output) if partial else 0  # copied out of what it is a view of
        return made + self.copies * self._copied(operation) + 2 * self._kernel(operation) + whole

    def _copied(self, operation: Operation) -> int:
        """Convolutions work on copies of input and output in layouts of their own; not so for the image."""
        return sum(self._padded(one) for one in (*operation.inputs, operation.output) if one.learns)

    def _kernel(self, operation: Operation) -> int:
        """And on a copy of their weights."""
        return self.weights(operation) // 2 if self.autocast else self.weights(operation)

    def _padded(self, one: Map) -> int:
        block = CHANNEL_BLOCK[self.device]
        return self.batch_size * one.voxels * -(-one.features // block) * block * self.element

    def _widened(self, operation: Operation) -> int:
        """On a CPU torch pools volumes in float32, also under autocast, and keeps what it widened."""
        volumes = len(self.tape.image.size) == 3
        widens = operation.kind == "pool" and self.autocast and self.device == "cpu" and volumes
        return sum(self.of_elements(one, FLOAT) for one in operation.inputs) if widens else 0


def _losses(sizes: _Sizes) -> Iterator[Loss]:
    """Cross-entropy and soft Dice in float32: both softmaxes and the one-hot target are kept.

    All heads have a loss but the lowest, unless it is the only one.
    """
    heads = sizes.tape.heads
    for head in heads[: max(1, len(heads) - 1)]:
        logits = sizes.of_elements(head, FLOAT)
        target = sizes.batch_size * head.voxels * INDEX if head.size != sizes.tape.image.size else 0
        yield Loss(
            head=head,
            kept=3 * logits + target,
            working=2 * logits if sizes.autocast else logits,
            working_back=logits,
        )
