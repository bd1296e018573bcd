"""What a model that draws pictures can do with pictures that are there already.

The walk from noise to a picture need not begin in pure noise, and need not go down only:

    image_to_image   begins half way, with noise over a picture                    SDEdit, Meng et al. 2022
    denoise          begins with a picture that came noisy
    inpaint          is told at each step what a part of the picture is            RePaint, Lugmayr et al. 2022
    invert           goes up: which noise would have become this picture?          Song et al. 2021, Mokady et al. 2023
    decode           comes down again from there
    interpolate      comes down from places between two such noises
    write_augmented  draws a data set to train a classifier with

Pictures are float32 arrays (N,C,H,W) in [−1,1]; with clip=False they may be points, or lie elsewhere. `how` is what remains of the
arguments of :func:`sample`, with the same meaning: sampler, guidance, eta, seed, clip, batch_size, callback, progress, churn,
variance. What picture i becomes depends on the picture and (seed, i), not on the batch that it is in.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, array_module
from ..errors import BadInput
from .forward import q_sample
from .guidance import Guidance
from .samplers import Draw, Walk, check_request, draws, in_batches, sample, sample_shape, time_steps, walks
from .schedules import Schedule
from .solvers import Answer, Euler, Heun

CLIMBS = {"ddim": Euler, "heun": Heun}  # which can be walked up as well: ddim without η is euler on the straight road
PART = 1024  # pictures that are drawn before they are written
ALIKE = 1e-6  # sin Ω, below which an arc and a straight line are the same


def image_to_image(
    model: Any, schedule: Schedule, images: Any, labels: Any, strength: float = 0.5, steps: int | Sequence[int] | None = None, **how: Any
) -> np.ndarray:
    """Pictures made anew from their rough shapes (Meng et al. 2022, algorithm 1).            # (N,C,H,W) -> (N,C,H,W)

        x_τ = a_τ x + σ_τ ε,   τ = strength · T,   and down from there

    Noise drowns the details first. What is drowned at τ the model makes up, as the label says; what still shows, stays.

    strength   0 gives the pictures back, 1 leaves of them what the schedule leaves at T
    steps      of the whole road, as in :func:`sample`; those below τ are taken
    """
    images = checked_pictures("image_to_image", model, images, labels, how.get("clip", True))
    if not 0.0 <= strength <= 1.0:
        raise BadInput(f"image_to_image: strength must lie between 0 and 1, got {strength}")
    times = steps_below(schedule, round(strength * schedule.T), steps)

    def noised(indices: np.ndarray, draw: Draw, home: Array) -> Array:
        x = backend.asarray(images[indices], like=home)
        return q_sample(schedule, x, times[0], draw()) if times[0] else x

    return walks("image_to_image", model, schedule, labels, times, noised, **how)


def denoise(
    model: Any, schedule: Schedule, noisy: Any, labels: Any, sigma: float, steps: int | Sequence[int] | None = None, **how: Any
) -> np.ndarray:
    """Clean pictures x from y = x + sigma n, n ~ N(0, 1).            # (N,C,H,W) -> (N,C,H,W)

    a y is what the forward process makes of x at the step where σ/a = sigma: the walk begins at the step that comes nearest
    to it. With "ddpm" what comes out is drawn from p(x | y), one of the pictures that may have been; below half of the first
    step's noise y is given back.

    noisy   any numbers: noise leads out of [−1,1]
    """
    noisy = checked_pictures("denoise", model, noisy, labels, clip=False)
    with np.errstate(divide="ignore"):
        ratio = schedule.noise / schedule.signal
    most = ratio[np.isfinite(ratio)][-1]                         # a step without signal would make a y = 0 of y
    if not 0.0 <= sigma <= most:
        raise BadInput(f"denoise: sigma must lie between 0 and {most:.3g}, the most noise on this schedule; got {sigma}")
    t = int(np.argmin(np.abs(ratio - sigma)))
    a, times = float(schedule.signal[t]), steps_below(schedule, t, steps)
    return walks("denoise", model, schedule, labels, times, lambda indices, draw, home: a * backend.asarray(noisy[indices], like=home), **how)


def inpaint(
    model: Any, schedule: Schedule, images: Any, mask: Any, labels: Any, resample: int = 4, jump: int = 1,
    steps: int | Sequence[int] | None = None, **how: Any,
) -> np.ndarray:  # fmt: skip
    """Pictures of which only a part is known (Lugmayr et al. 2022, algorithm 1).            # (N,C,H,W) -> (N,C,H,W)

        known    x_s = a_s x + σ_s ε                       as the forward process has it, new ε at each step
        unknown  x_s from x_t                              the sampler's step
        x_s = m known + (1 − m) unknown

    The known part is told, not asked: the unknown part of x_s was made before it was seen, and does not fit. So go back up
    with fresh noise and down again, `resample` times: each time the unknown part is made beside a known part that was there.

    mask       True where the picture is known: (N,C,H,W) or what broadcasts to it. There the result is the picture, exactly;
               what the other pixels hold does not matter
    resample   how often each part of the way is gone once more; 0 never
    jump       how many steps such a part has (j in the paper's appendix B)
    """
    images = np.where(mask := checked_mask(model, images, mask), images, 0.0)
    images = checked_pictures("inpaint", model, images, labels, how.get("clip", True))
    for name, value, least in (("resample", resample, 0), ("jump", jump, 1)):
        if int(value) != value or value < least:
            raise BadInput(f"inpaint: {name} must be a whole number, {least} or more; got {value}")
    times = back_and_forth(time_steps(schedule.T, steps), int(resample), int(jump))

    def known(indices: np.ndarray, draw: Draw, xs: Array, s: int) -> Array:
        m, x = (backend.asarray(of[indices], like=xs) for of in (mask, images))
        return array_module(xs).where(m, q_sample(schedule, x, s, draw()) if s else x, xs)

    def start(indices: np.ndarray, draw: Draw, home: Array) -> Array:
        return known(indices, draw, draw() * float(schedule.noise[times[0]]), times[0])

    return walks("inpaint", model, schedule, labels, times, start, known, **how)


def invert(
    model: Any, schedule: Schedule, images: Any, labels: Any, steps: int | Sequence[int] | None = None, sampler: str = "ddim",
    guidance: float | Guidance = 0.0, seed: int | None = None, clip: bool | str = True, batch_size: int = 64, progress: bool = False,
) -> np.ndarray:  # fmt: skip
    """The noise x_T that the noise-free walk turns into these pictures.            # (N,C,H,W) -> (N,C,H,W)

    The walk of `ddim` follows a curve (see `solvers`), and a curve can be followed up as well (Song et al. 2021, section 4.3):

        x_t = a_t x̂0(x_s) + σ_t ε̂(x_s),   s < t

    A step up asks at its lower end and the step down at its upper, so the way back misses by what the slope changes in
    between: less, the more steps there are. A network knows no t = 0: the first step asks about a_1 x0 at t = 1.

    sampler    "ddim" or, with two questions a step and an error of the second order, "heun"
    guidance   leads back only for small w: the pull of w is not the same going up (Mokady et al. 2023, section 3)
    clip       of x̂0 on the way, as in :func:`sample`; it must be the same on the way back
    seed       None: x0 itself, which no network has seen at t = 1, goes up; where it does not spread, as in a black ground,
               neither does its noise, and x_T is less than N(0, 1). With a seed it goes up from a_1 x0 + σ_1 ε: x_T is
               noise as `sample` starts from, and leads back to what the model takes for x0
    """
    labels = np.asarray(labels)
    images = checked_pictures("invert", model, images, labels, clip)
    check_request(model, labels, seed or 0, batch_size)
    times = time_steps(schedule.T, steps)[::-1]
    times = times if seed is None else [1, *(t for t in times if t > 1)]
    if sampler not in CLIMBS:
        raise BadInput(f"invert: sampler {sampler!r} cannot be walked up; it is one of: {', '.join(CLIMBS)}")

    def climb(indices: np.ndarray, home: Array, bar: Any) -> Array:
        walk = Walk(model, schedule, labels[indices], no_noise, sampler, guidance, clip=clip)

        def ask(x: Array, t: int) -> Answer:
            return walk.ask(x if t else float(schedule.signal[1]) * x, max(t, 1))

        solver = CLIMBS[sampler](schedule, ask, no_noise, len(times) - 1)
        x = backend.asarray(images[indices], like=home)
        if seed is not None:
            x = q_sample(schedule, x, 1, draws(seed, int(indices[0]), x.shape, home)())
        for s, t in itertools.pairwise(times):
            x, _ = solver.step(x, s, t)
            bar.update()
        return x

    return in_batches("invert", model, len(images), batch_size, climb, len(times) - 1, progress)


def decode(
    model: Any, schedule: Schedule, latents: Any, labels: Any, steps: int | Sequence[int] | None = None, sampler: str = "ddim",
    **how: Any,
) -> np.ndarray:  # fmt: skip
    """The pictures that given x_T lead to: the way back of `invert`.            # (N,C,H,W) -> (N,C,H,W)"""
    latents = checked_pictures("decode", model, latents, labels, clip=False)
    times = time_steps(schedule.T, steps)
    return walks("decode", model, schedule, labels, times, lambda indices, draw, home: backend.asarray(latents[indices], like=home),
                 sampler=sampler, **how)  # fmt: skip


def interpolate(
    model: Any, schedule: Schedule, images_a: Any, images_b: Any, labels: Any, count: int = 8, steps: int | Sequence[int] | None = None,
    sampler: str = "ddim", guidance: float | Guidance = 0.0, seed: int | None = None, clip: bool | str = True, batch_size: int = 64,
) -> np.ndarray:  # fmt: skip
    """From one picture to another by way of pictures: `slerp` of what `invert` gives, decoded.            # -> (N,count,C,H,W)

    The first and the last are the two themselves, as well as the way up and down finds them again.

    labels   (N,), what both pictures of a pair show; −1 if they show different things
    seed     as in `invert`; digits blend more smoothly without
    """
    if int(count) != count or count < 2:
        raise BadInput(f"interpolate: count must be a whole number, 2 or more; got {count}")
    how: dict[str, Any] = dict(steps=steps, sampler=sampler, guidance=guidance, clip=clip, batch_size=batch_size)
    a, b = (checked_pictures("interpolate", model, images, labels, clip) for images in (images_a, images_b))
    pairs = np.stack([a, b], axis=1).reshape(-1, *a.shape[1:])                                  # a_0, b_0, a_1, b_1, …
    latents = invert(model, schedule, pairs, np.repeat(labels, 2), seed=seed, **how)
    a, b = latents[0::2], latents[1::2]
    between = np.stack([slerp(a, b, w) for w in np.linspace(0.0, 1.0, int(count))], axis=1)     # (N,count,C,H,W)
    pictures = decode(model, schedule, between.reshape(-1, *a.shape[1:]), np.repeat(labels, int(count)), **how)
    return pictures.reshape(between.shape)


def slerp(a: Array, b: Array, w: float) -> Array:
    """Spherical linear interpolation of the rows of a and b (Shoemake 1985, section 3.3).            # (N,…), (N,…) -> (N,…)

        (sin((1 − w) Ω) a + sin(w Ω) b) / sin Ω,      cos Ω = a·b / |a| |b|

    Noise of D numbers lies near a sphere of radius √D. The middle of a straight line between two such points, which are
    nearly at right angles, has only 1/√2 of that length, where there is no noise; the arc stays on the sphere. Rows that
    point along one line have no arc, or no one arc, and take the straight line.
    """
    if a.shape != b.shape:
        raise BadInput(f"slerp: a and b must have one shape, got {a.shape} and {b.shape}")
    xp = array_module(a)
    u, v = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    length = xp.sqrt((u * u).sum(1) * (v * v).sum(1))
    cosine = xp.where(length > 0, (u * v).sum(1) / xp.where(length > 0, length, 1.0), 1.0)
    omega = xp.arccos(xp.clip(cosine, -1.0, 1.0))[:, None]
    straight = xp.sin(omega) < ALIKE
    sine = xp.where(straight, 1.0, xp.sin(omega))
    of_a = xp.where(straight, 1.0 - w, xp.sin((1.0 - w) * omega) / sine)
    of_b = xp.where(straight, w, xp.sin(w * omega) / sine)
    return (of_a * u + of_b * v).astype(a.dtype).reshape(a.shape)


def write_augmented(
    path: str | Path, model: Any, schedule: Schedule, per_class: int, classes: Sequence[int] | None = None, overwrite: bool = False,
    **how: Any,
) -> Path:  # fmt: skip
    """A sample archive to train a classifier with, `per_class` pictures of each class, the classes in turn.

    The file (`evaluate.read_samples` reads it) appears whole or not at all. Any number of pictures fits into memory: PART of
    them are there at a time.

    classes     labels; all that the model knows when None
    overwrite   whether a file that is there may be replaced
    how         any option of :func:`sample`
    """
    from ..evaluate.samples import write_samples

    path = Path(path)
    if path.suffix != ".npz":
        raise BadInput(f"write_augmented: {path}: unknown ending '{path.suffix}'; it must be .npz")
    if path.exists() and not overwrite:
        raise BadInput(f"write_augmented: {path} is there already; give another path, or overwrite=True")
    if int(per_class) != per_class or per_class < 1:
        raise BadInput(f"write_augmented: per_class must be a whole number, 1 or more; got {per_class}")
    labels = np.tile(range(model.config["num_classes"]) if classes is None else np.asarray(classes), int(per_class))
    first, seed = how.pop("first", 0), how.get("seed", 0)
    check_request(model, labels, seed, how.get("batch_size", 64))
    parts = (sample(model, schedule, labels[i : i + PART], first=first + i, **how) for i in range(0, len(labels), PART))
    return write_samples(path, labels, parts)


# --------------------------------------------------------------------------------------- the ways and the checks


def steps_below(schedule: Schedule, start: int, steps: int | Sequence[int] | None) -> list[int]:
    """The steps from `start` down: itself, and those of the whole road that lie below."""
    return [start, *(t for t in time_steps(schedule.T, steps) if t < start)]


def back_and_forth(times: list[int], resample: int, jump: int) -> list[int]:
    """The way down with each stretch of `jump` steps walked resample + 1 times; but the last, which ends in the picture, once.

    back_and_forth([3, 2, 1, 0], 1, 1) -> [3, 2, 3, 2, 1, 2, 1, 0]
    """
    way = [times[0]]
    for i in range(0, len(times) - 1, jump):
        stretch = times[i : i + jump + 1]
        way += stretch[1:]
        if stretch[-1] > 0:
            way += resample * stretch
    return way


def no_noise() -> Array:
    """In the place of fresh noise, for a walk that must not draw any."""
    raise AssertionError("this walk draws no noise")


def checked_pictures(name: str, model: Any, images: Any, labels: Any, clip: bool | str) -> np.ndarray:
    """The pictures as float32, one for each label. Raises BadInput for others."""
    images, n, shape = np.asarray(images), np.size(labels), sample_shape(model)
    if images.dtype.kind != "f" or images.shape != (n, *shape):
        raise BadInput(f"{name}: images must be float {(n, *shape)}, one for each label; got {images.dtype} {images.shape}")
    if not np.isfinite(images).all():
        raise BadInput(f"{name}: images hold NaN or infinity")
    if clip and images.size and np.abs(images).max() > 1.0 + 1e-5:
        raise BadInput(f"{name}: images run {images.min():g} … {images.max():g}; they must lie in [-1,1], or clip must be False")
    return images.astype(np.float32)


def checked_mask(model: Any, images: Any, mask: Any) -> np.ndarray:
    """The mask, as large as the images. Raises BadInput."""
    mask, shape = np.asarray(mask), np.shape(images)
    if mask.dtype != bool or mask.ndim > len(shape) or any(m not in (1, n) for m, n in zip(mask.shape[::-1], shape[::-1], strict=False)):
        raise BadInput(f"inpaint: mask must be bool and broadcast to {shape}, True where the picture is known; got {mask.dtype} {mask.shape}")
    return np.broadcast_to(mask, shape)
