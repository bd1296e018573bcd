"""How wrong a prediction is.

Every loss is one number per element (or per sample, for `cross_entropy`), and `reduction` says what
becomes of them: their "mean", their "sum", or "none": they stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, kernels
from ..autograd import FusedOp, Op
from ..backend import Array, array_module
from ..errors import BadInput
from ..kernels import functions
from ..tensor import Tensor
from .activation import log_probabilities, log_softmax, softplus
from .elementwise import abs, as_tensor, astype, check_floating, clip, exp, in_float32, where
from .reduce import mean, sum
from .shape import reshape

IGNORE = -100  # PyTorch's number for "this label does not count"


class MSELoss(FusedOp):
    """L = 1/n Σ (a − b)²            ga = 2/n (a − b) gL,   gb = −ga"""

    portable = True
    takes_bfloat16 = "kernel"

    def forward(self, a: Array, b: Array) -> Array:
        if kernel := kernels.special("mse_loss", a, b):
            return kernel(a, b)
        xp = array_module(a)
        d = xp.reshape(a - b, (a.size,))
        return xp.asarray((d @ d) / a.size, dtype=d.dtype)

    def backward(self, gy: Array) -> Any:
        a, b = self.saved
        if kernel := kernels.special("mse_loss_backward", a, b, gy):
            return kernel(a, b, gy), kernel(b, a, gy) if self.needs[1] else None
        ga = (a - b) * (2.0 / a.size * gy)
        return ga, -ga if self.needs[1] else None

    @staticmethod
    def reference(a: Tensor, b: Tensor) -> Tensor:
        return mean((a - b) * (a - b))


class CrossEntropy(Op):
    """L = −Σₖ tₖ ln pₖ,  p = softmax(x)            gx = (p Σₖ tₖ − t) gL,   gt = −ln p gL    # (N,K,…) (N,K,…) -> (N,…)

    t says how much each class counts: 1 at the label and 0 elsewhere, or softer. ln p is x − ln Σ eˣ,
    and so the gradient is what the model believes minus what is true. A class that does not count may
    be impossible: 0 ln 0 is 0.
    """

    def forward(self, x: Array, t: Array) -> Array:
        self.save(x, t)
        fn, log_p = functions(x), log_probabilities(x, 1)
        return fn.negative(fn.sum(fn.multiply(t, fn.where(fn.equal(t, 0), t, log_p)), axis=1))

    def backward(self, gy: Tensor) -> Any:
        x, t = self.saved
        gy, log_p = gy.unsqueeze(1), log_softmax(x, 1)
        gx = (exp(log_p) * sum(t, 1, keepdims=True) - t) * gy if self.needs[0] else None
        return gx, -(log_p * gy) if self.needs[1] else None

    @staticmethod
    def reference(x: Tensor, t: Tensor) -> Tensor:
        return -sum(t * log_softmax(x, 1), 1)


# --------------------------------------------------------------------------------- checked entries


def _check_reduction(name: str, reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise BadInput(f"{name}: reduction {reduction!r} is unknown; it is 'mean', 'sum' or 'none'")


def _reduced(name: str, losses: Tensor, reduction: str, total: float | None = None) -> Tensor:
    """The losses' mean, with `total` for their number unless it is None, or their sum, or they themselves."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return sum(losses)
    total = losses.size if total is None else total
    if not total:
        raise BadInput(f"{name}: no loss counts (shape {losses.shape}), so they have no mean; use reduction='sum'")
    return in_float32(lambda losses: sum(losses) / float(total), losses)


def _alike(name: str, a: Any, b: Any, reduction: str) -> tuple[Tensor, Tensor]:
    """Prediction and target as floating-point tensors of one shape."""
    _check_reduction(name, reduction)
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    b = as_tensor(b, a)
    if a.shape != b.shape:
        raise BadInput(f"{name}: shapes {a.shape} and {b.shape} differ")
    if backend.kind(a.dtype) != "f" or backend.kind(b.dtype) != "f":
        raise BadInput(f"{name}: both must hold floating-point numbers, got {a.dtype} and {b.dtype}")
    return a, b


def mse_loss(a: Any, b: Any, reduction: str = "mean") -> Tensor:
    """(a − b)² for two tensors of one shape, reduced."""
    a, b = _alike("mse_loss", a, b, reduction)
    if reduction == "mean" and a.size:
        return in_float32(MSELoss(), a, b)
    d = a - b
    return _reduced("mse_loss", d * d, reduction)


def l1_loss(a: Any, b: Any, reduction: str = "mean") -> Tensor:
    """|a − b| for two tensors of one shape, reduced."""
    a, b = _alike("l1_loss", a, b, reduction)
    return _reduced("l1_loss", abs(a - b), reduction)


def huber_loss(a: Any, b: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½ d² where |d| ≤ δ, else δ (|d| − ½ δ), for d = a − b, reduced (Huber 1964).

    Both pieces are c (d − ½ c) with c = d kept between −δ and δ: quadratic near 0, where a small step
    suits a small error, and straight far out, where one outlier must not outweigh the rest.
    """
    a, b = _alike("huber_loss", a, b, reduction)
    if not delta > 0:
        raise BadInput(f"huber_loss: delta must be positive, got {delta}")
    return _reduced("huber_loss", _huber(a - b, delta), reduction)


def _huber(d: Tensor, delta: float) -> Tensor:
    c = clip(d, -delta, delta)
    return c * (d - 0.5 * c)


def smooth_l1_loss(a: Any, b: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½ d²/β where |d| < β, else |d| − ½ β: `huber_loss` divided by β, and `l1_loss` for β = 0."""
    a, b = _alike("smooth_l1_loss", a, b, reduction)
    if not beta >= 0:
        raise BadInput(f"smooth_l1_loss: beta must be 0 or more, got {beta}")
    losses = abs(a - b) if beta == 0 else _huber(a - b, beta) / float(beta)
    return _reduced("smooth_l1_loss", losses, reduction)


def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """−w t ln σ(x) − (1 − t) ln(1 − σ(x)) for scores x and probabilities t of one shape, reduced.

    weight       multiplies the losses; broadcasts to their shape
    pos_weight   w, what a true answer counts; broadcasts likewise (one number per class, say)

    −ln σ(x) is ln(1 + e⁻ˣ), and 1 − σ(x) is σ(−x): both logarithms are `softplus`, which neither
    overflows nor loses what is small.
    """
    name = "binary_cross_entropy_with_logits"
    x, t = _alike(name, x, target, reduction)
    true = t if pos_weight is None else t * _constant(name, "pos_weight", pos_weight, x, x.shape)
    losses = true * softplus(-x) + (1.0 - t) * softplus(x)
    if weight is not None:
        losses = losses * _constant(name, "weight", weight, x, x.shape)
    return _reduced(name, losses, reduction)


def cross_entropy(
    x: Tensor, target: Any, weight: Any = None, ignore_index: int = IGNORE, reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:  # fmt: skip
    """−ln softmax(x)[label], reduced; PyTorch's meaning.

    x                 (N,K,…) scores, classes along axis 1
    target            (N,…) labels, whole numbers 0 … K − 1; or (N,K,…) probabilities
    weight            (K,) what each class counts; the mean over labels is then a weighted mean
    ignore_index      the label that does not count at all
    label_smoothing   ε: this much of each label is shared out over all K classes (Szegedy et al. 2016, 7)

    Raises BadInput where shapes do not fit, a label is none, or the mean of no losses is asked for.
    """
    name = "cross_entropy"
    _check_reduction(name, reduction)
    if not 0.0 <= label_smoothing <= 1.0:
        raise BadInput(f"{name}: label_smoothing must be from 0 to 1, got {label_smoothing}")
    t, total = _targets(name, x, target, weight, ignore_index, label_smoothing)
    return _reduced(name, in_float32(CrossEntropy(), x, t), reduction, total)


def nll_loss(
    x: Tensor, target: Any, weight: Any = None, ignore_index: int = IGNORE, reduction: str = "mean"
) -> Tensor:
    """−x[label] for log-probabilities x (N,K,…), reduced: `cross_entropy` without its softmax."""
    _check_reduction("nll_loss", reduction)
    t, total = _targets("nll_loss", x, target, weight, ignore_index, 0.0)
    counting = where(t.data == 0, 0.0, x)                        # 0 · ∞ would not be 0
    return _reduced("nll_loss", -sum(t * counting, 1), reduction, total)


def _constant(name: str, argument: str, value: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An option as a tensor beside x, of x's dtype; it must broadcast to `shape`."""
    array = backend.asarray(value.data if isinstance(value, Tensor) else value, like=x.data, dtype=x.dtype)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise BadInput(f"{name}: {argument} {array.shape} does not broadcast to {shape}")
    return Tensor(array)


def _targets(
    name: str, x: Tensor, target: Any, weight: Any, ignore_index: int, smoothing: float
) -> tuple[Tensor, float]:
    """t (N,K,…), how much each class counts for each sample, and what the mean divides by."""
    target = target if isinstance(target, Tensor) else Tensor(backend.asarray(target, like=x.data))
    labels = target.dtype.kind in "iu"
    fits = x.ndim >= 2 and target.shape == ((x.shape[0], *x.shape[2:]) if labels else x.shape)
    if not fits or (not labels and backend.kind(target.dtype) != "f"):
        raise BadInput(
            f"{name}: x must be (N,K,…) and the target integers (N,…), or probabilities (N,K,…);"
            f" got x {x.shape}, target {target.shape} {target.dtype}"
        )
    check_floating(name, x)
    if not x.shape[1]:
        raise BadInput(f"{name}: x {x.shape} has no classes; axis 1 must have one or more")
    k, beside_x = x.shape[1], (-1, *(1 for _ in x.shape[2:]))    # beside_x: (K,) as (K,1,…)
    if labels:
        t, counted = _one_hot(name, x, target.data, ignore_index)
        counts = t
        if smoothing:
            t = t * (1.0 - smoothing) + counted * (smoothing / k)
    else:
        if ignore_index != IGNORE:
            raise BadInput(f"{name}: ignore_index {ignore_index} is for labels; with probabilities, give 0 for all classes")
        t, counts = astype(target, x.dtype), None
        if smoothing:
            t = t * (1.0 - smoothing) + smoothing / k
    if weight is not None:
        weight = reshape(_constant(name, "weight", weight, x, (k,)), beside_x)
        t, counts = t * weight, None if counts is None else counts * weight
    return t, float(x.size // k if counts is None else sum(counts.astype(np.promote_types(x.dtype, np.float32))).data)


def _one_hot(name: str, x: Tensor, labels: Array, ignore_index: int) -> tuple[Tensor, Tensor]:
    """1 at each label (N,K,…), but nowhere for one to be ignored; and 1 for each that counts (N,1,…)."""
    xp, k, labels = array_module(x.data), x.shape[1], backend.astype(labels, np.int64)
    counted = labels != ignore_index
    checked = xp.where(counted, labels, xp.zeros_like(labels))
    if labels.size and (int(xp.min(checked)) < 0 or int(xp.max(checked)) >= k):
        raise BadInput(
            f"{name}: labels must lie in 0 … {k - 1}, or be ignore_index {ignore_index};"
            f" got {int(xp.min(labels))} … {int(xp.max(labels))}"
        )
    labels, counted = xp.expand_dims(labels, axis=1), xp.expand_dims(counted, axis=1)
    classes = backend.asarray(np.arange(k).reshape(k, *(1 for _ in x.shape[2:])), like=x.data)
    onehot = (labels == classes) & counted
    return Tensor(backend.astype(onehot, x.dtype)), Tensor(backend.astype(counted, x.dtype))
