"""What the numbers of a label map mean.

Files hold values of the user's choice (0 and 255, say); everything after the reading works with indices 0, 1, 2, ..,
background first, and results are written with the values of the files again.

What is learned and scored are *structures*. As a rule each label is one. Where the table holds regions, each region is
one instead: a set of labels that belong together, which may overlap others (the whole tumour, and the core in it). Not
labelled at all are the voxels of the ignore label: they count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nnlite.data.records import record
from nnlite.errors import DatasetError

PART_VOXELS = 2**20  # looked through at once
TAKEN_AWAY = 16  # values of a part that are taken away one by one, before the others are sorted
LARGEST_VALUE = 65535  # what the integer formats hold (16 bit); also keeps the look-up table small
IGNORE = "ignore"  # the name, in a table, of the value that marks voxels without a label; nnU-Net's too


@record
class Region:
    """File values that are learned as one structure, and the one that a predicted mask shows it by.

    Regions are painted in the order of the table, later ones over earlier ones.
    """

    name: str
    values: tuple[int, ...]
    painted: int


@record
class Labels:
    """Names and file values of the labels, background with value 0 first; the position is the index.

    ``ignore`` is the file value of voxels that nobody labelled; it has no name and gets the index after the last label.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values) or not self.values or self.values[0] != 0:
            raise ValueError(f"labels {self.names} with values {self.values}: one value each, background (0) first")
        if len(set(self.names)) < len(self.names) or len(set(self.values)) < len(self.values):
            raise ValueError(f"labels {self.names} with values {self.values}: a name or value occurs twice")
        if min(self.values) < 0 or max(self.values) > LARGEST_VALUE:
            raise ValueError(f"label values {self.values}: allowed are 0 to {LARGEST_VALUE}")
        if self.ignore is not None and (self.ignore in self.values or not 0 <= self.ignore <= LARGEST_VALUE):
            raise ValueError(f"ignore has the value {self.ignore}: allowed is one from 1 to {LARGEST_VALUE} of its own")
        if len({region.name for region in self.regions}) < len(self.regions):
            raise ValueError(f"the name of a region occurs twice: {', '.join(region.name for region in self.regions)}")
        for region in self.regions:
            if not region.values or not {*region.values, region.painted} <= {*self.values} - {0}:
                raise ValueError(
                    f"region {region.name} of {region.values}, painted {region.painted}: these are no foreground labels"
                )

    @property
    def count(self) -> int:
        """Number of labels, background included."""
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names of the labels without the background's."""
        return self.names[1:]

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of what is learned and scored: the regions where there are any, else the foreground labels."""
        return tuple(region.name for region in self.regions) or self.foreground

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """For each structure the label indices that it consists of.

        >>> Labels.from_table({"tumour": [1, 2], "core": 2}).members
        ((1, 2), (2,))
        """
        if not self.regions:
            return tuple((index,) for index in range(1, self.count))
        return tuple(tuple(sorted(map(self.values.index, region.values))) for region in self.regions)

    @property
    def painted(self) -> tuple[int, ...]:
        """For each region the label index that its voxels get in a mask; empty where labels exclude each other."""
        return tuple(self.values.index(region.painted) for region in self.regions)

    @property
    def outputs(self) -> int:
        """Number of channels that a network answers with: one per region, or one per label with the background."""
        return len(self.regions) or self.count

    @property
    def ignore_index(self) -> int | None:
        """Index of voxels that count nowhere, None where there are none."""
        return None if self.ignore is None else self.count

    @property
    def index_count(self) -> int:
        """Number of indices that a label map may hold, that of ignored voxels included."""
        return self.count + (self.ignore is not None)

    def unknown(self, values: Iterable[int]) -> tuple[int, ...]:
        """Those of ``values`` that are not in the table, sorted."""
        return tuple(sorted(set(values) - set(self._values_by_index)))

    def to_indices(self, array: np.ndarray) -> np.ndarray:
        """File values of any shape as indices (uint8, or int16 beyond 256 indices); unknown values are an error.

        >>> Labels(names=("background", "membrane"), values=(0, 255)).to_indices(np.array([0, 255, 255]))
        array([0, 1, 1], dtype=uint8)
        """
        known = self._values_by_index
        narrow = np.uint8 if len(known) <= 256 else np.int16
        if known == tuple(range(len(known))) and array.size and array.min() >= 0 and array.max() < len(known):
            return array.astype(narrow)  # the values are the indices: no need to look each up
        if unknown := self.unknown(values_in(array)):
            raise DatasetError(f"label {_values_in_words(unknown)} not in the label table ({self.in_words()})")
        table = np.zeros(max(known) + 1, dtype=narrow)
        table[list(known)] = np.arange(len(known))
        return table[array]

    def to_values(self, indices: np.ndarray) -> np.ndarray:
        """Indices of any shape as file values, in the smallest unsigned type."""
        known = self._values_by_index
        return np.array(known, dtype=np.min_scalar_type(max(known)))[indices]

    def in_words(self) -> str:
        """The table as it is shown in messages.

        >>> Labels(names=("background", "tumour"), values=(0, 1), ignore=9).in_words()
        '0 background, 1 tumour, 9 ignored'
        >>> Labels.from_table({"tumour": [1, 2], "core": 2}).in_words()
        '0 background, 1 label 1, 2 core; regions tumour (1, 2), core (2)'
        """
        parts = [f"{value} {name}" for name, value in zip(self.names, self.values, strict=True)]
        parts += [] if self.ignore is None else [f"{self.ignore} ignored"]
        regions = ", ".join(f"{region.name} ({', '.join(map(str, region.values))})" for region in self.regions)
        return ", ".join(parts) + (f"; regions {regions}" if regions else "")

    @property
    def _values_by_index(self) -> tuple[int, ...]:
        return self.values if self.ignore is None else (*self.values, self.ignore)

    @classmethod
    def from_table(cls, table: Mapping[str, Any], paint: Sequence[int] = ()) -> Labels:
        """Labels from metadata, as name to value (nnU-Net v2) or value to name (Decathlon); 0 may be left out.

        A name with a list of values is a region; then all other names are regions too. ``paint`` gives, region by
        region, the value that it is painted with (nnU-Net's ``regions_class_order``); without it, that is the lowest
        of its values that no later region has. The name "ignore" marks the value of voxels that nobody labelled.

        >>> Labels.from_table({"1": "tumour"}) == Labels.from_table({"background": 0, "tumour": 1})
        True
        """
        entries = [_name_and_values(str(key), entry) for key, entry in table.items()]
        ignored = [values for name, values in entries if name.lower() == IGNORE]
        if any(len(values) > 1 for values in ignored):
            raise DatasetError("labels: ignore has several values; give those voxels one value of their own")
        entries = [(name, values) for name, values in entries if name.lower() != IGNORE]
        regions: tuple[Region, ...] = ()
        if any(len(values) > 1 for _, values in entries):
            regions = _regions([(name, values) for name, values in entries if values != (0,)], paint)
            entries = _single_labels(entries)
        by_value: dict[int, str] = {}
        for name, (value,) in entries:
            if value in by_value:
                raise DatasetError(
                    f"labels: {by_value[value]!r} and {name!r} have the same value {value}; give each its own"
                )
            by_value[value] = name
        by_value.setdefault(0, "background")
        values = tuple(sorted(by_value))
        names = tuple(by_value[value] for value in values)
        try:
            return cls(names=names, values=values, regions=regions, ignore=ignored[0][0] if ignored else None)
        except ValueError as error:
            raise DatasetError(str(error)) from error


def values_in(array: np.ndarray) -> tuple[int, ...]:
    """The distinct values of an integer array, sorted; part by part, so that no large copy is made.

    Label maps hold few values: to take away one after the other is faster than to sort or count.

    >>> values_in(np.array([[0, 255], [0, 7]]))
    (0, 7, 255)
    """
    found: set[int] = set()
    for part in np.split(flat := array.reshape(-1), range(PART_VOXELS, flat.size, PART_VOXELS)):
        for _ in range(TAKEN_AWAY):
            if not part.size:
                break
            found.add(int(part[0]))
            part = part[part != part[0]]
        found.update(np.unique(part).tolist())
    return tuple(sorted(found))


def _regions(entries: Sequence[tuple[str, tuple[int, ...]]], paint: Sequence[int]) -> tuple[Region, ...]:
    """Regions in the order of the table, each with the value it is painted with."""
    if paint and len(paint) != len(entries):
        raise DatasetError(
            f"labels: {len(entries)} regions ({', '.join(name for name, _ in entries)}), but regions_class_order has "
            f"{len(paint)} values; give one for each region, in their order"
        )
    regions = []
    for number, (name, values) in enumerate(entries):
        if paint:
            painted = int(paint[number])
        else:
            later = {value for _, others in entries[number + 1 :] for value in others}
            own = [value for value in values if value not in later]
            if not own:
                raise DatasetError(
                    f"labels: each value of region {name!r} is in a later region too, so nnlite cannot tell which "
                    'value shows it in a mask; list the larger regions first, or add "regions_class_order" with one '
                    f"value per region ({', '.join(name for name, _ in entries)})"
                )
            painted = min(own)
        regions.append(Region(name=name, values=values, painted=painted))
    return tuple(regions)


def _single_labels(entries: Sequence[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    """The labels that regions consist of: named as the region where it is of one value alone, else by their value."""
    named: dict[int, str] = {}
    for name, values in entries:
        if len(values) == 1:
            named.setdefault(values[0], name)
    present = sorted({value for _, values in entries for value in values})
    return [(named.get(value, f"label {value}"), (value,)) for value in present]


def _name_and_values(key: str, entry: Any) -> tuple[str, tuple[int, ...]]:
    """What an entry of a table names, and its value or, for a region, its values."""
    if isinstance(entry, list | tuple) and entry and all(map(_is_integer, entry)) and len(set(entry)) == len(entry):
        return key, tuple(entry)
    if _is_integer(entry):
        return key, (entry,)
    if isinstance(entry, str) and _is_number(key):
        return entry, (int(key),)
    if isinstance(entry, str) and _is_number(entry):
        return key, (int(entry),)
    raise DatasetError(
        f'labels: {key!r}: {entry!r} is not understood; write for example {{"background": 0, "tumour": 1}}, or '
        '{"whole tumour": [1, 2], "core": 2} for regions'
    )


def _is_integer(entry: Any) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool)


def _is_number(text: str) -> bool:
    return text.strip().isdecimal()


def _values_in_words(values: tuple[int, ...]) -> str:
    return f"value {values[0]} is" if len(values) == 1 else f"values {', '.join(map(str, values))} are"
