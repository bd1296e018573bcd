"""The symbols of the book, each with its name in code. `tests/test_book.py` holds the chapters against this table."""

from __future__ import annotations

from typing import NamedTuple


class Symbol(NamedTuple):
    """A row of the table: how a formula writes it, how the code does, the chapter that says so first, what it is,
    and what no chapter's code may call it instead."""

    formula: str
    code: str
    chapter: int
    meaning: str
    never: tuple[str, ...] = ()


DIFFUSION = (
    Symbol(r"x_0", "x0", 9, "the clean picture, numbers in [−1, 1]", ("x_0", "x_start")),
    Symbol(r"x_t", "xt", 9, "the picture after t steps of noise", ("x_t", "x_noisy")),
    Symbol(r"\epsilon", "eps", 9, "noise: standard normal, one number for each pixel", ("epsilon",)),
    Symbol(r"t", "t", 9, "the step, 1 … T", ("timestep", "timesteps")),
    Symbol(r"T", "T", 9, "how many steps there are", ("num_timesteps", "n_steps")),
    Symbol(r"\beta_t", "beta", 9, "variance of the noise that step t adds", ("betas",)),
    Symbol(r"\alpha_t", "alpha", 9, r"1 − β of the step: its share of the picture's variance", ("alphas",)),
    Symbol(r"\bar\alpha_t", "alpha_bar", 9, "product of all α up to t: what is left of the picture's variance; 1 at t = 0",
           ("alphas_bar", "alphas_cumprod", "alphabar")),
    Symbol(r"a_t,\ \sigma_t", "a, sigma", 10, "how much picture and how much noise there is at t: xt = a x0 + σ ε"),
    Symbol(r"\mathrm{snr}_t", "snr", 9, "signal to noise: a² / σ²", ("SNR",)),
    Symbol(r"\hat\epsilon", "eps_hat", 10, "the network's guess of the noise", ("eps_pred", "noise_pred", "pred_noise")),
    Symbol(r"\hat x_0", "x0_hat", 10, "the guess of the clean picture that follows from it", ("x0_pred", "pred_x0")),
    Symbol(r"v", "v", 20, "the velocity: a target between noise and picture; in flow matching ε − x0"),
    Symbol(r"w", "w", 17, "strength of guidance: (1 + w) with the class − w without", ("guidance_scale", "cfg_scale")),
)

NETWORKS = (
    Symbol(r"x,\ w,\ b,\ y", "x, w, b, y", 2, "what goes into an operation, its weights and bias, what comes out"),
    Symbol(r"\partial L/\partial x", "gx", 2, "a gradient is g and the name of the thing: gx, gw, gb, gy", ("dx", "grad_x", "x_grad")),
    Symbol(r"N,\ C,\ H,\ W", "N, C, H, W", 5, "pictures in a batch, channels, height, width: the order of the axes of every picture"),
    Symbol("K", "K", 5, "width of a convolution's kernel"),
    Symbol(r"\gamma,\ \beta", "gamma, beta", 6, "scale and shift after a normalisation; this β is not the schedule's"),
)
