from __future__ import annotations

import sys

import pytest
from fake_pipeline import FakePipeline

import nnlite


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "nnlite.pipeline", fake)
    monkeypatch.setattr(nnlite, "pipeline", fake, raising=False)
    monkeypatch.delenv("NNLITE_WORK", raising=False)
    return fake
