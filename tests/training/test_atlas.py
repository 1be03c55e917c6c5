"""The atlas is counted over the cases of the fold that are trained on, and its places move with every patch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import plan, store_cases

from nnlite.data.instances import Instances
from nnlite.data.labels import Labels
from nnlite.networks.atlas import WithAtlas
from nnlite.planning.configurations import ConfigurationName
from nnlite.planning.planner import Plan
from nnlite.planning.prior import Prior
from nnlite.preprocessing.preprocess import PreprocessedCase
from nnlite.preprocessing.store import CaseStore, StoredCase
from nnlite.training.assemble import assemble
from nnlite.training.atlas import AtlasCounts
from nnlite.training.augmentation.spatial import Placing, Spatial
from nnlite.training.batches import BatchSource
from nnlite.training.config import TrainConfig
from nnlite.training.patches import PatchLoader
from nnlite.training.ranks import Ranks
from nnlite.training.train import train

CPU = torch.device("cpu")
CONFIG = TrainConfig(epochs=1, iterations=1, validation_iterations=1)


def with_prior(
    name: ConfigurationName = "3d", use: str = "channel", shape: tuple[int, int, int] = (18, 20, 22)
) -> Plan:
    return replace(plan(name), prior=Prior(use=use, atlas_shape=shape))  # type: ignore[arg-type]


def count_atlas(cases: Iterable[StoredCase], made: Plan) -> np.ndarray:
    return AtlasCounts.of(cases, made).frequencies()


def relabelled(folder: Path, case: StoredCase, label: np.ndarray, **restoration) -> StoredCase:
    """The same case with another label map, and maybe cut out elsewhere."""
    changed = replace(case.restoration, **restoration)
    store = CaseStore(folder)
    store.write(
        PreprocessedCase(
            case_id=case.case_id, image=case.image, label=label.astype(np.uint8), previous=None, restoration=changed
        )
    )
    return store.open(case.case_id)


def test_frequencies_are_counted_voxel_by_voxel(tmp_path: Path) -> None:
    first, second, _ = store_cases(tmp_path).values()
    label = np.array(first.label)
    moved = relabelled(tmp_path / "moved", second, np.roll(label, 2, axis=0))
    atlas = count_atlas([first, moved], with_prior())
    wanted = [((label == index).astype(float) + (np.roll(label, 2, axis=0) == index)) / 2 for index in (1, 2)]
    assert np.array_equal(atlas, np.stack(wanted).astype(np.float32))


def test_a_coarser_atlas_takes_the_nearest_voxels(tmp_path: Path) -> None:
    case = next(iter(store_cases(tmp_path).values()))
    atlas = count_atlas([case], with_prior(shape=(9, 10, 11)))
    assert atlas.shape == (2, 9, 10, 11)
    assert atlas[0].mean() == pytest.approx((np.array(case.label) == 1).mean(), rel=0.1)


def test_a_cropped_case_lies_where_it_was_cut_out_and_has_nothing_around(tmp_path: Path) -> None:
    case = next(iter(store_cases(tmp_path).values()))
    cut = relabelled(tmp_path / "cut", case, case.label, shape=(36, 20, 22), box=((18, 36), (0, 20), (0, 22)))
    atlas = count_atlas([cut], with_prior(shape=(36, 20, 22)))
    assert not atlas[:, :18].any()
    assert np.array_equal(atlas[0, 18:], np.array(case.label) == 1)


def test_what_was_not_drawn_or_is_to_be_ignored_is_not_counted(tmp_path: Path) -> None:
    cases = store_cases(tmp_path, annotated={"case_1": (True, False)})
    both, ball = cases["case_0"], cases["case_1"]
    assert np.array_equal(count_atlas([both, ball], with_prior())[1], count_atlas([both], with_prior())[1])
    ignoring = replace(with_prior(), labels=Labels.from_table({"ball": 1, "core": 2, "ignore": 3}))
    unsure = np.array(both.label)
    unsure[:9] = 3
    atlas = count_atlas([both, relabelled(tmp_path / "unsure", ball, unsure)], ignoring)
    assert np.array_equal(atlas[0, :9], np.array(both.label)[:9] == 1)


def test_where_no_case_tells_a_structure_is_as_frequent_as_in_all_that_is_told(tmp_path: Path) -> None:
    ignoring = replace(with_prior(), labels=Labels.from_table({"ball": 1, "core": 2, "ignore": 3}))
    whole, other, _ = store_cases(tmp_path).values()
    label = np.array(whole.label)
    upper, few = (np.where(np.arange(18)[:, None, None] < told, label, 3) for told in (12, 10))
    sparse = [relabelled(tmp_path / case.case_id, case, part) for case, part in ((whole, upper), (other, few))]
    atlas = count_atlas(sparse, ignoring)
    assert atlas.dtype == np.float32
    for structure, index in enumerate((1, 2)):
        ball = label == index  # the same in both cases
        assert np.array_equal(atlas[structure, :12], ball[:12])
        share = (ball[:12].sum() + ball[:10].sum()) / ((12 + 10) * 20 * 22)
        assert atlas[structure, 12:] == pytest.approx(share)
    # a patch of the first case: its own label does not show in the slices of which it alone tells
    others = AtlasCounts.of(sparse, ignoring).without(sparse[0])
    assert np.array_equal(others[0, :10], label[:10] == 1)
    assert others[0, 10:] == pytest.approx((label[:10] == 1).mean())


@pytest.mark.parametrize("use", ["channel", "product"])
def test_the_border_of_instances_is_counted_with_its_label_and_a_training_goes_through(
    use: str, tmp_path: Path
) -> None:
    nuclei = Labels(names=("background", "nucleus"), values=(0, 1), instances=Instances(border_px=2))
    made, cases = replace(with_prior(use=use), labels=nuclei), store_cases(tmp_path)
    atlas = count_atlas(cases.values(), made)  # the core of the ball has the index that is the border's here
    assert np.array_equal(atlas[0], np.array(cases["case_0"].label) > 0)
    train(
        made,
        made.configuration("3d"),
        CONFIG,
        fold="all",
        training_cases=cases,
        validation_cases={},
        files=None,
        device=CPU,
    )


@pytest.mark.parametrize("use", ["channel", "product"])
def test_held_out_cases_play_no_part_in_the_atlas_of_a_fold(use: str, tmp_path: Path) -> None:
    made = with_prior(use=use)
    first, second, third = store_cases(tmp_path).values()
    training = {case.case_id: case for case in (first, second)}

    def atlas(held_out: StoredCase, cases: dict[str, StoredCase] = training) -> torch.Tensor:
        trained = train(
            made,
            made.configuration("3d"),
            CONFIG,
            fold="fold0",
            training_cases=cases,
            validation_cases={held_out.case_id: held_out},
            files=None,
            device=CPU,
        )
        return trained.weights["atlas"]

    other = relabelled(tmp_path / "other", third, 2 - np.array(third.label).clip(0, 2))
    assert torch.equal(atlas(third), atlas(other))
    assert torch.equal(atlas(third), torch.from_numpy(count_atlas(training.values(), made)))
    changed = {
        "case_0": first,
        "case_1": relabelled(tmp_path / "changed", second, 2 - np.array(second.label).clip(0, 2)),
    }
    assert not torch.equal(atlas(third), atlas(third, changed))


def test_a_case_taken_out_leaves_the_atlas_of_the_others(tmp_path: Path) -> None:
    """Also where some of them tell of less."""
    cases = store_cases(tmp_path, annotated={"case_1": (True, False)})
    ignoring = replace(with_prior(), labels=Labels.from_table({"ball": 1, "core": 2, "ignore": 3}))
    unsure = np.roll(np.array(cases["case_2"].label), 3, axis=2)
    unsure[:9] = 3
    mixed = [cases["case_0"], cases["case_1"], relabelled(tmp_path / "unsure", cases["case_2"], unsure)]
    counts = AtlasCounts.of(mixed, ignoring)
    for one in mixed:
        assert np.array_equal(counts.without(one), count_atlas([case for case in mixed if case is not one], ignoring))
    assert not AtlasCounts.of(mixed[:1], ignoring).without(mixed[0]).any()


@pytest.mark.parametrize("ranks", [Ranks(), Ranks(1, 2)])
def test_training_patches_see_the_atlas_of_the_other_cases(ranks: Ranks, tmp_path: Path) -> None:
    made, cases = with_prior(), store_cases(tmp_path)
    moved = np.roll(np.array(cases["case_1"].label), 4, axis=1)
    cases["case_1"] = relabelled(tmp_path / "moved", cases["case_1"], moved)
    counts = AtlasCounts.of(cases.values(), made)
    source = BatchSource(made, made.configuration("3d"), cases, cases, seed=0, device=CPU, ranks=ranks, atlas=counts)
    with closing(source.training_batches(0, 4)) as batches:
        for batch in batches:
            own = batch.cases[source.share.first : source.share.stop]
            wanted = torch.from_numpy(np.stack([counts.without(cases[case_id]) for case_id in own]))
            assert torch.equal(batch.atlases, wanted)
    with closing(source.validation_batches(0, 1)) as batches:
        assert next(batches).atlases is None


@pytest.mark.parametrize("use", ["channel", "product"])
def test_only_what_is_learned_from_is_taken_out_of_the_atlas(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, cases = with_prior(use=use), store_cases(tmp_path)
    looked_up, seen = WithAtlas.frequencies, set()

    def frequencies(self: WithAtlas, places: torch.Tensor, atlases: torch.Tensor | None = None) -> torch.Tensor:
        seen.add((self.training, atlases is not None))
        return looked_up(self, places, atlases)

    monkeypatch.setattr(WithAtlas, "frequencies", frequencies)
    train(
        made,
        made.configuration("3d"),
        CONFIG,
        fold="fold0",
        training_cases={name: cases[name] for name in ("case_0", "case_1")},
        validation_cases={"case_2": cases["case_2"]},
        files=None,
        device=CPU,
    )
    assert seen == {(True, True), (False, False)}


@pytest.mark.parametrize("size", [(16, 16), (8, 12, 16)])
def test_places_turn_deform_and_flip_with_the_image(size: tuple[int, ...], tmp_path: Path) -> None:
    """An image of the places themselves: what is read of it and the places that come along are one."""
    case = next(iter(store_cases(tmp_path).values()))
    ramps = [(np.arange(n) + 0.5) / n + 1 for n in case.label.shape]
    image = np.stack(np.meshgrid(*ramps, indexing="ij")).astype(np.float32)
    store = CaseStore(tmp_path / "ramps")
    store.write(
        PreprocessedCase(
            case_id="ramps", image=image, label=np.array(case.label), previous=None, restoration=case.restoration
        )
    )
    spatial = Spatial(elastic=0.5, elastic_voxels=(1.0, 2.0), quarter_turns=0.5)
    planes = ((0, 1),) if len(size) == 2 else ((0, 1), (1, 2))
    placing = Placing(spatial=spatial, mirror_axes=(0, 1), turn_planes=planes, spacing_mm=(1.0,) * len(size))
    loader = PatchLoader(
        {"ramps": store.open("ramps")}, patch_size=size, batch_size=20, placing=placing, with_places=True
    )
    images = assemble(loader.draw(np.random.default_rng(0)), size, CPU).images
    assert images.shape == (20, 6, *size)
    read, found = images[:, :3], images[:, 3:]
    first, last = (torch.tensor([ramp[end] for ramp in ramps]).view(3, *(1,) * len(size)) for end in (0, -1))
    inside = ((found >= first - 1e-6) & (found <= last + 1e-6)).all(dim=1, keepdim=True)
    inside = inside.expand_as(read)  # elsewhere the image is padded with 0
    assert inside.float().mean() > 0.7
    assert torch.allclose(read[inside], found[inside], atol=1e-3)


def test_augmentation_leaves_places_alone_and_a_cascade_has_them_before_its_labels(tmp_path: Path) -> None:
    made = with_prior("3d-cascade")
    cases = store_cases(tmp_path, cascade=True)
    source = BatchSource(made, made.configuration("3d-cascade"), cases, cases, seed=0, device=CPU)
    for batch in (*source.training_batches(0, 4), *source.validation_batches(0, 1)):
        assert batch.images.shape == (3, 1 + 3 + 2, 16, 16, 16)
        assert batch.images[:, 1:4].min() > 0.5
        assert batch.images[:, 1:4].max() < 2.5
        steps = batch.images[:, 1:4].diff(n=2, dim=-1)  # linear, but where the border of what was read is repeated
        assert steps.abs().median() < 1e-4
