"""Chapter 6: what the blocks of the U-Net are made of."""

import math

import numpy as np

from ... import ops
from ...models.conditions import SinusoidalPositionEmbedBlock
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


def gelu(x):
    """The activation of the U-Net, by the tanh formula (Hendrycks & Gimpel 2016).            # (…) -> (…)

        y = ½ x (1 + tanh u),    u = √(2/π) (x + 0.044715 x³)

    Nearly x Φ(x): each number is kept with the probability that a standard normal number lies below it.
    """
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(u))


def gelu_backward(x, gy):
    """The gradient of the exact GELU, y = x Φ(x).            # (…) (…) -> (…)

        gx = gy (Φ(x) + x φ(x)),    φ(x) = e^{−x²/2} / √(2π),    Φ(x) = ½ (1 + erf(x/√2))

    normal_below(x) is there, and is Φ.
    """
    density = np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    return gy * (normal_below(x) + x * density)


def normal_below(x):
    """Φ(x), the probability that a standard normal number lies below x."""
    return 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in x.ravel()]).reshape(x.shape))


def time_embedding(t, dim):
    """Steps as the hands of a clock.            # (N,), even dim ≥ 4 -> (N,dim)

        e[i] = sin(t ωᵢ),    e[dim/2 + i] = cos(t ωᵢ),    ωᵢ = 10000^{−i/(dim/2 − 1)},    i = 0 … dim/2 − 1

    The fast hands tell neighbouring steps apart, the slow ones the whole run.
    """
    half = dim // 2
    omega = 10_000.0 ** (-np.arange(half) / (half - 1))
    angle = t[:, None] * omega
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def film(h, e):
    """An embedding steers a block (Perez et al. 2018).            # (N,C,H,W) (N,2C) -> (N,C,H,W)

        s, b = the two halves of e,    y = (1 + s) h + b            for each sample and channel

    1 + s, so that an embedding of zeros changes nothing.
    """
    c = h.shape[1]
    s, b = e[:, :c, None, None], e[:, c:, None, None]
    return (1 + s) * h + b


def _norm(x, gamma, beta, groups, eps):
    return ops.group_norm(Tensor(x), groups, Tensor(gamma), Tensor(beta), eps).numpy()


def _norm_backward(x, gamma, gy, groups, eps):
    x, gamma, beta = (Tensor(a, requires_grad=True) for a in (x, gamma, np.zeros_like(gamma)))
    ops.group_norm(x, groups, gamma, beta, eps).backward(gy)
    return x.grad.numpy(), gamma.grad.numpy(), beta.grad.numpy()


def _gelu_backward(x, gy):
    x = Tensor(x, requires_grad=True)
    ops.gelu(x).backward(gy)
    return x.grad.numpy()


def _norm_cases(rng):
    """x with means far from 0, γ, β, gy."""
    for n, c, size, groups, eps in [(1, 2, (2, 3), 1, 1e-5), (3, 6, (4, 3), 3, 0.1), (2, 4, (3, 3), 4, 0.01)]:
        gamma, beta = rng.standard_normal((2, c))
        yield rng.standard_normal((n, c, *size)) + 2 * rng.standard_normal((n, c, 1, 1)), gamma, beta, rng.standard_normal((n, c, *size)), groups, eps


def _film(h, e):
    rows = [[(1 + e[n, c]) * h[n, c] + e[n, c + h.shape[1]] for c in range(h.shape[1])] for n in range(len(h))]
    return np.array(rows)


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
        gelu, "GELU", 6, "easy", 5,
        reference=lambda x: ops.gelu(Tensor(x), approximate="tanh").numpy(),
        cases=lambda rng: [(rng.standard_normal(7),), (3 * rng.standard_normal((2, 3, 2)),), (np.array([-30.0, 0.0, 30.0]),)],
        hints=(
            "It is two lines: u, and y.",
            "√(2/π) multiplies the whole bracket, and the cube is of x alone.",
            "u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3), then 0.5 * x * (1 + np.tanh(u)).",
        ),
        slips=[
            ("x + 0.044715 * x**3", "x + 0.044715 * x**2", "it is the cube of x, not the square"),
            ("np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)", "np.sqrt(2 / np.pi) * x + 0.044715 * x**3", "√(2/π) multiplies the whole bracket"),
            ("0.5 * x * (1 + np.tanh(u))", "x * (1 + np.tanh(u))", "the half is missing"),
            ("0.5 * x * (1 + np.tanh(u))", "0.5 * (1 + np.tanh(u))", "x is missing: this is only the probability Φ"),
            ("np.sqrt(2 / np.pi)", "np.sqrt(np.pi / 2)", "it is √(2/π), and this is upside down"),
        ],
    ),
    Task(
        gelu_backward, "GELU, backwards", 6, "medium", 10,
        reference=_gelu_backward, given=(normal_below,), tolerance=1e-7,
        cases=lambda rng: [(rng.standard_normal(6), rng.standard_normal(6)), (2 * rng.standard_normal((2, 3)), rng.standard_normal((2, 3)))],
        hints=(
            "The rule for products: x Φ(x) has the slope 1 · Φ(x) + x · Φ'(x).",
            "Φ' is the density φ, the bell.",
            "gy * (normal_below(x) + x * np.exp(−0.5 * x**2) / np.sqrt(2 * np.pi)).",
        ),
        slips=[
            ("normal_below(x) + x * density", "normal_below(x)", "the second part of the product rule is missing: x φ(x)"),
            ("normal_below(x) + x * density", "normal_below(x) + density", "φ must be multiplied by x"),
            ("gy * (normal_below(x) + x * density)", "normal_below(x) + x * density", "gy is missing: this is the slope, not the gradient"),
            ("np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)", "np.exp(-0.5 * x**2)", "the bell must have area 1: 1/√(2π) is missing"),
            ("np.exp(-0.5 * x**2)", "np.exp(-(x**2))", "the bell is e^{−x²/2}: the half is missing"),
        ],
    ),
    Task(
        time_embedding, "The clock", 6, "easy", 10,
        reference=lambda t, dim: SinusoidalPositionEmbedBlock(dim)(t).numpy().astype(np.float64), tolerance=1e-6,
        cases=lambda rng: [(np.array([1, 50, 100]), 8), (np.array([7, 7]), 4), (np.array([3, 90, 2, 41]), 16)],
        hints=(
            "First the dim/2 frequencies, then a table of t times frequency, then its sines and cosines side by side.",
            "ω falls from 1 to 1/10000 in even ratios: 10000 ** (−i / (dim/2 − 1)).",
            "angle = t[:, None] * omega; np.concatenate([np.sin(angle), np.cos(angle)], axis=1).",
        ),
        slips=[
            ("angle = t[:, None] * omega", "angle = np.arange(len(t))[:, None] * omega", "the clock shows the place in the batch, not the step t"),
            ("-np.arange(half) / (half - 1)", "-np.arange(half) / half", "the slowest hand has ω = 1/10000: divide by dim/2 − 1"),
            ("[np.sin(angle), np.cos(angle)]", "[np.cos(angle), np.sin(angle)]", "sines come first"),
            ("np.concatenate([np.sin(angle), np.cos(angle)], axis=1)", "np.stack([np.sin(angle), np.cos(angle)], axis=2).reshape(len(t), dim)", "all sines come first, then all cosines: here they take turns"),
        ],
    ),
    Task(
        film, "An embedding steers a block", 6, "easy", 10,
        reference=_film,
        cases=lambda rng: [(rng.standard_normal((n, c, *size)), rng.standard_normal((n, 2 * c))) for n, c, size in [(2, 3, (2, 2)), (3, 3, (3, 1)), (1, 2, (2, 3))]],
        hints=(
            "Each sample and channel has one s and one b, for all of its pixels.",
            "e[:, :C] and e[:, C:] are (N,C); with two more axes of length 1 they multiply (N,C,H,W).",
            "s, b = e[:, :c, None, None], e[:, c:, None, None]; (1 + s) * h + b.",
        ),
        slips=[
            ("(1 + s) * h + b", "s * h + b", "it is 1 + s: an embedding of zeros must change nothing"),
            ("s, b = e[:, :c, None, None], e[:, c:, None, None]", "b, s = e[:, :c, None, None], e[:, c:, None, None]", "the first half is the scale, the second the shift"),
            ("s, b = e[:, :c, None, None], e[:, c:, None, None]", "s, b = e[:, ::2, None, None], e[:, 1::2, None, None]", "two halves: the first C numbers and the last C, not every other one"),
            ("(1 + s) * h + b", "(1 + s) * (h + b)", "the shift comes after the scale"),
        ],
    ),
]  # fmt: skip
