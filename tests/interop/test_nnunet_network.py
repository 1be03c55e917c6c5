"""The network in nnU-Net's plans becomes a topology, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from nnunet_files import early, settings

from nnlite.errors import PlanError
from nnlite.interop.nnunet_network import topology_from_nnunet


def test_a_plain_network_keeps_every_number():
    topology = topology_from_nnunet(settings(), "3d_fullres")
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert topology.kernels == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert (topology.architecture, topology.features) == ("unet", (4, 6, 8))
    assert topology.encoder_blocks == (2, 1, 2)
    assert topology.decoder_convolutions == (1, 2)  # nnU-Net counts from the bottleneck up: [2, 1]


def test_a_residual_network_counts_blocks():
    topology = topology_from_nnunet(settings("residual", 2), "2d")
    assert (topology.architecture, topology.encoder_blocks, topology.ndim) == ("resenc", (1, 2, 2), 2)


def test_early_plans_give_width_and_depth_from_which_the_same_network_follows():
    topology = topology_from_nnunet(early(settings()), "3d_fullres")
    expected = topology_from_nnunet(settings(), "3d_fullres")
    assert topology.features == (4, 6, 6)  # 4 doubles to 8 and 16, but 6 is the most
    assert (topology.strides, topology.kernels) == (expected.strides, expected.kernels)
    assert (topology.encoder_blocks, topology.decoder_convolutions) == (expected.encoder_blocks, (1, 2))


def test_early_plans_that_name_two_networks_are_refused():
    with pytest.raises(PlanError, match="two networks, PlainConvUNet and ResidualEncoderUNet"):
        topology_from_nnunet({**early(settings()), "network_arch_class_name": "ResidualEncoderUNet"}, "mine")


def test_one_number_stands_for_all_stages():
    given = settings()
    given["architecture"]["arch_kwargs"] |= {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 1, "kernel_sizes": 3}
    topology = topology_from_nnunet(given, "3d_fullres")
    assert (topology.encoder_blocks, topology.decoder_convolutions) == ((2, 2, 2), (1, 1))
    assert topology.kernels == ((3, 3, 3),) * 3


@pytest.mark.parametrize(
    "path", ["my.networks.PlainConvUNet", "dynamic_network_architectures.architectures.primus.Primus"]
)
def test_another_network_is_refused_by_name(path: str):
    given = settings()
    given["architecture"]["network_class_name"] = path
    with pytest.raises(PlanError, match=f"3d_fullres: nnlite has no network {path}"):
        topology_from_nnunet(given, "3d_fullres")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"norm_op": "torch.nn.BatchNorm3d"}, "norm_op 'BatchNorm3d'"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, "norm_op_kwargs .*0.001"),
        ({"norm_op_kwargs": {}}, "norm_op_kwargs .*'affine': False"),  # torch's default
        ({"nonlin": "torch.nn.ReLU"}, "nonlin 'ReLU'"),
        ({"nonlin_kwargs": {"negative_slope": 0.2}}, "nonlin_kwargs .*0.2"),
        ({"dropout_op": "torch.nn.Dropout3d"}, "dropout_op"),
        ({"conv_bias": False}, "conv_bias False"),
        ({"nonlin_first": True}, "nonlin_first True"),
        ({"stem_channels": 9}, "stem_channels 9"),
        ({"squeeze_excitation": True}, "squeeze_excitation"),
    ],
)
def test_layers_of_another_kind_are_refused_by_name_and_value(changed: dict[str, Any], told: str):
    given = settings()
    given["architecture"]["arch_kwargs"] |= changed
    with pytest.raises(PlanError, match=f"3d_fullres: nnlite's network has no {told}"):
        topology_from_nnunet(given, "3d_fullres")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"n_stages": 10**12, "features_per_stage": 8},
            "3d_fullres: a network of 1000000000000 stages; these plans are",
        ),
        ({"n_stages": 4}, r"3 numbers \(4, 6, 8\) for 4 stages"),
        ({"n_conv_per_stage_decoder": [2, 1, 1]}, r"3 numbers \(2, 1\) for 2 stages"),
    ],
)
def test_lists_that_do_not_fit_the_stages_are_refused(change: dict[str, Any], message: str):
    plans = settings()
    plans["architecture"]["arch_kwargs"].update(change)
    with pytest.raises(PlanError, match=message):
        topology_from_nnunet(plans, "3d_fullres")
