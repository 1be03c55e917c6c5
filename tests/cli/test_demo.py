from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_pipeline import FakePipeline, a_plan, nn, predicted, trained

from nnlite import demo
from nnlite.errors import DatasetError


@pytest.fixture
def quick_demo(pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    """The demo with two cases, and a pipeline that answers at once."""
    monkeypatch.setattr(demo, "TRAINING_CASES", 1)
    monkeypatch.setattr(demo, "TEST_CASES", 1)

    def train(dataset: Path, configuration: str, folds: tuple[str, ...], *, work: Path, **options: Any) -> Any:
        folder = work / dataset.name / "runs" / configuration / folds[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        return (trained(),)

    summary = SimpleNamespace(
        cases=1, foreground=dict.fromkeys(("dice", "nsd", "hd95_mm", "sensitivity", "precision"), 0.9), labels={}
    )
    pipeline.answers |= {
        "plan": SimpleNamespace(plan=a_plan(), path=Path("plan.json"), notes=(), trainings=5),
        "train": train,
        "predict": predicted(),
        "evaluate": SimpleNamespace(summary=lambda: summary, mean_dice=0.9),
    }
    return pipeline


def test_the_demo_prints_and_runs_the_commands_a_user_would_type(quick_demo: FakePipeline, tmp_path: Path):
    out = tmp_path / "demo"
    shown = nn("demo", "--out", str(out))
    assert shown.exit_code == 0
    assert [call[0] for call in quick_demo.calls] == ["plan", "train", "predict", "evaluate"]
    assert all(call[2].get("work", out / "work") == out / "work" for call in quick_demo.calls)
    typed = [line for line in shown.stdout.splitlines() if line.startswith("$ ")]
    assert typed[0] == f"$ nnlite plan {out}/phantom --device cpu --work {out}/work"
    assert [line.split()[2] for line in typed] == ["plan", "train", "predict", "evaluate"]
    for made in (*(out / "phantom" / "images").iterdir(), out / "test" / "labels" / "test_01.nii.gz"):
        assert made.is_file()
    assert f"Everything lies below {out}" in shown.stdout
    assert f"{out}/predictions" in shown.stdout


def test_the_demo_goes_on_where_it_was_interrupted(quick_demo: FakePipeline, tmp_path: Path):
    out = str(tmp_path / "demo")
    finished = quick_demo.answers["predict"]
    quick_demo.answers["predict"] = KeyboardInterrupt()
    assert nn("demo", "--out", out).exit_code == 130
    quick_demo.answers["predict"] = finished
    assert nn("demo", "--out", out).exit_code == 0
    assert [call[2]["resume"] for call in quick_demo.calls if call[0] == "train"] == [False, True]


def test_a_step_of_the_demo_that_fails_ends_it(quick_demo: FakePipeline, tmp_path: Path):
    quick_demo.answers["plan"] = DatasetError("nothing to plan")
    shown = nn("demo", "--out", str(tmp_path / "demo"))
    assert shown.exit_code == 2
    assert shown.stderr == "error: nothing to plan\n"
    assert [call[0] for call in quick_demo.calls] == ["plan"]
