"""A page of pictures: what an augmentation makes of a patch, before hours are spent on training with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nnlite.data.progress import Progress, silent
from nnlite.evaluation.contact_sheet import Tile, contact_sheet, write_sheet
from nnlite.pipeline.plan_dataset import DEFAULT_WORK, locate_dataset, read_plan
from nnlite.pipeline.prepare_cases import prepare
from nnlite.planning.variants import parted
from nnlite.preprocessing.store import CaseStore
from nnlite.training.augmentation.augmentation import Augmentation
from nnlite.training.augmentation.examples import examples
from nnlite.training.augmentation.presets import PresetName
from nnlite.training.patches import PatchLoader

COLUMNS = 6
SAMPLES = 6  # as they are trained on: a row
PLACES = 3  # drawn for the patch, of which the last lies on foreground


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAugmentation:
    """The page, the case whose patch is on it, and how many pictures there are."""

    path: Path
    case_id: str
    pictures: int


def show_augmentation(
    dataset: Path,
    configuration: str,
    output: Path,
    *,
    augmentation: PresetName = "nnunet",
    seed: int = 0,
    work: Path = DEFAULT_WORK,
    progress: Progress = silent,
) -> ShownAugmentation:
    """Draw a patch as it lies in its case, after each transform of a preset alone, and in six samples of a training.

    Another ``seed`` takes another case and draws anew. Cases are preprocessed first where that is missing, as for a
    training. The first channel is shown, with the labels as tints.
    """
    found, workspace = locate_dataset(dataset, work)
    plan = read_plan(workspace, parted(configuration)[1])
    planned = plan.configuration(configuration)
    suited = Augmentation.of(augmentation, plan, planned)
    folders = prepare(found, workspace, plan, [planned], progress=progress)
    store = CaseStore(folders[configuration])
    ids = store.ids()
    case_id = ids[seed % len(ids)]
    loader = PatchLoader.of(plan, replace(planned, batch_size=PLACES), {case_id: store.open(case_id)})
    tiles = [
        Tile(title=example.title, image=example.image, label=example.label)
        for example in examples(loader, suited, samples=SAMPLES, seed=seed)
    ]
    high, wide = planned.spacing_mm[-2:]
    write_sheet(output, contact_sheet((tiles[:-SAMPLES], tiles[-SAMPLES:]), columns=COLUMNS, proportion=high / wide))
    return ShownAugmentation(path=output, case_id=case_id, pictures=len(tiles))
