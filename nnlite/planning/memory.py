"""Count the bytes that a training step and a prediction hold at their fullest, without building the network.

Numbers in, numbers out, no torch. The operations of the network are walked forward, then backward, each with what
autograd keeps for it (torch's documentation: "Autograd mechanics") and with what lives only while it runs.
benchmarks/memory.py shows the result beside torch's own accounting, so far on CPUs: that cuDNN needs the copies that
oneDNN was seen to make is an assumption.

What is kept, per block: the convolution's output (the normalisation's backward needs it) and the activation's (that of
the next convolution and its own; it overwrites the normalisation's). A cat keeps itself; an addition keeps nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    sizes = _Sizes(topology, patch_size, batch_size, channels, labels, precision, device)
    operations = [*_network(sizes), *_losses(sizes)]
    parameters = sum(operation.weights for operation in operations)
    moments = list(_moments(operations))
    # Gradients are whole, only the logits are left of the activations: the optimiser's turn.
    largest = max(operation.weights for operation in operations)
    moments.append((parameters, sizes.all_logits, parameters if device == "cuda" else 2 * largest))
    gradients, activations, passing = max(moments, key=sum)
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
    sizes = _Sizes(topology, patch_size, batch_size, channels, labels, precision, device)
    held = peak = parameters = 0
    for operation in _network(sizes):
        parameters += operation.weights
        peak = max(peak, held + operation.alone)
        held += operation.skip
    # Beside the network: the windows, their mirror image, and the sum of the logits so far; in the end, the new ones
    # are widened, flipped back and added to it.
    logits = sizes.logits(0, FLOAT)
    return parameters + max(peak, 2 * logits) + logits + 2 * sizes.images


class _Sizes:
    """Bytes of maps, by stage."""

    def __init__(
        self,
        topology: Topology,
        patch_size: Sequence[int],
        batch_size: int,
        channels: int,
        labels: int,
        precision: Precision,
        device: Device,
    ):
        self.topology, self.channels, self.labels, self.device = topology, channels, labels, device
        self.autocast = precision != "fp32"
        self.element = HALF if self.autocast else FLOAT
        # For gradients of weights oneDNN transposes its copies in half precision, a sample per thread: counted as if
        # there were a thread per sample.
        self.copies = 2 if self.autocast and device == "cpu" else 1
        self.voxels, size = [], list(patch_size)
        for stride in topology.strides:
            size = [length // step for length, step in zip(size, stride, strict=True)]
            self.voxels.append(batch_size * math.prod(size))
        self.images = self.map(0, channels, FLOAT)
        self.all_logits = sum(self.logits(stage, self.element) for stage in range(topology.stages - 1))

    def map(self, stage: int, features: int, element: int | None = None) -> int:
        return self.voxels[stage] * features * (element or self.element)

    def padded(self, stage: int, features: int) -> int:
        block = CHANNEL_BLOCK[self.device]
        return self.map(stage, -(-features // block) * block)

    def logits(self, stage: int, element: int) -> int:
        return self.map(stage, self.labels, element)

    def cast(self, weights: int) -> int:
        """The copy of weights that autocast keeps from their first use to the backward."""
        return weights // 2 if self.autocast else 0


class _Operation(NamedTuple):
    """One operation of a step, in bytes."""

    weights: int = 0
    keeps: int = 0  # new with it, and kept by autograd
    frees: int = 0  # what its backward no longer needs
    passing: int = 0  # alive only while it runs forward, and
    passing_back: int = 0  # backward, beside what is kept and the gradients of activations
    gradients: int = 0  # how its backward changes the gradients of activations that wait
    alone: int = 0  # alive while it runs when nothing is kept for a backward, skips aside
    skip: int = 0  # what stays for the decoder even then


def _moments(operations: Sequence[_Operation]) -> Iterator[tuple[int, int, int]]:
    """Gradients of weights, activations, and what is passing, at every operation forward and backward."""
    activations = 0
    for operation in operations:  # the gradients of the step before are gone already
        yield 0, activations, operation.passing
        activations += operation.keeps
    gradients = waiting = 0
    for operation in reversed(operations):
        yield gradients, activations, waiting + operation.passing_back
        gradients += operation.weights
        waiting += operation.gradients
        activations -= operation.frees


def _network(sizes: _Sizes) -> Iterator[_Operation]:
    """Everything the U-Net computes, in the order in which it does."""
    topology = sizes.topology
    inputs = sizes.channels
    if sizes.autocast:
        yield _Operation(keeps=sizes.map(0, inputs), frees=sizes.map(0, inputs))
    if topology.encoder == "residual":
        yield from _block(sizes, 0, 0, inputs, topology.features[0], first=True)
        inputs = topology.features[0]
    for stage, outputs in enumerate(topology.features):
        for number in range(topology.encoder_blocks[stage]):
            above = stage - 1 if number == 0 and stage > 0 else stage
            if topology.encoder == "residual":
                yield from _residual_block(sizes, above, stage, inputs, outputs)
            else:
                yield from _block(sizes, above, stage, inputs, outputs, first=stage == number == 0)
            inputs = outputs
        yield _skip(sizes, stage)
    for stage in range(topology.stages - 2, -1, -1):
        yield from _decoder_stage(sizes, stage)


def _convolution(
    sizes: _Sizes, above: int, stage: int, inputs: int, outputs: int, weights: int, *, first: bool = False
) -> _Operation:
    """A convolution from the maps of one stage to those of the same or the next; ``first``: the image learns nothing.

    Libraries work on copies of input, output and weights in layouts of their own.
    """
    before, after = sizes.map(above, inputs), sizes.map(stage, outputs)
    copied = (0 if first else sizes.padded(above, inputs)) + sizes.padded(stage, outputs)
    cast = sizes.cast(weights)
    kernel = cast or weights
    back = 0 if first else before
    # On a CPU the output is the last to be made, out of its copy, when those of input and weights are gone.
    working = (
        max(copied + kernel, sizes.padded(stage, outputs) + after) if sizes.device == "cpu" else after + copied + kernel
    )
    return _Operation(
        weights=weights,
        keeps=cast,
        frees=cast,
        passing=working,
        passing_back=back + sizes.copies * copied + 2 * kernel,
        gradients=back - after,
        alone=before + working + cast,  # without a backward to come, autocast makes its casts anew each time
    )


def _norm(sizes: _Sizes, stage: int, features: int, *, waits: int = 0) -> _Operation:
    """Instance normalisation, which keeps its input; ``waits`` if the gradient of its output is needed once more."""
    size = sizes.map(stage, features)
    back = 2 * size if sizes.device == "cpu" else size
    return _Operation(
        weights=2 * features * FLOAT,
        keeps=size,
        frees=size,
        passing=size,
        passing_back=back,
        gradients=waits,
        alone=2 * size,
    )


def _block(
    sizes: _Sizes, above: int, stage: int, inputs: int, outputs: int, *, first: bool = False
) -> Iterator[_Operation]:
    """Convolution, normalisation, activation."""
    taps = math.prod(sizes.topology.kernels[stage])
    weights = outputs * (inputs * taps + 1) * FLOAT
    size = sizes.map(stage, outputs)
    yield _convolution(sizes, above, stage, inputs, outputs, weights, first=first)
    yield _norm(sizes, stage, outputs)
    # The activation overwrites what the normalisation returned.
    yield _Operation(keeps=size, frees=size, passing_back=size, alone=size)


def _residual_block(sizes: _Sizes, above: int, stage: int, inputs: int, outputs: int) -> Iterator[_Operation]:
    """Two convolutions and a skip, added and activated."""
    before = sizes.map(above, inputs)
    for operation in (
        *_residual_branch(sizes, above, stage, inputs, outputs),
        *_residual_skip(sizes, above, stage, inputs, outputs),
    ):
        yield operation._replace(alone=operation.alone + before)


def _residual_branch(sizes: _Sizes, above: int, stage: int, inputs: int, outputs: int) -> Iterator[_Operation]:
    size = sizes.map(stage, outputs)
    weights = outputs * (outputs * math.prod(sizes.topology.kernels[stage]) + 1) * FLOAT
    convolution, *rest = _block(sizes, above, stage, inputs, outputs)
    # The skip's gradient of the input waits already when that of the convolutions is made, which is added to it.
    yield convolution._replace(gradients=-size)
    yield from rest
    yield _convolution(sizes, stage, stage, outputs, outputs, weights)
    identity = above == stage and inputs == outputs
    yield _norm(sizes, stage, outputs, waits=size if identity else 0)


def _residual_skip(sizes: _Sizes, above: int, stage: int, inputs: int, outputs: int) -> Iterator[_Operation]:
    """The skip, while the other term waits; and the sum, which outlives both and passes its gradient on as it is."""
    size, before, pooled = (sizes.map(*where) for where in ((stage, outputs), (above, inputs), (stage, inputs)))
    projected = inputs != outputs
    terms = size
    if above != stage:
        # On a CPU torch pools volumes in float32, also under autocast, and keeps what it widened.
        widened = 2 * before if sizes.autocast and sizes.device == "cpu" and sizes.topology.ndim == 3 else 0
        kept = widened + projected * pooled
        yield _Operation(
            keeps=kept,
            frees=kept,
            passing=size + pooled,
            passing_back=before,
            gradients=before - projected * pooled,
            alone=size + pooled + widened,
        )
        terms = 2 * size
    if projected:
        for operation in (
            _convolution(sizes, stage, stage, inputs, outputs, inputs * outputs * FLOAT),
            _norm(sizes, stage, outputs, waits=size),
        ):
            yield operation._replace(passing=operation.passing + size, alone=operation.alone + size)
        terms = 2 * size
    yield _Operation(keeps=size, frees=size, passing=terms, passing_back=size, alone=terms + size)


def _skip(sizes: _Sizes, stage: int) -> _Operation:
    """What the encoder hands to the decoder; the gradient comes back as a view of that of the whole cat."""
    size = sizes.map(stage, sizes.topology.features[stage])
    if stage == sizes.topology.stages - 1:
        return _Operation(skip=size)
    return _Operation(passing_back=size, gradients=-2 * size, skip=size)


def _decoder_stage(sizes: _Sizes, stage: int) -> Iterator[_Operation]:
    """Transposed convolution, cat, convolutions, head."""
    topology = sizes.topology
    below, here = topology.features[stage + 1], topology.features[stage]
    before, size = sizes.map(stage + 1, below), sizes.map(stage, here)
    weights = here * (below * math.prod(topology.strides[stage + 1]) + 1) * FLOAT
    upsample = _convolution(sizes, stage + 1, stage, below, here, weights)
    # Its gradient is half of the cat's, which waits for the encoder: copied out, and nothing given free.
    yield upsample._replace(passing_back=upsample.passing_back + size, gradients=before)
    yield _Operation(keeps=2 * size, frees=2 * size, passing=size, alone=before + 3 * size)
    for number in range(topology.decoder_convolutions[stage]):
        for operation in _block(sizes, stage, stage, 2 * here if number == 0 else here, here):
            yield operation._replace(alone=operation.alone + before)  # what came from below waits for its successor
    yield _head(sizes, stage)


def _head(sizes: _Sizes, stage: int) -> _Operation:
    """The convolution that tells labels apart; its logits stay until the step is over."""
    features = sizes.topology.features[stage]
    logits = sizes.logits(stage, sizes.element)
    weights = sizes.labels * (features + 1) * FLOAT
    head = _convolution(sizes, stage, stage, features, sizes.labels, weights)
    head = head._replace(keeps=head.keeps + logits)
    if stage == 0:
        return head
    if stage not in _supervised(sizes.topology):
        return head._replace(passing_back=0, gradients=0)
    return head._replace(gradients=-logits)  # added to the gradient that came down from the level above


def _supervised(topology: Topology) -> range:
    """The stages with a loss: all levels of the decoder but the lowest, unless it is the only one."""
    return range(max(1, topology.stages - 2))


def _losses(sizes: _Sizes) -> Iterator[_Operation]:
    """Cross-entropy and soft Dice in float32: both softmaxes and the one-hot target are kept."""
    for stage in _supervised(sizes.topology):
        logits, target = sizes.logits(stage, FLOAT), sizes.map(stage, 1, INDEX) if stage else 0
        kept = 3 * logits + target
        yield _Operation(
            keeps=kept,
            frees=kept,
            passing=2 * logits if sizes.autocast else logits,
            passing_back=logits,
            gradients=sizes.logits(stage, sizes.element),
        )
