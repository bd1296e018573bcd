"""Constraints for pip: every dependency of minidiff, as installed, at its lower bound in pyproject.toml."""

import importlib.metadata
import re

for requirement in importlib.metadata.requires("minidiff"):
    if found := re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)", requirement):
        print("==".join(found.groups()))
