"""Preprocessing a dataset: what is finished stays, what fails costs nothing, and memory decides how many at a time."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_label, write_mask
from nnlite.data.records import read_record, write_record
from nnlite.errors import DatasetError, ImageError, UsageError, WorkspaceError
from nnlite.pipeline import make_case, prepare_cases
from nnlite.planning.planner import Plan
from nnlite.planning.variants import as_variant
from nnlite.preprocessing.store import CaseStore
from nnlite.workspace import Workspace

CASES = tuple(f"ball_{number}" for number in range(5))


@pytest.fixture
def planned(balls: Path, tmp_path: Path) -> Workspace:
    pipeline.plan(balls, work=tmp_path / "work", device="cpu")
    return Workspace(root=tmp_path / "work", dataset="balls")


def rewrite_plan(workspace: Workspace, **changes: dict[str, object]) -> None:
    """Change configurations of the plan on disk."""
    plan = read_record(workspace.plan, Plan)
    configurations = {
        name: replace(configuration, **changes.get(name, {})) for name, configuration in plan.configurations.items()
    }
    write_record(workspace.plan, replace(plan, configurations=configurations))


def test_every_configuration_gets_every_case_and_each_case_is_read_once(
    balls: Path, planned: Workspace, monkeypatch: pytest.MonkeyPatch
):
    read, reported = [], []
    reader = make_case.read_channels
    monkeypatch.setattr(make_case, "read_channels", lambda paths, **how: read.append(paths) or reader(paths, **how))
    folders = pipeline.preprocess(
        balls, work=planned.root, progress=lambda what, done, total: reported.append((done, total))
    )
    assert folders == {"2d": planned.cases("2d"), "3d": planned.cases("3d")}
    assert all(CaseStore(folder).ids() == CASES for folder in folders.values())
    assert len(read) == len(set(read)) == 5
    assert reported == [(done, 5) for done in range(1, 6)]


def test_a_case_that_was_edited_is_made_again_and_told(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    store = CaseStore(tmp_path / "work" / "balls" / "cases" / "3d")
    label = read_label(data / "labels" / "ball_2.nii.gz")
    write_mask(data / "labels" / "ball_2.nii.gz", np.where(label.array == 7, 1, label.array)[0], like=label)
    made = []
    write = CaseStore.write
    monkeypatch.setattr(
        CaseStore, "write", lambda store, case, *labels: made.append(case.case_id) or write(store, case, *labels)
    )
    with caplog.at_level(logging.WARNING):
        pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    assert made == ["ball_2"]
    stored = store.open("ball_2").label
    assert stored is not None
    assert stored.max() == 1  # the core was painted over
    assert "balls: 1 case is of another size or date than when it was planned (ball_2)" in caplog.text
    pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    caplog.clear()
    pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    assert (made, caplog.text) == (["ball_2"], "")


def test_a_case_that_was_edited_before_the_next_plan_is_made_again_all_the_same(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    (data / "images" / "ball_4.nii.gz").touch()
    pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    made = []
    write = CaseStore.write
    monkeypatch.setattr(
        CaseStore, "write", lambda store, case, *labels: made.append(case.case_id) or write(store, case, *labels)
    )
    pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    assert made == ["ball_4"]


def test_other_cases_than_planned_are_refused(balls: Path, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    (data / "nnlite.json").write_text(
        '{"labels": {"background": 0, "ball": 1, "core": 7}, "exclude": ["ball_0"]}', encoding="utf-8"
    )
    with pytest.raises(WorkspaceError, match=r"1 case is no longer in the dataset \(ball_0\)"):
        pipeline.preprocess(data, ["3d"], work=tmp_path / "work")


def test_what_is_finished_is_not_made_again(balls: Path, planned: Workspace, monkeypatch: pytest.MonkeyPatch):
    pipeline.preprocess(balls, ["3d"], work=planned.root)
    (planned.cases("3d") / "ball_2.safetensors").unlink()  # as if interrupted there
    made = []
    write = CaseStore.write
    monkeypatch.setattr(
        CaseStore, "write", lambda store, case, *labels: made.append(case.case_id) or write(store, case, *labels)
    )
    pipeline.preprocess(balls, ["3d"], work=planned.root)
    assert made == ["ball_2"]


def test_a_new_plan_keeps_cases_that_it_preprocesses_alike(balls: Path, planned: Workspace):
    pipeline.preprocess(balls, work=planned.root)
    before = {name: (planned.cases(name) / "ball_0.safetensors").stat().st_mtime_ns for name in ("2d", "3d")}
    rewrite_plan(planned, **{"2d": {"batch_size": 3}, "3d": {"spacing_mm": (4.0, 3.0, 3.0)}})
    pipeline.preprocess(balls, work=planned.root)
    after = {name: (planned.cases(name) / "ball_0.safetensors").stat().st_mtime_ns for name in ("2d", "3d")}
    assert after["2d"] == before["2d"]
    assert after["3d"] > before["3d"]
    assert CaseStore(planned.cases("3d")).open("ball_0").image.shape == (1, 8, 10, 9)


def test_a_case_that_broke_since_it_was_planned_is_named_and_the_others_stay(balls: Path, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu")
    broken = data / "images" / "ball_4.nii.gz"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:400])
    with pytest.raises(ImageError, match=r"ball_4\.nii\.gz: the file is cut short"):
        pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    broken.write_bytes(whole)
    pipeline.preprocess(data, ["3d"], work=tmp_path / "work")
    assert CaseStore(tmp_path / "work" / "balls" / "cases" / "3d").ids() == CASES


def test_a_label_that_changed_since_it_was_planned_is_named(balls: Path, tmp_path: Path):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    pipeline.plan(data, work=tmp_path / "work", device="cpu")
    path = data / "labels" / "ball_1.nii.gz"
    label = read_label(path)
    write_mask(path, label.array[0] * 2, like=label)
    with pytest.raises(DatasetError, match=r"ball_1\.nii\.gz: label values 2, 14 are not .*run nnlite plan again"):
        pipeline.preprocess(data, ["3d"], work=tmp_path / "work")


def test_a_configuration_that_is_not_planned_is_refused_before_anything_is_written(balls: Path, planned: Workspace):
    with pytest.raises(UsageError, match="balls has no configuration 3d-lowres"):
        pipeline.preprocess(balls, ["2d", "3d-lowres"], work=planned.root)
    assert not planned.cases("2d").exists()


# --- cascade ---


@pytest.fixture
def with_lowres(balls: Path, planned: Workspace) -> Workspace:
    """A planned cascade whose first stage is "trained": all its held-out masks are the true labels."""
    plan = read_record(planned.plan, Plan)
    full = plan.configuration("3d")
    stages = {
        "3d-lowres": replace(full, name="3d-lowres"),
        "3d-cascade": replace(full, name="3d-cascade", previous_stage="3d-lowres"),
    }
    write_record(planned.plan, replace(plan, configurations={**plan.configurations, **stages}))
    for number, case in enumerate(CASES):
        run = planned.run("3d-lowres", f"fold{number}")
        run.validation.mkdir(parents=True)
        shutil.copy(balls / "labels" / f"{case}.nii.gz", run.validation)
        for path in (run.config, run.checkpoint_final, run.summary):
            path.touch()
    return planned


def test_a_cascade_starts_from_the_held_out_masks_of_its_first_stage(balls: Path, with_lowres: Workspace):
    pipeline.preprocess(balls, ["3d-cascade"], work=with_lowres.root)
    for case in CASES:
        stored = CaseStore(with_lowres.cases("3d-cascade")).open(case)
        assert stored.previous is not None
        np.testing.assert_array_equal(stored.previous, stored.label)


def test_a_cascade_is_left_out_unless_it_is_named(balls: Path, with_lowres: Workspace):
    assert list(pipeline.preprocess(balls, work=with_lowres.root)) == ["2d", "3d", "3d-lowres"]


def test_a_first_stage_that_was_trained_anew_is_followed(balls: Path, with_lowres: Workspace):
    pipeline.preprocess(balls, ["3d-cascade"], work=with_lowres.root)
    path = with_lowres.run("3d-lowres", "fold3").validation / "ball_3.nii.gz"
    mask = read_label(path)
    write_mask(path, np.zeros_like(mask.array[0]), like=mask)
    pipeline.preprocess(balls, ["3d-cascade"], work=with_lowres.root)
    previous = CaseStore(with_lowres.cases("3d-cascade")).open("ball_3").previous
    assert previous is not None
    assert not previous.any()


@pytest.mark.parametrize("lacking", ["checkpoint_final", "summary"])
def test_a_first_stage_that_is_not_finished_does_not_count(balls: Path, with_lowres: Workspace, lacking: str):
    getattr(with_lowres.run("3d-lowres", "fold1"), lacking).unlink()
    with pytest.raises(WorkspaceError, match="1 of 5 cases have none; train all folds of the first stage"):
        pipeline.preprocess(balls, ["3d-cascade"], work=with_lowres.root)


def test_a_variant_of_a_cascade_asks_for_a_first_stage_that_is_trained_as_it_is(balls: Path, with_lowres: Workspace):
    def refused() -> str:
        with pytest.raises(WorkspaceError, match="starts from the 3d-lowres@focal predictions") as error:
            pipeline.preprocess(balls, ["3d-cascade@focal"], work=with_lowres.root)
        return str(error.value)

    command = f": nnlite train {balls} 3d-lowres@focal folds --work {with_lowres.root}"
    of_the_stage = "train all folds of the first stage"
    assert refused().endswith(f"{of_the_stage} with the options of the second{command}")
    plan = as_variant(read_record(with_lowres.plan, Plan), "focal")
    write_record(with_lowres.plan_of("focal"), plan)  # what makes it is in its plan, and the command needs no option
    assert refused().endswith(f"{of_the_stage}{command}")


# --- memory ---


def test_workers_are_counted_by_the_largest_grid_of_a_case(
    balls: Path, planned: Workspace, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    monkeypatch.setattr(prepare_cases, "workers_within_memory", lambda size, waiting: asked.append(size) or 1)
    voxels, arrays, float32 = math.prod((16, 20, 18)), 1 + 3, 4  # one channel, three labels
    pipeline.preprocess(balls, ["3d"], work=planned.root)
    rewrite_plan(planned, **{"3d": {"spacing_mm": (1.0, 0.75, 0.75)}})  # each axis twice as fine
    pipeline.preprocess(balls, ["3d"], work=planned.root)
    case = voxels * arrays * float32 * prepare_cases.COPIES_PER_CASE
    assert asked == [case, 8 * case]
