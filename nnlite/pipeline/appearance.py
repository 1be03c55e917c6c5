"""What the training images look like, on disk: written by ``plan``, read when new images are predicted."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from nnlite.data.channels import read_channels
from nnlite.data.dataset import Case, Dataset
from nnlite.data.progress import Progress, silent
from nnlite.data.records import read_record, write_record
from nnlite.pipeline.machine import workers_for_files
from nnlite.planning.appearance import Appearance, Look, look, merge_looks
from nnlite.workspace import Workspace


def write_appearance(workspace: Workspace, looks: Iterable[Look]) -> None:
    """Keep what all images of a dataset look like."""
    write_record(workspace.appearance, merge_looks(looks))


def read_appearance(workspace: Workspace) -> Appearance | None:
    """What the training images look like; None in a workspace that holds nothing of it."""
    return read_record(workspace.appearance, Appearance) if workspace.appearance.exists() else None


def require_appearance(dataset: Dataset, workspace: Workspace, *, progress: Progress = silent) -> None:
    """Look at all images of a dataset that was planned by an earlier nnlite, which did not."""
    if workspace.appearance.exists():
        return
    cases = [case for case in dataset.cases if case.label is not None]

    def look_at(case: Case) -> Look:
        return look(case.id, read_channels(case.images, reference=dataset.reference))

    looks = []
    with ThreadPoolExecutor(workers_for_files(case.images for case in cases)) as pool:
        for done, one in enumerate(pool.map(look_at, cases), start=1):
            looks.append(one)
            progress("look at the training images", done, len(cases))
    write_appearance(workspace, looks)
