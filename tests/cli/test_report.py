from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn


def test_report_says_what_is_missing_and_where_the_page_lies(pipeline: FakePipeline, tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_bytes(b"x" * 1_234_567)
    pipeline.answers["report"] = SimpleNamespace(path=page, missing=("2d: not trained",))
    shown = nn("report", "brain", "-o", str(page), "--work", "w")
    (verb, arguments, options) = pipeline.calls[0]
    assert (verb, arguments) == ("report", (Path("brain"),))
    assert (options["output"], options["work"]) == (page, Path("w"))
    assert shown.stdout == f"report, 1.2 MB -> {page}\n"
    assert "not in the report yet: 2d: not trained" in shown.stderr
