"""A network written down as the operations that it computes, without computing them.

Plain numbers in and out. An architecture is a function that runs over a ``Tape`` as its torch module runs over tensors
(``planning/architectures``); parameters and multiplications (``counts.py``) and bytes (``memory.py``) are sums over the
operations that the tape then holds. Sizes are ordered like the array: (z, y, x), or (y, x) for slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

Kind = Literal["convolution", "norm", "activation", "cat", "add", "pool"]


class Map:
    """Features on a grid, of one sample; two are the same only if they are one. The image itself learns nothing."""

    __slots__ = ("features", "learns", "size", "voxels")

    def __init__(self, size: tuple[int, ...], features: int, *, learns: bool = True):
        self.size, self.features, self.learns = size, features, learns
        self.voxels = math.prod(size)


class Operation(NamedTuple):
    """One operation of the forward pass, for one sample.

    ``weights`` are learnt, ``saves`` is what the backward pass needs of the forward, ``counted`` whether nnU-Net's
    estimate of memory counts the output. Operations of one ``part`` are computed again in the backward pass.
    """

    kind: Kind
    inputs: tuple[Map, ...]
    output: Map
    weights: int = 0
    multiplications: int = 0
    saves: tuple[Map, ...] = ()
    counted: bool = False
    part: int | None = None

    @property
    def overwrites(self) -> bool:
        """Whether the output takes the place of the input."""
        return self.kind == "activation"


class Tape:
    """Holds the operations of a network, in the order in which it computes them.

    ``heads`` are its outputs in training, full resolution first. ``held`` tells for maps that Python's frames hold on
    to the number of operations that have run when they let go.

    >>> tape = Tape((8, 8), channels=1, labels=2)
    >>> x = tape.block(tape.image, 16, (3, 3), (2, 2))
    >>> x.size, x.features, [(operation.kind, operation.weights) for operation in tape.operations]
    ((4, 4), 16, [('convolution', 160), ('norm', 32), ('activation', 0)])
    """

    def __init__(self, size: Sequence[int], *, channels: int, labels: int, checkpointing: bool = False):
        self.image = Map(tuple(size), channels, learns=False)
        self.labels, self.checkpointing = labels, checkpointing
        self.operations: list[Operation] = []
        self.heads: list[Map] = []
        self.held: dict[Map, int] = {}
        self._part: int | None = None

    def convolution(
        self, x: Map, features: int, kernel: Sequence[int], stride: Sequence[int] | None = None, *, bias: bool = True
    ) -> Map:
        """A convolution, padded so that stride 1 keeps the size."""
        output = Map(_divided(x.size, stride), features)
        weights = x.features * features * math.prod(kernel)
        return self._note(
            "convolution", (x,), output, weights + bias * features, weights * output.voxels, saves=(x,), counted=True
        )

    def transposed_convolution(self, x: Map, features: int, stride: Sequence[int]) -> Map:
        """Upsampling by a learnt kernel that is as large as its stride: each output voxel sees one input voxel."""
        output = Map(tuple(length * step for length, step in zip(x.size, stride, strict=True)), features)
        weights = x.features * features * math.prod(stride)
        return self._note("convolution", (x,), output, weights + features, weights * x.voxels, saves=(x,), counted=True)

    def norm(self, x: Map) -> Map:
        """Instance normalisation, with scale and shift."""
        return self._note("norm", (x,), Map(x.size, x.features), 2 * x.features, saves=(x,))

    def activation(self, x: Map) -> Map:
        """Leaky ReLU, which overwrites its input."""
        output = Map(x.size, x.features)
        return self._note("activation", (x,), output, saves=(output,))

    def block(self, x: Map, features: int, kernel: Sequence[int], stride: Sequence[int] | None = None) -> Map:
        """Convolution, normalisation, activation: ``networks.blocks.ConvolutionBlock``."""
        return self.activation(self.norm(self.convolution(x, features, kernel, stride)))

    def cat(self, *maps: Map) -> Map:
        """Maps of one size, one behind the other."""
        return self._note("cat", maps, Map(maps[0].size, sum(one.features for one in maps)))

    def add(self, x: Map, y: Map) -> Map:
        """The sum of two maps."""
        return self._note("add", (x, y), Map(x.size, x.features))

    def pool(self, x: Map, stride: Sequence[int], *, counted: bool) -> Map:
        """Means over as many voxels as the stride has."""
        return self._note("pool", (x,), Map(_divided(x.size, stride), x.features), saves=(x,), counted=counted)

    def head(self, x: Map) -> None:
        """A convolution that tells labels apart; nnU-Net's estimate counts that of full resolution alone."""
        output = Map(x.size, self.labels)
        weights = x.features * self.labels
        self._note(
            "convolution",
            (x,),
            output,
            weights + self.labels,
            weights * x.voxels,
            saves=(x,),
            counted=x.size == self.image.size,
        )
        self.heads.insert(0, output)

    def hold(self, *maps: Map) -> None:
        """Say that a frame of Python has held these maps until now, although nothing needed them any more."""
        for one in maps:
            self.held[one] = len(self.operations)

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Operations within are computed again in the backward pass, if the network is to be checkpointed."""
        if self.checkpointing:
            self._part = len(self.operations)
        yield
        self._part = None

    def _note(
        self,
        kind: Kind,
        inputs: tuple[Map, ...],
        output: Map,
        weights: int = 0,
        multiplications: int = 0,
        *,
        saves: tuple[Map, ...] = (),
        counted: bool = False,
    ) -> Map:
        self.operations.append(
            Operation(
                kind=kind,
                inputs=inputs,
                output=output,
                weights=weights,
                multiplications=multiplications,
                saves=saves,
                counted=counted,
                part=self._part,
            )
        )
        return output


def _divided(size: Sequence[int], stride: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(size) if stride is None else tuple(-(-a // b) for a, b in zip(size, stride, strict=True))
