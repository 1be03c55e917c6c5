"""The tree of errors is what its module says it is."""

from __future__ import annotations

import inspect
import re

import pytest

from nnlite import errors

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", CLASSES)
def test_whoever_catches_the_base_catches_every_error(kind: type[Exception]) -> None:
    with pytest.raises(errors.NnliteError, match="the way out"):
        raise kind("the way out")


def test_the_tree_at_the_top_of_the_module_names_every_error_once() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"\b\w+Error\b(?= )", errors.__doc__)
    assert sorted(drawn) == sorted(kind.__name__ for kind in CLASSES)
