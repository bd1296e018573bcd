"""Every differentiable operation: one operation, one class, one place.

    elementwise   one number in, one number out: arithmetic, exp, GELU …
    reduce        sums, means, extremes
    shape         the same numbers in another arrangement; slices and their opposite
    matmul        products of matrices
    conv          convolution and its transpose
    norm          GroupNorm, alone and followed by GELU
    loss          mean squared error, cross-entropy
"""

from .conv import conv2d, conv_transpose2d
from .elementwise import (
    abs,
    add,
    as_tensor,
    astype,
    clip,
    cos,
    div,
    erf,
    exp,
    gelu,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    relu,
    sigmoid,
    silu,
    sin,
    sqrt,
    sub,
    tanh,
    to_device,
    where,
)
from .loss import cross_entropy, mse_loss
from .matmul import matmul
from .norm import group_norm, group_norm_gelu
from .reduce import log_softmax, logsumexp, max, mean, min, softmax, sum, sum_to, var
from .shape import (
    broadcast_to,
    concatenate,
    getitem,
    pad,
    put,
    reshape,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)

__all__ = [
    "abs",
    "add",
    "as_tensor",
    "astype",
    "broadcast_to",
    "clip",
    "concatenate",
    "conv2d",
    "conv_transpose2d",
    "cos",
    "cross_entropy",
    "div",
    "erf",
    "exp",
    "gelu",
    "getitem",
    "group_norm",
    "group_norm_gelu",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mse_loss",
    "mul",
    "neg",
    "pad",
    "pow",
    "put",
    "relu",
    "reshape",
    "sigmoid",
    "silu",
    "sin",
    "softmax",
    "sqrt",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "sum_to",
    "tanh",
    "to_device",
    "transpose",
    "unsqueeze",
    "var",
    "where",
]
