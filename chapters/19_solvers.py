"""
Fewer questions
===============
Without dice, sampling follows a curve, and a sampler is a way of drawing a curve from a few of its slopes. We see why
DDIM is the simplest such way, write two better ones, measure how fast each gets better, and find out what the dice
were good for.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

import minidiff as md
from minidiff.diffusion.samplers import Walk
from minidiff.viz.style import COLOURS, FAINT, MUTED, STYLE

plt.rcParams.update(STYLE)
T = 4096  # many, so that every sampler finds the steps that it wants
schedule = md.diffusion.make_schedule("cosine", T=T)
a, sigma = schedule.signal, schedule.noise  # x_t = a x0 + σ ε

# %%
# A curve through every point
# ---------------------------
# Let a picture be one number, near −0.7 or near 0.5. On the left, in blue, is where :math:`x_t` lies at each step. A
# sampler that adds no noise of its own moves every point along a curve, and the curves carry the one cloud into the
# other. (It is the *probability flow*: no two curves cross, and between two of them there are always as many points.)

numbers = md.data.Mixture([[-0.7], [0.5]], [0.12, 0.12], [0.4, 0.6])


def best(x, t, mixture=numbers):
    """The best guess of the picture and of the noise: chapter 10's ten lines."""
    x0_hat = mixture.expected(x, a[t], sigma[t])
    return x0_hat, (x - a[t] * x0_hat) / sigma[t]


# %%
# On the right is the same, divided by :math:`c_t = a_t + \sigma_t`, over :math:`S_t = \sigma_t / c_t` instead of t:
#
# .. math:: z = \frac{x_t}{a_t + \sigma_t} = (1 - S)\,x_0 + S\,\epsilon
#
# In these coordinates every schedule is the same, and each single pair of picture and noise is joined by a *straight
# line*, with slope :math:`\epsilon - x_0`. The curve does not know which line it is on, and takes the mean of them all:
#
# .. math:: \frac{dz}{dS} = \mathbb E[\epsilon - x_0 \mid z] = \hat\epsilon - \hat x_0
#
# *Euler's method* goes along the slope for a whole step, then asks again. Put in what z and S are, and there is DDIM:
#
# .. math:: z_s = z_t + (S_s - S_t)(\hat\epsilon - \hat x_0) = (1 - S_s)\,\hat x_0 + S_s\,\hat\epsilon
#           \qquad\Longleftrightarrow\qquad x_s = a_s\,\hat x_0 + \sigma_s\,\hat\epsilon

c = a + sigma
S = sigma / c


def ddim(x, times, best=best):
    for t, s in zip(times, times[1:], strict=False):
        x0_hat, eps_hat = best(x, t)
        x = a[s] * x0_hat + sigma[s] * eps_hat
    return x


def euler(x, times, best=best):
    for t, s in zip(times, times[1:], strict=False):
        x0_hat, eps_hat = best(x, t)
        x = c[s] * (x / c[t] + (S[s] - S[t]) * (eps_hat - x0_hat))
    return x


start, even = np.linspace(-2, 2, 9)[:, None], np.linspace(T, 0, 11).astype(int)
assert np.allclose(ddim(start, even), euler(start, even))

# %%
# Heun's method looks before it leaps: having made the step it asks at its end as well, and makes the step again with
# the mean of both slopes. (Not the last one: at t = 0 there is no noise to ask for.)


def heun(x, times, best=best):
    for t, s in zip(times, times[1:], strict=False):
        x0_hat, eps_hat = best(x, t)
        slope = eps_hat - x0_hat
        there = c[s] * (x / c[t] + (S[s] - S[t]) * slope)
        if s > 0:
            x0_hat, eps_hat = best(there, s)
            slope = (slope + eps_hat - x0_hat) / 2
        x = c[s] * (x / c[t] + (S[s] - S[t]) * slope)
    return x


fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
t, spread = np.linspace(T, 0, 129).astype(int), np.linspace(-2.4, 2.4, 241)
density = {i: np.exp(numbers.log_density(spread[:, None], a[i], sigma[i])) for i in t}
curves = [start]
for i, j in zip(t, t[1:], strict=False):
    curves.append(heun(curves[-1], range(i, j - 1, -4) if j else [i, i // 2, 4, 0]))
curves = np.array(curves)[..., 0]  # (129,9)
for ax, across, scale in ((left, t / T, np.ones(len(t))), (right, S[t], c[t])):
    shade = np.array([density[i] / density[i].max() for i in t]).T
    ax.pcolormesh(across * np.ones_like(shade), spread[:, None] / scale, shade, cmap="Blues", vmax=2.2, shading="gouraud", rasterized=True)
    ax.plot(across, curves / scale[:, None], color=MUTED, lw=1)
    ax.set(xlim=(1, 0), ylim=(-2.1, 2.1))
pairs = np.random.default_rng(3)
for x0, eps in zip(numbers.draw(14, pairs)[0], pairs.standard_normal(14), strict=True):
    right.plot([0, 1], [x0[0], eps], color=COLOURS[4], lw=0.8, alpha=0.7, zorder=1.5)
few = np.linspace(T, 0, 4).astype(int)
for steps_of, colour, name in ((ddim, COLOURS[1], "DDIM, 3 steps"), (heun, COLOURS[2], "Heun, 3 steps")):
    for k in (2, 6):
        broken = [start[k]] + [steps_of(start[k : k + 1], few[: i + 2])[0] for i in range(3)]
        right.plot(S[few], np.array(broken)[:, 0] / c[few], "o-", color=colour, ms=4, lw=1.5, label=name if k == 2 else None)
left.set(xlabel="t / T", ylabel="$x_t$")
right.set(xlabel="S", ylabel="z")
left.set_title("The flow", size=10.5)
right.set_title("… where single pairs go straight", size=10.5)
right.legend(loc="lower right")
fig.tight_layout()
plt.show()

# %%
# The thin yellow lines are single pairs. Far from the data, the mean of all slopes is nearly constant, and one long step does
# no harm. Where the ways part, the curve bends; there Euler's step goes on straight, and Heun's notices.
#
# Remembering instead of asking
# -----------------------------
# Heun asks twice a step. *DPM-Solver++* asks once and remembers. It goes by :math:`\lambda = \ln(a/\sigma)`, and where
# DDIM takes :math:`\hat x_0` as constant for the length of a step, it continues the change from the last step to this
# one, half a step ahead. The formula around it is DDIM's, sorted by :math:`x_t` and :math:`\hat x_0`.

with np.errstate(divide="ignore"):
    lam = np.log(a) - np.log(sigma)


def dpm(x, times, best=best):
    before = None
    for t, s in zip(times, times[1:], strict=False):
        x0_hat, _ = best(x, t)
        h, ahead = lam[s] - lam[t], x0_hat
        if before is not None and s > 0:
            ahead = x0_hat + h / (2 * before[1]) * (x0_hat - before[0])
        before = x0_hat, h
        x = sigma[s] / sigma[t] * x + (a[s] - a[t] * sigma[s] / sigma[t]) * ahead
    return x


# %%
# The number to remember: 2 and 4
# -------------------------------
# A world in the plane, of three wide clouds, in the middle half of the road and a bit more. The right ends of the curves
# are known, by Heun in 3,072 steps. How much better is a sampler with twice as many steps?

clouds = md.data.Mixture([[0.7, -0.2], [-0.5, 0.6], [-0.3, -0.7]], [0.35, 0.45, 0.4], [0.5, 0.3, 0.2])


def best_of_clouds(x, t):
    return best(x, t, clouds)


noise = np.random.default_rng(0).standard_normal((200, 2))
first, last, counts = 7 * T // 8, T // 8, np.array([8, 16, 32, 64, 128])
right_end = heun(noise, np.arange(first, last - 1, -1), best_of_clouds)
model = md.diffusion.Exact(clouds, schedule, "x0")
errors, factors = {}, {}
for name, ours in (("ddim", ddim), ("heun", heun), ("dpm++", dpm)):
    errors[name] = []
    for k in counts:
        times = np.linspace(first, last, k + 1).astype(int)
        x = ours(noise, times, best_of_clouds)
        walk = Walk(model, schedule, np.full(200, -1), None, sampler=name, clip=False)  # what `sample` does for each batch
        assert np.allclose(x, walk.run(noise, times.tolist()), atol=1e-9)
        errors[name].append(np.sqrt(((x - right_end) ** 2).mean()))
    factors[name] = np.divide(errors[name][1:-1], errors[name][2:])
    print(f"{name:6} errors " + " ".join(f"{e:.1e}" for e in errors[name]), "  twice the steps:", *factors[name].round(1))
assert all(1.8 < f < 2.3 for f in factors["ddim"])
assert all(3.2 < f < 5.2 for name in ("heun", "dpm++") for f in factors[name])

# %%
# An error that falls by 2 is of *order* one, by 4 of order two. To be a hundred times better, DDIM needs a hundred times
# as many questions and the others ten times. On paper with two logarithmic axes an order is a slope:

fig, ax = plt.subplots(figsize=(8, 3.9))
lines = (("ddim", 1, "DDIM", 140, 3.3e-3, "left"), ("heun", 2, "Heun (asks twice a step)", 285, 9.8e-6, "left"),
         ("dpm++", 1, "DPM-Solver++", 56, 7e-5, "right"))  # fmt: skip
for (name, asks, label, *at, side), colour in zip(lines, COLOURS[1:4], strict=True):
    ax.loglog(asks * counts, errors[name], "o-", color=colour)
    ax.text(*at, label, color=colour, va="center", ha=side)
for order, at in ((1, 0.35), (2, 0.022)):
    ax.loglog([8, 256], [at, at / 32**order], ":", color=MUTED, lw=1, zorder=0)
    ax.text(40, at / 5**order * 1.25, f"slope −{order}", color=MUTED, size=9)
ax.set(xlabel="questions to the network", ylabel="distance from the curve", xlim=(7, 1300), title="Fewer questions")
ax.set_xticks([8, 16, 32, 64, 128, 256], [8, 16, 32, 64, 128, 256])
ax.minorticks_off()
ax.grid(True, color=FAINT)
fig.tight_layout()
plt.show()

# %%
# What chance is good for
# -----------------------
# DDPM throws dice in each step, DDIM's :math:`\eta` says for what part, and Heun's *churn* first goes back a little, with
# fresh noise. With a perfect network nothing is gained by it. But who never throws dice carries each fault of the
# network to the end, for a curve never forgets where it was. Fresh noise makes it forget. Here are two networks that see
# everything too far to the right: one where there is much noise, the other where there is little.

ring = md.data.eight_gaussians()


class Faulty(md.diffusion.Exact):
    """The best guess; between the steps `low` and `high` too far to the right by `shift`."""

    low, high, shift = 0, 0, 0.0

    def __call__(self, x, t, labels):
        wrong = self.shift * (self.low < t <= self.high)
        return super().__call__(x, t, labels) + np.float32([wrong, 0])


def distance(X, Y):
    """Energy distance, as in chapter 10."""
    n, m = len(X), len(Y)
    return 2 * cdist(X, Y).mean() - cdist(X, X).sum() / (n * (n - 1)) - cdist(Y, Y).sum() / (m * (m - 1))


N, coarse, found = 1500, md.diffusion.make_schedule("cosine", T=1000), {}
data = ring.draw(N, np.random.default_rng(1))[0]
ways = {"DDIM": dict(eta=0.0), "η = 0.5": dict(eta=0.5), "DDPM": dict(eta=1.0), "Heun": dict(sampler="heun"),
        "Heun, churn": dict(sampler="heun", churn=40.0)}  # fmt: skip
for name, fault in {"no fault": (0, 0, 0.0), "fault at t > 0.4 T": (400, 1000, 0.3), "at t <= 0.1 T": (0, 100, 0.05)}.items():
    model = Faulty(ring, coarse, "x0")
    model.low, model.high, model.shift = fault
    for way, options in ways.items():
        drawn = md.diffusion.sample(model, coarse, np.full(N, -1), **{"sampler": "ddim", "steps": 100} | options, clip=False, batch_size=N)
        found[name, way] = distance(drawn, data)
    print(f"{name:19}" + "   ".join(f"{way} {1e4 * found[name, way]:4.0f}" for way in ways))
early, late = ({way: found[name, way] for way in ways} for name in ("fault at t > 0.4 T", "at t <= 0.1 T"))
assert max(abs(found["no fault", way]) for way in ways) < 0.003
assert early["DDPM"] < 0.6 * early["DDIM"] and early["Heun, churn"] < 0.2 * early["Heun"]
assert late["DDPM"] > 1.1 * late["DDIM"] and late["Heun, churn"] > 1.3 * late["Heun"]

# %%
# (Energy distance times 10,000; a perfect sampler has 0 give or take 10.) Chance mends what went wrong *before*, because
# the steps after it are right. Where the steps after it are wrong too, it makes matters worse: every piece of fresh noise
# is one more that the faulty network has to remove. So it depends on the network, and has to be measured.
#
# What would break it
# -------------------
# *Trust in the order where steps are long.* It is a promise for steps so short that the slope changes little. The eight
# small clouds of the ring part all of a sudden, and with a dozen steps order two is hardly better than one:

ends = {k: ddim if k == "ddim" else dpm for k in ("ddim", "dpm++")}
times = {k: np.linspace(T, 0, k + 1).astype(int) for k in (16, 32, 1024)}
right_end = heun(noise, times[1024], lambda x, t: best(x, t, ring))
for name, ours in ends.items():
    rough = [np.sqrt(((ours(noise, times[k], lambda x, t: best(x, t, ring)) - right_end) ** 2).mean()) for k in (16, 32)]
    print(f"the ring, {name:6} 16 to 32 steps: error {rough[0]:.3f} to {rough[1]:.3f}")
    assert 1.2 < rough[0] / rough[1] < 2.6

# %%
# *Heun at the end of the road* asks a network about t = 0, where :math:`\hat\epsilon` is divided by 0. *A second order
# method with dice in it* is of no order at all: the noise of a step is much larger than what Heun corrects.
#
# Exercises
# ---------
# 1. **Easy.** Write the midpoint method: half a step, ask there, the whole step with that slope. Which order has it, and
#    how does it compare at 32 questions? (The library has it: ``sampler="midpoint"``.)
# 2. **Medium.** Choose the steps instead of the method. Give ``sample`` a list of 12 steps for the ring: even in t, even
#    in :math:`\lambda`, even in S. Which ends nearest to the right end, and where does it put its steps?
# 3. **Hard.** From three answers one can draw a parabola. Extend ``dpm`` to order three, for steps even in
#    :math:`\lambda`, and show the factor 8. What happens to it with a network, whose answers tremble?
#
# Further reading
# ---------------
# * Song, Meng, Ermon, *Denoising diffusion implicit models*, 2021, and Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole,
#   *Score-based generative modeling through stochastic differential equations*, 2021: DDIM, and the flow.
# * Karras, Aittala, Aila, Laine, *Elucidating the design space of diffusion-based generative models*, 2022: Heun and churn.
# * Lu, Zhou, Bao, Chen, Li, Zhu, *DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models*, 2022.
# * Hairer, Nørsett, Wanner, *Solving ordinary differential equations I*, 2nd edition, 1993: orders, and why they hold.
#
# All samplers asked for :math:`\hat x_0` or :math:`\hat\epsilon` as if it did not matter which. To a sampler it does not.
# To a network that has to *learn* one of them it does, and so the next chapter asks what to ask for.
