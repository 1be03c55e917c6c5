"""What one training step really costs on a device: two steps of the planned size, their peak memory and their time.

Planning estimates, this measures; the numbers go back as values. ``probe`` runs in this process, which suits a GPU.
``probe_apart`` runs it in a fresh one: the resident set of a process that has done other things before tells nothing of
a step on the CPU, and a process that runs out of memory must not be the user's. Each configuration gets a process of
its own: what malloc kept from one would hide what the next needs, and forking after the import of torch is not safe
everywhere. That costs the start of Python and torch, one to two seconds.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from nnlite.data.records import from_json, record, to_json
from nnlite.errors import PlanError
from nnlite.networks.build import build_network
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import input_channels
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Plan
from nnlite.planning.spacing import voxels
from nnlite.preprocessing.places import PLACE_CHANNELS
from nnlite.training.answer import Answer
from nnlite.training.assemble import Batch
from nnlite.training.config import TrainConfig
from nnlite.training.learner import Learner, build_optimizer

LONGEST_WARM_UP = 16  # steps until the optimiser moves: float16 halves its scale from 2^16 while gradients overflow
DOES_NOT_FIT = 3  # exit status of a child that ran out of memory; 1 is Python's for everything else
KILLED = -9  # SIGKILL: how Linux answers a process that takes more memory than there is
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "ALLOC_FAILED")
GIB = 2**30


@record
class ProbeRequest:
    """What a child process is to measure."""

    plan: Plan
    configuration: Configuration
    config: TrainConfig
    device: str
    threads: int


def probe(
    plan: Plan, configuration: Configuration, config: TrainConfig, device: torch.device
) -> StepMeasurement | None:
    """Train on a batch of noise for two steps and measure the second; None if it does not fit into memory.

    ``configuration`` need not be the plan's own: a search tries others. All memory is given back. On a CPU the memory
    is right in a fresh process only, see ``probe_apart``.
    """
    build_optimizer(nn.Linear(1, 1), config)  # the first of a process loads 70 MiB of torch: no part of the step
    before = _reset_peak(device)
    try:
        step_s = _two_steps(plan, configuration, config, device)
        taken = max(0, _peak_bytes(device) - before)  # 0: all of it lay in memory that malloc had kept
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _tells_of_memory(str(error))):
            raise
        return None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return StepMeasurement(
        device=_device_name(device),
        precision=config.precision,
        patch_size=configuration.patch_size,
        batch_size=configuration.batch_size,
        memory_gib=taken / GIB,
        step_s=step_s,
        torch_version=str(torch.__version__),
    )


def probe_apart(
    plan: Plan,
    configuration: Configuration,
    config: TrainConfig,
    device_type: str,
    *,
    timeout_s: float = 120,
) -> StepMeasurement | None:
    """Do as ``probe`` in a fresh process with as many threads as this one has; None if it does not fit into memory.

    PlanError with the process' own last words if anything else went wrong, and if it took longer than ``timeout_s``.
    """
    request = ProbeRequest(
        plan=plan,
        configuration=configuration,
        config=config,
        device=device_type,
        threads=torch.get_num_threads(),
    )
    # The child finds its modules where this process does, not in the folder the user happens to stand in.
    start = f"import sys; sys.path[:] = {json.dumps(sys.path)}; from nnlite.training import probe; probe.answer()"
    name = f"{configuration.name}: a training step on patch {voxels(configuration.patch_size)} with batch "
    name += f"{configuration.batch_size} on {device_type}"
    try:
        child = subprocess.run(
            [sys.executable, "-c", start],
            input=to_json(request).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as problem:
        raise PlanError(f"{name} was not measured within {timeout_s:g} s; plan a smaller patch or batch") from problem
    if child.returncode == 0:
        return from_json(child.stdout.decode(), StepMeasurement, source="the measurement", error=PlanError)
    words = [line for line in child.stderr.decode(errors="replace").splitlines() if line.strip()]
    last = words[-1] if words else f"exit status {child.returncode} without a word"
    if child.returncode in (DOES_NOT_FIT, KILLED) or _tells_of_memory(last):
        return None
    raise PlanError(f"{name} failed: {last}")


def answer() -> None:
    """Be the child of ``probe_apart``: a ``ProbeRequest`` on stdin, a ``StepMeasurement`` on stdout, both as JSON."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to stderr: stdout is for the answer alone
    with suppress(OSError):  # Linux: if memory runs out, this process ends and no other of the user's
        Path("/proc/self/oom_score_adj").write_text("1000")
    request = from_json(sys.stdin.buffer.read().decode(), ProbeRequest, source="the request", error=PlanError)
    torch.set_num_threads(request.threads)
    measured = probe(request.plan, request.configuration, request.config, torch.device(request.device))
    if measured is None:
        sys.exit(DOES_NOT_FIT)
    with os.fdopen(stdout, "wb") as file:
        file.write(to_json(measured).encode())


def _two_steps(plan: Plan, configuration: Configuration, config: TrainConfig, device: torch.device) -> float:
    """Seconds of the step after the optimiser's first, when its state is there and all is warm."""
    network = build_network(plan, configuration).to(device)
    answer = Answer.to(plan.labels, device)
    learner = Learner(network, config, batch_dice=configuration.batch_dice, device=device, answer=answer)
    batch = _noise(plan, configuration, device)
    for _ in range(LONGEST_WARM_UP):
        scale = learner.scaler.get_scale()  # 1 but for float16
        learner.step(batch, config.learning_rate)
        if learner.scaler.get_scale() >= scale:  # the step was not left out
            break
    _wait_for(device)
    started = time.perf_counter()
    learner.step(batch, config.learning_rate)
    _wait_for(device)
    return time.perf_counter() - started


def _noise(plan: Plan, configuration: Configuration, device: torch.device) -> Batch:
    """Normal noise, and labels that take turns from voxel to voxel, so that each of them occurs."""
    size = (configuration.batch_size, *configuration.patch_size)
    seen = configuration.topology.seen_size(configuration.patch_size)
    channels = input_channels(plan, configuration)
    if plan.prior is not None:  # the places at which the network looks its atlas up
        channels += PLACE_CHANNELS - (len(plan.labels.structures) if plan.prior.use == "channel" else 0)
    images = torch.randn(size[0], channels, *seen, device=device)
    labels = torch.arange(math.prod(size), device=device).remainder_(plan.labels.count).view(size)
    return Batch(images=images, labels=labels)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reset_peak(device: torch.device) -> int:
    """Forget earlier peaks where that is possible; returns the bytes that do not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return 0
    import psutil

    with suppress(OSError):  # Linux: 5 resets VmHWM (man 5 proc_pid_clear_refs)
        Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def _peak_bytes(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_resident_bytes()


def _peak_resident_bytes() -> int:
    """The largest resident set that this process had, or on Linux had since the reset.

    Linux is asked for VmHWM first: ``ru_maxrss`` begins with the peak of the process that started this one.
    """
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB elsewhere


def _tells_of_memory(words: str) -> bool:
    return any(sign in words for sign in OUT_OF_MEMORY)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def _processor_name() -> str:
    with suppress(OSError):  # Linux: platform.processor() is empty or the architecture there
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
