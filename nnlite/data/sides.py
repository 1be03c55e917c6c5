"""Which structures are each other's mirror image: left and right, told by their names.

In a mirrored image the left kidney lies where a right one does, and looks like it; so wherever images are mirrored, the
names of such pairs have to be exchanged. A name counts as words: what lies between letters and digits separates them,
and so does a capital after a small letter. Pairs differ in ``left`` and ``right``, or ``lh`` and ``rh`` (hemispheres of
the brain), anywhere in the name; without these words, in ``l`` and ``r`` as its first or its last word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

SIDES = {"left": "right", "right": "left", "lh": "rh", "rh": "lh"}
LETTERS = {"l": "r", "r": "l"}
# beginnings of words: left and right parts of one organ that are no mirror images of each other, as the two ventricles
UNEQUAL_HALVES = ("heart", "cardi", "myocardi", "atri", "ventric", "coronar", "liver", "hepat")
PAIRED_AFTER_ALL = {"lateral"}  # the lateral ventricles of the brain are
NEW_WORD = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])")
WORD = re.compile(r"[^\W_]+")


def pairs_by_name(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Those of ``names`` that become each other when left and right are exchanged, pair by pair in their order.

    >>> pairs_by_name(["Lung (L)", "liver", "lung_R", "left ventricle", "right ventricle"])
    (('Lung (L)', 'lung_R'),)
    """
    by_words: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        by_words[_words(name)].append(name)
    pairs: dict[str, str] = {}
    for words, same in by_words.items():
        others = by_words.get(_other_side(words), [])
        if len(same) == len(others) == 1 and same != others and not _unequal(words) and others[0] not in pairs:
            pairs[same[0]] = others[0]
    return tuple(pairs.items())


def one_sided(names: Sequence[str], mirrored: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names with the word left or right that are in no pair of ``mirrored``: a mirror would put them on the wrong side.

    >>> one_sided(["left hippocampus", "left ventricle", "cleft"], [])
    ('left hippocampus',)
    """
    paired = {name for pair in mirrored for name in pair}
    return tuple(
        name
        for name in names
        if name not in paired and {"left", "right"} & set(_words(name)) and not _unequal(_words(name))
    )


def mirror_images(members: Sequence[Sequence[int]], partners: Mapping[int, int], count: int) -> tuple[int, ...] | None:
    """For each of ``count`` labels the one that stands for it in a mirrored image, or None where the labels have none.

    ``members`` are the labels of each structure, ``partners`` lead from a structure to its mirror image. A label is in
    the partners of the structures that its mirror image is in. Which one that is among several such labels makes no
    difference to the structures: each is the other's, as far as there are as many.

    >>> mirror_images([(1, 2, 3), (1,), (2,)], {1: 2, 2: 1}, count=4)  # the kidneys with a cyst, the left, the right
    (0, 2, 1, 3)
    """
    belongs = [frozenset(at for at, labels in enumerate(members) if label in labels) for label in range(count)]
    alike: dict[frozenset[int], list[int]] = defaultdict(list)
    for label, structures in enumerate(belongs):
        alike[structures].append(label)
    images = []
    for label, structures in enumerate(belongs):
        others = alike.get(frozenset(partners.get(at, at) for at in structures))
        if not others:
            return None
        place = alike[structures].index(label)
        images.append(others[place] if place < len(others) else others[0])
    return tuple(images)


def _words(name: str) -> tuple[str, ...]:
    return tuple(WORD.findall(NEW_WORD.sub(" ", name).casefold()))


def _other_side(words: tuple[str, ...]) -> tuple[str, ...]:
    if set(words) & SIDES.keys():
        return tuple(SIDES.get(word, word) for word in words)
    ends = (0, len(words) - 1)
    return tuple(LETTERS.get(word, word) if at in ends else word for at, word in enumerate(words))


def _unequal(words: tuple[str, ...]) -> bool:
    return any(word.startswith(UNEQUAL_HALVES) for word in words) and not PAIRED_AFTER_ALL & set(words)
