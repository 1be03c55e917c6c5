"""Poses keep to their limits, turns move voxels and nothing else, and no motion confuses left and right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import plan, store_cases

from nnlite.data.labels import Labels
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.mirroring import exchange
from nnlite.preprocessing.preprocess import PreprocessedCase
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.assemble import assemble
from nnlite.training.augmentation.presets import PRESETS
from nnlite.training.augmentation.spatial import (
    Placing,
    Spatial,
    Turn,
    before_turn,
    draw_pose,
    placing_of,
    region_size,
    turn_planes,
    turned,
)
from nnlite.training.patches import PatchLoader


def poses(patch_size: Sequence[int], count: int = 3000) -> list[np.ndarray | None]:
    rng = np.random.default_rng(0)
    return [draw_pose(rng, patch_size) for _ in range(count)]


def test_two_thirds_of_all_samples_keep_their_pose() -> None:
    kept = sum(pose is None for pose in poses((16, 16, 16)))
    assert kept / 3000 == pytest.approx(0.8 * 0.8, abs=4 * math.sqrt(0.64 * 0.36 / 3000))


@pytest.mark.parametrize("patch_size", [(32, 32), (16, 16, 16), (8, 32, 32)])
def test_a_pose_is_a_rotation_times_a_scaling_between_the_limits(patch_size: tuple[int, ...]) -> None:
    scales = []
    turned_axes = 2 if max(patch_size) / patch_size[0] > 3 else len(patch_size)
    for pose in filter(lambda pose: pose is not None, poses(patch_size)):
        scale = abs(np.linalg.det(pose)) ** (1 / turned_axes)
        scales.append(scale)
        turned = pose[-turned_axes:, -turned_axes:]
        assert np.allclose(turned.T @ turned, scale**2 * np.eye(turned_axes))
        assert np.linalg.det(turned) > 0  # no mirroring hides in it
    assert 0.7 <= min(scales) < 0.72
    assert 1.38 < max(scales) <= 1.4


def angles_deg(patch_size: Sequence[int]) -> np.ndarray:
    drawn = [pose for pose in poses(patch_size) if pose is not None]
    return np.array([math.degrees(math.atan2(pose[-1, -2], pose[-1, -1])) for pose in drawn])


def test_slices_are_turned_all_the_way_unless_they_are_long() -> None:
    assert np.abs(angles_deg((32, 32))).max() > 170
    assert np.abs(angles_deg((48, 32))).max() > 170  # 1.5 : 1 is not longer than that
    assert 14 < np.abs(angles_deg((64, 32))).max() <= 15


def test_volumes_are_turned_by_thirty_degrees_per_axis_at_most() -> None:
    for pose in filter(lambda pose: pose is not None, poses((16, 16, 16))):
        tilt = math.degrees(math.acos(min(1, pose[0, 0] / np.cbrt(np.linalg.det(pose)))))
        assert tilt <= math.degrees(math.acos(math.cos(math.radians(30)) ** 2)) + 1e-6  # turned about two axes


def test_flat_patches_are_turned_and_scaled_in_plane_only() -> None:
    for pose in filter(lambda pose: pose is not None, poses((8, 32, 32))):
        assert pose[0].tolist() == [1, 0, 0]
        assert pose[:, 0].tolist() == [1, 0, 0]
    assert any(pose is not None and pose[0, 1] != 0 for pose in poses((11, 32, 32)))  # 32 / 11 < 3


@pytest.mark.parametrize("patch_size", [(16, 24), (15, 16, 9), (4, 32, 32)])
def test_a_region_holds_every_voxel_of_its_patch_and_shares_its_centre(patch_size: tuple[int, ...]) -> None:
    corners = np.stack(np.meshgrid(*[(-(s - 1) / 2, (s - 1) / 2) for s in patch_size]), axis=-1).reshape(
        -1, len(patch_size)
    )
    for pose in poses(patch_size, 300):
        size = np.array(region_size(patch_size, pose))
        reach = np.abs(corners if pose is None else corners @ pose.T).max(axis=0)
        assert (reach <= (size - 1) / 2 + 1e-9).all()
        assert ((size - patch_size) % 2 == 0).all()
        assert (size >= patch_size).all()


# quarter turns


def test_axes_change_places_only_where_they_have_one_spacing_and_no_sides() -> None:
    assert turn_planes((1.0, 1.0)) == ((0, 1),)
    assert turn_planes((3.0, 0.7, 0.7)) == ((1, 2),)
    assert turn_planes((1.0, 1.005, 1.0)) == ((0, 1), (0, 2), (1, 2))
    assert turn_planes((1.0, 1.02)) == ()
    assert turn_planes((1.0, 1.0, 1.0), sided=0) == ((1, 2),)
    assert turn_planes((1.0, 1.0), sided=1) == ()


@pytest.mark.parametrize("turn", [(0, 1, 1), (0, 1, 2), (0, 2, 3), (1, 2, 1)])
def test_a_turn_makes_a_patch_of_the_planned_size_and_four_are_none(turn: Turn) -> None:
    size = (4, 6, 8)
    volume = np.arange(math.prod(size) * 2).reshape(2, *before_turn(size, turn))
    once = turned(volume, turn, 3)
    assert once.shape == (2, *size)
    assert np.array_equal(turned(once, (*turn[:2], 4 - turn[2]), 3), volume)


@pytest.mark.parametrize("turn", [(0, 1, 1), (0, 2, 2), (1, 2, 3)])
def test_a_turn_is_a_rotation_and_never_a_mirror(turn: Turn) -> None:
    """Three voxels along the axes around a fourth: their handedness is the sign of the determinant of their steps."""
    volume = np.zeros((5, 5, 5))
    for mark, place in enumerate(((2, 2, 2), (3, 2, 2), (2, 3, 2), (2, 2, 3)), start=1):
        volume[place] = mark
    after = turned(volume, turn, 3)
    centre, *ends = (np.argwhere(after == mark)[0] for mark in (1, 2, 3, 4))
    assert np.linalg.det(np.array([end - centre for end in ends])) == pytest.approx(1)


SIDED = Labels.from_table({"left ball": 1, "right ball": 2})


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_where_labels_have_sides_the_axis_from_right_to_left_keeps_its_place(transpose: tuple[int, int, int]) -> None:
    microscopy = PRESETS["microscopy"].spatial
    made = replace(plan(), labels=SIDED, transpose=transpose)
    placing = placing_of(microscopy, made, made.configuration("3d"))
    sided = transpose.index(2)
    assert placing.sided == sided
    assert placing.turn_planes == tuple(plane for plane in ((0, 1), (0, 2), (1, 2)) if sided not in plane)
    without = replace(made, labels=Labels.from_table({"cell": 1}))
    assert len(placing_of(microscopy, without, made.configuration("3d")).turn_planes) == 3
    assert placing_of(microscopy, without, made.configuration("3d")).sided is None


def halves(folder: Path, axis: int) -> dict[str, StoredCase]:
    """A case whose left half is the left ball, and whose right half is the right one; x lies along ``axis``."""
    case = next(iter(store_cases(folder).values()))
    size = case.label.shape
    label = np.where(np.indices(size)[axis] < size[axis] // 2, 2, 1).astype(np.uint8)
    store = CaseStore(folder / "halves")
    store.write(
        PreprocessedCase(case_id="halves", image=case.image, label=label, previous=None, restoration=case.restoration)
    )
    return {"halves": store.open("halves")}


def share_exchanged(loader: PatchLoader, axis: int) -> float:
    """Share of patches in which, in the mean, the left ball lies nearer to the right side than the right ball does."""
    loader.reseed(0)
    labels = assemble(next(loader), loader.patch_size, torch.device("cpu")).labels.numpy()
    place = np.indices(labels.shape[1:])[axis]
    return float(np.mean([place[label == 1].mean() < place[label == 2].mean() for label in labels]))


@pytest.mark.parametrize(
    ("name", "patch_size", "transpose"),
    [
        ("2d", (16, 16), (0, 1, 2)),
        ("2d", (16, 16), (0, 2, 1)),
        ("3d", (4, 16, 16), (0, 1, 2)),
        ("3d", (4, 16, 16), (1, 2, 0)),
    ],
)
def test_no_rotation_shows_left_as_right(
    name: ConfigurationName, patch_size: tuple[int, ...], transpose: tuple[int, int, int], tmp_path: Path
) -> None:
    """Of angles up to 180 degrees half are beyond 90, and left and right have changed places."""
    made = replace(plan(name), labels=SIDED, transpose=transpose)
    configuration, axis = made.configuration(name), transpose.index(2)
    cases, samples = halves(tmp_path, axis), 200
    placing = placing_of(Spatial(rotation=1.0, scaling=0.0), made, configuration)
    shares = [
        share_exchanged(
            PatchLoader(
                cases,
                patch_size=patch_size,
                batch_size=samples,
                placing=one,
                exchange=exchange(made, configuration),
            ),
            axis - (3 - len(patch_size)),
        )
        for one in (placing, replace(placing, sided=None))
    ]
    assert shares == [0, pytest.approx(0.5, abs=4 * math.sqrt(0.5 * 0.5 / samples))]


def test_rotation_is_held_back_only_where_it_would_move_labels_to_the_other_side() -> None:
    def largest(patch_size: tuple[int, ...], sided: int | None) -> float:
        rng = np.random.default_rng(0)
        drawn = [draw_pose(rng, patch_size, Spatial(rotation=1.0, scaling=0.0), sided) for _ in range(300)]
        return max(abs(math.degrees(math.atan2(pose[-1, -2], pose[-1, -1]))) for pose in drawn if pose is not None)

    assert 29 < largest((32, 32), 1) <= 30
    assert 29 < largest((8, 32, 32), 2) <= 30
    assert largest((8, 32, 32), 0) > 170  # slices lie across the axis
    assert largest((32, 32), None) > 170
    assert 14 < largest((64, 32), 1) <= 15  # elongated


def test_turns_beside_mirrors_show_left_and_right_as_the_scan_does(tmp_path: Path) -> None:
    """The right half of every image is of one label: after any motion, what is on that side has its name."""
    made = replace(plan(), labels=SIDED)
    configuration = replace(made.configuration("3d"), patch_size=(16, 16, 16))
    placing = placing_of(Spatial(rotation=0, scaling=0, quarter_turns=1.0), made, configuration)
    loader = PatchLoader(
        halves(tmp_path, axis=2),
        patch_size=(16, 16, 16),
        batch_size=40,
        placing=replace(placing, mirror_axes=(0, 1, 2)),
        exchange=exchange(made, configuration),
    )
    loader.reseed(0)
    patches = next(loader)
    labels = assemble(patches, (16, 16, 16), torch.device("cpu")).labels
    assert {tuple(sorted(patch.flips)) for patch in patches} >= {(), (1,), (2,), (1, 2)}
    assert (labels[..., 0] == 2).all()
    assert (labels[..., -1] == 1).all()


def test_a_turned_patch_holds_the_voxels_of_its_place_also_where_it_is_not_square(tmp_path: Path) -> None:
    cases = store_cases(tmp_path)
    case = next(iter(cases.values()))
    placing = Placing(spatial=Spatial(rotation=0, scaling=0, quarter_turns=1.0), turn_planes=turn_planes((1.0,) * 3))
    loader = PatchLoader(cases, patch_size=(8, 12, 16), batch_size=12, placing=placing)
    places = loader.draw_places(np.random.default_rng(0))
    assert {place.size for place in places} > {(12, 8, 16)}
    for place in places:
        patch = loader.read(place)
        assert patch.label.shape == (8, 12, 16)
        box = tuple(slice(first, first + length) for first, length in zip(place.start, place.size, strict=True))
        wanted = turned(cases[place.case_id].image[0][box], place.motion.turn, 3)
        assert np.array_equal(patch.image[0], wanted)
        assert np.array_equal(
            patch.label, turned(case.label[box], place.motion.turn, 3)
        )  # all cases have one label map


def test_deformed_and_turned_patches_are_read_with_room_around_them(tmp_path: Path) -> None:
    spatial = Spatial(elastic=1.0, elastic_voxels=(2.0, 2.0), quarter_turns=1.0)
    placing = Placing(spatial=spatial, turn_planes=((0, 1),), spacing_mm=(1.0, 1.0, 1.0), mirror_axes=(0, 2))
    loader = PatchLoader(store_cases(tmp_path), patch_size=(8, 12, 16), batch_size=12, placing=placing)
    patches = loader.draw(np.random.default_rng(0))
    assert all(patch.pose is not None and patch.displacements is not None for patch in patches)
    for patch in patches:
        assert patch.label.shape == region_size((8, 12, 16), patch.pose, patch.displacements)
    assert assemble(patches, (8, 12, 16), torch.device("cpu")).labels.shape == (12, 8, 12, 16)
