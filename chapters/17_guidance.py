"""
Guidance
========
Do not only ask for the class: exaggerate it. One line between the answers with and without a label makes samples that look
more like their class, and more like each other. We look at what that line does where everything is known, find that it
samples from no distribution that one could name, and then use it on pictures.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import evaluate, train
from minidiff.diffusion import Guidance, guided_output
from minidiff.diffusion.guidance import lean, rescaled
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
schedule = md.diffusion.make_schedule("cosine", T=200)
a, sigma, T = schedule.signal, schedule.noise, schedule.T  # x_t = a x0 + σ ε
rng = np.random.default_rng(0)

# %%
# A ruler through two answers
# ---------------------------
# Chapter 16's network answers with a label, :math:`\hat\epsilon_c`, and without one, :math:`\hat\epsilon_u`. *Classifier-free
# guidance* lays a ruler through both and goes on beyond the first by w times their distance:
#
# .. math:: \hat\epsilon = (1 + w)\,\hat\epsilon_c - w\,\hat\epsilon_u = \hat\epsilon_u + (1 + w)(\hat\epsilon_c - \hat\epsilon_u)
#
# w = 0 is no guidance. (Half of the literature, and most programs, call 1 + w the scale: their 1 is our 0.) We try it in the
# plane, on three classes that touch. ``Exact`` answers there as a perfect network would.

three = md.data.Mixture([[-0.5, -0.3], [0.5, -0.3], [0.0, 0.55]], [0.25] * 3)
model = md.diffusion.Exact(three, schedule)


def answer(x, t, label):
    return (x - a[t] * three.expected(x, a[t], sigma[t], np.full(len(x), label))) / sigma[t]


x, w, t = 0.8 * rng.standard_normal((200, 2)), 3.0, 80
eps_c, eps_u = answer(x, t, 0), answer(x, t, -1)
eps_hat = (1 + w) * eps_c - w * eps_u
assert np.allclose(eps_hat, eps_u + (1 + w) * (eps_c - eps_u))
assert np.allclose(eps_hat, guided_output(model, x, t, np.zeros(200, int), w), atol=1e-4)

# %%
# What it means
# -------------
# Chapter 10: the noise is the score, :math:`\nabla \ln p(x_t) = -\hat\epsilon/\sigma`. And by Bayes
# :math:`\ln p(c \mid x) = \ln p(x \mid c) - \ln p(x)` up to a constant. So the ruler's line says
#
# .. math:: -\hat\epsilon/\sigma = \nabla \ln p(x_t \mid c) + w\, \nabla \ln p(c \mid x_t)
#
# walk to where the class is dense, and also to where *nobody could take it for another*. Differences prove it:


def ln_parts(x, t):
    """ln p(x_t, c) for each class, but for what does not depend on x.            # (N,2) -> (N,3)"""
    away = ((x[:, None] - a[t] * three.means) ** 2).sum(-1)
    return -away / (2 * (a[t] ** 2 * three.deviations**2 + sigma[t] ** 2))


def ln_class(x, t, c):
    """ln p(c | x_t)"""
    parts = ln_parts(x, t)
    return parts[:, c] - np.log(np.exp(parts).sum(1))


def slope(f, h=1e-5):
    return np.stack([(f(x + step) - f(x - step)) / (2 * h) for step in h * np.eye(2)], axis=1)


of_class = slope(lambda x: ln_class(x, t, 0))
assert np.allclose(-eps_hat / sigma[t], slope(lambda x: ln_parts(x, t)[:, 0]) + w * of_class, atol=1e-5)

# %%
# So an ordinary classifier can take the place of :math:`\hat\epsilon_u`: one network, and a gradient. That is *classifier
# guidance*, which is older.

x0_hat = lean(schedule, t, (x - sigma[t] * eps_c) / a[t], of_class, w)
assert np.allclose(eps_hat, (x - a[t] * x0_hat) / sigma[t], atol=1e-5)

# %%
# What comes out
# --------------
# Sample each class with w = 0, 1 and 4. The loop is chapter 13's DDIM with one line more:

N = 1500
labels = np.repeat(np.arange(3), N // 3)
start = md.philox.normal(0, range(N), 2, stream=md.diffusion.samplers.STREAM)


def guided(x, t, w):
    eps_c, eps_u = ((x - a[t] * three.expected(x, a[t], sigma[t], part)) / sigma[t] for part in (labels, None))
    return (1 + w) * eps_c - w * eps_u


def ddim(x, w):
    for t in range(T, 0, -1):
        eps_hat = guided(x, t, w)
        x = a[t - 1] * (x - sigma[t] * eps_hat) / a[t] + sigma[t - 1] * eps_hat
    return x


draw = dict(clip=False, batch_size=N)
by_w = {w: md.diffusion.sample(model, schedule, labels, "ddim", guidance=w, **draw) for w in (0.0, 1.0, 4.0)}
assert np.allclose(ddim(start, 4.0), by_w[4.0], atol=2e-3)


def moved(points):
    """How far the middle of each class has moved, and the deviation that it has now: means over the three."""
    points = points.reshape(3, N // 3, 2)
    return np.linalg.norm(points.mean(1) - three.means, axis=1).mean(), points.std(1).mean()


def sure(points):
    return np.mean([np.exp(ln_class(points[labels == c], 0, c)).mean() for c in range(3)])


for w, points in by_w.items():
    print("w = {:.0f}: p(c | x) {:.1%}, class moved by {:.2f}, deviation {:.2f}".format(w, sure(points), *moved(points)))
assert sure(by_w[0.0]) < 0.96 and sure(by_w[4.0]) > 0.99
assert moved(by_w[4.0])[1] < 0.75 * moved(by_w[0.0])[1]

# %%
# Surer, narrower, and away from the others. What distribution is that? The line seems to say it: it is the slope of
#
# .. math:: \ln q_w(x) = \ln p(x \mid c) + w \ln p(c \mid x), \qquad
#           q_w(x) \propto \frac{p(x \mid c)^{1+w}}{p(x)^w}
#
# In the plane q can be computed, on a grid:

axis = np.linspace(-2.5, 2.5, 201)
grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def tilted(c, w):
    ln_q = ln_parts(grid, 0)[:, c] + w * ln_class(grid, 0, c)
    q = np.exp(ln_q - ln_q.max())
    return q / q.sum()


def of_density(w):
    """The same two numbers as `moved`, of q."""
    q = np.stack([tilted(c, w) for c in range(3)])  # (3,grid)
    means = q @ grid
    variances = q @ grid**2 - means**2
    return np.linalg.norm(means - three.means, axis=1).mean(), np.sqrt(variances).mean()


# %%
# The number to remember: ten times as far
# ----------------------------------------
# And do the samples come from q? By how much the classes have moved, and how wide they are, for q and for two samplers:

ddpm = md.diffusion.sample(model, schedule, labels, "ddpm", guidance=4.0, **draw)
rows = {"q on a grid": of_density(4.0), "DDIM": moved(by_w[4.0]), "DDPM": moved(ddpm)}
for name, (far, wide) in rows.items():
    print(f"w = 4, {name:12} moved by {far:.3f}, deviation {wide:.3f}")
times = rows["DDIM"][0] / rows["q on a grid"][0]
print(f"DDIM moves the classes {times:.1f} times as far as q does")
assert 7 < times < 13 and rows["DDIM"][1] < 0.75 * rows["q on a grid"][1]
assert 2 < rows["DDPM"][0] / rows["q on a grid"][0] < 0.6 * times

fewer = md.diffusion.sample(model, schedule, labels, "ddim", 100, guidance=4.0, **draw)
unguided = md.diffusion.sample(model, schedule, labels, "ddpm", **draw)
assert abs(moved(fewer)[0] / rows["DDIM"][0] - 1) < 0.05  # half of the steps lead to the same place
assert abs(np.subtract(moved(unguided), moved(by_w[0.0]))).max() < 0.02  # and without guidance DDPM and DDIM agree

# %%
# No fault of the network, for it has none; nor of the steps, for half of them would do. The line has the slope of
# :math:`q_w` *at t = 0*. A sampler needs, at each t, the slope of what q has become by noise, and that is not the line at t:
# noise and a power do not commute. In much noise all classes overlap, and the line pushes points apart that q would leave in
# peace. DDIM and DDPM agree when w = 0. Here they do not even agree with each other, so there is no distribution that
# guidance "really" samples. (Bradley and Nakkiran show what DDPM does: a step of prediction, and a correction towards q.)
#
# Is the line at t = 0 right, then? Stay at the last step, and walk along it with noise of the right size (Langevin's
# dynamics, exercise 2 of chapter 10). Now the points must come back to q, and they do:

x, h = by_w[4.0].astype(float), 0.002
for _ in range(400):
    x = x - h * guided(x, 1, 4.0) / sigma[1] + np.sqrt(2 * h) * rng.standard_normal(x.shape)
print("and after Langevin   moved by {:.3f}, deviation {:.3f}".format(*moved(x)))
assert abs(moved(x)[0] - rows["q on a grid"][0]) < 0.03 and abs(moved(x)[1] / rows["q on a grid"][1] - 1) < 0.06

panels = [(f"w = {w:.0f}", points, w) for w, points in by_w.items()] + [("w = 4, then Langevin", x, 4.0)]
fig, axes = plt.subplots(1, 4, figsize=(8, 2.3))
for ax, (title, points, w) in zip(axes, panels, strict=True):
    ax.scatter(*points.T, s=1.5, lw=0, color=np.array(COLOURS)[labels])
    for c in range(3):
        q = tilted(c, w)
        level = np.sort(q)[::-1][np.searchsorted(np.cumsum(np.sort(q)[::-1]), 0.9)]
        ax.contour(axis, axis, q.reshape(201, 201), [level], colors=[INK], linewidths=1)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.15, 1.65), aspect="equal")
    ax.set_title(title, size=9.5, weight="normal", loc="center", pad=4)
    ax.axis("off")
fig.text(0.5, 0.02, "a black line holds nine tenths of $q_w$", ha="center", size=9, color=MUTED)
fig.tight_layout(rect=(0, 0.06, 1, 1), w_pad=0.2)
plt.show()

# %%
# Away from one class
# -------------------
# In the place of "no class" may stand a class to be unlike, a *negative* one. "No class" lets go as soon as the class is
# sure. A negative class never does: between two bells of equal width :math:`\nabla \ln p(c \mid x) - \nabla \ln p(n \mid x)`
# is the same everywhere, and the samples are a bell again, around :math:`m_c + w\,(m_c - m_n)`:

unlike = md.diffusion.sample(model, schedule, np.zeros(N, int), "ddim", guidance=Guidance(w=1.0, negative=1), **draw)
wanted = three.means[0] + 1.0 * (three.means[0] - three.means[1])
print(f"class 0, unlike 1: mean {unlike.mean(0).round(2)}, by the formula {wanted}")
assert abs(unlike.mean(0) - wanted).max() < 0.03 and abs(unlike.std(0) / 0.25 - 1).max() < 0.06

# %%
# On pictures
# -----------
# The bundled model draws handwritten digits, three of each, in 8 steps of DDIM. Chapter 8's judge says how many are what was
# asked for; *spread* is how far two pictures of one class are apart, a mean over pixels and pairs. Beside plain guidance:
#
# * an **interval**: lean only in the middle of the way (Kynkäänniemi et al.). It also saves questions;
# * **rescaling**: bring each answer back to the deviation that it had without guidance (Lin et al.);
# * **the judge as a guide**: the network is told *nothing*, and each step follows the judge's slope,
#   :math:`\hat\epsilon - \sigma\, s\, \nabla \ln p(c \mid \hat x_0)`.

y = rng.standard_normal((2, 5, 1, 32, 32)).astype(np.float32)
for plain, large in zip(y, 3 * y, strict=True):  # rescaling by hand
    size = plain.std((1, 2, 3), keepdims=True) / large.std((1, 2, 3), keepdims=True)
    assert np.allclose(0.7 * size * large + 0.3 * large, rescaled(large, plain, 0.7), atol=1e-5)

bundled, judge = train.load_model("mnist"), evaluate.load_judge()
digits = np.repeat(np.arange(10), 3)


class Untold(md.models.UNet):
    def forward(self, x, t, labels, style=None):
        return super().forward(x, t, np.full_like(labels, -1))


untold = Untold(**bundled.model.config)
untold.load_state_dict(bundled.model.state_dict())
shown = Guidance(classifier=lambda x0: judge.model(x0[:, :, 2:30, 2:30]), strength=2.0)  # the judge knows 28x28 pixels
recipes = {
    "w = 0": (bundled.model, 0.0),
    "w = 1": (bundled.model, 1.0),
    "w = 4": (bundled.model, 4.0),
    "w = 4, in (0.2, 0.8)": (bundled.model, Guidance(4.0, interval=(0.2, 0.8))),
    "w = 4, rescaled": (bundled.model, Guidance(4.0, rescale=0.7)),
    "told nothing": (untold, 0.0),
    "the judge alone": (untold, shown),
}
drawn, right, spread, contrast = {}, {}, {}, {}
for name, (network, guidance) in recipes.items():
    p = md.diffusion.sample(network, bundled.schedule, digits, "ddim", 8, guidance=guidance)
    pairs = p.reshape(10, 3, 1, -1) - p.reshape(10, 1, 3, -1)  # (10,3,3,pixels)
    drawn[name], right[name] = p, evaluate.judge_samples(p, digits, judge).accuracy
    spread[name], contrast[name] = np.sqrt((pairs**2).mean(-1)).sum() / (10 * 3 * 2), p.std((1, 2, 3)).mean()
    print(f"{name:21} right {right[name]:6.1%}   spread {spread[name]:.3f}   contrast {contrast[name]:.3f}")
assert spread["w = 0"] > spread["w = 1"] > spread["w = 4"] and spread["w = 4, in (0.2, 0.8)"] > spread["w = 1"]
assert contrast["w = 4"] > 1.1 * contrast["w = 0"] and contrast["w = 4, in (0.2, 0.8)"] < 0.95 * contrast["w = 4"]
assert spread["w = 4, in (0.2, 0.8)"] > 0.9 * spread["w = 0"] and abs(contrast["w = 4, rescaled"] - contrast["w = 4"]) < 0.03
assert 0.7 < right["w = 0"] < right["w = 1"]
assert right["w = 4"] > 0.95
assert right["told nothing"] < 0.3
assert right["the judge alone"] > 0.7

fig, ax = plt.subplots(figsize=(8, 3.7))
columns = np.flatnonzero(np.isin(digits, (2, 3, 5, 8)))
sheet = np.concatenate([np.concatenate(p[columns, 0], axis=1) for p in drawn.values()])  # (7·32,12·32)
ax.imshow(sheet, cmap="gray", vmin=-1, vmax=1)
ax.set(yticks=range(16, 7 * 32, 32), yticklabels=drawn, xticks=(48, 144, 240, 336), xticklabels=("asked for 2", "3", "5", "8"))
ax.tick_params(length=0)
fig.tight_layout()
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# As in the plane: with w the pictures are surer of their class (a few of 30 were wrong before, which w = 1 mends already), and
# those of a class come closer together. Their strokes get bolder. The interval keeps all of the spread and most of the old
# contrast. Rescaling does nothing here: guesses are clipped to [−1, 1], and black and white have nowhere to go. The last row
# shows what guidance *can* do: from a network that draws any digit, a classifier that was never shown noise gets the one that
# was asked for. (Only, here the judge marks its own work.)
#
# What would break it
# -------------------
# *The sign.* :math:`(1-w)\,\hat\epsilon_c + w\,\hat\epsilon_u` looks nearly the same. At w = 1 the label is gone, and one in
# three is right by chance; beyond that it is *avoided*. What comes out looks fine, only it is something else:

wrong = {w: sure(ddim(start, -w)) for w in (1.0, 2.0)}
print("with the wrong sign: " + ", ".join(f"w = {w:.0f} p(c | x) {p:.0%}" for w, p in wrong.items()))
assert 0.25 < wrong[1.0] < 0.42 and wrong[2.0] < 0.15

# %%
# *The other convention*: a recipe's "scale 7.5" is w = 6.5. *A label that was never dropped*: then −1 means nothing to the
# network, and the ruler is laid through an answer and a guess. *Reading one number*: who looks at class accuracy alone
# will raise w for ever: in the plane it rises to 100 %, and nothing in it says when to stop.
#
# Exercises
# ---------
# 1. **Easy.** In which steps does the plane lose its spread? Try w = 4 in the intervals (0, 0.3), (0.3, 0.7) and (0.7, 1).
# 2. **Medium.** Replace the network without a label by one that is *worse*: ``Exact`` of a mixture with deviations 0.4,
#    asked for the same class (*autoguidance*). Which way does the difference point now, and where does it vanish?
# 3. **Hard.** Take one bell for the class, N(0, 1), and one for all, N(0, 2), in one dimension. Solve DDIM for small steps
#    with a w in closed form, and show that the variance is not that of :math:`q_w`. For which schedule would it be?
#
# Further reading
# ---------------
# * Dhariwal, Nichol, *Diffusion models beat GANs on image synthesis*, 2021: classifier guidance.
# * Ho, Salimans, *Classifier-free diffusion guidance*, 2022: equation 6 is our line.
# * Lin, Liu, Li, Yang, *Common diffusion noise schedules and sample steps are flawed*, 2024: rescaling, section 3.4.
# * Kynkäänniemi, Aittala, Karras, Laine, Aila, Lehtinen, *Applying guidance in a limited interval improves sample and
#   distribution quality in diffusion models*, 2024.
# * Karras, Aittala, Kynkäänniemi, Lehtinen, Aila, Laine, *Guiding a diffusion model with a bad version of itself*, 2024.
# * Bradley, Nakkiran, *Classifier-free guidance is a predictor-corrector*, 2024: what guided DDPM samples from.
#
# Guidance steers by a label, or by anything that can be asked "how likely is this?". Good samples want long training, though,
# and what may go wrong in an hour will. How a run survives that, bit for bit, is the next chapter.
