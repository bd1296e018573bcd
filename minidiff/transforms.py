"""Derivatives of functions, made of `grad`: products with the Jacobian from either side, Jacobians, Hessians.

For y = f(x), J = ∂y/∂x is a matrix of (numbers in y) × (numbers in x). Reverse mode gives the product
Jᵀu without ever writing J out (`vjp`). Everything else is made of that:

    J v     `jvp`: g(u) = Jᵀu is linear in u, and the Jacobian of u ↦ Jᵀu is Jᵀ, so one more backward pass,
            through g, gives (Jᵀ)ᵀv: the transpose of the transpose
    J       `jacobian`: Jᵀu for u = each unit vector, row by row
    H v     `hvp`: ∇(∇f · v), which never writes the Hessian out
    H       `hessian`: the Jacobian of the gradient

In all of them `inputs` is a tensor or a sequence of tensors, and what is given back for each input is
a tensor for the one and a tuple for the other. An input that f does not depend on gives zeros, one that
holds whole numbers None. fn is taken as a function of these inputs: they may have a history or none, and
no `.grad` is touched. With `create_graph` the results can be differentiated again, also with respect to
the tensors that fn finds elsewhere, such as the parameters of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import backend, ops
from .autograd import Alias, enable_grad, grad
from .backend import Array
from .errors import BadInput
from .tensor import Tensor

Tensors = Tensor | Sequence[Tensor]


def vjp(fn: Callable[..., Any], *inputs: Tensor, create_graph: bool = False) -> tuple[Any, Callable[..., Any]]:
    """fn(*inputs), and the function u ↦ Jᵀu, which may be called as often as one likes.

    For several outputs, u is a sequence with one tensor for each.
    """
    ys, xs = _apply("vjp", fn, inputs, create_graph)

    def pullback(gy: Any) -> Any:
        gys = [gy] if isinstance(ys, Tensor) else _several(gy)
        if len(gys) != len(_several(ys)):
            raise BadInput(f"vjp: fn gives {len(ys)} outputs, gy has {len(gys)}; each output needs one")
        return _like(inputs[0] if len(inputs) == 1 else inputs, _pull(_several(ys), xs, gys, create_graph))

    return _results(ys, create_graph), pullback


def jvp(fn: Callable[..., Any], inputs: Tensors, tangents: Tensors, create_graph: bool = False) -> tuple[Any, Any]:
    """fn(*inputs) and J v: how the outputs move when the inputs move along `tangents`, v.

    tangents has the form of `inputs`, and each the shape of its input (that of whole numbers is not looked at).
    An output of whole numbers moves by None.
    """
    ys, xs = _apply("jvp", fn, _several(inputs), create_graph)
    vs = _checked_tangents("jvp", xs, tangents)
    us = [Tensor(_zeros(y), requires_grad=backend.kind(y.dtype) == "f") for y in _several(ys)]
    with enable_grad():
        gxs = _pull(_several(ys), xs, us, create_graph=True)                       # Jᵀu
    moves = _pull([gx for gx in gxs if gx is not None], us, vs, create_graph)      # (Jᵀ)ᵀ v
    return _results(ys, create_graph), moves[0] if isinstance(ys, Tensor) else tuple(moves)


def jacobian(fn: Callable[..., Any], inputs: Tensors, create_graph: bool = False) -> Any:
    """∂y/∂x for y = fn(*inputs): for each input a tensor of y's shape followed by x's.

    Takes one backward pass for every number in y. For several outputs it is a tuple with, for each, the above.
    """
    ys, xs = _apply("jacobian", fn, _several(inputs), create_graph)
    blocks = []
    for y in _several(ys):
        rows = [_pull([y], xs, [_unit(y, i)], create_graph) for i in range(y.size)]
        blocks.append(_like(inputs, [_stacked(y, x, [row[i] for row in rows]) for i, x in enumerate(xs)]))
    return blocks[0] if isinstance(ys, Tensor) else tuple(blocks)


def hessian(fn: Callable[..., Tensor], inputs: Tensors, create_graph: bool = False) -> Any:
    """∂²y/∂x∂x′ for the single number y = fn(*inputs): a tensor of x's shape twice; H[i][j] for several inputs."""

    def gradient(*xs: Tensor) -> Any:
        gs = _pull([_number("hessian", fn(*xs))], xs, [None], create_graph=True)
        return tuple(g for g in gs if g is not None)

    rows = iter(jacobian(gradient, inputs, create_graph))
    return _like(inputs, [next(rows) if backend.kind(x.dtype) == "f" else None for x in _several(inputs)])


def hvp(fn: Callable[..., Tensor], inputs: Tensors, tangents: Tensors, create_graph: bool = False) -> Any:
    """H v for the Hessian H of the single number fn(*inputs), at the price of about two gradients."""
    y, xs = _apply("hvp", fn, _several(inputs), create_graph)
    vs = _checked_tangents("hvp", xs, tangents)
    with enable_grad():
        gs = _pull([_number("hvp", y)], xs, [None], create_graph=True)
    return _like(inputs, _pull([g for g in gs if g is not None], xs, vs, create_graph))


def _apply(name: str, fn: Callable[..., Any], inputs: Sequence[Tensor], create_graph: bool) -> tuple[Any, list[Tensor]]:
    """fn of the inputs, each with a place of its own in the graph: two of them may be one tensor."""
    if not inputs:
        raise BadInput(f"{name}: there is no input to differentiate with respect to")
    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor):
            raise BadInput(f"{name}: input {i} is a {type(x).__name__}; give a tensor, md.tensor(…)")
    with enable_grad():
        xs = [_argument(x, create_graph) for x in inputs]
        ys = fn(*xs)
    for y in _several(ys):
        if not isinstance(y, Tensor):
            raise BadInput(f"{name}: fn must give a tensor or several, not a {type(y).__name__}")
    return ys, xs


def _argument(x: Tensor, create_graph: bool) -> Tensor:
    if backend.kind(x.dtype) != "f":
        return x
    return Alias()(x) if create_graph and x.requires_grad else Tensor(x.data, requires_grad=True)


def _pull(
    ys: Sequence[Tensor], xs: Sequence[Tensor], gys: Sequence[Any], create_graph: bool
) -> list[Tensor | None]:
    """Σ Jᵀ gy over all outputs, for each x; zeros where none depends on x, None for whole numbers."""
    live = [(y, gy) for y, gy in zip(ys, gys, strict=True) if y.requires_grad]
    floats = [x for x in xs if x.requires_grad]
    found = iter(grad([y for y, _ in live], floats, [gy for _, gy in live], create_graph, retain_graph=True))
    gxs = [next(found) if x.requires_grad else None for x in xs]
    return [Tensor(_zeros(x)) if gx is None and x.requires_grad else gx for x, gx in zip(xs, gxs, strict=True)]


def _zeros(x: Tensor) -> Array:
    return backend.full(x.shape, 0.0, like=x.data)


def _unit(y: Tensor, i: int) -> Tensor:
    """1 at the i-th number of y, 0 elsewhere."""
    u = np.zeros(y.size, y.dtype)
    u[i] = 1.0
    return Tensor(backend.asarray(u.reshape(y.shape), like=y.data))


def _stacked(y: Tensor, x: Tensor, rows: Sequence[Tensor | None]) -> Tensor | None:
    if not x.requires_grad:
        return None
    if not rows:
        return Tensor(backend.full((*y.shape, *x.shape), 0.0, like=x.data))
    return ops.reshape(ops.stack(rows), (*y.shape, *x.shape))


def _checked_tangents(name: str, xs: Sequence[Tensor], tangents: Tensors) -> list[Tensor]:
    """The tangents of the inputs that have one."""
    vs = _several(tangents)
    if len(vs) != len(xs):
        raise BadInput(f"{name}: {len(vs)} tangents for {len(xs)} inputs; each input needs one")
    for i, (x, v) in enumerate(zip(xs, vs, strict=True)):
        if x.requires_grad and v.shape != x.shape:
            raise BadInput(f"{name}: tangent {i} has shape {v.shape}, its input {x.shape}; they must be alike")
    return [v for x, v in zip(xs, vs, strict=True) if x.requires_grad]


def _number(name: str, y: Any) -> Tensor:
    if not isinstance(y, Tensor) or y.size != 1:
        found = f"a tensor of shape {y.shape}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
        raise BadInput(f"{name}: fn must give a single number, it gave {found}; take a sum, or use jacobian")
    return y


def _several(xs: Any) -> Sequence[Any]:
    return list(xs) if isinstance(xs, tuple | list) else [xs]


def _like(inputs: Any, results: Sequence[Any]) -> Any:
    """One result for one tensor, a tuple for several."""
    return results[0] if isinstance(inputs, Tensor) else tuple(results)


def _results(ys: Any, create_graph: bool) -> Any:
    if create_graph:
        return ys
    return ys.detach() if isinstance(ys, Tensor) else tuple(y.detach() for y in ys)
