"""From noise to pictures, step by step.

A sampler walks down a list of steps T = τ_K > … > τ_1 > τ_0 = 0. At each, the network's answer about x_t gives a guess x̂0 of
the picture and a guess ε̂ of the noise, and the next, less noisy image is put together from them; how, is the sampler's
choice: see `solvers`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backend import Array, array_module, to_numpy
from ..errors import BadInput
from ..nn.module import Module
from ..philox import Rng
from .forward import q_onward
from .guidance import Guidance, classifier_gradient, guided_output, lean
from .schedules import Schedule
from .solvers import SOLVERS, Answer
from .targets import check_target, network_input, noise_in, predict_eps, predict_x0
from .variance import VARIANCES, split_answer

SAMPLERS = tuple(SOLVERS)
EVALUATIONS = {name: solver.evaluations for name, solver in SOLVERS.items()}  # of the network in a step, at most; see `evaluations`
CLIPS = (True, False, "dynamic")
QUANTILE = 0.995  # of a picture's pixels that dynamic thresholding leaves alone
STREAM = 16  # of the noise that samples are made of: training with the same seed draws from streams 0, 1, 2
Callback = Callable[[int, int, np.ndarray, np.ndarray, np.ndarray], Any]
Draw = Callable[[], Array]
Start = Callable[[np.ndarray, Draw, Array], Array]
Amend = Callable[[np.ndarray, Draw, Array, int], Array]


def time_steps(T: int, steps: int | Sequence[int] | None = None) -> list[int]:
    """τ_K … τ_0: `steps` + 1 whole numbers evenly spaced from T down to 0; or the steps that are given. Raises BadInput."""
    if steps is not None and not isinstance(steps, int | float | np.number):
        given = [int(t) for t in steps]
        if len(given) < 2 or given[-1] != 0 or given[0] > T or any(a <= b for a, b in itertools.pairwise(given)):
            raise BadInput(f"sample: a list of steps must fall from {T} or less to 0; got {given}")
        return given
    steps = T if steps is None else steps
    if not (1 <= steps <= T and int(steps) == steps):
        raise BadInput(f"sample: steps must be a whole number from 1 to {T}, the model's T; got {steps}")
    return [int(t) for t in np.round(np.linspace(T, 0, int(steps) + 1))]


def evaluations(
    schedule: Schedule, sampler: str = "ddpm", steps: int | Sequence[int] | None = None, guidance: Guidance | float = 0.0, churn: float = 0.0
) -> int:
    """How many network evaluations (NFE) :func:`sample` makes for one picture; the options are its own.

    Counted, not presumed: the sampler takes all its steps, with a network that costs nothing. Classifier-free guidance takes
    two evaluations wherever it acts, a classifier one more for its gradient; samplers of the second order have steps that
    take only one, such as Heun's last. Raises BadInput as `sample`.
    """
    guidance, times, count = guidance if isinstance(guidance, Guidance) else Guidance(w=guidance), time_steps(schedule.T, steps), 0
    check_sampler(sampler)

    def ask(xt: Array, t: int) -> Answer:
        nonlocal count
        count += guidance.evaluations(schedule, t)
        return Answer(xt, xt, xt)

    x = np.zeros(1, np.float32)
    solver = SOLVERS[sampler](schedule, ask, lambda: x, len(times) - 1, churn=churn)
    for t, s in itertools.pairwise(times):
        solver.step(x, t, s)
    return count


class Walk:
    """The way from x at one step to a picture, for one batch of labels.

    `ask` is what a solver asks: the network, with guidance and clipping. `run` makes all steps.

    model, schedule, labels    as in :func:`sample`
    draw                       fresh standard normal numbers of the batch's shape
    """

    def __init__(
        self, model: Any, schedule: Schedule, labels: np.ndarray, draw: Draw, sampler: str = "ddpm", guidance: Guidance | float = 0.0,
        eta: float = 0.0, churn: float = 0.0, variance: str | None = None, clip: bool | str = True, style: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.style = style
        self.model, self.schedule, self.labels, self.draw, self.sampler, self.clip = model, schedule, labels, draw, sampler, clip
        self.guidance = guidance if isinstance(guidance, Guidance) else Guidance(w=guidance)
        self.told = np.full_like(labels, -1) if self.guidance.alone else labels
        self.target = getattr(model, "target", "eps")
        variance = variance or ("learned" if getattr(model, "variance", "fixed") == "learned" else "small")
        self.options = {"eta": eta, "churn": churn, "variance": variance}
        _check(model, schedule, labels, sampler, self.target, **self.options, clip=clip)

    def ask(self, xt: Array, t: int) -> Answer:
        """x̂0 and ε̂, which fit together: x_t = a x̂0 + σ ε̂. Clipping x̂0 clips both."""
        g = self.guidance
        shown = network_input(self.schedule, xt, t, self.target)
        y = guided_output(self.model, shown, t, self.told, g.at(t, self.schedule.T), g.negative, g.rescale, self.style)
        y, v = split_answer(self.model, y)
        x0, led = predict_x0(self.schedule, xt, t, y, self.target), g.led(self.schedule, t)
        if led:
            gradient = classifier_gradient(self.model, g.classifier, self.schedule, xt, t, self.labels, self.told, self.style)
            x0 = lean(self.schedule, t, x0, gradient, g.strength)
        if self.clip:
            x0 = clipped(x0, self.clip)
        elif not led:
            return Answer(x0, predict_eps(self.schedule, xt, t, y, self.target), v)
        return Answer(x0, noise_in(self.schedule, xt, t, x0), v)

    def run(self, xt: Array, times: Sequence[int], after: Callable[[int, int, Array, Array], Array | None] | None = None) -> Array:
        """x at times[0] brought down to times[-1], in the steps between. Where they go up, fresh noise leads there.

        after   called as after(k, s, x_s, x̂0) when the k-th step down has led to s; may give another x_s to go on from
        """
        solver = SOLVERS[self.sampler](self.schedule, self.ask, self.draw, len(times) - 1, **self.options)
        k = 0
        for t, s in itertools.pairwise(times):
            if s > t:
                solver.forget()
                xt = q_onward(self.schedule, xt, t, s, self.draw())
                continue
            (xt, x0_hat), k = solver.step(xt, t, s), k + 1
            if after is not None and (other := after(k, s, xt, x0_hat)) is not None:
                xt = other
        return xt


def clipped(x0: Array, clip: bool | str) -> Array:
    """x̂0 where pictures lie: in [−1,1], or by dynamic thresholding (Saharia et al. 2022, section 2.3).

    dynamic    each picture is divided by the size that QUANTILE of its pixels do not exceed, if that is above 1: bright
               pictures keep their shades, where clipping would make them flat
    """
    xp = array_module(x0)
    if clip != "dynamic":
        return xp.clip(x0, -1.0, 1.0)
    flat = xp.sort(xp.abs(x0).reshape(len(x0), -1), axis=1)
    size = xp.maximum(flat[:, int(QUANTILE * (flat.shape[1] - 1))], 1.0).reshape(-1, *(1,) * (x0.ndim - 1)).astype(x0.dtype)
    return xp.clip(x0, -size, size) / size


def sample(
    model: Any, schedule: Schedule, labels: Any, sampler: str = "ddpm", steps: int | Sequence[int] | None = None,
    guidance: float | Guidance = 0.0, eta: float = 0.0, seed: int = 0, clip: bool | str = True, batch_size: int = 64,
    callback: Callback | None = None, progress: bool = False, churn: float = 0.0, variance: str | None = None, first: int = 0,
    style: Any = None,
) -> np.ndarray:  # fmt: skip
    """Draw one picture per label.            # (N,) -> (N,C,H,W) float32 in [−1,1]

    labels      N integers, −1 for no class in particular
    sampler     "ddpm", "ddim" (with `eta`), "dpm++", "heun" (with `churn`), "euler" or "midpoint"; see `solvers`
    steps       how many of the T steps to take, evenly spaced; all when None; or the steps themselves, from T down to 0
    guidance    w of classifier-free guidance, 0 or more; or a :class:`Guidance` that says more
    seed        picture i depends on (seed, i) alone: any `batch_size`, and any device, gives the same pictures, to
                rounding; its noise is `philox.normal(seed, [i], …, step=k, stream=STREAM)` when it needs some for the
                k-th time, k = 0, 1, …
    clip        keep x̂0 in [−1,1] at each step, where all pictures lie; or "dynamic", see `clipped`; False for data that
                lies elsewhere
    callback    called as callback(step, s, x_s, x̂0, indices) after each step, for each batch, with NumPy arrays
    progress    show a progress bar
    variance    of ddpm: "small", "large" or "learned"; the model's own, if it has learned one, when None
    first       the number i of the first picture, for those who draw a large set in parts
    style       (N,S) values beside the labels, or (S,) for all, for a model that has learned them; not a number where one
                does not matter. `data.StyleScale.drawn` gives some that are as varied as the training set's

    Raises BadInput for an unknown sampler, class or number of steps, or a negative guidance.
    """
    times = time_steps(schedule.T, steps)

    def noise(indices: np.ndarray, draw: Draw, home: Array) -> Array:
        return draw() * float(schedule.noise[times[0]])

    return walks("sample", model, schedule, labels, times, noise, None, sampler, guidance, eta, seed, clip, batch_size,
                 callback, progress, churn, variance, first, style)  # fmt: skip


def walks(
    name: str, model: Any, schedule: Schedule, labels: Any, times: Sequence[int], start: Start, amend: Amend | None = None,
    sampler: str = "ddpm", guidance: float | Guidance = 0.0, eta: float = 0.0, seed: int = 0, clip: bool | str = True,
    batch_size: int = 64, callback: Callback | None = None, progress: bool = False, churn: float = 0.0,
    variance: str | None = None, first: int = 0, style: Any = None,
) -> np.ndarray:  # fmt: skip
    """What all that walk down from somewhere have in common; the options are those of `sample`.            # (N,) -> (N,C,H,W)

    times    the steps, as :meth:`Walk.run` takes them
    start    called as start(indices, draw, home) for each batch: x at times[0], where `home` lies
    amend    called as amend(indices, draw, x_s, s) after each step down: the x_s to go on from
    """
    labels = np.asarray(labels)
    check_request(model, labels, seed, batch_size)
    style = _checked_style(model, style, len(labels))

    def walk(indices: np.ndarray, home: Array, bar: Any) -> Array:
        draw = draws(seed, first + int(indices[0]), (len(indices), *sample_shape(model)), home)
        way = Walk(model, schedule, labels[indices], draw, sampler, guidance, eta, churn, variance, clip,
                   None if style is None else style[indices])  # fmt: skip

        def after(k: int, s: int, xs: Array, x0_hat: Array) -> Array:
            xs = xs if amend is None else amend(indices, draw, xs, s)
            if callback is not None:
                callback(k, s, to_numpy(xs), to_numpy(x0_hat), indices)
            bar.update()
            return xs

        return way.run(start(indices, draw, home), times, after)

    down = sum(s < t for t, s in itertools.pairwise(times))
    pictures = in_batches(name, model, len(labels), batch_size, walk, down, progress)
    return np.clip(pictures, -1.0, 1.0) if clip else pictures


def in_batches(
    name: str, model: Any, n: int, batch_size: int, work: Callable[[np.ndarray, Array, Any], Array], steps: int = 1, progress: bool = False
) -> np.ndarray:
    """What work(indices, home, bar) gives for batches of 0 … n − 1; `home` lies where the model lives.            # -> (n,C,H,W) float32

    work is to say bar.update() `steps` times. The model is in evaluation mode meanwhile.
    """
    pictures = np.empty((n, *sample_shape(model)), np.float32)
    home = place_of(model)
    try:
        with evaluating(model), contextlib.closing(_bar(-(-n // batch_size) * steps, progress)) as bar:
            for indices in batches(n, batch_size):
                pictures[indices] = to_numpy(work(indices, home, bar))
    except MemoryError:                                          # CuPy's is one too
        raise BadInput(f"{name}: {batch_size} pictures at a time do not fit into memory; try batch_size {max(1, batch_size // 2)}") from None
    return pictures


def batches(n: int, batch_size: int) -> Iterator[np.ndarray]:
    """0 … n − 1, batch_size at a time."""
    return (np.arange(i, min(i + batch_size, n)) for i in range(0, n, batch_size))


def place_of(model: Any) -> Array:
    """An array that lies where the model lives."""
    return next((p.data for p in model.parameters()), np.empty(0, np.float32)) if isinstance(model, Module) else np.empty(0, np.float32)


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode, and in its own again afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def draws(seed: int, first: int, shape: tuple[int, ...], home: Array, stream: int = STREAM) -> Draw:
    """A function that gives fresh noise for pictures first, first + 1, …, each time other."""
    count = itertools.count()
    return lambda: Rng(seed, step=next(count), first_row=first, like=home, stream=stream).standard_normal(shape)


def sample_shape(model: Any) -> tuple[int, ...]:
    """The shape of one sample: (C,H,W) for a model of images, or what the model says of itself."""
    if hasattr(model, "sample_shape"):
        return tuple(model.sample_shape)
    config = model.config
    return config["in_channels"], config["image_size"], config["image_size"]


def _bar(total: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, disable=not progress, desc="sampling", unit="step", leave=False)


def check_request(model: Any, labels: np.ndarray, seed: int, batch_size: int) -> None:
    """Labels that the model knows, a seed and a batch size that can be. Raises BadInput."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise BadInput(f"sample: labels must be a row of integers, got {labels.dtype} of shape {labels.shape}")
    classes = model.config["num_classes"]
    for label in labels[(labels < -1) | (labels >= classes)][:1]:
        raise BadInput(f"sample: class {label} is not in this model; it knows 0-{classes - 1}")
    if int(seed) != seed or seed < 0:
        raise BadInput(f"sample: seed must be a whole number, 0 or more; got {seed}")
    if batch_size < 1:
        raise BadInput(f"sample: batch_size must be 1 or more, got {batch_size}")


def _checked_style(model: Any, style: Any, n: int) -> np.ndarray | None:
    if style is None:
        return None
    dim, style = getattr(model, "style_dim", 0), np.asarray(style, np.float64)
    if not dim:
        raise BadInput("sample: this model has learned no style; leave style out")
    if style.shape not in ((dim,), (n, dim)):
        raise BadInput(f"sample: style must be ({dim},) or ({n}, {dim}), got {style.shape}")
    return np.broadcast_to(style, (n, dim))


def check_sampler(sampler: str) -> None:
    """Raises BadInput for a sampler that there is not."""
    if sampler not in SAMPLERS:
        raise BadInput(f"sample: sampler {sampler!r} is unknown; it is one of: {', '.join(SAMPLERS)}")


def _check(
    model: Any, schedule: Schedule, labels: np.ndarray, sampler: str, target: str, eta: float, churn: float, variance: str, clip: bool | str
) -> None:
    check_target("sample", schedule, target)
    check_sampler(sampler)
    if not 0.0 <= eta <= 1.0:
        raise BadInput(f"sample: eta must lie between 0 and 1, got {eta}")
    if not 0.0 <= churn < np.inf:
        raise BadInput(f"sample: churn must be a finite number, 0 or more; got {churn}")
    if variance not in VARIANCES:
        raise BadInput(f"sample: variance {variance!r} is unknown; it is one of: {', '.join(VARIANCES)}")
    if variance == "learned" and getattr(model, "variance", "fixed") != "learned":
        raise BadInput("sample: this model has not learned a variance; use small or large")
    if clip not in CLIPS:
        raise BadInput(f"sample: clip must be True, False or 'dynamic', got {clip!r}")
