"""Channels that are made of a CT: parts of its Hounsfield units as radiologists look at them, or where they lie.

A network whose CT is clipped to the percentiles of the foreground cannot see lung and bone if it segments the liver. A
window shows a part of the scale at full contrast, a mask the voxels whose value lies in a range. Both are made of the
Hounsfield units as they are in the file, in training and in prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nnlite.data.records import record
from nnlite.errors import PlanError, UsageError

Kind = Literal["window", "mask"]

# width and centre in HU as in "Windowing (CT)", Radiopaedia.org: from centre - width / 2 to centre + width / 2
WINDOWS = {
    "lung": (1500.0, -600.0),
    "mediastinum": (350.0, 50.0),
    "soft-tissue": (400.0, 50.0),
    "liver": (150.0, 30.0),
    "vessels": (600.0, 200.0),
    "bone": (1800.0, 400.0),
    "brain": (80.0, 40.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HuRange:
    """What is asked for: a window or a mask between two values; a mask may be open at one end (None)."""

    kind: Kind
    name: str
    low_hu: float | None
    high_hu: float | None


@record
class HuChannel:
    """A channel called ``name``, made of the CT channel ``source``: ``kind`` tells how.

    A window is -1 at ``low_hu`` and below, 1 at ``high_hu`` and above. A mask is 1 from ``low_hu`` to ``high_hu``, 0
    elsewhere; None is no limit. ``source_number`` tells which of several channels called alike it is made of, from 1.
    """

    source: str
    name: str
    kind: Kind
    low_hu: float | None
    high_hu: float | None
    source_number: int | None = None

    def __post_init__(self) -> None:
        fault = range_fault(self.kind, self.low_hu, self.high_hu)
        if fault:
            raise PlanError(f"plan: hu_channels: {self.name}: {fault}")

    @property
    def limits_hu(self) -> tuple[float, float]:
        """From where to where; infinite where there is no limit."""
        low = -math.inf if self.low_hu is None else self.low_hu
        return low, math.inf if self.high_hu is None else self.high_hu

    @property
    def scan(self) -> str:
        """The channel it is made of, in words."""
        return _numbered(self.source, self.source_number)

    def scan_among(self, channels: Sequence[str]) -> int:
        """The place among the ``channels`` of the one it is made of; PlanError if it is none of them.

        >>> late = HuChannel(source="CT", name="CT 2 bone", kind="mask", low_hu=200.0, high_hu=None, source_number=2)
        >>> late.scan_among(["CT", "PET", "CT"])
        2
        """
        places = [place for place, name in enumerate(channels) if name == self.source]
        number = 1 if self.source_number is None else self.source_number
        if not 1 <= number <= len(places):
            there = ", ".join(channels)
            raise PlanError(f"plan: hu_channels: {self.name} is made of {self.scan}; there are {there}")
        return places[number - 1]

    def in_words(self) -> str:
        """What the channel holds.

        >>> HuChannel(source="CT", name="bone", kind="mask", low_hu=200.0, high_hu=None).in_words()
        'bone (mask of CT from 200 HU)'
        """
        low = "" if self.low_hu is None else f" from {self.low_hu:g}"
        high = "" if self.high_hu is None else f" to {self.high_hu:g}"
        return f"{self.name} ({self.kind} of {self.scan}{low}{high} HU)"


def parse_windows(text: str) -> tuple[HuRange, ...]:
    """Windows as they are typed, by name or as LOW:HIGH in HU; UsageError says how to write them.

    >>> [(one.name, one.low_hu, one.high_hu) for one in parse_windows("lung,-160:240")]
    [('lung', -1350.0, 150.0), ('-160:240', -160.0, 240.0)]
    """
    found = []
    for word in _words(text, "--hu-windows"):
        if word in WINDOWS:
            width, centre = WINDOWS[word]
            found.append(HuRange(kind="window", name=word, low_hu=centre - width / 2, high_hu=centre + width / 2))
        else:
            found.append(_parsed(word, "window", f"one of {', '.join(WINDOWS)}, or LOW:HIGH in HU, as -160:240"))
    return tuple(found)


def parse_masks(text: str) -> tuple[HuRange, ...]:
    """Masks as they are typed, LOW:HIGH in HU, of which one may be left out.

    >>> [(one.low_hu, one.high_hu) for one in parse_masks("200:,-1000:-300")]
    [(200.0, None), (-1000.0, -300.0)]
    """
    return tuple(_parsed(word, "mask", "LOW:HIGH in HU, as 200: or -1000:-300") for word in _words(text, "--hu-masks"))


def _words(text: str, option: str) -> list[str]:
    if not text:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(f'{option} "{text}" leaves a place between commas empty')
    if len(set(words)) != len(words):
        raise UsageError(f'{option} "{text}" names one twice')
    return words


def _parsed(word: str, kind: Kind, form: str) -> HuRange:
    low, colon, high = word.partition(":")
    try:
        limits = (float(low) if low else None, float(high) if high else None)
    except ValueError:
        limits, colon = (None, None), ""
    fault = range_fault(kind, *limits) if colon else "is no range"
    if fault:
        raise UsageError(f'the {kind} "{word}": {fault}; write {form}')
    return HuRange(kind=kind, name=word, low_hu=limits[0], high_hu=limits[1])


def range_fault(kind: Kind, low_hu: float | None, high_hu: float | None) -> str | None:
    """What is wrong with a range, None for nothing."""
    given = [value for value in (low_hu, high_hu) if value is not None]
    if not all(map(math.isfinite, given)):
        return "its limits must be finite numbers"
    if kind == "window" and len(given) < 2:
        return "a window has two limits"
    if not given:
        return "a mask has at least one limit"
    if len(given) == 2 and given[0] >= given[1]:
        return f"{given[0]:g} is not below {given[1]:g} HU"
    return None


def hu_channels(
    ranges: Iterable[HuRange], ct_channels: Sequence[str], channels: Sequence[str]
) -> tuple[HuChannel, ...]:
    """The channels that these ranges make of each of the ``ct_channels``; PlanError where there is none of them.

    >>> [one.name for one in hu_channels(parse_windows("lung"), ["CT", "CT"], ["CT", "CT"])]
    ['CT 1 lung', 'CT 2 lung']
    """
    wanted = tuple(ranges)
    if wanted and not ct_channels:
        raise PlanError(
            f"HU windows and masks are made of CT, and none of the channels ({', '.join(channels)}) is; leave "
            '--hu-windows and --hu-masks out, or give each that is CT the name CT, and no other, under "channels" in '
            'nnlite.json (two scans: "channels": ["CT", "CT"])'
        )
    alone = len(ct_channels) == 1
    return tuple(
        HuChannel(
            source=channel,
            name=one.name if alone else f"{_numbered(channel, number)} {one.name}",
            kind=one.kind,
            low_hu=one.low_hu,
            high_hu=one.high_hu,
            source_number=number,
        )
        for channel, number in zip(ct_channels, _numbers(ct_channels), strict=True)
        for one in wanted
    )


def _numbers(names: Sequence[str]) -> list[int | None]:
    """How often each name has come up to its place; None where it comes once.

    >>> _numbers(["CT", "ct", "CT"])
    [1, None, 2]
    """
    return [names[: place + 1].count(name) if names.count(name) > 1 else None for place, name in enumerate(names)]


def _numbered(name: str, number: int | None) -> str:
    return name if number is None else f"{name} {number}"


def as_typed(made: Sequence[HuChannel], kind: Kind) -> str:
    """The text that ``parse_windows`` or ``parse_masks`` read these channels' ranges from; empty without any.

    >>> as_typed(hu_channels(parse_windows("lung,-160:240"), ["CT", "CT"], ["CT", "CT"]), "window")
    'lung,-160:240'
    """
    scans = list(dict.fromkeys(one.scan for one in made))
    before = f"{scans[0]} " if len(scans) > 1 else ""  # several CT channels tell by their names whose they are
    return ",".join(one.name.removeprefix(before) for one in made if one.kind == kind and one.scan == scans[0])
