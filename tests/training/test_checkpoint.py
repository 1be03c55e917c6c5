"""Models and training states come back as they were written; anything else is refused in words, and runs nothing."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nnlite.data.labels import Labels
from nnlite.errors import CheckpointError, WorkspaceError
from nnlite.planning.configurations import Configuration
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Plan
from nnlite.planning.topology import plan_topology
from nnlite.training.checkpoint import (
    Checkpoint,
    ModelCard,
    load_model,
    load_state,
    load_weights,
    save_model,
    save_state,
)

CPU = torch.device("cpu")


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
    weights = torch.randn(3, 2, 4, 4, 4).to(memory_format=torch.channels_last_3d)
    return Checkpoint(card=card(), weights={"first.weight": weights, "first.bias": torch.zeros(3)})


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
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read as a model .*copy it again"):
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
    network = torch.nn.ModuleDict({"first": torch.nn.Conv3d(2, 3, 4)})
    written = checkpoint()
    load_weights(network, written, source=tmp_path)
    assert torch.equal(network["first"].get_parameter("weight"), written.weights["first.weight"])
    with pytest.raises(CheckpointError, match="does not fit the network its plan describes"):
        load_weights(torch.nn.Conv3d(2, 3, 4), written, source=tmp_path)


STATE = {"network": {"w": torch.arange(3000.0)}, "course": {"epoch": 2, "best": None, "rates": [0.1, 0.2]}}


def test_a_training_state_comes_back(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", STATE)
    read = load_state(tmp_path / "last.pt", CPU)
    assert torch.equal(read["network"]["w"], STATE["network"]["w"])
    assert read["course"] == STATE["course"]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_training_state_that_was_cut_off_is_refused(share: float, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read as a training state .*delete its folder"):
        load_state(path, CPU)


def test_a_training_state_with_a_damaged_name_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, STATE)
    path.write_bytes(path.read_bytes().replace(b"course", b"co\xffrse"))
    with pytest.raises(CheckpointError, match="cannot be read as a training state"):
        load_state(path, CPU)


def test_a_missing_training_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_state(tmp_path / "last.pt", CPU)


class _Attack:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("attacked"),))


@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_training_state_is_executed(writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer({"network": _Attack()}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "last.pt", CPU)
    assert not (tmp_path / "attacked").exists()


@contextmanager
def disk_for_1_kb() -> Iterator[None]:
    """No file may grow beyond a kilobyte: what a full disk looks like to a program.

    Not a fixture: pytest may be writing its own report into a file, before a fixture is torn down.
    """
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_does_not_fit_on_the_disk_is_an_error_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    with disk_for_1_kb(), pytest.raises(WorkspaceError, match=r"model\.safetensors could not be written"):
        save_model(tmp_path / "model.safetensors", checkpoint())
    with disk_for_1_kb(), pytest.raises(WorkspaceError, match=r"last\.pt could not be written"):
        save_state(tmp_path / "last.pt", STATE)
    assert list(tmp_path.iterdir()) == []
