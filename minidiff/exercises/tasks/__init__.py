"""The exercises, in the order of the book."""

from __future__ import annotations

from ..task import Task
from . import (
    c01_tensor,
    c02_reverse_mode,
    c03_gradient_checking,
    c04_convolution,
    c05_forward_diffusion,
    c06_unet,
    c07_training,
    c08_sampling,
    c09_gpu,
    c10_clinic,
    c11_plane,
    c12_solvers,
    c13_targets,
    c14_flow,
    c15_conditioning,
    c16_guidance,
    c17_editing,
    c18_likelihood,
    c19_checkpoints,
    c20_machines,
    c21_clip,
    c22_styles,
    c23_attention,
    c24_layers,
    c25_resampling,
    c26_judge,
    c27_evaluating,
)

_CHAPTERS = (
    c01_tensor, c02_reverse_mode, c03_gradient_checking, c04_convolution, c05_forward_diffusion,
    c06_unet, c07_training, c08_sampling, c09_gpu, c10_clinic,
    c11_plane, c12_solvers, c13_targets, c14_flow, c15_conditioning, c16_guidance, c17_editing,
    c18_likelihood, c19_checkpoints, c20_machines, c21_clip, c22_styles, c23_attention, c24_layers,
    c25_resampling, c26_judge, c27_evaluating,
)  # fmt: skip

TASKS: dict[str, Task] = {task.name: task for chapter in _CHAPTERS for task in chapter.TASKS}
