"""Networks whose answer is known by heart go through the whole of prediction, from the raw image to the mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from skimage.transform import resize
from torch import Tensor, nn

from nnlite.data.image import Geometry, Image, StoredGrid, read_image, read_label, write_image, write_mask
from nnlite.data.labels import Labels
from nnlite.errors import CheckpointError, ImageError
from nnlite.inference.arithmetic import Arithmetic
from nnlite.inference.predict import Model, logit_slabs, predict_case, predict_image
from nnlite.inference.sliding_window import window_starts
from nnlite.networks.blocks import ConvolutionBlock
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.topology import Topology
from nnlite.preprocessing import resample as resampling
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration, preprocess

CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Says foreground where the image is above a level; keeps what it was shown."""

    def __init__(self, level: float = 0.5, channel: int = 0):
        super().__init__()
        self.level, self.channel = level, channel
        self.seen: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        self.seen.append(batch)
        above = batch[:, self.channel : self.channel + 1] - self.level
        return torch.cat([-above, above], dim=1)


class Constant(nn.Module):
    """Says the same about every voxel."""

    def __init__(self, *logits: float):
        super().__init__()
        self.logits = logits

    def forward(self, batch: Tensor) -> Tensor:
        return torch.stack([torch.full_like(batch[:, 0], logit) for logit in self.logits], dim=1)


def configuration(
    name: str = "3d",
    spacing_mm: tuple[float, ...] = (2.0, 1.0, 1.0),
    patch_size: tuple[int, ...] = (8, 8, 8),
    previous_stage: str | None = None,
) -> Configuration:
    axes = len(patch_size)
    topology = Topology(
        strides=((1,) * axes,),
        kernels=((3,) * axes,),
        features=(8,),
        architecture="unet",
        encoder_blocks=(2,),
        decoder_convolutions=(),
    )
    return Configuration(
        name=name,
        spacing_mm=spacing_mm,
        median_shape=patch_size,
        patch_size=patch_size,
        batch_size=2,
        normalization=("none",),
        use_nonzero_mask=(False,),
        batch_dice=False,
        topology=topology,
        previous_stage=previous_stage,
        reasons={},
    )


def plan(*configurations: Configuration, transpose: tuple[int, int, int] = (0, 1, 2)) -> Plan:
    intensities = IntensityProperties(
        mean=0.5, median=0.5, std=0.3, min=0.0, max=1.0, percentile_00_5=0.0, percentile_99_5=1.0
    )
    return Plan(
        dataset="blocks",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=transpose,
        channels=("image",),
        labels=Labels(names=("background", "block"), values=(0, 1)),
        intensities=(intensities,),
        training_cases=1,
        configurations={configuration.name: configuration for configuration in configurations},
        reasons={},
    )


def model(*networks: nn.Module, transpose: tuple[int, int, int] = (0, 1, 2), **changes: object) -> Model:
    chosen = configuration(**changes)  # type: ignore[arg-type]
    return Model(
        plan=plan(chosen, transpose=transpose), configuration=chosen, networks=networks or (Threshold(),), device=CPU
    )


def in_memory(array: np.ndarray, spacing_mm: tuple[float, float, float] = (2.0, 1.0, 1.0)) -> Image:
    z, y, x = array.shape
    geometry = Geometry(shape=(z, y, x), spacing_mm=spacing_mm)
    stored = StoredGrid(axes=(0, 1, 2), flips=(False, False, False), planar=False, suffix=".nii.gz", geometry=geometry)
    return Image(array=array[None], geometry=geometry, stored=stored)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(0.01, 1, size=shape).astype(np.float32)


def block() -> np.ndarray:
    """A bright block of 4 x 10 x 10 voxels in the dark; its sides fall between voxels of twice the size."""
    array = np.full((8, 20, 20), 0.1, dtype=np.float32)
    array[2:6, 4:14, 6:16] = 0.9
    return array


def rounded_block() -> np.ndarray:
    """The block seen in voxels of twice the size and interpolated back: it loses its eight corners.

    A voxel on a side lies a quarter of a large voxel from the last centre inside: it keeps 3/4 of what is said there on
    a face, 9/16 on an edge, but only 27/64 in a corner, less than half.
    """
    mask = block() > 0.5
    mask[np.ix_([2, 5], [4, 13], [6, 15])] = False
    return mask


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
def test_every_voxel_gets_its_own_answer_whatever_the_axis_order_of_the_plan(transpose: tuple[int, int, int]) -> None:
    array = noise(13, 9, 17)
    spacing = (2.0, 1.0, 1.5)
    planned = tuple(spacing[axis] for axis in transpose)
    prediction = predict_image(model(transpose=transpose, spacing_mm=planned), "a", in_memory(array, spacing))
    assert np.array_equal(prediction.indices, array > 0.5)
    assert prediction.case_id == "a"


def reference_scores(model: Model, image: Image) -> np.ndarray:
    """Logits (labels, z, y, x) on the image's box, by the book: whole volumes, window by window, doubles."""
    configuration = model.configuration
    case = preprocess("a", image.array, image.geometry.spacing_mm, model.plan, configuration)
    window = (1,) * (3 - len(configuration.patch_size)) + configuration.patch_size
    volume = case.image.astype(np.float64)
    curves = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in window]
    weight = curves[0][:, None, None] * curves[1][:, None] * curves[2]
    total = np.zeros((model.plan.labels.count, *volume.shape[1:]))
    weights = np.zeros(volume.shape[1:])
    starts = [window_starts(n, w, model.step) for n, w in zip(volume.shape[1:], window, strict=True)]
    for corner in product(*starts):
        region = tuple(slice(start, start + n) for start, n in zip(corner, window, strict=True))
        batch = torch.from_numpy(volume[(slice(None), *region)][None]).float()
        if len(configuration.patch_size) == 2:
            batch = batch[:, :, 0]
        logits = torch.stack([network(batch) for network in model.networks]).double().mean(dim=0)[0].numpy()
        total[(slice(None), *region)] += logits.reshape(-1, *window) * weight
        weights[region] += weight
    return restored_by_the_book(total / weights, case.restoration)


def restored_by_the_book(logits: np.ndarray, restoration: Restoration) -> np.ndarray:
    """Each label's logits interpolated by scikit-image, in the image's axis order; thick slices are taken apart."""
    shape, apart = list(restoration.cropped_shape), restoration.separate_axis
    if apart is not None:
        old, new = logits.shape[apart + 1], shape[apart]
        centres = (np.arange(new) + 0.5) * old / new - 0.5
        nearest = map_coordinates(np.arange(old), [centres], order=0, mode="nearest")
        logits = logits.take(nearest, axis=apart + 1)
    scores = [resize(label, shape, order=1, mode="edge", anti_aliasing=False, clip=False) for label in logits]
    return np.stack(scores).transpose(0, *(axis + 1 for axis in np.argsort(restoration.transpose)))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0)])
@pytest.mark.parametrize(
    ("spacing_mm", "patch_size", "folds"),
    [
        ((2.0, 1.0, 1.0), (8, 8, 8), 1),  # the image's own grid
        ((1.3, 1.6, 0.8), (8, 6, 10), 2),  # finer and coarser
        ((3.1, 0.7, 1.2), (4, 12, 8), 1),
        ((5.0, 1.2, 0.7), (4, 8, 8), 1),  # thick slices, which are taken one by one
        ((1.3, 0.8), (8, 8), 2),  # 2D
    ],
)
def test_slab_by_slab_gives_what_whole_volumes_give(
    monkeypatch: pytest.MonkeyPatch,
    transpose: tuple[int, int, int],
    spacing_mm: tuple[float, ...],
    patch_size: tuple[int, ...],
    folds: int,
) -> None:
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 1500)  # a few slices at a time
    torch.manual_seed(3)
    convolution = nn.Conv3d if len(patch_size) == 3 else nn.Conv2d
    networks = [convolution(1, 5, 3, padding=1) for _ in range(folds)]
    chosen = configuration(f"{len(patch_size)}d", spacing_mm=spacing_mm, patch_size=patch_size)
    answering = Model(
        plan=replace(
            plan(chosen, transpose=transpose),
            labels=Labels(names=("background", "a", "b", "c", "d"), values=(0, 1, 2, 3, 4)),
        ),
        configuration=chosen,
        networks=tuple(networks),
        device=CPU,
    )
    image = in_memory(noise(25, 30, 22))
    with torch.inference_mode():
        scores = reference_scores(answering, image)
    best, second = np.sort(scores, axis=0)[[-1, -2]]
    clear = best - second > 1e-4
    predicted = predict_image(answering, "a", image).indices
    assert clear.mean() > 0.99
    assert len(np.unique(predicted)) > 2
    assert np.array_equal(predicted[clear], scores.argmax(axis=0)[clear])


def test_a_2d_configuration_predicts_a_volume_slice_by_slice() -> None:
    array = noise(5, 20, 18)
    network = Threshold()
    flat = model(network, name="2d", spacing_mm=(1.0, 1.0), patch_size=(8, 8))
    assert np.array_equal(predict_image(flat, "a", in_memory(array)).indices, array > 0.5)
    assert {tuple(batch.shape[1:]) for batch in network.seen} == {(1, 8, 8)}


def test_a_mask_predicted_at_another_spacing_comes_back_on_the_grid_of_the_image() -> None:
    prediction = predict_image(model(spacing_mm=(4.0, 2.0, 2.0)), "a", in_memory(block()))
    assert np.array_equal(prediction.indices, rounded_block())


def test_nothing_is_predicted_outside_of_the_box_that_holds_the_image() -> None:
    array = np.zeros((10, 12, 14), dtype=np.float32)
    array[2:9, 3:11, 4:13] = noise(7, 8, 9)
    prediction = predict_image(model(Constant(0.0, 1.0)), "a", in_memory(array))
    assert np.array_equal(prediction.indices, array > 0)


def test_a_file_with_turned_axes_gets_the_same_mask_in_the_patient(tmp_path: Path) -> None:
    array = noise(9, 11, 13)
    write_image(tmp_path / "straight.nii.gz", array[None], Geometry(shape=(9, 11, 13), spacing_mm=(2.0, 1.0, 1.0)))
    # the file's axes: x toward right, z upward, y toward front
    turned = array.transpose(2, 0, 1)[::-1, :, ::-1]
    geometry = Geometry(
        shape=(13, 9, 11),
        spacing_mm=(1.0, 2.0, 1.0),
        origin_mm=(0.0, 10.0, 12.0),
        direction=((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),
    )
    write_image(tmp_path / "turned.nii.gz", np.ascontiguousarray(turned)[None], geometry)
    for name in ("straight", "turned"):
        image = read_image(tmp_path / f"{name}.nii.gz")
        write_mask(tmp_path / f"{name}.mask.nii.gz", predict_image(model(), name, image).indices, image)
    straight, other = read_label(tmp_path / "straight.mask.nii.gz"), read_label(tmp_path / "turned.mask.nii.gz")
    assert straight.geometry.differences(other.geometry) == []
    assert np.array_equal(straight.array, other.array)
    assert other.stored.geometry.shape == (13, 9, 11)


def test_the_logits_of_the_folds_are_averaged() -> None:
    # logits (0, 1) and (0, -3): the mean (0, -1) says background, though the first fold alone says foreground
    array = noise(8, 8, 8)
    both = model(Constant(0.0, 1.0), Constant(0.0, -3.0))
    assert predict_image(model(Constant(0.0, 1.0)), "a", in_memory(array)).indices.all()
    assert not predict_image(both, "a", in_memory(array)).indices.any()
    case = preprocess("a", array[None], (2.0, 1.0, 1.0), both.plan, both.configuration)
    expected = torch.tensor([0.0, -1.0]).view(2, 1, 1, 1).expand(2, 8, 8, 8)
    torch.testing.assert_close(torch.cat(list(logit_slabs(both, case)), dim=1), expected)


def test_a_model_is_computed_as_its_arithmetic_says() -> None:
    def without(slabs: Iterable[Tensor], restoration: Restoration) -> tuple[Tensor, Restoration]:
        return -torch.cat([slab.clone() for slab in slabs], dim=1), restoration

    array = noise(8, 16, 24)
    plain = model(Constant(0.0, 1.0), Constant(0.0, -3.0))
    assert not predict_image(plain, "a", in_memory(array)).indices.any()
    other = replace(plain, arithmetic=Arithmetic(folds_apart=True, windows_alone=True, restore=without))
    assert predict_image(other, "a", in_memory(array)).indices.all()  # the logits were (0, -1)


def test_layers_take_no_shortcuts_where_the_arithmetic_says_so() -> None:
    convolve, normalize, _ = ConvolutionBlock(1, 2, (3, 3, 3))
    made = model(nn.Sequential(convolve, normalize))
    assert convolve.shortcut
    assert normalize.shortcut
    replace(made, arithmetic=Arithmetic(no_shortcuts=True))
    assert not convolve.shortcut
    assert not normalize.shortcut


def test_networks_are_set_to_evaluation_mode() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Dropout(0.9))
    assert network.training
    model(network)
    assert not any(module.training for module in network.modules())


def test_mirroring_and_step_reach_the_windows() -> None:
    # patch 8 on an axis of 16: windows at 0, 8 with step 1; eight flips each, one by one
    network = Threshold()
    mirrored = replace(model(network), mirror_axes=(0, 1, 2), step=1.0)
    predict_image(mirrored, "a", in_memory(noise(16, 8, 8)))
    assert [len(batch) for batch in network.seen] == [1] * 16


def test_probabilities_add_up_to_one_and_agree_with_the_mask() -> None:
    array = noise(9, 10, 11)
    array[np.abs(array - 0.5) < 0.01] = 0.6  # no voxel on the fence
    probabilities = np.zeros((2, 9, 10, 11), dtype=np.float32)

    def keep(region: tuple[slice, slice, slice], part: np.ndarray) -> None:
        probabilities[(slice(None), *region)] = part

    prediction = predict_image(model(), "a", in_memory(array), keep_probabilities=keep)
    assert probabilities.sum(axis=0) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(probabilities.argmax(axis=0), prediction.indices)
    # logits -0.1 and 0.1 where the image is 0.6: 1 / (1 + exp(-0.2)) = 0.5498
    assert probabilities[1][array == np.float32(0.6)] == pytest.approx(0.5498, abs=1e-4)


def cascade(second_stage: nn.Module) -> Model:
    low = configuration(name="3d-lowres", spacing_mm=(4.0, 2.0, 2.0))
    full = configuration(name="3d-cascade", previous_stage="3d-lowres")
    both = plan(low, full)
    first = Model(plan=both, configuration=low, networks=(Threshold(),), device=CPU)
    return Model(plan=both, configuration=full, networks=(second_stage,), device=CPU, previous=first)


def test_a_cascade_shows_its_second_stage_what_the_first_predicted() -> None:
    second = Threshold(channel=1)  # looks at the labels alone
    prediction = predict_image(cascade(second), "a", in_memory(block()))
    assert np.array_equal(prediction.indices, rounded_block())
    assert {batch.shape[1] for batch in second.seen} == {2}  # one image channel, one foreground label


def test_a_cascade_without_its_first_stage_is_refused() -> None:
    alone = replace(cascade(Threshold(channel=1)), previous=None)
    with pytest.raises(CheckpointError, match=r"3d-cascade continues from 3d-lowres.* train 3d-lowres"):
        predict_image(alone, "a", in_memory(noise(8, 8, 8)))


def test_a_cascade_refuses_cases_that_lack_the_previous_prediction() -> None:
    stages = cascade(Threshold(channel=1))
    case = preprocess("a", noise(1, 8, 8, 8), (2.0, 1.0, 1.0), stages.plan, stages.configuration)
    with pytest.raises(ValueError, match="3d-cascade needs the previous stage's prediction"):
        predict_case(stages, case)


def test_a_case_that_cannot_be_written_to_is_predicted_without_a_murmur(recwarn: pytest.WarningsRecorder) -> None:
    threshold = model()
    case = preprocess("a", noise(1, 8, 8, 8), (2.0, 1.0, 1.0), threshold.plan, threshold.configuration)
    frozen = case.image.copy()
    frozen.flags.writeable = False
    stored: PreprocessedCase = replace(case, image=frozen)
    assert np.array_equal(predict_case(threshold, stored), predict_case(threshold, case))
    assert not recwarn


def test_an_image_with_other_channels_than_the_plan_is_refused() -> None:
    image = in_memory(noise(8, 8, 8))
    colour = replace(image, array=np.repeat(image.array, 3, axis=0))
    with pytest.raises(ImageError, match="a: 3 instead of 1 channels"):
        predict_image(model(), "a", colour)


def test_a_model_without_networks_is_refused() -> None:
    chosen = configuration()
    with pytest.raises(ValueError, match="one fold at least"):
        Model(plan=plan(chosen), configuration=chosen, networks=(), device=CPU)
