"""Convolution and its transpose: each is the other's backward.

Sizes, here and in the kernels:

    N samples   C channels in   O channels out   G groups   (H,W) image   (KH,KW) kernel
    stride s, padding p, dilation d, each a pair (vertical, horizontal)

    H' = (H + 2p − d (KH − 1) − 1) // s + 1            the height that comes out

A signal (N,C,L) is an image one pixel high: the one-dimensional forms are the two-dimensional ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import FusedOp
from ..backend import Array
from ..errors import BadInput
from ..tensor import Tensor
from .elementwise import in_float32
from .shape import getitem, pad, put, reshape, squeeze, transpose, unsqueeze

Pair = tuple[int, int]


def with_or_without_batch(ndim: int) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """A function of x (N,C,…) with ndim axes behind the channels takes one image (C,…) too, and gives one."""

    def widened(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(fn)
        def either(x: Tensor, *args: Any, **options: Any) -> Tensor:
            return squeeze(fn(unsqueeze(x, 0), *args, **options), 0) if x.ndim == ndim + 1 else fn(x, *args, **options)

        return either

    return widened


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many positions a kernel has along an axis."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


class Conv2d(FusedOp):
    """y[n,o,i,j] = b[o] + Σ_{c,u,v} w[o,c,u,v] x[n,c, s i + d u − p, s j + d v − p]   (x is 0 outside)

    Every output pixel is the product of the weights with the patch of x below it. Backwards:

        gw  the same sum over patches, with gy in the place of w
        gx  each gy[n,o,i,j] w[o,c,u,v] goes back to the pixel it was read from: a transposed convolution
        gb  Σ gy over n, i, j
    """                                                          # (N,C,H,W) (O,C/G,KH,KW) -> (N,O,H',W')

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    takes_bfloat16 = "kernel"

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return kernels.of(x).conv2d(x, w, b, **self.options)

    def backward(self, gy: Array) -> Any:
        x, w = self.saved[:2]
        needs = (*self.needs, False)[:3]                         # without a bias, no gradient for one
        return kernels.of(x).conv2d_backward(x, w, gy, needs, **self.options)[: len(self.needs)]

    @staticmethod
    def reference(
        x: Tensor, w: Tensor, b: Tensor | None = None, stride: Pair = (1, 1), padding: Pair = (0, 0),
        dilation: Pair = (1, 1), groups: int = 1,
    ) -> Tensor:  # fmt: skip
        (n, c, height, width), (o, _, kh, kw) = x.shape, w.shape
        size = [output_size(*args) for args in zip((height, width), (kh, kw), stride, padding, dilation, strict=True)]
        x = pad(x, [(0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2])
        y: Any = 0.0
        for u, v in [(u, v) for u in range(kh) for v in range(kw)]:
            patch = getitem(x, (..., *_tap(u, v, size, stride, dilation)))
            patch = reshape(patch, (n, groups, c // groups, size[0] * size[1]))
            tap = reshape(getitem(w, (..., u, v)), (groups, o // groups, c // groups))
            y = y + tap @ patch                                  # (G,O/G,C/G) (N,G,C/G,H'W') -> (N,G,O/G,H'W')
        y = reshape(y, (n, o, *size))
        return y if b is None else y + reshape(b, (o, 1, 1))


class ConvTranspose2d(FusedOp):
    """y[n,o, s i + d u − p, s j + d v − p] += w[c,o,u,v] x[n,c,i,j],   then + b[o]

    The transpose of the matrix that convolution with w is: where convolution gathers a patch into
    one pixel, this spreads one pixel over a patch. Its backward is therefore a convolution of gy.
    """                                                          # (N,C,H,W) (C,O/G,KH,KW) -> (N,O,H',W')

    stride: Pair
    padding: Pair
    output_padding: Pair
    dilation: Pair
    groups: int

    takes_bfloat16 = "kernel"

    def forward(self, x: Array, w: Array, b: Array | None = None) -> Array:
        return kernels.of(x).conv_transpose2d(x, w, b, **self.options)

    def backward(self, gy: Array) -> Any:
        x, w = self.saved[:2]
        needs = (*self.needs, False)[:3]                         # without a bias, no gradient for one
        return kernels.of(x).conv_transpose2d_backward(x, w, gy, needs, **self.options)[: len(self.needs)]

    @staticmethod
    def reference(
        x: Tensor, w: Tensor, b: Tensor | None = None, stride: Pair = (1, 1), padding: Pair = (0, 0),
        output_padding: Pair = (0, 0), dilation: Pair = (1, 1), groups: int = 1,
    ) -> Tensor:  # fmt: skip
        (n, c, height, width), (_, o, kh, kw) = x.shape, w.shape
        o = o * groups
        canvas = [
            (size - 1) * s + d * (k - 1) + 1 + extra
            for size, s, d, k, extra in zip((height, width), stride, dilation, (kh, kw), output_padding, strict=True)
        ]
        pixels = reshape(x, (n, groups, c // groups, height * width))
        y: Any = 0.0
        for u, v in [(u, v) for u in range(kh) for v in range(kw)]:
            tap = transpose(reshape(getitem(w, (..., u, v)), (groups, c // groups, o // groups)), (0, 2, 1))
            spread = reshape(tap @ pixels, (n, o, height, width))
            y = y + put(spread, (..., *_tap(u, v, (height, width), stride, dilation)), (n, o, *canvas))
        rows, columns = (slice(p, size - p) for p, size in zip(padding, canvas, strict=True))
        y = getitem(y, (..., rows, columns))
        return y if b is None else y + reshape(b, (o, 1, 1))


def _tap(u: int, v: int, size: Any, stride: Pair, dilation: Pair) -> tuple[slice, slice]:
    """The pixels of the padded image that kernel element (u,v) meets as it moves over it."""
    rows = slice(dilation[0] * u, dilation[0] * u + stride[0] * (size[0] - 1) + 1, stride[0])
    columns = slice(dilation[1] * v, dilation[1] * v + stride[1] * (size[1] - 1) + 1, stride[1])
    return rows, columns


# --------------------------------------------------------------------------------- checked entries


def per_axis(op: str, name: str, value: int | tuple[int, ...], least: int, ndim: int = 2) -> tuple[int, ...]:
    """An option of one whole number, or of one for each of the ndim axes, as the latter."""
    sizes = tuple(value) if isinstance(value, tuple | list) else (value,) * ndim
    if len(sizes) != ndim or any(not isinstance(n, int | np.integer) or n < least for n in sizes):
        numbers = "one whole number" if ndim == 1 else "one or two whole numbers"
        raise BadInput(f"{op}: {name} must be {numbers}, {least} or more; got {value!r}")
    return tuple(map(int, sizes))


def _check(op: str, x: Tensor, w: Tensor, b: Tensor | None, groups: int, ndim: int, transposed: bool = False) -> None:
    """Whether x, weight and bias fit each other; ndim is 1 for signals, 2 for images."""
    shapes = f"(x {x.shape}, weight {w.shape}, groups {groups})"
    if x.ndim != ndim + 2 or w.ndim != ndim + 2:
        wanted = "(N,C,H,W)" if ndim == 2 else "(N,C,L)"
        raise BadInput(f"{op}: x must be {wanted} and weight have {ndim + 2} dimensions {shapes}")
    if 0 in w.shape:
        raise BadInput(f"{op}: weight {w.shape} has no elements")
    if groups < 1 or x.shape[1] % groups or w.shape[0] % groups:
        raise BadInput(f"{op}: groups {groups} does not divide the channels {shapes}")
    c, o = (w.shape[0], w.shape[1] * groups) if transposed else (w.shape[1] * groups, w.shape[0])
    if x.shape[1] != c:
        per_group = " per group" if groups > 1 else ""
        raise BadInput(
            f"{op}: weight expects {c // groups} input channels{per_group}, x has {x.shape[1] // groups} {shapes}"
        )
    if b is not None and b.shape != (o,):
        raise BadInput(f"{op}: bias must have shape ({o},), got {b.shape}")
    dtypes = {np.dtype(np.float32) if backend.is_bfloat16(t.data) and t is x else t.dtype for t in (x, w, b) if t is not None}
    if len(dtypes) > 1 or backend.kind(x.dtype) != "f":
        dtypes = ", ".join(str(t.dtype) for t in (x, w, b) if t is not None)
        raise BadInput(f"{op}: x, weight and bias must share one floating-point dtype; got {dtypes}")


def _named_padding(op: str, name: str, kernel: Any, stride: Any, dilation: Any) -> list[Pair]:
    """(before, after) for each axis: none for "valid", as much as the kernel takes for "same".

    What a kernel of even size takes is odd, and the larger half goes behind, as in PyTorch.
    """
    if name not in ("same", "valid"):
        raise BadInput(f"{op}: padding {name!r} is unknown; it is 'same', 'valid' or whole numbers")
    if name == "valid":
        return [(0, 0) for _ in kernel]
    if any(s != 1 for s in stride):
        raise BadInput(f"{op}: padding 'same' needs stride 1, got stride {stride}; give the padding in numbers")
    taken = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return [(n // 2, n - n // 2) for n in taken]


def _conv(
    op: str, x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, ndim: int
) -> Tensor:
    """Checks for signals and images alike, then `Conv2d`."""
    stride, dilation = per_axis(op, "stride", stride, 1, ndim), per_axis(op, "dilation", dilation, 1, ndim)
    _check(op, x, w, b, groups, ndim)
    if isinstance(padding, str):
        around = _named_padding(op, padding, w.shape[2:], stride, dilation)
        padding = tuple(before for before, _ in around)
        x = _extended(x, [after - before for before, after in around])
    else:
        padding = per_axis(op, "padding", padding, 0, ndim)
    axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    if min(output_size(*axis) for axis in axes) < 1:
        image = "image" if ndim == 2 else "signal"
        raise BadInput(
            f"{op}: kernel {w.shape[2:]} with dilation {dilation} is larger than the {image} {x.shape[2:]}"
            f" padded by {padding}"
        )
    if ndim == 1:
        x, w = unsqueeze(x, 2), unsqueeze(w, 2)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    apply = Conv2d(stride=stride, padding=padding, dilation=dilation, groups=groups)
    y = in_float32(apply, *(t for t in (x, w, b) if t is not None))
    return squeeze(y, 2) if ndim == 1 else y


def _extended(x: Tensor, more: list[int]) -> Tensor:
    """x with `more` zeros behind each of its last axes."""
    return pad(x, [(0, 0), (0, 0), *((0, n) for n in more)]) if any(more) else x


def _conv_transpose(
    op: str, x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, extra: Any, groups: int, dilation: Any,
    ndim: int,
) -> Tensor:  # fmt: skip
    """Checks for signals and images alike, then `ConvTranspose2d`."""
    stride, dilation = per_axis(op, "stride", stride, 1, ndim), per_axis(op, "dilation", dilation, 1, ndim)
    padding, extra = per_axis(op, "padding", padding, 0, ndim), per_axis(op, "output_padding", extra, 0, ndim)
    _check(op, x, w, b, groups, ndim, transposed=True)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise BadInput(f"{op}: output_padding {extra} must be smaller than stride {stride} or dilation {dilation}")
    axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, extra, strict=True)
    sizes = tuple((h - 1) * s - 2 * p + d * (k - 1) + e + 1 for h, k, s, p, d, e in axes)
    if min(sizes) < 1:
        image = "image" if ndim == 2 else "signal"
        raise BadInput(f"{op}: padding {padding} leaves nothing of the {image}: it would come out as {sizes}")
    if ndim == 1:
        x, w = unsqueeze(x, 2), unsqueeze(w, 2)
        stride, padding, extra, dilation = (1, *stride), (0, *padding), (0, *extra), (1, *dilation)
    apply = ConvTranspose2d(stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups)
    y = in_float32(apply, *(t for t in (x, w, b) if t is not None))
    return squeeze(y, 2) if ndim == 1 else y


@with_or_without_batch(2)
def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1, padding: int | Pair | str = 0,
    dilation: int | Pair = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """2-D convolution (cross-correlation, as in every neural-network library); PyTorch's meaning.

    x (N,C,H,W), weight (O,C/G,KH,KW), bias (O,) or None -> (N,O,H',W'); one image (C,H,W) -> (O,H',W').
    padding may be "valid" (none) or, with stride 1, "same" (the image keeps its size). Raises BadInput where shapes or dtypes do
    not fit or the kernel is larger than the padded image.
    """
    return _conv("conv2d", x, weight, bias, stride, padding, dilation, groups, ndim=2)


@with_or_without_batch(1)
def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | tuple[int] = 1,
    padding: int | tuple[int] | str = 0, dilation: int | tuple[int] = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv2d` for signals: x (N,C,L), weight (O,C/G,K), bias (O,) or None -> (N,O,L')."""
    return _conv("conv1d", x, weight, bias, stride, padding, dilation, groups, ndim=1)


@with_or_without_batch(2)
def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1, padding: int | Pair = 0,
    output_padding: int | Pair = 0, groups: int = 1, dilation: int | Pair = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d` (PyTorch's meaning and order of arguments).

    x (N,C,H,W), weight (C,O/G,KH,KW), bias (O,) or None -> (N,O,H',W') with
    H' = (H − 1) s − 2p + d (KH − 1) + output_padding + 1. Raises BadInput where shapes or dtypes do not fit.
    """
    return _conv_transpose(
        "conv_transpose2d", x, weight, bias, stride, padding, output_padding, groups, dilation, ndim=2
    )


@with_or_without_batch(1)
def conv_transpose1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | tuple[int] = 1,
    padding: int | tuple[int] = 0, output_padding: int | tuple[int] = 0, groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv1d`: x (N,C,L), weight (C,O/G,K), bias (O,) or None -> (N,O,L')."""
    return _conv_transpose(
        "conv_transpose1d", x, weight, bias, stride, padding, output_padding, groups, dilation, ndim=1
    )
