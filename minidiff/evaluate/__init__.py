"""Judging samples: is each one the digit that was asked for, and are they together as real digits are?"""

from .calibration import Calibration, calibration, confusion_matrix, fit_temperature
from .clip import Clip, load_clip
from .clip_report import ClipReport, evaluate_clip
from .clouds import Density, Manifolds, Nearest, density_coverage, diversity, nearest, precision_recall
from .frechet import Frechet, frechet_distance, sample_frechet
from .judge import Judge, Verdict, check_judgeable, judge_samples, load_judge, wilson
from .pupil import Pupils, pupils, teach
from .recognition import Recognition
from .report import Measures, Report, evaluate_samples
from .samples import check_finite, in_proportion, is_samples, kept_until_drawn, read_samples, write_samples
from .selection import Selection, best_of, clip_score, judge_score

__all__ = [
    "Calibration", "Clip", "ClipReport", "Density", "Frechet", "Judge", "Manifolds", "Measures", "Nearest", "Pupils",
    "Recognition", "Report", "Selection", "Verdict", "best_of", "calibration", "check_finite", "check_judgeable",
    "clip_score", "confusion_matrix", "density_coverage", "diversity", "evaluate_clip", "evaluate_samples",
    "fit_temperature", "frechet_distance", "in_proportion", "is_samples", "judge_samples", "judge_score",
    "kept_until_drawn", "load_clip", "load_judge", "nearest", "precision_recall", "pupils", "read_samples",
    "sample_frechet", "teach", "wilson", "write_samples",
]  # fmt: skip
