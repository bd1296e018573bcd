"""What is measured: the reference U-Net's training step and forward pass, and the operations it is made of.

A job does its work once and gives one number that came out of it, by which the libraries are
compared: a benchmark of two different computations says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import backend, diffusion, models, optim
from ..autograd import no_grad
from ..nn import functional as F
from ..tensor import Tensor

Job = Callable[[], float]
Jobs = dict[str, Job]  # by library


def with_kernels(name: str, job: Job) -> Job:
    """The job, done by minidiff's CPU kernels of that name."""

    def chosen() -> float:
        backend.set_kernels(name)
        return job()

    return chosen


# ------------------------------------------------------------------------------------ the network


def _batch(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x_t, ε, t, labels: what one step of the report's recipe is given, the same for every library."""
    rng = np.random.default_rng(0)
    x0, eps = rng.standard_normal((2, n, 1, 32, 32), dtype=np.float32)
    t = rng.integers(1, 101, n)
    schedule = diffusion.make_schedule("linear", T=100)
    return diffusion.q_sample(schedule, x0, t, eps), eps, t, rng.integers(0, 10, n)


def minidiff_unet(n: int) -> dict[str, Job]:
    """The U-Net's training step and forward pass on a batch of n; each gives its loss."""
    backend.manual_seed(0)
    model = models.UNet()
    optimizer = optim.Adam(model.parameters(), lr=0.0)           # the work of a step, the weights of step 0
    xt, eps, t, labels = _batch(n)

    def step() -> float:
        loss = F.mse_loss(model(xt, t, labels), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> float:
        with no_grad():
            return F.mse_loss(model(xt, t, labels), eps).item()

    return {"training step": step, "forward pass": forward}


def torch_unet(n: int) -> dict[str, Job]:
    """The same two in PyTorch (eager), with the same weights and numbers."""
    import torch

    from . import twin

    backend.manual_seed(0)
    model = twin.torch_unet(models.UNet())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    xt, eps, t, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in _batch(n))

    def step() -> float:
        loss = torch.nn.functional.mse_loss(model(xt, t, labels), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def forward() -> float:
        with torch.no_grad():
            return torch.nn.functional.mse_loss(model(xt, t, labels), eps).item()

    return {"training step": step, "forward pass": forward}


def unet(library: str, n: int) -> dict[str, Job]:
    """{"training step": job, "forward pass": job} of a library: "torch", or the name of minidiff's kernels."""
    if library == "torch":
        return torch_unet(n)
    return {work: with_kernels(library, job) for work, job in minidiff_unet(n).items()}


# --------------------------------------------------------------------------------- the operations


class Operation(NamedTuple):
    """One operation at one size: what it is called in both libraries, on inputs of these shapes."""

    name: str
    ours: Callable[..., Tensor]
    theirs: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]


def _conv(c: int, o: int, size: int, stride: int, n: int) -> Operation:
    options = {"stride": stride, "padding": 1}
    name = f"conv 3x3 {c}→{o} at {size}x{size}" + (f", stride {stride}" if stride > 1 else "")
    return Operation(
        name, lambda x, w, b: F.conv2d(x, w, b, **options), lambda F, x, w, b: F.conv2d(x, w, b, **options),
        ((n, c, size, size), (o, c, 3, 3), (o,)),
    )  # fmt: skip


def _conv_transpose(c: int, o: int, size: int, n: int) -> Operation:
    return Operation(
        f"conv transpose 2x2 {c}→{o} at {size}x{size}", lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2),
        lambda F, x, w, b: F.conv_transpose2d(x, w, b, stride=2), ((n, c, size, size), (c, o, 2, 2), (o,)),
    )  # fmt: skip


def _norm_gelu(c: int, size: int, n: int) -> Operation:
    return Operation(
        f"GroupNorm + GELU, {c} at {size}x{size}", lambda x, g, b: F.group_norm_gelu(x, 8, g, b),
        lambda F, x, g, b: F.gelu(F.group_norm(x, 8, g, b)), ((n, c, size, size), (c,), (c,)),
    )  # fmt: skip


def _attention(heads: int, length: int, width: int, n: int) -> Operation:
    shape = (n, heads, length, width)
    return Operation(
        f"attention, {heads} heads of {width}, {length} tokens", F.scaled_dot_product_attention,
        lambda F, q, k, v: F.scaled_dot_product_attention(q, k, v), (shape, shape, shape),
    )  # fmt: skip


def operations(n: int) -> list[Operation]:
    """The U-Net's convolutions and normalisations at every size, and attention at its two smaller images."""
    convolutions = [
        (1, 32, 32, 1), (32, 64, 32, 1), (64, 64, 32, 1), (64, 64, 32, 2), (64, 128, 16, 1), (128, 128, 16, 1),
        (128, 128, 16, 2), (128, 128, 8, 1), (128, 64, 16, 1), (64, 64, 16, 1), (64, 32, 32, 1), (32, 32, 32, 1), (32, 1, 32, 1),
    ]  # fmt: skip
    return [
        *(_conv(*sizes, n) for sizes in convolutions),
        _conv_transpose(128, 64, 8, n), _conv_transpose(64, 32, 16, n),
        _norm_gelu(32, 32, n), _norm_gelu(64, 32, n), _norm_gelu(128, 16, n), _norm_gelu(128, 8, n),
        _attention(4, 64, 32, n), _attention(4, 256, 32, n),
    ]  # fmt: skip


def _numbers(operation: Operation) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in operation.shapes]


def minidiff_operation(operation: Operation) -> Job:
    """Forward and backward with respect to every input; gives the first number of the first gradient."""
    xs = [Tensor(a, requires_grad=True) for a in _numbers(operation)]
    u = np.random.default_rng(1).standard_normal(operation.ours(*xs).shape, dtype=np.float32)

    def job() -> float:
        for x in xs:
            x.grad = None
        operation.ours(*xs).backward(u)
        return float(xs[0].grad.data.flat[0])  # type: ignore[union-attr]

    return job


def torch_operation(operation: Operation) -> Job:
    """The same in PyTorch."""
    import torch

    xs = [torch.from_numpy(a).requires_grad_() for a in _numbers(operation)]
    shape = tuple(operation.theirs(torch.nn.functional, *xs).shape)
    u = torch.from_numpy(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))

    def job() -> float:
        for x in xs:
            x.grad = None
        operation.theirs(torch.nn.functional, *xs).backward(u)
        return float(xs[0].grad.flatten()[0])

    return job


def operation(library: str, op: Operation) -> Job:
    """The job of one operation in a library."""
    return torch_operation(op) if library == "torch" else with_kernels(library, minidiff_operation(op))


def adamw(library: str) -> Job:
    """One AdamW step over the U-Net's parameters, whose gradients are their own values; gives the first weight moved."""
    backend.manual_seed(0)
    model = models.UNet()
    if library == "torch":
        import torch

        theirs = [torch.from_numpy(p.data.copy()).requires_grad_() for p in model.parameters()]
        for p in theirs:
            p.grad = p.detach().clone()
        other = torch.optim.AdamW(theirs, lr=1e-3, weight_decay=0.01)

        def torch_step() -> float:
            other.step()
            return float(theirs[0].detach().flatten()[0])

        return torch_step
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = Tensor(parameter.data.copy())
    optimizer = optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)

    def step() -> float:
        optimizer.step()
        return float(parameters[0].data.flat[0])

    return with_kernels(library, step)
