"""Judging samples: is each one the digit that was asked for?"""

from .judge import Judge, Verdict, judge_samples, load_judge

__all__ = ["Judge", "Verdict", "judge_samples", "load_judge"]
