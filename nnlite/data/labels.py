"""What the numbers of a label map mean.

Files hold values of the user's choice (0 and 255, say); everything after the reading works with indices 0, 1, 2, ..,
background first, and results are written with the values of the files again.

What is learned and scored are *structures*. As a rule each label is one. Where the table holds regions, each region is
one instead: a set of labels that belong together, which may overlap others (the whole tumour, and the core in it). Not
labelled at all are the voxels of the ignore label: they count nowhere. Structures that are each other's mirror image
(``sides.py``) are exchanged wherever an image is mirrored left to right. Where single objects of a label are told apart
(``instances.py``), their border may be learned as a part of the label with an index of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nnlite.data.instances import Instances, components, renumbered
from nnlite.data.label_table import Region, name_and_values, regions_of, single_labels
from nnlite.data.records import record
from nnlite.data.sides import mirror_images, one_sided, pairs_by_name
from nnlite.errors import DatasetError

PART_VOXELS = 2**20  # looked through at once
TAKEN_AWAY = 16  # values of a part that are taken away one by one, before the others are sorted
LARGEST_VALUE = 65535  # what the integer formats hold (16 bit); also keeps the look-up table small
IGNORE = "ignore"  # the name, in a table, of the value that marks voxels without a label; nnU-Net's too


@record
class Labels:
    """Names and file values of the labels, background with value 0 first; the position is the index.

    ``ignore`` is the file value of voxels that nobody labelled; it has no name and gets the index after all others.
    ``mirrored`` names pairs of structures that are each other's mirror image. ``instances`` tells how single objects of
    the one foreground label are told apart, None where they are not.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[Region, ...] = ()
    ignore: int | None = None
    mirrored: tuple[tuple[str, str], ...] = ()
    instances: Instances | None = None

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
        if self.instances is not None and (self.regions or self.count != 2):
            named = ", ".join(self.structures) or "none"
            raise ValueError(f"instances are those of one label, and there are {named}; name one foreground label")
        if (fault := self._fault_of_mirrored()) is not None:
            raise ValueError(fault)

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
        """Number of channels that a network answers with: one per region, or one per label with the background.

        The border of instances, where it is learned, comes last.
        """
        return len(self.regions) or self.count + (self.border_index is not None)

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of what a network answers, without the background: the structures, and the border of instances."""
        return self.structures if self.border_index is None else (*self.structures, f"{self.structures[0]} border")

    @property
    def border_index(self) -> int | None:
        """Index of the border of instances in what is trained on; None where it is not learned."""
        return self.count if self.instances is not None and self.instances.border_px else None

    @property
    def mirror_images(self) -> tuple[int, ...]:
        """For each index, that of ignored voxels included, the one that stands for it in a mirrored image.

        >>> Labels.from_table({"left lung": 1, "heart": 2, "right lung": 3}).mirror_images
        (0, 3, 2, 1)
        """
        images = mirror_images(self.members, self._partners, self.index_count)
        assert images is not None, "pairs are checked where labels are made"
        return images

    @property
    def mask_mirror_images(self) -> tuple[int, ...]:
        """The same for a predicted mask, where voxels have the index that their region is painted with."""
        if not self.regions:
            return self.mirror_images
        images = list(range(self.index_count))
        for one, other in self._partners.items():
            images[self.painted[one]] = self.painted[other]
        return tuple(images)

    @property
    def mirror_channels(self) -> tuple[tuple[int, int], ...]:
        """Pairs of a network's channels, see ``outputs``, that change places in a mirrored image."""
        first = 0 if self.regions else 1  # the background's comes before those of the labels
        return tuple((first + one, first + other) for one, other in self._partners.items() if one < other)

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Structures whose name says left or right, and which have no mirror image among the others."""
        return one_sided(self.structures, self.mirrored)

    @property
    def ignore_index(self) -> int | None:
        """Index of voxels that count nowhere, None where there are none."""
        return None if self.ignore is None else self.index_count - 1

    @property
    def index_count(self) -> int:
        """Number of indices that a label map may hold, those of the border and of ignored voxels included."""
        return self.count + (self.border_index is not None) + (self.ignore is not None)

    def unknown(self, values: Iterable[int]) -> tuple[int, ...]:
        """Those of ``values`` that are not in the table, sorted; numbers of instances are."""
        unknown = sorted(set(values) - set(self._values_by_index))
        return tuple(value for value in unknown if value < 0 or not self.numbered)

    def to_indices(self, array: np.ndarray) -> np.ndarray:
        """File values of any shape as indices (uint8, or int16 beyond 256 indices); unknown values are an error.

        >>> Labels(names=("background", "membrane"), values=(0, 255)).to_indices(np.array([0, 255, 255]))
        array([0, 1, 1], dtype=uint8)
        """
        known = self._values_by_index
        narrow = np.uint8 if self.index_count <= 256 else np.int16
        if self.numbered:
            return self._numbers_to_indices(array).astype(narrow)
        if known == tuple(range(self.index_count)) and array.size and array.min() >= 0 and array.max() < len(known):
            return array.astype(narrow)  # the values are the indices: no need to look each up
        if unknown := self.unknown(values_in(array)):
            raise DatasetError(f"label {_values_in_words(unknown)} not in the label table ({self.in_words()})")
        table = np.zeros(max(known) + 1, dtype=narrow)
        table[list(known)] = np.arange(len(known))
        if self.ignore is not None:
            table[self.ignore] = self.index_count - 1
        return table[array]

    def to_values(self, indices: np.ndarray) -> np.ndarray:
        """Indices of any shape as file values, in the smallest unsigned type."""
        known = self._values_by_index
        if self.border_index is not None:
            known = (*self.values, self.values[1], *known[self.count :])
        return np.array(known, dtype=np.min_scalar_type(max(known)))[indices]

    @property
    def of_masks(self) -> Labels:
        """The labels as masks and their scores know them: how single objects come apart, and mirrors, play no part."""
        return replace(self, instances=None, mirrored=())

    def without_border(self, indices: np.ndarray) -> np.ndarray:
        """Label indices in which the border of instances is a part of its label again, as in files.

        >>> labels = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
        >>> labels.without_border(np.array([0, 1, 2], dtype=np.uint8))
        array([0, 1, 1], dtype=uint8)
        """
        return indices if self.border_index is None else np.where(indices == self.border_index, 1, indices)

    def to_instances(self, array: np.ndarray) -> np.ndarray:
        """Numbers from 1 of the instances in a label map of file values, 0 for background and ignored voxels; int32.

        ``ValueError`` where there are none to tell apart.
        """
        if self.instances is None:
            raise ValueError(f"labels {self.in_words()} have no instances")
        objects = self.to_indices(array) == 1
        return renumbered(np.where(objects, array, 0)) if self.numbered else components(objects)

    def in_words(self) -> str:
        """The table as it is shown in messages.

        >>> Labels(names=("background", "tumour"), values=(0, 1), ignore=9).in_words()
        '0 background, 1 tumour, 9 ignored'
        >>> Labels.from_table({"tumour": [1, 2], "core": 2}).in_words()
        '0 background, 1 label 1, 2 core; regions tumour (1, 2), core (2)'
        """
        parts = [f"{value} {name}" for name, value in zip(self.names, self.values, strict=True)]
        parts += [] if self.ignore is None else [f"{self.ignore} ignored"]
        if self.numbered:
            parts[1] = f"each other number one {self.names[1]}"
        regions = ", ".join(f"{region.name} ({', '.join(map(str, region.values))})" for region in self.regions)
        return ", ".join(parts) + (f"; regions {regions}" if regions else "")

    @property
    def _partners(self) -> dict[int, int]:
        """The place of a structure's mirror image among the structures, by its own."""
        pairs = [(self.structures.index(one), self.structures.index(other)) for one, other in self.mirrored]
        return dict(pairs) | {other: one for one, other in pairs}

    def _fault_of_mirrored(self) -> str | None:
        names = [name for pair in self.mirrored for name in pair]
        if not names:
            return None
        if unknown := [name for name in names if name not in self.structures]:
            return f"mirrored names {', '.join(unknown)}, which is not learned; there are {', '.join(self.structures)}"
        if len(set(names)) < len(names):
            return f"mirrored: a name occurs twice in {self.mirrored}; each structure has one mirror image"
        if mirror_images(self.members, self._partners, self.index_count) is None:
            return (
                f"mirrored: the regions of {' and '.join(names)} overlap others in ways of their own, so that no label "
                'stands for each mirrored one; give left and right labels of their own, or write "mirrored": []'
            )
        return None

    @property
    def numbered(self) -> bool:
        """Whether a label map holds a number for each instance in place of the value of its label."""
        return self.instances is not None and self.instances.numbered

    def _numbers_to_indices(self, array: np.ndarray) -> np.ndarray:
        if array.size and (least := array.min()) < 0:
            raise DatasetError(f"instances have the numbers 1, 2, .., and there is {least}")
        objects = array > 0
        return objects if self.ignore is None else np.where(array == self.ignore, self.index_count - 1, objects)

    @property
    def _values_by_index(self) -> tuple[int, ...]:
        return self.values if self.ignore is None else (*self.values, self.ignore)

    @classmethod
    def from_table(
        cls, table: Mapping[str, Any], paint: Sequence[int] = (), mirrored: Sequence[Sequence[str | int]] | None = None
    ) -> Labels:
        """Labels from metadata, as name to value (nnU-Net v2) or value to name (Decathlon); 0 may be left out.

        A name with a list of values is a region; then all other names are regions too. ``paint`` gives, region by
        region, the value that it is painted with (nnU-Net's ``regions_class_order``); without it, that is the lowest
        of its values that no later region has. The name "ignore" marks the value of voxels that nobody labelled.
        ``mirrored`` are pairs of structures that are each other's mirror image, by name or by value; without it, they
        are those that differ in left and right, see ``sides.py``.

        >>> Labels.from_table({"1": "tumour"}) == Labels.from_table({"background": 0, "tumour": 1})
        True
        """
        entries = [name_and_values(str(key), entry) for key, entry in table.items()]
        ignored = [values for name, values in entries if name.lower() == IGNORE]
        if any(len(values) > 1 for values in ignored):
            raise DatasetError("labels: ignore has several values; give those voxels one value of their own")
        entries = [(name, values) for name, values in entries if name.lower() != IGNORE]
        regions: tuple[Region, ...] = ()
        if any(len(values) > 1 for _, values in entries):
            regions = regions_of([(name, values) for name, values in entries if values != (0,)], paint)
            entries = single_labels(entries)
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
            labels = cls(names=names, values=values, regions=regions, ignore=ignored[0][0] if ignored else None)
            if mirrored is not None:
                return replace(labels, mirrored=tuple(labels._pair(pair) for pair in mirrored))
        except ValueError as error:
            raise DatasetError(str(error)) from error
        try:
            return replace(labels, mirrored=pairs_by_name(labels.structures))
        except ValueError:  # regions that cannot be exchanged: their names stay one-sided
            return labels

    def _pair(self, pair: Sequence[str | int]) -> tuple[str, str]:
        """Names of two structures that a user names by name or by value."""
        one, other = (self.names[self.values.index(name)] if name in self.values else str(name) for name in pair)
        return one, other


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


def _values_in_words(values: tuple[int, ...]) -> str:
    return f"value {values[0]} is" if len(values) == 1 else f"values {', '.join(map(str, values))} are"
