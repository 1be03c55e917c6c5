"""The dense CRF gives the marginals of a brute-force computation over all pairs of voxels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nnlite.inference.crf import CrfParameters, dense_crf

NARROW = CrfParameters(
    smoothness_weight=3, smoothness_mm=1.2, appearance_weight=8, appearance_mm=2, appearance_intensity=0.3
)
WIDE = CrfParameters(
    smoothness_weight=2, smoothness_mm=2, appearance_weight=6, appearance_mm=5, appearance_intensity=0.6, iterations=8
)
CUBE = (12, 12, 12)
SPACING_MM = (1.5, 1.0, 0.8)


def brute_force(
    probabilities: Tensor, image: Tensor, spacing_mm, parameters: CrfParameters, *, exclusive: bool
) -> Tensor:
    """The same field with all pairs of voxels in two matrices, in double precision."""
    axes = [torch.arange(n, dtype=torch.float64) * step for n, step in zip(image.shape[1:], spacing_mm, strict=True)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1).t()
    far = torch.cdist(places, places).square()
    unlike = torch.cdist(image.double().flatten(1).t(), image.double().flatten(1).t()).square()
    total = torch.zeros_like(far)
    for weight, kernel in (
        (parameters.smoothness_weight, (-far / (2 * parameters.smoothness_mm**2)).exp()),
        (
            parameters.appearance_weight,
            (-far / (2 * parameters.appearance_mm**2) - unlike / (2 * parameters.appearance_intensity**2)).exp(),
        ),
    ):
        n = kernel.sum(dim=1)
        total += weight * (kernel / (n[:, None] * n).sqrt()).fill_diagonal_(0)
    state = probabilities.double().flatten(1)
    unary = state.log() if exclusive else state.logit()
    for _ in range(parameters.iterations):
        state = (unary + state @ total).softmax(0) if exclusive else (unary + (2 * state - 1) @ total).sigmoid()
    return state.view(probabilities.shape)


def field(channels: int, size: tuple[int, ...], *, seed: int, alike: bool = False) -> tuple[Tensor, Tensor]:
    """Probabilities of three labels and an image, both at random; ``alike``: channels differ by little noise."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(1 if alike else channels, *size, generator=generator).repeat(
        channels if alike else 1, *[1] * len(size)
    )
    image = image + 0.02 * torch.randn(channels, *size, generator=generator)
    return torch.randn(3, *size, generator=generator).softmax(dim=0), image


@pytest.mark.parametrize("parameters", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("exclusive", [True, False], ids=["labels", "regions"])
def test_marginals_on_a_cube_of_12_equal_brute_force_within_a_thousandth(parameters: CrfParameters, exclusive: bool):
    probabilities, image = field(1, CUBE, seed=1)
    found = dense_crf(probabilities, image, SPACING_MM, parameters, exclusive=exclusive)
    expected = brute_force(probabilities, image, SPACING_MM, parameters, exclusive=exclusive)
    assert (found - expected).abs().max() < 1e-3
    assert (expected - probabilities).abs().max() > 0.2  # the field has something to say


@pytest.mark.parametrize("channels", [2, 3])
def test_several_channels_equal_brute_force_within_a_thousandth(channels: int):
    probabilities, image = field(channels, CUBE, seed=2, alike=channels == 3)
    found = dense_crf(probabilities, image, SPACING_MM, WIDE)
    assert (found - brute_force(probabilities, image, SPACING_MM, WIDE, exclusive=True)).abs().max() < 1e-3


def test_pictures_equal_brute_force_within_a_thousandth():
    probabilities, image = field(1, (40, 45), seed=3)  # longer than a block of the filter and its reach
    found = dense_crf(probabilities, image, (1.0, 1.0), NARROW)
    assert (found - brute_force(probabilities, image, (1.0, 1.0), NARROW, exclusive=True)).abs().max() < 1e-3


def test_less_memory_gives_the_same():
    probabilities, image = field(1, CUBE, seed=4)
    once = dense_crf(probabilities, image, SPACING_MM, WIDE)
    in_parts = dense_crf(probabilities, image, SPACING_MM, WIDE, features_at_once=3 * image.numel() * 4)
    assert torch.allclose(once, in_parts, atol=1e-5)


def test_probabilities_stay_probabilities():
    probabilities, image = field(1, CUBE, seed=5)
    assert torch.allclose(dense_crf(probabilities, image, SPACING_MM, WIDE).sum(dim=0), torch.ones(CUBE))


def test_a_ragged_mask_snaps_to_the_edge_of_the_image():
    truth = torch.arange(32).repeat(32, 1) >= 16
    image = 2 * truth[None].float()
    noise = 1.5 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    inside = (2 * truth - 1 + noise).sigmoid()
    appearance = CrfParameters(
        smoothness_weight=0, smoothness_mm=1, appearance_weight=10, appearance_mm=6, appearance_intensity=0.5
    )
    after = dense_crf(torch.stack([1 - inside, inside]), image, (1.0, 1.0), appearance)
    assert ((inside > 0.5) == truth).float().mean() < 0.8
    assert (after.argmax(dim=0).bool() == truth).float().mean() > 0.99


def test_without_weights_nothing_changes():
    probabilities, image = field(1, CUBE, seed=6)
    nothing = replace(WIDE, smoothness_weight=0, appearance_weight=0)
    assert torch.allclose(dense_crf(probabilities, image, SPACING_MM, nothing), probabilities, atol=1e-6)


def test_words_tell_distances_in_pixels_where_these_have_no_size():
    assert NARROW.in_words() == "dense CRF: smoothness 3 over 1.2 mm, appearance 8 over 2 mm and 0.3 of intensity"
    in_pixels = replace(NARROW, unit="pixels").in_words()
    assert in_pixels == "dense CRF: smoothness 3 over 1.2 pixels, appearance 8 over 2 pixels and 0.3 of intensity"


def test_wrong_input_is_refused():
    probabilities, image = field(1, CUBE, seed=7)
    with pytest.raises(ValueError, match="must be of one grid"):
        dense_crf(probabilities, image[:, :-1], SPACING_MM, WIDE)
    with pytest.raises(ValueError, match="must be of one grid"):
        dense_crf(probabilities, image, (1.0, 1.0), WIDE)
    with pytest.raises(ValueError, match="widths must be above 0"):
        replace(WIDE, appearance_mm=0)
    with pytest.raises(ValueError, match="must not be negative"):
        replace(WIDE, smoothness_weight=-1)
