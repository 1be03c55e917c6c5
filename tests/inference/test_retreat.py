"""A case is predicted with what memory there is, to the same mask; only the lack of memory is a reason to retreat."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from nnlite.errors import MemoryShortError
from nnlite.inference.crf_case import ProbabilityVolume
from nnlite.inference.predict import Model, predict_case
from nnlite.inference.reliability import ReliabilityMeter
from nnlite.inference.retreat import Elsewhere, with_retreat
from nnlite.networks.build import build_network
from nnlite.preprocessing.decide import Decision
from nnlite.preprocessing.store import StoredCase


class Cramped(nn.Module):
    """A network on a device that has memory for so many windows at a time, from the n-th call on."""

    def __init__(self, network: nn.Module, windows: int, *, after: int = 0):
        super().__init__()
        self.network, self.windows, self.calls_left = network, windows, after
        self.under_way, self.counting = 0, Lock()

    def forward(self, batch: Tensor) -> Tensor:
        with self.counting:
            self.calls_left -= 1
            self.under_way += len(batch)
            crowded = self.under_way > self.windows and self.calls_left < 0
        try:
            if crowded:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB\nand much more text")
            time.sleep(0.05)  # until another thread has come as well, where there is one
            return self.network(batch)
        finally:
            self.under_way -= len(batch)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def model(wrap=lambda network: network) -> Model:
    torch.manual_seed(0)
    plan = tiny.plan()
    configuration = plan.configuration("3d")
    network = wrap(build_network(plan, configuration))
    return Model(plan=plan, configuration=configuration, networks=(network,), device=torch.device("cpu"))


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    return tiny.store_cases(tmp_path)["case_0"]


def predicted(made: Model, case: StoredCase) -> tuple[np.ndarray, tuple]:
    def predict(models: Sequence[Model]) -> tuple[np.ndarray, tuple]:
        meter = ReliabilityMeter(models[0].plan.labels)
        return predict_case(models[0], case, meter=meter), meter.features()

    return with_retreat([made], predict, "case_0")


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("after", [0, 2])
def test_too_many_windows_at_a_time_become_fewer(
    after: int, case: StoredCase, caplog: pytest.LogCaptureFixture
) -> None:
    mask, features = predicted(model(), case)
    cramped, measured = predicted(model(lambda network: Cramped(network, 1, after=after)), case)
    np.testing.assert_array_equal(cramped, mask)
    assert [one.estimated_dice for one in measured] == pytest.approx([one.estimated_dice for one in features], rel=1e-3)
    assert [record.getMessage() for record in caplog.records] == [
        "case_0: CUDA out of memory. Tried to allocate 20 MiB; trying again with 1 windows at a time"
    ]


@pytest.mark.usefixtures("two_threads")
def test_all_probabilities_of_a_case_are_those_of_the_try_that_went_well(
    case: StoredCase, caplog: pytest.LogCaptureFixture
) -> None:
    def gathered(made: Model) -> np.ndarray:
        volume = ProbabilityVolume(case.restoration.shape, Decision.by(made.plan.labels))
        with_retreat([made], lambda models: predict_case(models[0], case, keep_probabilities=volume), "case_0")
        return volume.array

    whole = gathered(model())
    assert "trying again" not in caplog.text
    np.testing.assert_allclose(gathered(model(lambda network: Cramped(network, 1, after=2))), whole, rtol=1e-4)
    assert "trying again" in caplog.text


def test_what_does_not_fit_window_by_window_is_refused(case: StoredCase) -> None:
    with pytest.raises(MemoryShortError, match=r"case_0: CUDA out of memory.*even window by window"):
        predicted(model(lambda network: Cramped(network, 0)), case)


def test_other_errors_come_out_as_they_are() -> None:
    def broken(models: Sequence[Model]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        with_retreat([model()], broken, "case_0")


def test_a_gpu_is_relieved_step_by_step_and_the_cpu_comes_last() -> None:
    tried = []

    def predict(models: Sequence[Model]) -> str:
        [one] = models
        tried.append((one.device.type, one.configuration.batch_size))
        if len(tried) < 4:
            raise torch.OutOfMemoryError("no memory")
        return "mask"

    alone = model(lambda network: Elsewhere(network, torch.device("cpu")))  # so that it is not moved
    given = replace(alone, device=torch.device("meta"))  # stands for a GPU: a device that every machine has
    assert with_retreat([given], predict, "case_0") == "mask"
    assert tried == [("meta", 3), ("meta", 1), ("cpu", 1), ("cpu", 1)]


def test_a_network_stays_where_it_is_and_its_logits_come_back() -> None:
    network = nn.Conv3d(1, 2, 1)
    away = Elsewhere(network, torch.device("cpu")).to("meta")
    assert network.weight.device.type == "cpu"
    windows = torch.randn(2, 1, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(away(windows), network.float()(windows).float(), rtol=0.02, atol=0.02)
        assert away(windows).dtype == torch.float32
    assert list(away.parameters()) == []
