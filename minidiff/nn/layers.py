"""Layers: modules that own the weights of one function of `minidiff.nn.functional`.

The mathematics is there; here are the weights, how they start, and what a constructor accepts.
Names, order, shapes and starting distributions are PyTorch's, so that weights can be carried over
in either direction.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping
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
    """What the two convolutions share: checked sizes, and how they print."""

    output_padding: tuple[int, int] = (0, 0)

    def _set_sizes(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
    ) -> None:
        layer = type(self).__name__
        self.in_channels = _whole(f"{layer}: in_channels", in_channels)
        self.out_channels = _whole(f"{layer}: out_channels", out_channels)
        self.kernel_size = _pair(f"{layer}: kernel_size", kernel_size)
        self.stride = _pair(f"{layer}: stride", stride)
        self.padding = _pair(f"{layer}: padding", padding, least=0)
        self.dilation = _pair(f"{layer}: dilation", dilation)
        self.groups = _whole(f"{layer}: groups", groups)
        if in_channels % groups or out_channels % groups:
            raise BadInput(
                f"{layer}: in_channels and out_channels must be divisible by groups, "
                f"got {in_channels} and {out_channels} with groups {groups}"
            )

    def extra_repr(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        parts = [f"{channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        usual = {"padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1}
        parts += [f"{name}={getattr(self, name)}" for name in usual if getattr(self, name) != usual[name]]
        return ", ".join(parts + ["bias=False"] * (self.bias is None))


class Conv2d(_Conv):
    """Cross-correlation of images with learned kernels                 (N,C,H,W) -> (N,O,H',W')

    H' = ⌊(H + 2 padding − dilation (K − 1) − 1) / stride⌋ + 1
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        self._set_sizes(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])
        self.weight = _uniform(shape, fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class ConvTranspose2d(_Conv):
    """The adjoint of Conv2d: spreads each input pixel over a kernel       (N,C,H,W) -> (N,O,H',W')

    H' = (H − 1) stride − 2 padding + dilation (K − 1) + output_padding + 1
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
    ) -> None:
        self._set_sizes(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        self.output_padding = _pair("ConvTranspose2d: output_padding", output_padding, least=0)
        limits = [max(pair) for pair in zip(self.stride, self.dilation, strict=True)]
        if any(extra >= limit for extra, limit in zip(self.output_padding, limits, strict=True)):
            raise BadInput(
                "ConvTranspose2d: output_padding must be smaller than stride or dilation, "
                f"got {self.output_padding} with stride {self.stride} and dilation {self.dilation}"
            )
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        fan_in = math.prod(shape[1:])  # reads the shape as if it were Conv2d's, as PyTorch does
        self.weight = _uniform(shape, fan_in)
        self.bias = _uniform((out_channels,), fan_in) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            dilation=self.dilation,
        )


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


class Embedding(Module):
    """A table of learned vectors, N(0, 1) to begin with, looked up by number       (...,) -> (..., D)"""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        self.num_embeddings = _whole("Embedding: num_embeddings", num_embeddings)
        self.embedding_dim = _whole("Embedding: embedding_dim", embedding_dim)
        table = default_rng().standard_normal((num_embeddings, embedding_dim))
        self.weight = Parameter(table.astype(np.float32))

    def forward(self, indices: Any) -> Tensor:
        return F.embedding(indices, self.weight)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


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


class Dropout(Module):
    """While training, sets each element to 0 with probability p and scales the rest by 1/(1 − p)."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise BadInput(f"Dropout: p must be from 0 to 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


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
        """The module at an index, or a new list of those in a slice."""
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


def _pair(what: str, value: Any, least: int = 1) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    try:
        height, width = (_whole(what, n, least) for n in values)
    except ValueError:  # BadInput is one, and so is a wrong number of values
        raise BadInput(
            f"{what} must be a whole number of at least {least}, or a pair (height, width), got {value!r}"
        ) from None
    return height, width
