"""The mean probability decides, whoever is alone with a high one; models advance together, slab by slab."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from inference.test_predict import Constant, Threshold, configuration, in_memory, model, noise, plan
from torch import Tensor

from nnlite.inference.ensemble import combine, combine_each, predict_together
from nnlite.inference.predict import predict_image
from nnlite.preprocessing import restore as restoring
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import Restoration
from nnlite.preprocessing.resample import resample


def way_back(shape: tuple[int, int, int], resampled: tuple[int, int, int] | None = None) -> Restoration:
    z, y, x = shape
    return Restoration(
        case_id="a",
        shape=shape,
        box=((0, z), (0, y), (0, x)),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=resampled or shape,
        resampled_spacing_mm=(1.0, 1.0, 1.0),
    )


def member(probabilities: list[list[float]]) -> tuple[Tensor, Restoration]:
    """One voxel per column, one label per row; the logarithm of a probability is a logit that gives it."""
    logits = torch.tensor(probabilities).clamp_min(1e-6).log()[:, None, None, :]
    return logits, way_back((1, 1, logits.shape[-1]))


def test_the_label_with_the_highest_mean_probability_wins():
    first = member([[0.4, 0.1], [0.6, 0.3], [0.0, 0.6]])
    second = member([[0.7, 0.2], [0.3, 0.6], [0.0, 0.2]])
    # means of voxel 0: 0.55, 0.45, 0; of voxel 1: 0.15, 0.45, 0.4
    assert combine([first, second], decision=Decision(labels=3)).tolist() == [[[0, 1]]]


def test_members_count_alike():
    sure, unsure = member([[0.0], [1.0]]), member([[0.6], [0.4]])
    # mean of label 1: (1 + 0.4 + 0.4) / 3 = 0.6 against 0.4, although two of three say background
    assert combine([sure, unsure, unsure], decision=Decision(labels=2)).item() == 1


def test_members_on_different_grids_meet_on_the_image_s_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(restoring, "STACKED_SCORES", 1)  # slice by slice
    generator = torch.Generator().manual_seed(0)
    shape = (9, 10, 8)
    members = [
        (torch.randn((4, *grid), generator=generator), way_back(shape, grid)) for grid in ((9, 10, 8), (5, 13, 9))
    ]
    kept = torch.zeros(4, *shape)

    def keep(region, probabilities):
        kept[(slice(None), *region)] = torch.from_numpy(probabilities)

    slab_by_slab = [(iter(logits.split(2, dim=1)), restoration) for logits, restoration in members]
    combined = combine(slab_by_slab, decision=Decision(labels=4), keep_probabilities=keep)
    mean = sum(resample(logits, shape, order=1).softmax(dim=0) for logits, _ in members) / 2
    torch.testing.assert_close(kept, mean)
    best = mean.sort(dim=0, descending=True).values
    clear = (best[0] - best[1] > 1e-5).numpy()
    np.testing.assert_array_equal(combined[clear], mean.argmax(dim=0).numpy()[clear])
    assert combined.dtype == np.uint8


def test_models_answer_together_for_a_raw_image():
    array = noise(9, 10, 12)
    array[:2] = 0  # cropped away: background whatever the models say
    image = in_memory(array)
    fine, coarse = configuration("3d"), configuration("3d-lowres", spacing_mm=(4.0, 2.0, 2.0))
    both = plan(fine, coarse)
    # probabilities of label 1: 0.27 from the first; 0.95 from the second; the mean, 0.61, says label 1
    first = replace(model(Constant(0.5, -0.5)), plan=both)
    second = replace(model(Constant(-1.5, 1.5)), plan=both, configuration=coarse)
    assert not predict_image(first, "a", image).indices.any()
    np.testing.assert_array_equal(predict_together([first, second], "a", image).indices, array > 0)


def test_one_model_alone_says_what_it_always_says():
    image = in_memory(noise(9, 10, 12))
    alone = model(Threshold())
    assert np.array_equal(predict_together([alone], "a", image).indices, predict_image(alone, "a", image).indices)


def test_predictions_of_different_cases_are_refused():
    logits, restoration = member([[1.0], [0.0]])
    with pytest.raises(ValueError, match="predictions of one case"):
        combine([(logits, restoration), (logits, replace(restoration, case_id="b"))], decision=Decision(labels=2))


def test_predictions_with_different_labels_are_refused():
    with pytest.raises(ValueError, match="2 and 3 labels"):
        combine([member([[1.0], [0.0]]), member([[1.0], [0.0], [0.0]])], decision=Decision(labels=2))
    with pytest.raises(ValueError, match="not none"):
        predict_together([], "a", in_memory(noise(8, 8, 8)))


def test_several_ensembles_of_one_case_are_what_each_would_be_alone():
    generator = torch.Generator().manual_seed(0)
    shape = (9, 10, 8)
    logits = [torch.randn((3, *shape), generator=generator) for _ in range(3)]
    groups = [(0, 1), (2, 1), (0, 1, 2)]
    together = combine_each([(one, way_back(shape)) for one in logits], groups, decision=Decision(labels=3))
    for mask, group in zip(together, groups, strict=True):
        alone = combine([(logits[member], way_back(shape)) for member in group], decision=Decision(labels=3))
        np.testing.assert_array_equal(mask, alone)
    assert not np.array_equal(together[0], together[1])
