"""Many faults, one message."""

from __future__ import annotations

from nnlite.data.faults import Fault, in_words


def test_the_same_fault_of_many_cases_is_told_once():
    faults = [Fault(case=f"c{i}", what="no label", remedy="add it") for i in range(7)]
    assert in_words(faults, dataset="D", cases=9) == (
        "D: 7 of 9 cases cannot be used:\n- 7 cases (c0, c1, c2, c3, c4, and 2 more): no label; add it"
    )


def test_faults_of_the_dataset_come_first_and_cases_are_counted_once():
    faults = [
        Fault(case="a", what="no label", remedy="add it", file="images/a.png"),
        Fault(case="a", what="NaN", remedy="repair it"),
        Fault(case=None, what="no table", remedy="write one"),
    ]
    assert in_words(faults, dataset="D", cases=2).splitlines() == [
        "D: 1 of 2 cases cannot be used:",
        "- no table; write one",
        "- a (images/a.png): no label; add it",
        "- a: NaN; repair it",
    ]


def test_a_fault_of_the_dataset_alone_counts_no_cases():
    words = in_words([Fault(case=None, what="no table", remedy="write one")], dataset="D", cases=5)
    assert words == "D cannot be used:\n- no table; write one"
