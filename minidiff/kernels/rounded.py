"""The CPU's kernels with the roundings of the GPU's: what TF32 and bfloat16 do to a network, seen without a GPU.

    fp32   nothing is rounded: these are the CPU's kernels
    tf32   what convolutions and products multiply is rounded to 10 bits of mantissa
    bf16   convolutions, norms and activations take and give bfloat16, 7 bits of mantissa

Sums are float32 throughout, as on the GPU, where a tensor core multiplies two short numbers exactly and adds up in float32.
So the numbers that come out are those of the CUDA kernels but for the order of their sums.

`minidiff.set_kernels("rounded")`, or MINIDIFF_KERNELS=rounded.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, astype, dtype_of, is_bfloat16
from . import cpu

Gradients = tuple[Array | None, ...]


# -------------------------------------------------------------------------------------- the roundings


def to_tf32(x: np.ndarray) -> np.ndarray:
    """float32 numbers with 10 bits of mantissa, halves rounded away from 0, as the instruction cvt.rna.tf32 does.

    A float32 is 1 sign, 8 exponent and 23 mantissa bits: 13 of them go. What is no number, or not finite, stays.
    """
    half, kept = np.uint32(1 << 12), np.uint32(0xFFFFFFFF << 13 & 0xFFFFFFFF)
    y = ((np.ascontiguousarray(x).view(np.uint32) + half) & kept).view(np.float32)
    return np.where(np.isfinite(x), y, x)


def wide(x: Array) -> Array:
    """The same numbers as float32 (float64 stays)."""
    return astype(x, np.float32) if is_bfloat16(x) else x


def stored(x: Array, bf16: bool) -> Array:
    """A result as it is written to memory: in bfloat16 where `bf16`."""
    return astype(x, backend.bfloat16()) if bf16 else x


def multiplied(x: Array, bf16: bool) -> np.ndarray:
    """The numbers that a product reads, as float32: x rounded to bfloat16 where `bf16`, else to what the precision says."""
    if bf16:
        return wide(stored(wide(x), True))
    return to_tf32(x) if backend.get_precision() != "fp32" and dtype_of(x) == np.float32 else x


def _products_are_bf16(x: Array) -> bool:
    """Whether convolutions of x multiply bfloat16: if x holds that, or the precision says so."""
    return is_bfloat16(x) or (backend.get_precision() == "bf16" and dtype_of(x) == np.float32)


def _exact() -> ModuleType:
    """The kernels that compute between the roundings: compiled where Numba is installed."""
    if importlib.util.find_spec("numba") is None:
        return cpu
    from . import numba

    return numba


# ---------------------------------------------------------------------------------------- the kernels


def conv2d(x: Array, w: Array, b: Array | None, *options: Any, **named: Any) -> Array:
    """y = conv2d(x, w) + b; see `cpu.conv2d`."""
    return _convolved("conv2d", x, w, b, *options, **named)


def conv_transpose2d(x: Array, w: Array, b: Array | None, *options: Any, **named: Any) -> Array:
    """y = conv_transpose2d(x, w) + b; see `cpu.conv_transpose2d`."""
    return _convolved("conv_transpose2d", x, w, b, *options, **named)


def conv2d_backward(x: Array, w: Array, gy: Array, needs: tuple[bool, ...], *options: Any, **named: Any) -> Gradients:
    """gx, gw, gb of `conv2d`, each None where not needed."""
    return _convolved_backward("conv2d_backward", x, w, gy, needs, *options, **named)


def conv_transpose2d_backward(x: Array, w: Array, gy: Array, needs: tuple[bool, ...], *options: Any, **named: Any) -> Gradients:
    """gx, gw, gb of `conv_transpose2d`, each None where not needed."""
    return _convolved_backward("conv_transpose2d_backward", x, w, gy, needs, *options, **named)


def _convolved(name: str, x: Array, w: Array, b: Array | None, *options: Any, **named: Any) -> Array:
    bf16 = _products_are_bf16(x)
    return stored(getattr(_exact(), name)(multiplied(x, bf16), multiplied(w, bf16), b, *options, **named), bf16)


def _convolved_backward(
    name: str, x: Array, w: Array, gy: Array, needs: tuple[bool, ...], *options: Any, **named: Any
) -> Gradients:
    bf16 = _products_are_bf16(x)
    read = (multiplied(a, bf16) for a in (x, w, gy))
    gx, gw, _ = getattr(_exact(), name)(*read, (*needs[:2], False), *options, **named)
    gb = wide(stored(wide(gy), bf16)).sum(axis=(0, 2, 3)) if needs[2] else None        # adds, and multiplies nothing
    return None if gx is None else astype(stored(gx, bf16), dtype_of(x)), gw, gb


def matmul(a: Array, b: Array) -> Array:
    """a @ b of float32 and bfloat16 numbers; of both bfloat16 it is bfloat16."""
    bf16 = is_bfloat16(a) and is_bfloat16(b)
    return stored(multiplied(wide(a), bf16) @ multiplied(wide(b), bf16), bf16)


def group_norm(x: Array, *arguments: Any) -> tuple[Array, Any]:
    """y and what backward needs; see `cpu.group_norm`."""
    y, cache = _exact().group_norm(wide(x), *arguments)
    return stored(y, is_bfloat16(x)), cache


def group_norm_backward(x: Array, gamma: Array, beta: Array, cache: Any, gy: Array, *options: Any) -> Gradients:
    """gx, gγ, gβ; see `cpu.group_norm_backward`."""
    gx, g_gamma, g_beta = _exact().group_norm_backward(wide(x), gamma, beta, cache, wide(gy), *options)
    return stored(gx, is_bfloat16(x)), g_gamma, g_beta


def gelu(x: Array, approximate: str) -> Array:
    """x Φ(x)"""
    return stored(_exact().gelu(wide(x), approximate), is_bfloat16(x))


def gelu_backward(x: Array, gy: Array, approximate: str) -> Array:
    """gy (Φ(x) + x φ(x))"""
    return stored(_exact().gelu_backward(wide(x), wide(gy), approximate), is_bfloat16(x))


def silu(x: Array) -> Array:
    """x σ(x)"""
    return stored(cpu.silu(wide(x)), is_bfloat16(x))


def silu_backward(x: Array, gy: Array) -> Array:
    """gy σ (1 + x (1 − σ))"""
    return stored(wide(gy) * cpu.silu_slope(wide(x)), is_bfloat16(x))


def mse_loss(a: Array, b: Array) -> Array:
    """Σ (a − b)² / n, in float32"""
    d = (wide(a) - wide(b)).ravel()
    return np.asarray(d @ d / d.size, d.dtype)


def mse_loss_backward(a: Array, b: Array, gy: Array) -> Array:
    """2 (a − b) gy / n, of a's dtype"""
    return stored((wide(a) - wide(b)) * (2.0 / a.size * gy), is_bfloat16(a))
