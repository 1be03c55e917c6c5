"""What cases, channels and labels of a dataset are called in BIDS, whose names hold letters and digits alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnlite.data.bids import DERIVATIVES, NO_IMAGES
from nnlite.data.dataset import Dataset
from nnlite.data.layouts import Case

CASE = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?(_run-[0-9]+)?")
KIND = re.compile(r"(acq-[A-Za-z0-9]+_)?[A-Za-z0-9]+")
BIDS_VERSION = "1.9.0"
FOLDERS = {"ct": "ct", "pet": "pet"}  # of kinds of images that are no MR
LISTED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BidsNames:
    """New ids of the cases by their old ones, and of the channels in order; ``notes`` tell which have changed."""

    ids: Mapping[str, str]
    channels: tuple[str, ...]
    notes: tuple[str, ...]
    derivative: str = f"{DERIVATIVES}/nnlite"

    def subject(self, case: Case) -> str:
        """The subject that a case is of."""
        return self.ids[case.id].split("_")[0]

    def image(self, case: Case, channel: str) -> Path:
        """Where a channel of a case lies, below the dataset's folder."""
        kind = channel.split("_")[-1].lower()
        return self._home(case) / FOLDERS.get(kind, "anat") / f"{self.ids[case.id]}_{channel}.nii.gz"

    def label(self, case: Case) -> Path:
        """Where the label map of a case lies."""
        return Path(self.derivative) / self._home(case) / "anat" / f"{self.ids[case.id]}_dseg.nii.gz"

    def descriptions(self, name: str) -> dict[str, str]:
        """The two dataset_description.json that BIDS demands, by their path."""
        raw = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw"}
        drawn = {**raw, "DatasetType": "derivative", "GeneratedBy": [{"Name": "nnlite"}]}
        return {
            "dataset_description.json": json.dumps(raw, indent=2) + "\n",
            f"{self.derivative}/dataset_description.json": json.dumps(drawn, indent=2) + "\n",
        }

    def _home(self, case: Case) -> Path:
        subject, *session = self.ids[case.id].split("_run-")[0].split("_")
        return Path(subject, *session)


def bids_names(dataset: Dataset) -> BidsNames:
    """Names for the cases and channels of a dataset; those that fit stay.

    Cases of a group become sessions of one subject.
    """
    size = Counter(dataset.groups.values())
    ids: dict[str, str] = {}
    for case in dataset.cases:
        if CASE.fullmatch(case.id):
            name = case.id
        elif case.group is not None and size[case.group] > 1:
            name = f"sub-{_plain(case.group.removeprefix('sub-'))}_ses-{_plain(case.id)}"
        else:
            name = f"sub-{_plain(case.id)}"
        ids[case.id] = _unused(name, list(ids.values()))
    channels: list[str] = []
    for channel in dataset.channels:
        channels.append(_unused(_kind(channel), channels))
    notes = [
        *_changed("cases", list(ids.items())),
        *_changed("channels", list(zip(dataset.channels, channels, strict=True))),
    ]
    return BidsNames(ids=ids, channels=tuple(channels), notes=tuple(notes))


def _kind(channel: str) -> str:
    """A channel as a kind of image; in capitals where BIDS means something else by the word.

    >>> _kind("acq-ce_T1w"), _kind("T1 (Gd)"), _kind("dwi")
    ('acq-ce_T1w', 'T1Gd', 'DWI')
    """
    name = channel if KIND.fullmatch(channel) else _plain(channel)
    *more, suffix = name.split("_")
    return "_".join([*more, suffix.upper() if suffix in NO_IMAGES else suffix])


def _plain(name: str) -> str:
    """A name without anything but letters and digits.

    >>> _plain("hippocampus_001"), _plain("T1 (Gd)")
    ('hippocampus001', 'T1Gd')
    """
    return re.sub(r"[^A-Za-z0-9]", "", name) or "x"


def _unused(name: str, used: Sequence[str]) -> str:
    """The name, with a number behind it where it is used already."""
    number, tried = 1, name
    while tried in used:
        number += 1
        tried = f"{name}x{number}"
    return tried


def _changed(what: str, names: Sequence[tuple[str, str]]) -> list[str]:
    """In words, which names had to change."""
    changed = [f"{old} to {new}" for old, new in names if old != new]
    if not changed:
        return []
    more = ", .." if len(changed) > LISTED else ""
    return [f"{what} have new names, as BIDS demands: {', '.join(changed[:LISTED])}{more}"]
