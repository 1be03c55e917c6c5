"""Cases on disk are whole or absent, read in part, and never mistaken for those of another plan."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.labels import Labels
from nnlite.errors import WorkspaceError
from nnlite.planning.fingerprint import IntensityProperties
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.topology import plan_topology
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration
from nnlite.preprocessing.store import CaseStore, signature

INTENSITIES = IntensityProperties(
    mean=0.0, median=0.0, std=1.0, min=0.0, max=1.0, percentile_00_5=0.0, percentile_99_5=1.0
)


def make_case(case_id: str = "a", shape=(4, 5, 6), **changes) -> PreprocessedCase:
    rng = np.random.default_rng(0)
    restoration = Restoration(
        case_id=case_id,
        shape=shape,
        box=((0, shape[0]), (0, shape[1]), (0, shape[2])),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=shape,
        resampled_spacing_mm=(1.0, 1.0, 1.0),
    )
    case = PreprocessedCase(
        case_id=case_id,
        image=rng.normal(size=(2, *shape)).astype(np.float32),
        label=rng.integers(0, 3, shape).astype(np.uint8),
        previous=None,
        restoration=restoration,
    )
    return replace(case, **changes)


def make_plan() -> tuple[Plan, Configuration]:
    topology, patch_size = plan_topology((1.0, 1.0, 1.0), (16, 16, 16))
    configuration = Configuration(
        name="3d",
        spacing_mm=(1.0, 1.0, 1.0),
        median_shape=(32, 32, 32),
        patch_size=patch_size,
        batch_size=2,
        normalization=("zscore",),
        use_nonzero_mask=(False,),
        batch_dice=False,
        topology=topology,
        previous_stage=None,
        reasons={},
    )
    plan = Plan(
        dataset="toy",
        device="cpu",
        planner="plain",
        memory_gib=None,
        transpose=(0, 1, 2),
        channels=("MR",),
        labels=Labels(names=("background", "organ"), values=(0, 1)),
        intensities=(INTENSITIES,),
        training_cases=10,
        configurations={"3d": configuration},
        reasons={},
    )
    return plan, configuration


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    return CaseStore(tmp_path / "cases" / "3d")


def test_a_case_comes_back_as_it_was(store):
    case = make_case(previous=np.ones((4, 5, 6), np.uint8))
    store.write(case)
    stored = store.open("a")
    np.testing.assert_array_equal(stored.image, case.image)
    np.testing.assert_array_equal(stored.label, case.label)
    np.testing.assert_array_equal(stored.previous, case.previous)
    assert stored.image.dtype == np.float32
    assert stored.restoration == case.restoration


def test_arrays_are_mapped_not_read_and_cannot_be_written_to(store):
    store.write(make_case())
    stored = store.open("a")
    assert isinstance(stored.image.base, mmap.mmap)
    assert isinstance(stored.label.base, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        stored.image[0] = 0


def test_thousands_of_open_cases_hold_no_file_handles_and_travel_to_other_processes(store):
    store.write(make_case())
    handles = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    cases = [store.open("a") for _ in range(100)]
    assert all(case.image[0, 0, 0, 0] == cases[0].image[0, 0, 0, 0] for case in cases)
    if handles:
        assert len(list(Path("/proc/self/fd").iterdir())) < handles + 10
    assert len(pickle.dumps(cases[0])) < 1000


def test_what_a_case_has_not_is_none(store):
    store.write(make_case(label=None))
    stored = store.open("a")
    assert stored.label is None
    assert stored.previous is None
    assert stored.locations is None


def test_locations_come_back_mapped(store):
    case = make_case()
    store.write(case)
    locations = store.open("a").locations
    assert isinstance(locations.voxels.base, mmap.mmap)
    assert locations.structures == (1, 2)
    for label in locations.structures:
        np.testing.assert_array_equal(locations.of(label), np.argwhere(case.label == label))


def test_a_case_without_foreground_has_no_locations(store):
    store.write(make_case(label=np.zeros((4, 5, 6), np.uint8)))
    assert store.open("a").locations.structures == ()


def test_the_size_of_a_case_is_that_of_its_arrays(store):
    store.write(make_case())
    arrays = 4 * 5 * 6 * (2 * 4 + 1)  # two channels of float32, one label map of uint8
    assert arrays < store.open("a").size_bytes < arrays + 4 * 4 * 5 * 6 + 5 * 200


def test_ids_are_the_finished_cases_in_order(store):
    assert store.ids() == ()
    for case_id in ("b", "a.1", "settings"):
        store.write(make_case(case_id))
    store.prepare("x")
    for case_id in ("b", "a.1", "settings"):
        store.write(make_case(case_id))
    assert store.ids() == ("a.1", "b", "settings")
    assert store.has("b")
    assert not store.has("a")


def test_writing_a_case_again_leaves_nothing_of_the_earlier_one(store):
    store.write(make_case(previous=np.ones((4, 5, 6), np.uint8)))
    store.write(make_case(shape=(2, 2, 2)))
    stored = store.open("a")
    assert stored.image.shape == (2, 2, 2, 2)
    assert stored.previous is None


def test_a_case_that_is_not_there_is_told_with_the_way_out(store):
    with pytest.raises(WorkspaceError, match=r"no preprocessed case lost; run nnlite preprocess"):
        store.open("lost")


def test_a_truncated_array_is_told_with_its_file(store):
    store.write(make_case())
    path = store.folder / "a.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WorkspaceError, match=r"a\.safetensors is missing or damaged"):
        _ = store.open("a").image


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device on which every write is refused")
def test_a_full_disk_is_told_and_the_cases_before_it_stay(store, monkeypatch):
    store.write(make_case("a"))

    def on_a_full_disk(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        path = Path(dir) / f"{prefix}full{suffix}"
        path.symlink_to("/dev/full")
        return os.open(path, os.O_WRONLY), str(path)

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with pytest.raises(WorkspaceError, match="the disk is full"):
        store.write(make_case("b"))
    assert store.ids() == ("a",)
    assert not list(store.folder.glob(".writing*"))
    monkeypatch.undo()
    store.write(make_case("b"))
    assert store.ids() == ("a", "b")


def test_a_rewrite_that_fails_leaves_no_case_that_looks_finished(store, monkeypatch):
    store.write(make_case())
    monkeypatch.setattr(np, "flatnonzero", lambda label: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.write(make_case())
    assert not store.has("a")


def test_a_shared_case_is_the_same_file_and_outlives_the_other(store, tmp_path):
    store.write(make_case())
    other = CaseStore(tmp_path / "other")
    other.prepare("signature")
    other.share(store.open("a"))
    assert other.open("a").path.samefile(store.open("a").path)
    image, restoration = store.open("a").image.copy(), store.open("a").restoration
    store.discard("a")
    assert np.array_equal(other.open("a").image, image)
    assert other.open("a").restoration == restoration


def test_where_files_cannot_be_linked_a_shared_case_is_copied(store, tmp_path, monkeypatch):
    def refuse(self: Path, target: Path) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store.write(make_case())
    other = CaseStore(tmp_path / "other")
    other.prepare("signature")
    other.share(store.open("a"))
    assert other.open("a").path.read_bytes() == store.open("a").path.read_bytes()


def test_preparing_for_the_same_plan_keeps_cases_and_for_another_removes_them(store):
    assert store.prepare("first") == 0
    store.write(make_case("a"))
    store.write(make_case("b"))
    assert store.prepare("first") == 0
    assert store.ids() == ("a", "b")
    store.require("first")
    assert store.prepare("second") == 2
    assert [path.name for path in store.folder.iterdir()] == ["settings.json"]
    store.require("second")


def test_cases_of_another_plan_are_refused(store):
    with pytest.raises(WorkspaceError, match="holds no preprocessed cases"):
        store.require("first")
    store.prepare("first")
    with pytest.raises(WorkspaceError, match="made for another plan"):
        store.require("second")


def test_the_signature_changes_with_what_changes_voxels_alone():
    plan, configuration = make_plan()
    original = signature(plan, configuration)
    assert signature(plan, replace(configuration, batch_size=7, patch_size=(8, 8, 8), reasons={"a": "b"})) == original
    assert signature(replace(plan, device="cuda", memory_gib=80.0, training_cases=3), configuration) == original
    assert signature(plan, replace(configuration, spacing_mm=(1.0, 1.0, 1.1))) != original
    assert signature(plan, replace(configuration, normalization=("ct",))) != original
    assert signature(plan, replace(configuration, use_nonzero_mask=(True,))) != original
    assert signature(replace(plan, transpose=(1, 0, 2)), configuration) != original
    assert signature(replace(plan, intensities=(replace(INTENSITIES, mean=1.0),)), configuration) != original


def test_a_case_that_is_discarded_is_made_again_and_the_others_stay(tmp_path):
    store = CaseStore(tmp_path)
    for name in "ab":
        store.write(make_case(name))
    store.discard("a")
    store.discard("not there")
    assert store.ids() == ("b",)
    store.write(make_case("a"))
    assert store.ids() == ("a", "b")
