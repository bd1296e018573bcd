"""The exercises, in the order of the book."""

from __future__ import annotations

from ..task import Task
from . import (
    c01_tensor,
    c02_reverse_mode,
    c03_gradient_checking,
    c04_layers,
    c05_convolution,
    c06_groupnorm,
    c07_gpu,
    c08_judge,
    c09_forward_diffusion,
    c10_plane,
    c11_unet,
    c12_training,
    c13_sampling,
    c14_evaluating,
    c15_clinic,
    c16_conditioning,
    c17_guidance,
    c18_checkpoints,
    c19_solvers,
    c20_targets,
    c21_flow,
    c22_editing,
    c23_likelihood,
    c24_clip,
    c25_styles,
    c26_attention,
    c27_machines,
    c28_claims,
)

_CHAPTERS = (
    c01_tensor, c02_reverse_mode, c03_gradient_checking, c04_layers, c05_convolution, c06_groupnorm, c07_gpu,
    c08_judge, c09_forward_diffusion, c10_plane, c11_unet, c12_training, c13_sampling, c14_evaluating,
    c15_clinic, c16_conditioning, c17_guidance, c18_checkpoints, c19_solvers, c20_targets, c21_flow,
    c22_editing, c23_likelihood, c24_clip, c25_styles, c26_attention, c27_machines, c28_claims,
)  # fmt: skip

TASKS: dict[str, Task] = {task.name: task for chapter in _CHAPTERS for task in chapter.TASKS}
