"""The mean probability decides, whoever is alone with a high one."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.inference.ensemble import combine
from nnlite.inference.predict import Prediction


def prediction(probabilities: list[list[float]], case_id: str = "a") -> Prediction:
    """One voxel per column, one label per row."""
    array = np.array(probabilities, dtype=np.float16)[:, None, None, :]
    return Prediction(case_id=case_id, indices=array.argmax(axis=0).astype(np.uint8), probabilities=array)


def test_the_label_with_the_highest_mean_probability_wins() -> None:
    first = prediction([[0.4, 0.1], [0.6, 0.3], [0.0, 0.6]])
    second = prediction([[0.7, 0.2], [0.3, 0.6], [0.0, 0.2]])
    # means of voxel 0: 0.55, 0.45, 0; of voxel 1: 0.15, 0.45, 0.4
    assert combine([first, second]).indices.tolist() == [[[0, 1]]]


def test_members_count_alike() -> None:
    sure, unsure = prediction([[0.0], [1.0]]), prediction([[0.6], [0.4]])
    # mean of label 1: (1 + 0.4 + 0.4) / 3 = 0.6 against 0.4, although two of three say background
    assert combine([sure, unsure, unsure]).indices.item() == 1


def test_one_prediction_stays_what_it_is() -> None:
    alone = prediction([[0.2, 0.5, 0.1], [0.7, 0.3, 0.1], [0.1, 0.2, 0.8]])
    combined = combine([alone])
    assert np.array_equal(combined.indices, alone.indices)
    assert combined.indices.dtype == np.uint8


def test_the_order_of_the_members_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    members = []
    for _ in range(3):
        scores = generator.random((4, 3, 5, 2))
        array = (scores / scores.sum(axis=0)).astype(np.float16)
        members.append(Prediction(case_id="a", indices=array.argmax(axis=0).astype(np.uint8), probabilities=array))
    combined = combine(members).indices
    assert np.array_equal(combined, combine(members[::-1]).indices)
    mean = np.mean([member.probabilities.astype(np.float32) for member in members], axis=0)
    assert np.array_equal(combined, mean.argmax(axis=0))


def test_predictions_of_different_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="predictions of one case"):
        combine([prediction([[1.0], [0.0]], "a"), prediction([[1.0], [0.0]], "b")])


def test_predictions_with_different_labels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a \(2, 1, 1, 1\), a \(3, 1, 1, 1\)"):
        combine([prediction([[1.0], [0.0]]), prediction([[1.0], [0.0], [0.0]])])


def test_predictions_without_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="a carries no probabilities"):
        combine([Prediction(case_id="a", indices=np.zeros((1, 1, 1), np.uint8))])
