"""What ``predict`` is given as a model, made ready: networks, rules, and what is known of how far to trust them.

A model is a dataset with trained runs, its folder in a workspace, one run's folder, or a model file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from nnlite.errors import CheckpointError, UsageError, WorkspaceError
from nnlite.evaluation.reliability import LabelCalibration
from nnlite.inference.postprocess import Postprocessing
from nnlite.inference.predict import Model
from nnlite.inference.sliding_window import WINDOW_STEP
from nnlite.networks.atlas import WithAtlas
from nnlite.networks.unet_plus_plus import UNetPlusPlus
from nnlite.pipeline.appearance import read_appearance
from nnlite.pipeline.choose_runs import choose_runs, load_models
from nnlite.pipeline.load_model import model_of
from nnlite.pipeline.model_file import ModelFile, is_model_file, read_model_file
from nnlite.pipeline.selection import read_selection
from nnlite.planning.appearance import Appearance
from nnlite.workspace import locate_run


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """The networks of each configuration that answers, and their ``folds``; the rules for their masks.

    ``selection`` is the file that chose them, None where none did; ``calibrations`` by label come from there. They hold
    for masks that are made as those of the held-out cases were: ``departures`` are options that make others.
    ``appearance`` is what the training images look like, where that is known.
    """

    models: tuple[Model, ...]
    folds: tuple[str, ...]
    postprocessing: Postprocessing
    selection: Path | None = None
    calibrations: dict[str, LabelCalibration] = field(default_factory=dict)
    departures: tuple[str, ...] = ()
    appearance: Appearance | None = None

    @property
    def configurations(self) -> tuple[str, ...]:
        """Names of the configurations, in the order of ``models``."""
        return tuple(model.configuration.name for model in self.models)

    def with_reference(self, channel: str | None) -> TrainedModel:
        """The same for images whose channels are brought to the grid of this one; as it is where none is named.

        ``UsageError`` where it is none of the model's channels.
        """
        if channel is None:
            return self
        there = self.models[0].plan.channels
        if channel not in there:
            raise UsageError(f"--resample-channels-to {channel} is no channel of this model; it has {', '.join(there)}")
        models = (replace(model, plan=replace(model.plan, reference_channel=channel)) for model in self.models)
        return replace(self, models=tuple(models))

    def departing(self, option: str) -> TrainedModel:
        """The same with an option whose masks are not those that a Dice to expect was fitted to: none is told."""
        return replace(self, calibrations={}, departures=(*self.departures, option))

    def with_depth(self, depth: int | None) -> TrainedModel:
        """The same with its U-Net++ pruned to ``depth``; as it is where none is named.

        The first stage of a cascade is pruned with the second. The Dice to expect was measured at full depth, and is
        told of no other. ``UsageError`` for networks of another architecture, and for depths that they do not have.
        """
        if depth is None:
            return self
        pruned = []
        for model in (stage for one in self.models for stage in (one, one.previous) if stage is not None):
            name, topology = model.configuration.name, model.configuration.topology
            for whole in model.networks:
                network = whole.network if isinstance(whole, WithAtlas) else whole
                if not isinstance(network, UNetPlusPlus):
                    raise UsageError(
                        f"--depth {depth} prunes a unet++, and {name} is a {topology.architecture}; leave --depth out"
                    )
                if not 1 <= depth <= network.deepest:
                    raise UsageError(
                        f"--depth {depth} is none of the depths of {name}; give one from 1 to {network.deepest}"
                    )
                pruned.append(network)
        for network in pruned:
            network.depth = depth
        return self if all(depth == network.deepest for network in pruned) else self.departing(f"--depth {depth}")


def open_model(
    model: Path,
    work: Path,
    configuration: str | None = None,
    folds: Sequence[str] = (),
    *,
    device: torch.device,
    mirroring: bool = True,
    step: float = WINDOW_STEP,
    exact: bool = False,
) -> TrainedModel:
    """Load what ``model`` means; ``configuration`` and ``folds`` choose among its runs as in ``choose_runs``."""
    if is_model_file(model):
        build = partial(model_of, device=device, mirroring=mirroring, step=step, exact=exact)
        return _of_file(read_model_file(model), configuration, folds, build)
    chosen = choose_runs(model, work, configuration, folds)
    calibrations: dict[str, LabelCalibration] = {}
    appearance = None
    try:
        workspace, _ = locate_run(chosen.members[0][0].folder)
    except WorkspaceError:  # a run that was moved on its own
        workspace = None
    if workspace is not None:
        appearance = read_appearance(workspace)
        selection = read_selection(workspace) if chosen.selection else None
        calibrations = selection.reliability if selection else {}
    return TrainedModel(
        models=load_models(chosen, device=device, mirroring=mirroring, step=step, exact=exact),
        folds=chosen.folds,
        postprocessing=chosen.postprocessing,
        selection=chosen.selection,
        calibrations=calibrations,
        appearance=appearance,
    )


def _of_file(
    file: ModelFile, configuration: str | None, folds: Sequence[str], build: Callable[..., Model]
) -> TrainedModel:
    """The model of a file; a named configuration answers alone, as it does in a workspace."""
    about = file.model
    selected = about.selected is not None and configuration is None
    members = about.members if configuration is None else (configuration,)
    if configuration is not None and not about.folds_of(configuration):
        there = ", ".join(dict.fromkeys(run.configuration for run in about.runs))
        raise UsageError(f'no network of "{configuration}" is in {file.archive.path}; there are {there}')
    as_exported = configuration is None or configuration in about.members
    wanted = tuple(folds) or (about.folds if as_exported else about.folds_of(members[0]))
    ruled = configuration is None or (as_exported and about.selected is None)
    return TrainedModel(
        models=tuple(_built(file, name, wanted, build) for name in members),
        folds=wanted,
        postprocessing=about.postprocessing if ruled else Postprocessing(),
        selection=file.archive.path if selected else None,
        calibrations=about.reliability if selected else {},
        appearance=file.appearance,
    )


def _built(file: ModelFile, configuration: str, folds: Sequence[str], build: Callable[..., Model]) -> Model:
    """The networks of one configuration, with their first stage where they are the second of a cascade."""
    runs = [run for run in file.model.runs if run.configuration == configuration and run.fold in folds]
    if missing := sorted(set(folds) - {run.fold for run in runs}):
        there = ", ".join(file.model.folds_of(configuration))
        raise UsageError(f"{configuration} {', '.join(missing)} is not in {file.archive.path}; there are {there}")
    model = build((file.checkpoint(run), file.source(run)) for run in runs)
    stage = model.configuration.previous_stage
    if stage is None:
        return model
    first = file.model.folds_of(stage)
    if not first:
        raise CheckpointError(f"{file.archive.path} has no networks of {stage}, which {configuration} continues from")
    return replace(model, previous=_built(file, stage, first, build))
