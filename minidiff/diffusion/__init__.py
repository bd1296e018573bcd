"""Diffusion: schedules, the forward process, the training loss, guidance and samplers.

Notation, here and in the chapters: t runs 1 … T and alpha_bar[0] = 1 is stored, so that no formula
needs a special case at its end.
"""

from .forward import TARGETS, predict_x0, q_sample, training_target
from .guidance import guided_output
from .loss import drop_labels, loss
from .samplers import SAMPLERS, sample, time_steps
from .schedules import SCHEDULES, Schedule, make_schedule

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "TARGETS",
    "Schedule",
    "drop_labels",
    "guided_output",
    "loss",
    "make_schedule",
    "predict_x0",
    "q_sample",
    "sample",
    "time_steps",
    "training_target",
]
