"""Convolution and its transpose: each is the other's backward.

Sizes, here and in the kernels:

    N samples   C channels in   O channels out   G groups   (H,W) image   (KH,KW) kernel
    stride s, padding p, dilation d, each a pair (vertical, horizontal)

    H' = (H + 2p − d (KH − 1) − 1) // s + 1            the height that comes out
"""

from __future__ import annotations

from typing import Any

from .. import kernels
from ..autograd import FusedOp
from ..backend import Array
from ..errors import BadInput
from ..tensor import Tensor
from .shape import getitem, pad, put, reshape, transpose

Pair = tuple[int, int]


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


def _pair(op: str, name: str, value: int | Pair, least: int) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(not isinstance(n, int) or n < least for n in pair):
        raise BadInput(f"{op}: {name} must be one or two whole numbers, {least} or more; got {value!r}")
    return pair


def _check(op: str, x: Tensor, w: Tensor, b: Tensor | None, groups: int, c: int, o: int) -> None:
    """c and o: the channels that the weight reads from x, and those that it makes."""
    shapes = f"(x {x.shape}, weight {w.shape}, groups {groups})"
    if x.ndim != 4 or w.ndim != 4:
        raise BadInput(f"{op}: x must be (N,C,H,W) and weight have 4 dimensions {shapes}")
    if groups < 1 or x.shape[1] % groups or w.shape[0] % groups:
        raise BadInput(f"{op}: groups {groups} does not divide the channels {shapes}")
    if x.shape[1] != c:
        per_group = " per group" if groups > 1 else ""
        raise BadInput(
            f"{op}: weight expects {c // groups} input channels{per_group}, x has {x.shape[1] // groups} {shapes}"
        )
    if b is not None and b.shape != (o,):
        raise BadInput(f"{op}: bias must have shape ({o},), got {b.shape}")
    if len({t.dtype for t in (x, w, b) if t is not None}) > 1 or x.dtype.kind != "f":
        dtypes = ", ".join(str(t.dtype) for t in (x, w, b) if t is not None)
        raise BadInput(f"{op}: x, weight and bias must share one floating-point dtype; got {dtypes}")


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1, padding: int | Pair = 0,
    dilation: int | Pair = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """2-D convolution (cross-correlation, as in every neural-network library); PyTorch's meaning.

    x (N,C,H,W), weight (O,C/G,KH,KW), bias (O,) or None -> (N,O,H',W'). Raises BadInput where shapes
    or dtypes do not fit or the kernel is larger than the padded image.
    """
    stride, dilation = _pair("conv2d", "stride", stride, 1), _pair("conv2d", "dilation", dilation, 1)
    padding = _pair("conv2d", "padding", padding, 0)
    o, c = (weight.shape[0], weight.shape[1] * groups) if weight.ndim == 4 else (0, 0)
    _check("conv2d", x, weight, bias, groups, c, o)
    sizes = [output_size(*args) for args in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)]
    if min(sizes) < 1:
        raise BadInput(
            f"conv2d: kernel {weight.shape[2:]} with dilation {dilation} is larger than the image {x.shape[2:]}"
            f" padded by {padding}"
        )
    op = Conv2d(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return op(x, weight) if bias is None else op(x, weight, bias)


def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Pair = 1, padding: int | Pair = 0,
    output_padding: int | Pair = 0, groups: int = 1, dilation: int | Pair = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d` (PyTorch's meaning and order of arguments).

    x (N,C,H,W), weight (C,O/G,KH,KW), bias (O,) or None -> (N,O,H',W') with
    H' = (H − 1) s − 2p + d (KH − 1) + output_padding + 1. Raises BadInput where shapes or dtypes do not fit.
    """
    name = "conv_transpose2d"
    stride, dilation = _pair(name, "stride", stride, 1), _pair(name, "dilation", dilation, 1)
    padding, extra = _pair(name, "padding", padding, 0), _pair(name, "output_padding", output_padding, 0)
    c, o = (weight.shape[0], weight.shape[1] * groups) if weight.ndim == 4 else (0, 0)
    _check(name, x, weight, bias, groups, c, o)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise BadInput(f"{name}: output_padding {extra} must be smaller than stride {stride} or dilation {dilation}")
    axes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, extra, strict=True)
    sizes = tuple((h - 1) * s - 2 * p + d * (k - 1) + e + 1 for h, k, s, p, d, e in axes)
    if min(sizes) < 1:
        raise BadInput(f"{name}: padding {padding} leaves nothing of the image: it would come out as {sizes}")
    op = ConvTranspose2d(stride=stride, padding=padding, output_padding=extra, dilation=dilation, groups=groups)
    return op(x, weight) if bias is None else op(x, weight, bias)
