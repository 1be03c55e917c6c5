"""The postprocessing that nnU-Net v2 chose for a model, read from its JSON file.

nnUNetv2_find_best_configuration and nnUNetv2_determine_postprocessing write their decision twice beside the predictions
of a cross-validation: ``postprocessing.pkl``, which is never opened here, and ``postprocessing.json``, with the names
of functions and their arguments in the order in which they are applied. nnU-Net has one such function; it keeps the
largest connected component of the voxels of some labels, and all of those that are equally large.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from nnlite.data.labels import Labels
from nnlite.errors import PlanError, UsageError
from nnlite.inference.postprocess import Postprocessing, Rule
from nnlite.interop.nnunet_plan import read_json

FILE = "postprocessing.json"
CROSS_VALIDATION = "crossval_results_folds_"  # and the folds' numbers: 0_1_2_3_4
KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"


def find_postprocessing(folder: Path, folds: Collection[str]) -> Path | None:
    """The decision for a result folder's ``folds`` ("fold0", "all"); None where there is none.

    ``UsageError`` where there are several, none of them for just these folds.
    """
    found = sorted([*folder.glob(FILE), *folder.glob(f"{CROSS_VALIDATION}*/{FILE}")])
    numbers = "_".join(sorted(fold.removeprefix("fold") for fold in folds))
    exact = [file for file in found if file.parent.name == CROSS_VALIDATION + numbers]
    if len(found) > 1 and not exact:
        raise UsageError(
            f"{folder} holds several decisions on postprocessing: {', '.join(map(str, found))}; "
            "say which with --postprocessing FILE"
        )
    return next(iter(exact or found), None)


def read_postprocessing(path: Path, labels: Labels) -> Postprocessing:
    """The rules in nnU-Net's ``postprocessing.json``, for a model of these labels.

    PlanError names the first function or argument that nnlite has no counterpart for.
    """
    content = read_json(path)
    names, arguments = content.get("postprocessing_fns"), content.get("postprocessing_kwargs")
    if not _are(names, str) or not _are(arguments, dict) or len(names) != len(arguments):
        raise PlanError(
            f'{path} is no decision of nnU-Net on postprocessing: "postprocessing_fns" and "postprocessing_kwargs" '
            "should be lists of the same length"
        )
    try:
        return Postprocessing(rules=tuple(map(_rule, names, arguments, [labels] * len(names))))
    except PlanError as problem:
        raise PlanError(f"{path}: {problem}; move the file away to import the model without postprocessing") from None


def _are(values: Any, kind: type) -> TypeGuard[list[Any]]:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _rule(name: str, arguments: Mapping[str, Any], labels: Labels) -> Rule:
    """One call of nnU-Net's function as a rule."""
    if name != KEEP_LARGEST:
        raise PlanError(f"nnlite has no postprocessing {name}, only {KEEP_LARGEST}")
    known = {"labels_or_regions", "background_label"}
    if unknown := sorted(arguments.keys() - known):
        raise PlanError(f"{KEEP_LARGEST} has no argument {', '.join(unknown)} here")
    if (background := arguments.get("background_label", 0)) != 0:
        raise PlanError(f"{KEEP_LARGEST} makes removed voxels {background} (background_label), and here they become 0")
    values = set(_values(arguments.get("labels_or_regions", ())))
    by_value = dict(zip(labels.values, labels.names, strict=True))
    if not values or not values <= by_value.keys() - {0}:
        raise PlanError(
            f"{KEEP_LARGEST} works on the labels {sorted(values, key=str)}, and the model has {labels.in_words()}"
        )
    if values == by_value.keys() - {0}:
        return Rule(operation="keep_largest", ties="all")
    if len(values) == 1:
        return Rule(operation="keep_largest", label=by_value[values.pop()], ties="all")
    named = ", ".join(by_value[value] for value in sorted(values))
    raise PlanError(f"{KEEP_LARGEST} works on {named} taken together; nnlite does so on single labels, or on all")


def _values(labels_or_regions: Any) -> Iterable[Any]:
    """The label values in a label, a region, or a list of both: nnU-Net takes all of them together."""
    if isinstance(labels_or_regions, list | tuple):
        for one in labels_or_regions:
            yield from _values(one)
    else:
        yield labels_or_regions
