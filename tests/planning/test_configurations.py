from __future__ import annotations

from dataclasses import replace

import pytest

from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.topology import plan_topology


def configuration() -> Configuration:
    topology, patch = plan_topology((1.0, 1.0, 1.0), (32, 32, 32))
    return Configuration(
        name="3d",
        spacing_mm=(1.0, 1.0, 1.0),
        median_shape=(40.0, 40.0, 40.5),
        patch_size=patch,
        batch_size=2,
        normalization=("ct",),
        use_nonzero_mask=(False,),
        batch_dice=True,
        topology=topology,
        reasons={},
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch_size": (32, 32, 36)}, "patch_size 32 x 32 x 36 must be divisible by 8 x 8 x 8"),
        ({"patch_size": (32, 32)}, "patch_size has 2 entries instead of 3"),
        ({"patch_size": (0, 32, 32)}, "patch_size must hold positive numbers"),
        ({"patch_size": (2**20,) * 3}, r"in batches of 2 has 2305843009213693952 voxels; 1099511627776 is the most"),
        ({"spacing_mm": (1.0,)}, "spacing_mm has 1 entries"),
        ({"spacing_mm": (1.0, -1.0, 1.0)}, "spacing_mm must hold positive numbers"),
        ({"median_shape": (1.0, 1.0)}, "median_shape has 2 entries"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"use_nonzero_mask": ()}, "use_nonzero_mask has 0 entries and normalization 1"),
        ({"name": "2d"}, "topology has 3 axes instead of 2"),
        ({"name": "3d-cascade"}, "previous_stage"),
        ({"previous_stage": "3d-lowres"}, "previous_stage"),
    ],
)
def test_an_edited_configuration_that_makes_no_sense_names_the_key(change: dict[str, object], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        replace(configuration(), **change)


def test_a_batch_of_one_may_be_asked_for() -> None:
    assert replace(configuration(), batch_size=1).batch_size == 1
