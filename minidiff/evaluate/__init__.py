"""Judging samples: is each one the digit that was asked for?"""

from .judge import Judge, Verdict, judge_samples, load_judge
from .samples import is_samples, read_samples, write_samples

__all__ = ["Judge", "Verdict", "is_samples", "judge_samples", "load_judge", "read_samples", "write_samples"]
