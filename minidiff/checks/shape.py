"""Arrangements. Each function is written once and means the same in NumPy, in PyTorch and here."""

import numpy as np

from .. import ops
from ..nn import functional as F
from .case import case, normal

# ------------------------------------------------------------------------------- taking and putting

MASK = np.array([[True, False, True, False], [False, False, False, True], [True, True, False, False]])
INDICES = {
    "slices": (slice(None), slice(3, 0, -2)), "one slice": slice(1, None), "integer": (..., 1), "negative integers": (-1, -2),
    "new axis": (slice(None), None, 0), "everything": ..., "new axes and dots": (None, ..., None),
    "a list with repeats": [0, 2, 0], "rows with repeats": (np.array([0, 2, 0]),), "columns with repeats": (..., np.array([[1, 1], [-1, 0]])),
    "pairs with repeats": (np.array([0, 2, 2]), np.array([1, 3, 3])), "pairs of a grid": np.ix_([0, 2, 2], [3, 1]),
    "an integer and columns": (1, np.array([3, 3, 0])), "an array without dimensions": np.array(1),
    "rows": (np.array([True, False, True]),), "a mask": MASK, "a mask of columns": (slice(1, None), MASK[0]),
    "a mask and columns": (MASK[:, 0], np.array([3, 3])), "rows beside a slice": (slice(1, None), np.array([[0, 1], [1, 1]])),
    "rows and a new axis": (np.array([1, 1]), None, slice(0, 2)),
    "tuples with repeats": ((0, 2, 2), (1, 3, 3)), "one tuple with repeats": ((0, 2, 0),), "a range and a tuple": (range(2), (1, 1)),
}  # fmt: skip
for _label, _index in INDICES.items():
    _backwards = _label == "slices"  # PyTorch has no negative steps
    case(f"getitem, {_label}", lambda x, i=_index: ops.getitem(x, i), [normal(3, 4)], lambda x, i=_index: x[i],
         None if _backwards else lambda torch, x, i=_index: x[i])  # fmt: skip
for _label, _index in {
    "arrays apart": (np.array([0, 1, 1]), slice(None), np.array([2, 0, 0])), "arrays apart, behind": (..., np.array([1]), None, np.array([2])),
    "an integer apart": (0, slice(None), np.array([1, 1])), "a mask in front": (MASK[:2, :3], 1),
}.items():  # fmt: skip
    _elsewhere = _label == "an integer apart"  # NumPy puts the arrays' axes in front, PyTorch in their place
    case(f"getitem, {_label}", lambda x, i=_index: ops.getitem(x, i), [normal(2, 3, 4)], lambda x, i=_index: x[i],
         None if _elsewhere else lambda torch, x, i=_index: x[i])  # fmt: skip


def _put(x, index, shape):
    y = np.zeros(shape)
    np.add.at(y, index, x)
    return y


for _label, _index, _shape in [("slices", (slice(1, 4, 2), slice(0, 3)), (2, 3)), ("repeats", (np.array([1, 0, 1]),), (3, 5)),
                               ("repeats in columns", (..., np.array([4, 4])), (4, 2)),
                               ("repeats in tuples", ((0, 0, 3), (1, 1, 2)), (3,))]:  # fmt: skip
    case(f"put, {_label}", lambda x, i=_index: ops.put(x, i, (4, 5)), [normal(*_shape)], lambda x, i=_index: _put(x, i, (4, 5)))
for _label, _index, _axis in [
    ("rows", [[2, 0, 0], [-1, 1, 1]], 0), ("columns", [[1, 1, 0, 1], [0, 2, 2, 1], [-1, 0, 0, 0]], 1), ("one for all", [[2, 2, 1]], -1)
]:  # fmt: skip
    case(f"take_along_axis, {_label}", lambda x, i=_index, a=_axis: ops.take_along_axis(x, i, a), [normal(3, 4 if _axis else 3)],
         lambda x, i=_index, a=_axis: np.take_along_axis(x, np.array(i), a),
         lambda torch, x, i=_index, a=_axis: torch.take_along_dim(x, torch.tensor(i) % x.shape[a], a))  # fmt: skip

# ---------------------------------------------------------------------------------- axes and sizes

# The operation, its arguments, x's shape, NumPy's and PyTorch's.
ARRANGEMENTS = [
    ("reshape", ((4, -1),), (2, 3, 2), lambda x: x.reshape(4, 3), lambda torch, x: x.reshape(4, -1)),
    ("flatten", (), (2, 3, 2), np.ravel, lambda torch, x: x.flatten()),
    ("flatten", (1, -1), (2, 3, 2), lambda x: x.reshape(2, 6), lambda torch, x: x.flatten(1)),
    ("flatten", (0, 1), (2, 3, 2), lambda x: x.reshape(6, 2), lambda torch, x: x.flatten(0, 1)),
    ("flatten", (), (), lambda x: x.reshape(1), lambda torch, x: x.flatten()),
    ("squeeze", (-2,), (2, 1, 3), lambda x: x.squeeze(1), lambda torch, x: x.squeeze(1)),
    ("squeeze", (), (1, 2, 1, 3), np.squeeze, lambda torch, x: x.squeeze()),
    ("squeeze", ((0, -2),), (1, 2, 1, 1), lambda x: x[0, :, 0], lambda torch, x: x.squeeze((0, -2))),
    ("unsqueeze", (-1,), (2, 3), lambda x: x[..., None], lambda torch, x: x.unsqueeze(-1)),
    ("transpose", (), (2, 3, 4), np.transpose, lambda torch, x: x.permute(2, 1, 0)),
    ("transpose", ((2, 0, -2),), (2, 3, 4), lambda x: x.transpose(2, 0, 1), lambda torch, x: x.permute(2, 0, 1)),
    ("permute", ((1, 2, 0),), (2, 3, 4), lambda x: x.transpose(1, 2, 0), lambda torch, x: x.permute(1, 2, 0)),
    ("swapaxes", (0, -1), (2, 3, 4), lambda x: x.swapaxes(0, 2), lambda torch, x: x.transpose(0, -1)),
    ("moveaxis", (0, -1), (2, 3, 4), lambda x: np.moveaxis(x, 0, -1), lambda torch, x: x.moveaxis(0, -1)),
    ("moveaxis", ((2, 0), (0, 1)), (2, 3, 4), lambda x: np.moveaxis(x, (2, 0), (0, 1)), lambda torch, x: x.moveaxis((2, 0), (0, 1))),
    ("broadcast_to", ((2, 3, 4),), (3, 1), lambda x: np.broadcast_to(x, (2, 3, 4)), lambda torch, x: x.broadcast_to(2, 3, 4)),
    ("expand", ((2, -1, 4),), (3, 1), lambda x: np.broadcast_to(x, (2, 3, 4)), lambda torch, x: x.expand(2, -1, 4)),
    ("tile", ((2, 3),), (2, 3), lambda x: np.tile(x, (2, 3)), lambda torch, x: x.tile(2, 3)),
    ("tile", ((2, 1, 2),), (2, 3), lambda x: np.tile(x, (2, 1, 2)), lambda torch, x: x.tile(2, 1, 2)),
    ("tile", ((3,),), (2, 3), lambda x: np.tile(x, 3), lambda torch, x: x.tile(3)),
    ("repeat_interleave", (2, 0), (2, 3), lambda x: x.repeat(2, 0), lambda torch, x: x.repeat_interleave(2, 0)),
    ("repeat_interleave", (3, -1), (2, 3), lambda x: x.repeat(3, 1), lambda torch, x: x.repeat_interleave(3, -1)),
    ("flip", (), (2, 3), np.flip, lambda torch, x: x.flip((0, 1))),
    ("flip", (-1,), (2, 3), lambda x: np.flip(x, -1), lambda torch, x: x.flip(-1)),
    ("flip", ((0, 2),), (2, 3, 2), lambda x: np.flip(x, (0, 2)), lambda torch, x: x.flip((0, 2))),
    ("roll", (2,), (2, 3), lambda x: np.roll(x, 2), lambda torch, x: x.roll(2)),
    ("roll", (-4, 1), (2, 3), lambda x: np.roll(x, -4, 1), lambda torch, x: x.roll(-4, 1)),
    ("roll", ((1, 2), (0, -1)), (2, 3), lambda x: np.roll(x, (1, 2), (0, -1)), lambda torch, x: x.roll((1, 2), (0, -1))),
]
for _name, _arguments, _shape, _numpy, _theirs in ARRANGEMENTS:
    _label = {"broadcast_to": "broadcast ", "expand": "broadcast "}.get(_name, "")
    case(f"{_name}, {_label}{_arguments} of {_shape}", lambda x, n=_name, a=_arguments: getattr(ops, n)(x, *a), [normal(*_shape)],
         _numpy, _theirs)  # fmt: skip

# ------------------------------------------------------------------------------- joining and parting

case("concatenate", lambda *xs: ops.concatenate(xs, -1), [normal(2, 3), normal(2, 1), normal(2, 2)],
     lambda *xs: np.concatenate(xs, 1), lambda torch, *xs: torch.cat(xs, 1))  # fmt: skip
for _axis in (0, 1, -1):
    case(f"stack, axis {_axis}", lambda *xs, a=_axis: ops.stack(xs, a), [normal(2, 3), normal(2, 3)],
         lambda *xs, a=_axis: np.stack(xs, a), lambda torch, *xs, a=_axis: torch.stack(xs, a))  # fmt: skip
# The pieces weighed by their number and added or joined again, so that the result tells which is which.
for _label, _sizes, _axis in [("one size", 2, 0), ("sizes", [1, 0, 4], 0), ("last axis", 1, -1)]:
    case(
        f"split, {_label}",
        lambda x, s=_sizes, a=_axis: ops.concatenate([(i + 1.0) * piece for i, piece in enumerate(ops.split(x, s, a))][::-1], a),
        [normal(5, 3)],
        lambda x, s=_sizes, a=_axis: np.concatenate(
            [(i + 1) * piece for i, piece in enumerate(np.split(x, range(s, x.shape[a], s) if isinstance(s, int) else np.cumsum(s)[:-1], a))][::-1], a
        ),
        lambda torch, x, s=_sizes, a=_axis: torch.cat([(i + 1) * piece for i, piece in enumerate(x.split(s, a))][::-1], a),
    )  # fmt: skip
case("chunk", lambda x: ops.concatenate(ops.chunk(x, 3)[::-1]), [normal(7, 2)], lambda x: np.concatenate([x[6:], x[3:6], x[:3]]),
     lambda torch, x: torch.cat(x.chunk(3)[::-1]))  # fmt: skip

# ------------------------------------------------------------------------------------------- borders

case("pad", lambda x: ops.pad(x, [(0, 1), (2, 0)]), [normal(2, 3)], lambda x: np.pad(x, [(0, 1), (2, 0)]),
     lambda torch, x: torch.nn.functional.pad(x, (2, 0, 0, 1)))  # fmt: skip
case("pad, value", lambda x: ops.pad(x, [(1, 1), (0, 2)], value=-1.5), [normal(2, 3)],
     lambda x: np.pad(x, [(1, 1), (0, 2)], constant_values=-1.5),
     lambda torch, x: torch.nn.functional.pad(x, (0, 2, 1, 1), value=-1.5))  # fmt: skip
for _mode, _numpys in [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]:
    case(f"pad, {_mode}", lambda x, m=_mode: ops.pad(x, [(0, 0), (0, 0), (2, 1), (0, 2)], m), [normal(1, 2, 3, 3)],
         lambda x, m=_numpys: np.pad(x, [(0, 0), (0, 0), (2, 1), (0, 2)], m),
         lambda torch, x, m=_mode: torch.nn.functional.pad(x, (0, 2, 2, 1), m))  # fmt: skip
case("pad, last dimension first", lambda x: F.pad(x, (2, 0, 1, 3), value=0.5), [normal(2, 2, 3)],
     lambda x: np.pad(x, [(0, 0), (1, 3), (2, 0)], constant_values=0.5),
     lambda torch, x: torch.nn.functional.pad(x, (2, 0, 1, 3), value=0.5))  # fmt: skip
