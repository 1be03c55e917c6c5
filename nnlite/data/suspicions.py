"""What looks suspicious in a dataset that can be used as it is: one case against the others.

Told by ``check.py`` as warnings, each with what to do; none of them stops the pipeline. Limits are wide: a warning that
is mostly false is not read. Outliers are measured on a logarithmic scale by median and MAD (Iglewicz and Hoaglin, How
to Detect and Handle Outliers, 1993), because volumes of structures and units of intensity differ by factors.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from nnlite.data.dataset import Dataset
from nnlite.data.faults import LISTED_CASES
from nnlite.data.labels import Labels
from nnlite.data.traits import CaseTraits, ChannelTraits

FEWEST_CASES = 10  # with less, nobody can say what is usual
FARTHEST_SIGMAS = 6.0  # of a normal distribution one in 5e8 lies beyond
SMALLEST_SIGMA = 0.1  # of a logarithm: where nearly all are alike, a tenth more is still nothing
VOLUME_FACTOR = 5.0  # a structure that is less unusual than this can be anatomy
INTENSITY_FACTOR = 30.0  # scanners differ by less in the units of their images
SIGMA_OF_MAD = 1.4826
RARE = 0.05  # share of cases; where more are unlike the others, the dataset is just mixed
AIR_HU = -900.0  # air is -1000, and no other kind of image has a hundredth of its voxels below this
PADDING_HU = -3100.0  # what scanners write beyond their field of view; phase images reach -4096
BONE_HU = 300.0
SOFT_TISSUE_HU = -500.0  # only lung and air are darker
COLOUR_NAMES = ("rgb-", "rgb ", "rgb_to_0_1")  # of channels that are divided by 255
COLOUR_MOST = 255.0
WIDEST_WINDOW = 256.0  # values in a range this small were rescaled for display: HU of any patient span a thousand


def suspicions(dataset: Dataset, labels: Labels | None, cases: Mapping[str, CaseTraits]) -> Iterator[str]:
    """Each suspicion in words, with its remedy; ``dataset`` has its channels named."""
    yield from _ids(cases)
    yield from _duplicates(dataset, cases)
    yield from _constant(dataset.channels, cases)
    yield from _orientations(cases)
    for number, channel in enumerate(dataset.channels):
        looks = {name: case.channels[number] for name, case in cases.items() if number < len(case.channels)}
        if channel.casefold() == "ct":
            yield from _not_hounsfield(channel, looks)
        else:
            yield from _intensities(channel, looks)
            yield from _hounsfield_by_another_name(channel, looks)
        if channel.strip().lower().startswith(COLOUR_NAMES):
            yield from _no_colour(channel, looks)
    if labels is not None and not labels.numbered:
        yield from _volumes(labels, cases)


def outliers(numbers: Mapping[str, float], *, factor: float) -> tuple[str, ...]:
    """The names of positive numbers that are unlike the others, by at least ``factor``; the farthest first.

    >>> outliers({**{f"case {n}": 100.0 + n for n in range(12)}, "odd": 2.0}, factor=5)
    ('odd',)
    """
    logs = {name: math.log(number) for name, number in numbers.items() if number > 0}
    if len(logs) < FEWEST_CASES:
        return ()
    centre = float(np.median([*logs.values()]))
    away = {name: abs(value - centre) for name, value in logs.items()}
    sigma = max(SIGMA_OF_MAD * float(np.median([*away.values()])), SMALLEST_SIGMA)
    limit = max(FARTHEST_SIGMAS * sigma, math.log(factor))
    return tuple(sorted((name for name, gap in away.items() if gap > limit), key=lambda name: -away[name]))


def _ids(cases: Iterable[str]) -> Iterator[str]:
    by_letters = defaultdict(list)
    for name in cases:
        by_letters[name.casefold()].append(name)
    for same in by_letters.values():
        if len(same) > 1:
            what = f"the ids {_and(same)} differ in capitals only"
            yield f"{what}: on Windows and macOS their files would overwrite each other; rename all but one"


def _duplicates(dataset: Dataset, cases: Mapping[str, CaseTraits]) -> Iterator[str]:
    told: set[frozenset[str]] = set()
    groups = dataset.groups
    for order in range(2):
        by_content = defaultdict(list)
        for name, case in cases.items():
            if case.contents:
                by_content[case.contents[order]].append(name)
        for same in by_content.values():
            if len(same) > 1 and not any(set(same) <= before for before in told):
                told.add(frozenset(same))
                yield _duplicate(same, [cases[name] for name in same], [groups.get(name) for name in same])


def _duplicate(names: Sequence[str], cases: Sequence[CaseTraits], groups: Sequence[str | None]) -> str:
    what = f"{_and(names)} are the same image"
    if len({(case.spacing_mm, case.orientation) for case in cases}) > 1:
        what += " (with other headers)"
    labels = "the same" if len({case.label_content for case in cases}) == 1 else "different"
    what += f", with {labels} labels"
    if len(set(groups)) == 1 and groups[0] is not None:
        return f"{what}; they are one group and are held out together, but count twice: exclude all but one"
    leak = "one may be trained on while the other is held out, which flatters the scores"
    return f'{what}; {leak}: list all but one under "exclude" in nnlite.json, or all under "groups"'


def _constant(channels: Sequence[str], cases: Mapping[str, CaseTraits]) -> Iterator[str]:
    for number, channel in enumerate(channels):
        flat = [
            name
            for name, case in cases.items()
            if number < len(case.channels) and case.channels[number].least == case.channels[number].most
        ]
        if 0 < len(flat) < len(cases) or (flat and len(channels) == 1):  # an alpha channel is the same in all cases
            what = f"{channel} has one value in all voxels of {_cases(flat)}"
            yield f"{what}: nothing can be seen in it; get the file again, or exclude the case"


def _orientations(cases: Mapping[str, CaseTraits]) -> Iterator[str]:
    stored = {name: case.orientation for name, case in cases.items() if case.orientation}
    usual, count = Counter(stored.values()).most_common(1)[0] if stored else ("", 0)
    rare = [name for name, code in stored.items() if code != usual]
    if len(stored) < FEWEST_CASES or not rare or len(rare) > RARE * len(stored):
        return
    codes = " or ".join(sorted({stored[name] for name in rare}))
    what = f"{_cases(rare)} {'is' if len(rare) == 1 else 'are'} stored as {codes}, {count} others as {usual}"
    yield f"{what}; nnlite turns each as its header says: see in a viewer whether left is left"


def _not_hounsfield(channel: str, looks: Mapping[str, ChannelTraits]) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, look in looks.items():
        if look.least != look.most and (kind := _unlike_hounsfield(look)):
            kinds[kind].append(name)
    for (what, remedy), names in kinds.items():
        yield f"{channel} of {_cases(names)} is not in Hounsfield units: {what}; {remedy}"


def _unlike_hounsfield(look: ChannelTraits) -> tuple[str, str] | None:
    rename = 'convert them from DICOM again, or name the channel otherwise under "channels" in nnlite.json'
    if look.most - look.least <= WIDEST_WINDOW:
        return "its values span less than a display shows, as if a window was saved", rename
    if look.least >= 0:
        return "nothing is below 0, while air is -1000 and fat -100", "subtract the offset (usually 1024)"
    if look.high < SOFT_TISSUE_HU:
        return "nothing is as dense as tissue, as if the offset was subtracted twice", "add the offset (usually 1024)"
    return None


def _hounsfield_by_another_name(channel: str, looks: Mapping[str, ChannelTraits]) -> Iterator[str]:
    alike = [look for look in looks.values() if PADDING_HU <= look.low <= AIR_HU and look.most >= BONE_HU]
    if 2 * len(alike) > len(looks):
        what = f"{channel} looks like CT in Hounsfield units (air at {min(look.low for look in alike):g})"
        yield (
            f"{what}, but only a channel called CT is normalised as such, all others image by image: "
            'call it CT under "channels" in nnlite.json'
        )


def _no_colour(channel: str, looks: Mapping[str, ChannelTraits]) -> Iterator[str]:
    wide = {name: look for name, look in looks.items() if look.least < 0 or look.most > COLOUR_MOST}
    if wide:
        least, most = min(look.least for look in wide.values()), max(look.most for look in wide.values())
        what = f"{channel} of {_cases([*wide])} holds values from {least:g} to {most:g}, colours go from 0 to 255"
        yield (
            f"{what}: preprocessing refuses them; save 8 bits per colour, or name the channels other than rgb "
            'under "channels" in nnlite.json'
        )


def _intensities(channel: str, looks: Mapping[str, ChannelTraits]) -> Iterator[str]:
    spans = {name: look.high - look.low for name, look in looks.items()}
    odd = outliers(spans, factor=INTENSITY_FACTOR)
    if odd and len(odd) <= max(1, RARE * len(spans)):
        usual = float(np.median([*spans.values()]))
        some = ", ".join(f"{name} {spans[name]:.3g}" for name in odd[:LISTED_CASES])
        more = f", and {len(odd) - LISTED_CASES} more" if len(odd) > LISTED_CASES else ""
        what = f"intensities of {channel} span {usual:.3g} in most cases but: {some}{more}"
        yield f"{what}; see whether these files are the same kind of image in the same units"


def _volumes(labels: Labels, cases: Mapping[str, CaseTraits]) -> Iterator[str]:
    for label, value in zip(labels.names, labels.values, strict=True):
        if value in (0, labels.ignore):
            continue
        sizes = {
            name: case.voxels[value] * (case.voxel_ml or 1) for name, case in cases.items() if case.voxels.get(value)
        }
        if not (odd := outliers(sizes, factor=VOLUME_FACTOR)):
            continue
        unit = "voxels" if any(case.voxel_ml is None for case in cases.values()) else "ml"
        usual = float(np.median([*sizes.values()]))
        some = ", ".join(f"{name} {sizes[name]:.3g}" for name in odd[:LISTED_CASES])
        more = f", and {len(odd) - LISTED_CASES} more" if len(odd) > LISTED_CASES else ""
        what = f"{label} has {usual:.3g} {unit} in a usual case but: {some}{more}"
        yield f"{what}; look at these label maps: something may be missing, or painted with a wrong value"


def _cases(names: Sequence[str]) -> str:
    listed = ", ".join(names[:LISTED_CASES])
    return listed + (f", and {len(names) - LISTED_CASES} more" if len(names) > LISTED_CASES else "")


def _and(names: Sequence[str]) -> str:
    if len(names) > LISTED_CASES:
        return _cases(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
