from __future__ import annotations

from pathlib import Path

from fake_pipeline import nn
from nnunet_files import write_result


def test_import_nnunet_says_what_it_took_over_and_where_it_lies(tmp_path: Path):
    folder = write_result(tmp_path, folds=("0", "all"))
    shown = nn("import-nnunet", str(folder), "-o", str(tmp_path / "model"))
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "3d_fullres: left out, as in nnU-Net: fold_all, because there are others",
        "3d fold0: unet, patch 8x16x16 at 2.00x1.50x1.50 mm",
        f"Dataset007_Balls: 0 background, 1 ball, 2 core -> {tmp_path / 'model'}",
    ]
    assert (tmp_path / "model" / "plan.json").exists()


def test_import_nnunet_refuses_with_one_message(tmp_path: Path):
    shown = nn("import-nnunet", str(tmp_path), "-o", str(tmp_path / "model"))
    assert shown.exit_code == 2
    assert "is no result folder of nnU-Net v2" in " ".join(shown.stderr.split())
