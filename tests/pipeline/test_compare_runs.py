"""Trainings are compared by the cases that all of them held out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import read_label, write_mask
from nnlite.data.records import read_record, write_record
from nnlite.errors import UsageError, WorkspaceError
from nnlite.evaluation.instance_scores import InstanceScores, score_instances
from nnlite.evaluation.scores import Summary, read_scores
from nnlite.pipeline.compare_runs import RunComparison
from nnlite.pipeline.run_config import RunConfig
from nnlite.planning.cost import parameters
from nnlite.training.curves import read_log
from nnlite.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(balls: Path, trained_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """3d of two folds, and a variant of the first of them alone."""
    root = Path(shutil.copytree(trained_work, tmp_path_factory.mktemp("compared") / "work"))
    pipeline.train(balls, "3d@other", ["fold0"], work=root, device="cpu", epochs=2, iterations=2, seed=1)
    return Workspace(root=root, dataset="balls")


def test_scores_of_the_common_cases_stand_beside_what_the_networks_cost(balls: Path, workspace: Workspace) -> None:
    output = workspace.folder / "compared.json"
    result = pipeline.compare(balls, ["3d", "3d@other"], work=workspace.root, output=output)
    first, second = result.runs
    assert (first.name, first.folds, second.folds) == ("3d", ("fold0", "fold1"), ("fold0",))
    assert result.remarks == ("3d: 1 cases left out, which others did not hold out",)
    for one, configuration in ((first, "3d"), (second, "3d@other")):
        run = workspace.run(configuration, "fold0")
        assert one.scores.mean_dice == pytest.approx(read_record(run.summary, Summary).foreground["dice"])
    assert first.scores.difference == 0
    assert second.scores.difference == second.scores.mean_dice - first.scores.mean_dice
    assert first.parameters == second.parameters > 1000
    log = read_log(workspace.run("3d@other", "fold0").log)
    assert second.training_s == log[-1].elapsed_s
    assert second.step_s == pytest.approx((log[0].duration_s + log[1].duration_s) / 4)
    assert read_record(output, RunComparison) == result


def test_each_fold_counts_with_what_it_was_asked_for_and_what_they_do_not_share_is_told(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    config = copy.run("3d", "fold1").config
    job = read_record(config, RunConfig)
    write_record(config, replace(job, train=replace(job.train, iterations=job.train.iterations * 1000)))
    result = pipeline.compare(balls, ["3d", "3d@other"], work=copy.root)
    assert result.remarks[1:] == ("3d: its folds were not trained alike: iterations (fold0: 10, fold1: 10000)",)
    # of two epochs of fold0 and two of fold1, whose steps are a thousandth, the median lies between the middle two
    first, second = ([epoch.duration_s for epoch in read_log(copy.run("3d", fold).log)] for fold in ("fold0", "fold1"))
    assert result.runs[0].step_s == pytest.approx((min(first) / 10 + max(second) / 10_000) / 2)


def test_single_folds_can_be_compared(balls: Path, workspace: Workspace) -> None:
    result = pipeline.compare(balls, ["3d@other", "3d/fold0"], work=workspace.root)
    assert [run.folds for run in result.runs] == [("fold0",), ("fold0",)]
    assert result.remarks == ()


def test_a_cascade_is_counted_with_its_first_stage_as_select_does(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    run = copy.run("3d-cascade", "fold0")
    shutil.copytree(copy.run("3d", "fold0").folder, run.folder)
    job = read_record(run.config, RunConfig)
    alone = job.plan.configuration("3d")
    first = replace(alone, name="3d-lowres")
    second = replace(alone, name="3d-cascade", previous_stage="3d-lowres")
    plan = replace(job.plan, configurations={"3d-lowres": first, "3d-cascade": second})
    write_record(run.config, replace(job, plan=plan, configuration="3d-cascade"))
    one, cascade = pipeline.compare(balls, ["3d", "3d-cascade"], work=copy.root).runs
    assert one.parameters == parameters(job.plan, alone)
    assert cascade.parameters == one.parameters + parameters(plan, second)


def test_what_it_is_worth_to_exchange_left_and_right_can_be_told(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    config = copy.run("3d@other", "fold0").config
    job = read_record(config, RunConfig)
    sides = replace(job.plan.labels, mirrored=(("ball", "core"),))
    write_record(config, replace(job, plan=replace(job.plan, labels=sides)))
    result = pipeline.compare(balls, ["3d", "3d@other"], work=copy.root)
    assert [run.name for run in result.runs] == ["3d", "3d@other"]


def test_scores_from_before_a_label_was_corrected_are_not_paired_with_later_ones(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    copy.source.unlink()  # it tells of the other folder
    held_out = read_scores(copy.run("3d", "fold0").scores, copy.run("3d", "fold0").summary).cases[0]
    label = data / "labels" / f"{held_out}.nii.gz"
    truth = read_label(label)
    corrected = truth.array[0].copy()
    corrected[tuple(np.argwhere(corrected == 7)[0])] = 1
    write_mask(label, corrected, truth)

    def scored_again(name: str, fold: str) -> None:
        run = copy.run(name, fold)
        kept = [run.checkpoint_final, *sorted(run.validation.iterdir())]
        written = [path.stat().st_mtime_ns for path in kept]
        run.summary.unlink()
        pipeline.train(data, name, [fold], work=copy.root, device="cpu")
        assert [path.stat().st_mtime_ns for path in kept] == written

    scored_again("3d@other", "fold0")
    with pytest.raises(WorkspaceError, match=rf"1 of 1 cases .*: {held_out} .*scores\.json .* run nnlite train"):
        pipeline.compare(data, ["3d", "3d@other"], work=copy.root)
    scored_again("3d", "fold0")  # as the message says
    assert pipeline.compare(data, ["3d", "3d@other"], work=copy.root).labels == ("ball", "core")


def test_single_objects_are_scored_in_the_common_cases_where_they_come_apart(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    truth = np.array([[1, 1, 0, 2, 2]])
    scored = {"fold0": score_instances("", truth, truth), "fold1": score_instances("", truth, np.zeros_like(truth))}
    for fold, row in scored.items():
        run = copy.run("3d", fold)
        [case] = read_scores(run.scores, run.summary).cases
        InstanceScores(rows=(replace(row, case=case),)).write(run.instance_scores, run.instance_summary)
    result = pipeline.compare(balls, ["3d", "3d@other"], work=copy.root)
    with_objects, without = result.runs[0].instances, result.runs[1].instances
    assert without is None
    assert with_objects is not None  # those of fold1, which 3d@other did not hold out, would make it 2 / 4
    assert (with_objects.cases, with_objects.true_instances, with_objects.average_precision[0]) == (1, 2, 1.0)


def test_objects_that_were_numbered_anew_are_not_compared_with_those_from_before(
    balls: Path, workspace: Workspace, tmp_path: Path
) -> None:
    copy = Workspace(root=Path(shutil.copytree(workspace.root, tmp_path / "work")), dataset="balls")
    before, corrected = np.array([[1, 1, 2, 2]]), np.array([[1, 2, 3, 3]])  # of the same voxels

    def write(name: str, truth: np.ndarray, fold: str = "fold0") -> str:
        run = copy.run(name, fold)
        [case] = read_scores(run.scores, run.summary).cases
        InstanceScores(rows=(score_instances(case, truth, before),)).write(run.instance_scores, run.instance_summary)
        return case

    write("3d", corrected, "fold1")  # which 3d@other did not hold out
    case = write("3d", before)
    write("3d@other", corrected)
    told = rf"1 of 1 cases .*: {case} \(ball of {case}, in objects of the truth: 3d 2, 3d@other 3\); .*scores\.json"
    with pytest.raises(WorkspaceError, match=told):
        pipeline.compare(balls, ["3d", "3d@other"], work=copy.root)
    write("3d", corrected)
    scored = [run.instances for run in pipeline.compare(balls, ["3d", "3d@other"], work=copy.root).runs]
    assert [one and one.true_instances for one in scored] == [3, 3]


def test_trainings_without_common_cases_cannot_be_compared(balls: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"no case was held out by all of them.*3d/fold1: fold1; 3d@other: fold0"):
        pipeline.compare(balls, ["3d/fold1", "3d@other"], work=workspace.root)


def test_a_name_that_is_not_trained_is_told_with_those_that_are(balls: Path, workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"3d@gone has no finished fold .* such are there of 3d, 3d@other"):
        pipeline.compare(balls, ["3d", "3d@gone"], work=workspace.root)


@pytest.mark.parametrize("names", [["3d"], ["3d", "3d"]])
def test_one_training_is_not_compared_with_itself(balls: Path, workspace: Workspace, names: list[str]) -> None:
    with pytest.raises(UsageError, match="name two or more different trainings"):
        pipeline.compare(balls, names, work=workspace.root)
