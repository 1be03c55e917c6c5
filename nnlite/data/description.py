"""What a user may say about a dataset in a short ``nnlite.json``: read and checked word for word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from nnlite.data.instances import COMPONENTS, NUMBERED
from nnlite.data.layouts import ILLEGAL_IN_ID, read_json
from nnlite.errors import DatasetError

DESCRIPTION_FILE = "nnlite.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a user may say about a dataset in ``nnlite.json``; every part is optional."""

    name: str | None = None
    labels: Mapping[str, Any] | None = None
    regions_class_order: tuple[int, ...] = ()
    mirrored: tuple[tuple[str | int, ...], ...] | None = None
    channels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    annotated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reference_channel: str | None = None
    instances: str | None = None


def read_description(file: Path) -> Description:
    """Read an ``nnlite.json``; unknown keys and values of the wrong kind are a ``DatasetError``."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise DatasetError(f'{file}: write one JSON object, for example {{"labels": {{"background": 0, "tumour": 1}}}}')
    expected = {
        "name": ("a name that can be a folder's", lambda v: isinstance(v, str) and not ILLEGAL_IN_ID.search(v)),
        "labels": ('an object like {"background": 0, "tumour": 1}', lambda v: isinstance(v, dict) and len(v) > 0),
        "regions_class_order": ("a list of label values like [1, 2]", _is_integers),
        "mirrored": ('a list of pairs like [["left lung", "right lung"]], or [] for none', _is_pairs),
        "channels": ('a list of names like ["CT"]', _is_texts),
        "exclude": ("a list of case ids", _is_texts),
        "groups": ('an object like {"case_1": "patient A", "case_2": "patient A"}', _is_text_by_text),
        "sites": ('an object like {"case_1": "Rome", "case_2": "Oslo"}', _is_text_by_text),
        "annotated": ('an object like {"case_1": ["liver"], "case_2": ["liver", "spleen"]}', is_texts_by_text),
        "instances": ('"components" or "numbered"', lambda v: v in (COMPONENTS, NUMBERED)),
        "reference_channel": ('the name of a channel like "CT"', lambda v: isinstance(v, str) and len(v) > 0),
    }
    for key, value in content.items():
        if key not in expected:
            raise DatasetError(f"{file}: unknown key {key!r}; the keys are {', '.join(expected)}")
        meaning, fits = expected[key]
        if not fits(value):
            raise DatasetError(f"{file}: {key!r} should be {meaning}")
    return Description(
        name=content.get("name"),
        labels=content.get("labels"),
        regions_class_order=tuple(content.get("regions_class_order", ())),
        mirrored=tuple(map(tuple, content["mirrored"])) if "mirrored" in content else None,
        channels=tuple(content.get("channels", ())),
        exclude=tuple(content.get("exclude", ())),
        groups=content.get("groups", {}),
        sites=content.get("sites", {}),
        annotated={case: tuple(names) for case, names in content.get("annotated", {}).items()},
        reference_channel=content.get("reference_channel"),
        instances=content.get("instances"),
    )


def _is_integers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list)
        and len(pair) == 2
        and all(isinstance(name, str | int) and not isinstance(name, bool) for name in pair)
        for pair in value
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_by_text(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) and item for item in value.values())


def is_texts_by_text(value: object) -> TypeGuard[dict[str, list[str]]]:
    """Whether a value is what "annotated" should be: lists of names by case id."""
    return isinstance(value, dict) and all(_is_texts(item) for item in value.values())
