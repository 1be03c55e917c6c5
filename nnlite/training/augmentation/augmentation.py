"""The augmentation of one training: a preset, told what the images of a configuration show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from nnlite.errors import UsageError
from nnlite.planning.planner import Configuration, Plan
from nnlite.training.augmentation.chance import LARGEST_SEED, Chance
from nnlite.training.augmentation.imaging import Imaging, imaging_of
from nnlite.training.augmentation.presets import PRESETS, PresetName, Step
from nnlite.training.augmentation.spatial import Placing, placing_of
from nnlite.training.share import Share

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How the patches of a training are moved (``placing``) and then changed (``steps``, one after the other).

    ``disturbs_previous`` tells whether the low-resolution input of a cascade is disturbed.
    """

    steps: tuple[Step, ...] = PRESETS["nnunet"].steps
    disturbs_previous: bool = True
    placing: Placing = field(default_factory=Placing)
    imaging: Imaging = field(default_factory=Imaging)

    @classmethod
    def of(cls, name: PresetName, plan: Plan, configuration: Configuration) -> Augmentation:
        """The preset of that name for a configuration; ``UsageError`` where it speaks of other images."""
        require_suited(name, plan, configuration)
        preset, imaging = PRESETS[name], imaging_of(plan, configuration)
        _tell_what_is_left_alone(name, plan.channels, imaging)
        placing = placing_of(preset.spatial, plan, configuration)
        return cls(steps=preset.steps, disturbs_previous=preset.disturbs_previous, placing=placing, imaging=imaging)

    def change(self, images: Tensor, rng: np.random.Generator, share: Share | None = None) -> Tensor:
        """Images (batch, channels, *size) after all steps, written into ``images``.

        These are the ``share`` of a batch; by default they are all of it.
        """
        noise = torch.Generator(images.device).manual_seed(int(rng.integers(LARGEST_SEED)))
        untouched = [*self.imaging.masks, *self.imaging.places]
        kept = images[:, untouched].clone() if untouched else None
        for step in self.steps:
            chance = Chance(
                probability=step.probability,
                limits=step.limits,
                rng=rng,
                noise=noise,
                share=share or Share.whole(len(images)),
                imaging=self.imaging,
            )
            if kept is not None and step.hides:  # masks as they are, but where the image is hidden
                images[:, untouched] = kept
            images = step.transform(images, chance)
            if kept is not None and step.hides:
                kept = images[:, untouched].clone()
        if kept is not None:
            images[:, untouched] = kept
        return images


def require_suited(name: PresetName, plan: Plan, configuration: Configuration) -> None:
    """``UsageError`` where a preset has nothing to say of the images of a configuration."""
    ct, others = _ct_and_others(plan.channels, imaging_of(plan, configuration))
    needs = PRESETS[name].needs
    if needs == "ct" and not ct:
        raise UsageError(
            f"the augmentation ct speaks of Hounsfield units, and none of the channels ({', '.join(others)}) is "
            'normalised as CT; take mr, microscopy or nnunet, or name the channel CT under "channels" in nnlite.json'
        )
    if needs == "other than ct" and not others:
        raise UsageError(
            f"the augmentation {name} is for MR, and all channels ({', '.join(ct)}) are CT, which has no bias field; "
            "take ct or nnunet"
        )


def _tell_what_is_left_alone(name: PresetName, channels: Sequence[str], imaging: Imaging) -> None:
    """Warn of what a preset that suits some of the images does nothing to."""
    ct, others = _ct_and_others(channels, imaging)
    needs = PRESETS[name].needs
    if needs == "ct" and others:
        logger.warning("augmentation ct: streaks and quantum noise leave %s alone, no CT", ", ".join(others))
    if needs == "ct" and imaging.axial is None:
        logger.warning("augmentation ct: no metal streaks, for slices do not lie in the plane of the scanner")
    if needs == "other than ct" and ct:
        logger.warning("augmentation %s: the bias field leaves %s alone, which is CT", name, ", ".join(ct))


def _ct_and_others(channels: Sequence[str], imaging: Imaging) -> tuple[list[str], list[str]]:
    """The channels that are CT, and the others."""
    ct = [channel for place, channel in enumerate(channels) if imaging.is_ct(place)]
    return ct, [channel for place, channel in enumerate(channels) if not imaging.is_ct(place)]
