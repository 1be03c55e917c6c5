"""A training ends when it should, resumes as if it had never stopped, and says what went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.transforms.color_transforms import BrightnessTransform
from tiny import plan, store_cases

from nnlite.errors import CheckpointError, MemoryShortError, NnliteError, StoppedError
from nnlite.planning.configurations import ConfigurationName
from nnlite.preprocessing.case_file import map_case_file, write_case_file
from nnlite.preprocessing.store import CaseStore
from nnlite.training import learner
from nnlite.training.answer import Answer
from nnlite.training.checkpoint import load_model
from nnlite.training.config import TrainConfig
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.state_file import load_state
from nnlite.training.train import TrainFiles, train

CONFIG = TrainConfig(epochs=3, iterations=2, validation_iterations=2, optimizer="adamw", learning_rate=3e-3, seed=4)


def files(folder: Path) -> TrainFiles:
    names = {"log": "log.jsonl", "plot": "progress.png", "last": "last.pt", "previous": "previous.pt"}
    models = {kind: folder / f"{kind}.safetensors" for kind in ("best", "final")}
    return TrainFiles(**models, **{kind: folder / name for kind, name in names.items()})


def run(
    folder: Path, config: TrainConfig = CONFIG, name: ConfigurationName = "3d", **others
) -> dict[str, torch.Tensor]:
    """Train on the cases in ``folder``/cases, and give the weights."""
    made = plan(name)
    if not (folder / "cases").exists():
        store_cases(folder / "cases", cascade=name == "3d-cascade")
    store = CaseStore(folder / "cases")
    checkpoint = train(
        made,
        made.configuration(name),
        config,
        fold="fold0",
        training_cases={case_id: store.open(case_id) for case_id in ("case_0", "case_1")},
        files=files(folder),
        **{"validation_cases": {"case_2": store.open("case_2")}, "device": torch.device("cpu"), **others},
    )
    return checkpoint.weights


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def prefetching() -> bool:
    return any(thread.name.startswith("prefetch") for thread in threading.enumerate())


class PowerCutError(Exception):
    """What ends a training in the middle."""


def power_cut_after(epochs: int) -> Callable[[EpochRecord], None]:
    def stop(epoch: EpochRecord) -> None:
        if epoch.epoch + 1 == epochs:
            raise PowerCutError

    return stop


def course_of(folder: Path) -> list[tuple]:
    return [
        (e.epoch, e.learning_rate, e.train_loss, e.validation_loss, e.pseudo_dice) for e in read_log(files(folder).log)
    ]


def test_a_training_leaves_its_log_plot_and_models(tmp_path: Path) -> None:
    seen: list[EpochRecord] = []
    weights = run(tmp_path, on_epoch=seen.append)
    assert seen == read_log(files(tmp_path).log)
    assert [epoch.epoch for epoch in seen] == [0, 1, 2]
    assert all(epoch.epochs == 3 for epoch in seen)
    assert all(0 <= epoch.data_wait_share <= 1 for epoch in seen)
    assert all(len(epoch.pseudo_dice) == 2 for epoch in seen)
    assert [epoch.learning_rate for epoch in seen] == pytest.approx([3e-3 * (1 - e / 3) ** 0.9 for e in range(3)])
    assert seen[-1].eta_s == 0
    final = load_model(files(tmp_path).final)
    assert equal(final.weights, weights)
    assert (final.card.fold, final.card.epoch, final.card.mirror_axes) == ("fold0", 3, (0, 1, 2))
    assert load_model(files(tmp_path).best).card.epoch in (1, 2, 3)
    assert files(tmp_path).plot.exists()


def test_a_training_begins_with_the_weights_that_it_is_given_and_draws_the_others(tmp_path: Path) -> None:
    still = replace(CONFIG, epochs=1, iterations=1, learning_rate=1e-12, weight_decay=0.0)
    drawn = run(tmp_path, still)
    given = {name: torch.full_like(tensor, 0.5) for name, tensor in drawn.items() if name.startswith("heads.")}
    begun = run(tmp_path, still, initial=given)
    for name, tensor in begun.items():
        torch.testing.assert_close(tensor, given.get(name, drawn[name]), atol=1e-6, rtol=0)
    files(tmp_path).final.unlink()
    resumed = run(
        tmp_path, still, initial={name: torch.zeros_like(tensor) for name, tensor in drawn.items()}, resume=True
    )
    assert equal(resumed, begun)


@pytest.mark.parametrize("name", ["2d", "3d-cascade"])
def test_slices_and_cascades_train_too(name: ConfigurationName, tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1), name)
    assert len(read_log(files(tmp_path).log)) == 1


def test_a_model_is_mirrored_along_the_axes_of_its_plan(tmp_path: Path) -> None:
    made = plan()
    configuration = replace(made.configuration("3d"), mirror_axes=(0, 1))
    cases = store_cases(tmp_path / "cases")
    chosen = {"fold": "all", "training_cases": cases, "validation_cases": {}, "files": files(tmp_path)}
    config = replace(CONFIG, epochs=1)
    card = train(made, configuration, config, device=torch.device("cpu"), **chosen).card
    assert card.mirror_axes == (0, 1)


def test_training_learns_what_is_easy_to_see(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=4, iterations=25, learning_rate=1e-2))
    losses = [epoch.train_loss for epoch in read_log(files(tmp_path).log)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_resumed_training_equals_one_that_never_stopped_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole = run(tmp_path / "whole", config)
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", config, on_epoch=power_cut_after(1))
    assert not files(tmp_path / "cut").final.exists()
    assert equal(run(tmp_path / "cut", config, resume=True), whole)
    assert course_of(tmp_path / "cut") == course_of(tmp_path / "whole")


def test_an_epoch_that_was_logged_but_not_saved_is_run_again(tmp_path: Path) -> None:
    with pytest.raises(PowerCutError):
        run(tmp_path, on_epoch=power_cut_after(2))
    log = files(tmp_path).log
    before = course_of(tmp_path)
    log.write_text(log.read_text() + log.read_text().splitlines()[-1].replace('"epoch": 1', '"epoch": 2') + "\n")
    run(tmp_path, resume=True)
    assert [line[0] for line in course_of(tmp_path)] == [0, 1, 2]
    assert course_of(tmp_path)[:2] == before


def test_a_finished_training_can_be_made_longer(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1))
    run(tmp_path, replace(CONFIG, epochs=2), resume=True)
    assert [epoch.epochs for epoch in read_log(files(tmp_path).log)] == [1, 2]
    assert load_model(files(tmp_path).final).card.epoch == 2


def test_the_seed_decides_the_result(tmp_path: Path) -> None:
    short = replace(CONFIG, epochs=1, iterations=1, validation_iterations=1)
    first, again, other = (
        run(tmp_path / name, replace(short, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert equal(first, again)
    assert not equal(first, other)


def test_the_number_of_loader_threads_does_not_change_the_result(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, iterations=4)
    one, three = (run(tmp_path / str(threads), config, threads=threads) for threads in (1, 3))
    assert equal(one, three)


def test_trying_to_compile_leaves_no_trace_where_it_does_not_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []

    def never(network: torch.nn.Module, try_out: Callable[[torch.nn.Module], float]) -> torch.nn.Module:
        losses.append(try_out(network))
        return network

    monkeypatch.setattr("nnlite.training.learner.compiled_if_faster", never)
    config = replace(CONFIG, epochs=1)
    plain, tried = run(tmp_path / "off", config), run(tmp_path / "auto", replace(config, compile="auto"))
    assert len(losses) == 1
    assert equal(plain, tried)


def test_a_time_budget_ends_the_training_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    started = time.monotonic()
    endless = replace(CONFIG, epochs=10**6, iterations=10**6, validation_iterations=1, time_budget_s=1.5)
    run(tmp_path, endless)
    assert 1.5 <= time.monotonic() - started < 15
    (epoch,) = read_log(files(tmp_path).log)
    assert epoch.eta_s == 0
    assert epoch.epochs == 1
    assert not prefetching()


def test_without_validation_cases_there_is_a_final_model_but_no_best(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1), validation_cases={})
    (epoch,) = read_log(files(tmp_path).log)
    assert (epoch.validation_loss, epoch.mean_pseudo_dice, epoch.pseudo_dice) == (None, None, (None, None))
    assert files(tmp_path).final.exists()
    assert not files(tmp_path).best.exists()


def spoil(folder: Path, pattern: str) -> None:
    """Make the images of some stored cases NaN."""
    for path in sorted((folder / "cases").glob(pattern)):
        arrays, text = map_case_file(path)
        write_case_file(path, {**arrays, "image": np.full_like(arrays["image"], np.nan)}, text)


def test_an_epoch_whose_losses_are_all_no_number_is_an_error_and_keeps_the_epochs_before(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1))
    spoil(tmp_path, "case_[01].safetensors")
    with pytest.raises(NnliteError, match=r"no step of epoch 1 had a loss that is a number.*epochs before it are kept"):
        run(tmp_path, resume=True)
    assert len(read_log(files(tmp_path).log)) == 1
    assert not prefetching()


def test_steps_on_an_image_that_is_no_number_are_left_out_and_its_case_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store_cases(tmp_path / "cases")
    spoil(tmp_path, "case_1.safetensors")
    weights = run(tmp_path, replace(CONFIG, epochs=1, iterations=30))
    (epoch,) = read_log(files(tmp_path).log)
    assert 0 < epoch.skipped_steps < 30  # a batch of three samples without case_1 comes once in eight times
    assert np.isfinite(epoch.train_loss)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) == epoch.skipped_steps
    assert all("phantom 3d fold0 epoch 0, step " in line and "case_1" in line for line in told)


def stop_after(steps: int) -> Callable[[], bool]:
    """Asks to stop when it was asked this many times."""
    count = iter(range(1, 10**6))
    return lambda: next(count) > steps


@pytest.mark.parametrize("asked", [0, 1, 2, 3, 6])
def test_a_training_that_is_asked_to_stop_saves_and_goes_on_to_the_same_bits(asked: int, tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2, iterations=4)
    whole = run(tmp_path / "whole", config)
    with pytest.raises(StoppedError, match=r"phantom 3d fold0 was stopped after .* and is saved"):
        run(tmp_path / "cut", config, stop=stop_after(asked))
    assert not files(tmp_path / "cut").final.exists()
    assert equal(run(tmp_path / "cut", config, resume=True), whole)
    assert course_of(tmp_path / "cut") == course_of(tmp_path / "whole")


def test_a_state_is_saved_every_few_minutes_within_an_epoch(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, iterations=6)
    whole = run(tmp_path / "whole", config, transforms=(failing_at(6),))
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", config, save_every_s=0.0, threads=1, transforms=(failing_at(5),))
    assert load_state(files(tmp_path / "cut").last, torch.device("cpu"))["course"]["steps"] > 0
    assert equal(run(tmp_path / "cut", config, resume=True, transforms=(failing_at(6),)), whole)
    assert course_of(tmp_path / "cut") == course_of(tmp_path / "whole")


def failing_at(batch: int) -> Callable[..., dict]:
    """A transform that changes nothing and gives up in this batch of three samples."""
    count = iter(range(10**6))

    def transform(**content: np.ndarray) -> dict:
        if next(count) >= 3 * batch:
            raise PowerCutError("in the transform")
        return content

    return transform


def test_a_damaged_state_costs_one_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", on_epoch=power_cut_after(2))
    last = files(tmp_path / "cut").last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert equal(run(tmp_path / "cut", resume=True), whole)
    assert "last.pt is damaged" in caplog.text
    assert course_of(tmp_path / "cut") == course_of(tmp_path / "whole")


def test_deterministic_operations_change_nothing_on_a_cpu_and_end_with_the_training(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1)
    seen = []
    plain = run(tmp_path / "plain", config)
    exact = run(
        tmp_path / "exact",
        replace(config, deterministic=True),
        on_epoch=lambda epoch: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert equal(plain, exact)


def test_an_error_of_the_loader_comes_out_as_it_was_and_ends_its_thread(tmp_path: Path) -> None:
    def broken(**content: np.ndarray) -> dict:
        raise PowerCutError("in the transform")

    with pytest.raises(PowerCutError, match="in the transform") as caught:
        run(tmp_path, transforms=(broken,))
    case, batch = caught.value.__notes__
    assert case in ("case case_0", "case case_1")
    assert batch == "training batch 0 of epoch 0"
    assert caught.traceback[-1].name == "broken"  # in the thread, as it was
    assert not prefetching()


def memory_for(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has memory for the loss of so many samples at a time."""
    loss = learner.deep_supervision_loss

    def limited(
        outputs: list[torch.Tensor], target: torch.Tensor, *answer: Answer | None, **options: bool
    ) -> torch.Tensor:
        if len(target) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(outputs, target, *answer, **options)

    monkeypatch.setattr(learner, "deep_supervision_loss", limited)


def test_a_batch_without_memory_is_run_in_parts_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, epochs=1, optimizer="sgd", precision="fp32")
    whole = run(tmp_path / "whole", config)
    memory_for(1, monkeypatch)
    parts = run(tmp_path / "parts", config)
    assert "going on in 2 parts" in caplog.text
    assert "going on in 3 parts" in caplog.text  # of a batch of three
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-3, atol=1e-5)


def test_a_sample_without_memory_ends_the_training_and_the_thread_of_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(0, monkeypatch)
    with pytest.raises(MemoryShortError, match="too little memory for a single sample") as caught:
        run(tmp_path)
    assert caught.traceback  # the frames of the training are still held
    assert not prefetching()


def test_a_users_batchgenerators_transform_takes_part_in_the_training(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1)
    transforms = (BrightnessTransform(mu=0, sigma=1, per_channel=False),)
    plain, first, again = (
        run(tmp_path / name, config, transforms=chosen)
        for name, chosen in (("plain", ()), ("first", transforms), ("again", transforms))
    )
    assert not equal(plain, first)
    assert equal(first, again)


def test_resuming_without_a_state_or_with_that_of_another_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"last\.pt cannot be read"):
        run(tmp_path / "none", resume=True)
    run(tmp_path / "flat", replace(CONFIG, epochs=1), "2d")
    with pytest.raises(CheckpointError, match=r"last\.pt belongs to another plan or version"):
        run(tmp_path / "flat", CONFIG, "3d", resume=True)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_gpu_trains_in_mixed_precision_and_resumes(precision: str, tmp_path: Path) -> None:
    config = replace(CONFIG, precision=precision)
    run(tmp_path, replace(config, epochs=1), device=torch.device("cuda"))
    weights = run(tmp_path, config, device=torch.device("cuda"), resume=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert [epoch.epoch for epoch in read_log(files(tmp_path).log)] == [0, 1, 2]
