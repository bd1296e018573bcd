"""The clinic: known failures of diffusion code, each made on purpose, measured, found by a cheap check, and cured.

    healthy.py   a small run as it should be; every part is a method
    cases.py     each case overrides one of them
    checks.py    what tells the bug without a long training
    measure.py   what the bug does to loss, class accuracy and Fréchet distance

`python examples/clinic.py` runs all of it.
"""

from .cases import CASES
from .healthy import Finding, Healthy, Trained, train
from .measure import Clinic, Result, table

__all__ = ["CASES", "Clinic", "Finding", "Healthy", "Result", "Trained", "table", "train"]
