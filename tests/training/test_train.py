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

from nnlite.errors import CheckpointError, NnliteError
from nnlite.planning.configurations import ConfigurationName
from nnlite.preprocessing.case_file import map_case_file, write_case_file
from nnlite.preprocessing.store import CaseStore
from nnlite.training.checkpoint import load_model
from nnlite.training.config import TrainConfig
from nnlite.training.curves import EpochRecord, read_log
from nnlite.training.train import Course, TrainFiles, train

CONFIG = TrainConfig(epochs=3, iterations=2, validation_iterations=2, optimizer="adamw", learning_rate=3e-3, seed=4)


def files(folder: Path) -> TrainFiles:
    names = {"log": "log.jsonl", "plot": "progress.png", "best": "best.safetensors", "last": "last.pt"}
    return TrainFiles(final=folder / "final.safetensors", **{kind: folder / name for kind, name in names.items()})


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


def test_a_loss_that_is_no_number_is_an_error_and_keeps_the_epochs_before(tmp_path: Path) -> None:
    run(tmp_path, replace(CONFIG, epochs=1))
    for path in sorted((tmp_path / "cases").glob("case_[01].safetensors")):
        arrays, text = map_case_file(path)
        write_case_file(path, {**arrays, "image": np.full_like(arrays["image"], np.nan)}, text)
    with pytest.raises(NnliteError, match=r"training loss became nan in epoch 1.*the epochs before it are kept"):
        run(tmp_path, resume=True)
    assert len(read_log(files(tmp_path).log)) == 1
    assert not prefetching()


def test_an_error_of_the_loader_comes_out_as_it_was_and_ends_its_thread(tmp_path: Path) -> None:
    def broken(**content: np.ndarray) -> dict:
        raise PowerCutError("in the transform")

    with pytest.raises(PowerCutError, match="in the transform"):
        run(tmp_path, transforms=(broken,))
    assert not prefetching()


def test_an_error_of_the_device_ends_the_thread_of_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("nnlite.training.learner.deep_supervision_loss", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError) as caught:
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


def test_the_best_epoch_is_chosen_by_the_moving_average() -> None:
    course = Course()
    assert course.follow(0.5)  # the average starts with the first number
    assert not course.follow(None)  # an epoch that tells nothing
    assert not course.follow(0.4)  # 0.9 x 0.5 + 0.1 x 0.4 = 0.49
    assert course.moving_dice == pytest.approx(0.49)
    assert not course.follow(0.55)  # a good epoch, but the average is only 0.496
    assert course.follow(0.6)  # 0.5064
    assert course.best_dice == pytest.approx(0.5064)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_gpu_trains_in_mixed_precision_and_resumes(precision: str, tmp_path: Path) -> None:
    config = replace(CONFIG, precision=precision)
    run(tmp_path, replace(config, epochs=1), device=torch.device("cuda"))
    weights = run(tmp_path, config, device=torch.device("cuda"), resume=True)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert [epoch.epoch for epoch in read_log(files(tmp_path).log)] == [0, 1, 2]
