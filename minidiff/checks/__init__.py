"""The table of every differentiable operation, and what it is checked with.

One file of cases beside each file of operations. A new operation is tested by adding a case for it
here (minidiff/ops/ADDING.md); a test fails until that is done.

    case        what a case is, and the draws of inputs that keep it smooth
    testing     everything an operation must do, for the cases and for readers' own operations
    table       `minidiff gradcheck`: how far off each operation is, by dtype and order
    mutations   `minidiff gradcheck --mutants`: each operation broken on purpose
    step_size   `minidiff gradcheck --figure`: the error of a difference against its step
    command     the command itself
"""

from . import (
    activation,
    attention,
    conv,
    elementwise,
    embedding,
    loss,
    matmul,
    norm,
    pool,
    random,
    reduce,
    resample,
    shape,
)
from .case import CASES, Case

__all__ = [
    "CASES",
    "Case",
    "activation",
    "attention",
    "conv",
    "elementwise",
    "embedding",
    "loss",
    "matmul",
    "norm",
    "pool",
    "random",
    "reduce",
    "resample",
    "shape",
]
