"""Which structures of a case are drawn, told by lists of names."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnlite.data.annotated import annotated_structures, annotation_faults, drawn_channels, names_of, not_annotated
from nnlite.data.labels import Labels
from nnlite.data.layouts import Case
from nnlite.errors import DatasetError

ORGANS = Labels.from_table({"liver": 1, "spleen": 5, "kidney": 2})
TUMOUR = Labels.from_table({"tumour": [1, 2], "core": 2})


def test_a_case_without_a_list_or_with_a_full_one_has_everything_drawn():
    assert annotated_structures(ORGANS, None) is None
    assert annotated_structures(ORGANS, ["spleen", "kidney", "liver"]) is None
    assert names_of(ORGANS, None) == ("liver", "kidney", "spleen")


def test_structures_are_in_the_order_of_the_table_whatever_that_of_the_list():
    assert annotated_structures(ORGANS, ["spleen", "liver"]) == (True, False, True)
    assert names_of(ORGANS, (True, False, True)) == ("liver", "spleen")


def test_a_region_is_drawn_where_it_is_named_or_all_its_labels_are():
    assert annotated_structures(TUMOUR, ["tumour"]) == (True, False)  # somebody drew its outline, and nothing inside
    assert annotated_structures(TUMOUR, ["core"]) == (False, True)
    assert annotated_structures(TUMOUR, ["label 1", "core"]) is None


def test_channels_of_a_network_have_one_for_the_background_unless_they_are_regions():
    assert drawn_channels(ORGANS, (True, False, True)) == (True, True, False, True)
    assert drawn_channels(TUMOUR, (True, False)) == (True, False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["liver", "lver"], "annotated names lver, which is no label; there are liver, kidney, spleen"),
        ([], "annotated names nothing, so that no structure is drawn"),
    ],
)
def test_lists_that_mean_nothing_are_refused(names, message):
    with pytest.raises(DatasetError, match=message):
        annotated_structures(ORGANS, names)


def test_voxels_of_a_label_that_is_not_drawn_contradict_the_list():
    assert not_annotated(ORGANS, (True, False, False), (0, 1, 5)) == ("spleen",)
    assert not_annotated(ORGANS, None, (0, 1, 5)) == ()
    assert not_annotated(TUMOUR, (True, False), (0, 1, 2)) == ()  # the core is part of the tumour, which is drawn
    assert not_annotated(TUMOUR, (False, True), (0, 1, 2)) == ("label 1",)


def test_both_are_faults_of_their_case():
    cases = [
        Case(id=name, images=(), label=Path("x"), annotated=names)
        for name, names in (("a", ("liver",)), ("b", ("lung",)), ("c", None), ("d", ("spleen",)))
    ]
    found = list(annotation_faults(cases, ORGANS, {"a": (0, 1, 2), "b": (0,), "c": (0, 1, 2), "d": (0, 5)}))
    assert [(fault.case, fault.what) for fault in found] == [
        ("a", "its label map holds kidney, but its list of annotated labels names only liver"),
        ("b", "annotated names lung, which is no label; there are liver, kidney, spleen"),
    ]
