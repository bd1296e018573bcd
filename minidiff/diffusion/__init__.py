"""Diffusion: schedules, the forward process, the training loss, guidance and samplers.

Notation, here and in the chapters: t runs 1 … T and alpha_bar[0] = 1 is stored, so that no formula
needs a special case at its end.
"""

from .forward import predict_x0, q_sample
from .guidance import guided_noise
from .loss import drop_labels, loss
from .samplers import SAMPLERS, sample, time_steps
from .schedules import SCHEDULES, Schedule, make_schedule

__all__ = [
    "SAMPLERS",
    "SCHEDULES",
    "Schedule",
    "drop_labels",
    "guided_noise",
    "loss",
    "make_schedule",
    "predict_x0",
    "q_sample",
    "sample",
    "time_steps",
]
