"""What is measured of a prediction follows from its probabilities and members, however the image is cut."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nnlite.data.labels import Labels
from nnlite.inference.predict import Model, predict_case
from nnlite.inference.reliability import Agreement, ReliabilityMeter, normalized_entropy, regions_entropy
from nnlite.inference.sliding_window import mirrored_mean
from nnlite.preprocessing.preprocess import PreprocessedCase, Restoration

LABELS = Labels(names=("background", "ball", "core"), values=(0, 1, 2))
BALL = Labels(names=("background", "ball"), values=(0, 1))


def random_logits(*shape: int) -> Tensor:
    return 3 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))


def test_the_estimated_dice_is_the_soft_dice_of_mask_and_probabilities():
    ball = torch.tensor([0.9, 0.6, 0.2, 0.0]).reshape(1, 1, 4)
    meter = ReliabilityMeter(LABELS)
    meter.add(torch.stack([1 - ball, ball, torch.zeros_like(ball)]))
    features = meter.features()
    # the ball wins the first two voxels: 2 x (0.9 + 0.6) / (1.7 + 2)
    assert features[0].estimated_dice == pytest.approx(3 / 3.7)
    assert (features[0].label, features[1].label, features[1].estimated_dice) == ("ball", "core", None)
    assert features[0].flip_agreement is None
    assert features[0].fold_agreement is None
    assert features[0].configuration_agreement is None


def test_slabs_pass_unchanged_and_their_cut_does_not_matter():
    logits = random_logits(6, 5, 4)
    whole, parts = ReliabilityMeter(LABELS), ReliabilityMeter(LABELS)
    assert [slab is logits for slab in whole.passing([logits])] == [True]
    passed = torch.cat(list(parts.passing(logits.split([1, 3, 2], dim=1))), dim=1)
    assert torch.equal(passed, logits)
    for one, other in zip(whole.features(), parts.features(), strict=True):
        assert one.estimated_dice == pytest.approx(other.estimated_dice, abs=1e-6)


def test_agreement_is_one_among_equals_and_half_where_half_of_the_answers_miss_a_label():
    mask = torch.tensor([0, 1, 1, 0])
    equal, torn = Agreement(BALL), Agreement(BALL)
    equal.add([mask, mask, mask], mask)
    torn.add([mask, torch.zeros_like(mask)], mask)
    assert equal.dice()[0] == 1
    assert torn.dice()[0] == pytest.approx(2 * 2 / (2 + 4))  # shared 2; sizes 2 + 0, and twice 2 of all together
    torn.include(equal)
    assert torn.dice()[0] == pytest.approx(2 * (2 + 6) / (6 + 12))
    assert np.isnan(Agreement(BALL).dice()).all()


def test_regions_are_measured_each_on_its_own_by_the_mask_that_is_painted():
    labels = Labels.from_table({"organ": [1, 2], "tumour": 2})
    meter = ReliabilityMeter(labels)
    organ, tumour = torch.tensor([0.9, 0.8, 0.4, 0.1]), torch.tensor([0.1, 0.7, 0.6, 0.2])
    meter.add(torch.stack([organ, tumour])[:, None, None])
    found = {one.label: one.estimated_dice for one in meter.features()}
    # painted 1, 2, 2, 0: the organ's mask is the first three voxels, the tumour's the second and the third
    assert found == pytest.approx({"organ": 2 * 2.1 / (2.2 + 3), "tumour": 2 * 1.3 / (1.6 + 2)})
    meter.flips.add([torch.tensor([1, 2, 0, 0]), torch.tensor([1, 1, 2, 0])], torch.tensor([1, 2, 2, 0]))
    agreement = {one.label: one.flip_agreement for one in meter.features()}
    assert agreement == pytest.approx({"organ": 2 * (2 + 3) / (2 + 3 + 2 * 3), "tumour": 2 * (1 + 1) / (1 + 1 + 2 * 2)})
    logits = torch.stack([organ, tumour])[None].logit()
    assert meter.flips.answer(logits).tolist() == [[1, 2, 2, 0]]


def test_flips_agree_where_a_network_follows_them_and_not_where_it_prefers_a_side():
    batch = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    side = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8)
    follows, prefers = Agreement(BALL), Agreement(BALL)
    mirrored_mean(lambda x: torch.cat([0.5 - x, x - 0.5], dim=1), batch, (0, 1), compare=follows)
    mirrored_mean(lambda x: torch.cat([0 * x, x - 0.5 + side], dim=1), batch, (0, 1), compare=prefers)
    assert follows.dice()[0] == 1
    assert prefers.dice()[0] < 0.8


class Answer(nn.Module):
    """Logits that say ball where the image is above a limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, batch: Tensor) -> Tensor:
        above = batch[:, :1] - self.limit
        return torch.cat([-above, above, torch.full_like(above, -9)], dim=1)


def case() -> PreprocessedCase:
    shape = (16, 16, 16)
    restoration = Restoration(
        case_id="a",
        shape=shape,
        box=((0, 16), (0, 16), (0, 16)),
        transpose=(0, 1, 2),
        cropped_shape=shape,
        spacing_mm=(1.0, 1.0, 1.0),
        resampled_shape=shape,
        resampled_spacing_mm=(1.0, 1.0, 1.0),
    )
    image = np.linspace(0, 1, 16**3, dtype=np.float32).reshape(1, *shape)
    return PreprocessedCase(case_id="a", image=image, label=None, previous=None, restoration=restoration)


def test_a_model_tells_how_its_folds_agree_and_its_mask_stays_the_same():
    plan = tiny.plan()

    def model(*limits: float) -> Model:
        return Model(
            plan=plan,
            configuration=plan.configuration("3d"),
            networks=tuple(Answer(limit) for limit in limits),
            device=torch.device("cpu"),
            mirror_axes=(0, 2),
        )

    apart, alone = ReliabilityMeter(LABELS), ReliabilityMeter(LABELS)
    mask = predict_case(model(0.25, 0.75), case(), meter=apart)
    np.testing.assert_array_equal(mask, predict_case(model(0.25, 0.75), case()))
    ball = apart.features()[0]
    # the folds say ball in 3/4 and 1/4 of the voxels, together in 1/2: 2 x (1/2 + 1/4) / (3/4 + 1/4 + 2 x 1/2)
    assert ball.fold_agreement == pytest.approx(0.75, abs=0.01)
    assert ball.flip_agreement == 1
    predict_case(model(0.5), case(), meter=alone)
    assert alone.features()[0].fold_agreement is None


@given(st.integers(2, 6), st.integers(0, 100))
def test_normalised_entropy_lies_between_0_for_certain_and_1_for_undecided(labels: int, seed: int):
    shares = np.random.default_rng(seed).dirichlet(np.full(labels, 0.3), size=8).T.reshape(labels, 2, 2, 2)
    entropy = normalized_entropy(shares.astype(np.float32))
    assert entropy.shape == (2, 2, 2)
    assert (entropy >= 0).all()
    assert (entropy <= 1).all()
    assert normalized_entropy(np.full((labels, 1, 1, 1), 1 / labels)) == pytest.approx(1)


def test_the_most_undecided_region_counts():
    shares = np.array([0.5, 1.0, 0.2])[:, None, None, None]
    assert regions_entropy(shares) == pytest.approx(1)
    assert regions_entropy(shares[1:]) == pytest.approx(-(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8)))
