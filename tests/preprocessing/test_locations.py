"""The table of voxels to centre patches on: all labels, evenly, and each as likely as the other."""

from __future__ import annotations

import numpy as np
import pytest

from nnlite.data.labels import Labels
from nnlite.preprocessing.locations import LOCATIONS_PER_STRUCTURE, Locations, locate


def test_all_voxels_of_each_label_are_there_where_they_are_few() -> None:
    label = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint8)
    table = locate(label, "a")
    assert table.structures == (1, 2, 3)
    for index in table.structures:
        np.testing.assert_array_equal(table.of(index), np.argwhere(label == index))


def test_a_voxel_takes_four_bytes() -> None:
    table = locate(np.ones((5, 5, 5), np.uint8), "a")
    assert table.voxels.nbytes == 4 * 125


def test_locations_of_a_large_label_are_distinct_voxels_drawn_by_the_case_id() -> None:
    label = np.ones((30, 30, 30), np.uint8)
    label[0, 0, 0] = 2
    first, again, other = (locate(label, case_id) for case_id in ("a", "a", "b"))
    assert first.of(1).shape == (LOCATIONS_PER_STRUCTURE, 3)
    assert len(np.unique(first.of(1), axis=0)) == LOCATIONS_PER_STRUCTURE
    assert first.of(2).tolist() == [[0, 0, 0]]
    np.testing.assert_array_equal(first.voxels, again.voxels)
    assert (first.voxels != other.voxels).any()
    # an even draw: the mean of 10,000 coordinates 0 .. 29 has a standard error of 8.66 / 100
    np.testing.assert_allclose(first.of(1).mean(axis=0), 14.5, atol=0.5)


def test_a_draw_takes_labels_evenly_and_voxels_of_the_label() -> None:
    label = np.ones((6, 7, 8), np.int16)
    label[5, 6, 7], label[0, 0, 1] = 300, 300
    table, rng = locate(label, "a"), np.random.default_rng(0)
    drawn = [table.draw(rng) for _ in range(1000)]
    values = [int(label[voxel]) for voxel in drawn if voxel is not None]
    assert values.count(300) / 1000 == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)
    assert {voxel for voxel, value in zip(drawn, values, strict=True) if value == 300} == {(5, 6, 7), (0, 0, 1)}
    assert len(set(drawn)) > 200  # of 336 voxels


def test_nothing_labelled_nothing_drawn() -> None:
    table = locate(np.zeros((2, 3, 4), np.uint8), "a")
    assert table.structures == ()
    assert table.draw(np.random.default_rng(0)) is None


def test_voxels_of_a_huge_volume_are_found() -> None:
    """More voxels than 32 bits can count: only the table, the volume itself would take gigabytes."""
    shape, voxel = (2000, 2000, 2000), (1999, 1998, 1997)
    number = np.array([np.ravel_multi_index(voxel, shape)], dtype=np.int64)
    table = Locations(shape=shape, voxels=number, ends=np.array([[1, 1]], dtype=np.int32))
    assert table.draw(np.random.default_rng(0)) == voxel
    assert table.of(1).tolist() == [list(voxel)]


def test_regions_have_the_voxels_of_all_their_labels():
    labels = Labels.from_table({"whole": [1, 2, 3], "core": [2, 3], "edge": 1}, (3, 2, 1))
    table = locate(np.array([[[0, 1, 2, 2]]], np.uint8), "a", labels)
    assert table.structures == (1, 2, 3)
    assert [table.of(structure)[:, 2].tolist() for structure in table.structures] == [[1, 2, 3], [2, 3], [1]]


def test_places_of_a_sparsely_labelled_case_are_labelled_ones():
    labels = Labels.from_table({"nodule": 1, "ignore": 2})
    label = np.full((4, 4, 4), 2, np.uint8)
    label[1], label[1, 2, 2] = 0, 1
    table, rng = locate(label, "a", labels), np.random.default_rng(0)
    assert table.structures == (1,)
    assert {table.draw(rng) for _ in range(20)} == {(1, 2, 2)}
    drawn = {table.draw_annotated(rng) for _ in range(100)}
    assert {z for z, _, _ in drawn} == {1}
    assert len(drawn) > 8
    assert locate(np.zeros((2, 2, 2), np.uint8), "a").draw_annotated(rng) is None  # all of it is labelled
    nothing = locate(np.full((2, 2, 2), 2, np.uint8), "a", labels)
    assert nothing.draw(rng) is None
    assert nothing.draw_annotated(rng) is None
