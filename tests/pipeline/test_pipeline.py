"""The package itself: recipes by name, each loaded when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

import nnlite
from nnlite import cli, pipeline


@pytest.mark.parametrize("name", pipeline.__all__)
def test_every_recipe_is_found_by_its_name(name: str):
    assert getattr(pipeline, name).__name__ == name


def test_every_command_but_the_demo_is_a_function_of_nnlite_itself():
    commands = {name.replace("-", "_") for name in typer.main.get_command(cli.app).commands}
    assert set(nnlite.__all__) == commands - {"demo"}
    assert all(getattr(nnlite, name) is getattr(pipeline, name) for name in nnlite.__all__)


def test_a_name_that_is_no_recipe_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'segment'"):
        _ = pipeline.segment


def test_importing_the_recipes_and_checking_needs_no_torch():
    code = "import sys; from nnlite import pipeline; pipeline.check; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
