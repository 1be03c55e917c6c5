"""Every path on disk, and nothing else: where plans, cases, runs and their scores lie.

Reads nothing and makes nothing; whoever writes a file asks here for its place, so that one page tells the whole layout:

    WORK/<dataset>/   nnlite.json  dataset.json  fingerprint.json  appearance.json  splits.json
                      plan.json  plan@<variant>.json
                      selecting.lock  cases/preprocessing.lock  cases/<configuration>/   in-use/
                      runs/<configuration>/   postprocessing.json
                      runs/<configuration>/<fold>/   config.json  log.jsonl  progress.png  checkpoint_*
                                                     tracking.json  training.lock  validation/  scores.csv
                                                     scores.json  reliability.json
                                                     instances.csv  instances.json
                      ensembles/<configuration>+<configuration>/   members.json  validation/  scores.csv  scores.json
                                                                   reliability.json
                      selection.json  crf/  reliability.json  report.html  tracking/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnlite.errors import WorkspaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """The files of one training: one configuration, one fold."""

    folder: Path

    @property
    def configuration(self) -> str:
        """Name of the configuration that is trained here, e.g. "3d"."""
        return self.folder.absolute().parent.name

    @property
    def fold(self) -> str:
        """Name of the fold that is held out here, e.g. "fold0", or "all" where none is."""
        return self.folder.absolute().name

    @property
    def config(self) -> Path:
        """What the training was asked for: length, seed, device, versions."""
        return self.folder / "config.json"

    @property
    def lock(self) -> Path:
        """Which process trains here; there only as long as one does."""
        return self.folder / "training.lock"

    @property
    def log(self) -> Path:
        """One JSON object per epoch."""
        return self.folder / "log.jsonl"

    @property
    def tracking(self) -> Path:
        """How far each tracker has come with this training; there only where one was asked for."""
        return self.folder / "tracking.json"

    @property
    def plot(self) -> Path:
        """The course of the training as a picture."""
        return self.folder / "progress.png"

    @property
    def checkpoint_best(self) -> Path:
        """The model of the epoch with the highest moving average of the pseudo Dice."""
        return self.folder / "checkpoint_best.safetensors"

    @property
    def checkpoint_last(self) -> Path:
        """The newest state, with all that is needed to continue exactly; read with ``weights_only=True``."""
        return self.folder / "checkpoint_last.pt"

    @property
    def checkpoint_previous(self) -> Path:
        """The state before that, for the case that the newest one is damaged."""
        return self.folder / "checkpoint_previous.pt"

    @property
    def checkpoint_final(self) -> Path:
        """The model at the end of a finished training; its presence says that the training is finished."""
        return self.folder / "checkpoint_final.safetensors"

    @property
    def validation(self) -> Path:
        """Folder of the predicted masks of the held-out cases."""
        return self.folder / "validation"

    @property
    def scores(self) -> Path:
        """Scores of the held-out cases, one row per case and label."""
        return self.folder / "scores.csv"

    @property
    def summary(self) -> Path:
        """The same scores with their means and medians."""
        return self.folder / "scores.json"

    @property
    def reliability(self) -> Path:
        """What was measured of the held-out cases while they were predicted, by case and label."""
        return self.folder / "reliability.json"

    @property
    def instance_scores(self) -> Path:
        """Scores of the single objects in the held-out cases, one row per case; only where they are told apart."""
        return self.folder / "instances.csv"

    @property
    def instance_summary(self) -> Path:
        """The same over all held-out cases."""
        return self.folder / "instances.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleFolder:
    """What several configurations together predicted for the cases that their folds held out."""

    folder: Path

    @property
    def members(self) -> Path:
        """The trainings whose networks answered together."""
        return self.folder / "members.json"

    @property
    def validation(self) -> Path:
        """Folder of the predicted masks of all held-out cases."""
        return self.folder / "validation"

    @property
    def scores(self) -> Path:
        """Scores of the held-out cases, one row per case and label."""
        return self.folder / "scores.csv"

    @property
    def summary(self) -> Path:
        """The same scores with their means and medians."""
        return self.folder / "scores.json"

    @property
    def reliability(self) -> Path:
        """What was measured of the held-out cases while they were predicted, by case and label."""
        return self.folder / "reliability.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """All that nnlite makes out of one dataset.

    >>> workspace = Workspace(root=Path("nnlite_work"), dataset="hippocampus")
    >>> workspace.run("3d", "fold0").scores.as_posix()
    'nnlite_work/hippocampus/runs/3d/fold0/scores.csv'
    """

    root: Path
    dataset: str

    def __post_init__(self) -> None:
        if Path(self.dataset).name != self.dataset or self.dataset in ("", ".", ".."):
            raise WorkspaceError(
                f'a dataset named "{self.dataset}" cannot have a folder in {self.root}; '
                'give it a plain "name" in its nnlite.json'
            )

    @property
    def folder(self) -> Path:
        """Everything of this dataset lies below it."""
        return self.root / self.dataset

    @property
    def description(self) -> Path:
        """An nnlite.json for datasets that lie where their user cannot write."""
        return self.folder / "nnlite.json"

    @property
    def source(self) -> Path:
        """Which dataset all this was made from, and the state of its files."""
        return self.folder / "dataset.json"

    @property
    def fingerprint(self) -> Path:
        """What the dataset is like."""
        return self.folder / "fingerprint.json"

    @property
    def appearance(self) -> Path:
        """What its images look like, to compare new ones with."""
        return self.folder / "appearance.json"

    @property
    def plan(self) -> Path:
        """What was decided, and why."""
        return self.folder / "plan.json"

    def plan_of(self, variant: str | None) -> Path:
        """What was decided for a variant; there only where something was decided for it. None is the dataset's plan."""
        return self.plan if variant is None else self.folder / f"plan@{variant}.json"

    def planned_variants(self) -> tuple[str, ...]:
        """Names of the variants for which something was decided, in alphabetical order."""
        return tuple(sorted(path.name[len("plan@") : -len(".json")] for path in self.folder.glob("plan@*.json")))

    @property
    def splits(self) -> Path:
        """Which cases are trained on and which are held out, fold by fold."""
        return self.folder / "splits.json"

    @property
    def runs(self) -> Path:
        """Folder of all trainings."""
        return self.folder / "runs"

    @property
    def selection(self) -> Path:
        """Which configuration or ensemble is the model, with which postprocessing, and the numbers that say so."""
        return self.folder / "selection.json"

    @property
    def crf(self) -> Path:
        """Folder of the masks that a dense CRF made of held-out cases; there only where one was selected."""
        return self.folder / "crf"

    @property
    def report(self) -> Path:
        """All of this as one page."""
        return self.folder / "report.html"

    @property
    def reliability(self) -> Path:
        """Expected and true Dice of the held-out cases of what was selected, by case and label."""
        return self.folder / "reliability.json"

    @property
    def tracking(self) -> Path:
        """Folder of what TensorBoard, MLflow and W&B keep of all trainings, where that is asked for."""
        return self.folder / "tracking"

    def cases(self, configuration: str) -> Path:
        """Folder of the preprocessed cases of one configuration."""
        return self.folder / "cases" / configuration

    @property
    def preprocessing_lock(self) -> Path:
        """Which process preprocesses; there only as long as one does."""
        return self.folder / "cases" / "preprocessing.lock"

    @property
    def selecting_lock(self) -> Path:
        """Which process selects; there only as long as one does."""
        return self.folder / "selecting.lock"

    def cases_in_use(self, configuration: str) -> Path:
        """Folder of a small file for each process that reads the preprocessed cases of a configuration."""
        return self.cases(configuration) / "in-use"

    def run(self, configuration: str, fold: str) -> RunFolder:
        """The place of one training, whether it exists or not."""
        return RunFolder(folder=self.runs / configuration / fold)

    def ensemble(self, configurations: Sequence[str]) -> EnsembleFolder:
        """The place of an ensemble's predictions for held-out cases.

        >>> Workspace(root=Path("work"), dataset="brain").ensemble(("2d", "3d")).folder.as_posix()
        'work/brain/ensembles/2d+3d'
        """
        return EnsembleFolder(folder=self.folder / "ensembles" / "+".join(configurations))

    def postprocessing(self, configuration: str) -> Path:
        """The rules that an imported configuration brought along; there only where it did."""
        return self.runs / configuration / "postprocessing.json"

    def existing_runs(self) -> tuple[RunFolder, ...]:
        """Trainings that were started, ordered by configuration and fold."""
        return tuple(RunFolder(folder=config.parent) for config in sorted(self.runs.glob("*/*/config.json")))


def locate_run(folder: Path) -> tuple[Workspace, RunFolder]:
    """The workspace a run's folder belongs to: the way back from ``Workspace.run``.

    >>> workspace, run = locate_run(Path("/data/work/hippocampus/runs/3d/fold0"))
    >>> workspace.root.as_posix(), workspace.dataset, run.configuration, run.fold
    ('/data/work', 'hippocampus', '3d', 'fold0')
    """
    run = RunFolder(folder=folder.absolute())
    runs = run.folder.parent.parent
    if runs.name != "runs":
        raise WorkspaceError(
            f"{folder} is not the folder of a run; runs lie in WORK/DATASET/runs/CONFIG/FOLD, "
            "for example nnlite_work/hippocampus/runs/3d/fold0"
        )
    return Workspace(root=runs.parent.parent, dataset=runs.parent.name), run
