"""The learner's function in the library's place: a network that trains, or draws, with it.

    with swapped("conv2d_backward", mine) as calls: …

Each swap is a function that takes the learner's and gives a list of (owner, name, replacement); they are put in place for
the block, and the library's own back afterwards. `calls[0]` counts how often the learner's function was called.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend, data, diffusion, models, nn, ops, optim
from ..diffusion import samplers, solvers
from ..diffusion.variance import split_answer
from ..errors import BadInput
from ..models.conditions import SinusoidalPositionEmbedBlock
from ..ops.activation import GELU
from ..ops.conv import Conv2d, ConvTranspose2d
from ..ops.norm import GroupNorm
from ..optim.adam import Adam
from ..tensor import Tensor

Function = Callable[..., Any]
Places = list[tuple[Any, str, Any]]
EQUAL = 1e-3  # how far losses may part, relative to their size: float32 in another order of adding

STEPS, BATCH, LR, T, PICTURES = 20, 16, 3e-3, 50, 256
NETWORK = {"channels": (16, 32), "condition": "before-mid", "time_dim": 8, "patch": 2, "target": "v"}
DRAW_STEPS, GUIDANCE = 8, 2.0

_loss = sys.modules["minidiff.diffusion.loss"]  # the module: its name in the package is that of its function


# ------------------------------------------------------------------------------------- what goes where


def _conv2d(mine: Function) -> Places:
    usual = Conv2d.forward

    def forward(self: Conv2d, x: Any, w: Any, b: Any = None) -> Any:
        if not _plain(self.options):
            return usual(self, x, w, b)
        return mine(x, w, np.zeros(len(w), x.dtype) if b is None else b, self.stride[0], self.padding[0])

    return [(Conv2d, "forward", forward)]


def _conv2d_backward(mine: Function) -> Places:
    usual = Conv2d.backward

    def backward(self: Conv2d, gy: Any) -> Any:
        if not _plain(self.options):
            return usual(self, gy)
        x, w = self.saved[:2]
        return tuple(mine(x, w, gy, self.stride[0], self.padding[0]))[: len(self.needs)]

    return [(Conv2d, "backward", backward)]


def _conv_transpose2d(mine: Function) -> Places:
    usual = ConvTranspose2d.forward

    def forward(self: ConvTranspose2d, x: Any, w: Any, b: Any = None) -> Any:
        if not _plain(self.options) or self.padding != (0, 0) or self.output_padding != (0, 0):
            return usual(self, x, w, b)
        y = mine(x, w, self.stride[0])
        return y if b is None else y + b[:, None, None]

    return [(ConvTranspose2d, "forward", forward)]


def _plain(options: dict[str, Any]) -> bool:
    """Whether a convolution has the options that the exercises know."""
    pairs = [options["stride"], options["padding"]]
    return options["groups"] == 1 and options["dilation"] == (1, 1) and all(a == b for a, b in pairs)


def _apart(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """GroupNorm, then GELU, where the library does both in one pass."""
    return ops.gelu(ops.group_norm(x, groups, weight, bias, eps))


_SPLIT: Places = [(nn.functional, "group_norm_gelu", _apart)]


def _group_norm(mine: Function) -> Places:
    usual = GroupNorm.forward

    def forward(self: GroupNorm, x: Any, gamma: Any, beta: Any) -> Any:
        y = usual(self, x, gamma, beta)                              # which keeps what backward needs
        return mine(x, gamma, beta, self.groups, self.eps) if gamma.ndim == 1 and x.ndim == 4 else y

    return [*_SPLIT, (GroupNorm, "forward", forward)]


def _group_norm_backward(mine: Function) -> Places:
    usual = GroupNorm.backward

    def backward(self: GroupNorm, gy: Any) -> Any:
        x, gamma, _ = self.saved
        return tuple(mine(x, gamma, gy, self.groups, self.eps)) if gamma.ndim == 1 and x.ndim == 4 else usual(self, gy)

    return [*_SPLIT, (GroupNorm, "backward", backward)]


def _gelu_backward(mine: Function) -> Places:
    usual = GELU.backward

    def backward(self: GELU, gy: Any) -> Any:
        return mine(self.saved[0], gy) if self.approximate == "none" else usual(self, gy)

    return [*_SPLIT, (GELU, "backward", backward)]


def _time_embedding(mine: Function) -> Places:
    def forward(self: SinusoidalPositionEmbedBlock, t: Any) -> Tensor:
        return Tensor(mine(np.asarray(t.data if isinstance(t, Tensor) else t), self.dim).astype(np.float32))

    return [(SinusoidalPositionEmbedBlock, "forward", forward)]


def _adam_step(mine: Function) -> Places:
    def adapt(self: Adam, p: Any, g: Any, t: int, m: Any, v: Any, s: Any) -> None:
        p[...], m[...], v[...] = mine(p.copy(), g, m.copy(), v.copy(), t, self.lr, *self.betas, self.eps)

    return [(Adam, "_adapt", adapt)]


def _q_sample(mine: Function) -> Places:
    return [(_loss, "q_sample", lambda schedule, x0, t, eps: mine(x0, t, eps, schedule.alpha_bar))]


def _drop_labels(mine: Function) -> Places:
    return [(_loss, "drop_labels", lambda labels, drop, rng: mine(labels, drop, rng.random(len(labels))))]


def _ddim_step(mine: Function) -> Places:
    def step(schedule: Any, xt: Any, x0: Any, t: int, s: int, draw: Function, eta: float, eps: Any = None) -> Any:
        z = draw() if eta and s else np.zeros_like(xt)
        return mine(xt, x0, float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s]), eta, z)

    return [(solvers, "ddim_step", step)]


def _posterior(mine: Function) -> Places:
    def step(schedule: Any, xt: Any, x0: Any, t: int, s: int, draw: Function, variance: str = "small", v: Any = None) -> Any:
        mean, small = mine(xt, x0, float(schedule.alpha_bar[t]), float(schedule.alpha_bar[s]))
        return mean if s == 0 else mean + float(np.sqrt(small)) * draw()

    return [(solvers, "ddpm_step", step)]


def _guided(mine: Function) -> Places:
    usual = samplers.guided_output

    def output(model: Any, xt: Any, t: int, labels: Any, w: float, negative: int = -1, *more: Any) -> Any:
        if w == 0:
            return usual(model, xt, t, labels, w, negative, *more)
        cond, uncond = (split_answer(model, usual(model, xt, t, told, 0.0))[0] for told in (labels, np.full_like(labels, negative)))
        return mine(cond, uncond, w)

    return [(samplers, "guided_output", output)]


SWAPS: dict[str, Callable[[Function], Places]] = {
    "conv2d": _conv2d, "conv2d_backward": _conv2d_backward, "conv_transpose2d": _conv_transpose2d, "q_sample": _q_sample,
    "group_norm": _group_norm, "group_norm_backward": _group_norm_backward, "gelu_backward": _gelu_backward,
    "time_embedding": _time_embedding, "adam_step": _adam_step, "drop_labels": _drop_labels, "posterior": _posterior,
    "ddim_step": _ddim_step, "guided": _guided,
}  # fmt: skip
SAMPLERS = {"posterior": "ddpm", "ddim_step": "ddim", "guided": "ddim"}  # these draw; the others train


@contextlib.contextmanager
def swapped(name: str, mine: Function) -> Iterator[list[int]]:
    """The learner's function in the library's place; gives the count of its calls. Raises BadInput for what cannot be swapped."""
    if name not in SWAPS:
        raise BadInput(f"exercises: {name} has no place in the network or the sampler; these have: {', '.join(SWAPS)}")
    calls = [0]

    @functools.wraps(mine)
    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        like = next((a.dtype for a in arguments if isinstance(a, np.ndarray) and a.dtype.kind == "f"), None)
        result = mine(*arguments)
        return tuple(_narrow(r, like) for r in result) if isinstance(result, tuple | list) else _narrow(result, like)

    places = SWAPS[name](counted)
    usual = [(owner, attribute, vars(owner)[attribute]) for owner, attribute, _ in places]
    try:
        for owner, attribute, replacement in places:
            setattr(owner, attribute, replacement)
        yield calls
    finally:
        for owner, attribute, own in usual:
            setattr(owner, attribute, own)


def _narrow(result: Any, dtype: Any) -> Any:
    """The network's numbers are float32, and a learner's function need not think of that."""
    return result.astype(dtype) if dtype is not None and isinstance(result, np.ndarray) and result.dtype.kind == "f" else result


# ------------------------------------------------------------------------------------- train, draw, compare


@dataclass(frozen=True)
class Comparison:
    """Library and learner: the losses of each step, the pictures, seconds, and how often the learner was called."""

    losses: tuple[list[float], list[float]]
    pictures: tuple[np.ndarray, np.ndarray]
    seconds: tuple[float, float]
    calls: int

    @property
    def apart(self) -> float:
        """How far the losses part, relative to the library's."""
        a, b = (np.array(losses) for losses in self.losses)
        return float(np.max(np.abs(a - b) / np.abs(a))) if len(a) else 0.0

    @property
    def pixels(self) -> float:
        """The largest difference of a pixel."""
        return float(np.abs(self.pictures[0] - self.pictures[1]).max())

    @property
    def equal(self) -> bool:
        """Whether the learner's training and pictures are the library's, to rounding."""
        return bool(self.calls and self.apart < EQUAL and self.pixels < 20 * EQUAL)                # a NaN is not below

    def __str__(self) -> str:
        rows = [("step", "library", "yours", "difference")]
        a, b = self.losses
        for k in sorted({0, 1, len(a) // 2, len(a) - 1} & set(range(len(a)))):
            rows.append((str(k + 1), f"{a[k]:.6f}", f"{b[k]:.6f}", f"{abs(a[k] - b[k]):.1e}"))
        lines = ["  ".join(f"{text:>10}" for text in row) for row in rows] if a != b else [f"losses of {len(a)} steps: the same"]
        return "\n".join([*lines, f"pictures differ by {self.pixels:.1e} at most",
                          f"seconds: library {self.seconds[0]:.1f}, yours {self.seconds[1]:.1f}; called {self.calls:,} times"])  # fmt: skip


def compare(name: str, mine: Function, steps: int = STEPS) -> Comparison:
    """Train a small network on glyphs, and draw ten digits, with the library's function and with the learner's."""
    data.load("glyphs", limit=PICTURES)                             # drawn once, and not timed
    ours = _run(name, None, steps)
    theirs = _run(name, mine, steps)
    return Comparison((ours[0], theirs[0]), (ours[1], theirs[1]), (ours[2], theirs[2]), theirs[3])


def _run(name: str, mine: Function | None, steps: int) -> tuple[list[float], np.ndarray, float, int]:
    """Losses, pictures, seconds, calls. What draws is in place while drawing alone, what trains all the time."""
    started, calls = time.perf_counter(), [0]
    digits = data.load("glyphs", limit=PICTURES)
    road = diffusion.make_schedule("cosine", T=T)
    place = swapped(name, mine) if mine else contextlib.nullcontext(calls)
    with place as calls:
        backend.manual_seed(0)
        model = models.UNet(**NETWORK)
        optimizer, rng, losses = optim.AdamW(model.parameters(), lr=LR), np.random.default_rng(0), []
        for _ in range(steps):
            picked = rng.integers(0, len(digits), BATCH)
            loss = diffusion.loss(model, road, data.to_model(digits.images[picked]), digits.labels[picked], rng, drop=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        pictures = diffusion.sample(model, road, np.arange(10), SAMPLERS.get(name, "ddim"), DRAW_STEPS, GUIDANCE)
    return losses, pictures, time.perf_counter() - started, calls[0]
