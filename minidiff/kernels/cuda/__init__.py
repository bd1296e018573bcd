"""Kernels for NVIDIA GPUs, written in CUDA and launched through CuPy; without a GPU, an emulator runs them.

One file of CUDA (`conv.cu`) and one of Python beside it (`conv.py`) for each subject. `compile.py` is the only way
from a .cu file to machine code, `runtime.py` the only way to launch it, `device.h` and `tile.h` are what the
kernels are written with, `emulate.h` stands in for the GPU.
"""

from .activation import gelu, gelu_backward, silu, silu_backward
from .attention import attention, attention_backward, takes_attention
from .batch import gather_batch
from .channels import join
from .conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from .elementwise import add, cast
from .embedding import add_rows, rows
from .functions import functions
from .loss import keep, mse_loss, mse_loss_backward
from .map import atan, erf, leaky_relu, rsqrt, sigmoid, softplus
from .matmul import matmul
from .noise import philox_integers, philox_normal, philox_uniform
from .norm import group_norm, group_norm_backward
from .optim import adam, average, gradient_norm
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "adam", "add", "add_rows", "atan", "attention", "attention_backward", "average", "cast", "conv2d", "conv2d_backward",
    "conv_transpose2d", "conv_transpose2d_backward", "erf", "functions", "gather_batch", "gelu", "gelu_backward",
    "gradient_norm", "group_norm", "group_norm_backward", "join", "keep", "leaky_relu", "log_softmax",
    "log_softmax_backward", "matmul", "mse_loss", "mse_loss_backward", "philox_integers", "philox_normal",
    "philox_uniform", "rows", "rsqrt", "sigmoid", "silu", "silu_backward", "softmax", "softmax_backward", "softplus",
    "takes_attention",
]  # fmt: skip
