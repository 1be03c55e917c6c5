"""Cases that lie the other way round are found where all lie alike, and only there."""

from __future__ import annotations

import numpy as np

from nnlite.data.geometry import Geometry, grids
from nnlite.data.image import Image
from nnlite.planning.appearance import Look, look, thumbnail
from nnlite.planning.mirrored_cases import label_thumbnail, mirrored, mirrored_cases

SHAPE = (16, 16, 16)


def body(seed: int, *, flipped: bool = False, aligned: bool = True) -> tuple[Image, np.ndarray]:
    """A noisy scan whose organ, and label, lies to one side."""
    rng = np.random.default_rng(seed)
    at = rng.integers(10, 13) if aligned else rng.integers(2, 13)
    label = np.zeros(SHAPE, np.uint8)
    label[5:11, 5:11, at - 2 : at + 2] = 1
    array = (rng.normal(50, 5, SHAPE) + 100 * label)[None].astype(np.float32)
    array, label = (array[..., ::-1], label[..., ::-1]) if flipped else (array, label)
    stored, grid = grids(Geometry(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0)), ".nii.gz")
    return Image(array=np.ascontiguousarray(array), geometry=grid, stored=stored), label


def glances(**odd: tuple[Image, np.ndarray]) -> dict[str, tuple[Look, np.ndarray]]:
    cases = {**{f"c{number}": body(number) for number in range(30)}, **odd}
    return {name: (look(name, image), label_thumbnail(label)) for name, (image, label) in cases.items()}


def test_cases_that_lie_alike_are_no_matter():
    assert list(mirrored_cases(glances())) == []


def test_a_mirrored_image_is_named_once_with_its_label():
    [warning] = mirrored_cases(glances(odd=body(99, flipped=True)))
    assert warning == (
        "the image of odd looks mirrored left to right; a header may be wrong: look at the image in a viewer"
    )


def test_a_label_that_lies_on_the_other_side_than_its_image_is_named():
    image, label = body(99)
    [warning] = mirrored_cases(glances(odd=(image, label[..., ::-1])))
    assert warning.startswith("the label map of odd looks mirrored left to right; it may not fit its image")


def test_organs_that_lie_anywhere_tell_nothing():
    thumbnails = [thumbnail(body(number, aligned=False)[0].array[0])[None] for number in range(40)]
    assert mirrored(thumbnails) == []


def test_few_cases_tell_nothing():
    cases = [body(number) for number in range(15)] + [body(99, flipped=True)]
    assert mirrored([look("", image).thumbnail for image, _ in cases]) == []
