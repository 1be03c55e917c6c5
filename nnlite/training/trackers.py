"""TensorBoard, MLflow and Weights & Biases as trackers; each is an optional extra, loaded when it is asked for.

What they write without a server lies in the folder for trackers of the dataset. Where a server is, MLflow and W&B are
told in their own way (MLFLOW_TRACKING_URI; wandb login, WANDB_MODE): nnlite has no settings for that.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnlite.errors import UsageError
from nnlite.training.tracking import TrackedRun

if TYPE_CHECKING:
    from nnlite.training.tracking import Tracker

NOT_IN_MLFLOW = re.compile(r"[^\w\-. :/]")  # what MLflow refuses in the name of a metric


class TensorBoardTracker:
    """Event files in ``tensorboard/<configuration>/<fold>``; see them with ``tensorboard --logdir``."""

    name = "tensorboard"

    def __init__(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer_class: Callable[..., Any] = SummaryWriter
        self._writer: Any = None

    def start(self, run: TrackedRun) -> None:
        """Open a new event file; from the step on that comes next it hides what older ones say."""
        place = run.folder / self.name / run.configuration / run.fold
        self._writer = self._writer_class(log_dir=str(place), purge_step=run.epochs)
        rows = [f"| {name} | {value} |" for name, value in run.settings.items()]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *rows]), run.epochs)
        self._writer.flush()

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """One scalar per metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, number)
        self._writer.flush()

    scores = epoch

    def end(self, *, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()


class MLflowTracker:
    """One experiment per dataset, one run per fold; in ``mlflow.db`` unless MLFLOW_TRACKING_URI names a server."""

    name = "mlflow"

    def __init__(self) -> None:
        import mlflow
        from mlflow.entities import Metric, Param

        self._local = not mlflow.is_tracking_uri_set()
        self._client_class: Callable[..., Any] = mlflow.MlflowClient
        self._metric: Callable[..., Any] = Metric
        self._param: Callable[..., Any] = Param
        self._client: Any = None
        self._run_id = ""

    def start(self, run: TrackedRun) -> str:
        """Begin a run with its settings, or open it again; settings of a begun one cannot change in MLflow."""
        run.folder.mkdir(parents=True, exist_ok=True)
        store = f"sqlite:///{(run.folder / 'mlflow.db').absolute().as_posix()}"  # files alone are no longer taken
        self._client = self._client_class(tracking_uri=store if self._local else None)
        if run.run_id is not None:
            self._client.update_run(run.run_id, status="RUNNING")
            self._run_id = run.run_id
            return self._run_id
        known = self._client.get_experiment_by_name(run.dataset)
        experiment = known.experiment_id if known else self._client.create_experiment(run.dataset)
        self._run_id = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        parameters = [self._param(name, str(value)) for name, value in run.settings.items()]
        self._client.log_batch(self._run_id, params=parameters)
        return self._run_id

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """All metrics in one request."""
        now_ms = round(time.time() * 1000)
        batch = [self._metric(NOT_IN_MLFLOW.sub("_", name), value, now_ms, number) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=batch)

    scores = epoch

    def end(self, *, finished: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run_id, status="FINISHED" if finished else "KILLED")


class WandbTracker:
    """One run per fold, in the project that WANDB_PROJECT names, else in one named after the dataset."""

    name = "wandb"

    def __init__(self) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run: Any = None

    def start(self, run: TrackedRun) -> str:
        """Begin a run, or go on with it; without a network, WANDB_MODE=offline keeps it for ``wandb sync``."""
        run_id = run.run_id or uuid.uuid4().hex[:8]  # as long as those that W&B makes
        run.folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=self._wandb.setup().settings.project or run.dataset,
            group=run.configuration,
            name=run.name,
            id=run_id,
            resume="allow",
            config=dict(run.settings),
            allow_val_change=True,
            dir=str(run.folder),
            settings=self._wandb.Settings(console="off"),  # progress bars are no log
        )
        return run_id

    def epoch(self, number: int, metrics: Mapping[str, float]) -> None:
        """One row of the run's history."""
        self._run.log(dict(metrics), step=number, commit=True)

    def scores(self, number: int, metrics: Mapping[str, float]) -> None:
        """Scores belong to the whole run, so they stand in its summary."""
        self._run.summary.update(dict(metrics))

    def end(self, *, finished: bool) -> None:
        """Wait until everything is handed over."""
        self._run.finish(exit_code=0 if finished else 1)


TRACKERS: Mapping[str, Callable[[], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}


def tracker_named(name: str) -> Tracker:
    """A tracker by its name; ``UsageError`` if there is none, or if its package is not installed."""
    if name not in TRACKERS:
        raise UsageError(f'there is no tracker "{name}"; --track takes {", ".join(TRACKERS)}')
    try:
        return TRACKERS[name]()
    except ImportError as problem:
        raise UsageError(
            f"--track {name} needs a package that is not installed here ({problem}); "
            f'install it with: pip install "nnlite[{name}]"'
        ) from problem
