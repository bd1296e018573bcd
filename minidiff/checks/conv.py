"""Convolutions. All few pixels: each is moved on its own."""

from .. import ops
from ..ops.conv import Conv2d, ConvTranspose2d
from .case import case, normal, textbook

# Convolutions: x, weight and perhaps bias; options as PyTorch spells them. All few pixels: each is moved on its own.
for _label, _shapes, _options in [
    ("1x1", [(2, 2, 2, 3), (3, 2, 1, 1), (3,)], {}),
    ("same size", [(1, 2, 3, 3), (2, 2, 3, 3), (2,)], {"padding": 1}),
    ("stride 2", [(2, 1, 5, 4), (2, 1, 3, 2)], {"stride": 2, "padding": 1}),
    ("rectangular", [(1, 2, 4, 3), (1, 2, 1, 2), (1,)], {"stride": (2, 1), "padding": (0, 2)}),
    ("dilation", [(1, 1, 5, 5), (2, 1, 2, 2)], {"dilation": (2, 3), "padding": 1}),
    ("groups", [(1, 4, 2, 3), (4, 2, 2, 2), (4,)], {"groups": 2, "padding": 1}),
    ("depthwise", [(1, 3, 3, 3), (3, 1, 2, 2)], {"groups": 3, "stride": 2}),
    ("padding beyond the kernel", [(1, 1, 2, 2), (1, 1, 2, 2)], {"padding": 3}),
]:
    _full = {k: v if isinstance(v, tuple) or k == "groups" else (v, v) for k, v in _options.items()}
    case(f"conv2d, {_label}", lambda *xs, o=_options: ops.conv2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(Conv2d, **_full), lambda torch, *xs, o=_options: torch.nn.functional.conv2d(*xs, **o))  # fmt: skip
for _label, _shapes, _options in [
    ("doubling", [(1, 2, 2, 3), (2, 2, 2, 2), (2,)], {"stride": 2}),
    ("padding and output_padding", [(2, 1, 2, 2), (1, 2, 3, 3)], {"stride": 2, "padding": 1, "output_padding": 1}),
    ("dilation", [(1, 1, 2, 3), (1, 1, 2, 2), (1,)], {"dilation": (1, 2), "padding": (1, 0)}),
    ("groups", [(1, 4, 2, 2), (4, 1, 2, 1), (2,)], {"groups": 2, "stride": (1, 3), "output_padding": (0, 2)}),
]:
    _full = {k: v if isinstance(v, tuple) or k == "groups" else (v, v) for k, v in _options.items()}
    case(f"conv_transpose2d, {_label}", lambda *xs, o=_options: ops.conv_transpose2d(*xs, **o), [normal(*s) for s in _shapes],
         textbook(ConvTranspose2d, **_full),
         lambda torch, *xs, o=_options: torch.nn.functional.conv_transpose2d(*xs, **o))  # fmt: skip
