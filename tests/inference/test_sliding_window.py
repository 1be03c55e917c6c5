"""Windows cover the case once over, weights add up to one, and blending changes nothing where it must not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from threading import get_ident

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv3d

from nnlite.inference import sliding_window
from nnlite.inference.blending import gaussian_weight
from nnlite.inference.sliding_window import (
    blending_device,
    mirrored_mean,
    predict_logits,
    predict_slabs,
    window_starts,
)
from nnlite.planning.mirroring import Exchange


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def identity(batch: Tensor) -> Tensor:
    return batch


@pytest.mark.parametrize(("size", "window", "step"), [(100, 64, 0.5), (65, 64, 0.5), (64, 64, 0.5), (37, 5, 0.3)])
def test_windows_cover_the_axis_and_stop_at_its_border(size: int, window: int, step: float) -> None:
    starts = window_starts(size, window, step)
    covered = {voxel for start in starts for voxel in range(start, start + window)}
    assert covered == set(range(size))
    assert all(later - earlier <= window * step + 1 for earlier, later in pairwise(starts))


def test_window_count_follows_the_published_formula() -> None:
    # ceil((150 - 64) / 32) + 1 = 4 windows, 86 / 3 = 28.67 voxels apart: 0, 28.67, 57.33, 86
    assert window_starts(150, 64, 0.5) == [0, 29, 57, 86]


def test_a_window_of_one_voxel_visits_every_voxel_once() -> None:
    assert window_starts(4, 1, 0.5) == [0, 1, 2, 3]


def test_a_window_longer_than_the_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="window of 65 voxels is longer than the axis of 64"):
        window_starts(64, 65)


@pytest.mark.parametrize("step", [0, -0.5, 1.5])
def test_a_step_that_leaves_gaps_or_never_ends_is_refused(step: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        window_starts(100, 64, step)


def test_a_constant_network_gives_a_constant_case() -> None:
    def network(batch: Tensor) -> Tensor:
        levels = torch.tensor([-4.0, 0.5, 3.0]).view(1, 3, 1, 1, 1)
        return levels.expand(len(batch), 3, *batch.shape[2:])

    logits = predict_logits(network, image(1, 13, 21, 17), patch_size=(8, 8, 8), labels=3, device="cpu")
    expected = torch.tensor([-4.0, 0.5, 3.0]).view(3, 1, 1, 1).expand(3, 13, 21, 17)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("window_batch", [1, 3, 100])
@pytest.mark.parametrize("step", [0.3, 0.5, 1.0])
def test_an_identity_network_gives_the_image_itself(window_batch: int, step: float) -> None:
    case = image(2, 13, 21, 17)
    logits = predict_logits(
        identity, case, patch_size=(8, 10, 6), labels=2, step=step, window_batch=window_batch, device="cpu"
    )
    torch.testing.assert_close(logits, case)


def test_a_pointwise_network_gives_the_same_as_on_the_whole_case() -> None:
    mix = image(3, 2, 1, 1, 1)
    case = image(2, 12, 20, 15)
    logits = predict_logits(lambda batch: conv3d(batch, mix), case, patch_size=(8, 8, 8), labels=3, device="cpu")
    torch.testing.assert_close(logits, conv3d(case[None], mix)[0])


def test_two_windows_are_blended_by_their_gaussians() -> None:
    # Windows [0, 4) and [2, 6) on an axis of 6; each answers with its number. Sigma is 4 / 8 = 0.5, so the Gaussian at
    # 0.5 and 1.5 voxels from the centre is exp(-0.5) and exp(-4.5). Voxel 2 lies 0.5 from the centre of the first
    # window and 1.5 from that of the second: (1 exp(-0.5) + 2 exp(-4.5)) / (exp(-0.5) + exp(-4.5)) = 1.01799.
    answers = iter([1.0, 2.0])
    logits = predict_logits(
        lambda batch: torch.full_like(batch, next(answers)),
        torch.zeros(1, 1, 1, 6),
        patch_size=(1, 1, 4),
        labels=1,
        device="cpu",
    )
    torch.testing.assert_close(logits.flatten(), torch.tensor([1, 1, 1.01799, 1.98201, 2, 2]), atol=1e-5, rtol=0)


def test_a_case_of_one_window_is_exactly_what_the_network_says() -> None:
    kernel = image(2, 1, 3, 3, 3)
    case = image(1, 8, 12, 10)
    logits = predict_logits(
        lambda batch: conv3d(batch, kernel, padding=1), case, patch_size=(8, 12, 10), labels=2, device="cpu"
    )
    assert torch.equal(logits, conv3d(case[None], kernel, padding=1)[0])


def test_a_small_case_is_padded_with_zeros_on_both_sides_and_the_padding_taken_off_again() -> None:
    seen: list[Tensor] = []

    def network(batch: Tensor) -> Tensor:
        seen.append(batch)
        return batch

    case = image(1, 3, 20, 5) + 10
    logits = predict_logits(network, case, patch_size=(8, 8, 8), labels=1, device="cpu")
    torch.testing.assert_close(logits, case)
    # 8 - 3 = 5 slices are missing: two before, three after; 8 - 5 = 3 columns: one before, two after
    inside = torch.zeros(8, 8, 8, dtype=torch.bool)
    inside[2:5, :, 1:6] = True
    assert all(torch.equal(batch[0, 0] != 0, inside) for batch in seen)


def test_a_2d_network_sees_slices_in_batches() -> None:
    shapes: list[tuple[int, ...]] = []

    def network(batch: Tensor) -> Tensor:
        shapes.append(tuple(batch.shape))
        return batch

    case = image(2, 5, 8, 6)
    logits = predict_logits(network, case, patch_size=(8, 6), labels=2, window_batch=2, device="cpu")
    assert torch.equal(logits, case)
    assert shapes == [(2, 2, 8, 6), (2, 2, 8, 6), (1, 2, 8, 6)]


def test_2d_windows_are_blended_within_their_slice() -> None:
    case = image(1, 3, 30, 25)
    logits = predict_logits(identity, case, patch_size=(16, 12), labels=1, window_batch=4, device="cpu")
    torch.testing.assert_close(logits, case)


def test_mirroring_changes_nothing_for_a_network_that_flips_with_its_input() -> None:
    symmetric = torch.ones(1, 1, 3, 3, 3)
    case = image(1, 8, 20, 10)

    def predict(axes: tuple[int, ...]) -> Tensor:
        return predict_logits(
            lambda batch: conv3d(batch, symmetric, padding=1),
            case,
            patch_size=(8, 8, 8),
            labels=1,
            mirror_axes=axes,
            device="cpu",
        )

    torch.testing.assert_close(predict((0, 1, 2)), predict(()))


def test_mirroring_is_the_mean_over_every_combination_of_the_axes() -> None:
    # A network that answers with the column number, whatever it sees: flipped back along x it says 2, 1, 0 instead of
    # 0, 1, 2, so that the mean is 1 everywhere. Flips along y leave it alone.
    def network(batch: Tensor) -> Tensor:
        return torch.arange(3.0).expand(batch.shape)

    batch = torch.zeros(1, 1, 2, 3)
    assert torch.equal(mirrored_mean(network, batch, (0,)), network(batch))
    assert torch.equal(mirrored_mean(network, batch, (0, 1)), torch.ones(1, 1, 2, 3))


@pytest.mark.parametrize("at_once", [1, 2])
def test_sides_that_a_mirror_exchanges_are_changed_back(at_once: int) -> None:
    # A network that names the left half 1 and the right half 2 whatever it sees is right about every image, mirrored or
    # not: only if the channels change places are all flips of one mind.
    def network(batch: Tensor) -> Tensor:
        left = (torch.arange(4.0) >= 2).float().expand(len(batch), 1, 3, 4)
        return torch.cat([torch.zeros_like(left), left, 1 - left], dim=1)

    batch, told = torch.zeros(2, 1, 3, 4), Recorded()
    exchange = Exchange(axis=1, indices=(0, 2, 1), channels=((1, 2),))
    options = {"at_once": 2 * at_once, "compare": told}
    assert torch.equal(mirrored_mean(network, batch, (0, 1), exchange=exchange, **options), network(batch))
    assert all(torch.equal(answer, told.together) for answer in told.answers)
    assert len(told.answers) == 4
    assert torch.all(mirrored_mean(network, batch, (0, 1))[:, 1:] == 0.5)


class Recorded:
    """Keeps what the members say."""

    def answer(self, logits: Tensor) -> Tensor:
        return logits.argmax(dim=1)

    def add(self, answers: Sequence[Tensor], together: Tensor) -> None:
        self.answers, self.together = answers, together


def test_a_cascade_sees_exchanged_labels_in_a_mirrored_window() -> None:
    seen = []
    batch = torch.tensor([[[0.5, 0.6, 0.7]], [[0.0, 1.0, 2.0]]]).permute(1, 0, 2)[:, :, None]  # an image, indices
    before = batch.clone()
    exchange = Exchange(axis=1, indices=(0, 1, 2), channels=(), previous=(0, 2, 1))
    mirrored_mean(lambda batch: seen.append(batch.clone()) or batch, batch, (0, 1), exchange=exchange)
    plain, upside_down, sideways, both = seen
    assert torch.equal(plain, before)
    assert torch.equal(upside_down, before)  # of one row
    assert sideways[0, :, 0].tolist() == [pytest.approx([0.7, 0.6, 0.5]), [1, 2, 0]]
    assert torch.equal(sideways, both)
    assert torch.equal(batch, before)


@pytest.mark.parametrize(("axes", "calls"), [((), 1), ((0,), 2), ((0, 1, 2), 8)])
def test_every_flip_is_predicted_once(axes: tuple[int, ...], calls: int) -> None:
    seen = []
    mirrored_mean(lambda batch: seen.append(batch) or batch, image(1, 1, 2, 2, 2), axes)
    assert len(seen) == calls


def test_half_precision_networks_are_blended_in_single_precision() -> None:
    logits = predict_logits(
        lambda batch: batch.half(), image(1, 10, 10, 10), patch_size=(8, 8, 8), labels=1, device="cpu"
    )
    assert logits.dtype == torch.float32


def test_autocast_reaches_the_network() -> None:
    kernel = image(1, 1, 1, 1, 1)
    dtypes = []

    def network(batch: Tensor) -> Tensor:
        output = conv3d(batch, kernel)
        dtypes.append(output.dtype)
        return output

    predict_logits(
        network, image(1, 4, 4, 4), patch_size=(4, 4, 4), labels=1, autocast_dtype=torch.bfloat16, device="cpu"
    )
    assert dtypes == [torch.bfloat16]


def test_slices_are_handed_on_as_soon_as_no_window_touches_them_any_more() -> None:
    seen = []

    def network(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return batch

    case = image(1, 20, 8, 8)
    # windows at 0, 4, 8, 12 along z, one at each depth: slices 0 to 3 are finished when the first window is
    slabs = predict_slabs(network, case, patch_size=(8, 8, 8), labels=1, device="cpu")
    begin, depths = 0, []
    for count, slab in enumerate(slabs, start=1):
        torch.testing.assert_close(slab, case[:, begin : begin + slab.shape[1]])
        begin += slab.shape[1]
        depths.append(slab.shape[1])
        assert sum(seen) == count
    assert depths == [4, 4, 4, 8]


@pytest.mark.parametrize("window_batch", [1, 2, 5])
@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
def test_a_band_moved_along_gives_what_all_windows_at_once_give(step: float, window_batch: int) -> None:
    kernel, case = image(2, 1, 3, 3, 3), image(1, 21, 13, 10)

    def network(batch: Tensor) -> Tensor:
        return conv3d(batch, kernel, padding=1)

    starts = [window_starts(n, w, step) for n, w in zip((21, 13, 10), (8, 8, 10), strict=True)]
    total, weights = torch.zeros(2, 21, 13, 10), torch.zeros(21, 13, 10)
    z, y, x = (gaussian_weight(n).float() for n in (8, 8, 10))
    weight = z[:, None, None] * y[:, None] * x
    for z0, y0, x0 in product(*starts):
        region = (slice(z0, z0 + 8), slice(y0, y0 + 8), slice(x0, x0 + 10))
        total[(slice(None), *region)] += weight * network(case[None, :, *region])[0]
        weights[region] += weight
    logits = predict_logits(
        network, case, patch_size=(8, 8, 10), labels=2, step=step, window_batch=window_batch, device="cpu"
    )
    torch.testing.assert_close(logits, total / weights, atol=1e-4, rtol=0)


def test_memory_does_not_grow_with_the_length_of_the_case() -> None:
    views = predict_slabs(identity, image(1, 200, 8, 8), patch_size=(8, 8, 8), labels=1, device="cpu")
    assert {view.untyped_storage().nbytes() for view in views} == {8 * 8 * 8 * 4}  # one window deep


def test_a_batch_whose_answer_would_be_too_large_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliding_window, "BATCH_LOGITS", 2 * 8 * 8 * 8)
    seen = []
    predict_logits(
        lambda batch: seen.append(len(batch)) or batch,
        image(1, 8, 8, 20),
        patch_size=(8, 8, 8),
        labels=1,
        window_batch=4,
        device="cpu",
    )
    assert seen == [2, 2]


@pytest.mark.parametrize("part", [1, 50, 10**6])
def test_flips_are_added_a_few_labels_at_a_time(monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    expected = mirrored_mean(lambda batch: batch * 2, image(2, 5, 3, 4, 5), (0, 2))
    monkeypatch.setattr(sliding_window, "PART_LOGITS", part)
    case = image(2, 5, 3, 4, 5)
    given = case.clone()
    torch.testing.assert_close(mirrored_mean(lambda batch: batch * 2, case, (0, 2)), expected)
    torch.testing.assert_close(mirrored_mean(lambda batch: batch, case, (0, 2)), given)
    assert torch.equal(case, given)  # a network that answers with its input does not see it changed


def test_progress_counts_the_windows() -> None:
    reports = []
    predict_logits(
        identity,
        image(1, 4, 4, 8),
        patch_size=(4, 4, 4),
        labels=1,
        window_batch=2,
        device="cpu",
        progress=lambda what, done, total: reports.append((what, done, total)),
    )
    assert reports == [("windows", 2, 3), ("windows", 3, 3)]


def test_a_network_with_another_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4, 4\) where \(1, 3, 4, 4, 4\) is needed"):
        predict_logits(identity, image(1, 4, 4, 4), patch_size=(4, 4, 4), labels=3, device="cpu")


@pytest.mark.parametrize(("elements", "home"), [(1000, "cuda"), (1001, "cpu")])
def test_logits_may_take_half_of_what_is_free_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, elements: int, home: str
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8000, 10000))  # 1000 numbers of four bytes are half
    assert blending_device(elements, torch.device("cuda")).type == home


@pytest.mark.gpu
@pytest.mark.parametrize("free", [None, 0])
def test_a_gpu_gives_what_the_cpu_gives_with_room_for_the_logits_or_without(
    monkeypatch: pytest.MonkeyPatch, free: int | None
) -> None:
    kernel = image(2, 1, 3, 3, 3)
    case = image(1, 20, 30, 25)

    def predict(device: str) -> Tensor:
        return predict_logits(
            lambda batch: conv3d(batch, kernel.to(batch.device), padding=1),
            case,
            patch_size=(16, 16, 16),
            labels=2,
            mirror_axes=(0, 2),
            window_batch=3,
            device=device,
        )

    if free is not None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    on_gpu = predict("cuda")
    assert on_gpu.device.type == ("cuda" if free is None else "cpu")
    # TF32 convolutions keep ten bits of mantissa: 27 products of size 1 differ by a few thousandths
    torch.testing.assert_close(on_gpu.cpu(), predict("cpu"), atol=2e-2, rtol=0)


def test_flips_go_through_the_network_two_at_a_time_where_a_batch_may_be_so_large() -> None:
    seen: list[int] = []

    def network(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return batch.cumsum(dim=-1)

    batch = image(1, 2, 4, 5, 6)
    alone = mirrored_mean(network, batch, (0, 2))
    together = mirrored_mean(network, batch, (0, 2), at_once=4)
    assert seen == [1, 1, 1, 1, 2, 2]
    assert torch.equal(alone, together)


@pytest.mark.parametrize("axes", [(), (0, 2)])
@pytest.mark.parametrize("length", [8, 20, 30])  # one window, three, and five: an odd one is left
def test_threads_side_by_side_give_the_same_logits_to_the_bit(axes: tuple[int, ...], length: int) -> None:
    seen: list[tuple[int, int]] = []

    def network(batch: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        seen.append((len(batch), get_ident()))
        return batch.cumsum(dim=-1) / 3

    case = image(1, 8, 8, length)
    options = {"patch_size": (8, 8, 8), "labels": 1, "mirror_axes": axes, "device": "cpu"}
    options["autocast_dtype"] = torch.bfloat16
    alone = predict_logits(network, case, **options)
    assert {thread for _, thread in seen} == {get_ident()}
    seen.clear()
    assert torch.equal(predict_logits(network, case, threads=2, **options), alone)
    assert {count for count, _ in seen} == {1}
    assert get_ident() not in {thread for _, thread in seen}


def test_a_thread_s_error_comes_out() -> None:
    def broken(batch: Tensor) -> Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict_logits(broken, image(1, 8, 8, 20), patch_size=(8, 8, 8), labels=1, threads=2, device="cpu")
