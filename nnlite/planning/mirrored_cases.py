"""Find the few cases of a dataset that lie the other way round: a header that exchanges left and right, say.

Beside the fingerprint: the thumbnails of ``appearance.py``, of images and of label maps, each compared with the mean of
the others. Where the cases do not lie alike (organs anywhere, symmetric bodies) nothing can be told, and is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from nnlite.data.faults import LISTED_CASES
from nnlite.planning.appearance import CLEARLY, LOW_QUANTILE, Look, sides_of_each, thumbnail

FEWEST_CASES = 20  # with less, one case in disorder can be chance
MOST_MIRRORED = 0.05  # share of cases; if more lie otherwise, the cases do not lie alike
AXES = ("top to bottom", "front to back", "left to right")  # z, y, x


def label_thumbnail(label: np.ndarray) -> np.ndarray:
    """Where the labels of a map (z, y, x) lie, as (1, 8, 8, 8)."""
    return thumbnail((label > 0).astype(np.float32))[None]


def mirrored(thumbnails: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Which of the thumbnails (channels, 8, 8, 8) clearly lie the other way round than all others, and on which axis.

    >>> ramps = [np.arange(8.0).reshape(1, 1, 1, 8) + n for n in range(20)]
    >>> mirrored([*ramps[:-1], ramps[-1][..., ::-1]])
    [(19, 2)]
    """
    if len(thumbnails) < FEWEST_CASES:
        return []
    found = []
    for axis, along in enumerate(sides_of_each(np.stack(thumbnails)).T):
        right = along[along > 0]
        if len(along) - len(right) > max(1, MOST_MIRRORED * len(along)):
            continue
        clear = float(np.quantile(right, LOW_QUANTILE))
        found += [(int(case), axis) for case in np.flatnonzero(along < -CLEARLY * clear)]
    return found


def mirrored_cases(looks: Mapping[str, tuple[Look, np.ndarray | None]]) -> Iterator[str]:
    """In words, with the remedy: images that look mirrored, and label maps that do while their image does not."""
    names = list(looks)
    images = mirrored([look.thumbnail for look, _ in looks.values()])
    yield from _told(names, images, "image", "a header may be wrong: look at the image in a viewer")
    labelled = {name: label for name, (_, label) in looks.items() if label is not None}
    kept = list(labelled)
    also = {names[case] for case, _ in images}
    alone = [(case, axis) for case, axis in mirrored([*labelled.values()]) if kept[case] not in also]
    yield from _told(kept, alone, "label map", "it may not fit its image: look at both in a viewer")


def _told(names: Sequence[str], found: Sequence[tuple[int, int]], kind: str, remedy: str) -> Iterator[str]:
    for axis, direction in enumerate(AXES):
        cases = [names[case] for case, where in found if where == axis]
        if cases:
            more = f", and {len(cases) - LISTED_CASES} more" if len(cases) > LISTED_CASES else ""
            yield f"the {kind} of {', '.join(cases[:LISTED_CASES])}{more} looks mirrored {direction}; {remedy}"
