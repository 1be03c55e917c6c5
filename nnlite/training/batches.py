"""Batches for an epoch: drawn, put together and augmented in threads, ahead of the step.

Each batch is a function of seed, epoch and its number in the epoch alone: how many threads there are
and which of them is faster does not matter. Processes that train together draw the same batch, and each reads and
augments its share of it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from nnlite.data.faults import named_in_errors
from nnlite.networks.inputs import stack_previous
from nnlite.planning.mirroring import exchange
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.open_cases import fit_in_memory
from nnlite.preprocessing.store import StoredCase
from nnlite.training.assemble import Batch, assemble
from nnlite.training.augment_cascade import disturb_previous
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.presets import PresetName
from nnlite.training.parts import on_device_or_cpu
from nnlite.training.patches import PatchLoader
from nnlite.training.prefetch import prefetch
from nnlite.training.ranks import ALONE, Ranks

# every kind of random numbers is a stream of its own, so that the place of a patch tells nothing of its augmentation
TRAINING_PATCHES, VALIDATION_PATCHES, AUGMENTATION, DISTURBANCE = range(4)
THREADS = 2  # one may wait for the disk or for a user's transform while the other computes


class BatchSource:
    """Training batches with all augmentation, validation batches without; both on the training device.

    ``transforms`` of a user's own come before nnlite's augmentation, on training patches only: see ``PatchLoader``.
    ``threads`` prepare batches; their number changes the speed alone. Cases that fit in memory are kept there.
    ``ranks`` are the processes that share each batch. ``augmentation`` names a preset.
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
        threads: int = THREADS,
        ranks: Ranks = ALONE,
        augmentation: PresetName = "nnunet",
    ):
        self.patch_size, self.batch_size = configuration.patch_size, configuration.batch_size
        self.share = ranks.share(self.batch_size)
        self.training_cases, self.validation_cases = training_cases, validation_cases
        self.labels, self.seed, self.device, self.threads = plan.labels.count, seed, device, threads
        in_memory = fit_in_memory(training_cases, validation_cases)
        size, batch = self.patch_size, self.batch_size
        self.augmentation = Augmentation.of(augmentation, plan, configuration)
        self.training = PatchLoader(
            training_cases,
            patch_size=size,
            batch_size=batch,
            placing=self.augmentation.placing,
            exchange=exchange(plan, configuration),
            with_places=plan.prior is not None,
            transforms=transforms,
            in_memory=in_memory,
        )
        self.validation = PatchLoader(
            validation_cases,
            patch_size=size,
            batch_size=batch,
            with_places=plan.prior is not None,
            in_memory=in_memory,
        )

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes of the patch along which training patches are mirrored: what a prediction may be averaged over."""
        return self.augmentation.placing.mirror_axes

    def training_batches(self, epoch: int, count: int, *, first: int = 0) -> Generator[Batch, None, None]:
        """The augmented batches ``first`` to ``count`` - 1 of an epoch."""

        def make(number: int, device: torch.device) -> Batch:
            batch = self._drawn(self.training, self._rng(TRAINING_PATCHES, epoch, number), device)
            images = self.augmentation.change(batch.images, self._rng(AUGMENTATION, epoch, number), self.share)
            if batch.previous is not None:
                previous = disturb_previous(batch.previous, self._rng(DISTURBANCE, epoch, number), self.share)
                images = stack_previous(images, previous, self.labels)
            return replace(batch, images=images, previous=None)

        return self._prefetched(make, first, count, f"training batch {{}} of epoch {epoch}")

    def validation_batches(self, epoch: int, count: int) -> Generator[Batch, None, None]:
        """``count`` batches of the validation cases as they are; none where there are no such cases."""

        def make(number: int, device: torch.device) -> Batch:
            batch = self._drawn(self.validation, self._rng(VALIDATION_PATCHES, epoch, number), device)
            if batch.previous is None:
                return batch
            images = stack_previous(batch.images, batch.previous, self.labels)
            return replace(batch, images=images, previous=None)

        count = count if self.validation_cases else 0
        return self._prefetched(make, 0, count, f"validation batch {{}} of epoch {epoch}")

    def _drawn(self, loader: PatchLoader, rng: np.random.Generator, device: torch.device) -> Batch:
        """A batch is drawn, and this process's share of it read and put together."""
        places = loader.draw_places(rng)
        patches = [loader.read(place) for place in places[self.share.first : self.share.stop]]
        batch = assemble(patches, self.patch_size, device)
        channels = loader.listed_channels(places)
        if batch.drawn is None and channels:  # all processes compute their part of the loss in the same way
            batch = replace(batch, drawn=torch.ones(len(patches), channels, dtype=torch.bool, device=device))
        return replace(batch, cases=tuple(place.case_id for place in places), fraction=self.share.fraction)

    def _prefetched(
        self, make: Callable[[int, torch.device], Batch], first: int, count: int, what: str
    ) -> Generator[Batch, None, None]:
        """Make batches ahead; one that the device has no memory to make is made on the CPU, an error says which."""

        def make_somewhere(index: int) -> Batch:
            number = first + index
            with named_in_errors(what.format(number)):
                return on_device_or_cpu(partial(make, number), self.device, what.format(number))

        return prefetch(make_somewhere, max(0, count - first), threads=self.threads)

    def _rng(self, stream: int, epoch: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, epoch, number))
