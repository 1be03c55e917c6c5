"""The commands of a report are those that made the workspace."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from fake_pipeline import nn
from small_report import evidence

from nnlite import pipeline
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.data.records import read_record, write_record
from nnlite.data.split import Splits
from nnlite.evaluation.report.contents import Evidence
from nnlite.pipeline.plan_dataset import read_plan
from nnlite.pipeline.report_commands import commands
from nnlite.pipeline.run_status import DatasetStatus, status
from nnlite.planning.hu_channels import HuChannel
from nnlite.planning.network import NetworkChoice
from nnlite.planning.override import override, parse_override
from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior
from nnlite.workspace import Workspace

NOTHING = DatasetStatus(folds=(), notes=(), next_command=None)
NO_FOLDS = Splits(seed=12345, folds=())
CELLS = Labels(names=("background", "cell"), values=(0, 1))
WINDOW = HuChannel(source="MR", name="brain", kind="window", low_hu=0.0, high_hu=80.0)
MASK = HuChannel(source="MR", name="200:", kind="mask", low_hu=200.0, high_hu=None)


@pytest.fixture
def workspace(cross_validated_work: Path, tmp_path: Path) -> Workspace:
    """A workspace with two folds of 2d and of 3d, to be changed at will."""
    return Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")


def plan_command(plan: Plan, splits: Splits = NO_FOLDS) -> str:
    """The first of the commands for a plan that was never used."""
    return commands(Path("b"), Workspace(root=Path("w"), dataset="b"), plan, splits, NOTHING, None)[0].line


def lines(dataset: Path, workspace: Workspace, found: Evidence | None = None) -> list[str]:
    """All commands for a workspace, without its own name."""
    splits, told = read_record(workspace.splits, Splits), status(dataset, work=workspace.root)
    typed = commands(dataset, workspace, read_plan(workspace), splits, told, found)
    return [one.line.removesuffix(f" --work {workspace.root}").replace(str(dataset), "D") for one in typed]


def begin(workspace: Workspace, name: str, *folds: str, **changes: object) -> None:
    """As if these folds of a variant had been trained like the same folds of 3d, but for these settings."""
    for fold in folds:
        run = workspace.run(name, fold)
        shutil.copytree(workspace.run("3d", "fold0" if fold == "all" else fold).folder, run.folder)
        job = json.loads(run.config.read_text())
        run.config.write_text(json.dumps(job | {"train": job["train"] | changes}))


@pytest.mark.parametrize(
    ("description", "options"),
    [
        ({}, {"overrides": ["3d.patch_size=16,16,16"]}),
        (
            {"channels": ["CT"]},
            {"hu_windows": "lung,-160:240", "hu_masks": "-1000:-300,200:", "prior": "product"},
        ),
        ({"instances": "numbered", "labels": {"background": 0, "ball": 1}}, {}),
        ({"instances": "numbered", "labels": {"background": 0, "ball": 1}}, {"instances": "rim", "border_px": 2}),
        ({"instances": "numbered", "labels": {"background": 0, "ball": 1}}, {"instances": "distance"}),
    ],
    ids=["by hand", "channels and atlas", "border", "rim", "distance"],
)
def test_the_plan_s_command_makes_the_same_plan_again(
    balls: Path, tmp_path: Path, description: dict[str, object], options: dict[str, object]
):
    data = Path(shutil.copytree(balls, tmp_path / "balls"))
    described = json.loads((data / "nnlite.json").read_text()) | description
    (data / "nnlite.json").write_text(json.dumps(described))
    first, again = (Workspace(root=tmp_path / name, dataset="balls") for name in ("first", "again"))
    pipeline.plan(data, work=first.root, device="cpu", probe=False, **options)  # type: ignore[arg-type]
    words = shlex.split(lines(data, first)[0].replace(" D ", f" {data} "))
    shown = nn(*words[1:], "--no-probe", "--work", str(again.root))
    assert shown.exit_code == 0, shown.stderr
    assert read_plan(again) == read_plan(first)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"device": "cuda", "memory_gib": 24.0, "planner": "residual-L"}, "--device cuda --gpu-memory 24 --residual L"),
        (
            {"network": NetworkChoice(architecture="vnet", kernel=5, checkpointing=True)},
            "--device cpu --architecture vnet --kernel 5 --checkpointing",
        ),
        (
            {"network": NetworkChoice(fusion="separate", stem="multi-scale")},
            "--device cpu --fusion separate --stem multi-scale",
        ),
        ({"device": "cuda", "memory_gib": 8.0, "preset": "nnunet"}, "--device cuda --gpu-memory 8 --preset nnunet"),
        ({"reference_channel": "MR"}, "--device cpu --resample-channels-to MR"),
        ({"hu_channels": (WINDOW, MASK)}, "--device cpu --hu-windows brain --hu-masks 200:"),
        ({"prior": Prior(use="channel", atlas_shape=(8, 8, 8))}, "--device cpu --prior channel"),
        (
            {"labels": replace(CELLS, instances=Instances(border_px=5))},
            "--device cpu --instances border --border-width 5",
        ),
        ({"labels": CELLS, "reasons": {"instances": "--instances none: .."}}, "--device cpu --instances none"),
    ],
)
def test_what_was_asked_for_is_named(changes: dict[str, object], options: str):
    plan = replace(tiny.plan(), **changes)  # type: ignore[arg-type]
    assert plan_command(plan) == f"nnlite plan b {options} --work w"


def test_folds_of_the_user_s_own_are_taken_from_where_they_are_kept():
    own = replace(NO_FOLDS, rule="file")
    assert plan_command(tiny.plan(), own) == "nnlite plan b --device cpu --splits w/b/splits.json --work w"


def test_a_decision_by_hand_is_named_once_even_if_two_configurations_follow_it():
    plan = override(tiny.plan("3d-cascade"), [parse_override("3d-lowres.batch_size=2")])
    twice = {
        name: replace(one, reasons={"batch_size": "set by hand: 3d.batch_size=2"})
        for name, one in plan.configurations.items()
    }
    assert plan_command(replace(plan, configurations=twice)).count("--set") == 1


def test_a_whole_round_is_one_word_and_keeps_the_length_it_was_given(balls: Path, workspace: Workspace):
    assert lines(balls, workspace)[1:] == [
        "nnlite train D 2d folds --epochs 2 --iterations 15",
        "nnlite train D 3d folds --epochs 2 --iterations 15",
        "nnlite report D",
    ]
    begin(workspace, "3d", "all")
    assert lines(balls, workspace)[2] == "nnlite train D 3d folds all --epochs 2 --iterations 15"


def test_folds_of_different_lengths_are_commands_of_their_own(balls: Path, workspace: Workspace):
    config = workspace.run("3d", "fold1").config
    config.write_text(config.read_text().replace('"epochs": 2', '"epochs": 7'))
    assert lines(balls, workspace)[1:4] == [
        "nnlite train D 2d folds --epochs 2 --iterations 15",
        "nnlite train D 3d fold0 --epochs 2 --iterations 15",
        "nnlite train D 3d fold1 --epochs 7 --iterations 15",
    ]


def test_of_a_variant_the_folds_that_were_begun_are_named_with_what_is_different(balls: Path, workspace: Workspace):
    begin(workspace, "3d@seed1", "fold0", seed=1)
    assert lines(balls, workspace)[3] == "nnlite train D 3d@seed1 fold0 --epochs 2 --iterations 15 --seed 1"
    begin(workspace, "3d@seed1", "fold1", seed=1)
    assert lines(balls, workspace)[3] == "nnlite train D 3d@seed1 folds --epochs 2 --iterations 15 --seed 1"


def test_a_variant_with_a_plan_of_its_own_is_planned_first_and_has_lengths_by_that(balls: Path, workspace: Workspace):
    options = {"work": workspace.root, "device": "cpu", "probe": False}
    pipeline.plan(balls, variant="big", overrides=["3d.batch_size=3"], **options)
    path = workspace.plan_of("big")
    plan = read_record(path, Plan)
    longer = replace(plan.configuration("3d@big"), epochs=7)
    write_record(path, replace(plan, configurations={**plan.configurations, "3d@big": longer}))
    begin(workspace, "3d@big", "fold0", epochs=7)
    told = lines(balls, workspace)
    assert told[:2] == ["nnlite plan D --device cpu", "nnlite plan D --device cpu --set 3d.batch_size=3 --as big"]
    assert told[4] == "nnlite train D 3d@big fold0 --iterations 15"


def test_a_run_of_an_earlier_plan_has_lengths_by_that_plan(balls: Path, workspace: Workspace):
    plan = read_plan(workspace)
    write_record(workspace.plan, replace(plan, configurations={"2d": plan.configuration("2d")}))
    assert lines(balls, workspace)[2] == "nnlite train D 3d folds --epochs 2 --iterations 15"


def test_a_selection_among_all_that_is_finished_needs_no_words(balls: Path, workspace: Workspace):
    found = replace(evidence(), crf_trials=())  # among 3d, and 2d + 3d
    assert lines(balls, workspace, found)[3:5] == ["nnlite select D", "nnlite predict D IMAGES -o MASKS"]


def test_a_selection_names_what_it_chose_among_and_whether_a_crf_was_tried(balls: Path, workspace: Workspace):
    begin(workspace, "3d@other", "fold0", "fold1", seed=1)
    found = evidence()
    assert found.crf_trials
    assert lines(balls, workspace, found)[4] == "nnlite select D 3d 2d --crf"
    single = tuple(one for one in found.candidates if len(one.members) == 1)
    assert lines(balls, workspace, replace(found, candidates=single))[4] == "nnlite select D 3d --crf"
    two = (*single, replace(single[0], members=("2d",)))
    assert lines(balls, workspace, replace(found, candidates=two))[4] == "nnlite select D 3d 2d --most 1 --crf"
