"""What a table of labels in a file says: names and values, and the regions that several values make up.

Names point to values (nnU-Net v2) or values to names (Medical Segmentation Decathlon); ``labels.py`` makes ``Labels``
of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnlite.data.records import record
from nnlite.errors import DatasetError


@record
class Region:
    """File values that are learned as one structure, and the one that a predicted mask shows it by.

    Regions are painted in the order of the table, later ones over earlier ones.
    """

    name: str
    values: tuple[int, ...]
    painted: int


def regions_of(entries: Sequence[tuple[str, tuple[int, ...]]], paint: Sequence[int]) -> tuple[Region, ...]:
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


def single_labels(entries: Sequence[tuple[str, tuple[int, ...]]]) -> list[tuple[str, tuple[int, ...]]]:
    """The labels that regions consist of: named as the region where it is of one value alone, else by their value."""
    named: dict[int, str] = {}
    for name, values in entries:
        if len(values) == 1:
            named.setdefault(values[0], name)
    present = sorted({value for _, values in entries for value in values})
    return [(named.get(value, f"label {value}"), (value,)) for value in present]


def name_and_values(key: str, entry: Any) -> tuple[str, tuple[int, ...]]:
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
