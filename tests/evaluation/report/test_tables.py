"""Numbers on their way to the page: rounded, never NaN."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import fields, replace
from typing import Any

from small_report import CASES, small_report

from nnlite.evaluation.report.tables import case_table, metrics, score_table
from nnlite.evaluation.scores import LabelScore


def content(packed: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return answer


def test_every_measure_of_a_case_is_a_column():
    shown = {metric.field for metric in (*metrics(planar=False), *metrics(planar=True))}
    assert shown == {field.name for field in fields(LabelScore)} - {"case", "label"}


def test_a_number_that_is_not_defined_is_empty():
    report = small_report()
    row = replace(report.candidates[0].scores.rows[0], dice=float("nan"))
    candidate = replace(report.candidates[0], scores=replace(report.candidates[0].scores, rows=(row,)))
    table = content(score_table([candidate], planar=False))
    assert table["rows"][0][3] is None


def test_the_cases_have_the_mean_of_their_labels_and_pictures_have_no_depth():
    report = small_report()
    table = content(case_table(report.dataset, report.main))
    titles = [column["title"] for column in table["columns"]]
    assert titles == ["case", "held out by", *(f"{a} voxels" for a in "zyx"), *(f"{a} mm" for a in "zyx"), "mean Dice"]
    dice = [row.dice for row in report.candidates[0].scores.rows if row.case == CASES[0]]
    assert abs(table["rows"][0][-1] - sum(dice) / len(dice)) < 1e-4
    flat = content(case_table(replace(report.dataset, planar=True), None))
    assert [column["title"] for column in flat["columns"]][2:] == ["y pixels", "x pixels", "mean Dice"]
    assert flat["rows"][0][2:] == [18, 16, None]


def test_groups_sites_and_annotated_labels_have_a_column_where_some_case_has_them():
    report = small_report()
    first, *others = report.dataset.cases
    cases = (replace(first, site="Rome", annotated="liver"), *others)
    table = content(case_table(replace(report.dataset, cases=cases), None))
    assert [column["title"] for column in table["columns"]][:4] == ["case", "held out by", "site", "annotated"]
    assert [row[2:4] for row in table["rows"]] == [["Rome", "liver"], *[["", ""]] * len(others)]
