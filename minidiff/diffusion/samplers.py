"""From noise to pictures, step by step: DDPM and DDIM.

Both walk down a list of steps T = τ_K > … > τ_1 > τ_0 = 0. At each, the network's guess of the
noise gives a guess x̂0 of the picture, and the next, less noisy image is put together from x̂0, the
noise, and for DDPM some fresh noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_numpy
from ..errors import BadInput
from ..nn.module import Module
from ..philox import Rng
from .forward import predict_x0
from .guidance import guided_output
from .schedules import Schedule

SAMPLERS = ("ddpm", "ddim")
STREAM = 16  # of the noise that samples are made of: training with the same seed draws from streams 0, 1, 2
Callback = Callable[[int, int, np.ndarray, np.ndarray, np.ndarray], Any]


def time_steps(T: int, steps: int | None = None) -> list[int]:
    """τ_K … τ_0: `steps` + 1 whole numbers evenly spaced from T down to 0. Raises BadInput."""
    steps = T if steps is None else steps
    if not (1 <= steps <= T and int(steps) == steps):
        raise BadInput(f"sample: steps must be a whole number from 1 to {T}, the model's T; got {steps}")
    return [int(t) for t in np.round(np.linspace(T, 0, int(steps) + 1))]


def ddpm_step(
    schedule: Schedule, xt: Array, x0_hat: Array, t: int, s: int, draw: Callable[[], Array]
) -> Array:
    """x_s drawn from q(x_s | x_t, x̂0), s < t            (Ho et al. 2020, eq. 6–7)

        α = ᾱ_t / ᾱ_s,   β = 1 − α                          one step from s to t
        mean = (√ᾱ_s β x̂0 + √α (1 − ᾱ_s) x_t) / (1 − ᾱ_t)
        variance = (1 − ᾱ_s) / (1 − ᾱ_t) β

    At s = 0, ᾱ_s = 1: the variance is 0 and the mean is x̂0. The last step adds no noise.
    """
    a_t, a_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])  # a NumPy float64 would promote x_t
    alpha = a_t / a_s
    beta = 1.0 - alpha
    mean = (math.sqrt(a_s) * beta * x0_hat + math.sqrt(alpha) * (1.0 - a_s) * xt) / (1.0 - a_t)
    sigma = math.sqrt((1.0 - a_s) / (1.0 - a_t) * beta)
    return mean if sigma == 0 else mean + sigma * draw()


def ddim_step(
    schedule: Schedule, xt: Array, x0_hat: Array, t: int, s: int, draw: Callable[[], Array], eta: float
) -> Array:
    """x_s = √ᾱ_s x̂0 + √(1 − ᾱ_s − σ²) ε̂ + σ z            (Song et al. 2021, eq. 12 and 16)

        ε̂ = (x_t − √ᾱ_t x̂0) / √(1 − ᾱ_t)
        σ = η √((1 − ᾱ_s) / (1 − ᾱ_t)) √(1 − ᾱ_t / ᾱ_s)

    η = 0 is deterministic, η = 1 is DDPM. ε̂ is taken from x̂0, so that clipping x̂0 clips both.
    """
    a_t, a_s = float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s])  # a NumPy float64 would promote x_t
    eps = (xt - math.sqrt(a_t) * x0_hat) / math.sqrt(1.0 - a_t)
    sigma = eta * math.sqrt((1.0 - a_s) / (1.0 - a_t) * (1.0 - a_t / a_s))
    xs = math.sqrt(a_s) * x0_hat + math.sqrt(max(0.0, 1.0 - a_s - sigma**2)) * eps
    return xs if sigma == 0 else xs + sigma * draw()


def sample(
    model: Any, schedule: Schedule, labels: Any, sampler: str = "ddpm", steps: int | None = None,
    guidance: float = 0.0, seed: int = 0, eta: float = 0.0, clip: bool = True, batch_size: int = 64,
    callback: Callback | None = None, progress: bool = False,
) -> np.ndarray:  # fmt: skip
    """Draw one picture per label.            # (N,) -> (N,C,H,W) float32 in [−1,1]

    labels      N integers, −1 for no class in particular
    sampler     "ddpm" or "ddim" (with `eta`)
    steps       how many of the T steps to take, evenly spaced; all when None
    guidance    w of classifier-free guidance, 0 or more
    seed        picture i depends on (seed, i) alone: any `batch_size`, and any device, gives the same pictures, to
                rounding; its noise is `philox.normal(seed, [i], …, step=k, stream=STREAM)` when it needs some for the
                k-th time, k = 0, 1, …
    clip        keep x̂0 in [−1,1] at each step, where all pictures lie
    callback    called as callback(step, s, x_s, x̂0, indices) after each step, for each batch, with NumPy arrays
    progress    show a progress bar

    Raises BadInput for an unknown sampler, class or number of steps, or a negative guidance.
    """
    labels = np.asarray(labels)
    times = time_steps(schedule.T, steps)
    _check(model, labels, sampler, guidance, eta, seed, batch_size)
    config = model.config
    shape = (config["in_channels"], config["image_size"], config["image_size"])
    pictures = np.empty((len(labels), *shape), np.float32)
    home = next(iter(model.parameters())).data if isinstance(model, Module) else pictures    # where the model lives
    was_training = model.training
    model.eval()
    try:
        batches = [np.arange(i, min(i + batch_size, len(labels))) for i in range(0, len(labels), batch_size)]
        bar = _bar(len(batches) * (len(times) - 1), progress)
        for indices in batches:
            draws = itertools.count()

            def draw(indices: np.ndarray = indices, draws: Iterator[int] = draws) -> Array:
                rng = Rng(seed, step=next(draws), first_row=int(indices[0]), like=home, stream=STREAM)
                return rng.standard_normal((len(indices), *shape))

            xt = draw()
            for step, (t, s) in enumerate(zip(times, times[1:], strict=False), start=1):
                output = guided_output(model, xt, t, labels[indices], guidance)
                x0_hat = predict_x0(schedule, xt, t, output, getattr(model, "target", "eps"))
                if clip:
                    x0_hat = array_module(x0_hat).clip(x0_hat, -1.0, 1.0)
                if sampler == "ddpm":
                    xt = ddpm_step(schedule, xt, x0_hat, t, s, draw)
                else:
                    xt = ddim_step(schedule, xt, x0_hat, t, s, draw, eta)
                if callback is not None:
                    callback(step, s, to_numpy(xt), to_numpy(x0_hat), indices)
                bar.update()
            pictures[indices] = to_numpy(xt)
        bar.close()
    except MemoryError:                                          # CuPy's is one too
        raise BadInput(f"sample: {batch_size} pictures at a time do not fit into memory; try batch_size {max(1, batch_size // 2)}") from None
    finally:
        model.train(was_training)
    return np.clip(pictures, -1.0, 1.0) if clip else pictures


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, disable=not progress, desc="sampling", unit="step", leave=False)


def _check(
    model: Any, labels: np.ndarray, sampler: str, guidance: float, eta: float, seed: int, batch_size: int
) -> None:
    if sampler not in SAMPLERS:
        raise BadInput(f"sample: sampler {sampler!r} is unknown; it is one of: {', '.join(SAMPLERS)}")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(f"sample: labels must be a row of integers, got {labels.dtype} of shape {labels.shape}")
    classes = model.config["num_classes"]
    for label in labels[(labels < -1) | (labels >= classes)][:1]:
        raise BadInput(f"sample: class {label} is not in this model; it knows 0-{classes - 1}")
    if not (math.isfinite(guidance) and guidance >= 0):
        raise BadInput(f"sample: guidance must be a finite number, 0 or more; got {guidance}")
    if not 0.0 <= eta <= 1.0:
        raise BadInput(f"sample: eta must lie between 0 and 1, got {eta}")
    if int(seed) != seed or seed < 0:
        raise BadInput(f"sample: seed must be a whole number, 0 or more; got {seed}")
    if batch_size < 1:
        raise BadInput(f"sample: batch_size must be 1 or more, got {batch_size}")
