"""The versions that are compared with are those that are installed for it."""

from pathlib import Path


def test_the_stage_that_compares_installs_every_peer_in_its_version(pins):
    """With another version every test would be skipped, and the stage would pass."""
    stages = (Path(__file__).resolve().parents[2] / ".ci" / "run").read_text(encoding="utf-8").split("echo ")
    (stage,) = (each for each in stages if "tests/peers" in each)
    assert {f"{name}=={pin}" for name, pin in pins.items()} <= set(stage.split())


def test_the_book_names_the_versions_that_are_compared(pins):
    page = (Path(__file__).resolve().parents[2] / "minidiff" / "book" / "pages" / "other_libraries.rst").read_text(encoding="utf-8")
    names = {"torch": "PyTorch"}
    assert all(f"{names.get(name, name)} {pin}" in " ".join(page.split()) for name, pin in pins.items() if name != "torchvision")
