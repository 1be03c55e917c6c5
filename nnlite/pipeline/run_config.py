"""What a training was asked for, as it stands in the config.json of its run."""

from __future__ import annotations

from nnlite.data.records import record
from nnlite.planning.planner import Plan
from nnlite.training.config import TrainConfig
from nnlite.training.initial_weights import InitialWeights


@record
class RunConfig:
    """What a training was asked for, and what it ran on."""

    plan: Plan
    configuration: str
    fold: str
    train: TrainConfig
    device: str
    versions: dict[str, str]
    initial: InitialWeights | None = None  # None: all weights were drawn
