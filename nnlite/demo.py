"""The recipe of ``nnlite demo``: what is drawn where, and the commands a user would type to make masks out of it.

Data only. The command line runs these commands through its own entry point, so that the demo cannot take a shortcut
that a user does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnlite.data.records import read_record, record, write_record
from nnlite.errors import WorkspaceError
from nnlite.workspace import RunFolder, Workspace

TRAINING_CASES = 15  # five folds of three
TEST_CASES = 3
CONFIGURATION = "3d"
FOLD = "fold0"
TRAINING_TIME = "150s"  # half of the five minutes; the rest is for the other steps and for slower machines


@record
class DemoMark:
    """The file that tells a demo's folder from any other."""

    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """Everything ``nnlite demo`` makes, below one folder.

    >>> Demo(folder=Path("nnlite_demo"), seed=0).commands()[0][:2]
    ['plan', 'nnlite_demo/phantom']
    """

    folder: Path
    seed: int

    @property
    def dataset(self) -> Path:
        """The cases that are trained on and validated with."""
        return self.folder / "phantom"

    @property
    def test(self) -> Path:
        """Cases that no training sees."""
        return self.folder / "test"

    @property
    def predictions(self) -> Path:
        """Predicted masks of the test cases."""
        return self.folder / "predictions"

    @property
    def scores(self) -> Path:
        """How the predictions compare with the truth."""
        return self.folder / "scores"

    @property
    def work(self) -> Path:
        """What is given as --work."""
        return self.folder / "work"

    @property
    def workspace(self) -> Workspace:
        """What nnlite makes out of the dataset."""
        return Workspace(root=self.work, dataset=self.dataset.name)

    @property
    def run(self) -> RunFolder:
        """The one training of the demo."""
        return self.workspace.run(CONFIGURATION, FOLD)

    def claim(self) -> None:
        """Make the folder this demo's own; refuse one that holds anything else or another seed's demo."""
        mark = self.folder / "demo.json"
        if mark.exists():
            seed = read_record(mark, DemoMark).seed
            if seed != self.seed:
                raise WorkspaceError(
                    f"{self.folder} holds the demo of seed {seed}, not {self.seed}; "
                    f"choose another folder with --out, or give --seed {seed} to continue that one"
                )
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise WorkspaceError(f"{self.folder} exists and is no demo's folder; choose another one with --out")
        write_record(mark, DemoMark(seed=self.seed))

    def commands(self) -> list[list[str]]:
        """The arguments of each ``nnlite`` command, in order; a training that was begun is resumed."""
        work = ["--work", self.work.as_posix()]
        dataset = self.dataset.as_posix()
        train = ["train", dataset, CONFIGURATION, FOLD, "--time-budget", TRAINING_TIME, "--seed", str(self.seed)]
        predict = ["predict", dataset, (self.test / "images").as_posix(), "-o", self.predictions.as_posix()]
        return [
            ["plan", dataset, "--device", "cpu", *work],
            [*train, "--device", "cpu", *work, *(["--resume"] if self.run.config.exists() else [])],
            [*predict, "--device", "cpu", *work],
            [
                *("evaluate", (self.test / "labels").as_posix(), self.predictions.as_posix()),
                *("-o", self.scores.as_posix()),
            ],
        ]
