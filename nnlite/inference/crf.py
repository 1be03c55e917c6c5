"""Dense conditional random field: probabilities drawn to where the image has its edges, by mean-field iterations.

After Krähenbühl and Koltun, NIPS 2011: every voxel is tied to every other one, by a smoothness term (a Gaussian of
their distance) and an appearance term (the same times a Gaussian of the difference of their intensities), and pays for
having another label (Potts). Kernels are normalised symmetrically, k(i, j) / sqrt(n_i n_j) with n_i = sum_j k(i, j), as
in the authors' later work (ICML 2013), so that weights mean the same for any width and image.

The appearance term is filtered by ``RangeFeatures`` in place of the permutohedral lattice, whose error of some per cent
cannot be chosen: the Gaussian of intensities is written as a sum of products, phi_1(x) phi_1(y) + phi_2(x) phi_2(y) ..,
and each addend is a spatial Gaussian again, which is separable. Memory is a few times that of the probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from nnlite.data.records import record
from nnlite.inference.gaussian_filter import GaussianFilter
from nnlite.inference.range_features import RangeFeatures

FEATURES_AT_ONCE = 2**30  # bytes of features that are held at once, 1 GiB; more are made anew in each iteration
LEAST_PROBABILITY = 1e-6  # a network that is certain can still be overruled

LengthUnit = Literal["mm", "pixels"]


@record
class CrfParameters:
    """Weights and widths of the two terms, and how often they are applied.

    Distances are standard deviations in ``unit``: mm, or pixels where pictures state no size. Intensities are in units
    of the normalised image: for z-scores, its standard deviation.
    """

    smoothness_weight: float
    smoothness_mm: float
    appearance_weight: float
    appearance_mm: float
    appearance_intensity: float
    iterations: int = 5
    unit: LengthUnit = "mm"

    def __post_init__(self) -> None:
        if min(self.smoothness_weight, self.appearance_weight) < 0:
            raise ValueError(f"weights {self.smoothness_weight} and {self.appearance_weight} must not be negative")
        if min(self.smoothness_mm, self.appearance_mm, self.appearance_intensity) <= 0 or self.iterations < 1:
            raise ValueError(f"widths must be above 0 and iterations at least 1: {self}")

    def in_words(self) -> str:
        """The parameters for people."""
        return (
            f"dense CRF: smoothness {self.smoothness_weight:g} over {self.smoothness_mm:g} {self.unit}, appearance "
            f"{self.appearance_weight:g} over {self.appearance_mm:g} {self.unit} and "
            f"{self.appearance_intensity:g} of intensity"
        )


@torch.inference_mode()
def dense_crf(
    probabilities: Tensor,
    image: Tensor,
    spacing_mm: Sequence[float],
    parameters: CrfParameters,
    *,
    exclusive: bool = True,
    features_at_once: int = FEATURES_AT_ONCE,
) -> Tensor:
    """Probabilities (channels, *size) after the field's iterations, on the device of ``probabilities``.

    ``image`` (image channels, *size) is normalised, ``spacing_mm`` has an entry per axis; two or three axes. Channels
    are labels that share a probability of one, or, not ``exclusive``, regions each of which is there or not.
    """
    if probabilities.shape[1:] != image.shape[1:] or len(spacing_mm) != image.ndim - 1:
        raise ValueError(
            f"probabilities {tuple(probabilities.shape)}, image {tuple(image.shape)} and spacing {tuple(spacing_mm)} "
            "must be of one grid"
        )
    terms = _terms(image.to(probabilities.device, torch.float32), spacing_mm, parameters, features_at_once)
    unary = _unary(probabilities.float(), exclusive=exclusive)
    state = probabilities.float()
    for _ in range(parameters.iterations):
        scores = unary.clone()
        for weight, term in terms:
            scores.add_(term.to_labels(state) if exclusive else term.to_regions(state), alpha=weight)
        state = scores.softmax(dim=0) if exclusive else scores.sigmoid()
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One normalised kernel, without its diagonal: what all other voxels say of each.

    ``scale`` is 1 / sqrt(n), ``own`` the diagonal, and ``of_ones`` the message of ones, all (1, *size).
    """

    gaussian: GaussianFilter
    features: RangeFeatures | None
    features_at_once: int
    scale: Tensor
    own: Tensor
    of_ones: Tensor

    @classmethod
    def of(cls, gaussian: GaussianFilter, features: RangeFeatures | None, one: Tensor, features_at_once: int) -> Term:
        """The kernel with these distances and, unless None, intensities; ``one`` is a volume (1, *size) of ones."""
        scale = filtered(one, gaussian, features, features_at_once).clamp_(min=1.0).rsqrt_()  # itself at least
        own = scale.square() if features is None else scale.square() * features.of_itself
        of_ones = filtered(scale, gaussian, features, features_at_once).mul_(scale).sub_(own)
        return cls(
            gaussian=gaussian,
            features=features,
            features_at_once=features_at_once,
            scale=scale,
            own=own,
            of_ones=of_ones,
        )

    def message(self, values: Tensor) -> Tensor:
        """Sum over all other voxels j of k(i, j) values_j / sqrt(n_i n_j), (channels, *size)."""
        total = filtered(values * self.scale, self.gaussian, self.features, self.features_at_once)
        return total.mul_(self.scale).sub_(values * self.own)

    def to_labels(self, state: Tensor) -> Tensor:
        """Messages of labels that share a probability of one: the first follows from the others."""
        others = self.message(state[1:])
        return torch.cat((self.of_ones - others.sum(dim=0, keepdim=True), others))

    def to_regions(self, state: Tensor) -> Tensor:
        """Messages of regions: of their presence, minus those of their absence, 1 - q."""
        return self.message(state).mul_(2).sub_(self.of_ones)


def filtered(
    values: Tensor, gaussian: GaussianFilter, features: RangeFeatures | None, features_at_once: int = FEATURES_AT_ONCE
) -> Tensor:
    """Sum over all voxels j of k(i, j) values_j, (channels, *size); without ``features`` k knows distances alone."""
    if features is None:
        return gaussian(values)
    total = torch.zeros_like(values)
    step = max(1, features_at_once // (values[0].numel() * values.element_size()))
    for first, last in pairwise((*range(0, features.count, step), features.count)):
        _add_filtered(total, values, gaussian, features.volumes(first, last, keep=step >= features.count))
    return total


def _add_filtered(total: Tensor, values: Tensor, gaussian: GaussianFilter, features: Iterator[Tensor]) -> None:
    """Add what these features tell: by itself, so that the last of a part does not keep all of it beside the next."""
    for feature in features:
        total.addcmul_(gaussian(values * feature), feature)


def _terms(
    image: Tensor, spacing_mm: Sequence[float], parameters: CrfParameters, features_at_once: int
) -> list[tuple[float, Term]]:
    """The terms that count, with their weights."""
    one = torch.ones_like(image[:1])

    def term(width_mm: float, features: RangeFeatures | None) -> Term:
        gaussian = GaussianFilter([width_mm / step for step in spacing_mm], image.shape[1:], image.device)
        return Term.of(gaussian, features, one, features_at_once)

    terms = []
    if parameters.smoothness_weight:
        terms.append((parameters.smoothness_weight, term(parameters.smoothness_mm, None)))
    if parameters.appearance_weight:
        features = RangeFeatures(image / parameters.appearance_intensity)
        terms.append((parameters.appearance_weight, term(parameters.appearance_mm, features)))
    return terms


def _unary(probabilities: Tensor, *, exclusive: bool) -> Tensor:
    """What the network says by itself: logarithms of probabilities, or logits of regions."""
    if exclusive:
        return probabilities.clamp(min=LEAST_PROBABILITY).log_()
    return probabilities.clamp(min=LEAST_PROBABILITY, max=1 - LEAST_PROBABILITY).logit()
