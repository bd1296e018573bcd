"""Convolutions. All few pixels: each is moved on its own."""

from .. import ops
from ..ops.conv import Conv2d, ConvTranspose2d
from .case import case, normal, textbook


def _pairs(options, ndim):
    """Options as the operation itself takes them: pairs, and a signal an image one pixel high."""
    idle = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}
    full = {k: v if isinstance(v, tuple) or k == "groups" else (v,) * ndim for k, v in options.items()}
    return full if ndim == 2 else {k: v if k == "groups" else (idle[k], *v) for k, v in full.items()}


def _as_image(op, options):
    """The textbook definition, of signals (N,C,L) by way of images (N,C,1,L)."""
    book = textbook(op, **_pairs(options, 1))
    return lambda x, w, *b: book(x[:, :, None], w[:, :, None], *b)[:, :, 0]


# x, weight and perhaps bias; options as PyTorch spells them.
for _label, _shapes, _options in [
    ("1x1", [(2, 2, 2, 3), (3, 2, 1, 1), (3,)], {}),
    ("same size", [(1, 2, 3, 3), (2, 2, 3, 3), (2,)], {"padding": 1}),
    ("stride 2", [(2, 1, 5, 4), (2, 1, 3, 2)], {"stride": 2, "padding": 1}),
    ("rectangular", [(1, 2, 4, 3), (1, 2, 1, 2), (1,)], {"stride": (2, 1), "padding": (0, 2)}),
    ("dilation", [(1, 1, 5, 5), (2, 1, 2, 2)], {"dilation": (2, 3), "padding": 1}),
    ("groups", [(1, 4, 2, 3), (4, 2, 2, 2), (4,)], {"groups": 2, "padding": 1}),
    ("depthwise", [(1, 3, 3, 3), (3, 1, 2, 2)], {"groups": 3, "stride": 2}),
    ("padding beyond the kernel", [(1, 1, 2, 2), (1, 1, 2, 2)], {"padding": 3}),
    ("taps outside the image", [(4, 1, 2, 1), (1, 1, 3, 3)], {"padding": 2, "dilation": 2}),
    ("many channels: by Winograd's filtering", [(2, 8, 3, 5), (2, 8, 3, 3), (2,)], {"padding": 1}),
    ("many channels, no padding", [(1, 9, 6, 3), (1, 9, 3, 3)], {}),
    ("many channels, wide padding", [(1, 8, 2, 1), (2, 8, 3, 3)], {"padding": 2}),
    ("everything at once", [(1, 4, 6, 5), (2, 2, 2, 3), (2,)],
     {"stride": (2, 3), "padding": (1, 2), "dilation": (3, 1), "groups": 2}),
]:  # fmt: skip
    case(f"conv2d, {_label}", lambda *xs, o=_options: ops.conv2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(Conv2d, **_pairs(_options, 2)), lambda torch, *xs, o=_options: torch.nn.functional.conv2d(*xs, **o))  # fmt: skip
case("conv2d, padding 'same'", lambda x, w: ops.conv2d(x, w, padding="same", dilation=(1, 2)),
     [normal(1, 1, 3, 4), normal(1, 1, 3, 3)], textbook(Conv2d, padding=(1, 2), dilation=(1, 2)),
     lambda torch, x, w: torch.nn.functional.conv2d(x, w, padding="same", dilation=(1, 2)))  # fmt: skip
case("conv2d, padding 'valid'", lambda x, w: ops.conv2d(x, w, padding="valid"), [normal(1, 1, 3, 4), normal(1, 1, 2, 2)],
     textbook(Conv2d), lambda torch, x, w: torch.nn.functional.conv2d(x, w, padding="valid"))  # fmt: skip
for _label, _shapes, _options in [
    ("same size", [(2, 2, 5), (3, 2, 3), (3,)], {"padding": 1}),
    ("stride, dilation and groups", [(1, 4, 7), (2, 2, 2), (2,)], {"stride": 2, "dilation": 3, "padding": (1,), "groups": 2}),
    ("one element", [(1, 1, 4), (2, 1, 1)], {}),
    ("taps outside the signal", [(4, 1, 1), (1, 1, 3)], {"padding": 2, "dilation": 2}),
]:
    case(f"conv1d, {_label}", lambda *xs, o=_options: ops.conv1d(*xs, **o), [normal(*s) for s in _shapes],
         _as_image(Conv2d, _options), lambda torch, *xs, o=_options: torch.nn.functional.conv1d(*xs, **o))  # fmt: skip
case("conv1d, padding 'same' of an even kernel", lambda x, w: ops.conv1d(x, w, padding="same"),
     [normal(1, 2, 5), normal(1, 2, 4)],
     lambda x, w: textbook(Conv2d, padding=(0, 2))(x[:, :, None], w[:, :, None])[:, :, 0, 1:],
     lambda torch, x, w: torch.nn.functional.conv1d(torch.nn.functional.pad(x, (1, 2)), w))  # fmt: skip
for _label, _shapes, _options in [
    ("doubling", [(1, 2, 2, 3), (2, 2, 2, 2), (2,)], {"stride": 2}),
    ("padding and output_padding", [(2, 1, 2, 2), (1, 2, 3, 3)], {"stride": 2, "padding": 1, "output_padding": 1}),
    ("dilation", [(1, 1, 2, 3), (1, 1, 2, 2), (1,)], {"dilation": (1, 2), "padding": (1, 0)}),
    ("taps outside the image", [(4, 1, 2, 1), (1, 1, 2, 3), (1,)], {"padding": (1, 3), "dilation": (2, 3)}),
    ("groups", [(1, 4, 2, 2), (4, 1, 2, 1), (2,)], {"groups": 2, "stride": (1, 3), "output_padding": (0, 2)}),
    ("everything at once", [(1, 4, 3, 2), (4, 1, 3, 2), (2,)],
     {"stride": (2, 1), "padding": (1, 1), "output_padding": (1, 2), "dilation": (2, 3), "groups": 2}),
]:  # fmt: skip
    case(f"conv_transpose2d, {_label}", lambda *xs, o=_options: ops.conv_transpose2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(ConvTranspose2d, **_pairs(_options, 2)),
         lambda torch, *xs, o=_options: torch.nn.functional.conv_transpose2d(*xs, **o))  # fmt: skip
for _label, _shapes, _options in [
    ("doubling", [(2, 2, 3), (2, 1, 2), (1,)], {"stride": 2}),
    ("everything at once", [(1, 2, 3), (2, 2, 3), (4,)],
     {"stride": 3, "padding": 2, "output_padding": 1, "dilation": 2, "groups": 2}),
]:  # fmt: skip
    case(f"conv_transpose1d, {_label}", lambda *xs, o=_options: ops.conv_transpose1d(*xs, **o), [normal(*s) for s in _shapes],
         _as_image(ConvTranspose2d, _options),
         lambda torch, *xs, o=_options: torch.nn.functional.conv_transpose1d(*xs, **o))  # fmt: skip
