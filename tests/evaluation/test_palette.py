"""Labels can be told apart, also by eyes that lack one kind of cone, on white, on black and on grey."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from nnlite.evaluation.palette import CONFUSED, EXTRA, HUES, MISSED, Colour, label_colour

# Machado, Oliveira and Fernandes, IEEE TVCG 15, 1291-1298, 2009: the whole loss of one kind of cone, in linear RGB
SEEN = {
    "by most": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
CLEARLY_APART = 7.0  # CIEDE2000; about 2 is seen at a glance where areas touch


def linear(colours: list[Colour]) -> np.ndarray:
    share = np.array(colours) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(colours: list[Colour], matrix: object) -> np.ndarray:
    seen = np.clip(linear(colours) @ np.array(matrix).T, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("eyes", SEEN)
@pytest.mark.parametrize("colours", [list(HUES), [MISSED, EXTRA, CONFUSED]], ids=["labels", "errors"])
def test_any_two_colours_are_clearly_apart(eyes: str, colours: list[Colour]):
    seen = lab(colours, SEEN[eyes])
    assert min(float(deltaE_ciede2000(one, other)) for one, other in combinations(seen, 2)) >= CLEARLY_APART


def test_labels_stand_out_from_a_white_and_from_a_black_page():
    luminance = linear(list(HUES)) @ [0.2126, 0.7152, 0.0722]
    assert (1.05 / (luminance + 0.05)).min() > 2.8
    assert ((luminance + 0.05) / 0.05).min() > 3


def test_eighteen_labels_have_eighteen_colours_and_the_background_none():
    assert len({label_colour(index) for index in range(1, 19)}) == 18
    with pytest.raises(ValueError, match="count from 1"):
        label_colour(0)
