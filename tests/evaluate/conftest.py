"""The small CLIP that knows digits, where its files and open_clip are at hand."""

import importlib.util
import lzma
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def open_clip():
    """open_clip, imported as minidiff imports it."""
    for package in ("torch", "torchvision", "open_clip"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it comes with the extra `clip`")
    from minidiff.evaluate import clip

    return clip._open_clip()


@pytest.fixture(scope="session")
def mini_files(tmp_path_factory) -> tuple[Path, Path]:
    """Configuration and weights, inflated."""
    folder = Path(os.environ.get("MINIDIFF_DATA", "")) / "clip"
    if not os.environ.get("MINIDIFF_DATA") or not (folder / "mini-mnist.pt.xz").is_file():
        pytest.skip("MINIDIFF_DATA names no folder with clip/mini-mnist.pt.xz, the small CLIP")
    weights = tmp_path_factory.mktemp("clip") / "mini-mnist.pt"
    weights.write_bytes(lzma.decompress((folder / "mini-mnist.pt.xz").read_bytes()))
    return folder / "mini-mnist.json", weights


@pytest.fixture(scope="session")
def mini(open_clip, mini_files):
    from minidiff.evaluate import load_clip

    return load_clip(*mini_files)
