"""Tiles of a network without padding cover a case, and say what it would say about the whole image at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d

from nnlite.inference.overlap_tiles import OverlapTiles, tile_starts
from nnlite.inference.sliding_window import predict_logits, predict_slabs


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def sees_three(batch: Tensor) -> Tensor:
    """A network of one convolution without padding: a voxel of margin on every side."""
    return conv3d(batch, image(2, 1, 3, 3, 3))


@pytest.mark.parametrize(("size", "tile", "divisor"), [(1000, 388, 16), (388, 388, 16), (100, 388, 16), (37, 5, 8)])
def test_tiles_cover_the_axis_without_gaps_and_none_begins_beyond_it(size: int, tile: int, divisor: int) -> None:
    starts = tile_starts(size, tile, divisor)
    assert starts[0] == 0
    assert starts[-1] < size <= starts[-1] + tile
    assert all(0 < later - earlier <= tile for earlier, later in pairwise(starts))
    assert all(start % divisor == 0 for start in starts) or tile < divisor


@pytest.mark.parametrize("shape", [(13, 21, 17), (4, 6, 5), (2, 30, 7)])
@pytest.mark.parametrize("window_batch", [1, 3])
def test_tiles_say_what_the_network_says_about_the_whole_image_continued(
    shape: tuple[int, ...], window_batch: int
) -> None:
    case = image(1, *shape)
    continued = np.pad(case.numpy(), ((0, 0), (1, 1), (1, 1), (1, 1)), mode="symmetric")
    wanted = sees_three(torch.from_numpy(continued)[None])[0]
    tiles = OverlapTiles(margin=(1, 1, 1), divisor=(2, 2, 2))
    logits = predict_logits(
        sees_three, case, patch_size=(4, 6, 5), labels=2, tiles=tiles, window_batch=window_batch, device="cpu"
    )
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)


def test_slices_are_tiles_of_their_own() -> None:
    case, kernel = image(1, 3, 20, 15), image(1, 1, 3, 3)
    seen = []

    def network(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape[2:]))
        return torch.nn.functional.conv2d(batch, kernel)

    tiles = OverlapTiles(margin=(1, 1), divisor=(4, 4))
    logits = predict_logits(network, case, patch_size=(8, 8), labels=1, tiles=tiles, device="cpu")
    continued = np.pad(case[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="symmetric")[:, None]
    wanted = torch.nn.functional.conv2d(torch.from_numpy(continued), kernel)[:, 0][None]
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=0)
    assert seen == [(10, 10)] * (3 * 3 * 2)  # 20 = 8 + 8 + 4, 15 = 8 + 7


def test_only_a_band_as_deep_as_a_tile_is_held() -> None:
    tiles = OverlapTiles(margin=(1, 1, 1), divisor=(4, 4, 4))
    views = predict_slabs(sees_three, image(1, 50, 8, 8), patch_size=(8, 8, 8), labels=2, tiles=tiles, device="cpu")
    sizes = [(view.untyped_storage().nbytes(), view.shape[1]) for view in views]
    assert {held for held, _ in sizes} == {2 * 8 * 8 * 8 * 4}
    assert sum(slices for _, slices in sizes) == 50
