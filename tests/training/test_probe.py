"""Real steps of tiny networks, in this process and in others."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace

import psutil
import pytest
import torch
from tiny import plan as tiny_plan

from nnlite.errors import PlanError
from nnlite.planning.configurations import Configuration
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior, PriorUse
from nnlite.training.config import TrainConfig
from nnlite.training.probe import probe, probe_apart

CPU = torch.device("cpu")
CONFIG = TrainConfig(optimizer="adamw")
MIB = 1 / 1024  # GiB
UNALLOCATABLE = 10**8  # patches of 16 x 16 x 16 values of 4 bytes: 1.6 PB, more than an address can name


def planned(**changes) -> tuple[Plan, Configuration]:
    made = tiny_plan()
    return made, replace(made.configuration("3d"), **changes)


def apart(**changes) -> StepMeasurement | None:
    return probe_apart(*planned(**changes), CONFIG, "cpu")


@pytest.fixture(scope="module")
def small() -> StepMeasurement:
    """The smallest step, measured apart from a process that once was large."""
    ballast = torch.ones(2**27)  # 512 MiB
    del ballast
    return apart()


def test_a_step_takes_time_and_memory_and_says_where(small: StepMeasurement) -> None:
    assert (small.patch_size, small.batch_size) == ((16, 16, 16), 3)
    assert (small.precision, small.torch_version) == ("fp32", torch.__version__)
    threads = torch.get_num_threads()
    assert small.device.endswith(f", {threads} thread{'s' if threads > 1 else ''}")
    assert small.memory_gib > 0
    assert small.step_s > 0


def test_what_the_asking_process_has_done_before_is_not_counted(small: StepMeasurement) -> None:
    assert small.memory_gib < 256 * MIB


def test_a_larger_patch_takes_the_memory_that_its_values_need(small: StepMeasurement) -> None:
    # Full resolution alone keeps, for the way back, what four convolutions of 4 features put out, and their norms.
    kept = 2 * 4 * 4 * 4 * 3 * (48**3 - 16**3) / 2**30
    assert kept < apart(patch_size=(48, 48, 48)).memory_gib - small.memory_gib < 8 * kept


@pytest.mark.parametrize("name", ["2d", "3d-cascade"])
def test_slices_of_three_channels_and_cascades_are_measured(name: str) -> None:
    made = tiny_plan(name)
    rgb = replace(made, channels=("R", "G", "B"), intensities=made.intensities * 3, configurations={})
    measured = probe(rgb, made.configuration(name), CONFIG, CPU)
    assert measured.patch_size == made.configuration(name).patch_size


def test_a_network_without_padding_is_measured_with_what_it_sees() -> None:
    made = tiny_plan("2d", "unet-2015")
    measured = probe(made, made.configuration("2d"), CONFIG, CPU)
    assert measured is not None
    assert measured.patch_size == made.configuration("2d").patch_size


@pytest.mark.parametrize("use", ["channel", "product"])
def test_a_network_with_an_atlas_is_measured_with_the_places_it_looks_up(use: PriorUse) -> None:
    made = replace(tiny_plan(), prior=Prior(use=use, atlas_shape=(4, 5, 6)))
    measured = probe(made, made.configuration("3d"), CONFIG, CPU)
    assert measured is not None
    assert measured.patch_size == made.configuration("3d").patch_size


def test_float16_is_measured_once_the_optimiser_moves() -> None:
    assert probe(*planned(), replace(CONFIG, precision="fp16"), CPU).precision == "fp16"


def test_what_cannot_be_allocated_does_not_fit_here_or_apart() -> None:
    assert probe(*planned(batch_size=UNALLOCATABLE), CONFIG, CPU) is None
    assert apart(batch_size=UNALLOCATABLE) is None


def test_other_errors_are_raised_here_and_are_plan_errors_apart() -> None:
    strides = ((1, 1, 1), (2, 2, 2), (4, 4, 4))  # a bottleneck of one voxel has no deviation to normalise by
    topology = replace(tiny_plan().configuration("3d").topology, strides=strides)
    unfit = {"patch_size": (8, 8, 8), "topology": topology}
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        probe(*planned(**unfit), CONFIG, CPU)
    with pytest.raises(
        PlanError, match=r"3d: a training step on patch 8 x 8 x 8 with batch 3 on cpu failed: ValueError"
    ):
        apart(**unfit)


def test_a_step_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(PlanError, match=r"3d: .* was not measured within 0\.1 s"):
        probe_apart(*planned(), CONFIG, "cpu", timeout_s=0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
def test_a_process_that_the_system_kills_did_not_fit() -> None:
    answers: list[StepMeasurement | Exception | None] = []
    before = set(psutil.Process().children())

    def ask() -> None:
        try:
            answers.append(apart(patch_size=(128, 128, 128)))
        except PlanError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while not (children := set(psutil.Process().children()) - before) and thread.is_alive():
        time.sleep(0.02)
    children.pop().kill()
    thread.join()
    assert answers == [None]


def test_a_machine_without_readers_and_loaders_can_measure() -> None:
    absent = "import sys; sys.modules.update(SimpleITK=None, batchgenerators=None); import nnlite.training.probe"
    child = subprocess.run([sys.executable, "-c", absent], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_gpu_tells_its_allocator_s_peak_and_gets_its_memory_back(precision: str) -> None:
    cuda, config = torch.device("cuda"), TrainConfig(precision=precision)
    small = probe(*planned(), config, cuda)
    torch.cuda.synchronize()
    reserved = torch.cuda.memory_reserved()
    large = probe(*planned(patch_size=(64, 64, 64)), config, cuda)
    assert large.memory_gib > 2 * small.memory_gib
    assert large.device == torch.cuda.get_device_name()
    assert probe(*planned(batch_size=10**6), config, cuda) is None
    assert torch.cuda.memory_reserved() <= reserved + 64 * 2**20  # libraries keep workspaces, the networks are gone


@pytest.mark.gpu
def test_a_gpu_is_measured_apart_as_it_is_here() -> None:
    config = TrainConfig(precision="bf16")
    here, there = probe(*planned(), config, torch.device("cuda")), probe_apart(*planned(), config, "cuda")
    assert there.memory_gib == pytest.approx(here.memory_gib, abs=128 * MIB)
    assert probe_apart(*planned(batch_size=10**6), config, "cuda") is None
