"""What happens to each case of a prediction: it is read, predicted and written, each step by itself.

``predict_images`` runs the steps of successive cases side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnlite.data.channels import in_units_of, read_channels
from nnlite.data.dataset import Case
from nnlite.data.image import NO_DEPTH_MM, Image, StoredGrid
from nnlite.data.records import write_record
from nnlite.errors import ImageError, UsageError
from nnlite.inference.crf_case import ProbabilityVolume, crf_indices, room_for_probabilities
from nnlite.inference.ensemble import predict_cases
from nnlite.inference.familiarity import Familiarity
from nnlite.inference.postprocess import Postprocessing, apply
from nnlite.inference.predict import Model, ready_case
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.inference.retreat import with_retreat
from nnlite.pipeline.case_preview import PREVIEW_SUFFIX, Previews
from nnlite.pipeline.case_record import CaseRecord, Recorder, record_path
from nnlite.pipeline.instance_maps import instances_path, write_instances
from nnlite.pipeline.kept_volumes import ENTROPY_SUFFIX, PROBABILITIES_SUFFIX, volumes_kept
from nnlite.pipeline.mask_output import MaskOutput
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.instances import find_instances
from nnlite.preprocessing.preprocess import NormalizedCase, PreprocessedCase, normalize_case
from nnlite.preprocessing.restore import KeepProbabilities, Region

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCase:
    """A case that was read: preprocessed for each model, or as an ``Image`` where a network has to see it first.

    ``normalized`` is its image as a CRF compares voxels, None where none is to be applied.
    """

    case: Case
    mask: Path
    grid: StoredGrid
    seen: Familiarity
    content: Sequence[PreprocessedCase] | Image
    normalized: NormalizedCase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedCase:
    """A mask that only has to be written, with the values of the training labels, and what is told of it.

    ``instances`` are the numbers of its single objects, None where they are not told apart.
    """

    case: Case
    mask: Path
    grid: StoredGrid
    values: np.ndarray
    record: CaseRecord
    instances: np.ndarray | None = None

    def beside(self) -> tuple[str, ...]:
        """How the name of its map of instances ends, where there is one."""
        return () if self.instances is None else (instances_path(Path(), "", self.grid).name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSteps:
    """The steps of a case, and what all cases of a prediction share.

    ``images`` are files that no mask may overwrite. ``previews`` is None where none are wanted.
    """

    models: Sequence[Model]
    notes: Recorder
    rules: Postprocessing
    output: Path
    masks_as: MaskOutput
    images: frozenset[Path]
    probabilities: bool
    entropy: bool
    previews: Previews | None

    def read(self, case: Case) -> ReadCase:
        """Read a case, and preprocess it unless one of the models is a cascade."""
        first, plan = self.models[0], self.models[0].plan
        orientation = first.arithmetic.orientation
        given = read_channels(case.images, self.masks_as.series, orientation=orientation, reference=plan.reference)
        if given.resampled:
            moved = ", ".join(plan.channels[place] for place in given.resampled)
            logger.warning("%s: %s resampled onto the grid of %s (linear)", case.id, moved, plan.reference_channel)
        image = in_units_of(given, first.configuration.spacing_mm, sized=plan.sized_images)
        if plan.sized_images:
            _require_size(case, image, first.configuration.spacing_mm)
        mask = self.masks_as.path(self.output, case.id, image.stored)
        if mask.resolve() in self.images:
            raise UsageError(f"the mask of {case.id} would overwrite its image {mask}; choose another folder with -o")
        # from here on the grid is enough: the voxels of a large scan are let go
        alone = all(model.configuration.previous_stage is None for model in self.models)
        content = self._ready(case.id, image) if alone else image
        seen, normalized = self.notes.look(image), None
        if self.rules.crf is not None:
            spacing_mm = image.geometry.spacing_mm
            normalized = normalize_case(case.id, image.array, spacing_mm, plan, first.configuration)
        return ReadCase(case=case, mask=mask, grid=image.stored, seen=seen, content=content, normalized=normalized)

    def predict(self, coming: Future[ReadCase]) -> PredictedCase | ImageError:
        """Predict a case as soon as it is read, and write its probabilities if asked for; returns an image's fault."""
        try:
            read = coming.result()
            name, content = read.case.id, read.content
            cases = self._ready(name, content) if isinstance(content, Image) else content
        except ImageError as error:
            return error
        labels = self.models[0].plan.labels
        decision, wanted = Decision.by(labels), {"probabilities": self.probabilities, "entropy": self.entropy}
        volume = room_for_probabilities(name, read.grid.canonical_shape, decision) if self.rules.crf else None
        with volumes_kept(self.output / name, read.grid, decision, **wanted) as keep:
            keepers = [one for one in (keep, volume) if one is not None]  # each try writes all of them anew

            def predicted(lighter: Sequence[Model]) -> tuple[np.ndarray, ReliabilityMeter]:
                meter = ReliabilityMeter(labels)
                return predict_cases(lighter, cases, keep_probabilities=_told_to_all(keepers), meter=meter), meter

            indices, meter = with_retreat(self.models, predicted, name)
        found = labels.without_border(indices) if volume is None else self._drawn_to_edges(read, volume)
        repaired = apply(found, self.rules, labels, voxel_ml=read.grid.geometry.voxel_volume_ml)
        told = self.notes.record(name, read.grid, repaired, meter, read.seen)
        values = labels.to_values(repaired)
        instances = find_instances(indices, repaired, labels)
        return PredictedCase(
            case=read.case, mask=read.mask, grid=read.grid, values=values, record=told, instances=instances
        )

    def _drawn_to_edges(self, read: ReadCase, volume: ProbabilityVolume) -> np.ndarray:
        """Label indices after the CRF."""
        assert read.normalized is not None, "the image is read for the CRF"
        assert self.rules.crf is not None, "without a CRF no probabilities are gathered"
        first = self.models[0]
        return crf_indices(
            read.normalized, volume.array, self.rules.crf, first.plan, first.configuration, device=first.device
        )

    def write(self, predicted: PredictedCase | ImageError) -> PredictedCase:
        """Write a mask, its record, and a preview if asked for; raises an image's fault."""
        if isinstance(predicted, ImageError):
            raise predicted
        name = predicted.case.id
        instances = instances_path(self.output, name, predicted.grid)
        if predicted.instances is None and predicted.mask.exists():
            instances.unlink(missing_ok=True)  # of the mask that is overwritten: nobody is to take it for the new one's
        self.masks_as.write(predicted.mask, name, predicted.values, predicted.grid)
        if predicted.instances is not None:
            write_instances(instances, predicted.instances, predicted.grid)
        write_record(record_path(self.output, name), predicted.record)
        if self.previews is not None:
            self.previews.write(self.output, name, predicted.values, predicted.grid)
        return predicted

    def beside(self) -> tuple[str, ...]:
        """How the names end of the files that lie beside mask and record."""
        wanted = {
            PROBABILITIES_SUFFIX: self.probabilities,
            ENTROPY_SUFFIX: self.entropy,
            PREVIEW_SUFFIX: self.previews is not None,
        }
        return tuple(suffix for suffix, here in wanted.items() if here)

    def _ready(self, case_id: str, image: Image) -> list[PreprocessedCase]:
        """The image as each of the models wants it."""
        return with_retreat(self.models, lambda lighter: [ready_case(one, case_id, image) for one in lighter], case_id)


def _told_to_all(keepers: Sequence[KeepProbabilities]) -> KeepProbabilities | None:
    """One that tells each of these; None where there is none."""

    def tell(region: Region, part: np.ndarray) -> None:
        for keeper in keepers:
            keeper(region, part)

    return tell if keepers else None


def _require_size(case: Case, image: Image, spacing_mm: Sequence[float]) -> None:
    """Raise ``ImageError`` for a picture without pixel size where the network was trained on pictures that have one."""
    trained_mm = [step for step in spacing_mm if step not in (1.0, NO_DEPTH_MM)]
    if not image.sized and trained_mm:
        raise ImageError(
            f"{case.images[0]}: states no size of its pixels, and the model was trained on pictures that do "
            f"({' x '.join(f'{step * 1000:.3g}' for step in trained_mm)} micrometres); state it as ImageJ or OME do"
        )
