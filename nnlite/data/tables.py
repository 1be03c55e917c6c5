"""Datasets as a table: one row per case in a CSV, JSON or Parquet file, wherever the images lie.

Columns are told by their names: ``case`` (or ``id``), ``label``, ``group``, ``fold``, ``site``, ``annotated``. Of the
others those are channels in which a cell ends like an image or names what is there. Paths are relative to the table.
Nothing here opens an image.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlite.data.faults import Fault
from nnlite.data.image import image_suffix
from nnlite.data.layouts import ILLEGAL_IN_ID, Case, Found, drop_duplicates, read_json, stem
from nnlite.data.split import SEED, Split, Splits
from nnlite.data.unreadable import absent
from nnlite.errors import DatasetError, UsageError

TABLE_SUFFIXES = (".csv", ".json", ".parquet")
CASE_COLUMNS = ("case", "id")
RESERVED_COLUMNS = (*CASE_COLUMNS, "label", "group", "fold", "site", "annotated")
UNNAMED_COLUMNS = ("image", "images")  # say where the image is, not what it shows
TRAIN = "train"  # the word, in a column of folds, for cases that no fold holds out
LISTED_COLUMNS = 6

Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """Rows with the place of each in the file, and which columns are channels."""

    file: Path
    rows: Sequence[tuple[str, Row]]
    channels: tuple[str, ...]

    def fault(self, place: str, case: str, what: str, remedy: str) -> Fault:
        return Fault(case=case, what=what, remedy=remedy, file=f"{self.file.name}, {place}")


def case_list(file: Path) -> Found:
    """Cases in a CSV, JSON or Parquet table. Faults name row and column."""
    table = _read(file)
    unnamed = len(table.channels) == 1 and table.channels[0] in UNNAMED_COLUMNS
    found = Found(layout=f"list of cases ({file.name})", channels=() if unnamed else table.channels)
    folds: dict[str, str] = {}
    for place, row in table.rows:
        if (case := _case(table, place, row, found.faults)) is not None:
            found.cases.append(case)
            folds[case.id] = row.get("fold", "")
    drop_duplicates(found)
    found.splits = _splits(folds, file)
    columns = dict.fromkeys(column for _, row in table.rows for column in row)
    if ignored := [column for column in columns if column not in (*RESERVED_COLUMNS, *table.channels)]:
        found.notes.append(f"{file.name}: columns without paths of images are left out: {_listed(ignored)}")
    return found


def _read(file: Path) -> _Table:
    """The table in a file; a ``DatasetError`` says which columns it lacks."""
    readers = {".csv": _csv_rows, ".json": _json_rows, ".parquet": _parquet_rows}
    rows = readers[file.suffix.lower()](file)
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    others = [column for column in columns if column not in RESERVED_COLUMNS]
    channels = tuple(column for column in others if any(_is_path(row.get(column, ""), file.parent) for _, row in rows))
    if rows and ("label" not in columns or not channels):
        raise DatasetError(
            f'{file}: a list of cases needs a column "label" and one column per channel with paths (relative to the '
            f"file) of images, or of folders that are there; found the columns {', '.join(columns)}"
        )
    return _Table(file=file, rows=rows, channels=channels)


def _is_path(cell: str, home: Path) -> bool:
    """Whether a cell speaks of an image, be it there or not; a slash alone may be a date, or "n/a"."""
    try:
        return image_suffix(Path(cell)) is not None or bool(cell and (home / cell).exists())
    except OSError:  # too long for a name, as a remark can be
        return False


def _case(table: _Table, place: str, row: Row, faults: list[Fault]) -> Case | None:
    """The case in a row; None, with the reasons added to ``faults``, where it cannot be one."""
    home = table.file.parent
    paths = {column: home / row[column] for column in [*table.channels, "label"] if row.get(column)}
    name = next((row[column] for column in CASE_COLUMNS if row.get(column)), "")
    name = name or (stem(next(iter(paths.values()))) if paths else place)
    if ILLEGAL_IN_ID.search(name):
        what, remedy = f"the id {name!r} cannot be part of a file name", "use letters, digits, - and _"
        faults.append(table.fault(place, name, what, remedy))
        return None
    missing = [column for column in [*table.channels, "label"] if column not in paths]
    for column in missing:
        what, remedy = f'no path in column "{column}"', "fill it in, or remove the row"
        faults.append(table.fault(place, name, what, remedy))
    lost = {column: path for column, path in paths.items() if not path.exists()}
    for column, path in lost.items():
        what, _, remedy = absent(path).partition("; ")
        what, remedy = f'column "{column}": {path} {what}', f"{remedy}; it is relative to the table"
        faults.append(table.fault(place, name, what, remedy))
    if lost or missing not in ([], ["label"]):
        return None
    drawn = [part.strip() for part in row.get("annotated", "").split(";")]
    return Case(
        id=name,
        images=tuple(paths[channel] for channel in table.channels),
        label=paths.get("label"),
        group=row.get("group") or None,
        site=row.get("site") or None,
        annotated=tuple(filter(None, drawn)) or None,
    )


def _splits(folds: Mapping[str, str], file: Path) -> Splits | None:
    """The folds that a column names: each holds out its cases; those of no fold, or of "train", none does."""
    names = sorted({fold for fold in folds.values() if fold and fold.lower() != TRAIN}, key=_natural)
    if not names:
        return None
    cases = sorted(folds)
    parts = tuple(
        Split(
            train=tuple(case for case in cases if folds[case] != name),
            validation=tuple(case for case in cases if folds[case] == name),
        )
        for name in names
    )
    reason = f'as in the column "fold" of {file.name} ({_listed(names)})'
    return Splits(seed=SEED, folds=parts, rule="dataset", reason=reason)


def _natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """What to sort names by so that fold 10 comes after fold 9."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def _csv_rows(file: Path) -> list[tuple[str, Row]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} cannot be read as a CSV table: {error}") from error
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.DictReader(lines, delimiter=delimiter, restkey="")
    return [(f"line {reader.line_num}", _clean_row(row)) for row in reader if any(row.values())]


def _json_rows(file: Path) -> list[tuple[str, Row]]:
    content = read_json(file)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DatasetError(f'{file}: write a list of cases, [{{"case": "..", "label": "path", "CT": "path"}}, ..]')
    return [(f"entry {number}", _clean_row(row)) for number, row in enumerate(content, start=1)]


def _parquet_rows(file: Path) -> list[tuple[str, Row]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError(
            f"{file}: Parquet is read with pyarrow; install it with: pip install 'nnlite[tables]', or save it as CSV"
        ) from error
    try:
        rows = parquet.read_table(file).to_pylist()
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{file} cannot be read as a Parquet table: {error}") from error
    return [(f"row {number}", _clean_row(row)) for number, row in enumerate(rows, start=1)]


def _clean_row(row: Mapping[Any, Any]) -> Row:
    """Cells as stripped text; the reserved column names in lower case. Cells beyond the header are dropped."""
    clean = {}
    for column, value in row.items():
        if name := str(column).strip():
            name = name.lower() if name.lower() in (*RESERVED_COLUMNS, *UNNAMED_COLUMNS) else name
            clean[name] = _cell(value)
    return clean


def _cell(value: Any) -> str:
    """A cell as text; a list with semicolons, nothing for what is missing.

    >>> _cell(2.0), _cell(["liver", "spleen"]), _cell(float("nan"))
    ('2', 'liver;spleen', '')
    """
    if isinstance(value, list):
        return ";".join(map(str, value))
    if isinstance(value, float):  # how tables hold whole numbers in a column with gaps
        return "" if value != value else f"{value:g}"
    return "" if value is None else str(value).strip()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED_COLUMNS]) + ", .." * (len(names) > LISTED_COLUMNS)
