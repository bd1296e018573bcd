"""GELU and SiLU on the GPU; see activation.cu."""

from __future__ import annotations

import functools

from ...backend import Array
from .elementwise import THREADS, blocks, dense, in_order_of
from .layout import beside, type_name
from .runtime import Kernel

_NAMES = {"none": "GELU", "tanh": "GELU_TANH"}


def gelu(x: Array, approximate: str) -> Array:
    """x Φ(x)"""
    return _forward(x, _NAMES[approximate])


def gelu_backward(x: Array, gy: Array, approximate: str) -> Array:
    """gy (Φ(x) + x φ(x))"""
    return _backward(x, gy, _NAMES[approximate])


def silu(x: Array) -> Array:
    """x / (1 + e⁻ˣ)"""
    return _forward(x, "SILU")


def silu_backward(x: Array, gy: Array) -> Array:
    """gy s (1 + x (1 − s)) with s = 1 / (1 + e⁻ˣ)"""
    return _backward(x, gy, "SILU")


def _forward(x: Array, name: str) -> Array:
    x = dense(x)
    y = beside(x, x.dtype)
    _kernel("activate", type_name(x), type_name(x), name)(blocks(x.size), THREADS, x, y, x.size)
    return y


def _backward(x: Array, gy: Array, name: str) -> Array:
    x = dense(x)
    gy, gx = in_order_of(x, gy), beside(x, x.dtype)
    _kernel("activate_backward", type_name(x), type_name(gy), name)(blocks(x.size), THREADS, x, gy, gx, x.size)
    return gx


@functools.cache
def _kernel(name: str, kind: str, kind_y: str, activation: str) -> Kernel:
    return Kernel("activation.cu", name, T=kind, GY=kind_y, ACT=activation)
