"""Shows what an atlas prior is worth where place alone tells structures apart: Dice without one, and with either kind.

    python benchmarks/atlas_prior.py [--seeds 3] [--steps 60] [--json FILE]

Images of 96 x 96 are drawn with three discs that look alike, always at about the same places; two of them have a label
each. fold0 of ten images is trained on the CPU, for a number of steps that is the same for all, and ten other images
are segmented. Each seed draws other images and other weights. docs/how-to/use-an-atlas.md shows the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

from nnlite import pipeline
from nnlite.data.image import Geometry, write_image
from nnlite.planning.prior import PriorUse

SIZE, RADIUS, JITTER = 96, 14, 4  # pixels
PLACES = ((1, (64, 26)), (2, (64, 70)), (0, (22, 48)))  # label, (row, column) of the centre
GEOMETRY = Geometry(shape=(1, SIZE, SIZE), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
CASES = 10
USES: tuple[PriorUse | None, ...] = (None, "channel", "product")


def main() -> None:
    """Print a row per kind of prior."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print("| prior | Dice, mean of seeds | each seed | patch |")
    print("|---|---|---|---|")
    results = {}
    for use in USES:
        with tempfile.TemporaryDirectory() as folder:
            rows = [scored(Path(folder, str(seed)), use, seed, arguments.steps) for seed in range(arguments.seeds)]
        scores, patch = [dice for dice, _ in rows], rows[0][1]
        results[use or "none"] = {"dice": scores, "patch_size": patch, "steps": arguments.steps}
        each = ", ".join(f"{dice:.3f}" for dice in scores)
        print(f"| {use or 'none'} | {statistics.fmean(scores):.3f} | {each} | {patch[0]} x {patch[1]} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def scored(folder: Path, use: PriorUse | None, seed: int, steps: int) -> tuple[float, tuple[int, ...]]:
    """The mean Dice over new images of a training with this prior, and the patch it was trained on."""
    rng = np.random.default_rng(seed)
    draw(folder / "discs", rng)
    draw(folder / "new", rng)
    work, images = folder / "work", sorted((folder / "new" / "images").iterdir())
    planned = pipeline.plan(folder / "discs", work=work, device="cpu", probe=False, prior=use).plan
    pipeline.train(folder / "discs", "2d", ("fold0",), work=work, epochs=1, iterations=steps, seed=seed, device="cpu")
    pipeline.predict(folder / "discs", images, folder / "masks", work=work, device="cpu")
    scores = pipeline.evaluate(folder / "new" / "labels", folder / "masks", metrics=())
    return scores.mean_dice, planned.configuration("2d").patch_size


def draw(dataset: Path, rng: np.random.Generator) -> None:
    """A dataset of images with three discs, moved by a few pixels, in noise."""
    _, y, x = np.indices(GEOMETRY.shape)
    for number in range(CASES):
        image, label = rng.normal(60, 10, GEOMETRY.shape), np.zeros(GEOMETRY.shape, dtype=np.uint8)
        for value, centre in PLACES:
            row, column = np.add(centre, rng.uniform(-JITTER, JITTER, 2))
            disc = np.hypot(y - row, x - column) < RADIUS
            image[disc] += 80
            label[disc] = value
        write_image(dataset / "images" / f"case_{number}.nii.gz", image[None].astype(np.float32), GEOMETRY)
        write_image(dataset / "labels" / f"case_{number}.nii.gz", label[None], GEOMETRY)
    table = {"channels": ["xray"], "labels": {"background": 0, "one": 1, "other": 2}}
    (dataset / "nnlite.json").write_text(json.dumps(table))


if __name__ == "__main__":
    main()
