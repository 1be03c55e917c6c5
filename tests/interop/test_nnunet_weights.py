"""Weights under nnU-Net's names become nnlite's, each in its place; what could run code stays closed."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunet_files import checkpoint, dataset, logits, plans, settings, weights

from nnlite.errors import CheckpointError
from nnlite.interop.nnunet_plan import plan_from_nnunet
from nnlite.interop.nnunet_weights import NnunetCheckpoint, nnlite_name, nnlite_weights, read_checkpoint
from nnlite.networks.build import build_network
from nnlite.planning.planner import Configuration, Plan

PATH = Path("fold_0/checkpoint_final.pth")


def planned(encoder: str, name: str) -> tuple[Plan, Configuration]:
    plan = plan_from_nnunet(plans(encoder), dataset())
    return plan, plan.configuration(name)


def holding(state: dict[str, torch.Tensor]) -> NnunetCheckpoint:
    return NnunetCheckpoint(
        weights=state, configuration="3d_fullres", trainer="nnUNetTrainerMine", epoch=1, mirror_axes=()
    )


@pytest.mark.parametrize("encoder", ["plain", "residual"])
@pytest.mark.parametrize(("name", "ndim", "channels"), [("2d", 2, 1), ("3d", 3, 1), ("3d-cascade", 3, 3)])
def test_the_imported_network_answers_what_nnunet_s_weights_compute(encoder: str, name: str, ndim: int, channels: int):
    plan, configuration = planned(encoder, name)
    given = settings(encoder, ndim)
    state = weights(given, channels=channels)
    network = build_network(plan, configuration).eval()
    network.load_state_dict(nnlite_weights(holding(state), plan, configuration, PATH))
    x = torch.randn(2, channels, *configuration.patch_size)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), logits(given, state, x), rtol=1e-4, atol=1e-4)


def test_what_parallel_training_and_compilation_put_before_a_name_is_taken_off():
    plan, configuration = planned("plain", "3d")
    state = weights(settings())
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    plain, unwrapped = (nnlite_weights(holding(one), plan, configuration, PATH) for one in (state, wrapped))
    assert plain.keys() == unwrapped.keys()
    assert all(torch.equal(plain[name], unwrapped[name]) for name in plain)


def test_half_precision_weights_become_float32(tmp_path: Path):
    state = {name: tensor.half() for name, tensor in weights(settings()).items()}
    torch.save(checkpoint("3d_fullres", state), tmp_path / "a.pth")
    assert {tensor.dtype for tensor in read_checkpoint(tmp_path / "a.pth").weights.values()} == {torch.float32}


def test_a_name_that_nnlite_has_no_place_for_has_no_counterpart():
    assert nnlite_name("encoder.stages.0.blocks.0.squeeze_excitation.fc1.weight") is None
    assert nnlite_name("encoder.stages.0.0.convs.0.prelu.weight") is None
    assert nnlite_name("encoder.stages.1.blocks.0.skip.1.norm.bias") == "encoder.1.0.skip.2.bias"


def test_weights_that_do_not_fit_the_plan_are_told_by_name_and_shape():
    plan, configuration = planned("plain", "3d")
    state = weights(settings(), labels=5)
    state["encoder.stages.0.0.convs.0.norm.running_mean"] = torch.zeros(4)  # as batch normalisation has
    del state["decoder.transpconvs.0.bias"]
    with pytest.raises(CheckpointError) as refused:
        nnlite_weights(holding(state), plan, configuration, PATH)
    told = str(refused.value)
    assert f"{PATH}, trained by nnUNetTrainerMine, does not fit" in told
    assert "it lacks upsample.0.bias" in told
    assert "running_mean" in told
    assert "heads.0.weight (5, 6, 1, 1, 1) instead of (3, 6, 1, 1, 1)" in told


def test_a_long_list_of_weights_is_cut_short():
    plan, configuration = planned("plain", "3d")
    with pytest.raises(CheckpointError, match=r"it lacks \S+, \S+, \S+ and \d+ more"):
        nnlite_weights(holding({}), plan, configuration, PATH)


def test_a_checkpoint_is_read_with_the_numbers_that_nnunet_logs(tmp_path: Path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save(checkpoint("3d_fullres", weights(settings())), path)
    found = read_checkpoint(path)
    assert (found.configuration, found.trainer, found.epoch) == ("3d_fullres", "nnUNetTrainer", 12)
    assert found.mirror_axes == (0, 1)


def test_a_model_trained_without_mirroring_has_no_mirror_axes(tmp_path: Path):
    content = checkpoint("3d_fullres", {}) | {"inference_allowed_mirroring_axes": None}
    torch.save(content, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").mirror_axes == ()


class Trap:
    """Unpickled without care, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_an_unexpected_type_is_named_and_never_made(tmp_path: Path):
    sprung = tmp_path / "sprung"
    torch.save(checkpoint("3d_fullres", {}) | {"extra": Trap(sprung)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth holds builtins\.getattr, .*, which could run code") as refused:
        read_checkpoint(tmp_path / "a.pth")
    assert "save its network_weights" in str(refused.value)
    assert not sprung.exists()


def test_a_damaged_or_foreign_file_is_no_checkpoint(tmp_path: Path):
    whole = tmp_path / "whole.pth"
    torch.save(checkpoint("3d_fullres", weights(settings())), whole)
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.pth cannot be read as a checkpoint .* copy it again"):
        read_checkpoint(cut)
    torch.save({"network_weights": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="it has no init_args, trainer_name"):
        read_checkpoint(tmp_path / "other.pth")
    torch.save(checkpoint("2d", {}) | {"init_args": 3}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth is no checkpoint"):
        read_checkpoint(tmp_path / "odd.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds no table"):
        read_checkpoint(tmp_path / "list.pth")


def test_harmless_containers_need_no_permission(tmp_path: Path):
    state = collections.OrderedDict(weights(settings()))
    torch.save(checkpoint("2d", state), tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth").weights.keys() == state.keys()
