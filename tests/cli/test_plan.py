from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, a_plan, nn

from nnlite.planning.network import NetworkOptions


def test_plan_shows_what_was_decided_and_where_it_lies(pipeline: FakePipeline):
    plan = a_plan()
    pipeline.answers["plan"] = SimpleNamespace(
        plan=plan, path=Path("w/hippocampus/plan.json"), notes=("no 3d-lowres: small",), trainings=10
    )
    shown = nn(
        "plan",
        "hippocampus",
        "--gpu-memory",
        "11",
        "--device",
        "cpu",
        "--splits",
        "splits_final.json",
        "--resample-channels-to",
        "CT",
        "--hu-windows",
        "-1000:400,lung",
        "--hu-masks",
        "200:",
    )
    assert pipeline.calls[0][2]["memory_gib"] == 11.0
    assert pipeline.calls[0][2]["splits"] == Path("splits_final.json")
    assert pipeline.calls[0][2]["resample_channels_to"] == "CT"
    assert (pipeline.calls[0][2]["hu_windows"], pipeline.calls[0][2]["hu_masks"]) == ("-1000:400,lung", "200:")
    row, cost = (line for line in shown.stdout.splitlines() if line.split()[:1] == ["3d"])
    topology = plan.configurations["3d"].topology
    assert row.split()[1:5] == ["unet", "1.00x1.00x1.00", "16x16x16", "3"]
    # 1000 steps of 1.8 s and a fifth as many looks of 0.6 s are 0.53 h; there are ten folds
    assert cost.split()[2:9] == ["0.25", "1.800", "100", "x", "10", "0.5", "5.3"]
    assert row.split()[5:9] == ["4", "to", str(max(topology.features)), str(topology.stages)]
    assert "no 3d-lowres: small" in shown.stdout
    assert "-> w/hippocampus/plan.json" in shown.stdout


def test_explain_prints_each_decision_with_its_numbers(pipeline: FakePipeline):
    plan = a_plan()
    pipeline.answers["plan"] = SimpleNamespace(plan=plan, path=Path("plan.json"), notes=(), trainings=5)
    assert "patch_size: " not in nn("plan", "hippocampus").stdout
    shown = nn("plan", "hippocampus", "--explain").stdout
    for configuration in plan.configurations.values():
        assert all(f"  {what}: {why}\n" in shown for what, why in configuration.reasons.items())
    assert "3d-lowres: at full resolution the patch already has 142%\n" in shown
    assert "  a training step: " in shown


def test_plan_passes_on_what_was_decided_by_hand(pipeline: FakePipeline):
    pipeline.answers["plan"] = SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=(), trainings=5)
    nn("plan", "d", "--set", "3d.batch_size=4", "--set", "2d.batch_size=9", "--preset", "nnunet", "--residual", "L")
    options = pipeline.calls[0][2]
    assert options["overrides"] == ["3d.batch_size=4", "2d.batch_size=9"]
    assert (options["preset"], options["residual"], options["from_plan"]) == ("nnunet", "L", None)
    nn("plan", "d", "--from", "other")
    assert pipeline.calls[1][2]["from_plan"] == Path("other")
    nn("plan", "d", "--from-nnunet", "plans.json")
    assert pipeline.calls[2][2]["from_nnunet"] == Path("plans.json")
    refused = nn("plan", "--fingerprint", "f.json", "--labels", "2", "--channels", "CT", "--from-nnunet", "plans.json")
    assert refused.exit_code == 2
    assert "--from-nnunet belongs to a DATASET" in refused.stderr


def test_a_fingerprint_is_planned_without_a_dataset(pipeline: FakePipeline):
    pipeline.answers["plan_fingerprint"] = SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=(), trainings=5)
    shown = nn("plan", "--fingerprint", "f.json", "--labels", "3", "--channels", "T1, T2", "--name", "brain")
    assert shown.exit_code == 0
    [(verb, arguments, options)] = pipeline.calls
    assert (verb, arguments) == ("plan_fingerprint", (Path("f.json"),))
    assert (options["labels"], options["channels"], options["name"]) == (3, ["T1", "T2"], "brain")


def test_the_network_is_asked_for_by_name_and_shown(pipeline: FakePipeline):
    made = a_plan()
    checkpointed = {
        name: replace(one, topology=replace(one.topology, checkpointing=True))
        for name, one in made.configurations.items()
    }
    plan = replace(made, configurations=checkpointed)
    pipeline.answers["plan"] = SimpleNamespace(plan=plan, path=Path("plan.json"), notes=(), trainings=5)
    shown = nn(
        "plan",
        "d",
        "--architecture",
        "attention-unet",
        "--kernel",
        "5",
        "--checkpointing",
        "--fusion",
        "separate",
        "--stem",
        "multi-scale",
    )
    asked = NetworkOptions(
        architecture="attention-unet", kernel=5, checkpointing=True, fusion="separate", stem="multi-scale"
    )
    assert pipeline.calls[0][2]["network"] == asked
    assert "unet, checkpointed" in shown.stdout
    nn("plan", "d")
    assert pipeline.calls[1][2]["network"] == NetworkOptions()


def test_how_instances_come_apart_is_handed_on_and_needs_a_dataset(pipeline: FakePipeline):
    pipeline.answers["plan"] = SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=(), trainings=5)
    nn("plan", "cells", "--instances", "rim", "--border-width", "2")
    assert (pipeline.calls[0][2]["instances"], pipeline.calls[0][2]["border_px"]) == ("rim", 2)
    wrong = nn("plan", "cells", "--instances", "edges")
    assert "--instances is one of border, rim, distance, none" in wrong.stderr
    options = ("--fingerprint", "f.json", "--labels", "2", "--channels", "grey")
    assert "--instances belongs to a DATASET" in nn("plan", *options, "--instances", "rim").stderr
