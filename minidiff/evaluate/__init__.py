"""Judging samples: is each one the digit that was asked for, and are they together as real digits are?"""

from .frechet import Frechet, frechet_distance, sample_frechet
from .judge import Judge, Verdict, judge_samples, load_judge
from .samples import is_samples, read_samples, write_samples

__all__ = [
    "Frechet", "Judge", "Verdict", "frechet_distance", "is_samples", "judge_samples", "load_judge", "read_samples", "sample_frechet",
    "write_samples",
]  # fmt: skip
