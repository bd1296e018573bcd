"""Chapter 6: numbers of one size, and pictures of others."""

import numpy as np

from ... import ops
from ...nn import functional as F
from ...tensor import Tensor
from ..task import Task


def group_norm(x, gamma, beta, groups, eps):
    """Normalise each sample over groups of neighbouring channels.            # (N,C,H,W) (C,) (C,) -> (N,C,H,W)

        μ, σ² = mean and variance of x over a group (its channels and all of its pixels)
        x̂ = (x − μ) / √(σ² + eps),    y = γ x̂ + β            γ, β: one for each channel
    """
    grouped = x.reshape(len(x), groups, -1)
    mu = grouped.mean(axis=2, keepdims=True)
    variance = grouped.var(axis=2, keepdims=True)
    x_hat = ((grouped - mu) / np.sqrt(variance + eps)).reshape(x.shape)
    return gamma[:, None, None] * x_hat + beta[:, None, None]


def group_norm_backward(x, gamma, gy, groups, eps):
    """The gradients of y = group_norm(x, γ, β).            # (N,C,H,W) (C,) (N,C,H,W) -> gx (N,C,H,W), gγ (C,), gβ (C,)

    With x̂ as in group_norm, h = γ gy and means ⟨·⟩ over each group:

        gx = (h − ⟨h⟩ − x̂ ⟨h x̂⟩) / √(σ² + eps),    gγ = Σ gy x̂,    gβ = Σ gy            sums over n and pixels

    μ and σ depend on every number of the group: moving them all together, or scaling them together, changes nothing, so gx
    has no part along either.
    """
    grouped = x.reshape(len(x), groups, -1)
    root = np.sqrt(grouped.var(axis=2, keepdims=True) + eps)
    x_hat = (grouped - grouped.mean(axis=2, keepdims=True)) / root
    h = (gamma[:, None, None] * gy).reshape(grouped.shape)
    gx = (h - h.mean(axis=2, keepdims=True) - x_hat * (h * x_hat).mean(axis=2, keepdims=True)) / root
    g_gamma = (gy * x_hat.reshape(x.shape)).sum(axis=(0, 2, 3))
    return gx.reshape(x.shape), g_gamma, gy.sum(axis=(0, 2, 3))


def pixel_unshuffle(x, r):
    """Every r×r patch becomes r² channels.            # (N,C,H,W) -> (N,C·r²,H/r,W/r)

        y[n, c r² + i r + j, h, w] = x[n, c, h r + i, w r + j]

    Nothing is computed: the numbers are only put elsewhere. That is its own transpose undone.
    """
    N, C, H, W = x.shape
    x = x.reshape(N, C, H // r, r, W // r, r)                    # (n, c, h, i, w, j)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(N, C * r * r, H // r, W // r)


def _norm(x, gamma, beta, groups, eps):
    return ops.group_norm(Tensor(x), groups, Tensor(gamma), Tensor(beta), eps).numpy()


def _norm_backward(x, gamma, gy, groups, eps):
    x, gamma, beta = (Tensor(a, requires_grad=True) for a in (x, gamma, np.zeros_like(gamma)))
    ops.group_norm(x, groups, gamma, beta, eps).backward(gy)
    return x.grad.numpy(), gamma.grad.numpy(), beta.grad.numpy()


def _norm_cases(rng):
    """x with means far from 0, γ, β, gy."""
    for n, c, size, groups, eps in [(1, 2, (2, 3), 1, 1e-5), (3, 6, (4, 3), 3, 0.1), (2, 4, (3, 3), 4, 0.01)]:
        gamma, beta = rng.standard_normal((2, c))
        yield rng.standard_normal((n, c, *size)) + 2 * rng.standard_normal((n, c, 1, 1)), gamma, beta, rng.standard_normal((n, c, *size)), groups, eps


TASKS = [
    Task(
        group_norm, "GroupNorm", 6, "medium", 15,
        reference=_norm,
        cases=lambda rng: [(x, gamma, beta, groups, eps) for x, gamma, beta, _, groups, eps in _norm_cases(rng)],
        hints=(
            "Give every group an axis of its own, so that mean and variance are taken along one axis.",
            "x.reshape(N, groups, −1) has the channels of a group and their pixels on the last axis. Normalise there, and shape it back.",
            "x_hat = ((grouped − mean) / np.sqrt(variance + eps)).reshape(x.shape); γ and β are (C,): gamma[:, None, None] * x_hat + ….",
        ),
        slips=[
            ("x.reshape(len(x), groups, -1)", "x.reshape(len(x), 1, -1)", "every group has a mean and a variance of its own: here all channels share them (that is LayerNorm)"),
            ("x.reshape(len(x), groups, -1)", "x.reshape(len(x), x.shape[1], -1)", "the channels of a group share mean and variance: here each has its own (that is InstanceNorm)"),
            ("np.sqrt(variance + eps)", "(np.sqrt(variance) + eps)", "eps belongs under the root"),
            ("np.sqrt(variance + eps)", "(variance + eps)", "divide by the deviation, the root of the variance"),
            ("grouped.var(axis=2, keepdims=True)", "grouped.var(axis=2, keepdims=True, ddof=1)", "the variance divides by the number of values, not by one less"),
            (" + beta[:, None, None]", "", "the shift β is missing"),
        ],
    ),
    Task(
        group_norm_backward, "GroupNorm, backwards", 6, "hard", 35,
        reference=_norm_backward, outputs=("gx", "g_gamma", "g_beta"),
        cases=lambda rng: [(x, gamma, gy, groups, eps) for x, gamma, _, gy, groups, eps in _norm_cases(rng)],
        hints=(
            "gβ and gγ are the gradients of a sum and of a product. gx has three parts: the direct way, the way through μ, the way through σ.",
            "Reshape x and γ gy to (N, groups, −1); both means run over the last axis. 1/√(σ² + eps) multiplies all three parts.",
            "gx = (h − h.mean(2, keepdims) − x_hat * (h * x_hat).mean(2, keepdims)) / root, with h = γ gy in groups; then back to x's shape.",
        ),
        slips=[
            ("h - h.mean(axis=2, keepdims=True) - x_hat", "h - x_hat", "the way through the mean is missing: ⟨h⟩"),
            (" - x_hat * (h * x_hat).mean(axis=2, keepdims=True)) / root", ") / root", "the way through the variance is missing: x̂ ⟨h x̂⟩"),
            ("gx = (h - h.mean(axis=2, keepdims=True) - x_hat * (h * x_hat).mean(axis=2, keepdims=True)) / root", "gx = h / root", "μ and σ depend on x too: both means are missing"),
            ("h = (gamma[:, None, None] * gy)", "h = (1.0 * gy)", "γ is missing on the way to x: h = γ gy"),
            ("(h * x_hat).mean(axis=2, keepdims=True)) / root", "(h * x_hat).mean(axis=2, keepdims=True))", "the division by √(σ² + eps) is missing in gx"),
            ("(gy * x_hat.reshape(x.shape)).sum(axis=(0, 2, 3))", "(gy * x).sum(axis=(0, 2, 3))", "γ multiplies x̂, not x: gγ = Σ gy x̂"),
            ("(gy * x_hat.reshape(x.shape)).sum(axis=(0, 2, 3))", "(gy * x_hat.reshape(x.shape)).sum(axis=(2, 3))", "the sum over the batch is missing in gγ"),
            ("gy.sum(axis=(0, 2, 3))", "gy.mean(axis=(0, 2, 3))", "gβ is a sum over samples and pixels, not a mean"),
        ],
    ),
    Task(
        pixel_unshuffle, "Patches into channels", 6, "medium", 10,
        reference=lambda x, r: F.pixel_unshuffle(Tensor(x), r).numpy(),
        cases=lambda rng: [(rng.standard_normal((1, 1, 4, 4)), 2), (rng.standard_normal((2, 3, 4, 6)), 2), (rng.standard_normal((1, 2, 6, 3)), 3)],
        hints=("Rows split into h and i, columns into w and j; then the axes change places.", "After x.reshape(N, C, H//r, r, W//r, r) the axes are n c h i w j; wanted are n c i j h w.", "x.reshape(N, C, H//r, r, W//r, r).transpose(0, 1, 3, 5, 2, 4).reshape(N, C*r*r, H//r, W//r)."),
        slips=[
            ("transpose(0, 1, 3, 5, 2, 4)", "transpose(0, 1, 5, 3, 2, 4)", "the columns of a patch run fastest: channel c r² + i r + j"),
            ("transpose(0, 1, 3, 5, 2, 4)", "transpose(0, 3, 5, 1, 2, 4)", "the channels of one old channel stay together: c r² + i r + j"),
            ("x.reshape(N, C, H // r, r, W // r, r)", "x.reshape(N, C, r, H // r, r, W // r)", "row h r + i: within a patch i runs faster than h"),
            ("x.transpose(0, 1, 3, 5, 2, 4).reshape(", "x.reshape(", "the axes were never exchanged: a reshape alone moves nothing"),
        ],
    ),
]  # fmt: skip
