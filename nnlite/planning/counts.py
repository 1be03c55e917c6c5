"""Count what a network computes and learns, without building it: sums over the operations of its architecture.

Plain numbers in and out, usable outside nnlite.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnlite.planning.architectures import tape_of
from nnlite.planning.topology import Topology


def output_elements(topology: Topology, patch_size: Sequence[int], *, labels: int) -> int:
    """Values that all convolutions put out for one patch: nnU-Net's measure of the memory that training takes.

    ``labels`` counts the background. Heads of deep supervision do not count; pooled skips do.

    >>> from nnlite.planning.topology import plan_topology
    >>> topology, patch = plan_topology((1.0, 1.0), (8, 8))
    >>> output_elements(topology, patch, labels=2)  # 5 x 32 + 2 at 8 x 8, 2 x 64 at 4 x 4
    12416
    """
    tape = tape_of(topology, tuple(patch_size), channels=1, labels=labels)
    return sum(one.output.features * one.output.voxels for one in tape.operations if one.counted)


def multiply_adds(topology: Topology, patch_size: Sequence[int], *, channels: int, labels: int) -> int:
    """Multiplications of one forward pass over one patch, in all convolutions and heads; a step costs about 3 x this.

    >>> from nnlite.planning.topology import plan_topology
    >>> topology, patch = plan_topology((1.0, 1.0), (4, 4), base_features=8)  # too small to pool: two convolutions
    >>> multiply_adds(topology, patch, channels=1, labels=2)  # 16 x 9 x (1 x 8 + 8 x 8)
    10368
    """
    tape = tape_of(topology, tuple(patch_size), channels=channels, labels=labels)
    return sum(one.multiplications for one in tape.operations)


def parameter_count(topology: Topology, *, channels: int, labels: int) -> int:
    """Weights of the network that ``nnlite.networks`` builds, heads of deep supervision included.

    >>> from nnlite.planning.topology import plan_topology
    >>> topology, _ = plan_topology((1.0, 1.0), (4, 4), base_features=8)
    >>> parameter_count(topology, channels=1, labels=2)  # 8 x (9 + 1 + 2) + 8 x (8 x 9 + 1 + 2)
    696
    """
    tape = tape_of(topology, topology.divisor, channels=channels, labels=labels)
    return sum(one.weights for one in tape.operations)
