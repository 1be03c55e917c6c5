"""Which structures of a case somebody has drawn, where that is told case by case.

A scan without drawn livers does not show a patient without a liver: its background may be anything that was not drawn.
Such a case comes with a list of names; whatever is not on it takes part in nothing that the case is used for (loss,
sampling, scores). A case without a list has everything drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from nnlite.data.faults import Fault
from nnlite.data.labels import Labels
from nnlite.data.layouts import Case
from nnlite.errors import DatasetError

Annotated = tuple[bool, ...]
"""For each structure, in the order of ``Labels.structures``, whether it is drawn in a case."""


def annotated_structures(labels: Labels, names: Collection[str] | None) -> Annotated | None:
    """Which structures a list of names says are drawn; None where all are.

    A region is drawn where it is named, or where all labels that it consists of are. A name that means nothing, and a
    list that leaves no structure at all, is a ``DatasetError``.

    >>> annotated_structures(Labels.from_table({"liver": 1, "spleen": 2}), ["spleen"])
    (False, True)
    """
    if names is None:
        return None
    known = {*labels.foreground, *labels.structures}
    if unknown := sorted(set(names) - known):
        raise DatasetError(
            f"annotated names {', '.join(unknown)}, which is no label; there are {', '.join(labels.structures)}"
        )
    drawn = {index for index, name in enumerate(labels.names) if index and name in names}
    found = tuple(
        name in names or drawn.issuperset(members)
        for name, members in zip(labels.structures, labels.members, strict=True)
    )
    if not any(found):
        raise DatasetError(
            f"annotated names {', '.join(names) or 'nothing'}, so that no structure is drawn; "
            f"there are {', '.join(labels.structures)}"
        )
    return None if all(found) else found


def names_of(labels: Labels, annotated: Annotated | None) -> tuple[str, ...]:
    """The structures that are drawn."""
    if annotated is None:
        return labels.structures
    return tuple(name for name, drawn in zip(labels.structures, annotated, strict=True) if drawn)


def not_annotated(labels: Labels, annotated: Annotated | None, values: Collection[int]) -> tuple[str, ...]:
    """Labels that a case holds although they are part of no structure that is said to be drawn.

    >>> not_annotated(Labels.from_table({"liver": 1, "spleen": 2}), (False, True), (0, 1, 2))
    ('liver',)
    """
    if annotated is None:
        return ()
    drawn = {index for members, one in zip(labels.members, annotated, strict=True) if one for index in members}
    return tuple(
        name
        for index, (name, value) in enumerate(zip(labels.names, labels.values, strict=True))
        if index and value in values and index not in drawn
    )


def drawn_channels(labels: Labels, annotated: Annotated) -> Annotated:
    """The same for each channel of a network, see ``Labels.outputs``; a channel for the background always counts."""
    border = annotated[:1] if labels.border_index is not None else ()
    return annotated if labels.regions else (True, *annotated, *border)


def annotation_faults(
    cases: Iterable[Case], labels: Labels | None, values: Mapping[str, Collection[int]]
) -> Iterator[Fault]:
    """Lists of annotated labels that name others than there are, or contradict the ``values`` in the label map."""
    for case in cases:
        if labels is None or case.annotated is None:
            continue
        try:
            annotated = annotated_structures(labels, case.annotated)
        except DatasetError as error:
            yield Fault(case=case.id, what=str(error), remedy="correct its list of annotated labels")
            continue
        if more := not_annotated(labels, annotated, values.get(case.id, ())):
            listed = ", ".join(case.annotated)
            what = f"its label map holds {', '.join(more)}, but its list of annotated labels names only {listed}"
            remedy = "add what is drawn in full in this case to the list, remove the voxels of the rest"
            yield Fault(case=case.id, what=what, remedy=remedy)
