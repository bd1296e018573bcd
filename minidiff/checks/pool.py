"""Pooling. apart() keeps the numbers of a window far from ties."""

import numpy as np

from .. import ops
from ..ops.pool import AvgPool2d, MaxPool2d, Window
from .case import apart, case, normal, textbook

ALONE = Window(kernel=1, stride=1, padding=0, dilation=1, positions=1)


def _max(rows, columns):
    return textbook(MaxPool2d, rows=Window(*rows), columns=Window(*columns))


def _mean(rows, columns, n):
    return textbook(AvgPool2d, rows=Window(*rows), columns=Window(*columns), n=n)


# Rows and columns of windows: kernel, stride, padding, dilation, positions.
for _label, _shape, _options, _rows, _columns in [
    ("halving", (2, 2, 4, 2), {"kernel_size": 2}, (2, 2, 0, 1, 2), (2, 2, 0, 1, 1)),
    ("overlapping", (1, 1, 4, 5), {"kernel_size": 3, "stride": 1, "padding": 1}, (3, 1, 1, 1, 4), (3, 1, 1, 1, 5)),
    ("rectangular", (1, 2, 3, 4), {"kernel_size": (1, 2), "stride": (2, 1)}, (1, 2, 0, 1, 2), (2, 1, 0, 1, 3)),
    ("dilation", (1, 1, 5, 6), {"kernel_size": 2, "stride": 1, "dilation": (3, 2)}, (2, 1, 0, 3, 2), (2, 1, 0, 2, 4)),
    ("ceil_mode", (1, 1, 5, 4), {"kernel_size": (2, 3), "stride": 2, "ceil_mode": True}, (2, 2, 0, 1, 3), (3, 2, 0, 1, 2)),
    ("one pixel", (1, 2, 3, 3), {"kernel_size": 1, "stride": 2}, (1, 2, 0, 1, 2), (1, 2, 0, 1, 2)),
]:  # fmt: skip
    case(f"max_pool2d, {_label}", lambda x, o=_options: ops.max_pool2d(x, **o), [apart(*_shape)], _max(_rows, _columns),
         lambda torch, x, o=_options: torch.nn.functional.max_pool2d(x, **o))  # fmt: skip
case("max_pool1d", lambda x: ops.max_pool1d(x, 3, stride=2, padding=1), [apart(2, 1, 6)],
     lambda x: _max(ALONE, (3, 2, 1, 1, 3))(x[:, :, None])[:, :, 0],
     lambda torch, x: torch.nn.functional.max_pool1d(x, 3, stride=2, padding=1))  # fmt: skip

EDGE = np.array([[4.0, 6.0, 4.0]])                               # how many pixels 3 rows at the edge, or 3 columns, hold
for _label, _shape, _options, _rows, _columns, _n in [
    ("halving", (2, 2, 4, 2), {"kernel_size": 2}, (2, 2, 0, 1, 2), (2, 2, 0, 1, 1), 4.0),
    ("overlapping", (1, 1, 3, 4), {"kernel_size": (3, 2), "stride": 1, "padding": (1, 0)}, (3, 1, 1, 1, 3), (2, 1, 0, 1, 3), 6.0),
    ("padding not counted", (1, 1, 2, 3), {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False},
     (3, 1, 1, 1, 2), (3, 1, 1, 1, 3), np.repeat(EDGE, 2, 0)),
    ("ceil_mode", (1, 1, 4, 5), {"kernel_size": 2, "stride": 3, "ceil_mode": True}, (2, 3, 0, 1, 2), (2, 3, 0, 1, 2),
     np.array([[4.0, 4.0], [2.0, 2.0]])),
    ("divisor_override", (1, 2, 2, 2), {"kernel_size": 2, "divisor_override": 3}, (2, 2, 0, 1, 1), (2, 2, 0, 1, 1), 3.0),
]:  # fmt: skip
    case(f"avg_pool2d, {_label}", lambda x, o=_options: ops.avg_pool2d(x, **o), [normal(*_shape)], _mean(_rows, _columns, _n),
         lambda torch, x, o=_options: torch.nn.functional.avg_pool2d(x, **o))  # fmt: skip
case("avg_pool1d", lambda x: ops.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False), [normal(2, 1, 6)],
     lambda x: _mean(ALONE, (3, 2, 1, 1, 3), np.array([2.0, 3.0, 3.0]))(x[:, :, None])[:, :, 0],
     lambda torch, x: torch.nn.functional.avg_pool1d(x, 3, stride=2, padding=1, count_include_pad=False))  # fmt: skip


def _adaptive(x, size):
    """Window by window, as the definition says."""
    y = np.empty((*x.shape[:2], *size), x.dtype)
    spans = [[(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(x.shape[2:], size, strict=True)]
    for i, (top, bottom) in enumerate(spans[0]):
        for j, (left, right) in enumerate(spans[1]):
            y[:, :, i, j] = x[:, :, top:bottom, left:right].mean((2, 3))
    return y


for _label, _size, _full in [("one number", 1, (1, 1)), ("even windows", (2, None), (2, 3)), ("uneven windows", (3, 2), (3, 2)),
                             ("more than there are", (5, 4), (5, 4))]:  # fmt: skip
    case(f"adaptive_avg_pool2d, {_label}", lambda x, s=_size: ops.adaptive_avg_pool2d(x, s), [normal(1, 2, 4, 3)],
         lambda x, s=_full: _adaptive(x, s),
         lambda torch, x, s=_size: torch.nn.functional.adaptive_avg_pool2d(x, s))  # fmt: skip
