"""Scores become labels: of those that exclude each other the highest wins, of regions the last one that is there."""

from __future__ import annotations

import pytest
import torch

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.preprocessing.decide import Decision

PLAIN = Decision.by(Labels(names=("background", "liver", "tumour"), values=(0, 1, 2)))
REGIONS = Decision.by(Labels.from_table({"organ": [1, 2], "tumour": 2}))


def test_the_highest_score_wins_and_the_first_of_those_that_tie():
    scores = torch.tensor([[0.0, 3.0, 1.0], [1.0, 3.0, 0.0], [0.0, 2.0, 2.0]])
    assert PLAIN.from_logits(enumerate(scores)).tolist() == [1, 0, 2]


def test_regions_are_painted_one_over_the_other_where_they_are_more_likely_than_not():
    organ, tumour = torch.tensor([-1.0, 2.0, 2.0, -1.0, 0.0]), torch.tensor([-1.0, -1.0, 2.0, 2.0, 0.0])
    logits = torch.stack([organ, tumour])
    expected = [0, 1, 2, 2, 0]  # neither, one, both, the inner one alone, and undecided
    assert REGIONS.from_logits(enumerate(logits)).tolist() == expected
    assert REGIONS.from_probabilities(enumerate(REGIONS.probabilities(logits))).tolist() == expected


def test_probabilities_of_labels_share_one_and_those_of_regions_do_not():
    logits = torch.zeros(3, 1, 1, 1)
    assert PLAIN.probabilities(logits).flatten().tolist() == pytest.approx([1 / 3] * 3)
    assert REGIONS.probabilities(logits[:2]).flatten().tolist() == [0.5, 0.5]


def test_where_nothing_was_looked_at_there_is_background_and_no_region():
    assert (PLAIN.channels, PLAIN.of_nothing) == (3, (1.0, 0.0, 0.0))
    assert (REGIONS.channels, REGIONS.of_nothing) == (2, (0.0, 0.0))


def test_the_border_of_instances_is_a_part_of_its_label_and_keeps_an_index_of_its_own():
    nuclei = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    decision = Decision.by(nuclei)
    probabilities = torch.tensor([[0.4, 0.4, 0.6, 0.2], [0.35, 0.25, 0.2, 0.4], [0.25, 0.35, 0.2, 0.4]])
    expected = [1, 2, 0, 1]  # together above the background; which of the two is higher; the label where they tie
    assert decision.from_probabilities(enumerate(probabilities)).tolist() == expected
    assert decision.from_logits(enumerate(probabilities.log() + 3)).tolist() == expected
    assert decision.of_labels(probabilities)[1].tolist() == pytest.approx([0.6, 0.6, 0.4, 0.8])
    assert decision.without_border(torch.tensor(expected)).tolist() == [1, 1, 0, 1]
    assert (decision.channels, decision.of_nothing) == (3, (1.0, 0.0))
