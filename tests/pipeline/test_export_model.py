"""A model leaves its workspace as one file, says what is known of it, and nothing of single patients."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nnunet_files import write_result

from nnlite import pipeline
from nnlite.data.image import read_image
from nnlite.data.records import read_record, write_record
from nnlite.errors import CheckpointError, UsageError
from nnlite.evaluation.scores import Summary
from nnlite.pipeline.model_file import ModelFile, read_model_file
from nnlite.pipeline.selection import Selection
from nnlite.training.checkpoint import ModelCard
from nnlite.workspace import Workspace


@pytest.fixture(scope="module")
def selected(balls: Path, cross_validated_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a selection; not to be changed."""
    work = Path(shutil.copytree(cross_validated_work, tmp_path_factory.mktemp("selected") / "work"))
    pipeline.select(balls, work=work, device="cpu")
    return Workspace(root=work, dataset="balls")


@pytest.fixture(scope="module")
def with_variant(balls: Path, cross_validated_work: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace in which 3d and its variant 3d@small, of another patch, answer together; not to be changed."""
    work = Path(shutil.copytree(cross_validated_work, tmp_path_factory.mktemp("variant") / "work"))
    workspace, short = Workspace(root=work, dataset="balls"), {"work": work, "device": "cpu"}
    pipeline.plan(balls, probe=False, variant="small", overrides=("3d.patch_size=8,16,16",), **short)
    list(pipeline.train(balls, "3d@small", ("fold0", "fold1"), epochs=1, iterations=10, **short))
    pipeline.select(balls, only=("3d", "3d@small"), **short)
    selection = read_record(workspace.selection, Selection)
    write_record(workspace.selection, replace(selection, members=("3d", "3d@small")))  # whichever was better
    return workspace


def mask(model: Path, image: Path, out: Path, **options: object) -> tuple[pipeline.PredictResult, np.ndarray]:
    result = pipeline.predict(model, [image], out, device="cpu", probabilities=True, **options)  # type: ignore[arg-type]
    return result, read_image(out / f"{image.name.removesuffix('.nii.gz')}.probabilities.nii").array


def test_the_file_predicts_as_its_workspace_does_to_the_bit_where_there_is_none(
    balls: Path, selected: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    image = balls / "images" / "ball_0.nii.gz"
    expected, probabilities = mask(balls, image, tmp_path / "a", work=selected.root)
    made = pipeline.export(balls, tmp_path / "elsewhere" / "m.nnlite", work=selected.root)
    assert " + ".join(made.model.members) == expected.configuration
    monkeypatch.chdir(tmp_path / "elsewhere")
    before = sorted(Path().iterdir())
    found, same = mask(Path("m.nnlite"), image, tmp_path / "b")
    assert np.array_equal(probabilities, same)
    assert found.masks[0].read_bytes() == expected.masks[0].read_bytes()
    assert (found.configuration, found.folds) == (expected.configuration, expected.folds)
    assert (found.postprocessing, found.selection) == (expected.postprocessing, Path("m.nnlite"))
    assert sorted(Path().iterdir()) == before  # nothing is unpacked
    [one], [other] = found.records, expected.records
    assert (one.labels, one.unusual, one.not_checked) == (other.labels, other.unusual, other.not_checked)


def test_a_variant_answers_from_the_file_as_it_does_in_the_workspace_alone_or_beside_its_configuration(
    balls: Path, with_variant: Workspace, tmp_path: Path
):
    image = balls / "images" / "ball_0.nii.gz"
    together = pipeline.export(balls, tmp_path / "together.nnlite", work=with_variant.root).model
    assert together.members == ("3d", "3d@small")
    alone = pipeline.export(balls, tmp_path / "alone.nnlite", work=with_variant.root, configuration="3d@small")
    assert (alone.model.members, list(alone.plan.configurations)) == (("3d@small",), ["2d@small", "3d@small"])
    for file, configuration in (("together", None), ("together", "3d@small"), ("together", "3d"), ("alone", None)):
        choice = {"work": with_variant.root, "configuration": "3d@small" if file == "alone" else configuration}
        expected, probabilities = mask(balls, image, tmp_path / "a", **choice)
        found, same = mask(tmp_path / f"{file}.nnlite", image, tmp_path / "b", configuration=configuration)
        assert found.configuration == expected.configuration
        assert np.array_equal(probabilities, same)
        assert found.masks[0].read_bytes() == expected.masks[0].read_bytes()
    file = read_model_file(tmp_path / "together.nnlite")
    patches = {card.configuration: card.plan.configuration(card.configuration).patch_size for card in cards(file)}
    assert patches["3d@small"] == (8, 16, 16) != patches["3d"]


def cards(file: ModelFile) -> list[ModelCard]:
    """What the networks in a file say of themselves."""
    return [file.checkpoint(run).card for run in file.model.runs]


def test_a_configuration_or_fold_of_the_file_answers_as_it_does_in_the_workspace(
    balls: Path, selected: Workspace, tmp_path: Path
):
    image = balls / "images" / "ball_1.nii.gz"
    made = pipeline.export(balls, tmp_path / "m.nnlite", work=selected.root)
    options = {"configuration": made.model.members[0], "folds": ("fold1",), "mirroring": False}
    expected, probabilities = mask(balls, image, tmp_path / "a", work=selected.root, **options)
    found, same = mask(tmp_path / "m.nnlite", image, tmp_path / "b", **options)
    assert np.array_equal(probabilities, same)
    assert (found.folds, found.selection, found.postprocessing) == (("fold1",), None, expected.postprocessing)
    with pytest.raises(UsageError, match=r"fold7 is not in .*m\.nnlite; there are fold0, fold1"):
        mask(tmp_path / "m.nnlite", image, tmp_path / "c", folds=("fold7",))
    with pytest.raises(UsageError, match=r'no network of "3d-lowres" is in'):
        mask(tmp_path / "m.nnlite", image, tmp_path / "c", configuration="3d-lowres")


def test_it_tells_scores_and_reliability_but_no_case(balls: Path, selected: Workspace, tmp_path: Path):
    pipeline.export(balls, tmp_path / "m.nnlite", work=selected.root)
    read = read_model_file(tmp_path / "m.nnlite")
    assert read.model.selected is not None
    assert read.model.selected.members == read.model.members
    for name in read.model.members:
        runs = [read_record(selected.run(name, fold).summary, Summary) for fold in ("fold0", "fold1")]
        assert read.model.scores[name].cases == sum(one.cases for one in runs) == 5
    assert read.appearance is not None
    assert [image.case for image in read.appearance.images] == ["1", "2", "3", "4", "5"]
    assert set(read.archive.manifest.versions) == {"nnlite", "torch", "python"}
    with zipfile.ZipFile(tmp_path / "m.nnlite") as other:
        content = b"".join(other.read(name) for name in other.namelist())
    assert b"ball_" not in content
    assert str(balls).encode() not in content
    assert str(selected.root).encode() not in content


def test_one_configuration_can_be_exported_and_so_can_a_single_run(balls: Path, selected: Workspace, tmp_path: Path):
    made = pipeline.export(balls, tmp_path / "a", work=selected.root, configuration="2d", folds=("fold1",)).model
    assert (made.members, made.folds, made.selected, made.reliability) == (("2d",), ("fold1",), None, {})
    alone = Path(shutil.copytree(selected.run("2d", "fold1").folder, tmp_path / "alone"))
    single = pipeline.export(alone, tmp_path / "b").model
    assert [(run.configuration, run.fold) for run in single.runs] == [("2d", "fold1")]
    assert single.runs == made.runs
    assert single.scores == made.scores


def test_an_imported_cascade_becomes_one_file_with_both_stages(balls: Path, tmp_path: Path):
    folders = [write_result(tmp_path, "3d_cascade_fullres", channels=3), write_result(tmp_path, "3d_lowres")]
    folder = pipeline.import_nnunet(folders, tmp_path / "model").folder
    made = pipeline.export(folder, tmp_path / "m.nnlite", configuration="3d-cascade").model
    assert [run.configuration for run in made.runs] == ["3d-cascade", "3d-lowres"]
    assert made.scores == {}
    image = balls / "images" / "ball_0.nii.gz"
    for options in ({"exact": True}, {"configuration": "3d-lowres"}):
        choice = {"configuration": "3d-cascade", **options}
        _, expected = mask(folder, image, tmp_path / "a", **choice)
        assert np.array_equal(mask(tmp_path / "m.nnlite", image, tmp_path / "b", **choice)[1], expected)


def test_the_licence_is_the_one_that_was_given_or_says_that_there_is_none(
    trained_work: Path, balls: Path, tmp_path: Path
):
    (tmp_path / "terms.txt").write_text("CC BY 4.0 · © somebody", encoding="utf-8")
    given = pipeline.export(balls, tmp_path / "a", work=trained_work, licence=tmp_path / "terms.txt")
    without = pipeline.export(balls, tmp_path / "b", work=trained_work)
    assert (given.licensed, without.licensed) == (True, False)
    assert read_model_file(tmp_path / "a").licence == "CC BY 4.0 · © somebody"
    assert read_model_file(tmp_path / "b").licence.startswith("No licence is stated for this model.")
    (tmp_path / "terms.txt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "terms.txt", tmp_path / "missing.txt"):
        with pytest.raises(UsageError, match="give the licence as a text file"):
            pipeline.export(balls, tmp_path / "c", work=trained_work, licence=path)
    with (tmp_path / "terms.txt").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UsageError, match="a licence has no more than"):
        pipeline.export(balls, tmp_path / "c", work=trained_work, licence=tmp_path / "terms.txt")


def test_what_exists_is_replaced_only_by_force(balls: Path, trained_work: Path, tmp_path: Path):
    path = tmp_path / "m.nnlite"
    path.write_text("something dear")
    with pytest.raises(UsageError, match=r"m\.nnlite exists already; give another one with -o, or add --force"):
        pipeline.export(balls, path, work=trained_work)
    assert path.read_text() == "something dear"
    pipeline.export(balls, path, work=trained_work, force=True)
    assert read_model_file(path).model.members == ("3d",)
    with pytest.raises(UsageError, match="give a file with -o"):
        pipeline.export(balls, tmp_path, work=trained_work, force=True)
    with pytest.raises(UsageError, match="is a model file already; copy it"):
        pipeline.export(path, tmp_path / "again", work=trained_work)


def test_a_damaged_network_is_not_handed_on(balls: Path, trained_work: Path, tmp_path: Path):
    work = Path(shutil.copytree(trained_work, tmp_path / "work"))
    path = Workspace(root=work, dataset="balls").run("3d", "fold1").checkpoint_final
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"fold1.*does not fit its checksum"):
        pipeline.export(balls, tmp_path / "m.nnlite", work=work)
    assert not (tmp_path / "m.nnlite").exists()
