"""The documentation is true: its commands run, what it names exists, and it names what there is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from nnlite import cli
from nnlite.data.archive import Manifest, Member
from nnlite.data.dataset import Description
from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.evaluation.choose_rules import RuleTrial
from nnlite.evaluation.cross_validation import CandidateScore
from nnlite.evaluation.reliability import HeldOutReliability, LabelCalibration
from nnlite.evaluation.scores import LabelScore
from nnlite.inference.familiarity import Finding
from nnlite.inference.postprocess import Postprocessing, Rule
from nnlite.inference.reliability import LabelFeatures
from nnlite.pipeline.case_record import CaseRecord, LabelRecord, PredictedBy
from nnlite.pipeline.compare_runs import ComparedRun, RunComparison
from nnlite.pipeline.model_file import PackedModel, PackedRun
from nnlite.pipeline.selection import Selection, TrainedRun
from nnlite.planning.appearance import Appearance, ChannelAppearance, ImageAppearance, MirrorTest
from nnlite.planning.configurations import Configuration
from nnlite.planning.cost import step_gib
from nnlite.planning.counts import multiply_adds
from nnlite.planning.fingerprint import Fingerprint, IntensityProperties, from_nnunet
from nnlite.planning.gpu import usable_gib
from nnlite.planning.hu_channels import HuChannel
from nnlite.planning.measurement import StepMeasurement
from nnlite.planning.memory import step_memory
from nnlite.planning.planner import Plan, make_plan
from nnlite.planning.prior import Prior
from nnlite.planning.topology import Topology
from nnlite.training.checkpoint import ModelCard
from nnlite.training.config import TrainConfig
from nnlite.training.curves import EpochRecord
from nnlite.training.initial_weights import InitialWeights
from nnlite.workspace import RunFolder

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")])

# The tutorial is for people with ten minutes. The test runs the same commands, only shorter:
SHORTER = (
    (re.compile(r"--time-budget \S+"), "--epochs 1 --iterations 2"),  # two steps instead of minutes
    (re.compile(r"cases=15"), "cases=5"),  # five folds of one case instead of three
    (re.compile(r"cases=3"), "cases=1"),
)
GOES_ON = (
    "predict",
    "evaluate",
    "cross-validate",
    "hand-a-model-on",
    "move-a-model",
    "own-transforms",
    "python",
    "track-a-training",
)  # how-to pages that use the tutorial's files
MADE_BY_THE_TUTORIAL = re.compile(r"`((?:phantom|test|masks|scores|nnlite_work)/[^`<*\s]*)`")
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each fenced block of a page, in order, made shorter."""
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        text = block["text"]
        for pattern, replacement in SHORTER:
            text = pattern.sub(replacement, text)
        yield block["language"], text


def nnlite(arguments: list[str]) -> None:
    """Run a command through the entry point that is installed as ``nnlite``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nnlite", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code in (0, None), f"nnlite {shlex.join(arguments)} ended with {end.value.code}"


def copy_files(script: str) -> None:
    """Do what the shell blocks of ``move-a-model`` do, on any system: copy the named files of a run."""
    for line in script.splitlines():
        if line.startswith("cp "):
            *sources, target = shlex.split(line)[1:]
            for source in sources:
                Path(target).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        elif "tar cf" in line:
            left_out = shutil.ignore_patterns(*re.findall(r"--exclude '([^']+)'", line))
            shutil.copytree("nnlite_work/phantom/runs", "model/phantom/runs", ignore=left_out)


def run_page(page: Path) -> None:
    """Run a page from top to bottom: its Python, its file copies, and its nnlite commands."""
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page.name, "exec"), {"__name__": page.stem})
        elif language == "bash":
            copy_files(text)
        elif language == "console":
            for line in text.splitlines():
                if line.startswith("$ nnlite "):
                    nnlite(shlex.split(line)[2:])


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("NNLITE_WORK", raising=False)
        yield


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which someone has followed the tutorial."""
    folder = tmp_path_factory.mktemp("tutorial")
    with inside(folder):
        run_page(DOCS / "tutorial.md")
    return folder


def test_the_tutorial_s_files_exist_after_its_commands(tutorial: Path):
    named = set(MADE_BY_THE_TUTORIAL.findall((DOCS / "tutorial.md").read_text(encoding="utf-8")))
    assert len(named) >= 10
    assert [path for path in sorted(named) if not (tutorial / path).exists()] == []


def test_results_lie_where_the_shown_output_says(tutorial: Path):
    shown = re.findall(r"-> (\S+)$", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) >= 4
    assert [path for path in shown if not (tutorial / path).exists()] == []


@pytest.mark.parametrize("name", GOES_ON)
def test_a_how_to_page_that_goes_on_from_the_tutorial_runs(name: str, tutorial: Path):
    with inside(tutorial):
        run_page(DOCS / "how-to" / f"{name}.md")
        for path in re.findall(r"-> (\S+)$", (DOCS / "how-to" / f"{name}.md").read_text(), re.MULTILINE):
            assert Path(path).exists()


def command_sections() -> dict[str, str]:
    text = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## nnlite ([\w-]+)\n", text, flags=re.MULTILINE)
    return dict(zip(sections[::2], sections[1::2], strict=True))


def options_of(command: Any) -> set[str]:
    options = {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}
    return options | {"--help", "-h"}


def test_the_reference_has_every_command_and_every_option_and_no_other():
    commands = typer.main.get_command(cli.app).commands
    sections = command_sections()
    assert sections.keys() == commands.keys()
    for name, command in commands.items():
        described = set(re.findall(r"`(--?[a-z][a-z-]*)", sections[name]))
        assert described == options_of(command), name
        usage = sections[name].split("`")[1]
        arguments = [p.metavar or p.human_readable_name for p in command.params if p.param_type_name == "argument"]
        assert all(argument.strip("{}[]. ") in usage for argument in arguments), name


def test_the_reference_of_files_has_every_field():
    text = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    described = set(re.findall(r"`([\w.-]+)`", text))
    kinds = (
        Description,
        Fingerprint,
        IntensityProperties,
        Plan,
        HuChannel,
        Prior,
        Configuration,
        Topology,
        TrainConfig,
        EpochRecord,
    )
    selected = (Selection, CandidateScore, RuleTrial, Postprocessing, Rule, TrainedRun)
    trusted = (LabelFeatures, HeldOutReliability, LabelCalibration, Finding, LabelRecord, CaseRecord, PredictedBy)
    looks = (Appearance, ImageAppearance, ChannelAppearance, MirrorTest)
    compared = (RunComparison, ComparedRun, ModelCard, Labels, Instances)
    handed_on = (Manifest, Member, PackedModel, PackedRun, InitialWeights)
    for kind in (*kinds, *compared, *handed_on, StepMeasurement, LabelScore, *selected, *trusted, *looks):
        missing = [field.name for field in fields(kind) if field.name not in described]
        assert missing == [], kind.__name__


def test_the_workspace_page_has_every_file_of_a_run():
    text = (DOCS / "concepts" / "workspace.md").read_text(encoding="utf-8")
    run = RunFolder(folder=Path("nnlite_work/hippocampus/runs/3d/fold0"))
    places = [getattr(run, name) for name, kind in vars(RunFolder).items() if isinstance(kind, property)]
    files = [place.name for place in places if isinstance(place, Path)]
    assert len(files) >= 8
    assert [name for name in files if name not in text] == []


def hippocampus(device: str) -> Plan:
    """The plan for as many cases of the same size as the worked example has."""
    some = IntensityProperties(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    cases = 200
    fingerprint = Fingerprint(
        spacings_mm=((1.0, 1.0, 1.0),) * cases,
        shapes_after_crop=((36, 50, 35),) * cases,
        intensities=(some,),
        median_relative_size_after_crop=1.0,
    )
    labels = Labels(names=("background", "Anterior", "Posterior"), values=(0, 1, 2))
    return make_plan(fingerprint, dataset="hippocampus", channels=["MRI"], labels=labels, device=device)


def test_the_worked_example_of_the_plan_is_what_the_planner_answers():
    text = " ".join((DOCS / "concepts" / "plan.md").read_text(encoding="utf-8").split())
    gpu, cpu = (hippocampus(device).configuration("3d") for device in ("cuda", "cpu"))
    patch = " x ".join(map(str, gpu.patch_size))
    assert f"**{patch}**" in text
    parts = step_memory(
        gpu.topology, gpu.patch_size, gpu.batch_size, channels=1, labels=3, precision="bf16", device="cuda"
    )
    for part in ("parameters", "gradients", "optimizer", "batch", "activations", "passing", "peak"):
        assert f"| {part} | {getattr(parts, part) / 2**20:.1f} |" in text.replace("**", "")
    assert f"of the {usable_gib(8):.2f} GiB" in text
    assert f"**batch is {gpu.batch_size}**" in text
    assert f"**{gpu.epochs} epochs**" in text
    assert cpu.patch_size == gpu.patch_size
    forward = multiply_adds(cpu.topology, cpu.patch_size, channels=1, labels=3) / 1e9
    assert f"takes {forward:.2f} billion" in text
    assert f"{3 * forward:.1f} billion; a batch of {cpu.batch_size} takes **{3 * forward * cpu.batch_size:.1f}" in text
    assert f"{cpu.topology.features[0]} to {cpu.topology.features[-1]}" in text


@pytest.mark.realdata
def test_the_page_on_gpu_plans_shows_what_both_presets_answer(reference_plans: Path):
    text = (DOCS / "decisions" / "gpu-plan.md").read_text(encoding="utf-8")
    shown = {line.split(" | ", 1)[1].rsplit(" | ", 1)[0] for line in text.splitlines() if " x " in line and "|" in line}
    checked = 0
    for folder in sorted(reference_plans.iterdir()):
        found = from_nnunet(json.loads((folder / "fingerprint.json").read_text()))
        given = json.loads((folder / "expected.json").read_text())
        labels = Labels.from_table({f"label {value}": value for value in range(1, given["labels"])})
        options = {"dataset": folder.name, "channels": given["channels"], "labels": labels, "memory_gib": 8}
        plans = [make_plan(found, **options, preset=preset) for preset in ("nnunet", "nnlite")]
        for name in ("2d", "3d", "3d-lowres"):
            if name not in plans[0].configurations:
                continue
            pair = [one.configuration(name) for one in plans]
            median = " x ".join(f"{length:g}" for length in pair[0].median_shape)
            cells = (
                [" x ".join(map(str, one.patch_size)) for one in pair],
                [str(one.batch_size) for one in pair],
                [f"{step_gib(plan, one):.1f}" for plan, one in zip(plans, pair, strict=True)],
            )
            row = " | ".join([name, median, *(" -> ".join(dict.fromkeys(cell)) for cell in cells)])
            assert row in shown
            checked += 1
    assert checked == 18


def test_a_moved_model_leaves_every_state_of_a_training_behind():
    run = RunFolder(folder=Path("nnlite_work/phantom/runs/3d/fold0"))
    left = re.findall(r"--exclude '([^']+)'", (DOCS / "how-to" / "move-a-model.md").read_text(encoding="utf-8"))
    places = (run.checkpoint_last, run.checkpoint_previous, run.checkpoint_best)
    assert left == [place.name for place in places]


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_index():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    missing = [page for page in DOCS.rglob("*.md") if f"({page.relative_to(DOCS).as_posix()})" not in index]
    assert missing == [DOCS / "README.md"]


def test_no_page_and_no_result_names_a_folder_of_the_machine_it_was_written_on():
    machine = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|Users)/")
    results = [path for path in (REPOSITORY / "benchmarks" / "results").rglob("*") if path.is_file()]
    assert len(results) >= 10
    assert [page.name for page in (*PAGES, *results) if machine.search(page.read_text(encoding="utf-8"))] == []
