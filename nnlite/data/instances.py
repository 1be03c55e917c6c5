"""What an instance is: single objects of one label, told apart by their numbers or by the background between them.

Label maps of microscopy come in two kinds. In one each object has a number of its own; in the other all of them have
the value of the label, and what is connected is one object.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnlite.data.records import record

COMPONENTS, NUMBERED = "components", "numbered"  # the two words of nnlite.json
INSTANCES = ".instances"  # between the name of a case and the suffix, of its map of instance numbers


@record
class Instances:
    """How the objects of the one foreground label are told apart in label maps, and in training.

    ``numbered``: each object has a number of its own in a label map; otherwise what is connected is one. ``border_px``
    is the width of the border that a network learns as a class of its own, 0 for none: where another object is near,
    or, with ``rim``, all around.
    """

    numbered: bool = False
    border_px: int = 0
    rim: bool = False

    def __post_init__(self) -> None:
        if self.border_px < 0:
            raise ValueError(f"a border of {self.border_px} pixels makes no sense; 0 is none")


def components(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask (any number of axes), numbered from 1; int32. Voxels that share a face connect.

    Corners do not: nuclei that meet at one are two.

    >>> components(np.array([[1, 1, 0], [0, 0, 1]]))
    array([[1, 1, 0],
           [0, 0, 2]], dtype=int32)
    """
    numbers, _ = ndimage.label(mask)
    return np.asarray(numbers, dtype=np.int32)


def renumbered(instances: np.ndarray) -> np.ndarray:
    """The same instances with the numbers 1, 2, 3, .. without gaps, in their order; int32, 0 stays background.

    >>> renumbered(np.array([0, 7, 3, 7]))
    array([0, 2, 1, 2], dtype=int32)
    """
    numbers, places = np.unique(instances, return_inverse=True)
    return (places.reshape(instances.shape) + (numbers[0] != 0)).astype(np.int32)
