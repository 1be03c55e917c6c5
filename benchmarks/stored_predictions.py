"""Make the masks that the tests expect of ``--exact``: nnU-Net's own, for models that the tests can write themselves.

    python benchmarks/stored_predictions.py --python PYTHON_OF_NNUNET

The models have random weights and the images are drawn, both from a seed (tests/nnunet_files.py), so that only the
masks have to be stored; the test needs no nnU-Net.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from nnlite.data.image import read_image

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"


def main() -> None:
    """Write what nnU-Net predicts to tests/interop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True, help="Python in which nnU-Net v2 is installed")
    parser.add_argument("--out", type=Path, default=TESTS / "interop" / "nnunet_predictions.npz")
    arguments = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    files = importlib.import_module("nnunet_files")

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        images = files.write_images(work / "images")
        models = [
            {"name": name, "trained": str(folder.relative_to(work)), "images": images}
            | ({"first_stage": "low"} if name == "cascade" else {})
            for name, folder in files.write_stored_models(work).items()
        ]
        (work / "models.json").write_text(json.dumps({"models": models}))
        subprocess.run([arguments.python, HERE / "nnunet_models.py", work], check=True)
        masks = {
            f"{model['name']}/{image}": read_image(
                work / "expected" / str(model["name"]) / f"{image}.nii.gz", orientation="file"
            ).array[0]
            for model in models
            for image in images
        }
    np.savez_compressed(arguments.out, **masks)
    for name, mask in masks.items():
        print(name, mask.shape, np.bincount(mask.ravel()))


if __name__ == "__main__":
    main()
