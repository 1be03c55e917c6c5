from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from fake_pipeline import FakePipeline, nn

from nnlite.data.labels import Labels


def converted(notes: int) -> SimpleNamespace:
    return SimpleNamespace(
        folder=Path("out"),
        cases=("Ann", "Bob"),
        channel="CT",
        labels=Labels(names=("background", "liver"), values=(0, 1)),
        notes=tuple(f"case {number}: note" for number in range(notes)),
    )


def test_convert_passes_structures_on_and_tells_what_was_made(pipeline: FakePipeline):
    pipeline.answers["convert"] = converted(notes=1)
    shown = nn("convert", "dicom", "-o", "out", "--structure", "liver", "--structure", "tumour=GTV*")
    (_, arguments, given) = pipeline.calls[0]
    assert arguments == (Path("dicom"), Path("out"))
    assert given["structures"] == ["liver", "tumour=GTV*"]
    assert (given["to"], given["link"]) == ("folder", False)
    assert shown.stdout == "2 cases of CT; labels: 0 background, 1 liver -> out\n"
    assert "case 0: note" in shown.stderr


def test_convert_lists_no_more_notes_than_half_a_screen_holds(pipeline: FakePipeline):
    pipeline.answers["convert"] = converted(notes=15)
    shown = nn("convert", "dicom", "-o", "out")
    assert "case 11: note" in shown.stderr
    assert "case 12: note" not in shown.stderr
    assert "and 3 more such notes" in shown.stderr


def test_convert_asks_for_the_layout_and_links(pipeline: FakePipeline):
    pipeline.answers["convert"] = converted(notes=0)
    nn("convert", "brains", "-o", "out", "--to", "nnunet", "--link")
    (_, _, given) = pipeline.calls[0]
    assert (given["to"], given["link"]) == ("nnunet", True)
    refused = nn("convert", "brains", "-o", "out", "--to", "coco")
    assert refused.exit_code == 2
    assert 'there is no layout "coco"; --to is one of folder, nnunet, msd, bids, table' in refused.stderr
