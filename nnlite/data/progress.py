"""How a stage tells its caller how far it is: a plain callback, so that stages know nothing of terminals."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` each time a unit of work is finished."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing: the default wherever a stage takes a ``progress`` callback."""
