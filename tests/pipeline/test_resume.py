"""What a training that was begun may be asked for, be it finished or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import plan

from nnlite.data.records import write_record
from nnlite.data.split import Split
from nnlite.errors import UsageError
from nnlite.networks.build import weight_shapes
from nnlite.pipeline.resume import made_longer, reopen, require_as_begun, require_sense
from nnlite.pipeline.run_config import RunConfig
from nnlite.training.config import TrainConfig
from nnlite.training.curves import EpochRecord, append_to_log
from nnlite.training.initial_weights import InitialWeights
from nnlite.training.state_file import save_state
from nnlite.workspace import RunFolder

RUN = RunFolder(folder=Path("work/brain/runs/3d/fold1"))
BEGUN = TrainConfig(epochs=100, iterations=50, seed=3)


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_settings_are_fine(resume: bool):
    require_as_begun(RUN, BEGUN, BEGUN, resume=resume)


@pytest.mark.parametrize(
    ("change", "before", "now"),
    [
        ({"epochs": 7}, "100 epochs of 50 iterations", "7 epochs of 50 iterations"),
        ({"iterations": 7}, "100 epochs of 50 iterations", "100 epochs of 7 iterations"),
        ({"time_budget_s": 90.0}, "100 epochs of 50 iterations", "90 s with epochs of 50 iterations"),
    ],
)
def test_another_length_is_refused_with_both_values_unless_asked_for(change: dict, before: str, now: str):
    wanted = replace(BEGUN, **change)
    with pytest.raises(
        UsageError, match=f"3d fold1 was begun for {before}, not {now}, and is not finished: .*--resume"
    ):
        require_as_begun(RUN, BEGUN, wanted, resume=False)
    require_as_begun(RUN, BEGUN, wanted, resume=True)


def test_under_a_time_budget_the_number_of_epochs_does_not_matter():
    begun = replace(BEGUN, time_budget_s=90.0)
    require_as_begun(RUN, begun, replace(begun, epochs=7), resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_another_augmentation_is_always_refused(resume: bool):
    with pytest.raises(UsageError, match=r"with --augmentation nnunet, not ct, .*or delete work.*fold1"):
        require_as_begun(RUN, BEGUN, replace(BEGUN, augmentation="ct"), resume=resume)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 0}, "begun with --seed 3, not 0, .* leave --seed out to go on with it, train 3d@NAME beside it"),
        ({"deterministic": True}, "begun with --deterministic off, not on"),
        ({"loss": "focal+dice"}, r"begun with --loss dice\+ce, not focal\+dice, .* leave --loss out"),
        ({"optimizer": "adamw"}, "begun with --optimizer sgd, not adamw"),
        ({"learning_rate": 0.5}, "begun with --learning-rate 0.01, not 0.5"),
        ({"schedule": "cosine"}, "begun with --schedule polynomial, not cosine"),
        ({"warm_up": 3.0}, "begun with --warm-up 0, not 3,"),
        ({"warm_up": 0.1}, "begun with --warm-up 0, not 10%,"),  # as the command line takes it
        ({"ema": 0.9}, "begun with --ema off, not 0.9"),
        ({"curriculum": True}, "begun with --curriculum off, not on"),
        ({"freeze_encoder": 4}, "begun with --freeze-encoder 0, not 4"),
    ],
)
def test_another_choice_is_always_refused_with_both_values(change: dict, words: str, resume: bool):
    with pytest.raises(UsageError, match=words):
        require_as_begun(RUN, BEGUN, replace(BEGUN, **change), resume=resume)


def test_a_loss_in_other_words_is_the_same():
    require_as_begun(RUN, BEGUN, replace(BEGUN, loss="ce + dice"), resume=False)


def test_another_patience_is_another_length():
    patient = replace(BEGUN, patience=20)
    with pytest.raises(UsageError, match=r"not 100 epochs of 50 iterations and a patience of 20, .*--resume"):
        require_as_begun(RUN, BEGUN, patient, resume=False)
    require_as_begun(RUN, BEGUN, patient, resume=True)


def test_an_encoder_that_is_all_freshly_drawn_cannot_be_frozen():
    made = plan()
    names = tuple(weight_shapes(made, made.configuration("3d")))
    counts = {"tensors": 1, "all_tensors": 2, "parameters": 1, "all_parameters": 2}
    source = {"source": "m.nnlite", "dataset": "liver", "configuration": "3d", "fold": "fold0", "digest": "0"}
    encoder = tuple(name for name in names if name.startswith("encoder."))
    job = RunConfig(
        plan=made,
        configuration="3d",
        fold="fold1",
        train=replace(BEGUN, freeze_encoder=2),
        device="cpu",
        versions={},
        initial=InitialWeights(**source, **counts, fresh=encoder),
    )
    with pytest.raises(UsageError, match=r"no weight of the encoder of 3d fold1 comes from m\.nnlite, .*leave it out"):
        require_sense(job, Split(train=("a",), validation=("b",)))
    require_sense(
        replace(job, initial=InitialWeights(**source, **counts, fresh=encoder[1:])),
        Split(train=("a",), validation=("b",)),
    )


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"freeze_encoder": 7}, "--freeze-encoder 7 holds the encoder for all of the 7 epochs of 3d fold1: train for"),
        ({"warm_up": 7.0}, "--warm-up 7 does not come to the full learning rate in the 7 epochs of 3d fold1: train"),
    ],
)
def test_a_beginning_that_lasts_for_the_whole_training_is_refused(choice: dict, words: str):
    job = RunConfig(
        plan=plan(),
        configuration="3d",
        fold="fold1",
        train=replace(BEGUN, epochs=7, **choice),
        device="cpu",
        versions={},
        initial=InitialWeights(
            source="m.nnlite",
            dataset="liver",
            configuration="3d",
            fold="fold0",
            digest="0",
            tensors=1,
            all_tensors=1,
            parameters=1,
            all_parameters=1,
            fresh=(),
        ),
    )
    split = Split(train=("a",), validation=("b",))
    with pytest.raises(UsageError, match=words):
        require_sense(job, split)
    for longer in ({"epochs": 8}, {"time_budget_s": 60.0}):
        require_sense(replace(job, train=replace(job.train, **longer)), split)


def test_a_patience_that_ends_before_a_plateau_lowers_the_rate_is_refused():
    """The rate falls at the end of the tenth epoch without a new best, so the eleventh is the first at a lower one."""
    job = RunConfig(plan=plan(), configuration="3d", fold="fold1", train=BEGUN, device="cpu", versions={})
    split = Split(train=("a",), validation=("b",))

    def chosen(**choices: object) -> RunConfig:
        return replace(job, train=replace(BEGUN, **choices))

    for patience in (5, 10):
        words = f"--patience {patience} would end 3d fold1 before .*: take a --patience well above 10, or --sch"
        with pytest.raises(UsageError, match=words):
            require_sense(chosen(schedule="plateau", patience=patience), split)
        require_sense(chosen(schedule="plateau", patience=patience), split, begun=True)  # it does no harm
    for fine in ({"patience": 11}, {"patience": None}, {"patience": 5, "schedule": "constant"}):
        require_sense(chosen(**{"schedule": "plateau", **fine}), split)


@pytest.mark.parametrize(
    ("begun", "asked", "goes_on"),
    [
        ({"epochs": 5}, {"epochs": 6}, True),
        ({"epochs": 5}, {"patience": 2}, False),  # it is over, with patience or without
        ({"epochs": 5, "patience": 4}, {"patience": 3}, False),
        ({"epochs": 5, "patience": 4}, {"patience": 9}, False),
        ({"epochs": 100, "patience": 4}, {"patience": 9}, True),
    ],
)
def test_a_training_whose_epochs_are_over_is_not_said_to_lack_patience(
    begun: dict, asked: dict, goes_on: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = five_epochs_without_a_rise(tmp_path, TrainConfig(**begun))
    assert made_longer(run, lambda config: replace(config, **asked), resume=True) == goes_on
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("begun", "asked"),
    [
        ({"epochs": 100, "patience": 4}, {"epochs": 200}),
        ({"epochs": 5}, {"epochs": 200, "patience": 4}),  # it had none when it ended, and would end for it now
    ],
)
def test_a_training_that_only_its_patience_keeps_from_going_on_is_told_of(
    begun: dict, asked: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = five_epochs_without_a_rise(tmp_path, TrainConfig(**begun))
    assert not made_longer(run, lambda config: replace(config, **asked), resume=True)
    assert caplog.messages == [
        "3d fold1 stays at 5 epochs, since its pseudo Dice had not risen for 4; for more, add --resume and a larger "
        "--patience"
    ]


def test_a_training_whose_states_are_damaged_is_not_taken_its_end_away(tmp_path: Path):
    run = five_epochs_without_a_rise(tmp_path, BEGUN)
    run.summary.touch()
    for state in (run.checkpoint_last, run.checkpoint_previous):
        state.write_bytes(b"damaged")
    before = sorted(run.folder.iterdir())
    with pytest.raises(
        UsageError,
        match=r"3d fold1 cannot be made longer: leave --resume out, and it stays as it is \(.*last\.pt is damaged.*"
        r"previous\.pt is damaged",
    ):
        reopen(run)
    assert sorted(run.folder.iterdir()) == before


def test_a_training_whose_newest_state_is_damaged_goes_on_from_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = five_epochs_without_a_rise(tmp_path, BEGUN)
    run.summary.touch()
    for _ in range(2):
        save_state(run.checkpoint_last, {"epoch": 5}, previous=run.checkpoint_previous)
    run.checkpoint_last.write_bytes(b"damaged")
    reopen(run)
    left = (run.summary, run.checkpoint_final, run.checkpoint_last, run.checkpoint_previous)
    assert [path.exists() for path in left] == [False, False, False, True]
    assert len(caplog.messages) == 1


def five_epochs_without_a_rise(folder: Path, config: TrainConfig) -> RunFolder:
    """A training that came to its end after five epochs, of which the first was the best."""
    run = RunFolder(folder=folder / "runs" / "3d" / "fold1")
    run.folder.mkdir(parents=True)
    job = RunConfig(plan=plan(), configuration="3d", fold="fold1", train=config, device="cpu", versions={})
    write_record(run.config, job)
    run.checkpoint_final.touch()
    for number in range(5):
        append_to_log(
            run.log,
            EpochRecord(
                epoch=number,
                epochs=config.epochs,
                learning_rate=0.01,
                train_loss=1.0,
                validation_loss=1.0,
                pseudo_dice=(0.5, 0.5),
                mean_pseudo_dice=0.5,
                moving_pseudo_dice=0.5,
                duration_s=1.0,
                elapsed_s=number + 1.0,
                data_wait_share=0.0,
                eta_s=0.0,
            ),
        )
    return run
