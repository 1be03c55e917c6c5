"""From an image to its label mask: preprocess, slide the window, average the folds, restore.

Knows nothing of files. The model stays loaded over any number of cases, and what one case needs beside its image is its
preprocessed version, a band of logits as deep as a window, and the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nnlite.data.image import Image
from nnlite.data.progress import Progress, silent
from nnlite.errors import CheckpointError
from nnlite.inference.sliding_window import WINDOW_STEP, predict_slabs
from nnlite.networks.inputs import stack_previous
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration, preprocess
from nnlite.preprocessing.restore import KeepProbabilities, restore_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Trained networks of one configuration, one per fold, with all that is needed to use them.

    The networks are moved to ``device`` and set to evaluation mode. ``mirror_axes`` count the axes of the patch and are
    those mirrored in training; none means no mirroring. ``previous`` is the first stage of a cascade.
    """

    plan: Plan
    configuration: Configuration
    networks: tuple[nn.Module, ...]
    device: torch.device
    mirror_axes: tuple[int, ...] = ()
    step: float = WINDOW_STEP
    autocast_dtype: torch.dtype | None = None
    previous: Model | None = None

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError("a model needs the network of one fold at least")
        for network in self.networks:
            network.to(self.device).eval()

    def mean_logits(self, batch: Tensor) -> Tensor:
        """Mean float32 logits of the folds; blending is linear, so this equals the mean over whole cases.

        The second stage of a cascade is given the label indices of the first as the last channel of ``batch``. They
        become a channel per label here, within the window: for the whole image those would fill the memory.
        """
        if self.configuration.previous_stage is not None:
            batch = stack_previous(batch[:, :-1], batch[:, -1], self.plan.labels.count)
        if len(self.networks) == 1:
            return self.networks[0](batch).float()
        total = self.networks[0](batch).to(torch.float32, copy=True)
        for network in self.networks[1:]:
            total += network(batch)
        return total.div_(len(self.networks))


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
    return Prediction(case_id=case_id, indices=indices)


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
        previous = predict_image(model.previous, case_id, image, progress=progress).indices
    return preprocess(
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
    progress: Progress = silent,
) -> np.ndarray:
    """Label indices (z, y, x) of a preprocessed case on the grid of its image; uint8, or int16 beyond 256 labels."""
    slabs = logit_slabs(model, case, progress=progress)
    decision = Decision.by(model.plan.labels)
    return restore_labels(slabs, case.restoration, decision=decision, keep_probabilities=keep_probabilities)


def logit_slabs(model: Model, case: ReadyCase, *, progress: Progress = silent) -> Iterator[Tensor]:
    """Logits of a preprocessed case on its own grid, averaged over the folds: the slabs of ``predict_slabs``."""
    image = torch.from_numpy(np.array(case.image, dtype=np.float32))  # a copy: a stored case is a read-only memory map
    if model.configuration.previous_stage is not None:
        if case.previous is None:
            raise ValueError(f"{model.configuration.name} needs the previous stage's prediction in each case")
        image = torch.cat([image, torch.from_numpy(np.array(case.previous, dtype=np.float32))[None]])
    return predict_slabs(
        model.mean_logits,
        image,
        patch_size=model.configuration.patch_size,
        labels=model.plan.labels.outputs,
        device=model.device,
        mirror_axes=model.mirror_axes,
        step=model.step,
        window_batch=model.configuration.batch_size,  # a batch that could be trained can be predicted
        autocast_dtype=model.autocast_dtype,
        progress=progress,
    )
