"""The whole way through the real command line, on tiny phantoms: from raw files to scored masks, and what can go wrong.

Nothing is replaced by a fake except the disk, where a test needs a full one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner

from nnlite.cli import app
from nnlite.data.image import Geometry, read_image, read_label, write_image
from nnlite.data.records import read_record, write_record
from nnlite.planning.planner import Plan
from nnlite.preprocessing.store import CaseStore
from nnlite.training import epochs

SHORT = ("--device", "cpu", "--epochs", "2", "--iterations", "2")
WRONG_INPUT = 2

needs_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="needs /dev/full, a device on which every write is refused"
)


def nn(*arguments: Any, status: int = 0) -> str:
    """Run a command of the command line; returns what it said, on stdout if it went well, else on stderr."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception  # a user would see a traceback
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def complaint(*arguments: Any) -> str:
    """The one message of a command that is refused, on one line."""
    message = nn(*arguments, status=WRONG_INPUT)
    assert message.count("error: ") == 1
    assert "Traceback" not in message
    return " ".join(message.split())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    assert not [path for path in folder.rglob("*") if path.is_symlink()]  # to /dev/full, it would never end
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def still_there(before: dict[str, bytes], folder: Path) -> bool:
    """Whether all earlier files are as they were, and no half-written file lies about."""
    now = contents(folder)
    return before.items() <= now.items() and not [name for name in now if ".writing-" in name]


@pytest.fixture
def work(trained_work: Path, tmp_path: Path) -> Path:
    """A copy of the trained workspace, to be changed at will."""
    return Path(shutil.copytree(trained_work, tmp_path / "work"))


# --- the main job ---


def test_from_a_folder_of_volumes_to_scored_masks(balls: Path, tmp_path: Path):
    work, out = ("--work", tmp_path / "work"), tmp_path / "out"
    assert "balls: images/ and labels/, 5 cases" in nn("check", balls, *work)
    assert "planned for cpu" in nn("plan", balls, "--device", "cpu", *work)
    assert "3d: cases ready" in nn("preprocess", balls, "3d", *work)
    assert "3d fold0: mean Dice" in nn("train", balls, "3d", "fold0", *SHORT, *work)
    assert "3d all: no held-out cases to score" in nn("train", balls, "3d", "all", *SHORT, *work)
    assert "3d all + fold0: 5 masks" in nn("predict", balls, balls / "images", "-o", out, "--device", "cpu", *work)
    assert "over 5 cases" in nn("evaluate", balls / "labels", out, "-o", tmp_path / "scores")
    assert json.loads((tmp_path / "scores" / "scores.json").read_text())["cases"] == 5


def test_a_brief_training_already_finds_the_balls(balls: Path, work: Path, tmp_path: Path):
    nn("predict", balls, balls / "images", "-o", tmp_path / "out", "--device", "cpu", "--work", work)
    nn("evaluate", balls / "labels", tmp_path / "out", "-o", tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())["labels"]
    # a mask shifted by one voxel along each axis would stay below: a ball of radius 6 then loses a sixth of itself
    assert scores["ball"]["dice"]["mean"] > 0.6
    assert scores["core"]["dice"]["mean"] > 0.6


def test_masks_hold_the_values_of_the_training_labels(balls: Path, work: Path, tmp_path: Path):
    nn("predict", balls, balls / "images" / "ball_0.nii.gz", "-o", tmp_path, "--device", "cpu", "--work", work)
    assert np.unique(read_label(tmp_path / "ball_0.nii.gz").array).tolist() == [0, 1, 7]


def test_a_finished_fold_is_left_as_it_was(balls: Path, work: Path):
    before = contents(work)
    assert "3d fold0: mean Dice" in (said := nn("train", balls, "3d", "fold0", *SHORT, "--work", work))
    assert "finished before and left as it was" in said
    assert contents(work) == before


def test_an_interrupted_training_goes_on_by_itself_and_ends_as_if_never_interrupted(
    balls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    weights = []
    for interrupted in (False, True):
        work = tmp_path / f"interrupted {interrupted}"
        nn("plan", balls, "--device", "cpu", "--no-probe", "--work", work)
        command = ["train", balls, "3d", "fold2", *SHORT, "--work", work]
        if interrupted:
            with monkeypatch.context() as patch:
                patch.setattr("nnlite.cli.screen.ProgressBars.epoch", _interrupt)
                assert "interrupted; finished work is kept" in nn(*command, status=130)
            assert "3d      fold2  unfinished  1 of 2" in nn("status", balls, "--work", work)
            before = contents(work)
            refused = complaint(*command, "--epochs", "3")
            assert "3d fold2 was begun for 2 epochs of 2 iterations, not 3 epochs of 2 iterations" in refused
            assert contents(work) == before
        assert ("resumed after epoch 1" in nn(*command)) == interrupted
        run = work / "balls" / "runs" / "3d" / "fold2"
        assert len((run / "log.jsonl").read_text().splitlines()) == 2
        weights.append((run / "checkpoint_final.safetensors").read_bytes())
    assert weights[0] == weights[1]


def _interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


# --- kinds of models and inputs ---


@pytest.mark.parametrize(
    ("model", "folds"),
    [("{data}", "fold0 + fold1"), ("{work}/balls", "fold0 + fold1"), ("{work}/balls/runs/3d/fold1", "fold1")],
)
def test_a_model_is_a_dataset_its_folder_in_the_workspace_or_a_run(
    balls: Path, work: Path, tmp_path: Path, model: str, folds: str
):
    image = balls / "images" / "ball_3.nii.gz"
    name = model.format(data=balls, work=work)
    said = nn("predict", name, image, "-o", tmp_path / "out", "--device", "cpu", "--work", work)
    assert f"3d {folds}: 1 mask" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ball_3.nii.gz", "ball_3.prediction.json"]


def test_folds_are_averaged(balls: Path, work: Path, tmp_path: Path):
    image = balls / "images" / "ball_2.nii.gz"
    ask = ["predict", balls, image, "--probabilities", "--device", "cpu", "--work", work]
    logits = {}
    for folds in ("fold0", "fold1", "fold0,fold1"):
        nn(*ask, "--folds", folds, "-o", tmp_path / folds)
        probabilities = read_image(tmp_path / folds / "ball_2.probabilities.nii").array.astype(np.float64)
        logits[folds] = np.log(probabilities.clip(1e-3)) - np.log(probabilities.clip(1e-3)).mean(axis=0)
    both = np.exp((logits["fold0"] + logits["fold1"]) / 2)
    mask = read_label(tmp_path / "fold0,fold1" / "ball_2.nii.gz").array[0]
    expected = np.array([0, 1, 7])[both.argmax(axis=0)]
    assert (mask != expected).mean() < 0.01  # probabilities are clipped here
    assert (logits["fold0"] != logits["fold1"]).any()


def test_several_channels_are_read_from_a_file_each(tmp_path: Path):
    rng = np.random.default_rng(0)
    geometry = Geometry(shape=(8, 16, 16), spacing_mm=(1.0, 1.0, 1.0))
    for number in range(2):
        label = np.zeros((1, *geometry.shape), np.uint8)
        label[:, 2:6, 4:12, 4:12] = 1
        write_image(tmp_path / "mr" / "labelsTr" / f"p{number}.mha", label, geometry)
        for channel in range(2):
            image = (label * (channel + 1) + rng.normal(0, 0.1, label.shape)).astype(np.float32)
            write_image(tmp_path / "mr" / "imagesTr" / f"p{number}_{channel:04d}.mha", image, geometry)
    metadata = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "box": 1}}
    (tmp_path / "mr" / "dataset.json").write_text(json.dumps(metadata))
    work = ("--work", tmp_path / "work")
    nn("plan", tmp_path / "mr", "--device", "cpu", "--no-probe", *work)
    nn("train", tmp_path / "mr", "3d", "all", *SHORT, *work)
    nn("predict", tmp_path / "mr", tmp_path / "mr" / "imagesTr", "-o", tmp_path / "out", "--device", "cpu", *work)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mha")) == ["p0.mha", "p1.mha"]
    lonely = tmp_path / "mr" / "imagesTr" / "p0_0000.mha"
    said = complaint("predict", tmp_path / "mr", lonely, "-o", tmp_path / "out", "--device", "cpu", *work)
    assert "p0: 1 instead of 2 channels (T1, FLAIR)" in said


def test_colour_pictures_become_2d_masks(tmp_path: Path):
    rng = np.random.default_rng(0)
    geometry = Geometry(shape=(1, 40, 32), spacing_mm=(999.0, 1.0, 1.0))
    for number in range(3):
        label = np.zeros((1, *geometry.shape), np.uint8)
        label[:, :, 10:30, 8:24] = 255
        colours = (rng.integers(0, 60, (3, *geometry.shape)) + label // 2).astype(np.uint8)
        write_image(tmp_path / "cells" / "images" / f"c{number}.png", colours, geometry, planar=True)
        write_image(tmp_path / "cells" / "labels" / f"c{number}.png", label, geometry, planar=True)
    work = ("--work", tmp_path / "work")
    said = complaint("plan", tmp_path / "cells", "--device", "cpu", "--no-probe", *work)
    assert "0 and 255 in 3 files" in said
    # the message holds the very text to write, and where
    description = tmp_path / "work" / "cells" / "nnlite.json"
    text = '{"labels": {"background": 0, "foreground": 255}}'
    assert f"write into {description} or" in said
    assert text in said
    description.parent.mkdir(parents=True)
    description.write_text(text)
    assert "2d" in nn("plan", tmp_path / "cells", "--device", "cpu", "--no-probe", *work)
    nn("train", tmp_path / "cells", "2d", "fold0", "fold1", *SHORT, *work)
    picture = tmp_path / "cells" / "images" / "c0.png"
    nn("predict", tmp_path / "cells", picture, "-o", tmp_path / "out", "--device", "cpu", *work)
    mask = read_label(tmp_path / "out" / "c0.png")
    assert mask.planar
    assert mask.geometry.shape == (1, 40, 32)
    assert set(np.unique(mask.array)) <= {0, 255}


# --- a cascade ---


@pytest.fixture(scope="module")
def cascade_work(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a plan for a cascade: tiny images never call for one, so it is added by hand."""
    work = tmp_path_factory.mktemp("cascade")
    nn("plan", balls, "--device", "cpu", "--no-probe", "--work", work)
    plan = read_record(work / "balls" / "plan.json", Plan)
    full = plan.configuration("3d")
    low = replace(full, name="3d-lowres", spacing_mm=tuple(1.5 * mm for mm in full.spacing_mm))
    cascade = replace(full, name="3d-cascade", previous_stage="3d-lowres")
    configurations = {**plan.configurations, "3d-lowres": low, "3d-cascade": cascade}
    write_record(work / "balls" / "plan.json", replace(plan, configurations=configurations))
    return work


def test_a_cascade_waits_for_its_first_stage_then_trains_and_predicts(balls: Path, cascade_work: Path, tmp_path: Path):
    work = ("--work", cascade_work)
    command = ("train", balls, "3d-cascade", "fold0", *SHORT, *work)
    assert "5 of 5 cases have none; train all folds of the first stage: nnlite train" in complaint(*command)
    nn("train", balls, "3d-lowres", "fold0", "fold1", "fold2", *SHORT, *work)
    assert f"2 of 5 cases have none; train all folds of the first stage: nnlite train {balls} 3d-lowres" in (
        complaint(*command)
    )
    nn("train", balls, "3d-lowres", "fold3", "fold4", *SHORT, *work)
    assert "3d-cascade fold0: mean Dice" in nn(*command)
    stored = CaseStore(cascade_work / "balls" / "cases" / "3d-cascade").open("ball_0").previous
    lowres = cascade_work / "balls" / "runs" / "3d-lowres"
    [held_out] = lowres.glob("*/validation/ball_0.nii.gz")
    # full resolution is the image's own here, so nothing was resampled on the way
    np.testing.assert_array_equal(np.array([0, 1, 7])[stored], read_label(held_out).array[0])
    options = ("--config", "3d-cascade", "--device", "cpu", *work)
    said = nn("predict", balls, balls / "images" / "ball_1.nii.gz", "-o", tmp_path / "out", *options)
    assert "3d-cascade fold0: 1 mask" in said
    shutil.move(lowres, tmp_path / "lowres")
    said = complaint("predict", balls, balls / "images" / "ball_1.nii.gz", "-o", tmp_path / "out", *options)
    assert "3d-cascade continues from 3d-lowres, of which" in said
    assert "train balls 3d-lowres folds --work" in said


# --- geometry ---


def test_the_mask_of_a_permuted_and_flipped_image_is_the_permuted_and_flipped_mask(
    balls: Path, work: Path, tmp_path: Path
):
    image = SimpleITK.ReadImage(str(balls / "images" / "ball_4.nii.gz"))
    tilt = SimpleITK.Euler3DTransform()
    tilt.SetRotation(0.2, -0.15, 0.1)  # oblique, as real scans are
    image.SetDirection(tilt.GetMatrix())

    def turned(volume: SimpleITK.Image, axes: tuple[int, ...], flips: tuple[bool, ...]) -> SimpleITK.Image:
        """The same patient, stored in another order: SimpleITK keeps every voxel where it is in the patient."""
        return SimpleITK.Flip(SimpleITK.PermuteAxes(volume, axes), flips, flipAboutOrigin=False)

    orientations = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]
    assert len(orientations) == 48
    (tmp_path / "in").mkdir()
    for number, (axes, flips) in enumerate(orientations):
        SimpleITK.WriteImage(turned(image, axes, flips), str(tmp_path / "in" / f"turned_{number:02d}.nii.gz"))
    options = ("-o", tmp_path / "out", "--no-mirroring", "--device", "cpu", "--work", work)
    nn("predict", balls, tmp_path / "in", *options)

    masks = [SimpleITK.ReadImage(str(tmp_path / "out" / f"turned_{number:02d}.nii.gz")) for number in range(48)]
    assert set(np.unique(SimpleITK.GetArrayFromImage(masks[0]))) == {0, 1, 7}
    for number, (axes, flips) in enumerate(orientations):
        expected, mask = turned(masks[0], axes, flips), masks[number]
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(mask), SimpleITK.GetArrayFromImage(expected))
        assert mask.GetSpacing() == pytest.approx(expected.GetSpacing(), rel=1e-5)
        assert mask.GetOrigin() == pytest.approx(expected.GetOrigin(), abs=1e-3)
        assert mask.GetDirection() == pytest.approx(expected.GetDirection(), abs=1e-5)


# --- one clear message, status 2, nothing lost ---


def test_a_missing_folder_is_told(tmp_path: Path, balls: Path, work: Path):
    missing = tmp_path / "nowhere"
    for command in (["check"], ["plan"], ["preprocess"]):
        assert f"{missing} does not exist; give the folder of a dataset" in complaint(*command, missing)
    assert f"{missing} does not exist" in complaint("train", missing, "3d", "fold0")
    assert f"there is no model {missing}" in complaint("predict", missing, balls, "-o", tmp_path / "out")
    said = complaint("predict", balls, missing, "-o", tmp_path / "out", "--device", "cpu", "--work", work)
    assert f"{missing} does not exist" in said
    assert f"{missing} does not exist" in complaint("evaluate", missing, missing)
    assert list(tmp_path.iterdir()) == [work]


def test_an_empty_dataset_is_told(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is empty; a dataset is one of" in complaint("plan", tmp_path / "empty")
    for folder in ("images", "labels"):
        (tmp_path / "hollow" / folder).mkdir(parents=True)
    assert "is an empty dataset" in complaint("plan", tmp_path / "hollow")


def test_three_faults_are_told_in_one_message_and_the_earlier_plan_stays(balls: Path, work: Path, tmp_path: Path):
    data = shutil.copytree(balls, tmp_path / "balls")
    (work / "balls" / "dataset.json").unlink()  # the dataset has moved
    before = contents(work)
    cut = data / "images" / "ball_0.nii.gz"
    cut.write_bytes(cut.read_bytes()[:500])
    (data / "labels" / "ball_1.nii.gz").unlink()
    label = read_label(data / "labels" / "ball_2.nii.gz")
    write_image(data / "labels" / "ball_2.nii.gz", label.array * 3, replace(label.geometry, spacing_mm=(2, 1.5, 1.5)))
    for command in (["check"], ["plan", "--device", "cpu", "--no-probe"]):
        said = complaint(*command, data, "--work", work)
        assert "3 of 5 cases cannot be used" in said
        assert "ball_0 (images/ball_0.nii.gz): the file is cut short" in said
        assert "ball_1 (images/ball_1.nii.gz): an image but no label in labels/" in said
        assert "ball_2 (ball_2.nii.gz): label values 3 and 21 are not in the label table" in said
    assert contents(work) == before


def test_a_wrong_config_names_those_there_are(balls: Path, work: Path, tmp_path: Path):
    before = contents(work)
    assert "there is no configuration" in complaint("train", balls, "4d", "fold0", "--work", work)
    said = complaint("train", balls, "3d-lowres", "fold0", "--device", "cpu", "--work", work)
    assert "balls has no configuration 3d-lowres: " in said
    assert said.endswith("there are 2d, 3d")
    assert "balls has no configuration 3d-cascade" in complaint("preprocess", balls, "3d-cascade", "--work", work)
    options = ("-o", tmp_path / "out", "--device", "cpu", "--work", work)
    said = complaint("predict", balls, balls / "images", "--config", "2d", *options)
    assert 'no fold of "2d" is trained; trained are 3d' in said
    said = complaint("predict", balls, balls / "images", "--folds", "fold0,fold4", *options)
    assert "3d fold4 is not trained; trained are fold0, fold1" in said
    assert contents(work) == before


def test_a_mask_never_overwrites_an_image(balls: Path, work: Path, tmp_path: Path):
    images = shutil.copytree(balls / "images", tmp_path / "images")
    before = contents(images)
    said = complaint("predict", balls, images, "-o", images, "--device", "cpu", "--work", work)
    assert "the mask of ball_0 would overwrite its image" in said
    assert contents(images) == before


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, ending: str, *, fitting: int = 0) -> Iterator[None]:
    """All but the first ``fitting`` files of this ending lie on a device where the system refuses every write."""
    mkstemp = tempfile.mkstemp
    seen = 0

    def on_a_full_disk(prefix: str, suffix: str, dir: Path) -> tuple[int, str]:
        nonlocal seen
        seen += suffix.endswith(ending)
        if not suffix.endswith(ending) or seen <= fitting:
            return mkstemp(prefix=prefix, suffix=suffix, dir=dir)
        descriptor, name = mkstemp(prefix=prefix, suffix=suffix, dir=dir)
        Path(name).unlink()
        Path(name).symlink_to("/dev/full")
        return descriptor, name

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", on_a_full_disk)
        yield


FULL = "the disk is full: "


@needs_full_device
def test_a_disk_that_is_full_when_planning_costs_nothing(balls: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(work)
    command = ("plan", balls, "--device", "cpu", "--no-probe", "--work", work)
    with full_disk(monkeypatch, ".json"):
        assert FULL in complaint(*command)
    assert contents(work) == before
    nn(*command)


@needs_full_device
def test_a_disk_that_is_full_when_preprocessing_costs_nothing(balls: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    before = contents(work)
    command = ("preprocess", balls, "--work", work)
    with full_disk(monkeypatch, ".safetensors"):
        assert FULL in complaint(*command)
    assert still_there(before, work)
    assert "2d: cases ready" in nn(*command)
    assert still_there(before, work)


@needs_full_device
@pytest.mark.parametrize(
    ("suffix", "fitting"),
    [(".pt", 0), (".safetensors", 0), (".safetensors", 1), (".jsonl", 1), (".png", 0), (".nii.gz", 0), (".csv", 0)],
)
def test_a_training_that_meets_a_full_disk_goes_on_afterwards(
    balls: Path, work: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, fitting: int
):
    before = contents(work)
    command = ("train", balls, "3d", "fold2", *SHORT, "--work", work)
    with full_disk(monkeypatch, suffix, fitting=fitting):
        said = complaint(*command)
    assert FULL in said
    assert "run the same command again" in said
    assert still_there(before, work)
    assert "3d fold2: mean Dice" in nn(*command)
    assert still_there(before, work)
    log = (work / "balls" / "runs" / "3d" / "fold2" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [0, 1]


@needs_full_device
def test_a_checkpoint_survives_a_disk_that_fills_up_later(balls: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    run = work / "balls" / "runs" / "3d" / "fold2"
    command = ("train", balls, "3d", "fold2", *SHORT, "--work", work)
    with full_disk(monkeypatch, ".pt", fitting=1):
        assert FULL in complaint(*command)
    assert len((run / "log.jsonl").read_text().splitlines()) == 2  # both epochs were run, the first one is safe
    run_epoch, run = epochs._run_epoch, []
    monkeypatch.setattr(
        epochs,
        "_run_epoch",
        lambda sitting: run.append(sitting.course.epoch) or run_epoch(sitting),
    )
    nn(*command)
    assert run == [1]


@needs_full_device
def test_a_disk_that_is_full_when_predicting_costs_nothing(
    balls: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    options = ("-o", out, "--device", "cpu", "--work", work)
    nn("predict", balls, balls / "images" / "ball_0.nii.gz", *options)
    before = contents(out)
    with full_disk(monkeypatch, ".nii.gz"):
        said = complaint("predict", balls, balls / "images", *options)
    assert f"{FULL}{out / 'ball_0.nii.gz'} could not be written" in said
    assert contents(out) == before
    nn("predict", balls, balls / "images", *options)
    assert len(contents(out)) == 2 * 5  # a mask and what is told of it
    assert still_there(before, out)


# --- real data ---


def _case_list(folder: Path, data: Path, cases: list[str]) -> Path:
    """A CSV list of some hippocampus cases."""
    rows = [f"{data}/imagesTr/{case},{data}/labelsTr/{case}" for case in cases]
    table = folder / "hippocampus.csv"
    table.write_text("\n".join(["MRI,label", *rows]) + "\n")
    return table


@pytest.mark.realdata
def test_ten_hippocampi_from_a_list(real_data: Path, tmp_path: Path):
    data = real_data / "hippocampus"
    files = sorted(path.name for path in (data / "labelsTr").glob("*.nii.gz"))[:10]
    dataset = _case_list(tmp_path, data, files)
    work = ("--work", tmp_path / "work")
    nn("plan", dataset, "--device", "cpu", "--no-probe", *work)
    assert "3d fold0: mean Dice" in nn("train", dataset, "3d", "fold0", *SHORT, *work)
    image = data / "imagesTr" / files[-1]
    nn("predict", dataset, image, "-o", tmp_path / "out", "--no-mirroring", "--device", "cpu", *work)
    mask = read_label(tmp_path / "out" / files[-1])
    assert mask.geometry.differences(read_image(image).geometry) == []


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "table"), [("membrane", {"background": 0, "cell": 255}), ("cells", None)])
def test_real_pictures(real_data: Path, tmp_path: Path, name: str, table: dict[str, int] | None):
    data, out = real_data / name, tmp_path / "out"
    if table:
        description = tmp_path / "work" / name / "nnlite.json"
        description.parent.mkdir(parents=True)
        description.write_text(json.dumps({"labels": table}))
    work = ("--work", tmp_path / "work")
    nn("plan", data, "--device", "cpu", "--no-probe", *work)
    nn("train", data, "2d", "all", *SHORT, *work)
    picture = min((data / "images").iterdir(), key=lambda path: path.stat().st_size)
    nn("predict", data, picture, "-o", out, "--no-mirroring", "--device", "cpu", *work)
    [truth] = (data / "labels").glob(f"{picture.stem}.*")
    assert "over 1 cases" in nn("evaluate", truth, next(out.iterdir()))


@pytest.mark.realdata
def test_three_sarcomas(real_data: Path, tmp_path: Path):
    source, data, out = real_data / "sarcoma", tmp_path / "sarcoma", tmp_path / "out"
    labels = sorted((source / "labelsTr").glob("*.nii.gz"), key=lambda path: path.stat().st_size)[:3]
    for label in labels:
        image = label.name.replace(".nii.gz", "_0000.nii.gz")
        for folder, name in (("imagesTr", image), ("labelsTr", label.name)):
            (data / folder).mkdir(parents=True, exist_ok=True)
            (data / folder / name).symlink_to(source / folder / name)
    shutil.copy(source / "dataset.json", data)
    work = ("--work", tmp_path / "work")
    nn("plan", data, "--device", "cpu", "--no-probe", *work)
    nn("train", data, "3d", "all", *SHORT, *work)
    images = data / "imagesTr" / labels[0].name.replace(".nii.gz", "_0000.nii.gz")
    nn("predict", data, images, "-o", out, "--no-mirroring", "--device", "cpu", *work)
    assert "over 1 cases" in nn("evaluate", labels[0], out / labels[0].name)
