"""Curves: the loss of a run, runs compared, noise schedules, errors against step size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput
from .images import as_array
from .style import (
    FAINT,
    INK,
    LABEL,
    LINES,
    MUTED,
    SMALL,
    WIDTH,
    colour,
    fit_title,
    house_look,
    line_style,
    new_figure,
    tidy,
)
from .text import in_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CROWD = 200  # more points than this are drawn pale, with their moving average on top
MARK = {"marker": "o", "ms": 4.5, "mec": "white", "mew": 0.8}


@house_look
def loss_curve(
    steps: np.ndarray,
    losses: np.ndarray,
    smoothed: np.ndarray | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    epochs: np.ndarray | None = None,
    title: str | None = None,
    log: bool = True,
) -> Figure:
    """Training loss against steps: each value pale, the moving average strong, its last value written.

    steps, losses: (n,). smoothed: (n,), drawn as given; by default the mean over a window of about 2 % of
    the run. validation: (steps, losses) measured now and then. epochs: (n,), the position in epochs at each
    step, which adds a second scale on top. log: a logarithmic loss axis. What is not finite is left out.
    """
    steps, losses = pair("viz.loss_curve", "losses", steps, losses)
    window = window_for(len(losses))
    name = "training" if window == 1 else f"training, mean of {window:,}"
    average = moving_average(losses, window)
    if smoothed is not None:
        name, average = "training, smoothed", pair("viz.loss_curve", "smoothed", steps, smoothed)[1]
    fig = new_figure()
    ax = fig.add_subplot()
    if smoothed is not None or window > 1:
        ax.plot(steps, losses, color=colour(0), alpha=0.25, lw=0.8, label="training, each value")
    ax.plot(steps, average, color=colour(0), lw=2.2, label=name)
    write_last(ax, steps, average, colour(0))
    if validation is not None:
        at, values = pair("viz.loss_curve", "validation", *validation)
        ax.plot(at, values, color=colour(1), lw=1.6, label="validation", **MARK)
    finish(ax, "step", "mean squared error", log)
    if epochs is not None:
        epoch_scale(ax, steps, pair("viz.loss_curve", "epochs", steps, epochs)[1])
    ax.legend(loc="best")
    ax.set_title(fit_title(title)[0])
    return fig


@house_look
def compare_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    xlabel: str = "step",
    ylabel: str = "mean squared error",
    title: str | None = None,
    log: bool = False,
) -> Figure:
    """Several curves {name: (x, y)}, each in a colour of its own; the legend gives their last values.

    A curve of more than 200 points is drawn pale with its moving average strong; a shorter one as it is,
    and up to 30 points are marked.
    """
    if not curves:
        raise BadInput("viz.compare_curves: there are no curves to draw")
    fig = new_figure()
    ax = fig.add_subplot()
    for i, (name, (x, y)) in enumerate(curves.items()):
        x, y = pair("viz.compare_curves", name, x, y)
        if len(y) > CROWD:
            ax.plot(x, y, color=colour(i), alpha=0.15, lw=0.7)
            y = moving_average(y, window_for(len(y)))
        last = y[np.isfinite(y)][-1:]
        label = in_legend(f"{name}: {last[0]:.3g}" if len(last) else name)
        ax.plot(x, y, color=colour(i), ls=line_style(i), lw=2, label=label, **(MARK if len(y) <= 30 else {}))
    finish(ax, xlabel, ylabel, log)
    ax.legend(loc="best")
    ax.set_title(fit_title(title)[0])
    return fig


@house_look
def schedule_plot(schedules: Mapping[str, np.ndarray], title: str | None = None) -> Figure:
    """How fast each schedule destroys the image: √ᾱ_t, the signal that is left, and SNR = ᾱ/(1 − ᾱ) in dB.

    schedules: {name: alpha_bar (T+1,)} with alpha_bar[0] = 1. Both are drawn against t/T, so that schedules
    of different T compare; at 0 dB there is as much noise as signal. The legend says how much signal is
    left at T: what is above 0 there is what sampling from pure noise does not know about.
    """
    if not schedules:
        raise BadInput("viz.schedule_plot: there are no schedules to draw")
    fig = new_figure(WIDTH, 4.2)
    signal, snr = fig.subplots(1, 2)
    for i, (name, alpha_bar) in enumerate(schedules.items()):
        alpha_bar = as_array(alpha_bar).astype(float)
        if alpha_bar.ndim != 1 or len(alpha_bar) < 2 or not np.isclose(alpha_bar[0], 1):
            begin = ", ".join(f"{a:.4g}" for a in alpha_bar.flat[:2])
            raise BadInput(
                f"viz.schedule_plot: {name}: alpha_bar must be (T+1,) and begin with 1; "
                f"it is {alpha_bar.shape} and begins with {begin}"
            )
        T = len(alpha_bar) - 1
        at, look = np.arange(T + 1) / T, {"color": colour(i), "ls": line_style(i), "lw": 2}
        left = in_legend(f"{name}, T = {T:,}: {np.sqrt(alpha_bar[-1]):.3g} left")
        signal.plot(at, np.sqrt(alpha_bar), label=left, **look)
        with np.errstate(divide="ignore"):  # ±∞ at the two ends is the truth, and is not drawn
            decibel = 10 * np.log10(alpha_bar / (1 - alpha_bar))
        snr.plot(at, np.where(np.isfinite(decibel), decibel, np.nan), **look)
    for ax, name in ((signal, r"signal left, $\sqrt{\bar\alpha_t}$"), (snr, "signal-to-noise ratio in dB")):
        ax.set(xlabel="$t / T$", xlim=(0, 1))
        ax.set_title(name, size=SMALL + 1, weight="normal")
        tidy(ax)
    signal.set_ylim(0, 1.02)
    snr.axhline(0, color=MUTED, lw=1, ls=(0, (4, 3)))
    # Below the line on the left: every schedule begins with more signal than noise, so no curve is there.
    snr.annotate(
        "noise = signal", (0.015, 0), (0, -4), textcoords="offset points", size=SMALL, color=MUTED, va="top"
    )
    fig.legend(loc="outside lower center", ncols=2 if len(schedules) > 1 else 1)
    if title:
        fig.suptitle(fit_title(title)[0], x=0.01, ha="left", weight="bold")
    return fig


@house_look
def step_size_plot(
    steps: np.ndarray, curves: Mapping[str, Mapping[str, np.ndarray]], chosen: float, title: str | None = None
) -> Figure:
    """The error of central differences against their step h, {function: {dtype: errors (n,)}}, both logarithmic.

    steps: (n,). Each function has a colour and each dtype a line style; `chosen` is marked. Two faint lines
    show the laws: on the right the error falls with h², on the left rounding makes it rise with 1/h.
    """
    if not curves:
        raise BadInput("viz.step_size_plot: there are no curves to draw")
    fig = new_figure(WIDTH, 5.0)
    ax = fig.add_subplot()
    ax.set(xscale="log", yscale="log")
    dtypes = list(dict.fromkeys(dtype for by_dtype in curves.values() for dtype in by_dtype))
    for i, (name, by_dtype) in enumerate(curves.items()):
        for dtype, errors in by_dtype.items():
            h, errors = pair("viz.step_size_plot", f"{name}, {dtype}", steps, errors)
            first = dtype == dtypes[0]
            look = {"lw": 1.8} if first else {"lw": 1.3, "ls": LINES[dtypes.index(dtype) % len(LINES)], "alpha": 0.75}
            ax.plot(h, np.where(errors > 0, errors, np.nan), color=colour(i), label=in_legend(name) if first else None, **look)
    ax.set_xlim(steps[0], steps[-1])
    ax.set_ylim(1e-13, 30)
    _law(ax, np.array([1e-12, 3e-6]), lambda h: 2e-17 / h, r"rounding: $\varepsilon\,/\,h$", "left")
    _law(ax, np.array([3e-5, 1e-1]), lambda h: 0.005 * h**2, "the curve bends: $h^2$", "right")
    ax.axvline(chosen, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    ax.annotate(f"gradcheck's step, $10^{{{np.log10(chosen):.2g}}}$", (chosen, 1e-12), (5, 0), textcoords="offset points", size=SMALL, color=MUTED)
    for dtype in dtypes:
        _name_family(ax, steps, [by_dtype[dtype] for by_dtype in curves.values() if dtype in by_dtype], chosen, dtype)
    ax.set(xlabel="step $h$", ylabel="error of the slope, relative")
    tidy(ax)
    ax.minorticks_off()
    ax.legend(loc="lower left")
    ax.set_title(fit_title(title)[0])
    return fig


def _law(ax: Axes, h: np.ndarray, law: Callable[[np.ndarray], np.ndarray], text: str, side: str) -> None:
    """A faint line below the curves and its name beside it."""
    ax.plot(h, law(h), color=MUTED, lw=0.9, zorder=1)
    at = h[0] * 30 if side == "left" else h[1] / 100
    ax.annotate(text, (at, law(at)), (-6 if side == "left" else 6, -4), textcoords="offset points", size=SMALL,
                color=MUTED, ha="right" if side == "left" else "left", va="top")  # fmt: skip


def _name_family(ax: Axes, steps: np.ndarray, errors: Sequence[np.ndarray], chosen: float, text: str) -> None:
    """The name of a dtype above its curves, where they come down from the left."""
    top = np.max([np.where(np.isfinite(e), e, 0.0) for e in errors], axis=0)
    left = np.flatnonzero(steps <= chosen)
    k = min(int(np.argmax(top[left])) + len(left) // 8, len(steps) - 1) if len(left) else 0
    ax.annotate(text, (steps[k], top[k]), (6, 4), textcoords="offset points", size=LABEL, weight="bold", color=INK)


def pair(where: str, name: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y as float arrays (n,), n > 0."""
    x, y = as_array(x).astype(float), as_array(y).astype(float)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise BadInput(
            f"{where}: {name}: x and y must be sequences of the same length, at least 1, "
            f"not {x.shape} and {y.shape}"
        )
    return x, np.where(np.isfinite(y), y, np.nan)


def window_for(n: int) -> int:
    """An odd window: 2 % of the values, but 25 where that is no more than an eighth of them; 1 for few."""
    return 1 if n <= 30 else max(n // 50, min(n // 8, 25)) | 1


def moving_average(y: np.ndarray, window: int) -> np.ndarray:
    """Mean of the ``window`` values around each of (n,); NaN counts for nothing.

    Near the start the window is smaller and still centred, so that a steep beginning stays where it is; near
    the end it only loses its right half, so that the last value is still a mean.
    """
    known = np.isfinite(y)
    i = np.arange(len(y))
    reach = np.minimum(i, window // 2)
    low, high = i - reach, np.minimum(i + reach + 1, len(y))
    total, count = (np.concatenate([[0.0], np.cumsum(a)]) for a in (np.where(known, y, 0.0), known))
    n = count[high] - count[low]
    return np.divide(total[high] - total[low], n, out=np.full(len(y), np.nan), where=n > 0)


def finish(ax: Axes, xlabel: str, ylabel: str, log: bool) -> None:
    """Axis names, grid, plain numbers: 12,000 and 0.05 instead of 1.2e4 and 5·10⁻²."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.margins(x=0.02)
    whole = all(np.all(np.mod(line.get_xdata(), 1) == 0) for line in ax.lines)         # there is no step 1.5
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10], integer=whole))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    if log and any(np.nanmax(line.get_ydata(), initial=0) > 0 for line in ax.lines):
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        if high / low < 1.01:  # a constant: room for two numbers
            low, high = ax.set_ylim(0.9 * low, 1.1 * high)
        decades = np.log10(high / low)
        spaced = LogLocator(subs=(1, 2, 5) if decades < 3 else (1,))
        ax.yaxis.set_major_locator(spaced if decades > 0.7 else MaxNLocator(6))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    tidy(ax)


def write_last(ax: Axes, x: np.ndarray, y: np.ndarray, ink: str) -> None:
    """The last value, beside the end of the curve."""
    known = np.flatnonzero(np.isfinite(y))
    if len(known):
        last = known[-1]
        ax.plot(x[last], y[last], "o", color=ink, ms=5, mec="white", mew=0.8, clip_on=False, zorder=5)
        ax.annotate(
            f"{y[last]:.3g}",
            (x[last], y[last]),
            (6, 0),
            textcoords="offset points",
            color=ink,
            weight="bold",
            va="center",
            size=SMALL,
            annotation_clip=False,
        )


def epoch_scale(ax: Axes, steps: np.ndarray, epochs: np.ndarray) -> None:
    """Whole epochs on a second scale along the top."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(10, integer=True).tick_values(epochs[0], epochs[-1])
    ticks = [e for e in ticks if epochs[0] <= e <= epochs[-1] and e == int(e)]
    if len(ticks) < 2:
        return  # a scale needs two numbers
    top = ax.secondary_xaxis("top")
    top.set_xticks(np.interp(ticks, epochs, steps), [f"{e:.0f}" for e in ticks])
    top.set_xlabel("epoch", color=MUTED)
    top.spines["top"].set_color(FAINT)
    top.tick_params(length=3, color=FAINT)
