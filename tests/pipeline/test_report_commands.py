"""The commands of a report are those that made the workspace."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from nnlite import pipeline
from nnlite.pipeline.plan_dataset import read_plan
from nnlite.pipeline.report_commands import commands
from nnlite.pipeline.run_status import DatasetStatus, status
from nnlite.planning.network import NetworkChoice
from nnlite.planning.override import override, parse_override
from nnlite.workspace import Workspace

NOTHING = DatasetStatus(folds=(), notes=(), next_command=None)


def test_the_plan_s_command_makes_the_same_plan_again(balls: Path, tmp_path: Path):
    pipeline.plan(balls, work=tmp_path / "a", device="cpu", probe=False, overrides=["3d.patch_size=16,16,16"])
    first = Workspace(root=tmp_path / "a", dataset="balls")
    [line, *_] = [one.line for one in commands(balls, first, read_plan(first), NOTHING, None)]
    assert line == f"nnlite plan {balls} --device cpu --set 3d.patch_size=16,16,16 --work {tmp_path / 'a'}"


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
    ],
)
def test_memory_preset_and_network_are_named(changes: dict[str, object], options: str):
    plan = replace(tiny.plan(), **changes)  # type: ignore[arg-type]
    [line, *_] = [one.line for one in commands(Path("b"), Workspace(root=Path("w"), dataset="b"), plan, NOTHING, None)]
    assert line == f"nnlite plan b {options} --work w"


def test_a_decision_by_hand_is_named_once_even_if_two_configurations_follow_it():
    plan = override(tiny.plan("3d-cascade"), [parse_override("3d-lowres.batch_size=2")])
    twice = {
        name: replace(one, reasons={"batch_size": "set by hand: 3d.batch_size=2"})
        for name, one in plan.configurations.items()
    }
    plan = replace(plan, configurations=twice)
    [line, *_] = [one.line for one in commands(Path("b"), Workspace(root=Path("w"), dataset="b"), plan, NOTHING, None)]
    assert line.count("--set") == 1


def test_a_whole_round_is_one_word_and_keeps_the_length_it_was_given(balls: Path, cross_validated_work: Path):
    workspace = Workspace(root=cross_validated_work, dataset="balls")
    lines = [
        one.line for one in commands(balls, workspace, read_plan(workspace), status(balls, work=workspace.root), None)
    ]
    assert lines[1] == f"nnlite train {balls} 2d folds --epochs 2 --iterations 15 --work {workspace.root}"
    assert lines[2] == lines[1].replace(" 2d ", " 3d ")
    assert lines[-1] == f"nnlite report {balls} --work {workspace.root}"
    assert len(lines) == 4


def test_folds_of_different_lengths_are_commands_of_their_own(balls: Path, cross_validated_work: Path, tmp_path: Path):
    workspace = Workspace(root=Path(shutil.copytree(cross_validated_work, tmp_path / "work")), dataset="balls")
    config = workspace.run("3d", "fold1").config
    config.write_text(config.read_text().replace('"epochs": 2', '"epochs": 7'))
    found = status(balls, work=workspace.root)
    lines = [one.line for one in commands(balls, workspace, read_plan(workspace), found, None)]
    assert [line.split(str(balls))[1].split(" --work")[0] for line in lines[1:4]] == [
        " 2d folds --epochs 2 --iterations 15",
        " 3d fold0 --epochs 2 --iterations 15",
        " 3d fold1 --epochs 7 --iterations 15",
    ]
