"""Fixtures that every test may use: where the real data lies, and how to do without it."""

from __future__ import annotations

from pathlib import Path

import pytest

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
