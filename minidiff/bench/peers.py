"""Other engines at the same small task: convolution 3x3, GroupNorm, GELU, and the gradients of all inputs.

Each is written as its users would write it. Whatever is installed takes part; the others are named
with the reason why they do not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import backend
from ..nn import functional as F
from ..tensor import Tensor
from .work import Job, with_kernels

N, C, SIZE, GROUPS, EPS = 16, 32, 32, 8, 1e-5
TITLE = f"conv 3x3, GroupNorm, GELU and their gradients: {N} images, {C} channels, {SIZE}x{SIZE}"


def _numbers() -> list[np.ndarray]:
    """x, weight, γ, β and the upstream gradient."""
    rng = np.random.default_rng(0)
    shapes = [(N, C, SIZE, SIZE), (C, C, 3, 3), (C,), (C,), (N, C, SIZE, SIZE)]
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def minidiff() -> Job:
    """This library: GroupNorm and GELU in one operation, as its U-Net has them."""
    *inputs, u = _numbers()
    xs = [Tensor(a, requires_grad=True) for a in inputs]

    def job() -> float:
        for x in xs:
            x.grad = None
        x, w, gamma, beta = xs
        F.group_norm_gelu(F.conv2d(x, w, padding=1), GROUPS, gamma, beta).backward(u)
        return float(x.grad.data.flat[0])  # type: ignore[union-attr]

    return job


def torch_eager(compiled: bool = False) -> Job:
    """PyTorch, and its compiler with `compiled`."""
    import torch
    import torch.nn.functional as T

    *inputs, u = (torch.from_numpy(a) for a in _numbers())
    xs = [x.requires_grad_() for x in inputs]

    def block(x: torch.Tensor, w: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        return T.gelu(T.group_norm(T.conv2d(x, w, padding=1), GROUPS, gamma, beta))

    run = torch.compile(block) if compiled else block

    def job() -> float:
        for x in xs:
            x.grad = None
        run(*xs).backward(u)
        return float(xs[0].grad.flatten()[0])

    return job


def torch_compile() -> Job:
    """PyTorch's compiler."""
    return torch_eager(compiled=True)


def hips_autograd() -> Job:
    """HIPS autograd: NumPy's functions traced, and its own convolution, which turns the kernel."""
    import autograd.numpy as anp
    from autograd import make_vjp
    from autograd.scipy.signal import convolve
    from autograd.scipy.special import erf

    *inputs, u = _numbers()

    def block(xs):  # type: ignore[no-untyped-def]
        x, w, gamma, beta = xs
        x = anp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "constant")
        y = convolve(x, w[:, :, ::-1, ::-1], axes=([2, 3], [2, 3]), dot_axes=([1], [1]), mode="valid")
        y = anp.reshape(y, (N, GROUPS, -1))
        y = y - anp.mean(y, axis=2, keepdims=True)
        y = y / anp.sqrt(anp.mean(y * y, axis=2, keepdims=True) + EPS)
        y = anp.reshape(y, (N, C, SIZE, SIZE)) * gamma[:, None, None] + beta[:, None, None]
        return 0.5 * y * (1 + erf(y / np.sqrt(2)))

    def job() -> float:
        pull, _ = make_vjp(block)(tuple(inputs))
        return float(pull(u)[0].flat[0])

    return job


def tinygrad() -> Job:
    """tinygrad on its CPU backend, which compiles with clang."""
    from tinygrad import Tensor as T

    *inputs, u = _numbers()
    xs = [T(a, device="CPU") for a in inputs]
    upstream = T(u, device="CPU")

    def job() -> float:
        x, w, gamma, beta = xs
        y = x.conv2d(w, padding=1).reshape(N, GROUPS, -1).layernorm(eps=EPS).reshape(N, C, SIZE, SIZE)
        y = y * gamma.reshape(1, C, 1, 1) + beta.reshape(1, C, 1, 1)
        y = 0.5 * y * (1 + (y / 2**0.5).erf())
        gs = (y * upstream).sum().gradient(*xs)
        T.realize(*gs)
        return float(gs[0].flatten()[0].item())

    return job


PEERS: dict[str, Callable[[], Job]] = {
    "torch": torch_eager, "torch.compile": torch_compile, "autograd": hips_autograd, "tinygrad": tinygrad,
}  # fmt: skip


def present(kernels: list[str]) -> tuple[dict[str, Job], dict[str, str]]:
    """The jobs of minidiff with these kernels and of every peer that runs here; the others, each with the reason."""
    jobs, absent = {name: with_kernels(name, minidiff()) for name in kernels}, {}
    for name, make in PEERS.items():
        try:
            job = make()
            job()
            jobs[name] = job
        except ImportError as error:
            absent[name] = f"not installed ({error})"
        except Exception as error:  # whatever a compiler or a backend of theirs says: it cannot take part here
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    backend.set_kernels(kernels[0])
    return jobs, absent
