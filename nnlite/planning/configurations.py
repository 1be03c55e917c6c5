"""What was decided for one configuration: the numbers that preprocessing, training and prediction follow.

A configuration is checked where it is made, also when ``plan.json`` was edited by hand. Tuples are ordered like the
array after the plan's transpose: (z, y, x), and (y, x) for the slices of the configuration "2d".
"""

from __future__ import annotations

import math
from typing import Literal

from nnlite.data.records import record
from nnlite.errors import PlanError, UsageError
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.nnunet import EPOCHS, ITERATIONS
from nnlite.planning.spacing import voxels
from nnlite.planning.topology import Topology
from nnlite.planning.variants import CONFIGURATIONS, ConfigurationName, named, parted

LARGEST_BATCH_VOXELS = 2**40  # four TB of image: a plan that asks for more is damaged

__all__ = ["Configuration", "ConfigurationName", "NormalizationScheme"]

NormalizationScheme = Literal["ct", "zscore", "none", "rescale_to_0_1", "rgb_to_0_1"]


@record
class Configuration:
    """One way to segment the dataset. ``reasons`` tells why, by the name of the field, in words and numbers.

    ``name`` is its kind (2d, 3d, 3d-lowres or 3d-cascade), for a variant with the variant's name behind it: 3d@focal.

    A training takes ``iterations`` steps in each of ``epochs``, nnU-Net's numbers where a plan does not say, unless its
    user asks for another length. ``measured`` is what a step cost on the machine that planned, None where none was
    tried. ``correction`` is the share of the predicted memory that a step took in the plan that this one follows, 1
    where none was measured. ``mirror_axes`` are the axes of the patch along which images are mirrored in training, None
    for all of them.
    """

    name: str
    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int
    normalization: tuple[NormalizationScheme, ...]
    use_nonzero_mask: tuple[bool, ...]
    batch_dice: bool
    topology: Topology
    epochs: int = EPOCHS
    iterations: int = ITERATIONS
    previous_stage: str | None = None
    mirror_axes: tuple[int, ...] | None = None
    measured: StepMeasurement | None = None
    correction: float = 1.0
    reasons: dict[str, str]

    def __post_init__(self) -> None:
        try:
            kind, variant = parted(self.name)
        except UsageError as error:
            raise self._error("name", f"is wrong: {error}") from error
        if kind not in CONFIGURATIONS:
            raise self._error("name", f"must begin with one of {', '.join(CONFIGURATIONS)}")
        ndim = 2 if kind == "2d" else 3
        if self.topology.ndim != ndim:
            raise self._error("topology", f"has {self.topology.ndim} axes instead of {ndim}")
        for key in ("spacing_mm", "median_shape", "patch_size"):
            numbers = getattr(self, key)
            if len(numbers) != ndim:
                raise self._error(key, f"has {len(numbers)} entries instead of {ndim}: {numbers}")
            if not all(0 < number < math.inf for number in numbers):
                raise self._error(key, f"must hold positive numbers: {numbers}")
        if (fitting := self.topology.fitting_size(self.patch_size)) != self.patch_size:
            rule = f"must be divisible by {voxels(self.topology.divisor)}, the product of the strides"
            if any(self.topology.margin):
                rule = f"is none that convolutions without padding can answer for; the next is {voxels(fitting)}"
            raise self._error("patch_size", f"{voxels(self.patch_size)} {rule}")
        for key in ("batch_size", "epochs", "iterations"):
            if getattr(self, key) < 1:
                raise self._error(key, f"must be at least 1, not {getattr(self, key)}")
        if (batch_voxels := self.batch_size * math.prod(self.patch_size)) > LARGEST_BATCH_VOXELS:
            raise self._error(
                "patch_size",
                f"{voxels(self.patch_size)} in batches of {self.batch_size} has {batch_voxels} voxels; "
                f"{LARGEST_BATCH_VOXELS} is the most",
            )
        if not 0 < self.correction <= 1:
            raise self._error("correction", f"must be a positive number up to 1, not {self.correction}")
        if not self.normalization or len(self.normalization) != len(self.use_nonzero_mask):
            raise self._error(
                "use_nonzero_mask",
                f"has {len(self.use_nonzero_mask)} entries and normalization {len(self.normalization)}: "
                "both need one per channel",
            )
        first = named("3d-lowres", variant)
        if self.previous_stage != (first if kind == "3d-cascade" else None):
            raise self._error(
                "previous_stage", f'is "{first}" for the configuration "3d-cascade" and null for all others'
            )
        axes = self.mirrored_axes
        if list(axes) != sorted(set(axes) & set(range(ndim))):
            raise self._error("mirror_axes", f"must hold some of {', '.join(map(str, range(ndim)))} once each: {axes}")

    @property
    def mirrored_axes(self) -> tuple[int, ...]:
        """Axes of the patch along which images are mirrored in training, and may be in prediction."""
        return tuple(range(self.topology.ndim)) if self.mirror_axes is None else self.mirror_axes

    def _error(self, key: str, fault: str) -> PlanError:
        return PlanError(f"configuration {self.name}: {key} {fault}; correct the plan or run `nnlite plan` again")
