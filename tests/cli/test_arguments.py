from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import FakePipeline, nn

from nnlite.cli.arguments import ARCHITECTURES, parse_duration
from nnlite.errors import UsageError


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5m", 90), ("1h30m", 5400)])
def test_durations_are_read_with_their_units(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "15", "m", "15 m", "0s", "-5m", "ten minutes", "5m!"])
def test_what_is_no_duration_is_refused_with_examples(text: str):
    with pytest.raises(UsageError, match="write for example 90s, 15m"):
        parse_duration(text)


def test_the_workspace_comes_from_the_option_then_the_variable_then_the_default(pipeline: FakePipeline):
    pipeline.answers["preprocess"] = lambda dataset, names, *, work, cluster, progress: {"3d": work / "brain/cases/3d"}
    variable = {"NNLITE_WORK": "from_variable"}
    assert "from_option/brain" in nn("preprocess", "brain", "--work", "from_option", env=variable).stdout
    assert "from_variable/brain" in nn("preprocess", "brain", "3d", env=variable).stdout
    assert "nnlite_work/brain" in nn("preprocess", "brain").stdout
    assert [list(call[1][1]) for call in pipeline.calls] == [[], ["3d"], []]


def test_verbose_shows_what_nnlite_logs_and_not_what_its_libraries_log(
    pipeline: FakePipeline, caplog: pytest.LogCaptureFixture
):
    def preprocess(*arguments: Any, **options: Any) -> dict[str, Path]:
        logging.getLogger("nnlite.preprocessing.store").info("case a is new")
        logging.getLogger("matplotlib.font_manager").info("hundreds of fonts")
        return {}

    pipeline.answers["preprocess"] = preprocess
    logger = logging.getLogger("nnlite")
    level = logger.level
    try:
        nn("preprocess", "d")
        assert caplog.messages == []
        nn("preprocess", "d", "--verbose")
        assert caplog.messages == ["case a is new"]
    finally:
        logger.setLevel(level)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "d", "4d", "fold0"], 'error: there is no configuration "4d"; CONFIG is one of 2d, 3d, 3d-lowres, '),
        (["preprocess", "d", "2d", "x"], 'error: there is no configuration "x"; CONFIG is one of 2d, 3d, 3d-lowres, '),
        (
            ["train", "d", "3d", "foldx"],
            'error: there is no fold "foldx"; FOLD is one of fold0, fold1, fold2, .. or all',
        ),
        (
            ["predict", "d", "i", "-o", "o", "--folds", "folds"],
            'error: there is no fold "folds"; FOLD is one of fold0, ',
        ),
        (
            ["plan", "--fingerprint", "f", "--splits", "s"],
            "error: --splits belongs to a DATASET; a fingerprint has no ",
        ),
        (["predict", "d", "i", "-o", "o", "--folds", "fold0,1"], 'error: there is no fold "1"; FOLD is one of fold0, '),
        (["train", "d", "3d", "fold0", "--time-budget", "9"], 'error: "9" is not a duration; write for example 90s'),
        (
            ["train", "d", "3d", "all", "--time-budget", "9s", "--epochs", "9"],
            "error: --epochs and --time-budget both ",
        ),
        (["plan", "d", "--preset", "best"], 'error: there is no preset "best"; --preset is one of nnlite, nnunet'),
        (
            ["plan", "d", "--architecture", "wnet"],
            f'error: there is no architecture "wnet"; --architecture is one of {", ".join(ARCHITECTURES)}',
        ),
        (["plan", "d", "--residual", "S"], 'error: there is no residual encoder "S"; --residual is one of M, L, XL'),
        (["plan"], "error: plan a DATASET, or a finished fingerprint with --fingerprint FILE: one of the two"),
        (["plan", "d", "--fingerprint", "f"], "error: plan a DATASET, or a finished fingerprint with --fingerprint"),
        (["plan", "d", "--labels", "2"], "error: --labels, --channels and --name belong to --fingerprint; a DATASET "),
        (["plan", "--fingerprint", "f", "--labels", "2"], "error: --fingerprint needs --labels N (background include"),
        (["plan", "d", "--device", "tpu"], 'error: there is no device "tpu"; --device is one of auto, cpu, cuda'),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_the_valid_ones(
    pipeline: FakePipeline, arguments: list[str], message: str
):
    shown = nn(*arguments)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert shown.stderr.startswith(message)
    assert shown.stderr.count("\n") == 1
    assert pipeline.calls == []
