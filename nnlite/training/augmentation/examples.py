"""What each part of an augmentation does to one patch, to be looked at.

Every transform is shown alone, with both ends of its range, then some samples as they are trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from nnlite.training.assemble import assemble
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.presets import Step
from nnlite.training.augmentation.spatial import (
    STILL,
    Motion,
    Spatial,
    before_turn,
    draw_motion,
    region_size,
)
from nnlite.training.patches import PatchLoader, Place

TRIES = 6  # draws of a transform, of which the one is shown that can be seen best
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A slice (rows, columns) of the first channel and of the label indices, and what was done to it."""

    title: str
    image: np.ndarray
    label: np.ndarray


def examples(loader: PatchLoader, augmentation: Augmentation, *, samples: int, seed: int) -> Iterator[Example]:
    """One patch as it lies in its case, after each transform alone, and in so many ``samples`` of a training.

    ``loader`` reads patches as they are. The patch lies on foreground; of a volume the slice with most of it is shown.
    """
    rng = np.random.default_rng(seed)
    viewer = _Viewer(loader, loader.draw_places(rng)[-1])  # the last ones are forced to hold foreground
    yield viewer.seen("as read", STILL)
    for title, spatial in _alone(augmentation.placing.spatial, turns=bool(augmentation.placing.turn_planes)):
        placing = replace(augmentation.placing, spatial=spatial, mirror_axes=())
        motions = [draw_motion(rng, loader.seen_size, placing) for _ in range(TRIES)]
        shown = [viewer.seen(title, motion) for motion in motions]
        yield max(shown, key=viewer.change)
    for step in augmentation.steps:
        for limit in step.limits:
            only = replace(augmentation, steps=(_certain(step, limit),))
            title = f"{step.name} {limit:g}"
            yield max((viewer.seen(title, STILL, only, rng) for _ in range(TRIES)), key=viewer.change)
    for number in range(1, samples + 1):
        motion = draw_motion(rng, loader.seen_size, augmentation.placing)
        yield viewer.seen(f"sample {number}", motion, augmentation, rng)


class _Viewer:
    """Looks at one place of a case through one slice."""

    def __init__(self, loader: PatchLoader, place: Place):
        self.loader, self.place, self.slice = loader, place, 0
        _, label = self._patch(STILL)
        if label.ndim == 3:
            self.slice = int(np.argmax(np.count_nonzero(label, axis=(1, 2))))
        self.plain = self.seen("", STILL)

    def seen(
        self,
        title: str,
        motion: Motion,
        augmentation: Augmentation | None = None,
        rng: np.random.Generator | None = None,
    ) -> Example:
        """The slice after a motion, and after an augmentation where one is given."""
        image, label = self._patch(motion)
        if augmentation is not None and rng is not None:
            image = augmentation.change(image, rng)
        shown, area = image[0, 0].numpy(), label
        if area.ndim == 3:
            shown, area = shown[self.slice], area[self.slice]
        return Example(title=title, image=shown.copy(), label=area.copy())

    def change(self, example: Example) -> float:
        """How much an example differs from the plain slice."""
        return float(np.abs(example.image - self.plain.image).mean())

    def _patch(self, motion: Motion) -> tuple[torch.Tensor, np.ndarray]:
        """Images (1, channels, *size) and label indices (*size) of the place, moved around its centre."""
        size = region_size(self.loader.seen_size, motion.pose, motion.displacements)
        size = (1,) * self.loader.flat + before_turn(size, motion.turn)
        start = tuple(
            first - (more - less) // 2
            for first, more, less in zip(self.place.start, size, self.place.size, strict=True)
        )
        patch = self.loader.read(replace(self.place, start=start, size=size, motion=motion))
        batch = assemble([patch], self.loader.seen_size, CPU)
        return batch.images, batch.labels[0].numpy()


def _alone(spatial: Spatial, *, turns: bool) -> Iterator[tuple[str, Spatial]]:
    """Each kind of motion of a preset, certain and alone."""
    still = replace(spatial, rotation=0.0, scaling=0.0, elastic=0.0, quarter_turns=0.0)
    if spatial.rotation:
        yield "rotation", replace(still, rotation=1.0)
    if spatial.scaling:
        yield "scaling", replace(still, scaling=1.0)
    if spatial.elastic:
        yield "elastic deformation", replace(still, elastic=1.0)
    if spatial.quarter_turns and turns:
        yield "quarter turn", replace(still, quarter_turns=1.0)


def _certain(step: Step, limit: float) -> Step:
    return replace(step, probability=1.0, limits=(limit, limit))
