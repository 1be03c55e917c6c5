"""SIGTERM and Ctrl-C are requests to a training, and ends to everything else, each with its exit status."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_pipeline import FakePipeline, nn

from nnlite.cli.signals import StopRequest, Terminated, stoppable
from nnlite.errors import StoppedError


def send(number: int):
    """A verb during which this process gets a signal, and which then does as a training does."""

    def verb(*arguments: object, stop: StopRequest | None = None, **options: object) -> tuple:
        os.kill(os.getpid(), number)
        if stop is not None and stop():
            raise StoppedError("3d fold0 was stopped after 4 epochs, and is saved")
        return ()

    return verb


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_training_saves_and_ends_with_the_status_of_the_signal(pipeline: FakePipeline, number: int, status: int):
    pipeline.answers["train"] = send(number)
    shown = nn("train", "brain", "3d", "fold0")
    assert shown.exit_code == status
    assert "3d fold0 was stopped after 4 epochs, and is saved; finished work is kept" in shown.stderr
    assert shown.stderr.rstrip().endswith("To go on: nnlite train brain 3d fold0")


def test_sigterm_ends_every_other_command_calmly(pipeline: FakePipeline):
    pipeline.answers["preprocess"] = send(signal.SIGTERM)
    shown = nn("preprocess", "brain")
    assert shown.exit_code == 143
    assert shown.stderr.rstrip().endswith("interrupted; finished work is kept. To go on: nnlite preprocess brain")


def test_a_second_ctrl_c_ends_at_once():
    with stoppable() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_afterwards_signals_mean_what_they_meant_before():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stoppable():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_request_without_a_signal_is_as_ctrl_c():
    assert not isinstance(StopRequest().interruption(StoppedError("so")), Terminated)


def test_a_real_training_that_gets_sigterm_is_saved_and_goes_on(balls: Path, trained_work: Path, tmp_path: Path):
    work = shutil.copytree(trained_work, tmp_path / "work")
    command = [
        sys.executable,
        "-m",
        "nnlite",
        "train",
        str(balls),
        "3d",
        "fold3",
        "--device",
        "cpu",
        "--work",
        str(work),
    ]
    log = work / "balls" / "runs" / "3d" / "fold3" / "log.jsonl"
    with subprocess.Popen([*command, "--epochs", "500", "--iterations", "2"], stderr=subprocess.PIPE, text=True) as one:
        while not (log.exists() and log.read_text()) and one.poll() is None:
            time.sleep(0.05)
        one.terminate()
        said = one.communicate()[1]
    assert one.returncode == 143
    assert "balls 3d fold3 was stopped after" in said
    assert "and is saved" in said
    assert not list(log.parent.glob("*.lock"))
    nn("train", str(balls), "3d", "fold3", "--epochs", "1", "--iterations", "2", "--resume", "--work", str(work))
