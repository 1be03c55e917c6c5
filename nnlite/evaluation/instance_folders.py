"""Score folders of predicted instances against the truth.

A prediction may be a map of instance numbers, ``CASE.instances.EXT`` as ``nnlite predict`` writes it beside its mask.
Where there is none the mask itself is taken: what is connected in it is one instance, unless it is a map of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nnlite.data.channels import grid_differences
from nnlite.data.dataset import UNNAMED_OBJECTS, with_instances
from nnlite.data.description import DESCRIPTION_FILE
from nnlite.data.image import IMAGE_SUFFIXES, Image, image_suffix, read_label
from nnlite.data.instances import COMPONENTS, INSTANCES, NUMBERED, components, renumbered
from nnlite.data.labels import Labels, values_in
from nnlite.data.progress import Progress, silent
from nnlite.errors import DatasetError, ImageError
from nnlite.evaluation.instance_scores import InstanceScore, InstanceScores, score_instances
from nnlite.evaluation.masks import MaskPair, find_labels, labels_in, pair_masks


def evaluate_instances(truth: Path, prediction: Path, *, progress: Progress = silent) -> InstanceScores:
    """Score the instances of every label map in ``truth``; both may also be single files.

    Whether true instances are numbered or connected components stands in an nnlite.json in or beside the truth folder;
    without a word there they are components. Where they are numbered, a prediction with several numbers is taken by
    these, too. All faults are listed in one ``DatasetError``.
    """
    table = find_labels(truth)
    pairs, missing = pair_masks(truth, prediction)
    faults = [f"{case_id}: no prediction of that name in {prediction}; predict it as well" for case_id in missing]
    rows: list[InstanceScore] = []
    for done, pair in enumerate(pairs, start=1):
        try:
            rows.append(_scored(pair, table))
        except (ImageError, DatasetError) as problem:
            faults.append(f"{pair.case_id}: {problem}")
        progress("evaluate instances", done, len(pairs))
    if faults:
        cases = len(pairs) + len(missing)
        raise DatasetError("\n  ".join([f"{len(faults)} of {cases} cases cannot be scored:", *faults]))
    return InstanceScores(rows=tuple(rows))


def instances_beside(mask: Path) -> Path | None:
    """The map of instance numbers that lies beside a mask; None where there is none."""
    case_id = mask.name.removesuffix(image_suffix(mask) or "")
    found = (mask.with_name(f"{case_id}{INSTANCES}{suffix}") for suffix in IMAGE_SUFFIXES)
    return next((path for path in found if path.exists()), None)


def _scored(pair: MaskPair, table: Labels | None) -> InstanceScore:
    truth, numbers = read_label(pair.truth), instances_beside(pair.prediction)
    predicted = read_label(numbers or pair.prediction)
    if differences := grid_differences(truth, predicted, names=("truth", "prediction")):
        raise DatasetError(f"{'; '.join(differences)} ({numbers or pair.prediction}); predict from the same image")
    masks = [(truth, pair.truth)] + ([] if numbers else [(predicted, pair.prediction)])
    labels = _with_instances(table or _labels_of(masks))
    true = labels.to_instances(truth.array[0])
    found = renumbered(predicted.array[0]) if numbers else _parts(predicted.array[0], labels)
    if labels.ignore is not None:
        found = np.where(truth.array[0] == labels.ignore, 0, found)
    return score_instances(pair.case_id, true, found)


def _labels_of(masks: Iterable[tuple[Image, Path]]) -> Labels:
    """The table of the first mask that is not empty: an empty one does not tell which value an object would have."""
    for image, path in masks:
        values = [value for value in values_in(image.array) if value != 0]
        if len(values) > 1:
            raise DatasetError(
                f'{path} holds {len(values)} different values; if they are numbers of objects, write "instances": '
                f'"{NUMBERED}" into an {DESCRIPTION_FILE} in or beside the folder of the truth; single objects of '
                "several labels are not scored"
            )
        if values:
            return labels_in(image, path)
    return UNNAMED_OBJECTS


def _parts(mask: np.ndarray, labels: Labels) -> np.ndarray:
    """The instances of a predicted mask: a single value is no number of an object, even where objects are numbered."""
    objects = labels.to_indices(mask) == 1
    plain = len(np.unique(mask[objects])) <= 1
    return components(objects) if plain else labels.to_instances(mask)


def _with_instances(labels: Labels) -> Labels:
    return labels if labels.instances is not None else with_instances(labels, COMPONENTS)
