from __future__ import annotations

from typing import get_args

import pytest

from nnlite.cli import arguments
from nnlite.errors import PlanError, UsageError
from nnlite.planning.architectures import ARCHITECTURES
from nnlite.planning.network import NetworkChoice, NetworkOptions, choice_of
from nnlite.planning.topology import Architecture


def test_every_described_architecture_can_be_asked_for_and_built() -> None:
    from nnlite.networks.build import NETWORKS

    assert set(arguments.ARCHITECTURES) == set(ARCHITECTURES) == set(NETWORKS) <= set(get_args(Architecture))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_topology_tells_what_it_was_planned_from(architecture: Architecture, kernel: int) -> None:
    asked = NetworkChoice(architecture=architecture, kernel=kernel, checkpointing=kernel == 5)
    topology, _ = asked.topology((4.0, 1.0, 1.0), (16, 64, 64))
    assert choice_of(topology) == asked
    assert topology.kernels[0] == (1, kernel, kernel)


def test_a_residual_encoder_is_an_architecture_and_its_memory() -> None:
    assert NetworkOptions().choice("L") == NetworkOptions(architecture="resenc").choice("L")
    assert NetworkOptions().choice("L").architecture == "resenc"
    with pytest.raises(UsageError, match=r"--residual L .* not --architecture vnet; leave out one of them"):
        NetworkOptions(architecture="vnet").choice("L")


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(PlanError, match=r"no architecture 'wnet'; there are unet, resenc"):
        NetworkChoice(architecture="wnet")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"kernels of 4 voxels are not planned; 3, 5, 7 are"):
        NetworkChoice(kernel=4)


def test_reasons_tell_what_was_asked_for() -> None:
    assert NetworkChoice().reasons() == {"architecture": "unet: the default; a U-Net with a plain encoder"}
    reasons = NetworkChoice(architecture="vnet", kernel=5, checkpointing=True).reasons()
    assert reasons["architecture"] == "vnet: asked for; a V-Net"
    assert set(reasons) == {"architecture", "kernel", "checkpointing"}
