"""Under torchrun: which of its processes this is. Only the first one speaks; the others tell of errors alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnlite.cli import screen

if TYPE_CHECKING:
    from nnlite.training.ranks import Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """This process is ``number`` (from 0) of ``count``, and ``local_number`` of those on this machine."""

    number: int
    local_number: int
    count: int


def place() -> Place | None:
    """What torchrun has written into the environment; None where there is one process alone."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR")
    number, local_number, count, leader = (os.environ.get(name) for name in names)
    if number is None or local_number is None or count is None or leader is None or int(count) < 2:
        return None
    return Place(number=int(number), local_number=int(local_number), count=int(count))


@contextmanager
def together(device: str) -> Iterator[Ranks]:
    """Join the other processes within the block."""
    here = place()
    assert here is not None, "asked before"
    screen.speak_as(f"process {here.number} of {here.count}", errors_only=here.number > 0)
    if here.number > 0:
        logging.getLogger("nnlite").setLevel(logging.ERROR)
    from nnlite import pipeline

    with pipeline.processes(here.number, here.count, local_number=here.local_number, device=device) as ranks:
        yield ranks
