"""From a folder to a plan in the workspace, and which workspace that is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nnunet_files
import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import Geometry, write_image
from nnlite.data.records import read_record, write_record
from nnlite.data.split import Splits
from nnlite.errors import DatasetError, PlanError, UsageError, WorkspaceError
from nnlite.pipeline import machine, measure_plan, plan_dataset, plan_request
from nnlite.pipeline.plan_dataset import locate_dataset, read_plan
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.fingerprint import Fingerprint
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.planner import Configuration, Plan
from nnlite.planning.variants import as_variant, parted
from nnlite.training.config import TrainConfig
from nnlite.workspace import Workspace


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (machine, plan_dataset, plan_request):
        monkeypatch.setattr(module, "has_gpu", lambda: False)


def copied(balls: Path, folder: Path) -> Path:
    return Path(shutil.copytree(balls, folder))


def test_a_plan_is_what_lies_in_the_workspace(balls: Path, tmp_path: Path):
    seen = []
    result = pipeline.plan(
        balls, work=tmp_path, device="cpu", progress=lambda what, done, total: seen.append((what, done, total))
    )
    workspace = Workspace(root=tmp_path, dataset="balls")
    assert result.path == workspace.plan
    assert read_plan(workspace) == result.plan
    assert (result.plan.device, result.plan.memory_gib, result.notes) == ("cpu", None, ())
    assert (result.plan.channels, result.plan.labels.values) == (("MR",), (0, 1, 7))
    assert read_record(workspace.fingerprint, Fingerprint).spacings_mm == ((2.0, 1.5, 1.5),) * 5
    splits = read_record(workspace.splits, Splits)
    assert sorted(case for split in splits.folds for case in split.validation) == [f"ball_{n}" for n in range(5)]
    assert seen[-1] == ("check", 5, 5)


def test_the_same_dataset_gives_the_same_plan(balls: Path, tmp_path: Path):
    first = pipeline.plan(balls, work=tmp_path / "a", device="cpu", probe=False).path.read_bytes()
    assert pipeline.plan(balls, work=tmp_path / "b", device="cpu", probe=False).path.read_bytes() == first


def test_faults_are_reported_by_check_and_refused_by_plan(balls: Path, tmp_path: Path):
    data = copied(balls, tmp_path / "balls")
    (data / "labels" / "ball_3.nii.gz").write_bytes(b"not an image")
    report = pipeline.check(data, work=tmp_path)
    assert [fault.case for fault in report.faults] == ["ball_3"]
    with pytest.raises(DatasetError, match="1 of 5 cases cannot be used"):
        pipeline.plan(data, work=tmp_path, device="cpu", probe=False)
    assert not (tmp_path / "balls" / "plan.json").exists()


@pytest.mark.usefixtures("no_gpu")
def test_warnings_of_the_check_are_counted_in_a_note(balls: Path, tmp_path: Path):
    data = copied(balls, tmp_path / "balls")
    for kind in ("images", "labels"):
        shutil.copy(data / kind / "ball_0.nii.gz", data / kind / "copy.nii.gz")
    result = pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    assert result.notes == (f"the dataset gives rise to 1 warning: nnlite check {data} tells",)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_plans_for_the_processor_and_says_so(balls: Path, tmp_path: Path):
    result = pipeline.plan(balls, work=tmp_path, probe=False)
    assert (result.plan.device, result.plan.memory_gib) == ("cpu", None)
    assert (
        result.plan.configurations == pipeline.plan(balls, work=tmp_path, device="cpu", probe=False).plan.configurations
    )
    [note] = result.notes
    assert note.startswith("there is no GPU here: planned for the processor; for a GPU elsewhere, add --gpu-memory")


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_nnunet_s_preset_plans_for_one_and_says_so(balls: Path, tmp_path: Path):
    result = pipeline.plan(balls, work=tmp_path, preset="nnunet")
    assert (result.plan.device, result.plan.memory_gib) == ("cuda", 8)
    [note] = result.notes
    assert note.startswith("there is no GPU here: planned for one of 8 GiB")
    assert "plan with --device cpu" in note


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_of_another_machine_is_planned_for_by_its_memory(balls: Path, tmp_path: Path):
    for device in ("auto", "cuda"):
        result = pipeline.plan(balls, work=tmp_path, device=device, memory_gib=24)
        assert (result.plan.device, result.plan.memory_gib, result.notes) == ("cuda", 24, ())
    with pytest.raises(UsageError, match=r"torch sees no CUDA GPU.* add --gpu-memory GB"):
        pipeline.plan(balls, work=tmp_path, device="cuda")
    with pytest.raises(UsageError, match="--device is cpu: leave one of them out"):
        pipeline.plan(balls, work=tmp_path, device="cpu", memory_gib=24)


def test_the_memory_of_a_gpu_that_is_there_is_used(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setattr(plan_dataset, "has_gpu", lambda: True)
    monkeypatch.setattr(plan_request, "gpu_memory_gib", lambda: 11.0)
    result = pipeline.plan(balls, work=tmp_path, probe=False)
    assert (result.plan.memory_gib, result.notes) == (11, ())


def test_a_size_set_by_hand_that_was_measured_to_be_too_large_is_refused(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def measure(plan: Plan, configuration: Configuration) -> StepMeasurement:
        size = {"patch_size": configuration.patch_size, "batch_size": configuration.batch_size}
        return StepMeasurement(device="a card", precision="bf16", memory_gib=7, step_s=1, torch_version="2", **size)

    monkeypatch.setattr(plan_dataset, "has_gpu", lambda: True)
    monkeypatch.setattr(measure_plan, "measure_here", measure)
    options = {"work": tmp_path, "device": "cuda", "memory_gib": 8, "overrides": ["3d.batch_size=2"]}
    # predicted is far less, and 6.75 of 8 GiB are for tensors
    with pytest.raises(PlanError, match=r"3d: patch .* with batch 2 needs about 7\.0 GiB, of the 8 GiB planned for"):
        pipeline.plan(balls, **options)
    assert not (tmp_path / "balls" / "plan.json").exists()
    assert pipeline.plan(balls, **options, probe=False).plan.configuration("3d").batch_size == 2


def test_a_device_that_does_not_exist_is_refused_before_a_case_is_read(tmp_path: Path, balls: Path):
    def nothing_is_read(what: str, done: int, total: int) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match='no device "tpu"'):
        pipeline.plan(balls, work=tmp_path, device="tpu", memory_gib=8, progress=nothing_is_read)


def test_nnunet_s_preset_does_not_look_at_this_machine(balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    monkeypatch.setattr(plan_dataset, "has_gpu", lambda: True)
    monkeypatch.setattr(plan_request, "gpu_memory_gib", lambda: 11.0)
    made = pipeline.plan(balls, work=tmp_path, preset="nnunet", residual="L", probe=False).plan
    assert (made.preset, made.planner, made.device, made.memory_gib) == ("nnunet", "residual-L", "cuda", 24)
    with pytest.raises(UsageError, match="--preset nnunet has plans for GPUs only"):
        pipeline.plan(balls, work=tmp_path, preset="nnunet", device="cpu", probe=False)


def test_a_decision_by_hand_is_in_the_plan(balls: Path, tmp_path: Path):
    result = pipeline.plan(balls, work=tmp_path, device="cpu", probe=False, overrides=["3d.patch_size=8,16,16"])
    assert read_plan(Workspace(root=tmp_path, dataset="balls")) == result.plan
    assert result.plan.configuration("3d").patch_size == (8, 16, 16)
    [remark] = pipeline.plan(balls, work=tmp_path, device="cpu", probe=False, overrides=["3d.batch_size=9999"]).notes
    assert remark.startswith("3d: a step takes")


def test_a_note_tells_why_images_are_not_mirrored_left_to_right(balls: Path, tmp_path: Path):
    shutil.copytree(balls, tmp_path / "data")
    table = {"background": 0, "left ball": 1, "core": 7}
    (tmp_path / "data" / "nnlite.json").write_text(json.dumps({"channels": ["MR"], "labels": table}))
    options = {"work": tmp_path / "work", "device": "cpu", "probe": False}
    [note] = pipeline.plan(tmp_path / "data", **options).notes
    assert note.startswith("2d, 3d: images are not mirrored left to right: left ball is on one side")
    by_hand = ["2d.mirror_axes=y,x", "3d.mirror_axes=z,y,x"]
    assert pipeline.plan(tmp_path / "data", overrides=by_hand, **options).notes == ()


def test_another_dataset_s_plan_is_followed(balls: Path, tmp_path: Path):
    other = pipeline.plan(balls, work=tmp_path / "a", device="cuda", memory_gib=12)
    data = copied(balls, tmp_path / "rings")
    made = pipeline.plan(data, work=tmp_path / "b", from_plan=other.path.parent).plan
    assert (made.dataset, made.memory_gib, made.preset) == ("rings", 12, "nnlite")
    assert made.configuration("3d").reasons["batch_size"].startswith("taken from the plan of balls: ")
    with pytest.raises(UsageError, match="--from takes device, memory and network from the other plan"):
        pipeline.plan(data, work=tmp_path / "b", from_plan=other.path, memory_gib=8)
    with pytest.raises(PlanError, match=r"nowhere\.json cannot be read"):
        pipeline.plan(data, work=tmp_path / "b", from_plan=tmp_path / "nowhere.json")


def test_nnunet_s_own_plan_and_folds_are_trained(balls: Path, tmp_path: Path):
    """The dataset in nnU-Net's raw layout, its plans beside its dataset.json, and its splits_final.json."""
    raw, preprocessed = tmp_path / "Dataset007_Balls", tmp_path / "preprocessed"
    for ours, theirs, suffix in (("images", "imagesTr", "_0000.nii.gz"), ("labels", "labelsTr", ".nii.gz")):
        (raw / theirs).mkdir(parents=True)
        for file in (balls / ours).iterdir():
            shutil.copy(file, raw / theirs / file.name.replace(".nii.gz", suffix))
    described = nnunet_files.dataset() | {"labels": {"background": 0, "ball": 1, "core": 7}}
    (raw / "dataset.json").write_text(json.dumps(described))
    preprocessed.mkdir()
    (preprocessed / "dataset.json").write_text(json.dumps(nnunet_files.dataset()))
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(nnunet_files.plans()))
    folds = [
        {"train": ["ball_0", "ball_1", "ball_2"], "val": ["ball_3", "ball_4"]},
        {"train": ["ball_3", "ball_4"], "val": ["ball_0", "ball_1", "ball_2"]},
    ]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    options = {"from_nnunet": preprocessed, "splits": tmp_path / "splits_final.json"}
    made = pipeline.plan(raw, work=tmp_path / "work", probe=False, **options).plan
    assert (made.preset, made.configuration("3d").patch_size) == ("nnunet", (8, 16, 16))
    assert made.labels.values == (0, 1, 7)
    [fold1] = pipeline.train(raw, "3d", ["fold1"], work=tmp_path / "work", device="cpu", epochs=1, iterations=2, seed=1)
    scored = sorted(path.name for path in (fold1.folder / "validation").iterdir())
    assert scored == [f"ball_{number}.nii.gz" for number in range(3)]


def test_a_plan_to_follow_is_named_once_and_decides_the_device(balls: Path, tmp_path: Path):
    both = {"from_plan": tmp_path, "from_nnunet": tmp_path}
    with pytest.raises(UsageError, match="--from and --from-nnunet both name the plan to follow"):
        pipeline.plan(balls, work=tmp_path, **both)
    with pytest.raises(UsageError, match="--from-nnunet takes device, memory and network from the other plan"):
        pipeline.plan(balls, work=tmp_path, from_nnunet=tmp_path, device="cpu")


def test_an_edited_plan_is_judged_when_it_is_read_and_when_it_is_planned_from(balls: Path, tmp_path: Path):
    made = pipeline.plan(balls, work=tmp_path, device="cuda", memory_gib=8)
    content = json.loads(made.path.read_text())
    content["configurations"]["3d"]["batch_size"] = 3
    made.path.write_text(json.dumps(content))
    again = pipeline.plan(balls, work=tmp_path, from_plan=made.path).plan
    assert again.configuration("3d").batch_size == 3
    assert again.configuration("3d").reasons == made.plan.configuration("3d").reasons
    content["configurations"]["3d"]["batch_size"] = 100_000
    made.path.write_text(json.dumps(content))
    for read in (
        lambda: read_plan(Workspace(root=tmp_path, dataset="balls")),
        lambda: pipeline.plan(balls, work=tmp_path, from_plan=made.path),
    ):
        with pytest.raises(PlanError, match=r"3d: patch .* with batch 100000 needs about .* of the 8 GiB planned"):
            read()


def test_a_missing_plan_says_how_to_make_one(tmp_path: Path):
    with pytest.raises(PlanError, match=r"balls has no plan in .*; run nnlite plan first"):
        read_plan(Workspace(root=tmp_path, dataset="balls"))


@pytest.mark.parametrize("name", ["site", "site.v2"])
def test_a_description_in_the_workspace_is_found_where_check_asks_for_it(balls: Path, tmp_path: Path, name: str):
    data = copied(balls, tmp_path / name)
    (data / "nnlite.json").unlink()
    work = tmp_path / "work"
    [fault] = pipeline.check(data, work=work).faults
    home = work / name / "nnlite.json"
    assert str(home) in fault.remedy
    home.parent.mkdir(parents=True)
    home.write_text('{"labels": {"background": 0, "ball": 1, "core": 7}}')
    assert pipeline.check(data, work=work).faults == ()


def test_a_list_of_cases_is_named_after_its_file(balls: Path, tmp_path: Path):
    table = tmp_path / "some.csv"
    table.write_text(f"MR,label\n{balls}/images/ball_0.nii.gz,{balls}/labels/ball_0.nii.gz\n")
    _, workspace = locate_dataset(table, tmp_path)
    assert workspace.folder == tmp_path / "some"


def test_two_datasets_of_one_name_do_not_share_a_workspace(balls: Path, tmp_path: Path):
    work = tmp_path / "work"
    pipeline.plan(balls, work=work, device="cpu", probe=False)
    before = (work / "balls" / "plan.json").read_bytes()
    other = copied(balls, tmp_path / "balls")
    with pytest.raises(WorkspaceError, match=r"was made from .*; choose another workspace with --work"):
        pipeline.plan(other, work=work, device="cpu", probe=False)
    assert (work / "balls" / "plan.json").read_bytes() == before
    (work / "balls" / "dataset.json").unlink()  # what the message names for a dataset that has moved
    pipeline.plan(other, work=work, device="cpu", probe=False)


def test_runs_that_follow_an_earlier_plan_are_named(balls: Path, trained_work: Path, tmp_path: Path):
    work = Path(shutil.copytree(trained_work, tmp_path / "work"))
    assert pipeline.plan(balls, work=work, device="cpu", probe=False).notes == ()
    [note] = pipeline.plan(balls, work=work, device="cuda", memory_gib=8).notes
    assert note == "3d fold0, 3d fold1 followed an earlier plan; they keep it, new runs follow this one"


def begun(workspace: Workspace, *names: str) -> None:
    """As if fold0 of these had been begun: all that planning looks at is that they are there."""
    for name in names:
        config = workspace.run(name, "fold0").config
        config.parent.mkdir(parents=True)
        config.write_text("{}")


def test_runs_are_not_named_where_only_something_else_is_planned_otherwise(balls: Path, tmp_path: Path):
    options = {"work": tmp_path, "device": "cpu", "probe": False}
    batch = pipeline.plan(balls, **options).plan.configuration("3d").batch_size
    begun(Workspace(root=tmp_path, dataset="balls"), "2d", "3d")
    [note] = pipeline.plan(balls, overrides=["2d.batch_size=3"], **options).notes
    assert note == "2d fold0 followed an earlier plan; they keep it, new runs follow this one"
    assert pipeline.plan(balls, overrides=["2d.batch_size=3", f"3d.batch_size={batch}"], **options).notes == ()


def test_runs_of_variants_without_a_plan_of_their_own_are_named_with_those_of_the_plan_they_follow(
    balls: Path, tmp_path: Path
):
    options = {"work": tmp_path, "device": "cpu", "probe": False}
    pipeline.plan(balls, **options)
    begun(Workspace(root=tmp_path, dataset="balls"), "3d@seed1", "3d@big")
    [note] = pipeline.plan(balls, variant="big", overrides=["3d.batch_size=3"], **options).notes
    assert note.startswith("3d@big fold0 followed")  # until now it, too, followed the plan of the dataset
    [note] = pipeline.plan(balls, overrides=["3d.batch_size=3"], **options).notes
    assert note == "3d@seed1 fold0 followed an earlier plan; they keep it, new runs follow this one"


def test_runs_are_named_where_their_own_plan_differs_whatever_was_planned_since(balls: Path, tmp_path: Path):
    options = {"work": tmp_path, "device": "cpu", "probe": False}
    workspace, otherwise = Workspace(root=tmp_path, dataset="balls"), {"overrides": ["3d.batch_size=3"]}
    planned = pipeline.plan(balls, **options).plan
    for name in ("3d", "3d@seed1"):
        plan = as_variant(planned, parted(name)[1])
        job = RunConfig(plan=plan, configuration=name, fold="fold0", train=TrainConfig(), device="cpu", versions={})
        write_record(workspace.run(name, "fold0").config, job)
    for _ in range(2):
        [note] = pipeline.plan(balls, **options, **otherwise).notes
        assert note.startswith("3d fold0, 3d@seed1 fold0 followed an earlier plan")
    assert pipeline.plan(balls, **options).notes == ()  # back to what they were trained with


def test_a_plan_that_can_no_longer_be_read_is_replaced(balls: Path, trained_work: Path, tmp_path: Path):
    work = Path(shutil.copytree(trained_work, tmp_path / "work"))
    path = work / "balls" / "plan.json"
    path.write_text("{}")
    assert pipeline.plan(balls, work=work, device="cpu", probe=False).notes == ()  # runs keep their own, which is this
    assert read_record(path, Plan).dataset == "balls"


def test_the_plan_of_a_variant_leaves_that_of_the_dataset_as_old_as_it_is(balls: Path, tmp_path: Path):
    data = copied(balls, tmp_path / "balls")
    options = {"work": tmp_path / "work", "device": "cpu", "probe": False}
    pipeline.plan(data, **options)
    for kind in ("images", "labels"):
        shutil.copy(data / kind / "ball_0.nii.gz", data / kind / "new.nii.gz")
    pipeline.plan(data, variant="big", overrides=["3d.batch_size=3"], **options)
    with pytest.raises(WorkspaceError, match=r"1 case is new \(new\): .*; or run nnlite plan again$"):
        pipeline.train(data, "3d", ["fold0"], work=tmp_path / "work", device="cpu")
    assert len(list(pipeline.preprocess(data, ["3d@big"], work=tmp_path / "work")["3d@big"].glob("*.safetensors"))) == 6


def test_folds_of_the_user_s_own_are_refused_before_a_case_is_read_and_kept_with_the_plan(balls: Path, tmp_path: Path):
    def nothing_is_read(what: str, done: int, total: int) -> None:
        raise AssertionError

    def plan_with(folds: list[dict[str, list[str]]], **options: object) -> pipeline.PlanResult:
        file = tmp_path / "splits_final.json"
        file.write_text(json.dumps(folds))
        return pipeline.plan(balls, work=tmp_path, device="cpu", probe=False, splits=file, **options)  # type: ignore[arg-type]

    cases = [f"ball_{number}" for number in range(5)]
    with pytest.raises(DatasetError, match="do not fit balls"):
        plan_with([{"train": cases[1:], "val": ["ball_7"]}], progress=nothing_is_read)
    assert plan_with([{"train": cases[1:], "val": cases[:1]}]).notes == ("folds: 1, as in splits_final.json",)
    [fold] = read_record(tmp_path / "balls" / "splits.json", Splits).folds
    assert fold.validation == ("ball_0",)


def test_patients_and_rare_labels_decide_the_folds_of_a_plan(balls: Path, tmp_path: Path):
    data = copied(balls, tmp_path / "balls")
    names = '"labels": {"background": 0, "ball": 1, "core": 7}'
    (data / "nnlite.json").write_text(f'{{{names}, "groups": {{"ball_0": "anna", "ball_3": "anna"}}}}')
    result = pipeline.plan(data, work=tmp_path / "work", device="cpu", probe=False)
    assert result.notes == (
        "folds: there are only 4 groups: 4 folds, each holds one out; 5 cases in 4 groups, which stay whole",
    )
    folds = read_record(tmp_path / "work" / "balls" / "splits.json", Splits).folds
    assert ("ball_0", "ball_3") in [fold.validation for fold in folds]
    assert result.trainings == 4


def test_one_case_can_be_planned_and_has_no_folds(tmp_path: Path):
    label = np.zeros((1, 16, 20, 18), np.uint8)
    label[:, 4:9, 4:9, 4:9] = 1
    image = label.astype(np.float32) + np.random.default_rng(0).normal(0, 0.1, label.shape).astype(np.float32)
    geometry = Geometry(shape=(16, 20, 18), spacing_mm=(2.0, 1.5, 1.5))
    write_image(tmp_path / "one" / "images" / "a.nii.gz", image, geometry)
    write_image(tmp_path / "one" / "labels" / "a.nii.gz", label, geometry)
    result = pipeline.plan(tmp_path / "one", work=tmp_path / "work", device="cpu", probe=False)
    assert result.trainings == 1  # that of all cases
    assert read_record(tmp_path / "work" / "one" / "splits.json", Splits).folds == ()
