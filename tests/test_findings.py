"""The scripts in findings/, each a surprise in another library: they can be run, and pin what they install. (They need the network to run.)"""

import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "findings").glob("*"))


def test_there_are_some():
    assert len(SCRIPTS) >= 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_finding_can_be_run_and_pins_what_it_installs(script):
    text = script.read_text(encoding="utf-8")
    assert script.suffix == ".sh" and script.stat().st_mode & 0o111 == 0o111
    assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text and "mktemp -d" in text
    assert "# Output when this was written" in text and "Expected:" in text and "# Exits 0 while " in text
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    installed = re.findall(r"/pip\" install --quiet (.*)", text)
    assert installed and all(re.fullmatch(r"[\w-]+==[\d.]+", package) for line in installed for package in line.split())
    assert not re.search(r"import minidiff|/home/|/root/|/work/|https?://", text)
