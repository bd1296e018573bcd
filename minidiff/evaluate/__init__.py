"""Judging samples: is each one the digit that was asked for, and are they together as real digits are?"""

from .calibration import Calibration, calibration, confusion_matrix, fit_temperature
from .clouds import Manifolds, Nearest, diversity, nearest, precision_recall
from .frechet import Frechet, frechet_distance, sample_frechet
from .judge import Judge, Verdict, judge_samples, load_judge
from .recognition import Recognition
from .report import Measures, Report, evaluate_samples
from .samples import is_samples, read_samples, write_samples

__all__ = [
    "Calibration", "Frechet", "Judge", "Manifolds", "Measures", "Nearest", "Recognition", "Report", "Verdict", "calibration", "confusion_matrix", "diversity", "evaluate_samples", "fit_temperature", "frechet_distance",
    "is_samples", "judge_samples", "load_judge", "nearest", "precision_recall", "read_samples", "sample_frechet", "write_samples",
]  # fmt: skip
