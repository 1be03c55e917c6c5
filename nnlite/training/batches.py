"""Batches for an epoch: drawn, put together and augmented in a thread, each epoch's a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
import torch

from nnlite.networks.inputs import stack_previous
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.store import StoredCase
from nnlite.training.augment import Augmentation, Batch, assemble
from nnlite.training.augment_cascade import disturb_previous
from nnlite.training.patches import PatchLoader
from nnlite.training.prefetch import prefetch

# every kind of random numbers is a stream of its own, so that the place of a patch tells nothing of its augmentation
TRAINING_PATCHES, VALIDATION_PATCHES, AUGMENTATION, DISTURBANCE = range(4)


class BatchSource:
    """Training batches with all augmentation, validation batches without; both on the training device.

    ``transforms`` of a user's own come before nnlite's augmentation, on training patches only: see ``PatchLoader``.
    """

    def __init__(
        self,
        plan: Plan,
        configuration: Configuration,
        training_cases: Mapping[str, StoredCase],
        validation_cases: Mapping[str, StoredCase],
        *,
        seed: int,
        device: torch.device,
        transforms: Sequence[Callable[..., dict]] = (),
    ):
        self.patch_size, self.batch_size = configuration.patch_size, configuration.batch_size
        self.labels, self.seed, self.device = plan.labels.count, seed, device
        self.training_cases, self.validation_cases = training_cases, validation_cases
        self.transforms = transforms

    def training_batches(self, epoch: int, count: int) -> Generator[Batch, None, None]:
        """``count`` augmented batches of an epoch."""
        loader = PatchLoader(
            self.training_cases,
            patch_size=self.patch_size,
            batch_size=self.batch_size,
            posed=True,
            transforms=self.transforms,
        )
        loader.reseed(self.seed, TRAINING_PATCHES, epoch)
        augmentation = Augmentation(mirror_axes=range(len(self.patch_size)), device=self.device)
        augmentation.reseed(self.seed, AUGMENTATION, epoch)
        rng = np.random.default_rng((self.seed, DISTURBANCE, epoch))

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
        loader = PatchLoader(self.validation_cases, patch_size=self.patch_size, batch_size=self.batch_size, posed=False)
        loader.reseed(self.seed, VALIDATION_PATCHES, epoch)

        def make() -> Batch:
            batch = assemble(next(loader), self.patch_size, self.device)
            return batch if batch.previous is None else self._with_previous(batch, batch.previous)

        yield from prefetch(make, count)

    def _with_previous(self, batch: Batch, previous: torch.Tensor) -> Batch:
        """Join a cascade's low-resolution labels to the image channels."""
        return Batch(images=stack_previous(batch.images, previous, self.labels), labels=batch.labels)
