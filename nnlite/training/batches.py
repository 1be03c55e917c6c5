"""Batches for an epoch: drawn, put together and augmented in a thread, each epoch's a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import numpy as np
import torch

from nnlite.networks.inputs import stack_previous
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import StoredCase
from nnlite.training.augment import Augmentation, Batch, assemble
from nnlite.training.augment_cascade import disturb_previous
from nnlite.training.patches import PatchLoader
from nnlite.training.prefetch import prefetch

TRAINING, VALIDATION = 0, 1  # seeds that keep the random numbers of the two kinds apart


class BatchSource:
    """Training batches with all augmentation, validation batches without; both on the training device."""

    def __init__(
        self,
        plan: Plan,
        configuration: Configuration,
        training_cases: Mapping[str, StoredCase],
        validation_cases: Mapping[str, StoredCase],
        *,
        seed: int,
        device: torch.device,
    ):
        self.patch_size, self.batch_size = configuration.patch_size, configuration.batch_size
        self.labels, self.seed, self.device = plan.labels.count, seed, device
        self.training_cases, self.validation_cases = training_cases, validation_cases

    def training_batches(self, epoch: int, count: int) -> Generator[Batch, None, None]:
        """``count`` augmented batches of an epoch."""
        loader = self._loader(self.training_cases, TRAINING, epoch, posed=True)
        augmentation = Augmentation(mirror_axes=range(len(self.patch_size)), device=self.device)
        augmentation.reseed(self.seed, TRAINING, epoch)
        rng = np.random.default_rng((self.seed, TRAINING, epoch))

        def make() -> Batch:
            batch = augmentation(assemble(next(loader), self.patch_size, self.device))
            if batch.previous is None:
                return batch
            return self._with_previous(batch, disturb_previous(batch.previous, rng))

        return prefetch(make, count)

    def validation_batches(self, epoch: int, count: int) -> Generator[Batch, None, None]:
        """``count`` batches of the validation cases as they are; none where there are no such cases."""
        if not self.validation_cases:
            return
        loader = self._loader(self.validation_cases, VALIDATION, epoch, posed=False)

        def make() -> Batch:
            batch = assemble(next(loader), self.patch_size, self.device)
            return batch if batch.previous is None else self._with_previous(batch, batch.previous)

        yield from prefetch(make, count)

    def _loader(self, cases: Mapping[str, StoredCase], kind: int, epoch: int, *, posed: bool) -> PatchLoader:
        loader = PatchLoader(cases, patch_size=self.patch_size, batch_size=self.batch_size, posed=posed)
        loader.reseed(self.seed, kind, epoch)
        return loader

    def _with_previous(self, batch: Batch, previous: torch.Tensor) -> Batch:
        """Join a cascade's low-resolution labels to the image channels."""
        return Batch(images=stack_previous(batch.images, previous, self.labels), labels=batch.labels)
