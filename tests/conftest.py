"""Fixtures that every test may use: where the real data lies, and how to do without it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nnlite.data.image import Geometry, write_image

if "PYTEST_XDIST_WORKER" in os.environ:  # a process of the tests per core: threads of torch would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the programs that tests start, too

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"real data needed: no folder ../shared/{name} beside the checkout")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets: hippocampus, sarcoma, cells, membrane."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def reference_plans() -> Path:
    """What nnU-Net's own planners answer for published fingerprints."""
    return _shared_folder("reference/plans")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests, with the reason, where there is no CUDA device."""
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests:
        import torch

        if not torch.cuda.is_available():
            for item in gpu_tests:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU, and torch sees none here"))


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of five small volumes: noise, a bright ball (value 1) and its brighter core (value 7)."""
    folder = tmp_path_factory.mktemp("data") / "balls"
    geometry = Geometry(shape=(16, 20, 18), spacing_mm=(2.0, 1.5, 1.5), origin_mm=(-30.0, 5.0, 12.5))
    for number in range(5):
        rng = np.random.default_rng(number)
        distance = np.linalg.norm(np.moveaxis(np.indices(geometry.shape), 0, -1) - rng.uniform(7, 10, 3), axis=-1)
        label = np.where(distance < 3, 7, np.where(distance < 6, 1, 0)).astype(np.uint8)
        image = 100 + 60 * (distance < 6) + 60 * (distance < 3) + rng.normal(0, 5, geometry.shape)
        write_image(folder / "images" / f"ball_{number}.nii.gz", image[None].astype(np.float32), geometry)
        write_image(folder / "labels" / f"ball_{number}.nii.gz", label[None], geometry)
    (folder / "nnlite.json").write_text(
        '{"channels": ["MR"], "labels": {"background": 0, "ball": 1, "core": 7}}', encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="session")
def trained_work(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which 3d fold0 and fold1 of ``balls`` are trained, briefly; copy it before changing anything."""
    from nnlite import pipeline

    work = tmp_path_factory.mktemp("trained")
    pipeline.plan(balls, work=work, device="cpu", probe=False)
    pipeline.train(balls, "3d", ("fold0", "fold1"), work=work, device="cpu", epochs=2, iterations=10)
    return work


@pytest.fixture(scope="session")
def cross_validated_work(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which both folds of 2d and of 3d of ``balls`` are trained, briefly; copy it before changing it."""
    from nnlite import pipeline
    from nnlite.data.records import write_record
    from nnlite.data.split import make_splits
    from nnlite.workspace import Workspace

    work = tmp_path_factory.mktemp("cross_validated")
    pipeline.plan(balls, work=work, device="cpu", probe=False)
    splits = make_splits([f"ball_{number}" for number in range(5)], folds=2)
    write_record(Workspace(root=work, dataset="balls").splits, splits)
    for name in ("2d", "3d"):
        pipeline.train(balls, name, ("fold0", "fold1"), work=work, device="cpu", epochs=2, iterations=15)
    return work
