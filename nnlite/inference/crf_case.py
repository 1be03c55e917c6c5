"""The dense CRF on a whole case: probabilities and image at full resolution in, label indices out.

Beside masks that are made slab by slab this is the one step that needs all probabilities of a case at once.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nnlite.errors import MemoryShortError
from nnlite.inference.crf import CrfParameters, dense_crf
from nnlite.networks.out_of_memory import is_out_of_memory, release
from nnlite.planning.planner import Configuration, Plan
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import NormalizedCase, inside
from nnlite.preprocessing.restore import Region

STANDARDISED = ("ct", "zscore")  # schemes whose intensities already come in standard deviations
SMALLEST_DIVISOR = 1e-8  # a constant channel becomes 0 and says nothing
CPU = torch.device("cpu")


class ProbabilityVolume:
    """Probabilities (channels, z, y, x) of labels or regions, gathered box by box: a ``KeepProbabilities``."""

    def __init__(self, shape: tuple[int, int, int], decision: Decision):
        nothing = np.array(decision.of_nothing, dtype=np.float32)
        self.array = np.broadcast_to(nothing[:, None, None, None], (len(nothing), *shape)).copy()

    def __call__(self, region: Region, part: np.ndarray) -> None:
        self.array[(slice(None), *region)] = part


def room_for_probabilities(case_id: str, shape: tuple[int, int, int], decision: Decision) -> ProbabilityVolume:
    """A volume for a case, to be asked for before anything is predicted; ``MemoryShortError`` names what does without.

    Its size is the same however few windows are predicted at a time, so that no retreat helps.
    """
    try:
        return ProbabilityVolume(shape, decision)
    except MemoryError as error:
        size = math.prod((len(decision.of_nothing), *shape)) * np.dtype(np.float32).itemsize
        raise MemoryShortError(_way_out(case_id, error, size)) from error


def crf_indices(
    case: NormalizedCase,
    probabilities: np.ndarray,
    parameters: CrfParameters,
    plan: Plan,
    configuration: Configuration,
    *,
    device: torch.device,
) -> np.ndarray:
    """Label indices (z, y, x) after the CRF; ``probabilities`` (channels, z, y, x) lie on the grid of the image.

    It looks at the channels of the files alone, not at windows and masks that are made of them. Outside of the box that
    the case was cropped to there is background. Without room on ``device`` the CPU computes; ``MemoryShortError`` where
    the main memory does not suffice either.
    """
    decision = replace(Decision.by(plan.labels), border=False)  # probabilities are those of labels
    indices = np.zeros(case.shape, dtype=np.uint8 if decision.labels <= 256 else np.int16)

    def computed(where: torch.device) -> np.ndarray:
        cropped = torch.from_numpy(np.ascontiguousarray(inside(probabilities, case.box, plan.transpose)))
        image = standardised(case.image[: len(plan.channels)], configuration.normalization)  # not what is made of them
        found = dense_crf(
            cropped.to(where), image.to(where), case.spacing_mm, parameters, exclusive=not decision.painted
        )
        return decision.from_probabilities(enumerate(found)).cpu().numpy()

    said = ""
    for where in dict.fromkeys((device, CPU)):
        try:
            inside(indices, case.box, plan.transpose)[...] = computed(where)
            return indices
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            said = _way_out(case.case_id, error, probabilities.nbytes)
        release(where)  # here, where the error no longer holds what had been computed
    raise MemoryShortError(said)


def _way_out(case_id: str, error: Exception, probability_bytes: int) -> str:
    """In words, that there is no memory for the CRF, and what can be done about it."""
    said = str(error).partition("\n")[0] or "not enough memory"
    return (
        f"{case_id}: {said}, for the dense CRF on probabilities of {probability_bytes / 2**30:.2f} GiB; close other "
        "programs, use a larger machine, or do without it: nnlite predict --no-postprocessing, nnlite select "
        "without --crf"
    )


def standardised(image: Tensor, schemes: tuple[str, ...]) -> Tensor:
    """A normalised image (channels, z, y, x) with all channels in units of their standard deviation.

    >>> standardised(torch.tensor([[[[0.0, 1.0]]]]), ("rgb_to_0_1",)).tolist()
    [[[[-1.0, 1.0]]]]
    """
    channels = []
    for channel, scheme in zip(image, schemes, strict=True):
        if scheme not in STANDARDISED:
            channel = (channel - channel.mean()) / channel.std(correction=0).clamp(min=SMALLEST_DIVISOR)
        channels.append(channel)
    return torch.stack(channels)
