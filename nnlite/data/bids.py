"""BIDS datasets: images below ``sub-*``, labels below ``derivatives``, told apart by the entities in their names.

A name is ``sub-01_ses-02_acq-ce_T1w.nii.gz``: entities, then a suffix that says what kind of file it is (Gorgolewski et
al., Scientific Data 3, 160044, 2016; bids-specification.readthedocs.io). Subject, session and run make a case; the rest
makes a channel. Label maps end in ``_dseg`` (values named in a ``dseg.tsv``) or ``_mask``. Opens no image.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnlite.data.faults import Fault
from nnlite.data.layouts import Case, Found
from nnlite.errors import DatasetError

SUFFIXES = (".nii.gz", ".nii")
CASE_ENTITIES = ("sub", "ses", "run")
LABEL_SUFFIXES = ("dseg", "mask")  # a segmentation comes before a mask where a case has both
OF_LABELS = ("space", "res", "den", "label", "desc", "seg", "from")  # entities that derivatives add
OF_OTHER_USE = ("sbref", "bold", "dwi", "epi", "phasediff", "magnitude1", "magnitude2")  # mostly series, field maps
NO_IMAGES = (*LABEL_SUFFIXES, "probseg", *OF_OTHER_USE)
READ_ANYHOW = "to use such files, name them in a list of cases (a table)"
DERIVATIVES = "derivatives"


@dataclass(frozen=True, slots=True)
class _Name:
    """A file and what its name says of it."""

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """The id of its case, e.g. ``sub-01_ses-02``."""
        return "_".join(f"{key}-{self.entities[key]}" for key in CASE_ENTITIES if key in self.entities)

    @property
    def channel(self) -> str:
        """What kind of image of its case it is, e.g. ``acq-ce_T1w``."""
        more = [f"{key}-{value}" for key, value in self.entities.items() if key not in (*CASE_ENTITIES, *OF_LABELS)]
        return "_".join([*more, self.suffix])


def is_bids(folder: Path) -> bool:
    """Whether a folder has subjects with images, or is a folder of derivatives beside some."""
    return _raw(folder) is not None


def bids(folder: Path) -> Found:
    """Cases of a BIDS dataset, or of one of its folders of derivatives.

    Channels are the kinds of images that all cases with a label have. The group of a case is its subject.
    """
    raw = _raw(folder)
    assert raw is not None, "asked for with is_bids"
    home = folder if folder != raw else _derivative_with_labels(raw)
    by_case = _by_case(_names(home, LABEL_SUFFIXES))
    found = Found(layout=f"BIDS (labels of {home.name})")
    found.label_table, found.label_file = _label_names(raw, home, by_case)
    images: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    unread: set[str] = set()
    for name in _names(raw, None):
        if name.suffix not in NO_IMAGES:
            images[name.case][name.channel].append(name.path)
        elif name.suffix in OF_OTHER_USE and name.case in by_case:
            unread.add(name.suffix)
    if unread:
        found.notes.append(f"not read as images: {', '.join(sorted(unread))}; {READ_ANYHOW}")
    labelled = {case: kinds for case, kinds in images.items() if case in by_case}
    channels = _channels(labelled, found, raw, home)
    found.channels = channels
    sites = _sites(raw)
    for case in sorted(by_case):
        label, faults = _label_of(case, by_case[case])
        kinds = images.get(case, {})
        if not kinds:
            faults.append(Fault(case=case, what="a label but no image", remedy="add the image, or remove the label"))
        elif several := [path for channel in channels for path in kinds[channel] if len(kinds[channel]) > 1]:
            what = f"several images of one kind: {', '.join(path.name for path in several)}"
            faults.append(Fault(case=case, what=what, remedy="tell them apart by run-1, run-2, or keep one"))
        found.faults.extend(faults)
        if not faults:
            subject = case.split("_")[0]
            files = tuple(kinds[channel][0] for channel in channels)
            found.cases.append(Case(id=case, images=files, label=label, group=subject, site=sites.get(subject)))
    if unlabelled := sorted(images.keys() - by_case.keys()):
        found.notes.append(f"{len(unlabelled)} without a label in {home.name} are left out, {unlabelled[0]} for one")
    count = Counter(case.group for case in found.cases)
    found.cases = [case if count[case.group] > 1 else replace(case, group=None) for case in found.cases]
    return found


def _raw(folder: Path) -> Path | None:
    """The folder of the images: ``folder`` itself, or where it is one of derivatives, two above."""
    above = folder.resolve().parent
    for candidate in [above.parent] * (above.name == DERIVATIVES) + [folder]:
        subjects = (sub for sub in candidate.glob("sub-*") if sub.is_dir())
        if any(next(sub.rglob(f"*{suffix}"), None) for sub in subjects for suffix in SUFFIXES):
            return candidate
    return None


def _derivative_with_labels(raw: Path) -> Path:
    """The only folder of derivatives that has label maps."""
    folders = sorted(path for path in (raw / DERIVATIVES).glob("*") if path.is_dir())
    if (raw / DERIVATIVES).is_dir():
        folders += [raw / DERIVATIVES] if any((raw / DERIVATIVES).glob("sub-*")) else []
    counts = {path: sum(1 for _ in _names(path, LABEL_SUFFIXES)) for path in folders}
    having = [path for path, count in counts.items() if count]
    if len(having) > 1:
        told = ", ".join(f"{path} ({counts[path]})" for path in having)
        raise DatasetError(f"{raw} has label maps in several folders of derivatives: {told}; give one of these folders")
    if not having:
        raise DatasetError(
            f"{raw} is a BIDS dataset without label maps; nnlite looks for "
            f"{raw / DERIVATIVES}/NAME/sub-../../sub-.._dseg.nii.gz or .._mask.nii.gz"
        )
    return having[0]


def _names(folder: Path, suffixes: Sequence[str] | None) -> Iterator[_Name]:
    """Images below the subjects of a folder, sorted; those with one of these suffixes, or all."""
    for path in sorted(path for sub in folder.glob("sub-*") if sub.is_dir() for path in sub.rglob("*.nii*")):
        ending = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        if ending is None:
            continue
        *entities, suffix = path.name.removesuffix(ending).split("_")
        pairs = dict(part.split("-", 1) for part in entities if "-" in part)
        if "sub" in pairs and (suffixes is None or suffix in suffixes):
            yield _Name(path, pairs, suffix)


def _by_case(names: Iterator[_Name]) -> dict[str, list[_Name]]:
    found: dict[str, list[_Name]] = defaultdict(list)
    for name in names:
        found[name.case].append(name)
    return found


def _label_of(case: str, names: Sequence[_Name]) -> tuple[Path, list[Fault]]:
    """The label map of a case: its segmentation, or where it has none, its mask."""
    kind = next(suffix for suffix in LABEL_SUFFIXES if any(name.suffix == suffix for name in names))
    files = [name.path for name in names if name.suffix == kind]
    if len(files) == 1:
        return files[0], []
    what = f"several label maps: {', '.join(path.name for path in files)}"
    remedy = "keep one, or give them folders of derivatives of their own"
    return files[0], [Fault(case=case, what=what, remedy=remedy)]


def _channels(labelled: Mapping[str, Mapping[str, list[Path]]], found: Found, raw: Path, home: Path) -> tuple[str, ...]:
    """Kinds of images that every labelled case has; those that only some have are told of."""
    if not labelled:
        what = f"no case of {raw} has a label in {home}; their names should begin alike, as sub-01_ses-01"
        raise DatasetError("; ".join([what, *found.notes]))
    count = Counter(channel for kinds in labelled.values() for channel in kinds)
    channels = tuple(sorted(channel for channel in count if count[channel] == len(labelled)))
    told = ", ".join(f"{channel} ({count[channel]} of {len(labelled)})" for channel in sorted(count))
    if not channels:
        raise DatasetError(f"{raw}: no kind of image is there in all labelled cases: {told}; add or exclude cases")
    if len(channels) < len(count):
        found.notes.append(f"channels are the images that all cases have: {', '.join(channels)}, of {told}")
    return channels


def _label_names(raw: Path, home: Path, by_case: Mapping[str, Sequence[_Name]]) -> tuple[dict[str, int] | None, str]:
    """What ``Found`` is told of labels: a dseg.tsv, as high up as there is one, or the entities of masks."""
    beside = {path for names in by_case.values() for name in names for path in name.path.parent.glob("*dseg.tsv")}
    tables = [*sorted(home.glob("*dseg.tsv")), *sorted(raw.glob("*dseg.tsv")), *sorted(beside)]
    if tables:
        return _read_dseg(tables[0]), str(tables[0])
    kinds = {name.suffix for names in by_case.values() for name in names}
    called = {name.entities.get("label") or name.entities.get("desc") for names in by_case.values() for name in names}
    if kinds == {"mask"} and len(called) == 1 and (name := called.pop()):
        return {name: 1}, "the names of the masks"
    return None, ""


def _read_dseg(file: Path) -> dict[str, int]:
    """Values by name, from a table with the columns ``index`` and ``name``."""
    rows = _tsv(file)
    try:
        table = {row["name"]: int(row["index"]) for row in rows}
    except (KeyError, ValueError, TypeError) as error:
        what = f'needs a column "index" with whole numbers and a column "name" ({error})'
        raise DatasetError(f"{file}: {what}") from error
    if len(table) < len(rows):
        raise DatasetError(f"{file}: a name occurs twice; give each index a name of its own")
    return table


def _sites(raw: Path) -> dict[str, str]:
    """The column ``site`` of participants.tsv, where there is one."""
    file = raw / "participants.tsv"
    rows = _tsv(file) if file.is_file() else []
    return {row["participant_id"]: row["site"] for row in rows if row.get("participant_id") and row.get("site")}


def _tsv(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            return list(csv.DictReader(content, delimiter="\t"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error
