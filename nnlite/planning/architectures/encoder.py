"""Operations of the way down, whatever its stages are: one encoder or several, behind a stem or without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nnlite.planning.operations import Map, Tape

if TYPE_CHECKING:
    from nnlite.planning.topology import Topology

STEM_KERNELS = (3, 5, 7)  # voxels, of a multi-scale stem

WriteStage = Callable[[Tape, "Topology", int, Map], Map]
WriteStem = Callable[[Tape, "Topology", Map], Map]


def encode(tape: Tape, topology: Topology, write_stage: WriteStage, stem: WriteStem | None = None) -> list[Map]:
    """What each stage hands to the decoder; ``stem`` is what the architecture itself has before its first stage."""
    maps = tape.parts_of_image(topology.encoders)
    if topology.stem == "multi-scale":
        stem = multi_scale_stem
    if stem is not None:
        maps = [stem(tape, topology, x) for x in maps]
    skips = []
    for stage in range(topology.stages):
        above = maps
        maps = [write_stage(tape, topology, stage, x) for x in maps]
        if not topology.encoders:
            skips.append(maps[0])
            continue
        tape.hold(*above)
        with tape.stage():
            skips.append(tape.block(tape.cat(*maps), topology.features[stage], (1,) * topology.ndim))
    return skips


def multi_scale_stem(tape: Tape, topology: Topology, x: Map) -> Map:
    """Blocks of several kernels, put together: ``networks.multi_scale_stem.MultiScaleStem``."""
    with tape.stage():
        branches = stem_branches(topology.features[0], topology.kernels[0])
        return tape.cat(*(tape.block(x, features, kernel) for features, kernel in branches))


def stem_branches(features: int, kernel: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """Features and kernel of each branch of a multi-scale stem; ``kernel`` tells which axes are flat.

    >>> stem_branches(32, (1, 3, 3))
    [(11, (1, 3, 3)), (11, (1, 5, 5)), (10, (1, 7, 7))]
    """
    share, over = divmod(features, len(STEM_KERNELS))
    return [
        (share + (number < over), tuple(1 if size == 1 else width for size in kernel))
        for number, width in enumerate(STEM_KERNELS)
    ]
