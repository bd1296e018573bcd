"""The way one step back: where it leads on average, how far it may miss, and the bound on likelihood that follows.

If x0 were known, x_s would be a normal number, s < t (Ho et al. 2020, eq. 6–7; Kingma et al. 2021, eq. 25 for any road):

    α = a_t / a_s,   β = σ_t² − α² σ_s²                       one step from s to t
    mean = (a_s β x0 + α σ_s² x_t) / σ_t²
    variance = σ_s² β / σ_t²                                  "small";  β itself is "large"

The two variances are right for a picture that is known, and for pixels that are all noise. A network can learn to stay
between them (Nichol & Dhariwal 2021, eq. 15): it then answers twice as many channels, the second half v in [−1,1], and

    ln variance = f ln large + (1 − f) ln small,     f = (v + 1) / 2
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import ops
from ..backend import Array
from ..tensor import Tensor
from .schedules import Schedule
from .targets import column, predict_x0

VARIANCES = ("small", "large", "learned")
LAMBDA = 0.001                                # weight of the variational bound beside the simple loss


def split_answer(model: Any, output: Any) -> tuple[Any, Any]:
    """The answer, and v where the model has learned one, else None.            # (N,2C,…) -> (N,C,…), (N,C,…)"""
    if getattr(model, "variance", "fixed") != "learned":
        return output, None
    c = output.shape[1] // 2
    return output[:, :c], output[:, c:]


def step_back(schedule: Schedule, t: Any, s: Any) -> tuple[Any, Any, Any, Any]:
    """What x0 and x_t count in the mean of x_s, and the small and the large variance; for steps or arrays of steps."""
    a_t, a_s, sigma_t, sigma_s = schedule.signal[t], schedule.signal[s], schedule.noise[t], schedule.noise[s]
    alpha = a_t / a_s
    beta = sigma_t**2 - (alpha * sigma_s) ** 2
    return a_s * beta / sigma_t**2, alpha * sigma_s**2 / sigma_t**2, sigma_s**2 * beta / sigma_t**2, beta


def between_variances(v: Any, small: Any, large: Any) -> Any:
    """ln variance of a learned v: an array, between two numbers, or a Tensor, between two Tensors."""
    f, log = (v + 1.0) * 0.5, ops.log if isinstance(v, Tensor) else math.log
    return f * log(large) + (1.0 - f) * log(small)


def variational_loss(schedule: Schedule, x0: Array, xt: Array, t: Array, answer: Tensor, v: Tensor, target: str) -> Tensor:
    """T E_t of what a step adds to the bound, in bits per number. Only v learns from it: the answer is held fixed."""
    x0_hat = predict_x0(schedule, xt, t, answer.detach().data, target)
    return schedule.T * bound_terms(schedule, x0, xt, t, x0_hat, v).mean()


def bound_terms(schedule: Schedule, x0: Array, xt: Array, t: Array, x0_hat: Array, v: Tensor | None = None, variance: str = "small") -> Tensor:
    """What steps t → t − 1 add to the variational bound on −ln p(x0), in bits per number.            # (N,…) -> (N,)

    t > 1   KL of the step that knows x0 from the model's (Ho et al. 2020, eq. 5)
    t = 1   −ln of the probability that the model's normal number falls into x0's bin, 2/255 wide, the first and the last
            bin without end (Ho et al. 2020, eq. 13)
    """
    c0, ct, small, large = (column(table, t, x0, "bound_terms", schedule) for table in _tables(schedule, t))
    mean, guess = c0 * x0 + ct * xt, c0 * x0_hat + ct * xt
    spread = between_variances(v, Tensor(small), Tensor(large)) if v is not None else ops.log(Tensor(small if variance == "small" else large))
    spread = spread + Tensor(0.0 * x0)                           # one for each number
    true = Tensor(small)
    kl = 0.5 * (spread - ops.log(true) + (true + Tensor((mean - guess) ** 2)) / ops.exp(spread) - 1.0)
    first = column(_first(schedule, t), t, x0, "bound_terms", schedule)
    terms = ops.where(first > 0.5, -_ln_bin(x0, guess, 0.5 * spread), kl)
    return terms.mean(tuple(range(1, terms.ndim))) * (1.0 / math.log(2.0))


def _ln_bin(x0: Array, mean: Array, ln_sigma: Tensor) -> Tensor:
    """ln of the probability of x0's bin under normal numbers."""
    d, inverse = Tensor(x0 - mean), ops.exp(-ln_sigma)
    above, below = _below((d + 1.0 / 255.0) * inverse), _below((d - 1.0 / 255.0) * inverse)
    inside = ops.where(x0 > 0.999, 1.0 - below, ops.where(x0 < -0.999, above, above - below))
    return ops.log(ops.clip(inside, 1e-12, None))


def _below(z: Tensor) -> Tensor:
    """The share of a standard normal distribution that lies below z."""
    return 0.5 * (1.0 + ops.erf(z * (1.0 / math.sqrt(2.0))))


def _tables(schedule: Schedule, t: Array) -> list[Array]:
    """`step_back` for t → t − 1 at every t, where t lies; the variance of t = 1, which would be 0, is that of t = 2."""
    def table(i: int) -> np.ndarray:
        steps = np.arange(1, schedule.T + 1)
        row = np.asarray(step_back(schedule, steps, steps - 1)[i])
        if i == 2:
            row[0] = row[1] if len(row) > 1 else step_back(schedule, 1, 0)[3]
        return np.concatenate([row[:1], row])

    return [schedule.beside(f"step back {i}", t, lambda i=i: table(i)) for i in range(4)]


def _first(schedule: Schedule, t: Array) -> Array:
    return schedule.beside("first step", t, lambda: (np.arange(schedule.T + 1) == 1).astype(float))
