"""
How likely is a picture?
========================
A diffusion model gives every picture a probability. Two ways lead to it: one follows a curve and counts how the points
around it draw together, the other adds up what each step would cost to send. Where the truth is known, we see how near
both come; then we ask a trained model, and learn what the answer does not say.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

import minidiff as md
from minidiff import train
from minidiff.diffusion.likelihood import STREAM
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
schedule = md.diffusion.make_schedule("cosine", T=1000)
a, sigma, T = schedule.signal, schedule.noise, schedule.T  # x_t = a x0 + σ ε
S = sigma / (a + sigma)
way_up = md.diffusion.time_steps(T, 200)[::-1]  # 0, 5, … 1000

# %%
# Between two curves there are always as many points
# --------------------------------------------------
# Chapter 19's sampler without dice moves every point along a curve, :math:`z = x/(a + \sigma)` over
# :math:`S = \sigma/(a + \sigma)`, and no two curves cross. So what lies between two of them, stays there: if they are
# twice as far apart in the noise as in the data, the noise between them is half as dense. How dense noise is, everyone knows.
#
# .. math:: \frac{dz}{dS} = f(z, S) = \hat\epsilon - \hat x_0, \qquad p(x_0) = p(z_T)\, \frac{dz_T}{dx_0}

numbers = md.data.Mixture([[-0.7], [0.5]], [0.12, 0.12], [0.4, 0.6])


def slope(z, t, mixture):
    x = (a[max(t, 1)] + sigma[t]) * z  # where there is no noise yet, ask about a_1 x0 as if it were x_1
    t = max(t, 1)
    x0_hat = mixture.expected(x, a[t], sigma[t])
    return (x - a[t] * x0_hat) / sigma[t] - x0_hat


def climb(z, mixture, trace=None, path=None):
    """Heun's method, upwards; and ∫ trace dS on the way, by the same two places."""
    total = 0.0
    for s, t in zip(way_up, way_up[1:], strict=False):
        h, f = S[t] - S[s], slope(z, s, mixture)
        there = z + h * f
        if trace is not None:
            total = total + h / 2 * (trace(z, s, mixture) + trace(there, t, mixture))
        z = z + h / 2 * (f + slope(there, t, mixture))
        if path is not None:
            path.append(z)
    return z, total


def ln_noise(z):
    """ln of the density of z_T, which is S_T ε.            # (N,D) -> (N,)"""
    return norm.logpdf(z, scale=S[T]).sum(1)


x0, h = np.linspace(-1.2, 1.0, 45)[:, None], 1e-4
z, neighbour = (climb(x, numbers)[0] for x in (x0, x0 + h))
p = np.exp(ln_noise(z)) * (neighbour - z)[:, 0] / h
print(f"density by two neighbours: at most {abs(p - np.exp(numbers.log_density(x0))).max():.4f} off; it goes up to {p.max():.2f}")
assert np.allclose(p, np.exp(numbers.log_density(x0)), atol=0.02)

fine = np.linspace(-1.4, 1.2, 2001)
density = np.exp(numbers.log_density(fine[:, None]))
quantiles = np.interp(np.arange(1, 30) / 30, np.cumsum(density) / density.sum(), fine)[:, None]
path = [quantiles]
climb(quantiles, numbers, path=path)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), width_ratios=(1.7, 1), sharey=True)
left.plot(S[way_up], np.array(path)[..., 0], color=COLOURS[0], lw=0.9)
left.set(xlim=(0, 1), ylim=(-2.3, 2.3), xlabel="S   (picture to noise)", ylabel="z")
left.set_title("Thirty parts, equally likely", size=10.5)
right.plot(density, fine, color=MUTED, label="the truth")
right.plot(p, x0[:, 0], "o", ms=4, color=COLOURS[1], label="by two neighbours")
right.set(xlabel="density of the picture", xlim=(0, 2.4), xticks=[0, 1, 2])
right.set_title("Near together: dense", size=10.5)
right.legend(loc="upper right")
fig.tight_layout()
plt.show()

# %%
# More pixels
# -----------
# In D dimensions a volume grows as fast as its sides together: at the rate :math:`\nabla \cdot f = \sum_i \partial
# f_i/\partial z_i`, the trace of the Jacobian J. The logarithm of the density falls at that rate, along the whole way:
#
# .. math:: \ln p(x_0) = \ln p(z_T) + \int_0^{S_T} \nabla \cdot f \; dS

clouds = md.data.Mixture([[0.45, -0.1], [-0.35, 0.4], [-0.2, -0.45]], [0.15, 0.1, 0.12], [0.5, 0.3, 0.2])
N = 500
points = clouds.draw(N, np.random.default_rng(0))[0].astype(np.float32)
none = np.full(N, -1)


def along(z, t, mixture, v, h=1e-4):
    """vᵀ J v, by a difference along v."""
    return ((slope(z + h * v, t, mixture) - slope(z - h * v, t, mixture)) * v).sum(1) / (2 * h)


def exact(z, t, mixture):
    return sum(along(z, t, mixture, e) for e in np.eye(z.shape[1]))


z, spread = climb(points.astype(float), clouds, exact)
ours, truth = ln_noise(z) + spread, clouds.log_density(points)
model, how = md.diffusion.Exact(clouds, schedule, "x0"), dict(steps=200, clip=False, batch_size=N)
library = md.diffusion.ode_log_likelihood(model, schedule, points, none, exact=True, **how)
assert np.allclose(ours, library.nats, atol=0.01)
print(f"ln p of {N} points in the plane: {truth.min():.1f} to {truth.max():.1f}; the curve is off by {np.sqrt(((ours - truth) ** 2).mean()):.4f}")
assert np.sqrt(((ours - truth) ** 2).mean()) < 0.01

# %%
# One direction instead of all
# ----------------------------
# For a picture of 1,024 pixels, that would be a thousand differences in every step. Hutchinson's trick takes one. Let v be random
# signs, ±1. Then :math:`v^T J v` has the trace, since :math:`v_i v_i = 1`, and besides it all that is off the diagonal,
# with random signs, which is 0 on average:
#
# .. math:: v^T J v = \sum_i J_{ii} + \sum_{i \ne j} v_i v_j\, J_{ij}, \qquad \mathbb E[v^T J v] = \operatorname{tr} J


def probe(k):
    """ln p with one v for the whole way; the k-th signs, as in the library."""
    v = np.sign(md.philox.normal(0, range(N), 2, step=k, stream=STREAM))
    z, spread = climb(points.astype(float), clouds, lambda z, t, mixture: along(z, t, mixture, v))
    return ln_noise(z) + spread


probes = np.array([probe(k) for k in range(8)])
library = md.diffusion.ode_log_likelihood(model, schedule, points, none, probes=8, **how)
assert np.allclose(probes.mean(0), library.nats, atol=0.02)
off = {n: np.sqrt(((probes[:n].mean(0) - truth) ** 2).mean()) for n in (1, 2, 8)}
print("Hutchinson, off by: " + ", ".join(f"{n} probe{'s' * (n > 1)} {e:.3f}" for n, e in off.items()))
print(f"… and all points together, one probe each: {probes[0].mean() - truth.mean():+.3f}")
assert 2 < off[1] / off[8] < 4 and abs(probes[0].mean() - truth.mean()) < 0.1

# %%
# Eight probes are :math:`\sqrt 8` times as good as one; and for the mean over many pictures, one each is enough.
#
# Levels, and bits
# ----------------
# A pixel has 256 levels. A *density* of such numbers has no meaning: bells on the levels, ten times as narrow, are ten times as
# dense there, without end, and know no more. So each level is spread over its bin, :math:`x = (p + u)/128 - 1` with u
# from 0 to 1. A bin is 2/256 wide, and a probability is density times width; in bits, and for each of D numbers:
#
# .. math:: \text{bits} = -\frac{\ln p(x)}{D \ln 2} - \log_2 \frac{2}{256} = -\frac{\ln p(x)}{D \ln 2} + 7

levels = (np.arange(256) / 127.5 - 1)[:, None]
narrow = [md.data.Mixture(levels, np.full(256, width)).log_density(levels[100:101])[0] / np.log(2) for width in (1e-4, 1e-5)]
assert np.isclose(narrow[1] - narrow[0], np.log2(10))

edges = np.arange(257) / 128 - 1
part = norm.cdf(edges[:, None], numbers.means[:, 0], numbers.deviations) @ numbers.weights
P = np.diff(part)  # of each level, if the numbers of the first section are put into bins
drawn = np.random.default_rng(1).choice(256, 20_000, p=P / P.sum())
spread_out = md.diffusion.dequantise(levels[drawn].astype(np.float32))
bits = -numbers.log_density(spread_out).mean() / np.log(2) + 7
print(f"bits for a level: {-np.log2(P[drawn]).mean():.4f}; by a density, over bins: {bits:.4f}; without knowing anything: 8")
assert 0 <= bits + np.log2(P[drawn]).mean() < 0.01

# %%
# No fewer, in the mean, than the levels have: a mean of logarithms is at most the logarithm of the mean.
#
# The other way: what a step costs
# --------------------------------
# Let a sender know the picture, and a receiver have the model. The sender draws the way from noise to *this* picture, step
# by step; the receiver expects the model's steps. What has to be told in each step is the KL divergence of the two,
# chapter 13's bell from the model's, which differ by :math:`c_t (x_0 - \hat x_0)`. All together is a bound on the bits of
# the picture (Ho et al., eq. 5): the true cost, and what this way of sending wastes.
#
# .. math:: -\log_2 p(x_0) \le \underbrace{\mathrm{KL}_T}_{\text{prior}} + \sum_{t=2}^{T} \mathrm{KL}_t
#           \underbrace{- \log_2 p(x_0 \mid x_1)}_{\text{which level}}, \qquad
#           \mathrm{KL}_t = \tfrac12 \Big(\ln\frac{w}{\tilde\beta} + \frac{\tilde\beta + c_t^2 (x_0 - \hat x_0)^2}{w} - 1\Big)
#
# :math:`\tilde\beta` is the bell's variance, w that of the model's step: :math:`\tilde\beta` ("small") or the step's whole
# :math:`\beta` ("large").

hundred = md.diffusion.make_schedule("cosine", T=100)
pixels = (np.rint(127.5 * (points[abs(points).max(1) < 1] + 1)) / 127.5 - 1).astype(np.float32)


def bound(x0, mixture, schedule, variance):
    """Bits per number of each step, and of the prior in place 0.            # (N,D) -> (N,T+1)"""
    a, sigma, T, x0 = schedule.signal, schedule.noise, schedule.T, x0.astype(float)
    bits = [0.5 * (a[T] * x0 / sigma[T]) ** 2]
    alpha = (a[1:] / a[:-1]) ** 2
    beta = np.append(0, 1 - alpha)
    beta_tilde = np.append(0, sigma[:-1] ** 2 * beta[1:] / sigma[1:] ** 2)
    beta_tilde[1] = beta_tilde[2]  # it would be 0
    w = beta_tilde if variance == "small" else beta
    for t in range(1, T + 1):
        xt = a[t] * x0 + sigma[t] * md.philox.normal(0, range(len(x0)), x0.shape[1], step=t, stream=STREAM)
        x0_hat = mixture.expected(xt, a[t], sigma[t])
        if t == 1:
            low, high = ((x0 + side / 255 - x0_hat) / np.sqrt(w[1]) for side in (-1, 1))
            low, high = np.where(x0 < -0.999, -np.inf, low), np.where(x0 > 0.999, np.inf, high)
            bits.append(-np.log(norm.cdf(high) - norm.cdf(low)))
        else:
            c = a[t - 1] * beta[t] / sigma[t] ** 2
            bits.append(0.5 * (np.log(w[t] / beta_tilde[t]) + (beta_tilde[t] + (c * (x0 - x0_hat)) ** 2) / w[t] - 1))
    return np.stack(bits).mean(2).T / np.log(2)


true_bits = (-clouds.log_density(pixels) / 2 / np.log(2) - np.log2(2 / 255)).mean()
model, found = md.diffusion.Exact(clouds, hundred, "x0"), {}
for variance in ("small", "large"):
    ours = bound(pixels, clouds, hundred, variance)
    library = md.diffusion.variational_bound(model, hundred, pixels, none[: len(pixels)], variance=variance, clip=False, batch_size=N)
    assert np.isclose(ours.sum(1).mean(), library.total, atol=2e-3)
    assert np.allclose(ours[:, 1:].mean(0), library.terms[1:], atol=2e-3)
    found[variance] = library.total
print(f"bits per number: truth {true_bits:.3f}; bound with large steps {found['large']:.3f}, with small ones {found['small']:.3f}")
assert true_bits - 0.05 < found["large"] < true_bits + 0.2 and found["small"] > true_bits + 0.5

# %%
# With a network that makes no mistakes, the bound with large steps is a tenth of a bit from the truth. Small steps waste
# most of one: they are right for a receiver who knows x0, and this one has to guess.
#
# Pictures
# --------
# Now the model that comes with the library, which has learned from handwritten digits. A printed 4 and a 7, upright and upside
# down; two that it drew itself; the same with everything nearly black made black; nothing at all. All have the same
# noise, so that small differences between them count.

loaded = train.load_model("mnist")
model, schedule = loaded.model, loaded.schedule
glyphs = md.data.load("glyphs", "test", limit=10).subset([4, 7])
printed, digit, unknown = md.data.to_model(glyphs.images), glyphs.labels, np.full(2, -1)  # (2,1,32,32)
made = md.diffusion.sample(model, schedule, digit, sampler="ddim", steps=20)
made = (np.rint(127.5 * (made + 1)) / 127.5 - 1).astype(np.float32)  # 256 levels
sets = {"printed": printed, "upside down": printed[:, :, ::-1], "drawn": made, "drawn, black made black": np.where(made < -0.95, -1, made),
        "nothing": np.full_like(printed, -1)}  # fmt: skip
of = {name: md.diffusion.variational_bound(model, schedule, x.astype(np.float32), unknown) for name, x in sets.items()}
of["printed, told the digit"] = md.diffusion.variational_bound(model, schedule, printed, digit)
for name, b in of.items():
    print(f"{name:24} {b}")

# %%
# Where are the bits? The library keeps each step's.

terms = of["printed"].terms
share = terms[1:10].sum() / terms.sum()
print(f"of {terms.sum():.2f} bits a pixel, {terms[1]:.2f} are paid for the last step, {share:.0%} for the last nine of a hundred;"
      f" {terms[51:].sum() / terms.sum():.0%} for the first fifty")  # fmt: skip
assert 0.75 < share < 0.95 and terms[51:].sum() < 0.06 * terms.sum()

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), width_ratios=(1, 1.45))
left.loglog(np.arange(1, 101), terms[1:], "o", ms=3, color=COLOURS[0])
left.set(xlabel="step t", ylabel="bits per pixel")
left.set_title("Each step's bits, printed digits", size=10.5)
left.text(1.3, terms[1], "which level", color=MUTED, size=9, va="center")
left.text(45, 6e-3, "the shape", color=MUTED, size=9, ha="center")
order = ["printed", "printed, told the digit", "upside down", "drawn", "drawn, black made black", "nothing"]
for i, name in enumerate(order):
    b = of[name]
    right.barh(i, b.decoder, color=COLOURS[4], height=0.62, label="last step" * (i == 0) or None)
    right.barh(i, b.total - b.decoder, left=b.decoder, color=COLOURS[0], height=0.62, label="all before" * (i == 0) or None)
    right.text(b.total + 0.05, i, f"{b.total:.2f}", va="center", color=INK, size=9)
right.set_yticks(range(len(order)), [name.replace(", ", ",\n") for name in order])
right.set(ylim=(5.6, -0.6), xlim=(0, 4.6), xlabel="bits per pixel")
right.tick_params(axis="y", length=0)
right.set_title("At most so many bits", size=10.5)
right.legend(loc="lower right")
fig.tight_layout()
plt.show()

# %%
# The number to remember: a thousand bits
# ---------------------------------------
# Likelihood does not say "this is a digit". *Nothing* is likelier than a digit, by about a thousand bits: black
# is easy to foretell, and in a picture without strokes there is nothing else. Nalisnick et al. found the same of models of
# photographs, to which house numbers are likelier than what they learned from.

more = 1024 * (of["printed"].total - of["nothing"].total)
print(f"a printed digit costs {more:,.0f} bits more than an empty picture")
assert 600 < more < 1500

# %%
# And it hardly speaks of what we see. The bits are in the last steps, where a grey becomes another grey. That a digit
# stands on its head costs some dozens of bits of 2,000. To be told which digit it is saves none here; a model that is right would save
# :math:`\log_2 10 = 3.3` of them at most, in the mean. But that the black of the drawn digits is a few levels off, which
# nobody sees, costs hundreds.

bits = {name: 1024 * b.total for name, b in of.items()}
print(f"bits of a picture: told the digit {bits['printed, told the digit'] - bits['printed']:+.0f}, upside down"
      f" {bits['upside down'] - bits['printed']:+.0f}, black made black {bits['drawn, black made black'] - bits['drawn']:+,.0f}")  # fmt: skip
assert abs(bits["printed, told the digit"] - bits["printed"]) < 60 and abs(bits["upside down"] - bits["printed"]) < 150
assert bits["drawn"] - bits["drawn, black made black"] > 200
black = [(abs(x + 1) < 1e-3).mean() for x in (printed, made)]
almost = ((made > -0.999) & (made < -0.95)).mean()
print(f"exactly black: {black[0]:.0%} of the printed pixels, {black[1]:.0%} of the drawn ones; 1 to 6 levels above: {almost:.0%}")
assert black[1] < black[0] - 0.05 and almost > 0.1

# %%
# The curve says about the same. Thirty steps, a probe each, and the network's Jacobian by one backward pass a question:

both, labels = np.concatenate([printed[:1], sets["nothing"][:1]]), np.array([4, -1])
curve = md.diffusion.ode_log_likelihood(model, schedule, md.diffusion.dequantise(both), labels, steps=30)
print("by the curve, bits per pixel: printed {:.2f}, nothing {:.2f}".format(*curve.bits))
assert abs(curve.bits[0] - of["printed"].total) < 0.5 and curve.bits[1] + 0.5 < curve.bits[0]

# %%
# And noise? Any picture can be sent in 8 bits per pixel. The model does not expect noise, and gives it more; the bound
# gives it far more still. Where a model is wrong, a bound may be far from its mark.

grain = (np.random.default_rng(0).integers(0, 256, (1, 1, 32, 32)) / 127.5 - 1).astype(np.float32)
by_curve = md.diffusion.ode_log_likelihood(model, schedule, md.diffusion.dequantise(grain), [-1], steps=10).bits[0]
by_bound = md.diffusion.variational_bound(model, schedule, grain, [-1]).total
print(f"noise: {by_curve:.1f} bits per pixel by the curve, {by_bound:.1f} by the bound")
assert 8 < by_curve < 14 and by_bound > 1.5 * by_curve

# %%
# What would break it
# -------------------
# *Too few steps*, for the curve. Near the picture the density grows fast, since a black ground fills no volume, and Heun's
# long steps there cannot follow. With ten steps an empty picture has *fewer than no bits*. No level is more than certain, so
# that is an error of the steps:

hasty = md.diffusion.ode_log_likelihood(model, schedule, md.diffusion.dequantise(both), labels, steps=10)
print("in 10 steps instead of 30: printed {:.2f}, nothing {:.2f}".format(*hasty.bits))
assert hasty.bits[0] < curve.bits[0] - 0.8 and hasty.bits[1] < 0

# %%
# *Comparing across recipes.* Bits of pictures of 32x32 with black edges are fewer than of 28x28 without. A bound in 100 steps
# is not one in 1,000, and a density of pictures that nobody dequantised can be anything. *Choosing a model by likelihood*
# chooses for grain: what the picture shows is settled in the first half of the steps, with 2 % of the bits.
#
# Exercises
# ---------
# 1. **Easy.** Measure the bound of a printed digit that is moved by one, two and four pixels, and of its negative. Which
#    of them does the model mind?
# 2. **Medium.** With a perfect network large steps gave the better bound. Try ``variance="large"`` with the trained one, and
#    find out why it is the other way round. (How much does a black pixel's neighbour leave open?)
# 3. **Hard.** A classifier without training: of ten labels, take the one with the lowest bound. With how many steps, and
#    which, is it right on 9 of 10 printed digits? Give all ten labels the same noise, and say why.
#
# Further reading
# ---------------
# * Ho, Jain, Abbeel, *Denoising diffusion probabilistic models*, 2020: the bound, and that most bits are invisible
#   (section 4.3).
# * Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, *Score-based generative modeling through stochastic differential
#   equations*, 2021: the density along the probability flow.
# * Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud, *FFJORD: free-form continuous dynamics for scalable reversible
#   generative models*, 2019: Hutchinson's trace in such an equation; Hutchinson's own is of 1990.
# * Theis, van den Oord, Bethge, *A note on the evaluation of generative models*, 2016: dequantisation, and how little
#   likelihood and looks have to do with each other.
# * Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan, *Do deep generative models know what they don't know?*, 2019.
# * Kingma, Salimans, Poole, Ho, *Variational diffusion models*, 2021: steps without end, and models trained for bits.
# * Li, Prabhudesai, Duggal, Brown, Pathak, *Your diffusion model is secretly a zero-shot classifier*, 2023: exercise 3.
#
# A number for every picture, and it is not the number that we look for. What a model is worth is seen in what it draws. The
# report had its digits marked by a network that has read captions; the next chapter asks what its word is worth.
