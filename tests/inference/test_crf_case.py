"""A case's CRF works in its crop and axis order, and what comes back lies on the grid of the image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.errors import MemoryShortError
from nnlite.inference import crf_case
from nnlite.inference.crf import CrfParameters, dense_crf
from nnlite.inference.crf_case import ProbabilityVolume, crf_indices
from nnlite.planning.hu_channels import HuChannel
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.preprocess import normalize_case

CPU = torch.device("cpu")
PARAMETERS = CrfParameters(
    smoothness_weight=1, smoothness_mm=1.5, appearance_weight=4, appearance_mm=4, appearance_intensity=0.5
)
SHAPE, SPACING_MM = (7, 9, 8), (3.0, 1.0, 2.0)


def random_case(plan):
    rng = np.random.default_rng(0)
    image = np.zeros((1, *SHAPE), dtype=np.float32)
    image[:, 1:6, 2:, :7] = rng.normal(5, 1, (1, 5, 7, 7))
    case = normalize_case("case", image, SPACING_MM, plan, plan.configurations["3d"])
    logits = torch.from_numpy(rng.normal(0, 1, (plan.labels.outputs, *SHAPE)).astype(np.float32))
    return case, logits


def test_the_field_is_that_of_the_crop_in_the_axis_order_of_the_plan():
    plan = replace(tiny.plan(), transpose=(2, 0, 1))
    case, logits = random_case(plan)
    probabilities = logits.softmax(dim=0).numpy()
    found = crf_indices(case, probabilities, PARAMETERS, plan, plan.configurations["3d"], device=CPU)
    crop = torch.from_numpy(np.ascontiguousarray(probabilities[:, 1:6, 2:, :7].transpose(0, 3, 1, 2)))
    expected = dense_crf(crop, case.image, (2.0, 3.0, 1.0), PARAMETERS).argmax(dim=0)
    assert np.array_equal(found[1:6, 2:, :7].transpose(2, 0, 1), expected)
    outside = np.ones(SHAPE, dtype=bool)
    outside[1:6, 2:, :7] = False
    assert found.shape == SHAPE
    assert not found[outside].any()


def test_regions_are_fields_of_their_own_and_are_painted():
    labels = Labels.from_table({"organ": [1, 2], "tumour": 2})
    plan = replace(tiny.plan(), labels=labels)
    case, logits = random_case(plan)
    found = crf_indices(case, logits.sigmoid().numpy(), PARAMETERS, plan, plan.configurations["3d"], device=CPU)
    inside = logits.sigmoid()[:, 1:6, 2:, :7].contiguous()
    organ, tumour = dense_crf(inside, case.image, SPACING_MM, PARAMETERS, exclusive=False) > 0.5
    assert np.array_equal(found[1:6, 2:, :7], torch.where(tumour, 2, organ.long()))


def test_probabilities_of_instances_are_those_of_their_label():
    labels = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    volume = ProbabilityVolume(SHAPE, Decision.by(labels))
    assert volume.array.shape == (2, *SHAPE)
    assert (volume.array[0] == 1).all()
    volume((slice(0, 1), slice(0, 1), slice(0, 2)), np.full((2, 1, 1, 2), 0.5, dtype=np.float32))
    assert volume.array[:, 0, 0].tolist() == [[0.5, 0.5, 1, 1, 1, 1, 1, 1], [0.5, 0.5, 0, 0, 0, 0, 0, 0]]


def test_channels_that_are_made_of_the_image_s_own_play_no_part():
    made = HuChannel(source="MR", name="bright", kind="mask", low_hu=5.0, high_hu=None)
    plan = replace(tiny.plan(), hu_channels=(made,))
    (case, logits), (plain, _) = random_case(plan), random_case(tiny.plan())
    assert (len(case.image), len(plain.image)) == (2, 1)
    probabilities, configuration = logits.softmax(dim=0).numpy(), plan.configurations["3d"]
    found = crf_indices(case, probabilities, PARAMETERS, plan, configuration, device=CPU)
    expected = crf_indices(plain, probabilities, PARAMETERS, tiny.plan(), configuration, device=CPU)
    assert np.array_equal(found, expected)


def test_without_room_on_the_device_the_cpu_computes(monkeypatch: pytest.MonkeyPatch):
    plan = tiny.plan()
    case, logits = random_case(plan)
    small = torch.device("meta")  # any other than the CPU

    def full(probabilities, *arguments, **options):
        if probabilities.device == small:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return dense_crf(probabilities, *arguments, **options)

    monkeypatch.setattr(crf_case, "dense_crf", full)
    monkeypatch.setattr(crf_case, "release", lambda device: None)
    probabilities = logits.softmax(dim=0).numpy()
    configuration = plan.configurations["3d"]
    there = crf_indices(case, probabilities, PARAMETERS, plan, configuration, device=small)
    assert np.array_equal(there, crf_indices(case, probabilities, PARAMETERS, plan, configuration, device=CPU))


@pytest.mark.parametrize(
    "error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError("Unable to allocate 3.2 GiB")]
)
def test_without_room_anywhere_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception):
    plan = tiny.plan()
    case, logits = random_case(plan)
    tried = []

    def full(probabilities, *arguments, **options):
        tried.append(probabilities.device.type)
        raise error

    monkeypatch.setattr(crf_case, "dense_crf", full)
    monkeypatch.setattr(crf_case, "release", lambda device: None)
    probabilities, configuration = logits.softmax(dim=0).numpy(), plan.configurations["3d"]
    with pytest.raises(MemoryShortError, match=r"case: .*llocate.* GiB; .* predict --no-postprocessing, nnlite"):
        crf_indices(case, probabilities, PARAMETERS, plan, configuration, device=torch.device("meta"))
    assert tried == ["meta", "cpu"]


def test_other_errors_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch):
    plan = tiny.plan()
    case, logits = random_case(plan)

    def broken(*arguments, **options):
        raise RuntimeError("wrong shape")

    monkeypatch.setattr(crf_case, "dense_crf", broken)
    probabilities, configuration = logits.softmax(dim=0).numpy(), plan.configurations["3d"]
    with pytest.raises(RuntimeError, match="wrong shape"):
        crf_indices(case, probabilities, PARAMETERS, plan, configuration, device=CPU)
