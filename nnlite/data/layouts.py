"""The ways in which people lay out a dataset on disk, one function for each; nothing here opens an image.

Decathlon: ``dataset.json`` with a ``training`` list. Pairs: a folder of images and a folder of labels of the same
name, channels as ``CASE_0000.ext``, ``CASE_0001.ext`` where there are several (nnU-Net v2 raw is such a pair of folders
with a ``dataset.json``). Listed: nnU-Net's ``dataset`` key, which names the files of each case. Tables have a module of
their own (``tables.py``), and so has BIDS (``bids.py``).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnlite.data.dicom.headers import holds_dicom
from nnlite.data.faults import Fault
from nnlite.data.image import IMAGE_SUFFIXES, image_suffix
from nnlite.data.split import Splits
from nnlite.errors import DatasetError

SUPPORTED = f"nnlite reads {' '.join(IMAGE_SUFFIXES)} and folders of DICOM slices"
CHANNEL_NUMBER = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
ILLEGAL_IN_ID = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^\.|^$')  # an id becomes part of file names on every system


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One image, in one file or in one file per channel, and its label map where there is one.

    Cases of the same ``group`` (scans of one patient, say) are held out together; None is a group of its own. Cases of
    every ``site`` (a centre, a scanner) are held out in every fold, where there are enough. ``annotated`` names the
    structures that somebody has drawn, see ``annotated.py``; None is all of them.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str | None = None
    site: str | None = None
    annotated: tuple[str, ...] | None = None


@dataclass(slots=True, kw_only=True)
class Found:
    """What a layout holds, before ``nnlite.json`` is applied; empty ``channels``: no metadata names them.

    ``label_table`` and ``paint`` are what ``Labels.from_table`` takes, and ``label_file`` is where they are written.
    ``splits`` are folds that come with the dataset. ``notes`` tell what was left out.
    """

    layout: str
    cases: list[Case] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    label_table: Mapping[str, Any] | None = None
    paint: tuple[int, ...] = ()
    label_file: str = "dataset.json"
    splits: Splits | None = None
    notes: list[str] = field(default_factory=list)


def decathlon(root: Path, metadata: Mapping[str, Any]) -> Found:
    """Cases in the ``training`` list of a Medical Segmentation Decathlon ``dataset.json``; paths relative to it."""
    found = Found(layout="Medical Segmentation Decathlon", channels=_channels(metadata), **label_table(metadata))
    for number, entry in enumerate(metadata["training"], start=1):
        image = entry.get("image") if isinstance(entry, dict) else None
        if not isinstance(image, str):
            what = f'entry {number} of "training" in dataset.json names no image'
            found.faults.append(
                Fault(case=None, what=what, remedy='write {"image": "imagesTr/..", "label": "labelsTr/.."}')
            )
            continue
        name = stem(root / image)
        label = entry.get("label")
        if not isinstance(label, str):
            found.faults.append(_no_label(name, 'no label in the "training" list', "dataset.json"))
            label = None
        found.cases.append(Case(id=name, images=(root / image,), label=root / label if label else None))
    drop_duplicates(found)
    _note_annotated(found, metadata)
    return found


def listed(root: Path, metadata: Mapping[str, Any]) -> Found:
    """Cases under the key ``dataset`` of nnU-Net's ``dataset.json``: images and label of each, wherever they lie."""
    found = Found(layout="nnU-Net raw, files listed", channels=_channels(metadata), **label_table(metadata))
    for name, entry in metadata["dataset"].items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not (isinstance(images, list) and images and all(isinstance(image, str) for image in images)):
            what = 'its entry under "dataset" in dataset.json names no images'
            remedy = 'write {"images": ["imagesTr/.."], "label": "labelsTr/.."}'
            found.faults.append(Fault(case=name, what=what, remedy=remedy))
            continue
        label = entry.get("label")
        if not isinstance(label, str):
            found.faults.append(_no_label(name, 'no label under "dataset"', "dataset.json"))
            label = None
        files = tuple(root / image for image in images)
        found.cases.append(Case(id=name, images=files, label=root / label if label else None))
    _note_annotated(found, metadata)
    return found


def pairs(images: Path, labels: Path, metadata: Mapping[str, Any], layout: str) -> Found:
    """Cases whose image (or channels) and label have the same name in two folders."""
    found = Found(layout=layout, channels=_channels(metadata), **label_table(metadata))
    label_files = _by_stem(_with_ending(image_files(labels), metadata))
    files = _with_ending(image_files(images), metadata)
    by_case = group_channels(files, {*label_files, *_numbered_like(label_files, files)})
    numbers = {number for channels in by_case.values() for number in channels}
    expected = range(len(found.channels)) if max(numbers, default=0) > 0 and found.channels else sorted(numbers)
    for name, channels in by_case.items():
        label = label_files.pop(name, [])
        if not label:
            found.faults.append(
                _no_label(name, f"an image but no label in {labels.name}/", _shown(next(iter(channels.values()))[0]))
            )
        ambiguous = [files for files in [*channels.values(), label] if len(files) > 1]
        for files in ambiguous:
            what = f"several files for one id: {', '.join(map(_shown, files))}"
            found.faults.append(Fault(case=name, what=what, remedy="keep one of them, or rename the others"))
        gaps = _gaps(name, channels, expected, found.channels)
        found.faults.extend(gaps)
        if not ambiguous and not gaps:
            ordered = tuple(files[0] for files in channels.values())
            found.cases.append(Case(id=name, images=ordered, label=label[0] if label else None))
    for name, files in label_files.items():
        what, remedy = f"a label but no image in {images.name}/", "add the image, or remove the label"
        found.faults.append(Fault(case=name, what=what, remedy=remedy, file=_shown(files[0])))
    _note_annotated(found, metadata)
    return found


def _numbered_like(labels: Collection[str], images: Iterable[Path]) -> set[str]:
    """Names of images whose digits belong to the id: there are labels called CASE_0000 and so on, and none called CASE.

    >>> _numbered_like(["scan_0000", "scan_0001"], [Path("scan_0001.png"), Path("scan_0002.png")])
    {'scan_0002'}
    """
    ids = {match["case"] for name in labels if (match := CHANNEL_NUMBER.fullmatch(name))} - {*labels}
    matches = (CHANNEL_NUMBER.fullmatch(stem(file)) for file in images)
    return {match.string for match in matches if match and match["case"] in ids} - {*labels}


def image_files(folder: Path) -> list[Path]:
    """Images in a folder, sorted by name, hidden ones left out: files, and folders of DICOM slices."""
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(path for path in shown if (image_suffix(path) and path.is_file()) or holds_dicom(path))


def stem(path: Path) -> str:
    """Name of a file without its image suffix, or of a folder of slices.

    >>> stem(Path("imagesTr/STS_002.nii.gz"))
    'STS_002'
    """
    if image_suffix(path) is None and path.is_dir():
        return path.name  # of a folder of DICOM slices: dots in it are no suffix
    return path.name[: -len(image_suffix(path) or path.suffix) or None]


def group_channels(files: Iterable[Path], whole: Collection[str] = ()) -> dict[str, dict[int, list[Path]]]:
    """Files by case id and channel number; a name in ``whole`` is an id as it stands, even if it ends in digits.

    >>> group_channels([Path("a_0000.nii"), Path("a_0001.nii")])
    {'a': {0: [PosixPath('a_0000.nii')], 1: [PosixPath('a_0001.nii')]}}
    """
    by_case: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        name = stem(file)
        match = None if name in whole else CHANNEL_NUMBER.fullmatch(name)
        case, channel = (match["case"], int(match["channel"])) if match else (name, 0)
        by_case[case][channel].append(file)
    return {case: dict(sorted(by_case[case].items())) for case in sorted(by_case)}


def read_json(path: Path) -> Any:
    """Content of a JSON file written by people; what cannot be read is a ``DatasetError`` naming the line."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not valid JSON: {error}; correct it there, and save it as UTF-8") from error


def _with_ending(files: Sequence[Path], metadata: Mapping[str, Any]) -> Sequence[Path]:
    """Files of nnU-Net's ``file_ending``, which leaves out what else lies beside them; all where it fits none."""
    ending = metadata.get("file_ending")
    fitting = [file for file in files if isinstance(ending, str) and file.name.endswith(ending)]
    return fitting or files


def _by_stem(files: Iterable[Path]) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        by_stem[stem(file)].append(file)
    return dict(by_stem)


def _gaps(
    case: str, channels: Mapping[int, list[Path]], expected: Collection[int], names: tuple[str, ...]
) -> list[Fault]:
    """Channels that other cases or the metadata have and this case lacks, and the other way round."""
    some = next(iter(channels.values()))[0]
    faults = []
    for number in sorted(set(expected) - set(channels)):
        named = f" ({names[number]})" if number < len(names) else ""
        file = f"{some.parent.name}/{case}_{number:04d}{image_suffix(some)}"
        what, remedy = f"channel {number}{named} is missing", 'add the file, or list the case under "exclude"'
        faults.append(Fault(case=case, what=what, remedy=remedy, file=file))
    for number in sorted(set(channels) - set(expected)):
        what = f"channel {number} is there, but dataset.json names {len(names)} channels ({', '.join(names)})"
        remedy = "remove the file, or name the channel in dataset.json"
        faults.append(Fault(case=case, what=what, remedy=remedy, file=_shown(channels[number][0])))
    return faults


def _no_label(case: str, what: str, file: str) -> Fault:
    return Fault(
        case=case, what=what, remedy='add the label, or list the case under "exclude" in nnlite.json', file=file
    )


def drop_duplicates(found: Found) -> None:
    """Keep the first case of each id and report the others."""
    for name, times in Counter(case.id for case in found.cases).items():
        if times > 1:
            what, remedy = (
                f"the id occurs {times} times",
                "give each case its own id (or file name), or remove the copies",
            )
            found.faults.append(Fault(case=name, what=what, remedy=remedy))
    first: dict[str, Case] = {}
    for case in found.cases:
        first.setdefault(case.id, case)
    found.cases = list(first.values())


def _channels(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Channel names of a dataset.json: ``channel_names`` (nnU-Net v2) or ``modality`` (Decathlon), by number."""
    named = metadata.get("channel_names") or metadata.get("modality") or {}
    if isinstance(named, dict) and all(str(key).isdecimal() for key in named):
        return tuple(str(named[key]) for key in sorted(named, key=int))
    if isinstance(named, list):
        return tuple(map(str, named))
    raise DatasetError(f'dataset.json: channel names {named!r} are not understood; write for example {{"0": "CT"}}')


def label_table(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The label table of a dataset.json, and nnU-Net's order of painting regions."""
    table, paint = metadata.get("labels"), metadata.get("regions_class_order")
    return {
        "label_table": table if isinstance(table, dict) and table else None,
        "paint": tuple(paint) if isinstance(paint, list) else (),
    }


def _note_annotated(found: Found, metadata: Mapping[str, Any]) -> None:
    """Take over from a dataset.json which structures are drawn in which case."""
    drawn = metadata.get("annotated", {})
    if not isinstance(drawn, dict) or not all(isinstance(names, list) for names in drawn.values()):
        raise DatasetError('dataset.json: "annotated" should be an object like {"case_1": ["liver"]}')
    found.cases = [
        replace(case, annotated=tuple(map(str, drawn[case.id]))) if case.id in drawn else case for case in found.cases
    ]


def _shown(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
