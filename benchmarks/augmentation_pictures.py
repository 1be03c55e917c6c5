"""Draw the pictures of ``docs/how-to/choose-an-augmentation.md``: each preset on a phantom it is made for.

    python benchmarks/augmentation_pictures.py [--out docs/images]

The phantoms are drawn, no patient is in them: nnlite's abdomen as CT, the same with the brightness of tissues in MR,
and round cells on a slide. Each page is what ``nnlite show-augmentation`` draws.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from scipy import ndimage

import nnlite
from nnlite.data.image import read_image, write_image
from nnlite.data.phantom import LABELS, write_phantom
from nnlite.training.augmentation.presets import PresetName

CASES = 3
PRESETS: dict[PresetName, str] = {"nnunet": "mr", "ct": "ct", "mr": "mr", "microscopy": "cells"}
# Hounsfield units of the phantom, and about how bright these tissues are in a T1-weighted image
HU = (-1000.0, -300.0, -100.0, 30.0, 55.0, 105.0, 145.0, 195.0, 230.0, 400.0)
BRIGHTNESS = (0.0, 20.0, 900.0, 350.0, 400.0, 520.0, 380.0, 450.0, 600.0, 650.0)
SLIDE_PX = 256
CELLS = 35


def main() -> None:
    """Draw all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    out = parser.parse_args().out
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_phantom(folder / "ct", cases=CASES, seed=4)
        _write_mr(folder / "ct", folder / "mr")
        _write_cells(folder / "cells")
        for kind in ("ct", "mr", "cells"):
            nnlite.plan(folder / kind, work=folder / "work", device="cpu", probe=False)
        for preset, kind in PRESETS.items():
            shown = nnlite.show_augmentation(
                folder / kind,
                "2d",
                out / f"augmentation-{preset}.png",
                augmentation=preset,
                seed=2,
                work=folder / "work",
            )
            print(f"{preset}: {shown.path.stat().st_size / 1e3:.0f} kB -> {shown.path}")


def _write_mr(ct: Path, mr: Path) -> None:
    """The phantoms of ``ct`` with other intensities."""
    for path in sorted((ct / "images").glob("*.nii.gz")):
        image = read_image(path)
        write_image(mr / "images" / path.name, np.interp(image.array, HU, BRIGHTNESS), image.geometry)
        label = read_image(ct / "labels" / path.name)
        write_image(mr / "labels" / path.name, label.array, label.geometry)
    (mr / "nnlite.json").write_text(json.dumps({"channels": ["T1"], "labels": LABELS}), encoding="utf-8")


def _write_cells(folder: Path) -> None:
    """Bright round cells with a rough texture on a dark slide."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number in range(CASES):
        rng = np.random.default_rng(number)
        rows, columns = np.indices((SLIDE_PX, SLIDE_PX))
        label = np.zeros((SLIDE_PX, SLIDE_PX), dtype=np.uint8)
        for row, column, radius in zip(
            *rng.uniform(0, SLIDE_PX, size=(2, CELLS)), rng.uniform(6, 13, size=CELLS), strict=True
        ):
            label[np.hypot(rows - row, columns - column) < radius] = 1
        texture = ndimage.gaussian_filter(rng.normal(size=label.shape), 2)
        picture = 40 + ndimage.gaussian_filter(label * (110 + 250 * texture), 1) + rng.normal(0, 1.5, size=label.shape)
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"slide_{number}.png")
        Image.fromarray(label).save(folder / "labels" / f"slide_{number}.png")
    described = {"channels": ["fluorescence"], "labels": {"background": 0, "cell": 1}}
    (folder / "nnlite.json").write_text(json.dumps(described), encoding="utf-8")


if __name__ == "__main__":
    main()
