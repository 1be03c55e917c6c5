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


def test_each_channel_of_the_image_has_an_encoder_and_all_others_share_one() -> None:
    asked = NetworkChoice(fusion="separate").of_channels(("T1", "FLAIR"))
    assert asked.encoders(2) == (1, 1)
    assert asked.encoders(5) == (1, 1, 3)  # the second stage of a cascade with three structures
    topology, _ = asked.topology((1.0, 1.0, 1.0), (16, 16, 16), channels=5)
    assert topology.encoders == (1, 1, 3)
    assert choice_of(topology) == asked
    assert NetworkChoice().of_channels(("T1",)).encoders(4) == ()
    assert "each of 2 channels" in asked.reasons(on_gpu=True)["fusion"]


def test_a_single_channel_cannot_be_kept_apart() -> None:
    with pytest.raises(PlanError, match="there is only one, CT; leave it out"):
        NetworkChoice(fusion="separate").of_channels(("CT",))


def test_a_stem_is_told_from_the_topology() -> None:
    asked = NetworkChoice(stem="multi-scale")
    assert choice_of(asked.topology((1.0, 1.0), (32, 32))[0]) == asked
    assert asked.reasons(on_gpu=True)["stem"].endswith("kernels of 3, 5, 7 voxels side by side at full resolution")


@pytest.mark.parametrize("further", [{"fusion": "separate"}, {"stem": "multi-scale"}])
@pytest.mark.parametrize("architecture", ["unet++", "unet-2015"])
def test_architectures_of_one_input_are_told_at_once(architecture, further) -> None:
    with pytest.raises(PlanError, match=r"has one encoder and a first layer of its own"):
        NetworkOptions(architecture=architecture, **further).choice(None)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(PlanError, match=r"no architecture 'wnet'; there are unet, resenc"):
        NetworkChoice(architecture="wnet")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"kernels of 4 voxels are not planned; 3, 5, 7 are"):
        NetworkChoice(kernel=4)
    with pytest.raises(PlanError, match=r"kernels of 0 voxels are not planned; 3, 5, 7 are"):
        NetworkOptions(kernel=0).choice(None)


def test_reasons_tell_what_was_asked_for() -> None:
    assert NetworkChoice().reasons(on_gpu=True) == {"architecture": "unet: the default; a U-Net with a plain encoder"}
    reasons = NetworkChoice(architecture="vnet", kernel=5, checkpointing=True).reasons(on_gpu=True)
    assert reasons["architecture"] == "vnet: asked for; a V-Net"
    assert set(reasons) == {"architecture", "kernel", "checkpointing"}
    assert reasons["checkpointing"].endswith("a third more multiplications and leaves memory for a larger patch")
