import os
from pathlib import Path

import numpy as np
import pytest

GIVEN = os.environ.get("MINIDIFF_DATA")


@pytest.fixture(autouse=True)
def folders_of_their_own(tmp_path, monkeypatch):
    """No test reads or writes the user's data and cache."""
    monkeypatch.delenv("MINIDIFF_DATA", raising=False)
    monkeypatch.setenv("MINIDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def given_data(monkeypatch):
    """The user's MINIDIFF_DATA, for the tests that need real images."""
    if not GIVEN:
        pytest.skip("MINIDIFF_DATA is not set")
    monkeypatch.setenv("MINIDIFF_DATA", GIVEN)


@pytest.fixture(scope="session")
def given_folder():
    """The user's MINIDIFF_DATA itself, or None."""
    return Path(GIVEN).expanduser() if GIVEN else None


@pytest.fixture(scope="session")
def idx_bytes():
    """An IDX file as its description has it: magic number, sizes, data, all big-endian."""
    def idx_bytes(array, code=0x08):
        return bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    return idx_bytes
