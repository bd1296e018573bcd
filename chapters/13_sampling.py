"""
Sampling
========
Start from pure noise and undo it step by step: each step asks for the noise, guesses the picture, and goes a little
of the way. We derive that step, and run it with a network that makes no mistakes, so that we know what must come out.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import train, viz
from minidiff.diffusion.solvers import ddim_step, ddpm_step
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)
T = 100
schedule = md.diffusion.make_schedule("cosine", T=T)
beta, alpha, alpha_bar = schedule.beta, schedule.alpha, schedule.alpha_bar

# %%
# One step back
# -------------
# A pixel has the noisy value :math:`x_t`. What was it one step earlier? If somebody tells us x0, we know two things:
# coming from x0, the pixel should lie near :math:`\sqrt{\bar\alpha_{t-1}}\,x_0`; and since :math:`x_t` was made from
# it, it should lie near :math:`x_t/\sqrt{\alpha_t}`. Multiply the two bells, as in chapter 10, and you have the answer.

t, x0, xt = 40, 0.8, -0.2
x = np.linspace(-3, 3, 6001)  # all that the pixel could have been


def bell(x, mean, variance):
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


from_x0 = bell(x, np.sqrt(alpha_bar[t - 1]) * x0, 1 - alpha_bar[t - 1])
to_xt = bell(xt, np.sqrt(alpha[t]) * x, beta[t])
posterior = from_x0 * to_xt / np.sum(from_x0 * to_xt * (x[1] - x[0]))

fig, ax = plt.subplots(figsize=(8, 3))
for y, colour, name in ((from_x0, COLOURS[0], "coming from $x_0$"), (to_xt, COLOURS[4], "having led to $x_t$"),
                        (posterior, COLOURS[2], "both")):  # fmt: skip
    ax.plot(x, y, color=colour, label=name)
    ax.fill_between(x, y, color=colour, alpha=0.12)
ax.set_xticks([xt, x0], ["$x_t$", "$x_0$"], size=12)
ax.set(xlim=(-1.6, 2.6), ylim=(0, None), yticks=[], title=f"Where was the pixel one step ago? (t = {t})")
ax.spines["left"].set_visible(False)
ax.legend(loc="upper right")
fig.tight_layout()
plt.show()

# %%
# The product is a bell. Its precision (one over the variance) is the sum of theirs, and its mean is their mean,
# weighted by precision. The variance is called :math:`\tilde\beta_t`:
#
# .. math:: \frac{1}{\tilde\beta_t} = \frac{1}{1-\bar\alpha_{t-1}} + \frac{\alpha_t}{\beta_t}
#           \qquad\Longrightarrow\qquad \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t
#
# .. math:: \mu_t = \tilde\beta_t \left(\frac{\sqrt{\bar\alpha_{t-1}}\;x_0}{1-\bar\alpha_{t-1}}
#           + \frac{\sqrt{\alpha_t}\;x_t}{\beta_t}\right)
#           = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t\,x_0 + \sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\,x_t}{1-\bar\alpha_t}


def posterior_mean(xt, x0, t):
    from_x0, from_xt = np.sqrt(alpha_bar[t - 1]) * beta[t], np.sqrt(alpha[t]) * (1 - alpha_bar[t - 1])
    return (from_x0 * x0 + from_xt * xt) / (1 - alpha_bar[t])


beta_tilde = np.zeros(T + 1)
beta_tilde[1:] = (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:]

mean = np.sum(x * posterior) * (x[1] - x[0])  # measured in the picture
variance = np.sum((x - mean) ** 2 * posterior) * (x[1] - x[0])
assert np.isclose(mean, posterior_mean(xt, x0, t)) and np.isclose(variance, beta_tilde[t])

# %%
# **The last step adds no noise**, and nobody has to remember it: :math:`\bar\alpha_0 = 1` is stored, so at t = 1 the
# formula itself gives :math:`\tilde\beta_1 = 0` and :math:`\mu_1 = x_0`.

assert beta_tilde[1] == 0 and posterior_mean(xt, x0, 1) == x0

# %%
# A network without faults
# ------------------------
# Nobody tells us x0; that is what the network is for. Its guess is, at best, the *mean* of all pictures that could
# have become :math:`x_t` (chapter 10). For real digits nobody knows that mean. But let the whole world be ten pictures
# :math:`x^{(k)}`. Then it can be written down, as for the ring: each picture counts by how likely it would have led to
# :math:`x_t`.
#
# .. math:: \hat x_0 = \sum_k r_k\, x^{(k)}, \qquad
#           r = \mathrm{softmax}_k\left(-\frac{\|x_t - \sqrt{\bar\alpha_t}\,x^{(k)}\|^2}{2(1-\bar\alpha_t)}\right), \qquad
#           \hat\epsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,\hat x_0}{\sqrt{1-\bar\alpha_t}}

world = md.data.to_model(md.data.load("glyphs", limit=10).images).astype(np.float64)  # (10,1,32,32)
points = world.reshape(10, -1)  # (10,1024)


class ExactDenoiser:
    """What a network would answer that had learned the ten pictures perfectly. It looks to the library like a UNet."""

    config = {"in_channels": 1, "image_size": 32, "num_classes": 10}
    training = False

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, xt, t, labels):
        alpha_bar, x = self.schedule.alpha_bar[t], xt.reshape(len(xt), -1).astype(np.float64)
        # ‖x − √ᾱ x⁽ᵏ⁾‖² without its part ‖x‖², which is the same for all k
        ln_r = (np.sqrt(alpha_bar) * x @ points.T - alpha_bar * (points**2).sum(1) / 2) / (1 - alpha_bar)  # (N,10)
        allowed = (labels[:, None] == -1) | (labels[:, None] == np.arange(10))  # −1: any digit
        ln_r = np.where(allowed, ln_r, -np.inf)
        r = np.exp(ln_r - ln_r.max(1, keepdims=True))
        x0_hat = r / r.sum(1, keepdims=True) @ points
        eps_hat = (x - np.sqrt(alpha_bar) * x0_hat) / np.sqrt(1 - alpha_bar)
        return md.tensor(eps_hat.reshape(xt.shape).astype(np.float32))

    def eval(self):
        return self

    def train(self, mode=True):
        return self


oracle = ExactDenoiser(schedule)

# %%
# The sampler
# -----------
# Now the whole thing, by hand: noise, then a hundred times *ask for the noise, guess the picture, take the step*. It is
# called *DDPM*.

N = 400
no_class = np.full(N, -1)


def draw(k):
    """The noise of all pictures when they need some for the k-th time: a function of seed, picture and k, as in the library."""
    z = md.philox.normal(0, range(N), 32 * 32, step=k, stream=md.diffusion.samplers.STREAM)
    return z.reshape(N, 1, 32, 32)


xt = draw(0)
for t in range(T, 0, -1):
    eps_hat = oracle(xt, t, no_class).numpy()
    x0_hat = (xt - np.sqrt(1 - alpha_bar[t]) * eps_hat) / np.sqrt(alpha_bar[t])
    x0_hat = np.clip(x0_hat, -1, 1)  # all pictures lie in [−1,1]
    xt = posterior_mean(xt, x0_hat, t) + (np.sqrt(beta_tilde[t]) * draw(T - t + 1) if t > 1 else 0)

# %%
# And the library's line, from the same noise. ``callback`` lets us look on.

xs, beliefs = [], []
pictures = md.diffusion.sample(oracle, schedule, no_class, sampler="ddpm", seed=0, batch_size=N,
                               callback=lambda step, s, xs_, x0_hat, indices: (xs.append(xs_), beliefs.append(x0_hat)))  # fmt: skip
assert np.allclose(pictures, xt, atol=1e-4)


def nearest(pictures):
    """The digit of the world that each picture is nearest to, and the largest error of any pixel."""
    error = abs(pictures.reshape(len(pictures), 1, -1) - points).max(-1)  # (N,10)
    return error.argmin(1), error.min(1).max()


digit, error = nearest(pictures)
counts = np.bincount(digit, minlength=10)
print(f"{N} pictures: each of the ten digits {counts.min()} to {counts.max()} times, largest error {error:.0e}")
assert error < 1e-5 and counts.min() > 20 and counts.max() < 60

# %%
# Four hundred times noise went in, and four hundred times one of the ten pictures came out, to the last pixel, each
# about as often as the others. The formula is right, and so is the code. Here are four of them on their way: above
# :math:`x_t`, below the guess :math:`\hat x_0`.

moments = [1, 5, 10, 15, 20, 25, 30, 50, 75, 100]  # after so many steps
chosen = [int(np.flatnonzero(digit == d)[0]) for d in (0, 2, 5, 8)]
fig, axes = plt.subplots(8, 10, figsize=(8, 6.7))
for i, k in enumerate(moments):
    for j, n in enumerate(chosen):
        for row, frames in ((2 * j, xs), (2 * j + 1, beliefs)):
            axes[row, i].imshow(frames[k - 1][n, 0], cmap="gray", vmin=-1, vmax=1)
            axes[row, i].axis("off")
    axes[0, i].set_title(str(k), size=9.5, weight="normal", loc="center", pad=4)
for row in range(8):
    name = r"$\hat x_0$" if row % 2 else "$x_t$"
    axes[row, 0].text(-5, 16, name, ha="right", va="center", color=MUTED)
fig.text(0.085, 0.96, "after step", size=9, color=MUTED, ha="right", va="bottom")
fig.subplots_adjust(left=0.09, right=0.995, bottom=0.005, top=0.955, wspace=0.06, hspace=0.06)
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# The number to remember: 17 steps of 100
# ---------------------------------------
# At first the guess is a mixture of all ten. Then it tips, and from there on the digit stands; what remains is
# tidying up. When does it tip?

settled = np.array([abs(x0_hat - pictures).reshape(N, -1).max(1) < 0.1 for x0_hat in beliefs])  # (T,N)
decided = T - np.argmin(settled[::-1], axis=0) + 1  # the first step after which the guess stays
print(f"decided after {decided.mean():.1f} of {T} steps; 9 of 10 pictures after {np.percentile(decided, 90):.0f}")
assert 14 < decided.mean() < 21

# %%
# The eye needs longer, for it looks at :math:`x_t`: there the digit shows when noise and picture are about equal, under
# this schedule at t = 50. The report finds digits "recognisable after 60–70 % of the steps". That speaks of what one
# sees. In this world of ten pictures, what will be drawn has been decided long before.
#
# DDIM: the same way without dice
# -------------------------------
# A network trained as in chapter 12 only knows :math:`q(x_t \mid x_0)`; how single steps are taken, it was never told.
# So we may choose other steps: those that led back in the plane. *DDIM* adds no noise of its own. It takes the guess
# :math:`\hat x_0` and puts the same :math:`\hat\epsilon` back, only less of it, and may jump from t to any smaller s.
#
# .. math:: x_s = \sqrt{\bar\alpha_s}\;\hat x_0 + \sqrt{1-\bar\alpha_s}\;\hat\epsilon

xt = draw(0)
times = md.diffusion.time_steps(T, 10)  # 100, 90, … 0
for t, s in zip(times, times[1:], strict=False):
    eps_hat = oracle(xt, t, no_class).numpy()
    x0_hat = np.clip((xt - np.sqrt(1 - alpha_bar[t]) * eps_hat) / np.sqrt(alpha_bar[t]), -1, 1)
    eps_hat = (xt - np.sqrt(alpha_bar[t]) * x0_hat) / np.sqrt(1 - alpha_bar[t])
    xt = np.sqrt(alpha_bar[s]) * x0_hat + np.sqrt(1 - alpha_bar[s]) * eps_hat

by_steps = {k: md.diffusion.sample(oracle, schedule, no_class, sampler="ddim", steps=k, seed=0, batch_size=N)
            for k in (1, 2, 5, 10, 100)}  # fmt: skip
assert np.allclose(by_steps[10], xt, atol=1e-4)

fig, ax = plt.subplots(figsize=(8, 4.2))
ax.imshow(viz.grid(np.concatenate([p[:10] for p in by_steps.values()]), columns=10), cmap="gray", vmin=0, vmax=255)
ax.set_yticks([33 * i + 16 for i in range(5)], [f"{k} step{'s' * (k > 1)}" for k in by_steps])
ax.set_xticks([])
ax.tick_params(length=0)
ax.spines[:].set_visible(False)
ax.set_title("DDIM: ten noises, and what becomes of each")
fig.tight_layout()
plt.show()

for k, p in by_steps.items():
    print(f"DDIM, {k:3} steps: largest error of any pixel {nearest(p)[1]:.0e}")
assert nearest(by_steps[10])[1] < 1e-5 < 1 < nearest(by_steps[2])[1]

# %%
# One step gives the mean of the world, whatever the noise: blurred, because it *is* a mean. Ten steps give clean
# digits, ten times as fast as DDPM. Noise and picture now belong together, which makes it possible to walk from one
# picture to another (chapter 22).
#
# Ask for a class, and the class comes:

labels = np.repeat(np.arange(10), 4)
asked = md.diffusion.sample(oracle, schedule, labels, sampler="ddim", steps=10, seed=1)
assert np.array_equal(nearest(asked)[0], labels)

# %%
# Inside, the library has one function for each of our two formulas:

x0_hat, xt = beliefs[50][:5], xs[49][:5]  # both belong to t = 50
ones = np.ones_like(xt)
ours = posterior_mean(xt, x0_hat, 50) + np.sqrt(beta_tilde[50]) * ones
assert np.allclose(ddpm_step(schedule, xt, x0_hat, 50, 49, lambda: ones), ours, atol=1e-5)
assert np.allclose(ddim_step(schedule, xt, x0_hat, 1, 0, draw, eta=0.0), x0_hat, atol=1e-5)

# %%
# A network with faults
# ---------------------
# The faultless network can only draw what it was given: ten pictures in, ten pictures out. That new digits appear at
# all is owed to a network that *cannot* learn its pictures by heart, and mixes strokes where it should mix pictures.
# minidiff comes with one, trained on handwritten digits; if it is installed, here is what it draws.

if "mnist" in train.bundled():
    trained = train.load_model("mnist")
    labels = np.repeat(np.arange(10), 5)
    drawn = md.diffusion.sample(trained.model, trained.schedule, labels, sampler="ddim", steps=20, guidance=1.0, seed=0)  # chapter 17
    assert drawn.shape == (50, 1, 32, 32) and abs(drawn).max() <= 1
    fig, ax = plt.subplots(figsize=(8, 4.2))
    order = np.arange(50).reshape(10, 5).T.ravel()  # a column for each class
    ax.imshow(viz.grid(drawn[order], columns=10), cmap="gray", vmin=0, vmax=255)
    ax.set_title("The bundled model, 20 steps of DDIM")
    ax.axis("off")
    fig.tight_layout()
    plt.show()
else:
    print("no bundled model in this installation; examples/train_mnist.py trains one")

# %%
# What would break it
# -------------------
# *A schedule that does not end in noise.* Chapter 9 found that the report's leaves 60 % of the picture at t = T. Even
# a perfect network then starts from something that it takes for a picture of its own, six tenths strong. It was grey
# noise, so the digits nearest to plain grey are taken again and again, and others hardly ever:

report = md.diffusion.make_schedule("linear", T=T)
skewed = np.bincount(nearest(md.diffusion.sample(ExactDenoiser(report), report, no_class, batch_size=N))[0], minlength=10)
print("each digit, cosine:          ", *counts)
print("each digit, report's schedule:", *skewed)
assert skewed.max() > 70 and skewed.min() < 10
greyness = (points**2).sum(1)  # the squared distance from plain grey, 0
assert np.corrcoef(greyness, skewed)[0, 1] < -0.8 < np.corrcoef(greyness, counts)[0, 1]

# %%
# *Noise in the last step* stays in the picture as grain. *No clipping*: at t = T a fault in :math:`\hat\epsilon` is
# divided by :math:`\sqrt{\bar\alpha_T}` on its way into :math:`\hat x_0`; here that makes it two thousand times as
# large. *One generator for the whole batch*: then a picture changes when another batch size is chosen. Here picture i
# depends on the seed and on i alone:

assert 1 / np.sqrt(alpha_bar[T]) > 2000

few = md.diffusion.sample(oracle, schedule, no_class[:5], sampler="ddpm", seed=0, batch_size=2)
assert np.allclose(few, pictures[:5], atol=1e-4)

# %%
# Exercises
# ---------
# 1. **Easy.** Add noise in the last step too, of variance :math:`\beta_1`. How large is the grain? Compute it
#    first.
# 2. **Medium.** Let the world be one Gaussian: every pixel has mean m and variance v. Find :math:`\hat x_0` by
#    multiplying two bells, and show that DDPM gives pictures with this mean and variance. How many DDIM steps does it
#    take?
# 3. **Hard.** Measure ``decided`` for the rescaled linear schedule too, and plot
#    :math:`\mathrm{snr}` at that step instead of the step. What do the schedules have in common? Predict it from the
#    distances between the ten pictures.
#
# Further reading
# ---------------
# * Ho, Jain, Abbeel, *Denoising diffusion probabilistic models*, 2020: algorithm 2, and equations 6 and 7.
# * Song, Meng, Ermon, *Denoising diffusion implicit models*, 2021: DDIM, and why a network trained for DDPM may be used
#   with it.
# * Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole, *Score-based generative modeling through stochastic differential
#   equations*, 2021: both samplers as two ways to follow the same flow.
#
# Noise becomes digits, and a class can be asked for. Fifty of them look good. Are they as good, and as different, as real ones?
# The eye is soon satisfied; the next chapter measures.
