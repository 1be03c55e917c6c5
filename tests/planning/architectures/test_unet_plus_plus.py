"""What U-Net++ costs, and what that does to its plan."""

from __future__ import annotations

import math

import pytest

from nnlite.planning.counts import multiply_adds, parameter_count
from nnlite.planning.gpu import fit_gpu
from nnlite.planning.network import NetworkChoice
from nnlite.planning.topology import plan_topology


@pytest.mark.parametrize("memory_gib", [4, 8])
def test_on_the_same_card_its_patch_is_smaller_than_that_of_a_u_net(memory_gib: float) -> None:
    options = {"channels": 1, "labels": 3, "memory_gib": memory_gib, "corrections": {}}
    spacing_mm, median = (1.5, 0.8, 0.8), (200, 400, 400)
    plain, nested = (
        fit_gpu(spacing_mm, median, 1e10, network=NetworkChoice(architecture=architecture), **options)
        for architecture in ("unet", "unet++")
    )
    assert math.prod(nested.patch_size) < math.prod(plain.patch_size)


def test_two_stages_are_the_u_net_of_two_stages() -> None:
    plain, patch = plan_topology((1.0, 1.0), (8, 8))
    nested, _ = plan_topology((1.0, 1.0), (8, 8), architecture="unet++")
    assert parameter_count(nested, channels=1, labels=2) == parameter_count(plain, channels=1, labels=2)
    work = [multiply_adds(topology, patch, channels=1, labels=2) for topology in (plain, nested)]
    assert work[0] == work[1]
