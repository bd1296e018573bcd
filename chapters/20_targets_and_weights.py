"""
Targets and weights
===================
The noise, the picture, a velocity: networks are asked for many things, and each says the same in another language.
But an error that is small in one is large in another. We translate by hand, compute which steps each language cares
about, and train one small network in five of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import cdist

import minidiff as md
from minidiff.diffusion import loss_weight, predict_eps, predict_x0, training_target
from minidiff.diffusion.targets import SIGMA_DATA, network_input
from minidiff.viz.style import COLOURS, FAINT, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
T = 100
schedule = md.diffusion.make_schedule("cosine", T=T)
a, sigma = schedule.signal, schedule.noise  # x_t = a x0 + σ ε
TARGETS = ("eps", "x0", "v", "flow", "edm")
colour = dict(zip(TARGETS, COLOURS, strict=False))

# %%
# One answer in five languages
# ----------------------------
# Draw the picture to the right and the noise upwards. Then :math:`x_t` walks along a quarter of a circle. A network sees
# where it is, and not how it came about. Tell it *one* more thing, and all is known:

fig, axes = plt.subplots(1, 3, figsize=(8, 2.5))
arc = np.linspace(0, np.pi / 2, 100)
s = SIGMA_DATA
for ax, t in zip(axes, (20, 50, 80), strict=True):
    here, root = np.array([a[t], sigma[t]]), np.sqrt((a[t] * s) ** 2 + sigma[t] ** 2)
    ax.plot(np.cos(arc), np.sin(arc), color=FAINT, lw=5, zorder=0)
    arrows = {"eps": (0, 1), "x0": (1, 0), "v": (-sigma[t], a[t]), "flow": (-1, 1), "edm": (sigma[t] / s / root, -a[t] * s / root)}
    for target, (p, q) in arrows.items():
        tail = {"eps": (0, 0), "x0": (0, 0), "flow": (1, 0)}.get(target, here)
        look = {"arrowstyle": "-|>", "color": colour[target], "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", np.add(tail, (p, q)), tail, annotation_clip=False, arrowprops=look)
    ax.plot(*here, "o", color=INK, ms=6)
    ax.text(here[0] + 0.1, here[1] + 0.08, "$x_t$", size=11)
    ax.text(1, -0.08, "picture", size=8.5, color=MUTED, ha="center", va="top")
    ax.text(-0.06, 0.9, "noise", size=8.5, color=MUTED, ha="right")
    ax.set(xlim=(-0.85, 2.7), ylim=(-0.75, 1.75), aspect="equal")
    ax.set_title(f"t = {t}", size=9.5, weight="normal", loc="center", pad=2)
    ax.axis("off")
for i, (target, name) in enumerate(zip(TARGETS, ("ε", "x0", "v", "flow", "edm"), strict=True)):
    fig.text(0.24 + 0.13 * i, 0.04, f"→ {name}", color=colour[target], size=11)
fig.tight_layout(rect=(0, 0.1, 1, 1), w_pad=0.2)
plt.show()

# %%
# :math:`v = a\,\epsilon - \sigma\,x_0` is the direction in which :math:`x_t` moves along the circle; *flow* is the straight way
# from picture to noise, the same at every t; of *edm* more below. Each is some of the picture and some of the noise, and with
# :math:`x_t` itself that makes two equations for two unknowns:
#
# .. math:: y = p\,x_0 + q\,\epsilon, \qquad x_t = a\,x_0 + \sigma\,\epsilon
#           \qquad\Longrightarrow\qquad \hat x_0 = \frac{q\,x_t - \sigma\,\hat y}{q\,a - p\,\sigma}

root = np.sqrt((a * s) ** 2 + sigma**2)
p_and_q = {
    "eps": (0 * a, 1 + 0 * a),
    "x0": (1 + 0 * a, 0 * a),
    "v": (-sigma, a),
    "flow": (-1 + 0 * a, 1 + 0 * a),
    "edm": (sigma / (s * root), -a * s / root),
}
rng = np.random.default_rng(0)
x0, eps = rng.standard_normal((2, 500, 2))
for target, (p, q) in p_and_q.items():
    for t in (1, 50, 99):
        xt, y = a[t] * x0 + sigma[t] * eps, p[t] * x0 + q[t] * eps
        both = np.linalg.solve([[a[t], sigma[t]], [p[t], q[t]]], np.stack([xt.ravel(), y.ravel()]))
        assert np.allclose(both.reshape(2, 500, 2), [x0, eps])
        assert np.allclose(y, training_target(schedule, x0, t, eps, target))
        assert np.allclose(predict_x0(schedule, xt, t, y, target), x0)
        assert np.allclose(predict_eps(schedule, xt, t, y, target), eps)
v = a[50] * eps - sigma[50] * x0  # or, in letters
assert np.allclose(v, training_target(schedule, x0, 50, eps, "v"))

# %%
# Where ε says nothing
# --------------------
# For ε the formula divides by a. If a schedule ends in pure noise, then at T it divides by 0: :math:`\epsilon` *is*
# :math:`x_T`, every network gets full marks for repeating what it sees, and the picture stays unknown. The library
# refuses to train on that. For v nothing is wrong at T, because there it is the picture, with a minus.

ends_in_noise = md.diffusion.make_schedule("cosine", T=T, zero_terminal_snr=True)
try:
    md.diffusion.loss(md.models.MLP(), ends_in_noise, x0.astype(np.float32), np.full(500, -1), rng)
    raise AssertionError("nobody objected")
except md.errors.BadInput as refused:
    print(refused)
assert np.allclose(predict_x0(ends_in_noise, eps, T, -x0, "v"), x0)

# %%
# Which steps does a target care about?
# -------------------------------------
# Let the guess of the picture be off by :math:`\delta`. With :math:`x_t` given, the noise is then off by
# :math:`-\delta a/\sigma`, and y by :math:`\delta\,(p - q a/\sigma)`. So the plain squared error of y counts errors of the
# picture with the weight :math:`(p - q\,a/\sigma)^2`. In each language that is a simple function of the signal-to-noise
# ratio :math:`\mathrm{snr} = a^2/\sigma^2`:
#
# .. math:: w_\epsilon = \mathrm{snr}, \qquad w_{x_0} = 1, \qquad w_v = \mathrm{snr} + 1, \qquad
#           w_\mathrm{flow} = (\sqrt{\mathrm{snr}} + 1)^2, \qquad w_\mathrm{edm} = \mathrm{snr} + 1/s^2

snr, log_snr = schedule.snr[1:], schedule.log_snr[1:]
weight = {"eps": snr, "x0": 1 + 0 * snr, "v": snr + 1, "flow": (np.sqrt(snr) + 1) ** 2, "edm": snr + 1 / s**2}
for target, (p, q) in p_and_q.items():
    assert np.allclose((p - q * a / np.maximum(sigma, 1e-12))[1:] ** 2, weight[target])

# %%
# A weight in the loss is a way to ask for one thing and care as if for another. *Min-SNR* says that no error of the
# picture shall count more than 5, in whatever language it is made. Here is what the library multiplies errors of v by:

ones = np.ones((T, 1))
min_snr = np.minimum(snr, 5.0)
assert np.allclose(loss_weight(schedule, np.arange(1, T + 1), ones, "min-snr", "v")[:, 0], min_snr / weight["v"])

# %%
# The language made to measure
# ----------------------------
# Karras et al. asked what a network likes best: to see numbers of size 1 and to answer with numbers of size 1, at every
# step. Let the data have deviation s. Then :math:`x_t` has variance :math:`a^2s^2 + \sigma^2`, and the input is easy: show
# :math:`c_\mathrm{in}\,x_t` with :math:`c_\mathrm{in} = 1/\sqrt{a^2s^2+\sigma^2}`. For the answer they put
#
# .. math:: \hat x_0 = c_\mathrm{skip}\, x_t + c_\mathrm{out}\, \hat y
#
# and chose :math:`c_\mathrm{skip}` so that as little as possible is left to the network: the best guess along a straight
# line. What then is left has the size :math:`c_\mathrm{out}`, and y has size 1.
#
# .. math:: c_\mathrm{skip} = \frac{a s^2}{a^2s^2+\sigma^2}, \qquad c_\mathrm{out} = \frac{\sigma s}{\sqrt{a^2s^2+\sigma^2}}

c_in, c_skip, c_out = 1 / root, a * s**2 / root**2, sigma * s / root
x0, eps = s * rng.standard_normal(100_000), rng.standard_normal(100_000)
for t in (1, 30, 70, 100):
    xt = a[t] * x0 + sigma[t] * eps
    assert abs((xt @ x0) / (xt @ xt) - c_skip[t]) < 0.01  # the line that fits best
    y = (x0 - c_skip[t] * xt) / c_out[t]
    print(f"t = {t:3}  input {np.std(c_in[t] * xt):.3f}  answer {np.std(y):.3f}   (the answer in v {np.std(a[t] * eps - sigma[t] * x0):.3f})")
    assert abs(np.std(c_in[t] * xt) - 1) < 0.01 and abs(np.std(y) - 1) < 0.01
    assert np.allclose(y, training_target(schedule, x0, t, eps, "edm"))
    assert np.allclose(c_in[t] * xt, network_input(schedule, xt, t, "edm"))

# %%
# The same network, five languages
# --------------------------------
# Does it matter? On the ring of chapter 10 every best answer is known, so each error can be measured, and in the same
# coin: how far is the *guess of the picture* from the best one? The same small MLP, the same 300 steps, the same points
# and noise, three seeds each; only the target is another.

ring = md.data.eight_gaussians()
STEPS, SEEDS, N = 300, 3, 1500
no_class, data = np.full(N, -1), ring.draw(N, np.random.default_rng(1))[0]
size = ring.draw(20_000, np.random.default_rng(2))[0].std()
at = np.array([2, 5, 10, 20, 35, 50, 70, 85, 95, 99])


def trained(target, seed):
    md.manual_seed(seed)
    model = md.models.MLP(width=64, depth=2, num_classes=1, target=target)
    optimizer = md.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    lr_schedule = md.optim.CosineLR(optimizer, STEPS, warmup_steps=20)
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        batch = ring.draw(128, rng)[0].astype(np.float32)
        md.diffusion.loss(model, schedule, batch, np.full(128, -1), rng).backward()
        optimizer.step()
        optimizer.zero_grad()
        lr_schedule.step()
    return model


def wrong(model, t):
    """How far the guess of the picture is from the best one, as a part of the picture's size."""
    rng = np.random.default_rng(int(t))
    xt = a[t] * ring.draw(500, rng)[0] + sigma[t] * rng.standard_normal((500, 2))
    with md.no_grad():
        y = model(network_input(schedule, xt, t, model.target).astype(np.float32), t, no_class[:500]).numpy()
    error = predict_x0(schedule, xt, t, y, model.target) - ring.expected(xt, a[t], sigma[t])
    return np.sqrt((error**2).mean()) / size


def distance(X, Y):
    """Energy distance, as in chapter 10."""
    n, m = len(X), len(Y)
    return 2 * cdist(X, Y).mean() - cdist(X, X).sum() / (n * (n - 1)) - cdist(Y, Y).sum() / (m * (m - 1))


errors, far, kept = {}, {}, {}
for target in TARGETS:
    models = [trained(target, seed) for seed in range(SEEDS)]
    errors[target] = np.array([[wrong(model, t) for t in at] for model in models])  # (seeds, steps)
    samples = [md.diffusion.sample(m, schedule, no_class, "ddim", 50, clip=True, batch_size=N) for m in models]
    kept[target] = models[0]
    far[target] = [1e4 * distance(drawn, data) for drawn in samples]
    print(f"{target:4}  error at t = 2: {errors[target][:, 0].mean():.3f}, at t = 99: {errors[target][:, -1].mean():.3f}"
          f"   samples' distance to data, three seeds: {' '.join(f'{d:.0f}' for d in far[target])}")  # fmt: skip

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9))
for target in TARGETS:
    left.semilogy(log_snr, weight[target], color=colour[target], label={"eps": "ε"}.get(target, target))
    right.semilogy(schedule.log_snr[at], errors[target].mean(0), color=colour[target])
    for one in errors[target]:
        right.semilogy(schedule.log_snr[at], one, ".", ms=4, color=colour[target])
left.semilogy(log_snr, min_snr, ":", color=INK, zorder=5, label="min-SNR")
left.set(ylim=(1e-3, 2e3), xlim=(9, -9), xlabel="ln snr      (noise →)", title="How much an error of x0 counts")
right.set(xlim=(9, -9), xlabel="ln snr      (noise →)", title="How large it is after training")
for ax in (left, right):
    ax.set_title(ax.get_title("left"), size=10.5)
    ax.grid(True)
left.legend(loc="lower left", ncols=2)
fig.tight_layout()
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# The number to remember: 64
# --------------------------
# At t = 99 there is 64 times as much noise as signal, and an error in ε is 64 times as large in the picture. v has no such
# factor, and there its guess is better by about as much. Where there is little noise it is the other way round: the
# error of a network that names the picture has no reason to be small just because x0 is in plain sight.

factor = sigma[99] / a[99]
first, last = ({target: errors[target][:, i].mean() for target in TARGETS} for i in (0, -1))
print(f"noise to signal at t = 99: {factor:.1f}; error of ε to that of v: {last['eps'] / last['v']:.0f} at t = 99, "
      f"{first['eps'] / first['v']:.1f} at t = 2")  # fmt: skip
print(f"error of x0 to that of v at t = 2: {first['x0'] / first['v']:.1f}")
assert 60 < factor < 68 and 15 < last["eps"] / last["v"] < 200
assert 2 < first["x0"] / first["v"] < 10
good = np.concatenate([errors[target] for target in ("v", "flow", "edm")])  # in every seed, at either end:
assert good[:, 0].max() < 0.6 * errors["x0"][:, 0].min() and good[:, -1].max() < 0.1 * errors["eps"][:, -1].min()

# %%
# v, flow and edm ask for the noise where it is little and for the picture where that is little, and are bad at neither
# end. That holds in every seed. It does not make their samples the best. Clipping tames ε's bad guesses, and the samples
# of ε, x0, v and flow overlap from seed to seed (noise is at 1,000). Edm's are further away, in each seed: it counts
# errors in pure noise four times, and its guesses are the worst ones at ln snr = 2, where one of the eight is chosen. That
# may be the reason. Three hundred steps on eight clouds do not choose a target for pictures; they show where to look.

middle = {target: errors[target][:, 3].mean() for target in TARGETS}
assert max(middle, key=middle.get) == "edm" and min(far["edm"]) > max(far["v"] + far["flow"])

# %%
# What would break it
# -------------------
# *A model asked in one language and read in another*: nothing fails, the samples are just wrong. So a minidiff model
# carries its ``target`` with it. *Comparing losses* of different targets: they are in different coins. *No clipping with
# ε*: DDIM's first guess is divided by a at T, and what it gets wrong there is never quite made good again:

wild = md.diffusion.sample(kept["eps"], schedule, no_class, "ddim", 50, clip=False, batch_size=N)
print(f"ε without clipping: distance {1e4 * distance(wild, data):.0f}, with clipping {far['eps'][0]:.0f}")
assert 1e4 * distance(wild, data) > 10 * far["eps"][0]

# %%
# Exercises
# ---------
# 1. **Easy.** Give all five a layer more and twice the steps. Which samples are the furthest now?
# 2. **Medium.** Train the five with ``weighting="min-snr"``. The weights now agree; do the errors? What is left of the
#    difference between the targets, and where does it come from?
# 3. **Hard.** For data of deviation s, show that the edm target is a turned v: find the angle between :math:`x_t` and it
#    as a function of s and t, and s for which it is 90 degrees. Then choose p and q so that y has size 1 and is not
#    correlated with the input, for two pixels of *different* deviations.
#
# Further reading
# ---------------
# * Salimans, Ho, *Progressive distillation for fast sampling of diffusion models*, 2022: v, and weights over log-SNR.
# * Karras, Aittala, Aila, Laine, *Elucidating the design space of diffusion-based generative models*, 2022: section 5.
# * Hang, Gu, Li, Bao, Chen, Hu, Geng, Guo, *Efficient diffusion training via min-SNR weighting strategy*, 2023.
# * Lin, Liu, Li, Yang, *Common diffusion noise schedules and sample steps are flawed*, 2024: ending in noise.
# * Kingma, Gao, *Understanding diffusion objectives as the ELBO with simple data augmentation*, 2023: all weights as one.
#
# One of the five is the same at every step of the way: :math:`\epsilon - x_0`, the straight road from picture to noise.
# What if the *schedule* were straight, too? That is the last simplification, and the next chapter.
