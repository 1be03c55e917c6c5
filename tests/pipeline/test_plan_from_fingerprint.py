"""From a finished fingerprint to a plan, without a dataset."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nnlite import pipeline
from nnlite.data.records import read_record
from nnlite.errors import PlanError, UsageError, WorkspaceError
from nnlite.pipeline.plan_from_fingerprint import read_fingerprint
from nnlite.planning.network import NetworkOptions
from nnlite.planning.planner import Plan

CHANNEL = {"mean": 1, "median": 2, "std": 3, "min": 4, "max": 5, "percentile_00_5": 6, "percentile_99_5": 7}


def nnunet(**changes: Any) -> dict[str, Any]:
    content = {
        "spacings": [[1, 1, 1]] * 200,
        "shapes_after_crop": [[36, 50, 35]] * 200,
        "foreground_intensity_properties_per_channel": {"0": CHANNEL},
        "median_relative_size_after_cropping": 1.0,
    }
    return {**content, **changes}


def written(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fingerprint.json").write_text(json.dumps(content))
    return folder / "fingerprint.json"


def test_the_plan_from_a_fingerprint_is_that_of_its_dataset(balls: Path, tmp_path: Path):
    first = pipeline.plan(balls, work=tmp_path / "a", device="cpu", probe=False)
    fingerprint = first.path.with_name("fingerprint.json")
    work = tmp_path / "b"
    second = pipeline.plan_fingerprint(fingerprint, labels=3, channels=["MR"], work=work, device="cpu")
    assert second.path == work / "balls" / "plan.json"
    assert read_record(second.path, Plan) == second.plan
    one, other = (json.loads(result.path.read_text()) for result in (first, second))
    assert other.pop("labels")["names"] == ["background", "label 1", "label 2"]  # a fingerprint knows no names
    assert one.pop("labels")["names"] == ["background", "ball", "core"]
    assert one == other


def test_nnunet_s_fingerprint_gives_nnunet_s_plan(tmp_path: Path):
    file = written(tmp_path / "Dataset004_Hippocampus", nnunet())
    result = pipeline.plan_fingerprint(file, labels=3, channels=["MRI"], work=tmp_path, preset="nnunet", residual="L")
    assert (result.plan.dataset, result.plan.training_cases) == ("Dataset004_Hippocampus", 200)
    assert result.plan.configuration("3d").batch_size == 141  # a whole dataset in a batch: docs/decisions/
    assert "nnlite plan DATASET --from" in result.notes[-1]
    assert result.trainings == 5


def test_a_name_can_be_given_and_a_dataset_s_own_plan_is_not_overwritten(balls: Path, tmp_path: Path):
    made = pipeline.plan(balls, work=tmp_path, device="cpu")
    before = made.path.read_bytes()
    file = made.path.with_name("fingerprint.json")
    with pytest.raises(WorkspaceError, match="whose plan would be lost; give another name with --name"):
        pipeline.plan_fingerprint(file, labels=3, channels=["MR"], work=tmp_path, device="cpu")
    other = pipeline.plan_fingerprint(file, labels=3, channels=["MR"], name="try", work=tmp_path, device="cpu")
    assert (other.path, made.path.read_bytes()) == (tmp_path / "try" / "plan.json", before)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "should hold one JSON object"),
        ({}, "no nnU-Net v2 dataset fingerprint: it has no 'foreground_intensity"),
        ({"format_version": 1}, "spacings_mm: Missing required argument|Field required"),
        (nnunet(spacings=[[1, -1, 1]] * 200), r"spacing \(1.0, -1.0, 1.0\) mm \(z, y, x\) cannot be true"),
        (nnunet(spacings=[[1, 1e9, 1]] * 200), "cannot be true; correct the spacing"),
        (nnunet(spacings=[], shapes_after_crop=[]), "there is no case to plan for"),
        (
            nnunet(foreground_intensity_properties_per_channel={"0": {**CHANNEL, "mean": float("nan")}}),
            "as if no case had a foreground voxel",
        ),
    ],
)
def test_a_fingerprint_that_cannot_be_planned_is_one_message(tmp_path: Path, content: Any, words: str):
    with pytest.raises(PlanError, match=words) as problem:
        pipeline.plan_fingerprint(written(tmp_path / "d", content), labels=2, channels=["CT"], work=tmp_path)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "d" / "plan.json").exists()


def test_one_case_and_little_memory(tmp_path: Path):
    file = written(tmp_path / "d", nnunet(spacings=[[1, 1, 1]], shapes_after_crop=[[36, 50, 35]]))
    made = pipeline.plan_fingerprint(file, labels=2, channels=["CT"], work=tmp_path, device="cuda", memory_gib=1)
    assert made.plan.configuration("3d").batch_size == 2
    with pytest.raises(PlanError, match=r"0\.5 GiB of GPU memory cannot be planned for"):
        pipeline.plan_fingerprint(file, labels=2, channels=["CT"], work=tmp_path, device="cuda", memory_gib=0.5)


def test_a_network_that_little_memory_leaves_two_resolutions_is_named(tmp_path: Path):
    file = written(tmp_path / "d", nnunet())  # of 36 x 50 x 35: halved three times, 36 are 5, more than the least of 4
    options = {"labels": 3, "channels": ["MR"], "work": tmp_path, "memory_gib": 1}
    wide = NetworkOptions(architecture="vnet", kernel=7)
    [note] = [note for note in pipeline.plan_fingerprint(file, network=wide, **options).notes if note.startswith("3d:")]
    assert "has 2 resolutions, where images of 36 x 50 x 35 allow 4: it sees little around a voxel" in note
    assert "take kernels of 3 voxels, or take another network (--architecture unet)" in note
    assert note.endswith("or allow more memory (--gpu-memory)")
    usual = pipeline.plan_fingerprint(file, **options)
    assert not any("resolutions" in note for note in usual.notes)


def test_what_does_not_fit_the_fingerprint_is_refused(tmp_path: Path):
    file = written(tmp_path / "d", nnunet())
    with pytest.raises(UsageError, match="--labels 1: at least 2"):
        pipeline.plan_fingerprint(file, labels=1, channels=["CT"], work=tmp_path, device="cpu")
    with pytest.raises(PlanError, match=r"2 channel names \(T1, T2\) for images of 1 channels"):
        pipeline.plan_fingerprint(file, labels=2, channels=["T1", "T2"], work=tmp_path, device="cpu")
    with pytest.raises(PlanError, match="cannot be read"):
        read_fingerprint(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(PlanError, match="is not valid JSON"):
        read_fingerprint(tmp_path / "text.json")


def test_the_whole_command_takes_less_than_two_seconds_and_no_torch(tmp_path: Path):
    file = written(tmp_path / "hippocampus", nnunet())
    arguments = ["plan", "--fingerprint", str(file), "--labels", "3", "--channels", "MRI", "--device", "cpu"]
    code = (
        f"import sys\nfrom nnlite.cli import main\nsys.argv = {['nnlite', *arguments, '--work', str(tmp_path)]!r}\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )

    def processor_s() -> float:  # not what the clock shows: other programs may keep the machine busy
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("False\n")
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(processor_s() for _ in range(3)) < 2  # about one; loading torch alone takes two more
