"""How probable does a model find a picture? Two answers: a bound for the walk with chance, and the density of the walk without.

The variational bound (Ho et al. 2020, eq. 5) counts what it costs to send a picture step by step, in bits per number:

    −log₂ p(x0) ≤ E [ KL(q(x_T|x0) ‖ p(x_T)) + Σ_{t=2}^T KL(q(x_{t−1}|x_t,x0) ‖ p(x_{t−1}|x_t)) − log₂ p(x0|x_1) ]
                      prior                    terms[t], t = 2 … T                              terms[1], the decoder's

It is a statement about pictures of 256 levels, x = p/127.5 − 1, and holds for ddpm with all T steps.

The noise-free walk is a curve that carries densities with it (Song et al. 2021b, section 4.3). On the straight road (see
`solvers`), z = x/(a + σ) moves as dz/dS = f(z, S) = ε̂ − x̂0, and along the curve a density thins out where f spreads
(Chen et al. 2018, eq. 8; Song et al. 2021b, eq. 39):

    d ln p(z) / dS = −∇·f           ln p(x0) = ln p(z_T) + ∫ ∇·f dS       from S = 0 to S_T;  z_0 = x0, z_T ~ N(0, S_T²)

∇·f = tr J is the sum of the Jacobian's diagonal: D backward passes for D numbers. One pass gives its right value on average
(Hutchinson 1990; Grathwohl et al. 2019, eq. 7; Song et al. 2021b, eq. 40):

    E[vᵀ J v] = tr J,      v = ±1 with equal chance            since E[v_i v_j] = 1 for i = j and 0 for all others

A density is not a probability. A level of a picture of 256 levels, spread out evenly over [−1,1] by `dequantise`, is a bin
2/256 wide, and has the probability p · 2/256: in bits per number − log₂ p / D + 7.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend, ops
from ..autograd import enable_grad, grad, no_grad
from ..backend import Array, array_module, to_numpy
from ..errors import BadInput
from ..philox import Rng, uniform
from ..tensor import Tensor
from .editing import checked_pictures
from .forward import q_sample
from .samplers import batches, check_request, clipped, evaluating, place_of, time_steps
from .schedules import Schedule
from .targets import check_target, network_input, predict_eps, predict_x0
from .variance import VARIANCES, bound_terms, split_answer

STREAM = 32  # of the chance that these draw from: `sample` has 16, training 0, 1, 2
BIN = 7.0  # −log₂ of the width of a level, 2/256


# ------------------------------------------------------------------------------------- the variational bound


@dataclass(frozen=True)
class Bound:
    """The variational bound, in bits per number, averaged over pictures.

    total            prior + Σ terms
    prior            of x_T
    terms            (T + 1,): what step t → t − 1 adds, terms[0] = 0; NaN for a t that was not drawn
    standard_error   of the total as a mean over pictures: by the pictures' being few, and by chance; NaN for one picture
    """

    total: float
    prior: float
    terms: np.ndarray
    standard_error: float

    @property
    def decoder(self) -> float:
        """−log₂ p(x0|x_1)"""
        return float(self.terms[1])

    def __str__(self) -> str:
        between = self.total - self.prior - self.decoder
        return (f"{self.total:.3f} ± {self.standard_error:.3f} bits per number: {self.prior:.3f} at T,"
                f" {between:.3f} between, {self.decoder:.3f} at t = 1")  # fmt: skip


def variational_bound(
    model: Any, schedule: Schedule, images: Any, labels: Any, draws: int | None = None, variance: str | None = None, seed: int = 0,
    clip: bool | str = True, batch_size: int = 64,
) -> Bound:  # fmt: skip
    """Ho et al.'s bound on −log₂ p(x0).            # (N,C,H,W), (N,) -> Bound

    draws      how many t of 2 … T to draw for each picture, one from each of so many equal parts of the road: T − 1 times
               their mean is right on average. The decoder's term, the largest, is always asked for. Every t when None
    variance   of the model's steps: "small", "large" or "learned"; the model's own, if it has learned one, when None
    seed       picture i's chance is a function of (seed, i)

    p(x_T) is what `sample` starts from, N(0, σ_T²). Raises BadInput.
    """
    images, labels = checked_pictures("variational_bound", model, images, labels, True), np.asarray(labels)
    check_request(model, labels, seed, batch_size)
    target, T, n = getattr(model, "target", "eps"), schedule.T, len(images)
    check_target("variational_bound", schedule, target)
    if draws is not None and (int(draws) != draws or draws < 1):
        raise BadInput(f"variational_bound: draws must be a whole number of steps, 1 or more, or None for every step; got {draws}")
    learned = getattr(model, "variance", "fixed") == "learned"
    variance = variance or ("learned" if learned else "small")
    if variance not in VARIANCES or (variance == "learned" and not learned):
        raise BadInput(f"variational_bound: variance {variance!r}; it must be small, large or, where the model has learned one, learned")
    if n == 0:
        raise BadInput("variational_bound: there are no images")
    parts = int(draws) if draws and T > 1 else 0
    bits, sums, counts, home = np.zeros(n), np.zeros(T + 1), np.zeros(T + 1), place_of(model)
    with evaluating(model), no_grad():
        for indices in batches(n, batch_size):
            x0, m = backend.asarray(images[indices], like=home), len(indices)
            for k in range(1, (1 + parts if draws else T) + 1):
                rng = Rng(seed, step=k, first_row=int(indices[0]), like=home, stream=STREAM)
                t = np.full(m, k)
                if draws and k > 1:
                    t = 2 + ((k - 2 + to_numpy(rng.random(m)).astype(np.float64)) * ((T - 1) / parts)).astype(int)
                xt = q_sample(schedule, x0, t, rng.standard_normal(x0.shape))
                x0_hat, v = _guess(model, schedule, xt, t, labels[indices], target, clip)
                wide = [x.astype(np.float64) for x in (x0, xt, x0_hat)]      # the tails of a bin are small differences
                v = v.astype(np.float64) if variance == "learned" else None
                term = to_numpy(bound_terms(schedule, wide[0], wide[1], t, wide[2], v, variance).data)
                bits[indices] += term * ((T - 1) / parts if draws and k > 1 else 1.0)
                np.add.at(sums, t, term)
                np.add.at(counts, t, 1.0)
    prior = _prior(schedule, images)
    bits += prior
    with np.errstate(invalid="ignore"):
        terms = np.where(np.arange(T + 1) > 0, sums / counts, 0.0)
    error = bits.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
    return Bound(float(bits.mean()), float(prior.mean()), terms, float(error))


def _guess(model: Any, schedule: Schedule, xt: Array, t: np.ndarray, labels: np.ndarray, target: str, clip: bool | str) -> tuple[Array, Any]:
    """x̂0 for steps that differ from picture to picture, and v."""
    y, v = split_answer(model, model(network_input(schedule, xt, t, target), t, labels))
    x0 = predict_x0(schedule, xt, t, y.astype(np.float32).data, target)
    return (clipped(x0, clip) if clip else x0), v


def _prior(schedule: Schedule, images: np.ndarray) -> np.ndarray:
    """KL(N(a_T x0, σ_T²) ‖ N(0, σ_T²)) = (a_T x0 / σ_T)² / 2, in bits per number.            # (N,…) -> (N,)"""
    ratio = float(schedule.signal[-1] / schedule.noise[-1])
    return 0.5 * np.square(ratio * images.astype(np.float64)).reshape(len(images), -1).mean(1) / math.log(2.0)


# ------------------------------------------------------------------------------- the density of the noise-free walk


@dataclass(frozen=True)
class Likelihood:
    """What each picture's density is.

    nats             ln p(x0), (N,)
    bits             per number of a picture of 256 levels, −ln p / (D ln 2) + 7, (N,); less is better
    standard_error   of nats, by Hutchinson's chance, (N,): 0 for the exact trace, NaN for a single probe
    """

    nats: np.ndarray
    bits: np.ndarray
    standard_error: np.ndarray


def ode_log_likelihood(
    model: Any, schedule: Schedule, x: Any, labels: Any, steps: int | Sequence[int] | None = None, exact: bool = False, probes: int = 1,
    seed: int = 0, clip: bool = True, batch_size: int = 64,
) -> Likelihood:  # fmt: skip
    """ln p(x0), by following the noise-free curve up to the noise that it came from.            # (N,…), (N,) -> Likelihood

        Heun, upwards:   z' = z_s + h f(z_s, s),   z_t = z_s + h (f(z_s, s) + f(z', t)) / 2,   h = S_t − S_s

    and ∇·f by the same two places. The curve is that of `sample` with "heun" or "ddim"; At t = 0, of which no network knows,
    a_1 x0 is asked about as if it were x_1. Data that fill no volume, such as pixels that are always black, have no density: what is measured
    then is how far the model's steps come.

    steps     of the whole road, as in :func:`sample`: the error falls with their square
    exact     the trace by a backward pass for each of the D numbers: for small D
    probes    how many v are drawn for each picture, each kept along the whole way; at least 2 give a standard error
    clip      x̂0 in [−1,1] at each step, as the sampler; False for data that lies elsewhere

    Raises BadInput.
    """
    x, labels = checked_pictures("ode_log_likelihood", model, x, labels, clip), np.asarray(labels)
    check_request(model, labels, seed, batch_size)
    check_target("ode_log_likelihood", schedule, getattr(model, "target", "eps"))
    if int(probes) != probes or probes < 1:
        raise BadInput(f"ode_log_likelihood: probes must be a whole number, 1 or more; got {probes}")
    times, D, home = time_steps(schedule.T, steps)[::-1], math.prod(x.shape[1:]), place_of(model)
    nats, error = np.zeros(len(x)), np.zeros(len(x))
    with evaluating(model):
        for indices in batches(len(x), batch_size):
            x0 = backend.asarray(x[indices], like=home)
            vs = _basis(x0) if exact else _signs(x0, int(probes), seed, int(indices[0]))
            z, spread = _climb(model, schedule, x0, labels[indices], times, vs, clip)
            S_T = float(schedule.noise[times[-1]] / (schedule.signal[times[-1]] + schedule.noise[times[-1]]))
            inside = to_numpy(z).astype(np.float64).reshape(len(z), -1)
            start = -0.5 * np.square(inside / S_T).sum(1) - D * (math.log(S_T) + 0.5 * math.log(2 * math.pi))
            nats[indices] = start + (spread.sum(0) if exact else spread.mean(0))
            if not exact:
                error[indices] = spread.std(0, ddof=1) / math.sqrt(probes) if probes > 1 else math.nan
    return Likelihood(nats, -nats / (D * math.log(2.0)) + BIN, error)


def _climb(model: Any, schedule: Schedule, z: Array, labels: np.ndarray, times: Sequence[int], vs: list[Array], clip: bool) -> tuple[Array, np.ndarray]:
    """z_T, and ∫ vᵀJv dS for each v.            # -> (N,…), (V,N)"""
    S = schedule.noise / (schedule.signal + schedule.noise)
    spread = np.zeros((len(vs), len(z)))
    for s, t in itertools.pairwise(times):
        h = float(S[t] - S[s])
        f_s, trace_s = _slope(model, schedule, z, s, labels, vs, clip)
        f_t, trace_t = _slope(model, schedule, z + h * f_s, t, labels, vs, clip)
        z, spread = z + (0.5 * h) * (f_s + f_t), spread + 0.5 * h * (trace_s + trace_t)
    return z, spread


def _slope(model: Any, schedule: Schedule, z: Array, t: int, labels: np.ndarray, vs: list[Array], clip: bool) -> tuple[Array, np.ndarray]:
    """f = ε̂ − x̂0 at z, and vᵀJv for each v: the Jacobian's product with v from the left, and that with v."""
    z, target, c = Tensor(z, requires_grad=True), getattr(model, "target", "eps"), float(schedule.signal[max(t, 1)] + schedule.noise[t])
    t = max(t, 1)                                                # a picture without noise, a_1 x0, is asked about as x_1
    with enable_grad():
        xt = c * z
        y, _ = split_answer(model, model(network_input(schedule, xt, t, target), t, labels))
        x0, eps = predict_x0(schedule, xt, t, y, target), predict_eps(schedule, xt, t, y, target)
        if clip:
            x0 = ops.clip(x0, -1.0, 1.0)
            eps = (xt - float(schedule.signal[t]) * x0) * (1.0 / float(schedule.noise[t]))
        f = eps - x0
        traces = [to_numpy((grad(f, z, Tensor(v), retain_graph=True).data * v).reshape(len(v), -1).sum(1)) for v in vs]
    return f.data, np.array(traces, np.float64)


def _signs(like: Array, probes: int, seed: int, first: int) -> list[Array]:
    """±1 for each number: the signs of normal numbers, which there is a kernel for everywhere."""
    draw = (Rng(seed, step=k, first_row=first, like=like, stream=STREAM).standard_normal(like.shape) for k in range(probes))
    return [array_module(z).where(z < 0, -1.0, 1.0).astype(np.float32) for z in draw]


def _basis(like: Array) -> list[Array]:
    """The D unit vectors, each for the whole batch."""
    D = math.prod(like.shape[1:])
    return [backend.asarray(np.broadcast_to(row, (len(like), D)).reshape(like.shape), like=like) for row in np.eye(D, dtype=np.float32)]


def dequantise(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Pictures of 256 levels spread evenly over their bins: x = (p + u)/128 − 1, u ~ U[0,1), p = 127.5 (x + 1).            # (N,…) -> (N,…)

    Their density's bits per number, averaged over u, are no fewer than those of the levels themselves (Theis et al. 2016,
    section 3.1): a bin's probability is the density's mean, and the logarithm of a mean is no less than the mean logarithm.
    """
    images = np.asarray(images, np.float32)
    p = np.rint(127.5 * (np.clip(images, -1.0, 1.0) + 1.0))
    u = uniform(seed, np.arange(len(images)), math.prod(images.shape[1:]), stream=STREAM).reshape(images.shape)
    return ((p + u) / 128.0 - 1.0).astype(np.float32)
