"""
Forward diffusion
=================
How much noise is enough? We add Gaussian noise to a digit in T small steps, find the shortcut that jumps to any
step at once, and measure how much of the digit is left at the end. With the recipe that we follow, it is a lot.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import viz
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)

# %%
# A digit drowns
# --------------
# The forward process takes a picture x0 and adds a little noise, T times over. A step keeps
# :math:`\sqrt{1-\beta_t}` of the picture that it is given and adds noise of variance :math:`\beta_t`:
#
# .. math:: x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \epsilon_t, \qquad \epsilon_t \sim \mathcal N(0, I)
#
# Here are digits in a hundred such steps, with the :math:`\beta` of the student's report: it rises evenly from
# 0.0001 to 0.02. Index 0 is the clean picture, so that t can run 1 … T as in the papers.

x0 = md.data.to_model(md.data.load("glyphs", limit=20).images).astype(np.float64)  # (N,C,H,W) in [-1,1]
T = 100
beta = np.concatenate([[0.0], np.linspace(1e-4, 0.02, T)])
rng = np.random.default_rng(0)

xs = [x0]
for t in range(1, T + 1):
    eps = rng.standard_normal(x0.shape)
    xs.append(np.sqrt(1 - beta[t]) * xs[t - 1] + np.sqrt(beta[t]) * eps)


def strip(axes, frames, names):
    """One small grid of pictures for each moment."""
    for ax, frame, name in zip(axes, frames, names, strict=True):
        ax.imshow(viz.grid(frame, columns=1), cmap="gray", vmin=0, vmax=255)
        ax.set_title(name, size=9.5, weight="normal", loc="center", pad=5)
        ax.axis("off")


steps = [0, 10, 20, 30, 40, 50, 60, 80, 100]
fig, axes = plt.subplots(1, len(steps), figsize=(8, 4.7))
strip(axes, [xs[t][:5] for t in steps], [f"t = {t}" for t in steps])
fig.tight_layout(w_pad=0.4)
plt.show()

# %%
# Look at the last column. The noise is strong, and every digit can still be read.
#
# The shortcut
# ------------
# Why the two square roots? If every pixel of :math:`x_{t-1}` has variance 1, then so has every pixel of
# :math:`x_t`, because :math:`(1-\beta_t) + \beta_t = 1`. The numbers neither explode nor vanish.
#
# And they make the steps collapse into one. Write :math:`\alpha_t = 1-\beta_t`. Two steps give
# :math:`\sqrt{\alpha_2\alpha_1}\,x_0` and two noises; independent Gaussian noises add up to a Gaussian noise whose
# variance is the sum, here :math:`\alpha_2(1-\alpha_1) + (1-\alpha_2) = 1 - \alpha_2\alpha_1`. And so on:
#
# .. math:: x_t = \sqrt{\bar\alpha_t}\; x_0 + \sqrt{1-\bar\alpha_t}\; \epsilon,
#           \qquad \bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t, \qquad \bar\alpha_0 = 1

alpha = 1 - beta
alpha_bar = np.cumprod(alpha)
assert alpha_bar[0] == 1 and np.isclose(alpha_bar[2], alpha[1] * alpha[2])

# %%
# Is that true of our digits? What the loop added in its hundred steps must be *one* standard normal noise,
# once the picture is taken off and the rest is divided by :math:`\sqrt{1-\bar\alpha_t}`.

eps = (xs[T] - np.sqrt(alpha_bar[T]) * x0) / np.sqrt(1 - alpha_bar[T])  # a hundred noises, rolled into one
print(f"the noise of {T} steps: mean {eps.mean():+.3f}, standard deviation {eps.std():.3f}, {eps.size:,} numbers")
assert abs(eps.mean()) < 0.05 and abs(eps.std() - 1) < 0.05

# %%
# The library's two lines: ``make_schedule`` knows the :math:`\beta`, and ``q_sample`` is the shortcut. Given that
# same noise it lands on the loop's last picture. Each picture may have a t of its own; the training loop will
# want that.

schedule = md.diffusion.make_schedule("linear", T=T)
assert np.allclose(schedule.beta, beta) and np.allclose(schedule.alpha_bar, alpha_bar)
assert np.allclose(md.diffusion.q_sample(schedule, x0, T, eps), xs[T])

t = np.linspace(0, T, len(x0)).astype(int)
xt = md.diffusion.q_sample(schedule, x0, t, eps)
assert np.allclose(xt[0], x0[0]) and np.allclose(xt[-1], xs[T][-1])

# %%
# The number to remember: 60 %
# ----------------------------
# At the end, :math:`\sqrt{\bar\alpha_T}` of the picture is left.

left = np.sqrt(alpha_bar[T])
print(f"signal left at T = {T}: {left:.3f}")
assert 0.60 < left < 0.61

# %%
# You can do this sum in your head. :math:`\ln\bar\alpha_T = \sum \ln(1-\beta_t) \approx -\sum \beta_t`; a hundred
# times 0.01 on average is 1, and the square root makes it one half: :math:`e^{-1/2} = 0.607`.
#
# These :math:`\beta` were published for T = 1000, where the same sum gives :math:`e^{-5}`, less than one percent.
# The report took the :math:`\beta` and left out nine tenths of the steps. Sampling will start from pure noise, with
# mean 0 and variance 1; but the pictures on which a network was trained for t = T look otherwise:

full = md.diffusion.make_schedule("linear", T=1000)
many = md.data.to_model(md.data.load("glyphs", limit=500).images).astype(np.float64)
for name, s in (("T = 100", schedule), ("T = 1000", full)):
    x_T = md.diffusion.q_sample(s, many, s.T, rng.standard_normal(many.shape))
    print(f"{name:9} signal left {np.sqrt(s.alpha_bar[-1]):.4f}   mean of x_T {x_T.mean():+.3f}   (noise: 0)")
    assert abs(x_T.mean() - np.sqrt(s.alpha_bar[-1]) * many.mean()) < 0.01

# %%
# Digits are mostly black, and black is −1: the network will always have seen dark pictures at t = T, and is then
# handed a grey one. Chapter 13 shows what comes of it.
#
# Schedules compared
# ------------------
# There are several cures. *Rescaled linear* multiplies :math:`\beta` by 1000/T, so that the sum is what it was meant
# to be. *Cosine* starts from the other end: it draws the curve of :math:`\bar\alpha_t` as one would like to have it,
# a smooth way from 1 to 0, and computes :math:`\beta_t = 1 - \bar\alpha_t/\bar\alpha_{t-1}` from it. The
# signal-to-noise ratio is :math:`\mathrm{snr}_t = \bar\alpha_t / (1-\bar\alpha_t)`; where it is 1, there is as much
# noise as picture.

schedules = {
    "linear, T = 100": schedule,
    "linear, T = 1000": full,
    "rescaled-linear, T = 100": md.diffusion.make_schedule("rescaled-linear", T=T),
    "cosine, T = 100": md.diffusion.make_schedule("cosine", T=T),
}
fig, (signal, snr) = plt.subplots(1, 2, figsize=(8, 3.8))
for (name, s), colour, dash in zip(schedules.items(), COLOURS, ("-", ":", "--", "-"), strict=False):
    at = np.arange(s.T + 1) / s.T
    signal.plot(at, np.sqrt(s.alpha_bar), color=colour, ls=dash, label=name)
    snr.semilogy(at[1:], s.snr[1:], color=colour, ls=dash)
signal.set(xlabel="t / T", ylim=(0, 1.02))
signal.set_title(r"signal left, $\sqrt{\bar\alpha_t}$", size=10.5, weight="normal")
snr.axhline(1, color=MUTED, lw=1)
snr.text(0.02, 0.75, "as much noise\nas picture", color=MUTED, size=9, va="top")
snr.set(xlabel="t / T", ylim=(3e-5, 3e4))
snr.set_title("signal-to-noise ratio", size=10.5, weight="normal")
for ax in (signal, snr):
    ax.grid(True)
    ax.set_xlim(0, 1)
fig.legend(loc="lower center", ncols=2)
fig.tight_layout(rect=(0, 0.13, 1, 1))
plt.show()

# %%
# (``viz.schedule_plot`` draws this figure in one line.) The same digit under the report's schedule and under the
# cosine: only one of them ends in noise.

cosine = schedules["cosine, T = 100"]
noise = rng.standard_normal(x0[:1].shape)
steps = [0, 12, 25, 37, 50, 62, 75, 87, 100]
both = [np.concatenate([md.diffusion.q_sample(s, x0[3:4], t, noise) for s in (schedule, cosine)]) for t in steps]
fig, axes = plt.subplots(1, len(steps), figsize=(8, 2.1))
strip(axes, both, [f"t = {t}" for t in steps])
fig.text(0.005, 0.62, "linear", rotation=90, va="center", size=9.5, color=MUTED)
fig.text(0.005, 0.22, "cosine", rotation=90, va="center", size=9.5, color=MUTED)
fig.tight_layout(w_pad=0.4, rect=(0.02, 0, 1, 1))
plt.show()

for name, s in schedules.items():
    equal = np.argmax(s.snr < 1) / s.T
    print(f"{name:25} √ᾱ_T = {np.sqrt(s.alpha_bar[-1]):.5f}   noise = picture at t/T = {equal:.2f}")
assert all(np.sqrt(s.alpha_bar[-1]) < 0.01 for s in schedules.values() if s is not schedule)

# %%
# What would break it
# -------------------
# *Counting from 0.* With ``alpha_bar[0]`` meaning t = 1, the first step back asks for ``alpha_bar[-1]``, which NumPy
# gladly gives: it is the last one. Here ``alpha_bar[0] = 1`` is stored, and nothing is ever asked for below it.
# *Pictures in [0,1]* instead of [−1,1] have a quarter of the variance, so the same schedule drowns them sooner.
# *Adding without shrinking*, :math:`x_{t-1} + \sqrt{\beta_t}\,\epsilon`, lets the variance grow:

grown = x0.copy()
for t in range(1, T + 1):
    grown += np.sqrt(beta[t]) * rng.standard_normal(x0.shape)
growth = grown.var() - x0.var()
print(f"variance added without shrinking: {growth:.2f}; at T = 1000 it would be {full.beta.sum():.0f}")
assert abs(growth - beta.sum()) < 0.1

# %%
# Exercises
# ---------
# 1. **Easy.** For which T does the report's :math:`\beta` leave less than 10 % of the picture? Guess with the sum in
#    your head first, then ask ``make_schedule``.
# 2. **Medium.** Let x0 have mean m and variance v in every pixel. Derive mean and variance of :math:`x_t`, and check
#    them on 500 glyphs at t = 50. For which v does the variance stay what it is?
# 3. **Hard.** Write a schedule for which :math:`\ln \mathrm{snr}_t` falls on a straight line from 9 to −9. Compute
#    its :math:`\beta`, and compare it with the cosine in both panels. Where does each spend its steps?
#
# Further reading
# ---------------
# * Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli, *Deep unsupervised learning using nonequilibrium thermodynamics*,
#   2015: where diffusion models began.
# * Ho, Jain, Abbeel, *Denoising diffusion probabilistic models*, 2020: the steps, the shortcut, and the :math:`\beta`
#   for T = 1000.
# * Nichol, Dhariwal, *Improved denoising diffusion probabilistic models*, 2021: the cosine.
# * Lin, Liu, Li, Yang, *Common diffusion noise schedules and sample steps are flawed*, 2024: schedules that do not end
#   in noise, and what it costs.
#
# From :math:`x_t` and the noise one gets x0 back by solving one equation. So whoever can look at :math:`x_t` and name
# the noise can undo it. For pictures that takes a large network. With two pixels in place of a thousand, all of it, from the
# first noise to the last sample, can be seen in the plane; that is the next chapter.
