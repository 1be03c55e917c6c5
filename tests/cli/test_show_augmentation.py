"""``nnlite show-augmentation`` passes everything on and says where the page is."""

from __future__ import annotations

from pathlib import Path

from fake_pipeline import FakePipeline, nn

from nnlite.pipeline.augmentation_page import ShownAugmentation


def test_show_augmentation_passes_everything_on_and_says_where_the_page_is(pipeline: FakePipeline):
    pipeline.answers["show_augmentation"] = ShownAugmentation(path=Path("p.png"), case_id="brain_7", pictures=20)
    shown = nn("show-augmentation", "brain", "3d", "--augmentation", "mr", "--seed", "3", "--work", "w", "-o", "p.png")
    assert shown.exit_code == 0
    [(_, arguments, options)] = pipeline.calls
    assert arguments == (Path("brain"), "3d", Path("p.png"))
    assert options | {"progress": None} == {"augmentation": "mr", "seed": 3, "work": Path("w"), "progress": None}
    assert shown.stdout == "mr on a patch of brain_7: 20 pictures -> p.png\n"


def test_a_preset_that_does_not_exist_is_refused_with_those_that_do(pipeline: FakePipeline):
    shown = nn("show-augmentation", "brain", "3d", "--augmentation", "xray", "-o", "p.png")
    assert shown.exit_code == 2
    assert "--augmentation is one of nnunet, ct, mr, microscopy, none" in shown.stderr
