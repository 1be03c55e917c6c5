"""Two real processes train as one: the same losses and weights, an end in common, and nobody waits for the dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from joint_training import CONFIG, CPU, FEW_STEPS, LOSSES, STEPS, both_ways, losses_of, one_falls, trained
from several_processes import together
from tiny import plan, store_cases

from nnlite.errors import MemoryShortError, ProcessLostError, UsageError
from nnlite.networks.build import build_network
from nnlite.training.assemble import Batch
from nnlite.training.curves import read_log
from nnlite.training.learner import Learner
from nnlite.training.ranks import ALONE, Ranks, buckets


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A folder with three cases, and what two processes made of them."""
    folder = tmp_path_factory.mktemp("ranks")
    store_cases(folder / "cases")
    store_cases(folder / "partly", annotated={"case_1": (True, False)})
    for name in ("together", "stopped", "hurried", "alone", "chosen", "chosen alone"):
        (folder / name).mkdir()
    results = together(both_ways, folder)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return folder, results


def differ(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.mark.parametrize("case", LOSSES)
def test_two_processes_with_unequal_shares_have_the_losses_of_one(case: str, ran: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ran
    wanted, weights = losses_of(case, ALONE, folder)
    got, together_weights = first[case]
    assert len(got) == STEPS.get(case, FEW_STEPS)
    # half precision rounds to 1 in 256, and kernels for other batch sizes round otherwise
    assert got == pytest.approx(wanted, abs=1e-4 if case != "half precision" else 2e-2)
    assert second[case][0] == got
    assert differ(together_weights, second[case][1]) == 0
    if case != "half precision":
        assert differ(together_weights, weights) < 1e-3


def test_a_training_of_two_processes_has_the_course_of_one(ran: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ran
    weights = trained(ALONE, folder / "alone")
    assert differ(first["whole"], second["whole"]) == 0
    assert differ(first["whole"], weights) < 1e-3
    one, two = (read_log(folder / name / "log.jsonl") for name in ("alone", "together"))
    assert [epoch.train_loss for epoch in two] == pytest.approx([epoch.train_loss for epoch in one], abs=1e-4)
    assert [epoch.validation_loss for epoch in two] == pytest.approx([e.validation_loss for e in one], abs=1e-4)
    for a, b in zip(one, two, strict=True):
        assert b.pseudo_dice == pytest.approx(a.pseudo_dice, abs=5e-3)  # a voxel may tip over


def test_averaged_weights_patience_and_curriculum_are_those_of_one_process(ran: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ran
    choices = {"ema": 0.9, "patience": 5, "curriculum": True, "schedule": "plateau"}
    assert differ(first["chosen"], second["chosen"]) == 0
    assert differ(first["chosen"], trained(ALONE, folder / "chosen alone", **choices)) < 1e-3
    assert differ(first["chosen"], first["whole"]) > 0


def test_where_one_is_asked_to_stop_both_stop_after_the_same_step_and_go_on_alike(ran: tuple[Path, list[Any]]) -> None:
    _, (first, second) = ran
    assert first["stopped"] == second["stopped"]
    assert "and is saved" in first["stopped"]
    assert differ(first["resumed"], first["whole"]) == 0
    assert differ(first["resumed"], second["resumed"]) == 0


def test_under_a_time_budget_both_end_after_the_same_step(ran: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ran
    assert differ(first["hurried"], second["hurried"]) == 0
    assert read_log(folder / "hurried" / "log.jsonl")[-1].elapsed_s >= 1.5


def test_the_first_process_is_heard_by_all(ran: tuple[Path, list[Any]]) -> None:
    _, results = ran
    assert [result["told"] for result in results] == [b"from the first"] * 2


def test_when_a_process_fails_the_other_ends_with_a_message_of_its_own(tmp_path: Path) -> None:
    store_cases(tmp_path / "cases")
    waited, failed = together(one_falls, tmp_path)
    assert isinstance(waited, ProcessLostError)
    assert "another of the 2 processes is gone" in str(waited)
    assert isinstance(failed, ValueError)


def test_more_processes_than_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 2 cannot be shared by 3 processes; start 2 at most"):
        Ranks(0, 3).share(2)


def test_shares_are_even_and_make_up_the_batch() -> None:
    for samples, count in ((2, 2), (9, 2), (9, 4), (7, 7)):
        shares = [Ranks(number, count).share(samples) for number in range(count)]
        rows = [row for share in shares for row in range(share.first, share.stop)]
        assert rows == list(range(samples))
        lengths = [share.stop - share.first for share in shares]
        assert max(lengths) - min(lengths) <= 1
        assert sum(share.fraction for share in shares) == pytest.approx(1)


def test_one_process_talks_to_nobody() -> None:
    tensor = torch.ones(3)
    assert ALONE.total(tensor) is tensor
    assert ALONE.tell(b"what it says") == b"what it says"
    assert ALONE.agree(3.5, True) == (3.5, True)


def test_buckets_keep_the_order_and_split_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnlite.training.ranks.BUCKET_ELEMENTS", 4)
    tensors = [torch.zeros(length) for length in (1, 2, 5, 1)]
    assert [[len(one) for one in bucket] for bucket in buckets(tensors)] == [[1, 2, 5], [1]]


def test_a_shared_batch_that_does_not_fit_ends_with_the_way_out() -> None:
    made = plan()
    learner = Learner(build_network(made, made.configuration("3d")), CONFIG, batch_dice=False, device=CPU)
    learner.parts.divisible = False

    def fail(parts: list[Any]) -> None:
        raise MemoryError("no room")

    batch = Batch(images=torch.zeros(2, 1, 16, 16, 16), labels=torch.zeros(2, 16, 16, 16, dtype=torch.int64))
    with pytest.raises(MemoryShortError, match="this process's 2 samples of each batch"):
        learner.parts.run(batch, fail)
