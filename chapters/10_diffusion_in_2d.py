"""
Diffusion in 2-D
================
A picture is a point in a space of a thousand dimensions, where nobody sees what happens to it. In two dimensions the
whole of diffusion can be drawn: the cloud that drowns, the arrows that lead back, the best answer there is, and a
network that learns it in seconds.
"""

import os

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

import minidiff as md
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
STEPS = 6000 if os.environ.get("MINIDIFF_FULL") == "1" else 1500
schedule = md.diffusion.make_schedule("cosine", T=100)
a, sigma, T = schedule.signal, schedule.noise, schedule.T  # a_t = √ᾱ_t and σ_t = √(1 − ᾱ_t)
rng = np.random.default_rng(0)

# %%
# A cloud drowns
# --------------
# Our "pictures" have two pixels. They come from eight normal distributions on a circle, one of them twice as likely as
# the others and one twice as wide. Above, each point has the colour of the one it came from; below is what
# pictures do not show: in each place, the way back.

ring = md.data.eight_gaussians()
x0, part = md.data.points("gaussians", 1500)  # (N,2), (N,)
eps = rng.standard_normal(x0.shape)
xt = {t: a[t] * x0 + sigma[t] * eps for t in (0, 8, 20, 40, 100)}
assert all(np.allclose(xt[t], md.diffusion.q_sample(schedule, x0, t, eps), atol=1e-6) for t in xt)

axis, fine = np.linspace(-1.6, 1.6, 13), np.linspace(-1.75, 1.75, 121)
places, plane = (np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2) for line in (axis, fine))  # (169,2), (14641,2)
fig, axes = plt.subplots(2, len(xt), figsize=(8, 3.6))
for t, (cloud, field) in zip(xt, axes.T, strict=True):
    cloud.scatter(*xt[t].T, s=1.2, lw=0, color=np.array(COLOURS)[part % 4])
    if t:
        back = a[t] * ring.expected(places, a[t], sigma[t]) - places  # to the best guess, as large as it is now
        likely = ring.log_density(places, a[t], sigma[t]) > -4.5  # no arrows where no point will ever be
        density = np.exp(ring.log_density(plane, a[t], sigma[t])).reshape(len(fine), -1)
        field.imshow(density, extent=(-1.75, 1.75) * 2, origin="lower", cmap="Blues", vmax=1.6 * density.max())
        field.quiver(*places[likely].T, *back[likely].T, color=INK, angles="xy", scale_units="xy", scale=2.8, width=0.008, headwidth=4)
    cloud.set_title(f"t = {t}", size=9.5, weight="normal", loc="center", pad=4)
    for ax in (cloud, field):
        ax.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal")
        ax.axis("off")
legend = "an arrow:\nfrom $x_t$ towards where\nit came from, on average\n\nblue: where $x_t$ lies"
axes[1, 0].text(0, 0, legend, ha="center", va="center", size=8.5, color=MUTED)
fig.tight_layout(w_pad=0.2, h_pad=0.2)
plt.show()

# %%
# Read the arrows from right to left. In nothing but noise there is one answer for all: *the middle*. At t = 40 the
# middle is still a good answer; at t = 20 it is the ring, also for points inside it; at t = 8 the nearest of the eight.
#
# The best answer there is
# ------------------------
# :math:`x_t` may have come from any part k of the mixture. By Bayes, each counts as much as it is likely to have led
# here. And if it was part k, two things are known: x0 lies near :math:`m_k`, by a bell of width :math:`s_k`, and near
# :math:`x_t/a`, by the noise's bell, of width :math:`\sigma/a`. The product of two bells is a bell between them, nearer to the
# narrower one: it divides the way in the ratio of their squared widths.
#
# .. math:: r_k \propto w_k\, \mathcal N(x_t;\, a m_k,\, v_k), \qquad v_k = a^2 s_k^2 + \sigma^2, \qquad
#           \mathbb E[x_0 \mid x_t] = \sum_k r_k \left(m_k + \frac{a s_k^2}{v_k}\,(x_t - a m_k)\right)
#
# a is the picture's share :math:`\sqrt{\bar\alpha_t}` and :math:`\sigma` the noise's, :math:`\sqrt{1-\bar\alpha_t}`. In ten lines:


def best_guess(x, t):
    m, s, w = ring.means, ring.deviations, ring.weights
    v = (a[t] * s) ** 2 + sigma[t] ** 2  # (K,)
    away = x[:, None] - a[t] * m  # (N,K,2)
    r = w / v * np.exp(-(away**2).sum(-1) / (2 * v))  # in two dimensions a bell is 1/2πv high
    r /= r.sum(1, keepdims=True)
    guess = m + (a[t] * s**2 / v)[:, None] * away  # (N,K,2)
    return (r[:, :, None] * guess).sum(1)


for t in (5, 20, 40, 100):
    assert np.allclose(best_guess(xt[20], t), ring.expected(xt[20], a[t], sigma[t]))

# %%
# *Best* means: no function of :math:`x_t` has a smaller squared error. And yet the error is not 0, for many points lead
# to the same :math:`x_t`. So a network that is asked for the noise will get a mark, the mean squared error of its answer, that
# has a floor, here the mean over t of what is left to chance:


def mark(answer, n=1000):
    """The loss of a network that has `answer` for its guess of x0: the mean squared error of the noise."""
    rng, total = np.random.default_rng(1), 0.0
    for t in range(1, T + 1):
        x, e = ring.draw(n, rng)[0], rng.standard_normal((n, 2))
        xt = a[t] * x + sigma[t] * e
        total += ((e - (xt - a[t] * answer(xt, t)) / sigma[t]) ** 2).mean() / T
    return total


floor, larger, smaller = (mark(lambda x, t, k=k: k * best_guess(x, t)) for k in (1.0, 1.05, 0.95))
print(f"loss of a perfect network: {floor:.3f}; of one whose guess is 5 % too large: {larger:.3f}, too small: {smaller:.3f}")
assert 0.26 < floor < 0.30 and floor + 0.01 < min(larger, smaller)

# %%
# The score
# ---------
# The arrows have a name. :math:`\nabla \ln p(x_t)`, the direction in which the cloud gets denser fastest, is called its
# *score*, and it is the answer in other words (Tweedie's formula):
#
# .. math:: \nabla \ln p(x_t) = \frac{a\,\mathbb E[x_0 \mid x_t] - x_t}{\sigma^2} = -\frac{\mathbb E[\epsilon \mid x_t]}{\sigma}
#
# Whoever guesses the noise knows the slope of the density without having seen the density. Differences prove it:

t, h = 35, 1e-5
score = (a[t] * best_guess(places, t) - places) / sigma[t] ** 2
ln_p = [[ring.log_density(places + sign * h * e, a[t], sigma[t]) for sign in (1, -1)] for e in np.eye(2)]
slope = np.stack([(up - down) / (2 * h) for up, down in ln_p], axis=1)
assert np.allclose(score, slope, atol=1e-6)

# %%
# Back along the arrows
# ---------------------
# Sampling begins with noise and asks for the best guess. If that were the truth, then the rest of :math:`x_t` would be the noise.
# It is not, so do not jump: put the two together again, with a little less noise than before, and ask anew.
#
# .. math:: \hat\epsilon = \frac{x_t - a_t\,\hat x_0}{\sigma_t}, \qquad x_{t-1} = a_{t-1}\,\hat x_0 + \sigma_{t-1}\,\hat\epsilon
#
# This is *DDIM*; chapter 13 has it again, and another sampler, with dice. The library's line has the same noise, and ``Exact`` is
# our ten lines dressed as a model that names the picture (``"x0"``). (``clip=False``, since points may lie outside of [−1,1];
# and the label −1 says "no class", as in chapter 11.)

N = 2000
x = start = md.philox.normal(0, range(N), 2, stream=md.diffusion.samplers.STREAM)
for t in range(T, 0, -1):
    x0_hat = best_guess(x, t)
    eps_hat = (x - a[t] * x0_hat) / sigma[t]
    x = a[t - 1] * x0_hat + sigma[t - 1] * eps_hat

draw = dict(labels=np.full(N, -1), sampler="ddim", clip=False, batch_size=N)
ours, drawn = x, md.diffusion.sample(md.diffusion.Exact(ring, schedule, "x0"), schedule, **draw)
assert np.allclose(ours, drawn, atol=1e-3)

# %%
# Are these points of the ring? Two clouds are the same if the points of one are as far from the other's as from each other.
# The *energy distance* says how far that fails; it is 0 only for equal distributions.
#
# .. math:: D(X, Y) = 2\,\mathbb E\|x - y\| - \mathbb E\|x - x'\| - \mathbb E\|y - y'\|


def distance(X, Y):
    n, m = len(X), len(Y)
    return 2 * cdist(X, Y).mean() - cdist(X, X).sum() / (n * (n - 1)) - cdist(Y, Y).sum() / (m * (m - 1))


data, more = (ring.draw(N, np.random.default_rng(seed))[0] for seed in (1, 2))
print(f"distance to data: noise {distance(start, data):.4f}, samples {distance(drawn, data):+.4f}, more data {distance(more, data):+.4f}")
assert abs(distance(drawn, data)) < 0.02 * distance(start, data)
assert abs(distance(more, data)) < 0.002

# %%
# A network learns it
# -------------------
# For moons nobody gives us means and widths; there are only points. Now the ten lines have to be *learned*. An MLP of
# three hidden layers is shown :math:`x_t` and t, and asked for the noise. The loop is chapter 4's. ``md.diffusion.loss`` drowns a
# batch, each point with a t of its own, and gives the mark; chapter 12 writes it by hand. ``CosineLR`` lets the learning rate climb
# for 20 steps and then fall to 0. Afterwards we draw by ``ddpm``, the sampler with dice.

moons, _ = md.data.points("moons", 20_000)
md.manual_seed(0)
model = md.models.MLP(num_classes=1)
optimizer = md.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
lr_schedule = md.optim.CosineLR(optimizer, STEPS, warmup_steps=20)
losses = []
for _ in range(STEPS):
    batch = moons[rng.integers(0, len(moons), 256)]
    L = md.diffusion.loss(model, schedule, batch, np.full(256, -1), rng)
    L.backward()
    optimizer.step()
    optimizer.zero_grad()
    lr_schedule.step()
    losses.append(L.item())
print(f"{model.num_parameters():,} parameters, loss {np.mean(losses[:10]):.2f} -> {np.mean(losses[-200:]):.3f}")

film = {T: start}
drawn = md.diffusion.sample(model, schedule, **draw | {"sampler": "ddpm"},
                            callback=lambda step, s, xs, x0_hat, indices: film.update({s: xs}))  # fmt: skip

fig, axes = plt.subplots(2, 3, figsize=(8, 4))
for ax, t in zip(axes.ravel(), (100, 30, 15, 6, 0, "data"), strict=True):
    ax.scatter(*(moons[:N] if t == "data" else film[t]).T, s=2, lw=0, color=COLOURS[2] if t == "data" else COLOURS[0])
    ax.set(xlim=(-1.5, 1.5), ylim=(-1, 1), aspect="equal")
    ax.set_title(t if t == "data" else f"t = {t}", size=9.5, weight="normal", loc="center", pad=4)
    ax.axis("off")
fig.tight_layout()
plt.show()

# %%
# The number to remember: 99 %
# ----------------------------
# How much of the way from noise to data has the network gone? Measured as energy distance to points that it was not
# trained on:

data, _ = md.data.points("moons", N, seed=1)
gone = 1 - distance(drawn, data) / distance(start, data)
print(f"distance to data: noise {distance(start, data):.4f}, samples {distance(drawn, data):.4f}; {gone:.1%} of the way gone")
assert 0.98 < gone < 1.005

# %%
# What is missing is real: samples between the moons, where there are no data. There the network has to turn sharply from
# one answer to the other, and networks are smooth. How many are there?

stray = (cdist(drawn, moons).min(1) > 0.05).mean()
print(f"samples further than 0.05 from all data: {stray:.1%}; of fresh data: {(cdist(data, moons).min(1) > 0.05).mean():.2%}")
assert 0 < stray < 0.1

# %%
# What would break it
# -------------------
# *Taking the guess for a sample.* From pure noise the best guess is the middle of the ring, where there is nothing. A
# mean of good answers need not be one; that is why sampling takes many small steps, and asks anew after each.

middle = best_guess(start, T)
empty = ring.log_density(ring.means.mean(0)[None])[0] - ring.log_density(ring.means).min()
print(f"guesses at t = T: all within {abs(middle - middle.mean(0)).max():.3f} of each other, where data are e^{empty:.0f} as dense")
assert abs(middle - middle.mean(0)).max() < 0.02 and empty < -8

# %%
# *A network that is too good.* The best answer for ten training points, and for nothing else, is a mixture of ten bells
# of no width. It draws the ten points again. What is new in a sample is owed to what the network did not learn.

few = md.data.Mixture(moons[:10], np.full(10, 1e-3))
copied = md.diffusion.sample(md.diffusion.Exact(few, schedule, "x0"), schedule, **draw)
copies, others = (cdist(x, moons[:10]).min(1) < 0.03 for x in (copied, data))
print(f"within 0.03 of one of the ten: {copies.mean():.0%} of the samples, {others.mean():.0%} of other moon points")
assert copies.mean() > 0.98 and others.mean() < 0.2

# %%
# Exercises
# ---------
# 1. **Easy.** Train on the house (``"figure"``) and on the spiral. Which is harder, and where do the stray points lie?
# 2. **Medium.** Walk with the score alone: :math:`x \leftarrow x + h \nabla \ln p(x) + \sqrt{2h}\,z` at t = 10, from
#    noise (Langevin's dynamics). Are all eight parts found as often as they should be? Then let t fall from 100 to 1.
# 3. **Hard.** Train the MLP on the ring and measure, for each t, how far its answer is from ``best_guess``, where
#    :math:`x_t` is likely. By how much does its loss exceed the floor? Show that the two are the same number.
#
# Further reading
# ---------------
# * Robbins, *An empirical Bayes approach to statistics*, 1956: the best guess from the slope of a density; the formula
#   is ascribed there to M. Tweedie.
# * Vincent, *A connection between score matching and denoising autoencoders*, 2011: why guessing the noise is learning
#   the score.
# * Song, Ermon, *Generative modeling by estimating gradients of the data distribution*, 2019: samples from arrows.
# * Székely, Rizzo, *Energy statistics: a class of statistics based on distances*, 2013: the distance.
#
# That is all of diffusion: noise, the best guess, a network that learns it, and the walk back. A point has two numbers, and three
# layers are enough for it. A picture has a thousand, and neighbours; the next chapter builds a network for pictures.
