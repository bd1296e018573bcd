"""The table of every differentiable operation, checked by `minidiff gradcheck` and by the tests.

One file of cases beside each file of operations. A new operation is tested by adding a case for it
here; a test fails until that is done.
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
