"""Chapter 22: what a trained model does with pictures that are there already."""

import numpy as np

from ... import diffusion
from ..task import Task


def slerp(a, b, w):
    """From one noise to another along the arc between them (Shoemake 1985).            # (N,D) (N,D) -> (N,D)

        cos Ω = a·b / (|a| |b|),    (sin((1 − w) Ω) a + sin(w Ω) b) / sin Ω            row by row

    Noise of D numbers lies near a sphere. The middle of the straight line lies inside of it, where no noise is.
    """
    cosine = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    omega = np.arccos(cosine)[:, None]
    return (np.sin((1 - w) * omega) * a + np.sin(w * omega) * b) / np.sin(omega)


def keep_known(xs, x0, mask, eps, alpha_bar_s):
    """Inpainting: after each step, what is known of the picture is put back, as noisy as x_s is.            # (N,C,H,W) … -> (N,C,H,W)

        known = √ᾱ_s x0 + √(1 − ᾱ_s) ε
        x_s ← known where mask is 1, x_s where it is 0            mask (N,1,H,W)
    """
    known = np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 - alpha_bar_s) * eps
    return np.where(mask == 1, known, xs)


def _inpaint_cases(rng):
    for n, c, size, a in [(1, 1, (3, 3), 0.5), (2, 3, (2, 4), 0.1), (2, 1, (2, 2), 1.0)]:
        xs, x0, eps = rng.standard_normal((3, n, c, *size))
        yield xs, x0, rng.integers(0, 2, (n, 1, *size)).astype(float), eps, a


def _keep(xs, x0, mask, eps, alpha_bar_s):
    alpha_bar = np.array([1.0, alpha_bar_s])
    road = diffusion.Schedule("", np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), alpha_bar, {})
    return mask * diffusion.q_sample(road, x0, 1, eps) + (1 - mask) * xs


TASKS = [
    Task(
        slerp, "Along the arc", 22, "easy", 10,
        reference=diffusion.slerp,
        cases=lambda rng: [(*rng.standard_normal((2, n, d)), w) for n, d, w in [(1, 3, 0.5), (4, 6, 0.2), (2, 5, 1.0)]],
        hints=("Each row has an angle of its own.", "sum over axis 1 for a·b and the lengths; then Ω as a column, (N,1).", "omega = np.arccos(cosine)[:, None]; (np.sin((1 − w) * omega) * a + np.sin(w * omega) * b) / np.sin(omega)."),
        slips=[
            ("return (np.sin((1 - w) * omega) * a + np.sin(w * omega) * b) / np.sin(omega)", "return (1 - w) * a + w * b", "this is the straight line, whose middle is too short to be noise"),
            (" / np.sin(omega)", "", "the division by sin Ω is missing"),
            ("np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))", "a.shape[1]", "cos Ω wants the lengths of a and b as they are; they are only near √D"),
            ("np.sin((1 - w) * omega) * a + np.sin(w * omega) * b", "np.sin(w * omega) * a + np.sin((1 - w) * omega) * b", "a and b are exchanged: w = 0 is a"),
            ("omega = np.arccos(cosine)[:, None]", "omega = cosine[:, None]", "Ω is the angle, the arc cosine of it"),
        ],
    ),
    Task(
        keep_known, "Put back what is known", 22, "easy", 10,
        reference=_keep, cases=_inpaint_cases,
        hints=("x_s is noisy. What is put into it must be as noisy.", "The known part is q_sample of the picture at step s.", "known = np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 − alpha_bar_s) * eps; np.where(mask == 1, known, xs)."),
        slips=[
            ("np.where(mask == 1, known, xs)", "np.where(mask == 1, x0, xs)", "the known part must be as noisy as x_s: √ᾱ_s x0 + √(1 − ᾱ_s) ε"),
            ("np.where(mask == 1, known, xs)", "np.where(mask == 0, known, xs)", "the mask is taken the other way round: 1 is known"),
            ("known = np.sqrt(alpha_bar_s) * x0 + np.sqrt(1 - alpha_bar_s) * eps", "known = np.sqrt(alpha_bar_s) * x0", "the noise is missing in the known part"),
            ("np.where(mask == 1, known, xs)", "mask * known + xs", "the known part must replace x_s, not be added to it"),
        ],
    ),
]  # fmt: skip
