"""The same numbers in another arrangement. Each operation stands beside the one that undoes it."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import as_tensor, to_one_kind

# ---------------------------------------------------------------------------------- axes and sizes


class Reshape(Op):
    """y = x in another shape            gx = gy in x's shape"""

    shape: tuple[int, ...]

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        self.source = x.shape
        return array_module(x).reshape(x, self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.reshape(self.source)


class Transpose(Op):
    """y = x with its axes in another order            gx = gy with them put back"""

    axes: tuple[int, ...]

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        return backend.permute(x, self.axes)

    def backward(self, gy: Tensor) -> Tensor:
        return gy.transpose(tuple(self.axes.index(i) for i in range(len(self.axes))))


class BroadcastTo(Op):
    """y = x repeated to a larger shape            gx = gy summed over the repeats (see `SumTo`)"""

    shape: tuple[int, ...]

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        return array_module(x).broadcast_to(x, self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return gy  # the engine undoes the broadcast, here as everywhere


class Flip(Op):
    """y = x with some axes read backwards            gx = gy likewise"""

    axes: tuple[int, ...]

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        return array_module(x).flip(x, axis=self.axes)

    def backward(self, gy: Tensor) -> Tensor:
        return flip(gy, self.axes)


class Roll(Op):
    """y = x moved along some axes, what leaves at the end entering at the start            gx = gy moved back"""

    shifts: tuple[int, ...]
    axes: tuple[int, ...]

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        return array_module(x).roll(x, self.shifts, axis=self.axes)

    def backward(self, gy: Tensor) -> Tensor:
        return roll(gy, tuple(-n for n in self.shifts), self.axes)


def _axis(name: str, axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise BadInput(f"{name}: axis {axis} is not in a tensor of {ndim} dimensions")
    return int(axis) % ndim


def _several(axis: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(axis) if isinstance(axis, tuple | list) else (axis,)  # type: ignore[return-value]


def _shape(name: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    """A shape as a tuple; one whole number is that of a vector."""
    try:
        return tuple(map(operator.index, shape if hasattr(shape, "__iter__") else (shape,)))  # type: ignore[arg-type]
    except TypeError:
        raise BadInput(f"{name}: a shape is made of whole numbers, got {shape!r}") from None


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The numbers of x in another shape; one dimension may be −1, "whatever is left"."""
    shape = _shape("reshape", shape)
    known = math.prod(n for n in shape if n != -1)
    possible = all(n >= -1 for n in shape) and shape.count(-1) <= 1
    fits = possible and (known and x.size % known == 0 if -1 in shape else known == x.size)
    if not fits:
        raise BadInput(f"reshape: {x.shape} has {x.size} elements, which do not make {shape}")
    return Reshape(shape=shape)(x)


def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """x with the axes from `start_axis` to `end_axis`, both included, made one; a single number becomes a vector."""
    if x.ndim == 0:
        return reshape(x, (1,))
    start, end = (_axis("flatten", axis, x.ndim) for axis in (start_axis, end_axis))
    if start > end:
        raise BadInput(f"flatten: start_axis {start_axis} comes after end_axis {end_axis} (x {x.shape})")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """x with a new dimension of length 1 at `axis`."""
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise BadInput(f"unsqueeze: axis {axis} is out of range for a tensor of {x.ndim} dimensions")
    axis %= x.ndim + 1
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """x without some dimensions, which must have length 1; without all of length 1 for None."""
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if n == 1)
    else:
        axes = tuple(_axis("squeeze", a, x.ndim) for a in _several(axis))
    for a in axes:
        if x.shape[a] != 1:
            raise BadInput(f"squeeze: axis {axis} of a tensor of shape {x.shape} has length {x.shape[a]}, not 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def transpose(x: Tensor, axes: Sequence[int] | None = None) -> Tensor:
    """x with its axes in the order given; reversed for None. NumPy's meaning: for two axes see `swapaxes`."""
    axes = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    if sorted(a + x.ndim if a < 0 else a for a in axes) != list(range(x.ndim)):
        raise BadInput(f"transpose: axes {axes} are no order of the {x.ndim} axes of {x.shape}")
    return Transpose(axes=tuple(int(a) % x.ndim for a in axes))(x)


def permute(x: Tensor, axes: Sequence[int]) -> Tensor:
    """x with its axes in the order given: PyTorch's name for `transpose`."""
    return transpose(x, axes)


def swapaxes(x: Tensor, axis0: int, axis1: int) -> Tensor:
    """x with two of its axes exchanged (PyTorch's transpose)."""
    a, b = _axis("swapaxes", axis0, x.ndim), _axis("swapaxes", axis1, x.ndim)
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return transpose(x, order)


def moveaxis(x: Tensor, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """x with the axes `source` at the places `destination`, the others in their old order."""
    a = [_axis("moveaxis", i, x.ndim) for i in _several(source)]
    b = [_axis("moveaxis", i, x.ndim) for i in _several(destination)]
    if len(a) != len(b) or len(set(a)) != len(a) or len(set(b)) != len(b):
        raise BadInput(f"moveaxis: source {source} and destination {destination} must be as many axes, each named once")
    order = [i for i in range(x.ndim) if i not in a]
    for place, i in sorted(zip(b, a, strict=True)):
        order.insert(place, i)
    return transpose(x, order)


def broadcast_to(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x repeated along dimensions of length 1, and along new ones in front, to `shape`."""
    shape = _shape("broadcast_to", shape)
    try:
        fits = np.broadcast_shapes(x.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"broadcast_to: {x.shape} does not broadcast to {shape}")
    return x if x.shape == shape else BroadcastTo(shape=shape)(x)


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """x repeated like `broadcast_to`; −1 leaves a dimension of x as long as it is."""
    shape = _shape("expand", shape)
    lead = len(shape) - x.ndim
    if lead < 0 or any(n < 0 and (n != -1 or i < lead) for i, n in enumerate(shape)):
        raise BadInput(f"expand: {shape} must have {x.ndim} dimensions or more, and -1 only for those of x {x.shape}")
    return broadcast_to(x, tuple(x.shape[i - lead] if n == -1 else n for i, n in enumerate(shape)))


def tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    """x side by side with itself, `repeats` times along each of the last dimensions; new ones are made in front."""
    repeats = _several(repeats)
    if any(n < 0 for n in repeats):
        raise BadInput(f"tile: repeats must be 0 or more, got {repeats}")
    repeats = (*(1 for _ in range(x.ndim - len(repeats))), *repeats)
    shape = (*(1 for _ in range(len(repeats) - x.ndim)), *x.shape)
    apart = reshape(x, tuple(itertools.chain.from_iterable((1, n) for n in shape)))
    whole = broadcast_to(apart, tuple(itertools.chain.from_iterable(zip(repeats, shape, strict=True))))
    return reshape(whole, tuple(r * n for r, n in zip(repeats, shape, strict=True)))


def repeat_interleave(x: Tensor, repeats: int, axis: int) -> Tensor:
    """Each slice of x `repeats` times in a row along `axis` (NumPy's repeat)."""
    axis = _axis("repeat_interleave", axis, x.ndim)
    if int(repeats) != repeats or repeats < 0:
        raise BadInput(f"repeat_interleave: repeats must be a whole number, 0 or more; got {repeats}")
    before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    apart = broadcast_to(reshape(x, (*before, n, 1, *after)), (*before, n, int(repeats), *after))
    return reshape(apart, (*before, n * int(repeats), *after))


def flip(x: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """x read backwards along the given axes, or along all."""
    axes = range(x.ndim) if axis is None else _several(axis)
    axes = tuple(_axis("flip", a, x.ndim) for a in axes)
    if len(set(axes)) != len(axes):
        raise BadInput(f"flip: axis {axis} names a dimension twice")
    return Flip(axes=axes)(x)


def roll(x: Tensor, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """x moved on by `shift` along `axis`, what leaves at the end entering at the start; None rolls all of x as one row."""
    if axis is None:
        return reshape(roll(reshape(x, (x.size,)), shift, 0), x.shape)
    shifts, axes = _several(shift), tuple(_axis("roll", a, x.ndim) for a in _several(axis))
    if len(shifts) != len(axes):
        raise BadInput(f"roll: shift {shift} and axis {axis} must be as many; give one shift for each axis")
    return Roll(shifts=tuple(int(n) for n in shifts), axes=axes)(x)


# ----------------------------------------------------------------------------- taking and putting


class GetItem(Op):
    """y = x[index]            gx = gy put at index, zero elsewhere (see `Put`)"""

    index: Any

    takes_bfloat16 = True

    def forward(self, x: Array) -> Array:
        xp = array_module(x)
        self.shape = x.shape
        if backend.indexes_like_numpy(x):
            return xp.asarray(x[self.index])
        places = _places(self.index, x.shape, like=x)
        return xp.reshape(xp.take(xp.reshape(x, (-1,)), backend.asarray(places.reshape(-1), like=x)), places.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return Put(index=self.index, shape=self.shape)(gy)


class Put(Op):
    """y = zeros, with x added at index            gx = gy[index]

    An element that the index names twice receives both. They are added one after the other in the
    order of the index, so the sum is the same at every run; those of float16 in float32, for its own
    sums stop growing at 2,048.
    """

    index: Any
    shape: tuple[int, ...]

    def forward(self, x: Array) -> Array:
        xp, dtype = array_module(x), backend.dtype_of(x)
        if dtype == np.float16:
            return backend.astype(self.forward(backend.astype(x, np.float32)), dtype)
        y = backend.full(self.shape, 0, like=x)
        if backend.indexes_like_numpy(x) and not _may_repeat(self.index):
            y[self.index] = x
            return y
        # np.add.at is five times faster along one axis than over several, so the index becomes a list of places.
        places = _places(self.index, self.shape, like=x).reshape(-1)
        return xp.reshape(backend.add_at(xp.reshape(y, (-1,)), places, xp.reshape(x, (-1,))), self.shape)

    def backward(self, gy: Tensor) -> Tensor:
        return GetItem(index=self.index)(gy)


def _places(index: Any, shape: tuple[int, ...], like: Array) -> Array:
    """Where what the index names stands when a tensor of this shape is laid out in one row."""
    xp = array_module(like) if backend.indexes_like_numpy(like) else np
    return xp.asarray(xp.arange(math.prod(shape)).reshape(shape)[index])


def _may_repeat(index: Any) -> bool:
    """Whether an index can name one element twice: only an array of integers can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(getattr(part, "ndim", 0) and part.dtype.kind in "iu" for part in parts)


def own_index(index: Any, like: Array, keep: bool = False) -> Any:
    """The index with lists, inner tuples and Tensors replaced by arrays that can index `like`, or NumPy's where none can.

    With `keep` they are copies, for backward: the caller may write to his own before.
    """
    if isinstance(index, tuple):  # one part for each axis; a tuple inside is a list of places
        return _masks_as_places([_own_part(part, like, keep) for part in index])
    return _own_part(index, like, keep)


def _own_part(part: Any, like: Array, keep: bool) -> Any:
    if part is None or part is Ellipsis or isinstance(part, slice | int):
        return part
    part = part.data if isinstance(part, Tensor) else part
    if not backend.is_array(part):
        if not hasattr(part, "__len__"):
            return part
        part = np.asarray(part)  # any sequence: NumPy reads it as an array of places
        part = part if part.size else part.astype(np.intp)
    part = backend.asarray(backend.plain(part), like=like) if backend.indexes_like_numpy(like) else backend.to_numpy(part)
    return backend.copy(part) if keep else part


def _masks_as_places(index: list[Any]) -> tuple[Any, ...]:
    """The index, where a mask that is not the only array or integer in it is replaced by the places that it names.

    To NumPy both mean the same; CuPy takes masks alone.
    """
    if sum(backend.is_array(part) or isinstance(part, int) for part in index) < 2:
        return tuple(index)
    masks = [backend.is_array(part) and part.ndim > 0 and backend.dtype_of(part).kind == "b" for part in index]
    apart = (array_module(part).nonzero(part) if mask else (part,) for part, mask in zip(index, masks, strict=True))
    return tuple(itertools.chain.from_iterable(apart))


def getitem(x: Tensor, index: Any) -> Tensor:
    """x[index] with slices, integers, None, Ellipsis, and arrays of integers or booleans, alone or together."""
    index = own_index(index, x.data, keep=x.requires_grad)
    try:
        return GetItem(index=index)(x)
    except IndexError as error:
        raise IndexError(f"getitem: {error} (tensor of shape {x.shape})") from None


def put(x: Tensor, index: Any, shape: Sequence[int]) -> Tensor:
    """Zeros of `shape` with x added at `index`: what `getitem` took out, put back."""
    index, shape = own_index(index, x.data, keep=x.requires_grad), tuple(shape)
    xp = array_module(x.data) if backend.indexes_like_numpy(x.data) else np
    try:
        place = xp.broadcast_to(xp.asarray(0), shape)[index].shape
    except IndexError as error:
        raise IndexError(f"put: {error} (shape {shape})") from None
    if place != x.shape:
        raise BadInput(f"put: x {x.shape} does not fit the place {place} that the index names in {shape}")
    return Put(index=index, shape=shape)(x)


def take_along_axis(x: Tensor, index: Any, axis: int) -> Tensor:
    """y[…,i,…] = x[…,index[…,i,…],…]: along `axis` the index says which, elsewhere x and index broadcast.

    What an argmax or argsort found is taken out with this; `index` has as many dimensions as x.
    """
    axis = _axis("take_along_axis", axis, x.ndim)
    index = own_index(index if isinstance(index, Tensor) or backend.is_array(index) else np.asarray(index), x.data)
    if index.dtype.kind not in "iu" or index.ndim != x.ndim:
        raise BadInput(
            f"take_along_axis: index must hold integers and have x's {x.ndim} dimensions; got {index.shape} {index.dtype}"
        )
    _check_beside("take_along_axis", x.shape, index.shape, axis)
    places = [np.arange(n).reshape(tuple(n if j == i else 1 for j in range(x.ndim))) for i, n in enumerate(x.shape)]
    return getitem(x, (*places[:axis], index, *places[axis + 1 :]))


def _check_beside(name: str, a: tuple[int, ...], b: tuple[int, ...], axis: int) -> None:
    for i, (n, m) in enumerate(zip(a, b, strict=True)):
        if i != axis and n != m and 1 not in (n, m):
            raise BadInput(f"{name}: x {a} and index {b} do not broadcast beside axis {axis}")


# ---------------------------------------------------------------------------- joining and parting


class Concatenate(Op):
    """y = a, b, … joined along an axis            each g is its piece of gy"""

    axis: int

    takes_bfloat16 = True

    def forward(self, *xs: Array) -> Array:
        self.ends = list(itertools.accumulate((x.shape[self.axis] for x in xs), initial=0))
        return kernels.join(xs, self.axis)

    def backward(self, gy: Tensor) -> Any:
        lead = (slice(None),) * self.axis
        pieces = zip(self.ends[:-1], self.ends[1:], self.needs, strict=True)
        return tuple(GetItem(index=(*lead, slice(a, b)))(gy) if need else None for a, b, need in pieces)


def concatenate(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors joined along `axis`; their other dimensions must agree."""
    xs = to_one_kind(*(as_tensor(x) for x in xs))
    if not xs:
        raise BadInput("concatenate: there is no tensor to join")
    if not -xs[0].ndim <= axis < xs[0].ndim:
        raise BadInput(f"concatenate: axis {axis} is not in a tensor of shape {xs[0].shape}")
    axis = int(axis) % xs[0].ndim
    rest = [(*x.shape[:axis], *x.shape[axis + 1 :]) for x in xs]
    if any(r != rest[0] or x.ndim != xs[0].ndim for r, x in zip(rest, xs, strict=True)):
        raise BadInput(f"concatenate: shapes {', '.join(str(x.shape) for x in xs)} differ beside axis {axis}")
    return Concatenate(axis=axis)(*xs)


def stack(xs: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape joined along a new dimension `axis`."""
    xs = [as_tensor(x) for x in xs]
    if not xs:
        raise BadInput("stack: there is no tensor to join")
    if any(x.shape != xs[0].shape for x in xs):
        raise BadInput(f"stack: shapes {', '.join(str(x.shape) for x in xs)} differ; they must be alike")
    if not -xs[0].ndim - 1 <= axis <= xs[0].ndim:
        raise BadInput(f"stack: axis {axis} is out of range for tensors of {xs[0].ndim} dimensions")
    return concatenate([unsqueeze(x, axis) for x in xs], axis)


def split(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """x cut into pieces along `axis`: of one size, the last as small as it must be, or of the sizes listed."""
    axis = _axis("split", axis, x.ndim)
    n = x.shape[axis]
    if isinstance(sizes, int | np.integer):
        if sizes < 1:
            raise BadInput(f"split: the size of a piece must be 1 or more, got {sizes}")
        sizes = [min(int(sizes), n - start) for start in range(0, n, int(sizes))] or [0]
    if sum(sizes) != n or any(size < 0 for size in sizes):
        raise BadInput(f"split: sizes {list(sizes)} do not make up the {n} of axis {axis} (x {x.shape})")
    lead = (slice(None),) * axis
    ends = itertools.accumulate(sizes, initial=0)
    return tuple(getitem(x, (*lead, slice(a, b))) for a, b in itertools.pairwise(ends))


def chunk(x: Tensor, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along `axis` into `chunks` pieces of one size, the last ones smaller or missing where it does not divide."""
    if chunks < 1:
        raise BadInput(f"chunk: the number of pieces must be 1 or more, got {chunks}")
    n = x.shape[_axis("chunk", axis, x.ndim)]
    if n == 0:
        return split(x, [0] * chunks, axis)
    return split(x, -(-n // chunks), axis)


# ---------------------------------------------------------------------------------------- borders


class Pad(Op):
    """y = x with a border of one value around it            gx = gy without the border"""

    widths: tuple[tuple[int, int], ...]
    value: float

    def forward(self, x: Array) -> Array:
        self.inside = tuple(slice(a, a + n) for (a, _), n in zip(self.widths, x.shape, strict=True))
        y = backend.full(tuple(a + n + b for (a, b), n in zip(self.widths, x.shape, strict=True)), self.value, like=x)
        y[self.inside] = x
        return y

    def backward(self, gy: Tensor) -> Tensor:
        return GetItem(index=self.inside)(gy)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's names


def pad(x: Tensor, widths: Sequence[tuple[int, int]], mode: str = "constant", value: float = 0.0) -> Tensor:
    """A border around x: `widths` gives (before, after) for each dimension.

    constant    the border is `value`
    reflect     x mirrored at its first and last element, which are not repeated
    replicate   the first and last element, repeated
    circular    the other end of x
    """
    widths = tuple((int(a), int(b)) for a, b in widths)
    if len(widths) != x.ndim or any(n < 0 for pair in widths for n in pair):
        raise BadInput(f"pad: {x.ndim} pairs of widths, 0 or more, are needed for shape {x.shape}; got {list(widths)}")
    if mode not in PAD_MODES:
        raise BadInput(f"pad: mode {mode!r} is unknown; it is one of: {', '.join(PAD_MODES)}")
    if mode == "constant":
        with np.errstate(invalid="ignore"):
            held = backend.kind(x.dtype) == "f" or np.asarray(value).astype(x.dtype) == value
        if not held:
            raise BadInput(f"pad: x holds {x.dtype}, which has no {value}; convert x with .astype, or give another value")
        return Pad(widths=widths, value=value)(x)
    for axis, pair in enumerate(widths):
        if any(pair):
            n = x.shape[axis]
            most = {"reflect": n - 1, "replicate": math.inf if n else 0, "circular": n}[mode]
            if max(pair) > most:
                raise BadInput(f"pad: {mode} has at most {most} elements for a border of {pair} (axis {axis} of x {x.shape})")
            source = np.pad(np.arange(n), pair, mode=PAD_MODES[mode])
            x = getitem(x, (*(slice(None),) * axis, source))
    return x
