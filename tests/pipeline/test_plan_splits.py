"""Which folds a plan is made with, and that those in use are not replaced in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nnlite.data.check import CheckReport
from nnlite.data.dataset import Dataset
from nnlite.data.labels import Labels
from nnlite.data.layouts import Case
from nnlite.data.records import read_record, write_record
from nnlite.data.split import Splits, make_splits
from nnlite.data.splits_file import read_splits
from nnlite.errors import DatasetError, WorkspaceError
from nnlite.pipeline.plan_splits import decide_splits, fixed_splits
from nnlite.workspace import Workspace

CASES = tuple(f"case_{number:02d}" for number in range(20))
TWINS = {"case_00": "twins", "case_01": "twins", "case_02": "twins"}
OWN = [{"train": CASES[:10], "val": CASES[10:]}, {"train": CASES[10:], "val": CASES[:10]}]


def dataset(cases: tuple[str, ...] = CASES, groups: Mapping[str, str] | None = None) -> Dataset:
    return Dataset(
        name="brain",
        root=Path("data/brain"),
        layout="images/ and labels/",
        channels=("CT",),
        labels=Labels(names=("background", "liver", "cyst"), values=(0, 1, 7)),
        cases=tuple(
            Case(id=case, images=(Path(case),), label=Path(case), group=(groups or {}).get(case)) for case in cases
        ),
    )


def report(found: Dataset, *, cysts: tuple[str, ...] = ()) -> CheckReport[Any]:
    values = {case.id: (0, 1, 7) if case.id in cysts else (0, 1) for case in found.cases}
    return CheckReport(dataset=found, faults=(), warnings=(), findings={}, label_values=values)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path, dataset="brain")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps(OWN))
    return file


def plan(
    workspace: Workspace, found: Dataset, file: Path | None = None, *, cysts: tuple[str, ...] = ()
) -> tuple[Splits, str]:
    """What planning does with the folds: the folds that lie in the workspace then, and the notes."""
    fixed = fixed_splits(found, workspace, file)
    splits, notes = decide_splits(report(found, cysts=cysts), workspace, fixed)
    write_record(workspace.splits, splits)
    return splits, " ".join(notes)


def begin(workspace: Workspace, configuration: str, fold: str) -> None:
    config = workspace.run(configuration, fold).config
    config.parent.mkdir(parents=True)
    config.write_text("{}")


def test_folds_are_nnunet_s_without_a_word_where_nothing_asks_for_others(workspace: Workspace):
    assert plan(workspace, dataset()) == (make_splits(CASES), "")
    assert plan(workspace, dataset(), cysts=CASES[:15]) == (make_splits(CASES), "")


@pytest.mark.parametrize(
    ("count", "folds", "words"),
    [(4, 4, "there are only 4 cases: 4 folds, each holds one out"), (1, 0, "only one case, so none can be held out")],
)
def test_few_cases_are_told(workspace: Workspace, count: int, folds: int, words: str):
    splits, said = plan(workspace, dataset(CASES[:count]))
    assert len(splits.folds) == folds
    assert words in said


def test_groups_and_rare_labels_decide_and_say_so(workspace: Workspace):
    splits, said = plan(workspace, dataset(groups=TWINS))
    assert (splits, said) == (make_splits(CASES, groups=TWINS), "folds: 20 cases in 18 groups, which stay whole")
    cysts = make_splits(CASES).folds[0].validation[:3]
    splits, said = plan(workspace, dataset(), cysts=cysts)
    assert splits.rule == "stratified"
    assert "folds dealt anew, in place of earlier ones: nnU-Net's folds would hold out no cyst in some fold" in said


def test_own_folds_are_taken_and_survive_another_plan(workspace: Workspace, own: Path):
    splits, said = plan(workspace, dataset(), own)
    assert [fold.validation for fold in splits.folds] == [CASES[10:], CASES[:10]]
    assert said == "folds: 2, as in splits_final.json"
    assert plan(workspace, dataset(), cysts=CASES[:1]) == (splits, said)
    assert read_record(workspace.splits, Splits) == splits


def test_own_folds_that_do_not_fit_are_refused_now_and_at_a_later_plan(workspace: Workspace, own: Path):
    with pytest.raises(
        DatasetError, match=r"splits_final\.json do not fit brain; correct the file:\n- 1 case is in no"
    ):
        plan(workspace, dataset((*CASES, "case_99")), own)
    with pytest.raises(DatasetError, match="fold0 has cases of the same group on both sides: g"):
        plan(workspace, dataset(groups={"case_00": "g", "case_19": "g"}), own)
    assert not workspace.splits.exists()
    plan(workspace, dataset(), own)
    with pytest.raises(DatasetError, match=r"give folds that do with --splits, or delete .*splits\.json"):
        plan(workspace, dataset((*CASES, "case_99")))


def test_folds_that_trainings_follow_stay(workspace: Workspace, own: Path):
    plain, _ = plan(workspace, dataset())
    begin(workspace, "3d", "fold1")
    splits, said = plan(workspace, dataset(groups=TWINS))
    assert splits == plain
    assert "the folds stay as 3d fold1 began with; they would now be dealt otherwise (20 cases in" in said
    assert plan(workspace, dataset()) == (plain, "")
    with pytest.raises(WorkspaceError, match=r"3d fold1 hold out other cases than the folds in .*splits_final\.json"):
        plan(workspace, dataset(), own)
    shutil.rmtree(workspace.runs)
    assert plan(workspace, dataset(), own)[0].rule == "file"


def test_the_same_folds_from_a_file_may_follow_trainings(workspace: Workspace, own: Path):
    plan(workspace, dataset(), own)
    begin(workspace, "3d", "fold0")
    assert plan(workspace, dataset(), own)[0].rule == "file"


def test_a_dataset_that_changed_under_its_trainings_is_refused(workspace: Workspace):
    plan(workspace, dataset())
    begin(workspace, "2d", "fold0")
    with pytest.raises(WorkspaceError) as refused:
        plan(workspace, dataset((*CASES[1:], "case_99")))
    said = str(refused.value)
    assert said.startswith(
        "brain has changed since 2d fold0 began: 1 case is not in the dataset, or excluded: case_00;"
    )
    assert "1 case is in no fold: case_99" in said
    assert f"delete their folders below {workspace.runs}, or choose another workspace" in said


def test_a_training_on_all_cases_follows_no_folds(workspace: Workspace):
    plan(workspace, dataset())
    begin(workspace, "3d", "all")
    grown = (*CASES, "case_99")
    assert plan(workspace, dataset(grown))[0] == make_splits(grown)


def test_folds_of_an_earlier_nnlite_are_read(workspace: Workspace):
    plain = make_splits(CASES)
    write_record(workspace.splits, plain)
    content = json.loads(workspace.splits.read_text())
    workspace.splits.write_text(json.dumps({key: content[key] for key in ("format_version", "seed", "folds")}))
    assert read_record(workspace.splits, Splits) == replace(plain, reason="")
    assert plan(workspace, dataset()) == (plain, "")


def test_folds_that_come_with_the_dataset_are_taken_and_follow_it(workspace: Workspace, own: Path):
    brought = replace(read_splits(own), rule="dataset", reason='as in the column "fold" of cases.csv (1, 2)')
    folds, notes = plan(workspace, replace(dataset(), splits=brought))
    assert folds == brought
    assert notes == 'folds: 2, as in the column "fold" of cases.csv (1, 2)'
    other = replace(brought, folds=brought.folds[::-1])
    assert plan(workspace, replace(dataset(), splits=other))[0] == other  # the table was edited, and nothing trained
    assert plan(workspace, dataset())[0].rule == "shuffled"


def test_folds_of_the_dataset_that_do_not_fit_it_are_refused(workspace: Workspace, own: Path):
    brought = replace(read_splits(own), rule="dataset", reason="as in splits_final.json")
    with pytest.raises(DatasetError, match=r"correct them \(as in splits_final.json\):"):
        plan(workspace, replace(dataset((*CASES, "case_99")), splits=brought))


def test_folds_that_were_named_before_come_before_those_of_the_dataset(workspace: Workspace, own: Path):
    named, _ = plan(workspace, dataset(), own)
    brought = replace(named, rule="dataset", folds=named.folds[::-1])
    assert plan(workspace, replace(dataset(), splits=brought))[0] == named


def test_sites_are_spread_over_the_folds_like_rare_labels(workspace: Workspace):
    found = dataset()
    plain = plan(workspace, found)[0]
    far = plain.folds[0].validation[:2] + plain.folds[1].validation[:1]  # three cases of one site, in two folds
    cases = tuple(replace(case, site="far" if case.id in far else "near") for case in found.cases)
    folds, notes = plan(workspace, replace(found, cases=cases))
    assert sum(not set(far).isdisjoint(fold.validation) for fold in folds.folds) == 3
    assert notes.startswith("folds dealt anew")
    assert "nnU-Net's folds would hold out no site far in some fold; what is rare is spread over the folds" in notes
