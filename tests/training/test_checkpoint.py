"""Models come back as they were written; anything else is refused in words."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import disk_for_1_kb
from safetensors.torch import load_file, save_file

from nnlite.data.labels import Labels
from nnlite.data.records import to_json
from nnlite.errors import CheckpointError, WorkspaceError
from nnlite.networks.build import build_network
from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan
from nnlite.planning.topology import plan_topology
from nnlite.training.checkpoint import (
    Checkpoint,
    ModelCard,
    load_model,
    load_weights,
    save_model,
)


def card() -> ModelCard:
    topology, patch = plan_topology((1.0, 1.0), (16, 16), base_features=4)
    configuration = Configuration(
        name="2d",
        spacing_mm=(1.0, 1.0),
        median_shape=(20.0, 20.0),
        patch_size=patch,
        batch_size=2,
        normalization=("zscore",),
        use_nonzero_mask=(False,),
        batch_dice=True,
        topology=topology,
        reasons={"patch_size": "16 x 16"},
    )
    intensity = IntensityProperties(
        mean=0.1, median=0.0, std=1.0, min=-3.0, max=3.0, percentile_00_5=-2.5, percentile_99_5=2.5
    )
    plan = Plan(
        dataset="phantom",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=(0, 1, 2),
        channels=("MR",),
        labels=Labels(names=("background", "Leber, groß"), values=(0, 7)),
        intensities=(intensity,),
        training_cases=4,
        configurations={"2d": configuration},
        reasons={},
    )
    return ModelCard(plan=plan, configuration="2d", fold="fold0", epoch=3, mirror_axes=(0, 1))


def checkpoint() -> Checkpoint:
    """The network of the card, one of its weights with its channels last in memory."""
    found = card()
    weights = build_network(found.plan, found.plan.configuration("2d")).state_dict()
    weights["encoder.1.0.0.weight"] = weights["encoder.1.0.0.weight"].to(memory_format=torch.channels_last)
    return Checkpoint(card=found, weights=weights)


def test_a_model_comes_back_with_its_card_and_weights(tmp_path: Path) -> None:
    written = checkpoint()
    save_model(tmp_path / "model.safetensors", written)
    read = load_model(tmp_path / "model.safetensors")
    assert read.card == written.card
    assert read.weights.keys() == written.weights.keys()
    assert all(torch.equal(read.weights[name], written.weights[name]) for name in written.weights)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_missing_model_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model at .*model\.safetensors; train one first"):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_model_that_was_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read.*copy it again"):
        load_model(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_model_of_another_program_is_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="was not written by nnlite"):
        load_model(path)


def test_a_damaged_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={"nnlite": '{"format_version": 1, "fold": "fold0"}'})
    with pytest.raises(CheckpointError, match=r"the header of .*model\.safetensors: plan"):
        load_model(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    written = checkpoint()
    network = build_network(written.card.plan, written.card.plan.configuration("2d"))
    load_weights(network, written, source="here")
    assert all(torch.equal(tensor, written.weights[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(CheckpointError, match="here does not fit the network its plan describes"):
        load_weights(torch.nn.Conv3d(2, 3, 4), written, source="here")
    fewer = dict(list(written.weights.items())[1:])
    save_model(tmp_path / "m.safetensors", replace(written, weights={**fewer, "more": torch.zeros(2)}))
    lacking = r"encoder\.0\.0\.0\.weight missing instead of \(4, 1, 3, 3\), more \(2,\) instead of none"
    with pytest.raises(CheckpointError, match=lacking):
        load_model(tmp_path / "m.safetensors")


def test_shapes_are_compared_before_memory_is_taken(tmp_path: Path) -> None:
    """The weights of a terabyte, in a file that takes no room on the disk."""
    path = tmp_path / "model.safetensors"
    entry = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    header = json.dumps({"__metadata__": {"nnlite": to_json(card())}, "w": entry}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2**40)
    with pytest.raises(CheckpointError, match=r"does not fit the network.* missing"):
        load_model(path)


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path, rng = tmp_path / "model.safetensors", random.Random(0)
    save_model(path, checkpoint())
    content = path.read_bytes()
    for place in [*range(8), *rng.sample(range(8, len(content)), 60)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError):
            load_model(path)


def test_a_model_of_an_earlier_version_has_no_checksum_and_is_read(tmp_path: Path) -> None:
    written = checkpoint()
    weights = {name: tensor.contiguous() for name, tensor in written.weights.items()}
    text = to_json(written.card).replace('  "sha256": null,\n', "")
    assert "sha256" not in text
    save_file(weights, tmp_path / "old.safetensors", metadata={"nnlite": text})
    assert load_model(tmp_path / "old.safetensors").card == written.card


def test_other_programs_for_safetensors_read_the_file(tmp_path: Path) -> None:
    written = checkpoint()
    save_model(tmp_path / "model.safetensors", written)
    read = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in written.weights.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"configuration": "3d"}, "the plan has no configuration 3d"), ({"mirror_axes": (0, 2)}, r"mirror_axes \(0, 2\)")],
)
def test_a_card_that_contradicts_its_plan_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(card(), **change)


def test_what_does_not_fit_on_the_disk_is_an_error_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with disk_for_1_kb(), pytest.raises(WorkspaceError, match=r"model\.safetensors could not be written"):
        save_model(tmp_path / "model.safetensors", checkpoint())
    assert list(tmp_path.iterdir()) == []
