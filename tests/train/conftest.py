"""A recipe small enough for tests: the real network, data and loop, a few steps of them."""
from pathlib import Path

import pytest

from minidiff.train import Config


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The glyphs are drawn once for all tests, and into no cache of the reader's."""
    monkeypatch.setenv("MINIDIFF_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def small() -> Config:
    """Thirty steps that take about a second."""
    return Config(
        preset="small", data="glyphs", limit=40, steps=30, batch=4,
        model={"channels": [8, 8, 16], "condition": "film", "time_dim": 8}, schedule={"name": "cosine", "T": 10},
        lr=2e-3, warmup=5, lr_floor=1e-5, clip=1.0, ema=0.9, sheet_every=0, checkpoint_every=10, validate=8)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"
