"""Chapter 1: where the numbers lie, and what broadcasting does to a gradient."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def strides(shape, itemsize):
    """How many bytes lie between an element and its neighbour along each axis, in C order.            # -> tuple

        the last axis: itemsize;    every other one: the stride of the next axis times that axis's length

    An array is a stretch of memory and these numbers: x[i, j, k] lies i s₀ + j s₁ + k s₂ bytes after x[0, 0, 0].
    """
    steps = [itemsize]
    for n in shape[:0:-1]:
        steps.append(steps[-1] * n)
    return tuple(reversed(steps))


def sum_to(gy, shape):
    """The gradient of an array of this shape that was broadcast to gy's shape.            # gy (…) -> (shape)

        x[0] was used in y[0], y[1], y[2]:    gx[0] = gy[0] + gy[1] + gy[2]

    Broadcasting puts new axes in front, and repeats axes of length 1. Whatever was repeated must be added up again.
    """
    lead = gy.ndim - len(shape)
    gx = gy.sum(axis=tuple(range(lead)))
    repeated = tuple(i for i, n in enumerate(shape) if n == 1 and gx.shape[i] > 1)
    return gx.sum(axis=repeated, keepdims=True)


def _sum_to(gy, shape):
    x = Tensor(np.zeros(shape), requires_grad=True)
    ops.broadcast_to(x, gy.shape).backward(gy)
    return x.grad.numpy()


TASKS = [
    Task(
        strides, "Where an element lies", 1, "easy", 10,
        reference=lambda shape, itemsize: np.empty(shape, f"V{itemsize}").strides,
        cases=lambda rng: [((3, 4), 8), ((2, 3, 5), 4), ((7,), 2), ((4, 1, 3, 2), 8)],
        hints=(
            "Begin at the last axis, whose neighbours lie side by side, and go forwards from there.",
            "s[last] = itemsize and s[i] = s[i + 1] · shape[i + 1]. The length of axis 0 is never needed.",
            "steps = [itemsize]; for n in the lengths from the last down to the second: steps.append(steps[-1] * n). Then turn it round.",
        ),
        slips=[
            ("steps = [itemsize]", "steps = [1]", "strides are in bytes, and these count elements"),
            ("tuple(reversed(steps))", "tuple(steps)", "this is Fortran's order: in C the last axis is the one whose neighbours touch"),
            ("shape[:0:-1]", "shape[-2::-1]", "an axis's stride is made of the lengths of the axes behind it, not of those before it"),
        ],
    ),
    Task(
        sum_to, "Undo broadcasting", 1, "medium", 15,
        reference=_sum_to,
        cases=lambda rng: [
            (rng.standard_normal(full), shape) for full, shape in
            [((4, 3), (3,)), ((4, 3), (4, 1)), ((2, 4, 3), (1, 3)), ((5, 2, 3), (5, 2, 3)), ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 2), (1, 3, 1)), ((3, 2), ())]
        ],
        hints=(
            "Two things happened to x: axes were put in front of it, and axes of length 1 were repeated. Undo one after the other.",
            "The axes in front are the first gy.ndim − len(shape); sum them away. Of the rest, sum those where shape has 1, and keep them.",
            "gx = gy.sum(axis=tuple(range(lead))), then gx.sum(axis=the axes where shape is 1 and gx is not, keepdims=True).",
        ),
        slips=[
            ("return gx.sum(axis=repeated, keepdims=True)", "return gx", "axes of length 1 were repeated too, and must be summed as well"),
            ("gx = gy.sum(axis=tuple(range(lead)))", "gx = gy[(0,) * lead]", "the sum over the axes in front (the batch) is missing: one of its entries is not all"),
            ("gx = gy.sum(axis=tuple(range(lead)))", "gx = gy.mean(axis=tuple(range(lead)))", "a mean over the axes in front where there should be a sum"),
            ("axis=repeated, keepdims=True", "axis=repeated", "the summed axes must stay, with length 1: keepdims=True"),
            ("return gx.sum(axis=repeated, keepdims=True)", "return gx.max(axis=repeated, keepdims=True)", "of the repeated axes the sum is wanted: every use of x counts"),
        ],
    ),
]  # fmt: skip
