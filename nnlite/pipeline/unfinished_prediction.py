"""An interrupted prediction goes on case by case: which masks in its folder are done, and of which job and image.

The note lies hidden beside the masks while a prediction is under way and goes with its last one. A job is its models,
with their weights, and its options: another job begins anew, and so does an image that was changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnlite.data.dataset import Case
from nnlite.data.digest import DIGEST_LETTERS
from nnlite.data.records import read_record, record, write_record
from nnlite.inference.predict import Model
from nnlite.pipeline.case_record import record_path


@record
class DoneCase:
    """A case that is predicted: the state of its image files, and the names and sizes of what was written."""

    image: str
    files: dict[str, int]


@record
class DoneCases:
    """The cases of one job that are predicted, by case id."""

    cases: dict[str, DoneCase]


class UnfinishedPrediction:
    """What one job has done in a folder so far."""

    def __init__(self, output: Path, job: str):
        self.output, self.path = output, output / f".unfinished-{job}.json"
        self._done = dict(read_record(self.path, DoneCases).cases) if self.path.exists() else {}

    def mask_of(self, case: Case) -> Path | None:
        """The mask of a case that an earlier sitting of the job has finished, None if it is to be predicted."""
        done = self._done.get(case.id)
        if done is None or done.image != _state(case):
            return None
        sizes = {name: _size(self.output / name) for name in done.files}
        return self.output / next(iter(done.files)) if sizes == done.files else None

    def note(self, case: Case, mask: Path, others: Sequence[str]) -> None:
        """Remember that a case is finished: its ``mask``, its record, and ``others`` by the end of their names."""
        written = [mask, record_path(self.output, case.id), *(self.output / f"{case.id}{end}" for end in others)]
        files = {path.name: path.stat().st_size for path in written}
        self._done[case.id] = DoneCase(image=_state(case), files=files)
        write_record(self.path, DoneCases(cases=self._done))

    def finish(self) -> None:
        """Forget all: the prediction has come to its end, and the next one does all cases again."""
        self.path.unlink(missing_ok=True)


def job_of(models: Sequence[Model], *options: object) -> str:
    """A short text that is the same for the same models and ``options``, which are told apart by how they print."""
    content = hashlib.sha256(repr(options).encode())
    for model in models:
        _add(content, model)
    return content.hexdigest()[:DIGEST_LETTERS]


def _add(content: Any, model: Model) -> None:
    content.update(repr((model.plan, model.configuration, model.mirror_axes, model.step, model.device)).encode())
    for network in model.networks:
        for name, tensor in network.state_dict().items():
            content.update(name.encode())
            content.update(tensor.cpu().contiguous().numpy().data)
    if model.previous is not None:
        content.update(b"previous")  # else a cascade would be as two models that answer together
        _add(content, model.previous)


def _state(case: Case) -> str:
    """Changes whenever one of the image's files is written or exchanged; a folder of slices has many."""
    files = [file for path in case.images for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    states = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:DIGEST_LETTERS]


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None
