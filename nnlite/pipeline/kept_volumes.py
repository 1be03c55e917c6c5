"""Volumes that a prediction leaves beside its mask on request: probabilities, and how uncertain they are.

Both are written as they are finished, a few slices at a time, so they are not compressed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from nnlite.data.image import StoredGrid
from nnlite.data.nifti import channels_written
from nnlite.inference.reliability import normalized_entropy, regions_entropy
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.restore import KeepProbabilities, Region

PROBABILITIES_SUFFIX = ".probabilities.nii"  # every viewer reads it, and without compression it can be written in parts
ENTROPY_SUFFIX = ".entropy.nii"


@contextmanager
def volumes_kept(
    path: Path, grid: StoredGrid, decision: Decision, *, probabilities: bool, entropy: bool
) -> Iterator[KeepProbabilities | None]:
    """Give what is to be told of all probabilities, None if none are wanted; the files appear at the end.

    ``path`` is where they lie, without a suffix.
    """
    with ExitStack() as files:

        def written(suffix: str, background: Sequence[float]) -> KeepProbabilities:
            return files.enter_context(
                channels_written(path.with_name(path.name + suffix), grid, background=background)
            )

        keepers: list[KeepProbabilities] = []
        if probabilities:
            keepers.append(written(PROBABILITIES_SUFFIX, decision.of_nothing))
        if entropy:
            write = written(ENTROPY_SUFFIX, [0.0])  # background is certain where the image is zero
            undecided = regions_entropy if decision.painted else normalized_entropy
            keepers.append(lambda region, part: write(region, undecided(part)[None]))

        def keep(region: Region, part: np.ndarray) -> None:
            for keeper in keepers:
                keeper(region, part)

        yield keep if keepers else None
