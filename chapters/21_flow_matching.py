"""
Flow matching
=============
The simplest road from picture to noise is a straight line, walked at constant speed. A network that learns the speed
draws by following it. We compute what it has to learn, see why its curves are not straight although all lines are, and
straighten them until one step is enough.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

import minidiff as md
from minidiff.diffusion.loss import draw_steps
from minidiff.viz.style import COLOURS, FAINT, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
rng = np.random.default_rng(0)

# %%
# Lines, and what becomes of them
# -------------------------------
# Take a picture x0, here one number, and a noise :math:`\epsilon`, and draw a straight line from one to the other. Do it
# many times over: that is all the training data there is (left). The lines cross. A network that stands at a crossing
# cannot know which line it is on; it goes the mean way, and a curve that goes the mean way everywhere bends (middle).


def field(z, tau, mixture):
    """The mean velocity of all lines through z at τ: (z − E[x0 | z]) / τ, since z = x0 + τ (ε − x0)."""
    return (z - mixture.expected(z, 1 - tau, tau)) / tau


def follow(z, velocity, steps, path=None):
    """Euler's method, from the noise at τ = 1 to the picture at τ = 0."""
    for k in range(steps, 0, -1):
        z = z - velocity(z, k / steps) / steps
        if path is not None:
            path.append(z)
    return z


numbers = md.data.Mixture([[-0.7], [0.7]], [0.1, 0.1], [0.5, 0.5])
x0, eps = numbers.draw(28, rng)[0], rng.standard_normal((28, 1))
path = [eps]
ends = follow(eps, lambda z, tau: field(z, tau, numbers), 400, path)
fig, axes = plt.subplots(1, 3, figsize=(8, 3), sharey=True)
for i in range(28):
    axes[0].plot([1, 0], [eps[i, 0], x0[i, 0]], color=COLOURS[0 if x0[i, 0] > 0 else 1], lw=1)
    axes[1].plot(np.linspace(1, 0, 401), np.array(path)[:, i, 0], color=COLOURS[0 if ends[i, 0] > 0 else 1], lw=1)
    axes[2].plot([1, 0], [eps[i, 0], ends[i, 0]], color=COLOURS[0 if ends[i, 0] > 0 else 1], lw=1)
for ax, title in zip(axes, ("pairs, by chance", "the mean way", "paired anew"), strict=True):
    ax.set(xlim=(1, 0), ylim=(-2.3, 2.3), xlabel=r"$\tau$   (noise to picture)", xticks=[1, 0.5, 0])
    ax.set_title(title, size=10.5)
axes[0].set_ylabel("z")
fig.tight_layout()
plt.show()

# %%
# On the right each noise is paired with the picture that its curve led to. Those lines do not cross, and that will be of
# use.
#
# What there is to learn
# ----------------------
# Chapter 19 found such lines on every road, once it had divided :math:`x_t` by :math:`a_t + \sigma_t`. Here nothing has to be
# divided. With :math:`\tau` from 0 to 1, the line and its velocity are
#
# .. math:: z_\tau = (1 - \tau)\,x_0 + \tau\,\epsilon, \qquad \frac{dz}{d\tau} = \epsilon - x_0
#
# and *conditional flow matching* is: guess :math:`\epsilon - x_0` from :math:`z` and :math:`\tau`, by least squares. The
# squared error asks for the mean, so the best network answers :math:`\mathbb E[\epsilon - x_0 \mid z_\tau]`. Is that our
# ``field``? Draw four million lines and look at those that pass through one gate:

many, noises = numbers.draw(4_000_000, rng)[0], rng.standard_normal((4_000_000, 1))
tau, gate = 0.5, 0.4
passing = abs((1 - tau) * many + tau * noises - gate) < 0.005
velocities = (noises - many)[passing]
mean, by_bayes = velocities.mean(), field(np.array([[gate]]), tau, numbers)[0, 0]
print(f"{passing.sum():,} lines through the gate: velocities {velocities.std():.2f} apart, mean {mean:.3f}; by Bayes {by_bayes:.3f}")
assert abs(mean - by_bayes) < 0.04 < abs(by_bayes) and velocities.std() > 1

# %%
# The library calls the road ``flow`` and the target ``flow``. τ is t/T, and the rest is chapter 12's: the loss by hand, and
# the library's line.

schedule = md.diffusion.make_schedule("flow", T=100)
ring, N = md.data.eight_gaussians(), 1500
data = ring.draw(N, np.random.default_rng(1))[0].astype(np.float32)
md.manual_seed(0)
model = md.models.MLP(num_classes=1, target="flow")


def loss(x0, eps, t):
    tau = np.float32(t[:, None] / 100)
    return ((model((1 - tau) * x0 + tau * eps, t, np.full(len(t), -1)) - md.tensor(eps - x0)) ** 2).mean()


dice = np.random.default_rng(2)
t, eps = dice.integers(1, 101, N), dice.standard_normal(data.shape, dtype=np.float32)
L = md.diffusion.loss(model, schedule, data, np.full(N, -1), np.random.default_rng(2))
assert np.isclose(loss(data, eps, t).item(), L.item(), rtol=1e-5)

# %%
# And sampling, from the same noise, with the field that a perfect network would have learned:

start = md.philox.normal(0, range(N), 2, stream=md.diffusion.samplers.STREAM)
exact = md.diffusion.Exact(ring, schedule, "flow")
draw = dict(labels=np.full(N, -1), sampler="euler", clip=False, batch_size=N)
ours = follow(start, lambda z, tau: field(z, tau, ring), 10)
assert np.allclose(ours, md.diffusion.sample(exact, schedule, steps=10, **draw), atol=1e-5)

# %%
# Does straight mean few steps?
# -----------------------------
# It is often said so. Let us walk both roads by Euler's method, with the exact field: the straight one, and the cosine's
# quarter of a circle, whose velocity is :math:`\frac{\pi}{2}(\cos\cdot\,\hat\epsilon - \sin\cdot\,\hat x_0)`.


def around(x, u):
    a, sigma = np.cos(np.pi * u / 2), np.sin(np.pi * u / 2)
    x0_hat = ring.expected(x, a, sigma)
    return np.pi / 2 * (a * (x - a * x0_hat) / sigma - sigma * x0_hat)


def distance(X, Y):
    """Energy distance, as in chapter 10, times 10,000."""
    n, m = len(X), len(Y)
    return 1e4 * (2 * cdist(X, Y).mean() - cdist(X, X).sum() / (n * (n - 1)) - cdist(Y, Y).sum() / (m * (m - 1)))


counts = [1, 2, 4, 8, 16]
straight = [distance(follow(start, lambda z, tau: field(z, tau, ring), k), data) for k in counts]
circle = [distance(follow(start, around, k), data) for k in counts]
for name, d in (("straight road", straight), ("cosine road", circle)):
    print(f"{name:13} " + "   ".join(f"{k} steps {v:6.0f}" for k, v in zip(counts, d, strict=True)))
assert straight[2] > 1.5 * circle[2] and circle[2] > 20

# %%
# (Noise is at about 1,000, and two clouds of data at 0 give or take 10.) For this ring the cosine road needs *fewer*
# steps. Straight are the lines, not the curves, and Euler's method walks on curves. One step on the straight road goes to
# the mean of all data, whatever the noise: the mean velocity of all lines at once. What is good about the road is that it
# is simple, ends in pure noise, and has no schedule to choose.
#
# Where the velocity is hard to guess
# -----------------------------------
# Even the best network is left with an error, as at the gate above: the lines that pass through one place have different
# velocities. Where on the road are they most different?

taus = np.linspace(0.01, 1, 60)
left_over = []
for tau in taus:
    x0, eps = ring.draw(4000, rng)[0], rng.standard_normal((4000, 2))
    left_over.append(((eps - x0 - field((1 - tau) * x0 + tau * eps, tau, ring)) ** 2).mean())
hardest = taus[5:][np.argmax(left_over[5:])]
print(f"hardest at τ = {hardest:.2f}; there {max(left_over):.2f} is left of the loss, at τ = 1 {left_over[-1]:.2f}")
assert 0.3 < hardest < 0.5 and left_over[-1] < 0.5 * max(left_over)

# %%
# In the middle, where it is decided which of the eight it will be. So Esser et al. draw τ more often there: the sigmoid of
# a standard normal number. ``times="logit-normal"`` does that.

by_hand = 1 / (1 + np.exp(-rng.standard_normal(40_000)))
drawn = draw_steps(schedule, np.random.default_rng(3), 40_000, "logit-normal") / 100
assert abs(np.quantile(by_hand, [0.1, 0.5, 0.9]) - np.quantile(drawn, [0.1, 0.5, 0.9])).max() < 0.02

# %%
# The number to remember: one step
# --------------------------------
# Now take the third panel at its word (*rectified flow*, Liu et al.). Follow the field from 10,000 noises, keep each noise
# together with where it ended, and train on *these* pairs instead of chance ones. Their lines do not cross. So the mean
# of all lines through a place is that one line, and to follow it a single step will do.

noises = rng.standard_normal((10_000, 2))
path_ends = follow(noises, lambda z, tau: field(z, tau, ring), 100)
noises, path_ends = noises.astype(np.float32), path_ends.astype(np.float32)
optimizer = md.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
lr_schedule = md.optim.CosineLR(optimizer, 800, warmup_steps=20)
for _ in range(800):
    i = rng.integers(0, len(noises), 256)
    L = loss(path_ends[i], noises[i], draw_steps(schedule, rng, 256))
    L.backward()
    optimizer.step()
    optimizer.zero_grad()
    lr_schedule.step()

rectified = [distance(md.diffusion.sample(model, schedule, steps=k, **draw), data) for k in counts]
print("rectified     " + "   ".join(f"{k} steps {v:6.0f}" for k, v in zip(counts, rectified, strict=True)))
print(f"one step: distance {straight[0]:.0f} before, {rectified[0]:.0f} after; what the loss could not learn: {L.item():.4f}")
assert rectified[0] < 0.01 * straight[0] and rectified[0] < straight[3]

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.7))
for d, colour, name in ((straight, COLOURS[0], "straight road, exact field"), (circle, COLOURS[1], "cosine road, exact field"),
                        (rectified, COLOURS[2], "rectified, a network")):  # fmt: skip
    left.loglog(counts, np.maximum(d, 1), "o-", color=colour, label=name)
left.axhspan(0.25, 10, color=FAINT, alpha=0.6, lw=0)
left.text(1, 0.38, "as near as data are to data", size=9, color=MUTED)
left.set(xlabel="steps of Euler's method", xticks=counts, xticklabels=counts, ylim=(0.25, 3e4))
left.set_title("Energy distance to data, times 10,000", size=10.5)
left.minorticks_off()
left.legend(loc="upper right")
right.plot(taus, left_over, color=INK)
right.set(xlabel=r"$\tau$", ylim=(0, 2), xlim=(0, 1))
right.hist(by_hand, 40, range=(0, 1), density=True, color=COLOURS[5], alpha=0.4)
right.text(0.26, 1.8, "how often logit-normal draws it", color=COLOURS[0], size=9)
right.text(0.68, 0.88, "loss of a\nperfect network", color=INK, size=9)
right.set_title("Where the velocity is hard to guess", size=10.5)
fig.tight_layout()
plt.show()

# %%
# What would break it
# -------------------
# *The sign.* Half of the literature lets time run from noise to data and learns :math:`x_0 - \epsilon`. Mixed up, the walk
# leads away from the data. *Pairing with data instead of with ends*: the ends look like data, but if each noise gets a
# data point by chance, it is the first training again. *Rectifying without end*: the second network can only be as good
# as the ends that it was shown, and each round adds its own faults. Here is the first:

astray = follow(start, lambda z, tau: -field(z, tau, ring), 10)
print(f"with the wrong sign: {abs(astray).mean():.1f} from the middle; data {abs(data).mean():.1f}")
assert abs(astray).mean() > 2 * abs(data).mean()

# %%
# Exercises
# ---------
# 1. **Easy.** Show with one line of algebra that one Euler step from τ = 1 gives the mean of the data. And that one
#    step of the cosine road leaves all the noise in.
# 2. **Medium.** Train the MLP on chance pairs, by ``md.diffusion.loss``, with uniform and with logit-normal times, three
#    seeds each. Compare the samples after 16 steps. Is the difference larger than that between seeds?
# 3. **Hard.** In each batch, before training, pair the 256 noises with the 256 points so that the lines are as short as
#    possible (``scipy.optimize.linear_sum_assignment``). How straight are the curves then, measured by
#    :math:`\mathbb E\|z_1 - z_0 - v\|^2` along them, and what has become of the one step?
#
# Further reading
# ---------------
# * Lipman, Chen, Ben-Hamu, Nickel, Le, *Flow matching for generative modeling*, 2023: the mean of conditional velocities.
# * Liu, Gong, Liu, *Flow straight and fast: learning to generate and transfer data with rectified flow*, 2023.
# * Albergo, Vanden-Eijnden, *Building normalizing flows with stochastic interpolants*, 2023: any road between two clouds.
# * Esser, Kulal, Blattmann et al., *Scaling rectified flow transformers for high-resolution image synthesis*, 2024:
#   logit-normal times.
# * Tong et al., *Improving and generalizing flow-based generative models with minibatch optimal transport*, 2024.
#
# A road, a target, a solver: each can be chosen without the others, and the plane is where a choice can be tried in
# seconds. Pictures decide: ``make_schedule("flow")`` and a U-Net with ``target="flow"`` are two words in chapter 12's loop.
# So much for how models are made. What one can do with a model that is there already is the next chapter.
