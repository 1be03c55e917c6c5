"""What the numbers of a label map mean.

Files hold values of the user's choice (0 and 255, say); everything after the reading works with indices 0, 1, 2, ..,
background first, and results are written with the values of the files again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nnlite.data.records import record
from nnlite.errors import DatasetError

PART_VOXELS = 2**20  # looked through at once
TAKEN_AWAY = 16  # values of a part that are taken away one by one, before the others are sorted
LARGEST_VALUE = 65535  # what the integer formats hold (16 bit); also keeps the look-up table small


@record
class Labels:
    """Names and file values of the labels, background with value 0 first; the position is the index networks see."""

    names: tuple[str, ...]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.values) or not self.values or self.values[0] != 0:
            raise ValueError(f"labels {self.names} with values {self.values}: one value each, background (0) first")
        if len(set(self.names)) < len(self.names) or len(set(self.values)) < len(self.values):
            raise ValueError(f"labels {self.names} with values {self.values}: a name or value occurs twice")
        if min(self.values) < 0 or max(self.values) > LARGEST_VALUE:
            raise ValueError(f"label values {self.values}: allowed are 0 to {LARGEST_VALUE}")

    @property
    def count(self) -> int:
        """Number of labels, background included."""
        return len(self.names)

    @property
    def foreground(self) -> tuple[str, ...]:
        """Names without the background's."""
        return self.names[1:]

    def unknown(self, values: Iterable[int]) -> tuple[int, ...]:
        """Those of ``values`` that are not in the table, sorted."""
        return tuple(sorted(set(values) - set(self.values)))

    def to_indices(self, array: np.ndarray) -> np.ndarray:
        """File values of any shape as indices (uint8, or int16 beyond 256 labels); unknown values are an error.

        >>> Labels(names=("background", "membrane"), values=(0, 255)).to_indices(np.array([0, 255, 255]))
        array([0, 1, 1], dtype=uint8)
        """
        narrow = np.uint8 if self.count <= 256 else np.int16
        if self.values == tuple(range(self.count)) and array.size and array.min() >= 0 and array.max() < self.count:
            return array.astype(narrow)  # the values are the indices: no need to look each up
        if unknown := self.unknown(values_in(array)):
            raise DatasetError(f"label {_values_in_words(unknown)} not in the label table ({self.in_words()})")
        table = np.zeros(max(self.values) + 1, dtype=narrow)
        table[list(self.values)] = np.arange(self.count)
        return table[array]

    def to_values(self, indices: np.ndarray) -> np.ndarray:
        """Indices of any shape as file values, in the smallest unsigned type."""
        return np.array(self.values, dtype=np.min_scalar_type(max(self.values)))[indices]

    def in_words(self) -> str:
        """The table as it is shown in messages.

        >>> Labels(names=("background", "tumour"), values=(0, 1)).in_words()
        '0 background, 1 tumour'
        """
        return ", ".join(f"{value} {name}" for name, value in zip(self.names, self.values, strict=True))

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Labels:
        """Labels from metadata, as name to value (nnU-Net v2) or value to name (Decathlon); 0 may be left out.

        >>> Labels.from_table({"1": "tumour"}) == Labels.from_table({"background": 0, "tumour": 1})
        True
        """
        by_value: dict[int, str] = {}
        for key, entry in table.items():
            name, value = _name_and_value(str(key), entry)
            if value in by_value:
                raise DatasetError(
                    f"labels: {by_value[value]!r} and {name!r} have the same value {value}; give each its own"
                )
            by_value[value] = name
        by_value.setdefault(0, "background")
        values = tuple(sorted(by_value))
        try:
            return cls(names=tuple(by_value[value] for value in values), values=values)
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


def _name_and_value(key: str, entry: Any) -> tuple[str, int]:
    if isinstance(entry, list | tuple):
        raise DatasetError(
            f"labels: {key!r} is a region of several labels {entry}; this version knows single labels only"
        )
    if isinstance(entry, int) and not isinstance(entry, bool):
        name, value = key, entry
    elif isinstance(entry, str) and _is_number(key):
        name, value = entry, int(key)
    elif isinstance(entry, str) and _is_number(entry):
        name, value = key, int(entry)
    else:
        raise DatasetError(
            f'labels: {key!r}: {entry!r} is not understood; write for example {{"background": 0, "tumour": 1}}'
        )
    if name.lower() == "ignore":
        raise DatasetError("labels: an ignore label is not supported by this version; give its voxels to another label")
    return name, value


def _is_number(text: str) -> bool:
    return text.strip().isdecimal()


def _values_in_words(values: tuple[int, ...]) -> str:
    return f"value {values[0]} is" if len(values) == 1 else f"values {', '.join(map(str, values))} are"
