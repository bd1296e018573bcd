"""Diffusion: schedules, the forward process, targets, the training loss, guidance, samplers, and what they are good for.

Notation, here and in the chapters: t runs 1 … T and alpha_bar[0] = 1 is stored, so that no formula
needs a special case at its end.
"""

from .editing import decode, denoise, image_to_image, inpaint, interpolate, invert, slerp, write_augmented
from .exact import Exact
from .forward import q_onward, q_sample
from .guidance import Guidance, classifier_gradient, guided_output
from .likelihood import Bound, Likelihood, dequantise, ode_log_likelihood, variational_bound
from .loss import TIMES, drop_labels, loss
from .samplers import EVALUATIONS, SAMPLERS, evaluations, sample, time_steps
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
    "Bound",
    "Exact",
    "Guidance",
    "Likelihood",
    "Schedule",
    "bound_terms",
    "classifier_gradient",
    "decode",
    "denoise",
    "dequantise",
    "drop_labels",
    "evaluations",
    "guided_output",
    "image_to_image",
    "inpaint",
    "interpolate",
    "invert",
    "loss",
    "loss_weight",
    "make_schedule",
    "ode_log_likelihood",
    "predict_eps",
    "predict_x0",
    "q_onward",
    "q_sample",
    "sample",
    "slerp",
    "time_steps",
    "training_target",
    "variational_bound",
    "write_augmented",
]
