"""Begin a training with the weights of a model: find the network of it that fits best, and hold to it on the way.

The model is a model file, an imported model, the folder of a run, or another dataset of a workspace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from nnlite.data.records import read_record
from nnlite.errors import CheckpointError, UsageError
from nnlite.networks.build import weight_shapes
from nnlite.pipeline.choose_runs import finished_runs
from nnlite.pipeline.model_file import is_model_file, read_model_file
from nnlite.pipeline.run_config import RunConfig
from nnlite.pipeline.run_status import ALL
from nnlite.planning.variants import parted
from nnlite.training.checkpoint import Checkpoint, load_model
from nnlite.training.initial_weights import InitialWeights, describe, learned, matching
from nnlite.workspace import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """A trained network of a model: the file it lies in, and how it is read."""

    configuration: str
    fold: str
    file: Path
    read: Callable[[], Checkpoint]


def initialised(
    job: RunConfig,
    model: Path | None,
    work: Path,
    *,
    like: InitialWeights | None,
    told: Callable[[InitialWeights], None],
) -> RunConfig:
    """A new job with a note of the weights it begins with, which ``told`` is given, too.

    Without a ``model`` it begins ``like`` the first fold of its variant: with the same one. As it is without either.
    """
    if model is None:
        if like is None:
            return job
        model = Path(like.model)
    initial = _best_fit(model, work, job, like, job.fold)
    logger.info("%s %s begins with %s", job.configuration, job.fold, initial.in_words())
    told(initial)
    return replace(job, initial=initial)


def require_same_weights(run: RunFolder, model: Path, work: Path) -> None:
    """``UsageError`` where a training, finished or not, was begun with other weights than those of ``model``."""
    job = read_record(run.config, RunConfig)
    initial = _best_fit(model, work, job, job.initial, job.fold if job.initial is None else job.initial.fold)
    if job.initial is None or job.initial.digest != initial.digest:
        before = "freshly drawn weights" if job.initial is None else f"{job.initial.in_words()} ({job.initial.source})"
        raise UsageError(
            f"{run.configuration} {run.fold} was begun with {before}, not with {initial.in_words()} "
            f"({initial.source}), and that cannot change on the way: leave --init-from out to go on with it, train "
            f"{parted(run.configuration)[0]}@NAME beside it, or delete {run.folder} to begin anew"
        )


def weights_to_begin_with(job: RunConfig) -> dict[str, Tensor]:
    """The weights that a job which has no state yet begins with; none where all are to be drawn.

    ``CheckpointError`` where the file that they were to come from holds other ones by now.
    """
    noted = job.initial
    if noted is None:
        return {}
    needed = weight_shapes(job.plan, job.plan.configuration(job.configuration))
    wanted = (noted.configuration, noted.fold)
    for network in _networks(Path(noted.source), Path()):
        if (network.configuration, network.fold) == wanted:
            checkpoint = network.read()
            if describe(checkpoint, noted.source, needed).digest == noted.digest:
                return matching(checkpoint.weights, needed)
    raise CheckpointError(
        f"{job.configuration} {job.fold} was to begin with {noted.in_words()}, but {noted.source} holds other ones by "
        "now; put the file back, or delete the folder of the run to begin anew"
    )


def _best_fit(model: Path, work: Path, job: RunConfig, like: InitialWeights | None, fold: str) -> InitialWeights:
    """The network to begin with: of the same name, else of its configuration, else the one of which most fits.

    Of its folds the one called ``fold``, else the first: for a new job that of its own name, which has not seen the
    cases that are held out here either, for one that was begun that of which it began, whatever was trained since.
    What begins ``like`` another fold takes the configuration that this one took.
    """
    plan, configuration = job.plan, job.plan.configuration(job.configuration)
    networks = _networks(model, work)
    wanted = configuration.name if like is None else like.configuration
    kind = parted(wanted)[0]
    same = (
        [one for one in networks if one.configuration == wanted]
        or [one for one in networks if one.configuration == kind]
        or [one for one in networks if parted(one.configuration)[0] == kind]
    )
    by_configuration: dict[str, _Trained] = {}
    for network in same or networks:
        if network.configuration not in by_configuration or network.fold == fold:
            by_configuration[network.configuration] = network
    needed = weight_shapes(plan, configuration)
    found = [describe(network.read(), str(network.file.resolve()), needed) for network in by_configuration.values()]
    best = max(found, key=lambda one: one.parameters)
    kernels = [
        name for name, shape in learned(needed).items() if len(shape) > 1
    ]  # biases and norms alone are no knowledge
    if set(kernels) <= set(best.fresh):
        raise UsageError(
            f"none of the {len(kernels)} kernels of {plan.dataset} {configuration.name} has the name and shape of one "
            f"in {model} ({', '.join(by_configuration)}); train without --init-from, or plan with --from the plan of "
            "that model"
        )
    if best.dataset == plan.dataset and job.fold not in (best.fold, ALL):  # all holds nothing out
        remark = (
            f"{best.fold} may have been trained on cases that {job.fold} holds out: its scores then promise too much"
        )
        best = replace(best, remark=remark)
    named = model.absolute() if model.exists() else model  # else it is a name in the workspace
    return replace(best, model=str(named))


def _networks(model: Path, work: Path) -> list[_Trained]:
    """All trained networks of a model, a dataset, or a single file of weights."""
    if is_model_file(model):
        file = read_model_file(model)
        return [
            _Trained(configuration=run.configuration, fold=run.fold, file=model, read=partial(file.checkpoint, run))
            for run in file.model.runs
        ]
    if model.suffix == ".safetensors":
        card = load_model(model).card
        read = partial(load_model, model)
        return [_Trained(configuration=card.configuration, fold=card.fold, file=model, read=read)]
    return [
        _Trained(
            configuration=name, fold=run.fold, file=run.checkpoint_final, read=partial(load_model, run.checkpoint_final)
        )
        for name, runs in finished_runs(model, work).items()
        for run in runs
    ]
