"""From an image to its label mask: preprocess, slide the window, average the folds, restore.

Knows nothing of files. The model stays loaded over any number of cases, and what one case needs beside its image is its
preprocessed version, a band of logits as deep as a window, and the mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nnlite.data.image import Image
from nnlite.data.progress import Progress, silent
from nnlite.errors import CheckpointError
from nnlite.inference.arithmetic import Arithmetic
from nnlite.inference.overlap_tiles import OverlapTiles
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.inference.sliding_window import WINDOW_STEP, Comparison, Surround, predict_slabs, zeros_around
from nnlite.networks.blocks import without_shortcuts
from nnlite.networks.inputs import stack_previous
from nnlite.planning.mirroring import exchange
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.places import PLACE_CHANNELS, places
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.restore import KeepProbabilities, Logits, restore_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Trained networks of one configuration, one per fold, with all that is needed to use them.

    The networks are moved to ``device`` and set to evaluation mode. ``mirror_axes`` count the axes of the patch and are
    those along which every fold was mirrored in training; none means no mirroring. ``arithmetic`` is how it is to be
    computed. ``previous`` is the first stage of a cascade.
    """

    plan: Plan
    configuration: Configuration
    networks: tuple[nn.Module, ...]
    device: torch.device
    mirror_axes: tuple[int, ...] = ()
    step: float = WINDOW_STEP
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    previous: Model | None = None

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError("a model needs the network of one fold at least")
        for network in self.networks:
            network.to(self.device).eval()
            if self.arithmetic.no_shortcuts:
                without_shortcuts(network)

    def mean_logits(self, batch: Tensor, compare: Comparison | None = None) -> Tensor:
        """Mean float32 logits of the folds; blending is linear, so this equals the mean over whole cases.

        The second stage of a cascade is given the label indices of the first as the last channel of ``batch``. They
        become a channel per label here, within the window: for the whole image those would fill the memory. Where there
        are several folds, ``compare`` is told what each of them says.
        """
        if self.configuration.previous_stage is not None:
            batch = stack_previous(batch[:, :-1], batch[:, -1], self.plan.labels.count)
        if len(self.networks) == 1:
            return self.networks[0](batch).float()
        total = self.networks[0](batch).to(torch.float32, copy=True)
        answers = [compare.answer(total)] if compare else []
        for network in self.networks[1:]:
            logits = network(batch)
            total += logits
            if compare:
                answers.append(compare.answer(logits))
            del logits  # before the next network needs room
        if compare:
            compare.add(answers, compare.answer(total))
        return total.div_(len(self.networks))

    def folds(self) -> tuple[Model, ...]:
        """Each fold as a model of its own."""
        return tuple(replace(self, networks=(network,)) for network in self.networks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One case on its image's own grid: label indices (z, y, x)."""

    case_id: str
    indices: np.ndarray


class ReadyCase(Protocol):
    """What prediction needs of a preprocessed case, be it in memory or stored on disk."""

    @property
    def image(self) -> np.ndarray:
        """(channels, z, y, x)"""

    @property
    def previous(self) -> np.ndarray | None:
        """Label indices (z, y, x) of the first stage of a cascade."""

    @property
    def restoration(self) -> Restoration:
        """The way back to the grid of the image."""


def predict_image(
    model: Model,
    case_id: str,
    image: Image,
    *,
    keep_probabilities: KeepProbabilities | None = None,
    progress: Progress = silent,
) -> Prediction:
    """Predict a raw image: the mask comes back on the very grid of ``image``.

    ``keep_probabilities`` is given the probabilities as they are finished, some slices at a time. The second stage of a
    cascade first predicts the low-resolution stage. Raises ``ImageError`` when the image does not fit the plan,
    ``CheckpointError`` when a cascade lacks its first stage.
    """
    case = ready_case(model, case_id, image, progress=progress)
    indices = predict_case(model, case, keep_probabilities=keep_probabilities, progress=progress)
    return Prediction(case_id=case_id, indices=model.plan.labels.without_border(indices))


@torch.inference_mode()
def ready_case(model: Model, case_id: str, image: Image, *, progress: Progress = silent) -> PreprocessedCase:
    """The image as the model's configuration wants it; for a cascade its first stage is predicted. See above."""
    configuration = model.configuration
    previous: np.ndarray | None = None
    if configuration.previous_stage is not None:
        if model.previous is None:
            raise CheckpointError(
                f"{configuration.name} continues from {configuration.previous_stage}, which is not there; "
                f"train {configuration.previous_stage} as well"
            )
        previous = predict_image(model.previous, case_id, image, progress=progress).indices  # without borders
    return model.arithmetic.preprocess(
        case_id,
        image.array,
        image.geometry.spacing_mm,
        model.plan,
        configuration,
        previous=previous,
        device=model.device,
    )


@torch.inference_mode()
def predict_case(
    model: Model,
    case: ReadyCase,
    *,
    keep_probabilities: KeepProbabilities | None = None,
    meter: ReliabilityMeter | None = None,
    progress: Progress = silent,
) -> np.ndarray:
    """Label indices (z, y, x) of a preprocessed case on the grid of its image; uint8, or int16 beyond 256 labels.

    ``meter`` measures on the network's grid how far they can be trusted. The border of instances, where it was learned,
    has its own index (``Labels.border_index``).
    """
    slabs = logit_slabs(model, case, meter=meter, progress=progress)
    if meter is not None:
        slabs = meter.passing(slabs)
    logits, restoration = model.arithmetic.restore(slabs, case.restoration)
    decision = Decision.by(model.plan.labels)
    return restore_labels(logits, restoration, decision=decision, keep_probabilities=keep_probabilities)


def restorable_logits(
    model: Model, case: ReadyCase, *, meter: ReliabilityMeter | None = None, progress: Progress = silent
) -> tuple[Logits, Restoration]:
    """Logits of a preprocessed case, averaged over the folds, and how they come back to the grid of the image."""
    slabs = logit_slabs(model, case, meter=meter, progress=progress)
    return model.arithmetic.restore(slabs, case.restoration)


def logit_slabs(
    model: Model, case: ReadyCase, *, meter: ReliabilityMeter | None = None, progress: Progress = silent
) -> Iterator[Tensor]:
    """Logits of a preprocessed case on its own grid, averaged over the folds: the slabs of ``predict_slabs``.

    ``meter`` is told what folds and flips say, window by window, or slab by slab where folds are blended apart.
    """
    image = torch.from_numpy(np.array(case.image, dtype=np.float32))  # a copy: a stored case is a read-only memory map
    surround: Surround = zeros_around
    if model.plan.prior is not None:
        where = places(case.restoration, (0, 0, 0), case.image.shape[1:])
        surround = partial(_places_around, case.restoration, len(image))
        image = torch.cat([image, torch.from_numpy(where)])
    if model.configuration.previous_stage is not None:
        if case.previous is None:
            raise ValueError(f"{model.configuration.name} needs the previous stage's prediction in each case")
        image = torch.cat([image, torch.from_numpy(np.array(case.previous, dtype=np.float32))[None]])
    if not model.arithmetic.folds_apart or len(model.networks) == 1:
        return _slabs(model, image, surround, meter, progress)
    *others, last = model.folds()
    streams = [_slabs(fold, image, surround, meter, silent) for fold in others]
    streams.append(_slabs(last, image, surround, meter, progress))
    return _mean_slabs(streams, compare=meter.folds if meter else None)


def _places_around(
    restoration: Restoration, channels: int, image: Tensor, before: Sequence[int], after: Sequence[int]
) -> Tensor:
    """The image with 0 around it, but for places, which follow its ``channels`` and go on as they do inside."""
    surrounded = zeros_around(image, before, after)
    where = places(restoration, [-voxels for voxels in before], surrounded.shape[1:])
    surrounded[channels : channels + PLACE_CHANNELS] = torch.from_numpy(where)
    return surrounded


def _slabs(
    model: Model, image: Tensor, surround: Surround, meter: ReliabilityMeter | None, progress: Progress
) -> Iterator[Tensor]:
    """The slabs of ``predict_slabs``, computed as the model wants it."""
    arithmetic, topology = model.arithmetic, model.configuration.topology
    tiles = OverlapTiles(margin=topology.margin, divisor=topology.divisor) if any(topology.margin) else None
    most = model.configuration.batch_size  # a batch that could be trained can be predicted
    on_cpu = model.device.type == "cpu"
    return predict_slabs(
        partial(model.mean_logits, compare=meter.folds) if meter else model.mean_logits,
        image,
        patch_size=model.configuration.patch_size,
        labels=model.plan.labels.outputs,
        device=model.device,
        mirror_axes=model.mirror_axes,
        exchange=exchange(model.plan, model.configuration),
        step=model.step,
        compare=meter.flips if meter else None,
        window_batch=1 if arithmetic.windows_alone or on_cpu else most,
        threads=min(most, torch.get_num_threads()) if on_cpu else 1,
        autocast_dtype=arithmetic.autocast_dtype,
        band=arithmetic.band,
        tiles=tiles,
        surround=surround,
        progress=progress,
    )


@torch.inference_mode()
def _mean_slabs(streams: Sequence[Iterator[Tensor]], compare: Comparison | None) -> Iterator[Tensor]:
    """Mean of slabs that are cut alike, in their own precision; ``compare`` is told what each of them says."""
    for slabs in zip(*streams, strict=True):
        answers = [compare.answer(slab[None]) for slab in slabs] if compare else []
        total, *others = slabs
        for slab in others:
            total += slab  # the band behind it forgets these slices
        if compare:
            compare.add(answers, compare.answer(total[None]))
        yield total.div_(len(slabs))
