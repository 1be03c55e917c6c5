"""The presets of augmentation: which transforms befall a training patch, how often and how much, as one table.

``nnunet`` is nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021), and the default. The others leave out what
means nothing in their images and add what happens there; their numbers are nnlite's own choices. The order of a list is
the order in which its transforms are carried out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from nnlite.training.augmentation.bias_field import multiply_bias_field
from nnlite.training.augmentation.chance import Transform
from nnlite.training.augmentation.counting import photon_noise, quantum_noise
from nnlite.training.augmentation.intensities import (
    add_noise,
    blur,
    gamma,
    inverted_gamma,
    lower_resolution,
    scale_brightness,
    scale_contrast,
)
from nnlite.training.augmentation.occlusion import occlude
from nnlite.training.augmentation.spatial import Spatial
from nnlite.training.augmentation.streaks import add_streaks

PresetName = Literal["nnunet", "ct", "mr", "microscopy", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transform, the ``probability`` with which it befalls a sample, and the ``limits`` of the number it draws.

    One that ``hides`` parts of the image does so in masks that were made of it, too.
    """

    name: str
    transform: Transform
    probability: float
    limits: tuple[float, float]
    unit: str
    hides: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How patches are moved, and then changed. ``needs`` says what some of the channels have to be, if anything.

    ``disturbs_previous`` tells whether the low-resolution input of a cascade is disturbed (``augment_cascade.py``).
    """

    spatial: Spatial = field(default_factory=Spatial)
    steps: tuple[Step, ...] = ()
    disturbs_previous: bool = True
    needs: Literal["ct", "other than ct"] | None = None


def _step(name: str, transform: Transform, probability: float, limits: tuple[float, float], unit: str) -> Step:
    return Step(name=name, transform=transform, probability=probability, limits=limits, unit=unit)


NOISE = _step("Gaussian noise", add_noise, 0.1, (0.0, 0.1), "standard deviation, of the image's")
BLUR = _step("blur", blur, 0.2, (0.5, 1.0), "standard deviation in voxels")
BRIGHTNESS = _step("brightness", scale_brightness, 0.15, (0.75, 1.25), "factor")
CONTRAST = _step("contrast", scale_contrast, 0.15, (0.75, 1.25), "factor")
LOW_RESOLUTION = _step("low resolution", lower_resolution, 0.25, (0.5, 1.0), "zoom")
INVERTED_GAMMA = _step("inverted gamma", inverted_gamma, 0.1, (0.7, 1.5), "exponent")
GAMMA = _step("gamma", gamma, 0.3, (0.7, 1.5), "exponent")
OCCLUSION = replace(_step("occlusion", occlude, 0.1, (0.1, 0.3), "of the patch along each axis"), hides=True)

PRESETS: dict[PresetName, Preset] = {
    "nnunet": Preset(steps=(NOISE, BLUR, BRIGHTNESS, CONTRAST, LOW_RESOLUTION, INVERTED_GAMMA, GAMMA)),
    "ct": Preset(
        spatial=Spatial(elastic=0.2, elastic_voxels=(1.0, 4.0)),
        steps=(
            _step("metal streaks", add_streaks, 0.1, (100.0, 600.0), "HU of the strongest"),
            _step("quantum noise", quantum_noise, 0.2, (5.0, 40.0), "HU in water"),
            BLUR,
            LOW_RESOLUTION,
            OCCLUSION,
        ),
        needs="ct",
    ),
    "mr": Preset(
        spatial=Spatial(elastic=0.2, elastic_voxels=(1.0, 4.0)),
        steps=(
            _step("bias field", multiply_bias_field, 0.3, (0.1, 0.5), "largest logarithm"),
            NOISE,
            BLUR,
            BRIGHTNESS,
            CONTRAST,
            LOW_RESOLUTION,
            INVERTED_GAMMA,
            GAMMA,
            OCCLUSION,
        ),
        needs="other than ct",
    ),
    "microscopy": Preset(
        spatial=Spatial(elastic=0.5, elastic_points=3, elastic_voxels=(10.0, 10.0), quarter_turns=0.75),
        steps=(
            _step("uneven light", multiply_bias_field, 0.3, (0.1, 0.4), "largest logarithm"),
            BLUR,
            _step("photon noise", photon_noise, 0.3, (0.02, 0.15), "standard deviation at the brightest, of the range"),
            BRIGHTNESS,
            CONTRAST,
            LOW_RESOLUTION,
            INVERTED_GAMMA,
            GAMMA,
            OCCLUSION,
        ),
    ),
    "none": Preset(spatial=Spatial(rotation=0.0, scaling=0.0, mirrors=False), disturbs_previous=False),
}
