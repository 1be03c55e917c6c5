from __future__ import annotations

import errno

import pytest
import typer
from fake_pipeline import FakePipeline, nn
from rich.text import Text

from nnlite.cli import app

COMMANDS = typer.main.get_command(app).commands


def test_version_is_that_of_the_package():
    from importlib.metadata import version

    assert nn("--version").stdout == f"nnlite {version('nnlite')}\n"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_loses_no_words_in_brackets(name: str):
    command = COMMANDS[name]
    texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
    for text in filter(None, texts):
        assert Text.from_markup(text).plain == text.replace("\\[", "[")


def test_help_tells_defaults_that_depend_on_the_device():
    shown = " ".join(nn("train", "--help").stdout.replace("│", " ").split())
    assert "[default: 0.01 for sgd, 0.003 for adamw]" in shown


@pytest.mark.parametrize(
    "arguments", [["train", "d"], ["predict", "d", "i"], ["plan", "d", "--no-such"], ["tarin", "d"]]
)
def test_a_misspelt_command_has_status_2(pipeline: FakePipeline, arguments: list[str]):
    assert nn(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "w/a.npy"), "w/a.npy: No space left on device; repair this"),
        (PermissionError(errno.EACCES, "Permission denied", "w"), "w: Permission denied"),
        (MemoryError("Unable to allocate 9 GiB"), "not enough memory (Unable to allocate 9 GiB)"),
        (MemoryError(), "not enough memory (the system gave none)"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.\nmore"), "(CUDA out of memory.); "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    ],
)
def test_a_machine_at_its_limit_is_one_message_with_status_2(pipeline: FakePipeline, problem: Exception, words: str):
    pipeline.answers["plan"] = problem
    shown = nn("plan", "d")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: ")
    assert words in shown.stderr
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("problem", [RuntimeError("a defect"), FileNotFoundError(errno.ENOENT, "gone", "x")])
def test_a_defect_of_nnlite_keeps_its_traceback(pipeline: FakePipeline, problem: Exception):
    pipeline.answers["plan"] = problem
    with pytest.raises(type(problem)):
        nn("plan", "d")


def test_an_interrupted_training_says_how_to_go_on(pipeline: FakePipeline):
    pipeline.answers["train"] = KeyboardInterrupt()
    shown = nn("train", "my data", "3d", "fold0")
    assert shown.exit_code == 130
    assert shown.stderr.rstrip().endswith(
        "interrupted; finished work is kept. To go on: nnlite train 'my data' 3d fold0"
    )


def test_another_interrupted_command_is_simply_run_again(pipeline: FakePipeline):
    pipeline.answers["preprocess"] = KeyboardInterrupt()
    shown = nn("preprocess", "d")
    assert shown.exit_code == 130
    assert shown.stderr.rstrip().endswith("To go on: nnlite preprocess d")
