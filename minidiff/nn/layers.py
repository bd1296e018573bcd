"""Layers: modules that own the weights of one function of `minidiff.nn.functional`.

The mathematics is there; here are the weights, how they start, and what a constructor accepts.
Names, order, shapes and starting distributions are PyTorch's, so that weights can be carried over
in either direction.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..backend import default_rng
from ..errors import BadInput
from ..tensor import Tensor
from . import functional as F
from .module import Module, Parameter

Size = int | tuple[int, int]

# ----------------------------------------------------------------------------------------- weights


def _uniform(shape: tuple[int, ...], fan_in: int) -> Parameter:
    """U(-b, b) with b = 1/√fan_in, where fan_in is the number of inputs that each output sums.

    He et al. 2015 keep the variance from layer to layer with std = gain/√fan_in. PyTorch takes their
    gain for a leaky ReLU of slope √5, √(2/(1+5)) = √(1/3), and a uniform of that std ends at
    b = √3 std = 1/√fan_in. The bias is drawn from the same interval.
    """
    b = 1 / math.sqrt(fan_in)
    return Parameter(default_rng().uniform(-b, b, shape).astype(np.float32))


class Linear(Module):
    """y = x Wᵀ + b                                                  (..., in) -> (..., out)"""

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = _whole("Linear: in_features", in_features)
        self.out_features = _whole("Linear: out_features", out_features)
        self.weight = _uniform((out_features, in_features), in_features)
        self.bias = _uniform((out_features,), in_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        bias = self.bias is not None
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={bias}"


class _Conv(Module):
    """What the convolutions share: checked sizes, how the weights start, and how it all prints."""

    ndim: int                                                    # 1 for signals, 2 for images
    output_padding: tuple[int, ...] = ()

    def _set_sizes(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, groups: int
    ) -> None:
        layer = type(self).__name__
        self.in_channels = _whole(f"{layer}: in_channels", in_channels)
        self.out_channels = _whole(f"{layer}: out_channels", out_channels)
        self.kernel_size = _sizes(f"{layer}: kernel_size", kernel_size, self.ndim)
        self.stride = _sizes(f"{layer}: stride", stride, self.ndim)
        self.dilation = _sizes(f"{layer}: dilation", dilation, self.ndim)
        self.padding = padding if isinstance(padding, str) else _sizes(f"{layer}: padding", padding, self.ndim, least=0)
        self.groups = _whole(f"{layer}: groups", groups)
        if in_channels % groups or out_channels % groups:
            raise BadInput(
                f"{layer}: in_channels and out_channels must be divisible by groups, "
                f"got {in_channels} and {out_channels} with groups {groups}"
            )

    def _set_weights(self, first: int, second: int, bias: bool) -> None:
        shape = (first, second // self.groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = _uniform(shape, fan_in)
        self.bias = _uniform((self.out_channels,), fan_in) if bias else None

    def extra_repr(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        parts = [f"{channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        zeros, ones = (0,) * self.ndim, (1,) * self.ndim
        usual = {"padding": (zeros,), "dilation": (ones,), "output_padding": (zeros, ()), "groups": (1,)}
        parts += [f"{name}={getattr(self, name)}" for name in usual if getattr(self, name) not in usual[name]]
        return ", ".join(parts + ["bias=False"] * (self.bias is None))


class _PlainConv(_Conv):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size | str = 0,
        dilation: Size = 1, groups: int = 1, bias: bool = True,
    ) -> None:  # fmt: skip
        self._set_sizes(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        _check_named_padding(type(self).__name__, padding, self.stride)
        self._set_weights(out_channels, in_channels, bias)

    def forward(self, x: Tensor) -> Tensor:
        conv = F.conv1d if self.ndim == 1 else F.conv2d
        return conv(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Conv1d(_PlainConv):
    """Cross-correlation of signals with learned kernels                (N,C,L) -> (N,O,L'); else as Conv2d"""

    ndim = 1


class Conv2d(_PlainConv):
    """Cross-correlation of images with learned kernels                 (N,C,H,W) -> (N,O,H',W')

    H' = ⌊(H + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1

    padding may be "valid" (none) or, with stride 1, "same": H' = H.
    """

    ndim = 2


class _TransposedConv(_Conv):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
        output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
    ) -> None:  # fmt: skip
        layer = type(self).__name__
        if isinstance(padding, str):
            raise BadInput(f"{layer}: padding must be given in whole numbers, got {padding!r}")
        self._set_sizes(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding = _sizes(f"{layer}: output_padding", output_padding, self.ndim, least=0)
        limits = [max(pair) for pair in zip(self.stride, self.dilation, strict=True)]
        if any(extra >= limit for extra, limit in zip(self.output_padding, limits, strict=True)):
            raise BadInput(
                f"{layer}: output_padding must be smaller than stride or dilation, "
                f"got {self.output_padding} with stride {self.stride} and dilation {self.dilation}"
            )
        self._set_weights(in_channels, out_channels, bias)  # fan_in as if the shape were Conv2d's, as PyTorch has it

    def forward(self, x: Tensor) -> Tensor:
        conv = F.conv_transpose1d if self.ndim == 1 else F.conv_transpose2d
        return conv(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


class ConvTranspose1d(_TransposedConv):
    """The adjoint of Conv1d: spreads each input over a kernel             (N,C,L) -> (N,O,L'); else as ConvTranspose2d"""

    ndim = 1


class ConvTranspose2d(_TransposedConv):
    """The adjoint of Conv2d: spreads each input pixel over a kernel       (N,C,H,W) -> (N,O,H',W')

    H' = (H − 1) stride − 2 padding + dilation (K − 1) + output_padding + 1
    """

    ndim = 2


# ------------------------------------------------------------------------------------ normalisation


class GroupNorm(Module):
    """Normalise each sample over groups of channels (Wu & He 2018), then scale and shift each channel."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        self.num_groups = _whole("GroupNorm: num_groups", num_groups)
        self.num_channels = _whole("GroupNorm: num_channels", num_channels)
        if num_channels % num_groups:
            raise BadInput(
                f"GroupNorm: num_channels {num_channels} must be divisible by num_groups {num_groups}"
            )
        self.eps, self.affine = eps, affine
        self.weight = Parameter(np.ones(num_channels, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, np.float32)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Module):
    """Normalise each sample over its last axes (Ba et al. 2016), then scale and shift each element."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        sizes = tuple(normalized_shape) if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        self.normalized_shape = tuple(_whole("LayerNorm: normalized_shape", n) for n in sizes)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if elementwise_affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        without_bias = ", bias=False" * (self.elementwise_affine and self.bias is None)
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}{without_bias}"


class _ChannelNorm(Module):
    """What BatchNorm and InstanceNorm share: weights of each channel, and the statistics they remember."""

    ndims: tuple[int, ...]                                       # how many dimensions x may have
    wanted: str                                                  # and how that is written

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:  # fmt: skip
        self.num_features = _whole(f"{type(self).__name__}: num_features", num_features)
        self.eps, self.momentum, self.affine, self.track_running_stats = eps, momentum, affine, track_running_stats
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        self.running_mean = self.running_var = None
        if track_running_stats:
            self.register_buffer("running_mean", np.zeros(num_features, np.float32))
            self.register_buffer("running_var", np.ones(num_features, np.float32))
            self.register_buffer("num_batches_tracked", np.zeros((), np.int64))

    def _check(self, x: Tensor) -> None:
        if x.ndim not in self.ndims or x.shape[1] != self.num_features:
            layer = type(self).__name__
            raise BadInput(f"{layer}: x must be {self.wanted} with {self.num_features} channels, got shape {x.shape}")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_ChannelNorm):
    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        momentum = self.momentum
        if self.training and self.track_running_stats:
            self.num_batches_tracked = self.num_batches_tracked + 1
            momentum = 1.0 / int(self.num_batches_tracked) if momentum is None else momentum
        by_batch = self.training or self.running_mean is None
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, by_batch, momentum or 0.0, self.eps
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of vectors or signals over the batch        (N,C) or (N,C,L); else as BatchNorm2d"""

    ndims, wanted = (2, 3), "(N,C) or (N,C,L)"


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over the batch (Ioffe & Szegedy 2015), then scale and shift it         (N,C,H,W)

    While training, by the mean and variance of the batch, which also move running_mean and
    running_var; in evaluation by these two, so that a sample's result does not depend on its company.
    With momentum None they are the plain averages over all batches instead of moving ones.
    """

    ndims, wanted = (4,), "(N,C,H,W)"


class _InstanceNorm(_ChannelNorm):
    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:  # fmt: skip
        if momentum is None:
            raise BadInput(f"{type(self).__name__}: momentum must be a number, got None; only BatchNorm averages over all batches")
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        by_image = self.training or self.running_mean is None
        return F.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, by_image, self.momentum, self.eps
        )


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sample over its signal              (N,C,L); else as InstanceNorm2d"""

    ndims, wanted = (3,), "(N,C,L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each sample over its image (Ulyanov et al. 2016)                    (N,C,H,W)

    Only with track_running_stats are statistics remembered, and used in evaluation.
    """

    ndims, wanted = (4,), "(N,C,H,W)"


# --------------------------------------------------------------------------------------------- tables


class Embedding(Module):
    """A table of learned vectors, N(0, 1) to begin with, looked up by number       (...,) -> (..., D)

    The row padding_idx stands for "nothing here": it starts at 0 and is given no gradient.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        self.num_embeddings = _whole("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = _whole("Embedding: embedding_dim", embedding_dim)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise BadInput(
                f"Embedding: padding_idx must lie in {-num_embeddings} … {num_embeddings - 1}, got {padding_idx}"
            )
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        table = default_rng().standard_normal((num_embeddings, embedding_dim))
        if padding_idx is not None:
            table[padding_idx] = 0
        self.weight = Parameter(table.astype(np.float32))

    def forward(self, indices: Any) -> Tensor:
        return F.embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        nothing = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{nothing}"


# ---------------------------------------------------------------------------------- without weights


class GELU(Module):
    """y = x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016).

    approximate="tanh" is the paper's approximation of it, "none" the function itself.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise BadInput(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """y = x / (1 + e^{-x})"""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x)


class ReLU(Module):
    """y = max(x, 0)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope · x"""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Softplus(Module):
    """y = ln(1 + e^{βx}) / β"""

    def __init__(self, beta: float = 1.0) -> None:
        if not beta > 0:
            raise BadInput(f"Softplus: beta must be larger than 0, got {beta}")
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class Sigmoid(Module):
    """y = 1 / (1 + e^{-x})"""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)"""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """yᵢ = e^{xᵢ} / Σⱼ e^{xⱼ} along the axis `dim`"""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class _Dropout(Module):
    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise BadInput(f"{type(self).__name__}: p must be from 0 to 1, got {p}")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropout):
    """While training, sets each element to 0 with probability p and scales the rest by 1/(1 − p)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Dropout2d(_Dropout):
    """`Dropout` of whole channels of images (N,C,H,W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, self.p, self.training)


class Identity(Module):
    """y = x; stands where a layer was taken out."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """Make one axis of the axes start_dim to end_dim                           (N,C,H,W) -> (N,C·H·W)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        start, end = (dim + x.ndim if dim < 0 else dim for dim in (self.start_dim, self.end_dim))
        if not 0 <= start <= end < x.ndim:
            raise BadInput(f"Flatten: x of shape {x.shape} has no axes {self.start_dim} to {self.end_dim}")
        return x.reshape(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


# ------------------------------------------------------------------------------------ sizes of images


class MaxPool2d(Module):
    """The largest number of each window                                        (N,C,H,W) -> (N,C,H',W')

    H' = ⌊(H + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1; with ceil_mode, ⌈ ⌉ for ⌊ ⌋.
    """

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1, *,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        stride = kernel_size if stride is None else stride
        for name, value, least in (("kernel_size", kernel_size, 1), ("stride", stride, 1), ("padding", padding, 0),
                                   ("dilation", dilation, 1)):  # fmt: skip
            _sizes(f"MaxPool2d: {name}", value, 2, least)
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


class AvgPool2d(Module):
    """The mean of each window                                                  (N,C,H,W) -> (N,C,H',W')

    Windows as in MaxPool2d. count_include_pad and divisor_override as in `functional.avg_pool2d`.
    """

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        stride = kernel_size if stride is None else stride
        for name, value, least in (("kernel_size", kernel_size, 1), ("stride", stride, 1), ("padding", padding, 0)):
            _sizes(f"AvgPool2d: {name}", value, 2, least)
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
            self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The mean of each of as many windows as are asked for                     (N,C,H,W) -> (N,C,H',W')"""

    def __init__(self, output_size: int | None | tuple[int | None, int | None]) -> None:
        pair = output_size if isinstance(output_size, tuple | list) else (output_size,) * 2
        _sizes("AdaptiveAvgPool2d: output_size", tuple(1 if n is None else n for n in pair), 2)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Upsample(Module):
    """Images of another size, "nearest" or "bilinear"; see `functional.interpolate`."""

    def __init__(
        self, size: Size | None = None, scale_factor: float | tuple[float, float] | None = None, mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:  # fmt: skip
        if (size is None) == (scale_factor is None):
            raise BadInput(f"Upsample: give either size or scale_factor; got size {size}, scale_factor {scale_factor}")
        if mode not in ("nearest", "bilinear"):
            raise BadInput(f"Upsample: mode {mode!r} is unknown; it is 'nearest' or 'bilinear'")
        several = isinstance(scale_factor, tuple | list)
        scale_factor = tuple(map(float, scale_factor)) if several else scale_factor and float(scale_factor)
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{size}, mode={self.mode!r}"


class PixelShuffle(Module):
    """r² channels become a patch of r x r pixels                               (N,C r²,H,W) -> (N,C,rH,rW)"""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = _whole("PixelShuffle: upscale_factor", upscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """A patch of r x r pixels becomes r² channels                              (N,C,rH,rW) -> (N,C r²,H,W)"""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = _whole("PixelUnshuffle: downscale_factor", downscale_factor)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


# --------------------------------------------------------------------------------------- containers


class ModuleList(Module):
    """A list of modules, named "0", "1", …, whose parameters the module that holds it finds."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def append(self, module: Module) -> ModuleList:
        """Put a module at the end; gives the list back."""
        _add(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Put modules at the end; gives the list back."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self._members(Module))

    def __iter__(self) -> Iterator[Module]:
        return (module for _, module in self._members(Module))

    def __getitem__(self, index: int | slice) -> Any:
        """The module at an index, or a new list of those in a slice, named "0", "1", …"""
        found = list(self)[index]
        return self._of(found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, module: Module) -> None:
        names = [name for name, _ in self._members(Module)]
        setattr(self, names[index], module)

    def _of(self, modules: list[Module]) -> ModuleList:
        return ModuleList(modules)


class Sequential(ModuleList):
    """Modules one after the other: y = fₙ(… f₂(f₁(x))). A dict gives them names."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                _add(self, name, module)
        else:
            self.extend(modules)  # type: ignore[arg-type]

    def _of(self, modules: list[Module]) -> ModuleList:
        return Sequential(*modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


# ----------------------------------------------------------------------------- checking what was given


def _add(parent: Module, name: str, module: Module) -> None:
    kind = type(parent).__name__
    if not isinstance(module, Module):
        raise BadInput(f"{kind}: {name} must be a Module, got {type(module).__name__}")
    if not name or "." in name or hasattr(parent, name):
        raise BadInput(f"{kind}: {name!r} cannot name a module: it is empty, has a dot in it, or is taken")
    setattr(parent, name, module)


def _whole(what: str, value: Any, least: int = 1) -> int:
    try:
        n = operator.index(value)
    except TypeError:
        n = least - 1
    if n < least or isinstance(value, bool):
        raise BadInput(f"{what} must be a whole number of at least {least}, got {value!r}")
    return n


def _sizes(what: str, value: Any, ndim: int, least: int = 1) -> tuple[int, ...]:
    """A whole number for each of ndim axes; one number goes for all."""
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * ndim
    try:
        if len(values) != ndim:
            raise BadInput("")
        return tuple(_whole(what, n, least) for n in values)
    except BadInput:
        pair = ", or a pair (height, width)" * (ndim == 2)
        raise BadInput(f"{what} must be a whole number of at least {least}{pair}, got {value!r}") from None


def _check_named_padding(layer: str, padding: Any, stride: tuple[int, ...]) -> None:
    if not isinstance(padding, str):
        return
    if padding not in ("same", "valid"):
        raise BadInput(f"{layer}: padding {padding!r} is unknown; it is 'same', 'valid' or whole numbers")
    if padding == "same" and any(s != 1 for s in stride):
        raise BadInput(f"{layer}: padding 'same' needs stride 1, got stride {stride}; give the padding in numbers")
