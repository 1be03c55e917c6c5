"""Which cases a report shows."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nnlite.pipeline.report_cases import BEST, TYPICAL, WORST, ranks


def test_of_many_cases_the_ends_and_the_middle_are_shown_from_worst_to_best():
    dice = {f"case_{number:02}": {"liver": number / 100} for number in range(41)}
    found = ranks(dice)
    assert list(found) == sorted(found)
    assert [case for case in found if found[case] == "worst"] == [f"case_{number:02}" for number in range(WORST)]
    assert [case for case in found if found[case] == "typical"] == ["case_19", "case_20", "case_21"]
    assert [case for case in found if found[case] == "best"] == ["case_38", "case_39", "case_40"]


def test_a_case_without_any_label_has_no_rank_and_an_absent_label_does_not_count():
    dice = {"none": {"a": math.nan}, "half": {"a": math.nan, "b": 0.5}, "good": {"a": 0.9, "b": 0.9}}
    assert ranks(dice) == {"half": "worst", "good": "best"}


@given(st.integers(0, 60))
def test_no_case_is_shown_twice_and_none_is_left_out_while_there_is_room(cases: int):
    found = ranks({str(number): {"a": number / 60} for number in range(cases)})
    assert len(found) <= min(cases, WORST + TYPICAL + BEST)
    if cases >= WORST + TYPICAL + BEST or cases <= 2:
        assert len(found) == min(cases, WORST + TYPICAL + BEST)
