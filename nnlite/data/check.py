"""Open every file of a dataset once and report all that is wrong, before anything is computed from it.

Second step of the pipeline, between finding a dataset and its fingerprint: while a case is in memory, ``visit`` can
measure it, so that no file is read twice. Threads do: unpacking and numpy release the interpreter while they work.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from nnlite.data.annotated import annotation_faults
from nnlite.data.channels import OTHER_GRID, grid_differences, join_channels
from nnlite.data.dataset import DESCRIPTION_FILE, Dataset
from nnlite.data.faults import LISTED_CASES, Fault, in_words
from nnlite.data.image import FIX, PICTURE_SUFFIXES, Image, image_suffix, inspect_image, read_label
from nnlite.data.labels import Labels, values_in
from nnlite.data.layouts import Case
from nnlite.data.progress import Progress, silent
from nnlite.data.straighten import farthest_corner_mm
from nnlite.data.suspicions import suspicions
from nnlite.data.traits import CaseTraits, traits
from nnlite.errors import DatasetError, ImageError

LISTED_VALUES = 20  # beyond this many different values a file is hardly a label map
COLOUR_CHANNELS = ("rgb-red", "rgb-green", "rgb-blue", "rgb-alpha")  # "rgb" chooses the normalisation

OR_EXCLUDE = 'or list the case under "exclude" in nnlite.json'

T = TypeVar("T")
V = TypeVar("V", bound=Hashable)
Visit = Callable[[Case, Image, np.ndarray | None], T]


@dataclass(frozen=True, kw_only=True)
class CheckReport(Generic[T]):
    """The dataset with channels and labels filled in, all its faults, and what ``visit`` found by case id.

    ``findings`` holds the faultless cases only, in the order of the dataset. ``label_values`` are the values in each
    label map that could be read. ``notes`` tell what was left out or changed on reading; warnings begin with them.
    """

    dataset: Dataset
    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]
    findings: dict[str, T]
    label_values: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()

    def foreground_labels(self) -> dict[str, tuple[str, ...]]:
        """Names of the foreground labels that occur in each case of a faultless dataset."""
        labels = self.dataset.labels
        if labels is None:
            return {}
        if labels.numbered:
            none = {0, labels.ignore}
            return {case: labels.foreground if {*values} - none else () for case, values in self.label_values.items()}
        names = dict(zip(labels.values[1:], labels.foreground, strict=True))
        return {
            case: tuple(names[value] for value in values if value in names)
            for case, values in self.label_values.items()
        }

    def raise_if_faulty(self) -> None:
        """Raise one ``DatasetError`` that tells all faults, or do nothing."""
        if self.faults:
            raise DatasetError(in_words(self.faults, dataset=str(self.dataset.root), cases=self.dataset.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look(Generic[T]):
    """What one case looked like, without its voxels; None stands for what could not be read."""

    faults: tuple[Fault, ...]
    channels: int | None
    resampled: tuple[int, ...]
    planar: bool | None
    sized: bool | None
    eight_bits: bool | None
    values: tuple[int, ...] | None
    finding: T | None
    seen: CaseTraits | None = None
    remarks: tuple[tuple[str, str], ...] = ()  # a file and what is odd about its header


def check_dataset(
    dataset: Dataset,
    visit: Visit[T] | None = None,
    *,
    workers: int,
    progress: Progress = silent,
    description_home: Path | None = None,
) -> CheckReport[T]:
    """Read every case once; at most ``workers`` cases are in memory at a time.

    ``visit(case, image, label)`` runs in the reading thread on each case without faults of its own; ``label`` has
    the raw file values, (z, y, x). ``description_home`` is the folder outside the dataset where an ``nnlite.json`` is
    looked for; messages name it.
    """
    looks = _look_at_all(dataset, visit, workers=workers, progress=progress)
    faults = [*dataset.faults, *(fault for look in looks.values() for fault in look.faults)]
    channels = dataset.channels or _channel_names(dataset, looks)
    faults.extend(_channel_faults(looks, channels))
    faults.extend(_dimension_faults(looks))
    faults.extend(_size_faults(looks))
    labels, label_faults = _labels(dataset, looks, description_home)
    faults.extend(label_faults)
    label_values = {name: look.values for name, look in looks.items() if look.values is not None}
    faults.extend(annotation_faults(dataset.cases, labels, label_values))
    faulty = {fault.case for fault in faults}
    notes = (*dataset.notes, *_resampled(looks, channels, dataset.reference_channel))
    notes += () if dataset.channels else tuple(_depths(dataset, looks))
    return CheckReport(
        dataset=replace(dataset, channels=channels, labels=labels),
        faults=tuple(faults),
        notes=notes,
        warnings=(*notes, *_warnings(replace(dataset, channels=channels), looks, labels, faulty)),
        findings={
            name: look.finding for name, look in looks.items() if name not in faulty and look.finding is not None
        },
        label_values=label_values,
    )


def _look_at_all(dataset: Dataset, visit: Visit[T] | None, *, workers: int, progress: Progress) -> dict[str, _Look[T]]:
    executor = ThreadPoolExecutor(max_workers=max(1, workers))
    faulty = {fault.case for fault in dataset.faults}  # without a label, say: nothing to measure
    try:
        futures: dict[Future[_Look[T]], str] = {
            executor.submit(_look_at, case, dataset, None if case.id in faulty else visit): case.id
            for case in dataset.cases
        }
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()  # an error that is no fault of the case ends the check now, not after all cases
            progress("check", done, len(futures))
        return {name: future.result() for future, name in futures.items()}
    finally:
        executor.shutdown(cancel_futures=True)


def _look_at(case: Case, dataset: Dataset, visit: Visit[T] | None) -> _Look[T]:
    faults: list[Fault] = []
    root = dataset.root

    def fault(file: Path, what: str, remedy: str = OR_EXCLUDE) -> None:
        faults.append(Fault(case=case.id, what=what, remedy=remedy, file=_shown(file, root)))

    images = _read_images(case.images, fault, dataset.reference)
    image = _joined(images, dataset.reference)
    label = None
    if case.label is not None:
        try:
            label = read_label(case.label)
        except ImageError as error:
            fault(case.label, _cause(error, case.label))
    if case.label and image is not None and label is not None:
        found = grid_differences(image, label, names=("image", "label"))
        if found:
            by_hand = "give the label the grid of its image"
            near = farthest_corner_mm(image.geometry, label.geometry) <= min(image.geometry.spacing_mm)
            fault(case.label, "; ".join(found), f"{by_hand}{f' ({FIX})' if near else ''}, {OR_EXCLUDE}")
    array = None if label is None else label.array[0]
    values = None if array is None else values_in(array)
    read = [(path, image) for path, image in zip(case.images, images, strict=True) if image is not None]
    read += [(case.label, label)] if case.label and label is not None else []
    return _Look(
        channels=None if image is None else len(image.array),
        resampled=() if image is None else image.resampled,
        planar=None if image is None else image.planar,
        sized=image.sized if image is not None and image.stored.suffix in PICTURE_SUFFIXES else None,
        eight_bits=None if image is None else image.array.dtype == np.uint8,
        values=values,
        finding=visit(case, image, array) if visit and image is not None and not faults else None,
        faults=tuple(faults),
        seen=traits(image, array, values or ()) if image is not None and not faults else None,
        remarks=tuple((_shown(path, root), remark) for path, one in read for remark in one.remarks),
    )


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _read_images(paths: Sequence[Path], fault: Callable[..., None], reference: int | None) -> list[Image | None]:
    """The channels of a case; None stands for one that cannot be used, for the reasons given to ``fault``."""
    images: list[Image | None] = []
    first: Image | None = None
    for path in paths:
        try:
            image = inspect_image(path)
        except ImageError as error:
            fault(path, _cause(error, path))
            images.append(None)
            continue
        if image.not_finite:
            what = f"{image.not_finite} of {image.array.size} voxels are NaN or infinite"
            fault(path, what, f"replace them by numbers ({FIX}), {OR_EXCLUDE}")
        first = first or image
        found = [] if reference is not None else grid_differences(first, image, names=("first channel", "channel"))
        if found:
            fault(path, "; ".join(found), OTHER_GRID)
        images.append(None if found else image)
    return images


def _joined(images: Sequence[Image | None], reference: int | None) -> Image | None:
    """The channels as one image; None if one is missing."""
    usable = [image for image in images if image is not None]
    return join_channels(usable, reference) if usable and len(usable) == len(images) else None


def _cause(error: ImageError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _channel_names(dataset: Dataset, looks: Mapping[str, _Look[T]]) -> tuple[str, ...]:
    """Names for channels that no metadata names, after the number that most cases have.

    Those of pictures are colours where all have 8 bits: what has more is measured, by a microscope say.
    """
    count = _most_common(look.channels for look in looks.values())
    if count is None:
        return ()
    if _like_colours(dataset, count) and all(look.eight_bits is not False for look in looks.values()):
        return COLOUR_CHANNELS[:count]
    return ("image",) if count == 1 else tuple(f"channel {number}" for number in range(count))


def _like_colours(dataset: Dataset, count: int | None) -> bool:
    first = dataset.cases[0].images if dataset.cases else ()
    return len(first) == 1 and image_suffix(first[0]) in PICTURE_SUFFIXES and count in (3, 4)


def _depths(dataset: Dataset, looks: Mapping[str, _Look[T]]) -> Iterator[str]:
    """Pictures of which some could be colours and some not: then none are."""
    known = {name: look.eight_bits for name, look in looks.items() if look.eight_bits is not None}
    deep = [name for name, eight_bits in known.items() if not eight_bits]
    if 0 < len(deep) < len(known) and _like_colours(dataset, _most_common(look.channels for look in looks.values())):
        some = ", ".join(deep[:LISTED_CASES]) + ", .." * (len(deep) > LISTED_CASES)
        yield (
            f"{len(deep)} of {len(known)} pictures do not have 8 bits per channel ({some}), so the channels of none "
            "are taken for colours; if they are, save these with 8 bits, if not, name the channels under "
            '"channels" in nnlite.json'
        )


def _channel_faults(looks: Mapping[str, _Look[T]], channels: tuple[str, ...]) -> Iterator[Fault]:
    for name, look in looks.items():
        if look.channels is not None and look.channels != len(channels):
            what = f"has {_number(look.channels, 'channel')} but the dataset {len(channels)} ({', '.join(channels)})"
            remedy = 'give all images the same channels, or name the channels under "channels" in nnlite.json'
            yield Fault(case=name, what=what, remedy=remedy)


def _dimension_faults(looks: Mapping[str, _Look[T]]) -> Iterator[Fault]:
    usual = _most_common(look.planar for look in looks.values())
    kinds = {True: "2D image", False: "volume"}
    for name, look in looks.items():
        if look.planar is not None and usual is not None and look.planar != usual:
            what = f"is a {kinds[look.planar]}, but most cases are a {kinds[usual]}"
            yield Fault(case=name, what=what, remedy="keep 2D images and volumes in separate datasets")


def _size_faults(looks: Mapping[str, _Look[T]]) -> Iterator[Fault]:
    """Pictures of which some state the size of their pixels and some do not: they cannot be compared."""
    usual = _most_common(look.sized for look in looks.values())
    for name, look in looks.items():
        if look.sized is not None and look.sized != usual:
            what, others = ("states the size of its pixels", "do not") if look.sized else ("states no pixel size", "do")
            remedy = "state it in all pictures (in TIFF, as ImageJ or OME do) or in none"
            yield Fault(case=name, what=f"{what}, most cases {others}", remedy=remedy)


def _labels(dataset: Dataset, looks: Mapping[str, _Look[T]], home: Path | None) -> tuple[Labels | None, list[Fault]]:
    """The label table and what contradicts it; without a table, one is made if the values speak for themselves."""
    seen = {name: look.values for name, look in looks.items() if look.values is not None}
    values = tuple(sorted(set().union(*seen.values())))
    labels = dataset.labels
    if labels is None and len(values) > 1 and values == tuple(range(len(values))):
        labels = Labels(names=("background", *(f"label {value}" for value in values[1:])), values=values)
    ignored = set() if labels is None or labels.ignore is None else {labels.ignore}
    if seen and set(values) <= {0} | ignored:
        what, remedy = "no label map has any voxel other than 0", "there is nothing to learn; add labels"
        what += ", or ignored ones" if ignored else ""
        return labels, [Fault(case=None, what=what, remedy=remedy)]
    if labels is None:
        return None, [_unnamed_values(dataset, seen, values, home)] if seen else []
    faults = []
    where = dataset.description or (home or dataset.root) / DESCRIPTION_FILE
    remedy = f'correct the label map, or name all its values under "labels" in {where}'
    if labels.instances is not None:
        remedy += ', or write "instances": "numbered" there if each object has its own number'
    files = {case.id: case.label for case in dataset.cases}
    for name, found in seen.items():
        if unknown := labels.unknown(found):
            what = f"label {_values(unknown)} not in the label table ({labels.in_words()})"
            file = files[name]
            faults.append(Fault(case=name, what=what, remedy=remedy, file=file.name if file else None))
    if labels.numbered and values[-1] <= 1 and len(seen) > 1:
        what = f'"instances" is "numbered" in {where}, but no label map holds a number above 1'
        faults.append(Fault(case=None, what=what, remedy='write "components" where what is connected is one object'))
    return labels, faults


def _unnamed_values(
    dataset: Dataset, seen: Mapping[str, tuple[int, ...]], values: tuple[int, ...], home: Path | None
) -> Fault:
    """One fault for the whole dataset: which values were found, and the very text that would map them."""
    if len(values) > LISTED_VALUES or min(values) < 0:
        extent = f"{len(values)} different values from {values[0]} to {values[-1]}"
        what = f"the label maps hold {extent}, and no table says what they mean"
        return Fault(case=None, what=what, remedy="save one whole number from 0 up per label (JPEG blurs them)")
    sets = Counter(seen.values()).most_common()
    found = "; ".join(f"{_listed(kind)} in {_number(count, 'file')}" for kind, count in sets[:LISTED_CASES])
    found += f"; and {len(sets) - LISTED_CASES} more combinations" if len(sets) > LISTED_CASES else ""
    foreground = [value for value in values if value != 0]
    named = {"foreground" if len(foreground) == 1 else f"label {value}": value for value in foreground}
    table = json.dumps({"labels": {"background": 0, **named}})
    what = f"the label maps hold values other than 0, 1, 2, .. and no table says what they mean: {found}"
    if dataset.description is not None:
        return Fault(case=None, what=what, remedy=f"add to {dataset.description} (names are yours to choose): {table}")
    places = [folder / DESCRIPTION_FILE for folder in (home, dataset.root) if folder is not None]
    remedy = f"write into {' or '.join(map(str, places))} (names are yours to choose): {table}"
    return Fault(case=None, what=what, remedy=remedy)


def _warnings(
    dataset: Dataset, looks: Mapping[str, _Look[T]], labels: Labels | None, faulty: Collection[str | None]
) -> Iterator[str]:
    """What does not keep the dataset from being used, each with its remedy."""
    yield from _header_remarks(looks)
    seen = [look.values for look in looks.values() if look.values is not None]
    ignored = {0} if labels is None or labels.ignore is None else {0, labels.ignore}
    empty = [name for name, look in looks.items() if look.values is not None and set(look.values) <= ignored]
    if 0 < len(empty) < len(seen):
        some = ", ".join(empty[:LISTED_CASES]) + ", .." * (len(empty) > LISTED_CASES)
        what = f"{len(empty)} of {len(seen)} label maps are empty ({some})"
        yield f"{what}; they teach that nothing is there: exclude those that nobody has labelled"
    if labels is not None and seen and not labels.numbered:
        for name, value in zip(labels.names, labels.values, strict=True):
            if not any(value in values for values in seen):
                what = f"label {name!r} ({value}) occurs in no case"
                yield f"{what}; it cannot be learned: add cases that have it, or take it out of the labels"
    traits_of = {name: look.seen for name, look in looks.items() if look.seen is not None and name not in faulty}
    yield from suspicions(dataset, labels, traits_of)


def _header_remarks(looks: Mapping[str, _Look[T]]) -> Iterator[str]:
    """What is odd about the headers of files, the same of several files once."""
    files: dict[str, list[str]] = defaultdict(list)
    for look in looks.values():
        for file, remark in look.remarks:
            files[remark].append(file)
    for remark, named in files.items():
        more = f", and {len(named) - LISTED_CASES} more" if len(named) > LISTED_CASES else ""
        yield f"{', '.join(named[:LISTED_CASES])}{more}: {remark}"


def _resampled(looks: Mapping[str, _Look[T]], channels: tuple[str, ...], reference: str | None) -> Iterator[str]:
    """Which channels lay on another grid than the reference channel, and in how many cases."""
    count = Counter(place for look in looks.values() for place in look.resampled)
    for place, cases in sorted(count.items()):
        name = channels[place] if place < len(channels) else f"channel {place}"
        yield f"{name} is resampled onto the grid of {reference} (linear) in {_number(cases, 'case')}"


def _most_common(values: Iterable[V | None]) -> V | None:
    counted = Counter(value for value in values if value is not None).most_common(1)
    return counted[0][0] if counted else None


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _listed(values: Sequence[int]) -> str:
    words = [str(value) for value in values]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _values(values: Sequence[int]) -> str:
    shown = values if len(values) <= LISTED_VALUES else values[:LISTED_VALUES]
    more = "" if shown is values else f" (and {len(values) - LISTED_VALUES} more)"
    return f"value {values[0]} is" if len(values) == 1 else f"values {_listed(shown)}{more} are"
