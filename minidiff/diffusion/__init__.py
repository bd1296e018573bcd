"""Diffusion: schedules, the forward process, targets, the training loss, guidance, samplers, and what they are good for.

Notation, here and in the chapters: t runs 1 … T and alpha_bar[0] = 1 is stored, so that no formula
needs a special case at its end.
"""

from .exact import Exact
from .forward import q_sample
from .guidance import Guidance, classifier_gradient, guided_output
from .loss import TIMES, drop_labels, loss
from .samplers import EVALUATIONS, SAMPLERS, sample, time_steps
from .schedules import SCHEDULES, Schedule, make_schedule
from .targets import TARGETS, WEIGHTINGS, loss_weight, predict_eps, predict_x0, training_target
from .variance import VARIANCES, bound_terms

__all__ = [
    "EVALUATIONS",
    "SAMPLERS",
    "SCHEDULES",
    "TARGETS",
    "TIMES",
    "VARIANCES",
    "WEIGHTINGS",
    "Exact",
    "Guidance",
    "Schedule",
    "bound_terms",
    "classifier_gradient",
    "drop_labels",
    "guided_output",
    "loss",
    "loss_weight",
    "make_schedule",
    "predict_eps",
    "predict_x0",
    "q_sample",
    "sample",
    "time_steps",
    "training_target",
]
