"""Datasets as tables: what each column means, and how faults are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnlite.data.split import Split
from nnlite.data.tables import case_list
from nnlite.errors import DatasetError, UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def told(found) -> list[tuple[str | None, str]]:
    return [(fault.case, fault.what) for fault in found.faults]


def table(folder: Path, text: str, name: str = "cases.csv") -> Path:
    """A table whose cells that look like images are files."""
    (folder / name).write_text(text)
    for line in text.splitlines()[1:]:
        touch(folder, *(cell for cell in line.split(",") if cell.endswith(".nii")))
    return folder / name


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_has_one_row_per_case_and_one_column_per_channel(tmp_path, delimiter):
    rows = [
        ["ID", "T1", "FLAIR", "label", "site", "group"],
        ["p1", "x/t1.nii", "x/fl.nii", "x/seg.nii", "Rome", "anna"],
    ]
    touch(tmp_path, "x/t1.nii", "x/fl.nii", "x/seg.nii")
    (tmp_path / "cases.csv").write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows) + "\n\n")
    found = case_list(tmp_path / "cases.csv")
    [case] = found.cases
    assert (case.id, found.channels) == ("p1", ("T1", "FLAIR"))
    assert case.images == (tmp_path / "x/t1.nii", tmp_path / "x/fl.nii")
    assert (case.label, case.group, case.site) == (tmp_path / "x/seg.nii", "anna", "Rome")
    assert (case.annotated, found.splits) == (None, None)


def test_a_table_without_ids_takes_the_name_of_the_first_file(tmp_path):
    touch(tmp_path, "i/p7.nii.gz", "elsewhere/p7.nii.gz")
    rows = [{"image": "i/p7.nii.gz", "label": str(tmp_path / "elsewhere/p7.nii.gz")}]
    (tmp_path / "list.json").write_text(json.dumps(rows))
    found = case_list(tmp_path / "list.json")
    assert found.cases[0].id == "p7"
    assert found.cases[0].label == tmp_path / "elsewhere/p7.nii.gz"
    assert found.channels == ()  # "image" says where it is, not what it shows


def test_columns_without_paths_are_no_channels_and_told_of(tmp_path):
    found = case_list(table(tmp_path, "case,age,CT,sex,label\na,63,a.nii,f,la.nii\nb,,b.nii,m,lb.nii\n"))
    assert found.channels == ("CT",)
    assert found.notes == ["cases.csv: columns without paths of images are left out: age, sex"]


def test_a_slash_makes_no_path(tmp_path):
    lines = ["case,image,label,age,scanned,stain", "a,a.nii,la.nii,61,2020/01/05,H/E", "b,b.nii,lb.nii,n/a,,"]
    long = f"c,c.nii,lc.nii,70,,{'seen by A/B ' * 40}"  # longer than a name of a file can be
    found = case_list(table(tmp_path, "\n".join([*lines, long, ""])))
    assert (found.channels, [case.id for case in found.cases], found.faults) == ((), ["a", "b", "c"], [])
    assert found.notes == ["cases.csv: columns without paths of images are left out: age, scanned, stain"]


def test_a_folder_of_slices_is_a_path_if_it_is_there(tmp_path):
    (tmp_path / "scans/a").mkdir(parents=True)
    found = case_list(table(tmp_path, "case,CT,label\na,scans/a,la.nii\nb,scans/b,lb.nii\n"))
    assert (found.channels, [case.id for case in found.cases]) == (("CT",), ["a"])
    assert told(found) == [("b", f'column "CT": {tmp_path}/scans/b does not exist')]


def test_a_column_of_folds_says_which_fold_holds_a_case_out(tmp_path):
    folds = {"a": "10", "b": "9", "c": "", "d": "train", "e": "9"}
    rows = "".join(f"{case},{case}.nii,{case}.nii,{fold}\n" for case, fold in folds.items())
    found = case_list(table(tmp_path, f"id,CT,label,fold\n{rows}"))
    assert found.splits is not None
    assert found.splits.folds == (
        Split(train=("a", "c", "d"), validation=("b", "e")),
        Split(train=("b", "c", "d", "e"), validation=("a",)),
    )
    assert found.splits.reason == 'as in the column "fold" of cases.csv (9, 10)'


def test_annotated_labels_are_separated_by_semicolons_or_a_list(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    text = 'case,CT,label,annotated\na,a.nii,a.nii,"liver; spleen"\nb,b.nii,b.nii,\n'
    (tmp_path / "cases.csv").write_text(text)
    rows = [
        {"case": "a", "CT": "a.nii", "label": "a.nii", "annotated": ["liver", "spleen"]},
        {"case": "b", "CT": "b.nii", "label": "b.nii", "annotated": None},
    ]
    (tmp_path / "cases.json").write_text(json.dumps(rows))
    for name in ("cases.csv", "cases.json"):
        assert [case.annotated for case in case_list(tmp_path / name).cases] == [("liver", "spleen"), None]


def test_parquet_tables_say_the_same_as_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    touch(tmp_path, "a.nii", "b.nii")
    columns = {
        "case": ["a", "b"],
        "CT": ["a.nii", "b.nii"],
        "label": ["a.nii", "b.nii"],
        "fold": [0.0, None],
        "annotated": [["liver"], None],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "cases.parquet")
    (tmp_path / "cases.csv").write_text("case,CT,label,fold,annotated\na,a.nii,a.nii,0,liver\nb,b.nii,b.nii,,\n")
    one, other = (case_list(tmp_path / name) for name in ("cases.parquet", "cases.csv"))
    assert one.cases == other.cases
    assert one.splits is not None
    assert one.splits.folds == other.splits.folds == (Split(train=("b",), validation=("a",)),)
    (tmp_path / "cases.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match=r"cases\.parquet cannot be read as a Parquet table"):
        case_list(tmp_path / "cases.parquet")


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'nnlite\[tables\]', or save it as CSV"):
        case_list(tmp_path / "cases.parquet")


def test_faults_of_a_table_name_row_and_column(tmp_path):
    rows = "a,a.nii,\nb,,b.nii\n../c,c.nii,c.nii\nd,d.nii,d.nii\nd,e.nii,e.nii\n"
    found = case_list(table(tmp_path, f"id,CT,label\n{rows}e,gone/e.nii.gz,e.nii\n"))
    assert told(found) == [
        ("a", 'no path in column "label"'),
        ("b", 'no path in column "CT"'),
        ("../c", "the id '../c' cannot be part of a file name"),
        ("e", f'column "CT": {tmp_path}/gone/e.nii.gz does not exist'),
        ("d", "the id occurs 2 times"),
    ]
    assert [fault.file for fault in found.faults[:4]] == [f"cases.csv, line {line}" for line in (2, 3, 4, 7)]
    assert [case.id for case in found.cases] == ["a", "d"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cases.csv", "id,CT\na,a.nii\n", 'needs a column "label".*found the columns id, CT'),
        ("cases.csv", "id,age,label\na,63,a.nii\n", "one column per channel with paths"),
        ("cases.json", '{"a": 1}', "write a list of cases"),
        ("cases.json", "[", r"cases\.json is not valid JSON: .*line 1"),
        ("cases.csv", b"\xff\xfe\x00", "cannot be read as a CSV table"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=message):
        case_list(tmp_path / name)
