"""Whatever a model file holds, opening it ends with a model or a message; no code is run, nothing written outside."""

from __future__ import annotations

import resource
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hostile_files import CPU, MARKER, hostile_files, write_real_ones

from nnlite.errors import NnliteError
from nnlite.pipeline.import_model import import_nnunet
from nnlite.pipeline.trained_model import open_model
from nnlite.training.checkpoint import load_model
from nnlite.training.state_file import load_state

FEWEST = 200
MEMORY_MB = 200  # a bomb that went off, or a tensor of which only the header exists, would take thousands

DOORS: dict[str, Callable[[Path], object]] = {
    "model": load_model,
    "state": lambda path: load_state(path, CPU),
    "archive": lambda path: open_model(path, Path("no-workspace"), device=CPU),
    "nnunet": lambda path: import_nnunet([path], Path("imported")),
}


@pytest.fixture
def real(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    folder.mkdir()
    write_real_ones(folder)
    return folder


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def everything_in(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("door", DOORS)
def test_the_files_that_all_others_are_made_from_are_read(door: str, real: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(real)
    (real / "archive").rename(real / "archive.nnlite")
    DOORS[door](real / ("archive.nnlite" if door == "archive" else door))


@pytest.mark.filterwarnings("ignore")  # torch and zipfile remark upon some of them while they are made
def test_hundreds_of_damaged_and_hostile_files_are_refused(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cases, faults = hostile_files(real), []
    before = everything_in(tmp_path)
    inside = tmp_path / "inside"
    for case in cases:
        inside.mkdir()
        monkeypatch.chdir(inside)
        path = inside / ("hostile.nnlite" if case.door == "archive" else "hostile")
        case.make(path)
        lies, memory = everything_in(inside), peak_mb()
        try:
            DOORS[case.door](path)
            faults.append(f"{case.door}, {case.name}: opened")
        except NnliteError as error:
            if not str(error):
                faults.append(f"{case.door}, {case.name}: refused without a message")
        except BaseException as error:
            faults.append(f"{case.door}, {case.name}: {type(error).__name__}: {error}"[:300])
        if everything_in(inside) != lies or (inside / MARKER).exists():
            faults.append(f"{case.door}, {case.name}: something was written")
        if peak_mb() - memory > MEMORY_MB:
            faults.append(f"{case.door}, {case.name}: took {peak_mb() - memory:.0f} MB")
        shutil.rmtree(inside)
    assert faults == []
    assert everything_in(tmp_path) == before
    counts = Counter(case.door for case in cases)
    assert counts.keys() == DOORS.keys()
    assert sum(counts.values()) == len({(case.door, case.name) for case in cases}) >= FEWEST


def test_the_payload_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Read without care, each of them leaves its mark: that the files above leave none says something."""
    import pickle

    from hostile_files import PAYLOADS, Payload

    monkeypatch.chdir(tmp_path)
    for number in range(PAYLOADS):
        torch.save(Payload(number), "careless.pt")
        torch.load("careless.pt", weights_only=False)
        assert Path(MARKER).exists()
        Path(MARKER).unlink()
        pickle.loads(pickle.dumps(Payload(number)))
        assert Path(MARKER).exists()
        Path(MARKER).unlink()
