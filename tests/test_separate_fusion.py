"""Two sequences, each with an encoder of its own, from a dataset to its masks; and a single one, which is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nnlite import pipeline
from nnlite.data.image import Geometry, read_image, write_image
from nnlite.errors import PlanError
from nnlite.planning.network import NetworkOptions

SEPARATE = NetworkOptions(fusion="separate", stem="multi-scale")


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five small volumes of two sequences: a ball is bright in one of them and dark in the other."""
    folder = tmp_path_factory.mktemp("data") / "sequences"
    geometry = Geometry(shape=(16, 20, 18), spacing_mm=(2.0, 1.5, 1.5), origin_mm=(0.0, 0.0, 0.0))
    for number in range(5):
        rng = np.random.default_rng(number)
        distance = np.linalg.norm(np.moveaxis(np.indices(geometry.shape), 0, -1) - rng.uniform(7, 10, 3), axis=-1)
        ball = distance < 6
        image = np.stack([100 + 60 * ball, 200 - 90 * ball]) + rng.normal(0, 5, (2, *geometry.shape))
        for channel, one in enumerate(image):
            path = folder / "images" / f"case_{number}_{channel:04d}.nii.gz"
            write_image(path, one[None].astype(np.float32), geometry)
        write_image(folder / "labels" / f"case_{number}.nii.gz", ball[None].astype(np.uint8), geometry)
    (folder / "nnlite.json").write_text(
        '{"channels": ["T1", "FLAIR"], "labels": {"background": 0, "ball": 1}}', encoding="utf-8"
    )
    return folder


def test_each_sequence_has_an_encoder_in_training_and_prediction(sequences: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    plan = pipeline.plan(sequences, work=work, device="cpu", probe=False, network=SEPARATE).plan
    assert {one.topology.encoders for one in plan.configurations.values()} == {(1, 1)}
    assert plan.reasons["fusion"].startswith("separate: asked for; each of 2 channels")
    for name in ("2d", "3d"):
        pipeline.train(sequences, name, ("fold0",), work=work, device="cpu", epochs=1, iterations=3)
        images = sequences / "images"
        masks = pipeline.predict(
            sequences, [images], tmp_path / name, work=work, configuration=name, device="cpu"
        ).masks
        assert len(masks) == 5
        assert set(np.unique(read_image(masks[0]).array)) <= {0, 1}


def test_a_single_sequence_is_refused(balls: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"gives each channel an encoder of its own, and there is only one, MR"):
        pipeline.plan(balls, work=tmp_path, device="cpu", probe=False, network=NetworkOptions(fusion="separate"))
