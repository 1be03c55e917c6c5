"""Batches for an epoch: drawn, put together and augmented in threads, ahead of the step.

Each batch is a function of seed, epoch and its number in the epoch alone: how many threads there are and which of them
is faster does not matter. Only where easy cases come first under a time budget it is drawn from the cases that the
clock allows when it is asked for, which is the earlier the more threads there are. Processes that train together draw
the same batch, and each reads and augments its share of it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nnlite.data.faults import named_in_errors
from nnlite.networks.inputs import stack_previous
from nnlite.networks.unet_2015 import centre
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.open_cases import fit_in_memory
from nnlite.preprocessing.store import StoredCase
from nnlite.training.assemble import Batch, assemble
from nnlite.training.atlas import AtlasCounts
from nnlite.training.augment_cascade import disturb_previous
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.presets import PresetName
from nnlite.training.curriculum import pool_size
from nnlite.training.parts import on_device_or_cpu
from nnlite.training.patches import PatchLoader
from nnlite.training.prefetch import READY, prefetch
from nnlite.training.ranks import ALONE, Ranks
from nnlite.training.target_maps import MapMaker

# every kind of random numbers is a stream of its own, so that the place of a patch tells nothing of its augmentation
TRAINING_PATCHES, VALIDATION_PATCHES, AUGMENTATION, DISTURBANCE = range(4)
THREADS = 2  # one may wait for the disk or for a user's transform while the other computes


class BatchSource:
    """Training batches with all augmentation, validation batches without; both on the training device.

    ``transforms`` of a user's own come before nnlite's augmentation, on training patches only: see ``PatchLoader``.
    ``threads`` prepare batches; their number changes the speed alone, unless the clock decides on the cases. Cases that
    fit in memory are kept there. ``ranks`` are the processes that share each batch. ``augmentation`` names a preset.
    Batches come with the ``maps`` of their labels that a loss wants. Where the training cases are named
    ``easiest_first``, the first ones are drawn from these alone. With an ``atlas`` of the training cases each training
    patch brings that of all cases but its own.
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
        maps: Collection[str] = (),
        easiest_first: Sequence[str] = (),
        atlas: AtlasCounts | None = None,
    ):
        self.patch_size, self.batch_size = configuration.patch_size, configuration.batch_size
        self.share = ranks.share(self.batch_size)
        self.training_cases, self.validation_cases = training_cases, validation_cases
        self.labels, self.seed, self.device, self.threads = plan.labels.count, seed, device, threads
        self.easiest_first, self.atlas = tuple(easiest_first), atlas
        self.make_maps = MapMaker.to(maps, plan.labels, configuration.spacing_mm)
        in_memory = fit_in_memory(training_cases, validation_cases)
        self.seen_size = configuration.topology.seen_size(self.patch_size)
        self.augmentation = Augmentation.of(augmentation, plan, configuration)
        self.training = PatchLoader.of(
            plan,
            configuration,
            training_cases,
            placing=self.augmentation.placing,
            transforms=transforms,
            in_memory=in_memory,
        )
        self.validation = PatchLoader.of(plan, configuration, validation_cases, in_memory=in_memory)

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes of the patch along which training patches are mirrored: what a prediction may be averaged over."""
        return self.augmentation.placing.mirror_axes

    def training_batches(
        self, epoch: int, count: int, *, first: int = 0, share_done: Sequence[float] = (1.0,)
    ) -> Generator[Batch, None, None]:
        """The augmented batches ``first`` to ``count`` - 1 of an epoch.

        ``share_done`` is the share of the training that is done before the first of them; whoever learns from them may
        add what is done after each.
        """

        def make(number: int, device: torch.device) -> Batch:
            pool = self._pool(number - first, share_done)
            batch = self._drawn(self.training, self._rng(TRAINING_PATCHES, epoch, number), device, pool)
            images = self.augmentation.change(batch.images, self._rng(AUGMENTATION, epoch, number), self.share)
            if batch.previous is not None:
                previous = batch.previous
                if self.augmentation.disturbs_previous:
                    previous = disturb_previous(previous, self._rng(DISTURBANCE, epoch, number), self.share)
                images = stack_previous(images, previous, self.labels)
            batch = replace(batch, images=images, previous=None, atlases=self._atlases(batch.cases, device))
            return self._answered(batch)

        return self._prefetched(make, first, count, f"training batch {{}} of epoch {epoch}")

    def validation_batches(self, epoch: int, count: int) -> Generator[Batch, None, None]:
        """``count`` batches of the validation cases as they are; none where there are no such cases."""

        def make(number: int, device: torch.device) -> Batch:
            batch = self._drawn(self.validation, self._rng(VALIDATION_PATCHES, epoch, number), device)
            if batch.previous is not None:
                images = stack_previous(batch.images, batch.previous, self.labels)
                batch = replace(batch, images=images, previous=None)
            return self._answered(batch)

        count = count if self.validation_cases else 0
        return self._prefetched(make, 0, count, f"validation batch {{}} of epoch {epoch}")

    def _pool(self, index: int, share_done: Sequence[float]) -> Sequence[str] | None:
        """The cases of a batch, the ``index``-th of those that are asked for; None for all.

        It was asked for when those so far before it were learned from, be it on a fast thread or a slow one: only what
        was known then decides, so that processes which share it draw it from the same cases.
        """
        if not self.easiest_first:
            return None
        known = min(max(0, index - self.threads - READY), len(share_done) - 1)
        return self.easiest_first[: pool_size(len(self.easiest_first), share_done[known])]

    def _drawn(
        self, loader: PatchLoader, rng: np.random.Generator, device: torch.device, pool: Sequence[str] | None = None
    ) -> Batch:
        """A batch is drawn, and this process's share of it read and put together."""
        places = loader.draw_places(rng, pool)
        patches = [loader.read(place) for place in places[self.share.first : self.share.stop]]
        batch = assemble(patches, self.seen_size, device)
        channels = loader.listed_channels(places)
        if batch.drawn is None and channels:  # all processes compute their part of the loss in the same way
            batch = replace(batch, drawn=torch.ones(len(patches), channels, dtype=torch.bool, device=device))
        return replace(batch, cases=tuple(place.case_id for place in places), fraction=self.share.fraction)

    def _atlases(self, case_ids: Sequence[str], device: torch.device) -> Tensor | None:
        """For each sample of this process the atlas of the other cases, (samples, structures, z, y, x)."""
        if self.atlas is None:
            return None
        here = case_ids[self.share.first : self.share.stop]
        made = [self.atlas.without(self.training_cases[case_id]) for case_id in here]
        return torch.from_numpy(np.stack(made)).to(device)

    def _answered(self, batch: Batch) -> Batch:
        """The batch with the maps that the loss wants; without labels and maps of a margin that is there to be seen."""
        maps = self.make_maps(batch.labels)
        if self.seen_size == self.patch_size:
            return replace(batch, maps=maps)

        def inside(one: Tensor) -> Tensor:
            return centre(one, self.patch_size).contiguous()

        return replace(batch, labels=inside(batch.labels), maps=maps.changed(inside))

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
