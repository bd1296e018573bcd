"""
Telling it the class
====================
Ask for a seven, and a seven should come. So the network is told one more number, and all depends on where: at some places
it is hardly heard. We follow a label through embedding, GroupNorm and FiLM by hand, train three networks that differ
only in the place, and measure how much of their answer the label decides.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import ndtr

import minidiff as md
import minidiff.nn.functional as F
from minidiff import train
from minidiff.diffusion import predict_x0
from minidiff.models.conditions import told_style
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)
schedule = md.diffusion.make_schedule("cosine", T=100)
T = schedule.T
rng = np.random.default_rng(0)

# %%
# From a label to a vector
# ------------------------
# A 7 is not more than a 3, so the network must not see labels as sizes. It sees chapter 11's ten numbers, of which one is 1,
# and none for "no class", the label −1. A matrix times such a *one-hot* vector is one of its columns: each class has a vector
# of its own, and training moves it. A GELU and a second matrix make the *embedding* e.


def gelu(x):
    return x * ndtr(x)  # ndtr: how likely a standard normal number is below x


md.manual_seed(0)
embed = md.models.EmbedBlock(10, 48)
W1, b1, W2, b2 = (p.numpy() for p in embed.parameters())
labels = np.array([7, 3, -1])
column = np.stack([W1[:, 7], W1[:, 3], np.zeros(48)])  # (3,48)
e = gelu(column + b1) @ W2.T + b2
assert np.allclose(e, embed(F.one_hot(labels, 10)).numpy(), atol=1e-5)

# %%
# The same network shall do without a label, too; the next chapter needs that. So, as in chapter 12, each picture of a batch
# loses its label with a small probability (Ho and Salimans), and every batch teaches both:

asked = rng.integers(0, 10, 1000)
by_hand = np.where(np.random.default_rng(1).random(1000) < 0.15, -1, asked)
assert np.array_equal(by_hand, md.diffusion.drop_labels(asked, 0.15, np.random.default_rng(1)))
assert 0.1 < (by_hand == -1).mean() < 0.2

# %%
# What a GroupNorm leaves of it
# -----------------------------
# The first idea is to add e to the picture's channels at the bottom of the U-Net: a number for each channel, the same at
# every pixel. A convolution follows, which makes other numbers of them (except at the edge, where it sees padding). Still
# they are the same at every pixel. This voice can say *how much*. It can never say *where*.

h, c = rng.standard_normal((8, 16, 16)), rng.standard_normal(8)  # a picture of 8 channels, and what is added to them
conv = md.nn.Conv2d(8, 8, 3, padding=1)
told, plain = conv(md.tensor(np.stack([h + c[:, None, None], h]).astype(np.float32))).numpy()
assert np.allclose((told - plain)[:, 1:-1, 1:-1], (conv.weight.numpy().sum((2, 3)) @ c)[:, None, None], atol=1e-5)

# %%
# Then comes a GroupNorm (chapter 6). It takes the mean over a group of channels away, and divides by the deviation. Let each
# channel of the picture have mean 0 and variance 1, and let :math:`V` be the variance of the constants in a group. Then
#
# .. math:: \frac{h + c - \bar c}{\sqrt{1 + V}}
#
# is all that is left: the common part of the constants is gone, and the rest shares a variance of 1 with the picture. Who
# shouts does not get louder. He is heard at the picture's expense.


def group_norm(x, groups):
    x = x.reshape(groups, -1)
    return (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)


h = group_norm(h, 8).reshape(h.shape)
for loud in (0, 1, 3, 10):
    told = h + loud * c[:, None, None]
    y = group_norm(told, 2).reshape(h.shape)  # two groups of four
    V = (loud * c).reshape(2, 4).var(1)
    constant = (y.mean((1, 2)) ** 2).mean()
    print(f"said {loud:2} times as loud: {constant:4.0%} of what comes out is the constant, {1 - constant:4.0%} the picture")
    assert np.isclose(constant, (V / (1 + V)).mean()) and np.isclose(y.var(), 1)
    assert np.allclose(y, group_norm(told + 5, 2).reshape(h.shape))  # common to a group: gone
    assert np.allclose(group_norm(told, 8), group_norm(h, 8))  # one channel a group: all gone
    assert np.allclose(y, F.group_norm(md.tensor(told[None]), 2, eps=0.0).numpy()[0])

# %%
# A choir of filters
# ------------------
# *FiLM* (chapter 11) speaks behind the GroupNorm, and the GELU hears it before the next one levels anything; and it does so in
# every block, which takes a fifth more weights. Each channel
# is a filter that found something somewhere in the picture. Now the class sets how strongly each one counts: :math:`s = -1`
# turns it off.
#
# .. math:: y = \mathrm{GELU}\big((1 + s)\,\mathrm{GroupNorm}(\mathrm{conv}\,x) + b\big), \qquad (s, b) = A\,e + a

block = md.models.GELUConvBlock(8, 16, embed_dim=48)
x, e = h.astype(np.float32), e.astype(np.float32)
with md.no_grad():
    before = block(md.tensor(np.stack([x] * 3)), md.tensor(e)).numpy()
assert np.allclose(before[0], before[1], atol=1e-5)  # A and a start at 0: a new network hears nothing, and loses nothing by it

block.film.weight.data[...] = 0.3 * rng.standard_normal((32, 48))
block.film.bias.data[...] = 0.3 * rng.standard_normal(32)
patches = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))  # (I,H,W,3,3)
found = np.einsum("ihwkl,oikl->ohw", patches, block.conv.weight.numpy()) + block.conv.bias.numpy()[:, None, None]
normed = group_norm(found, 8).reshape(found.shape)  # (O,H,W)
for i in range(3):
    s, b = np.split(block.film.weight.numpy() @ e[i] + block.film.bias.numpy(), 2)  # (O,) each
    y = gelu((1 + s)[:, None, None] * normed + b[:, None, None])
    with md.no_grad():
        assert np.allclose(block(md.tensor(x[None]), md.tensor(e[i : i + 1])).numpy()[0], y, atol=1e-3)

# %%
# Beside the class
# ----------------
# A picture can be told more about than its class: our embedded digits know their slant and the weight of their strokes,
# which chapter 25 measures. Here "nobody said" must not look like "just in the middle". So each value brings a flag along
# that says whether it is known, and NaN stands for one that is not:

style = np.array([[0.5, np.nan], [0.0, -1.2]])
known = ~np.isnan(style)
by_hand = np.concatenate([np.where(known, style, 0), known], axis=1)
assert np.array_equal(by_hand, told_style("by hand", style, 2, 2, md.tensor(style)).numpy())

# %%
# Three places
# ------------
# Three networks, the same 250 batches with the same noise. They differ in ``condition``: where the embedding of step, class
# and style enters. ``before-mid`` adds it ahead of the two blocks at the bottleneck, ``after-mid`` behind them, and
# ``film`` goes into every block. To be quick, the digits have 16x16 pixels, the networks work on patches of 2x2 (``patch``:
# chapter 6's unshuffle), and they are asked for v, a mixture of noise and picture (chapter 20).

digits = md.data.load("glyphs", limit=4000)
large = md.data.to_model(digits.images)  # (N,1,32,32) in [−1,1]
x, y = large.reshape(-1, 1, 16, 2, 16, 2).mean((3, 5)), digits.labels
styles = np.stack([digits.style["slant"], digits.style["weight"]], axis=1)
styles = (styles - styles.mean(0)) / styles.std(0)


def trained(condition, steps=250):
    md.manual_seed(0)
    model = md.models.UNet(image_size=16, channels=(24, 48), patch=2, target="v", condition=condition, style_dim=2)
    optimizer = md.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    lr_schedule = md.optim.CosineLR(optimizer, steps, warmup_steps=20)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        i = rng.integers(0, len(x), 32)
        md.diffusion.loss(model, schedule, x[i], y[i], rng, drop=0.15, style=styles[i]).backward()
        optimizer.step()
        optimizer.zero_grad()
        lr_schedule.step()
    return model


def guess(model, xt, t, labels, *style):
    """The guess of the picture.            # (N,1,H,W), t, (N,) -> (N,1,H,W)"""
    with md.no_grad():
        answer = model(xt, t, labels, *style).numpy()
    return predict_x0(schedule, xt, t, answer, model.target).clip(-1, 1)


networks = {condition: trained(condition) for condition in ("before-mid", "after-mid", "film")}

# %%
# The number to remember: 58 %
# ----------------------------
# In pure noise there is no picture to go by, and the label is all there is. The best answer is the mean of its class, and
# the label decides *all* of it. How much does it decide of ours? Show the same :math:`x_t` ten times with ten labels:
#
# .. math:: \text{heard} = \frac{\mathbb E_{x_t} \mathrm{Var}_c\; \hat x_0(x_t, c)}{\mathrm{Var}_{x_t, c}\; \hat x_0(x_t, c)}


def ten_answers(model, x0, t):
    """Of every noisy picture, the guess under each of the ten labels.            # (N,1,H,W) -> (N,10,H,W)"""
    xt = md.diffusion.q_sample(schedule, x0, t, np.random.default_rng(2).standard_normal(x0.shape, dtype=np.float32))
    return guess(model, np.repeat(xt, 10, axis=0), t, np.tile(np.arange(10), len(x0))).reshape(len(x0), 10, *x0.shape[2:])


def heard(answers):
    return answers.var(axis=1).mean() / answers.var(axis=(0, 1)).mean()


at = [10, 30, 50, 60, 70, 80, 85, 90, 95, 100]
curves = {name: [heard(ten_answers(model, x[-20:], t)) for t in at] for name, model in networks.items()}
loud = {name: curve[-1] for name, curve in curves.items()}
print("decided by the label, in pure noise: " + ", ".join(f"{name} {value:.0%}" for name, value in loud.items()))
assert 0.45 < loud["film"] < 0.75 and max(loud["before-mid"], loud["after-mid"]) < 0.5 * loud["film"]

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), width_ratios=(1.9, 1))
rows = {"mean of class": np.stack([x[y == k].mean((0, 1)) for k in range(10)])}
rows |= {name: ten_answers(model, x[-20:], T).mean(0) for name, model in networks.items()}
sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows.values()])  # (4·16,10·16)
left.imshow(sheet, cmap="gray", vmin=-1, vmax=1)
left.set(xticks=range(8, 160, 16), xticklabels=range(10), yticks=range(8, 64, 16), yticklabels=rows)
left.set_title("What they make of pure noise and a label", size=10.5)
for (name, curve), colour in zip(curves.items(), COLOURS[1:], strict=False):
    right.plot(at, curve, color=colour, label=name)
if "mnist" in train.bundled():
    bundled = train.load_model("mnist")  # film, on handwritten digits; its schedule is ours
    curve = [heard(ten_answers(bundled.model, large[-4:], t)) for t in at[1::2]]
    right.plot(at[1::2], curve, ":", color=MUTED, label="bundled model")
    print(f"the bundled model, {bundled.steps:,} steps on handwritten digits: {curve[-1]:.0%}")
    assert bundled.schedule.name == "cosine" and bundled.schedule.T == T and curve[-1] > 0.95
right.set(xlabel="t      (noise →)", ylim=(0, 1.02), xlim=(10, 100), xticks=(25, 50, 75, 100))
right.set_title("What the label decides", size=10.5)
right.grid(True)
right.legend(loc="upper left")
left.tick_params(length=0)
fig.tight_layout()
plt.show()

# %%
# Each is the mean over twenty noises. FiLM is on its way to the top row. After-mid has nearly one blurred digit for all ten,
# here darker and there brighter. All curves fall to the left, and they should: where the picture can be seen, it says itself
# what it is. Only in the noise must one listen, and there it is decided what will be drawn.
#
# How much, but not where
# -----------------------
# Style shows what is missing. Heavier strokes are *more ink*, which a voice that is the same at every pixel can ask for.
# A slant is a matter of *where*. We ask each network, in pure noise, for light and for heavy strokes, for a lean to the left
# and one to the right (1.5 deviations either way), and measure ink and lean. The lean of a digit is the angle at which x
# grows with y:


def lean(pictures):
    ink = (pictures[:, 0].astype(float) + 1) / 2
    ink /= ink.sum((1, 2), keepdims=True)
    row, column = np.mgrid[:16, :16]
    row, column = (a - (ink * a).sum((1, 2))[:, None, None] for a in (row, column))
    return np.degrees(np.arctan2(-(ink * row * column).sum((1, 2)), (ink * row**2).sum((1, 2)))).mean()


assert np.isclose(lean(x[:100]), md.data.MEASURES["slant"](x[:100]).mean())

xt, which = rng.standard_normal((100, 1, 16, 16), dtype=np.float32), np.arange(100) % 10
wishes = {"left": (-1.5, 0.0), "right": (1.5, 0.0), "light": (0.0, -1.5), "heavy": (0.0, 1.5)}
drawn, turned, thickened = {}, {}, {}
for name, model in networks.items():
    drawn[name] = [guess(model, xt, T, which, np.tile(wish, (100, 1))) for wish in wishes.values()]
    left, right, light, heavy = drawn[name]
    turned[name], thickened[name] = lean(right) - lean(left), (heavy.mean() + 1) / (light.mean() + 1) - 1
    print(f"{name:10} turns by {turned[name]:4.1f} degrees, heavy strokes have {thickened[name]:.0%} more ink")
print(f"digits as they are: {lean(x[styles[:, 0] > 1.3]) - lean(x[styles[:, 0] < -1.3]):.1f} degrees between the most slanted")
assert min(thickened.values()) > 0.1  # all of them hear how much
assert abs(turned["after-mid"]) < 2 < 5 < min(turned["before-mid"], turned["film"])  # but not where

fig, axes = plt.subplots(1, 3, figsize=(8, 2.5))
for ax, (name, pictures) in zip(axes, drawn.items(), strict=True):
    mean = [[p[which == k].mean((0, 1)) for p in pictures] for k in (1, 4, 7)]  # over ten noises
    ax.imshow(np.concatenate([np.concatenate(row, axis=1) for row in mean]), cmap="gray", vmin=-1, vmax=1)
    ax.set(xticks=range(8, 64, 16), xticklabels=wishes, yticks=[])
    ax.tick_params(length=0)
    ax.set_title(name, size=10.5)
fig.tight_layout()
plt.show()

# %%
# FiLM and before-mid hear both. After-mid does not turn at all, though it was told the slants of the same digits: two
# blocks and a skip of noise are all that it has left to make a *where* of a constant.
#
# This was one seed and a toy, and of the two at the bottleneck another seed may prefer the other. Here is the record that
# ``python examples/recipes.py`` leaves, longer and on handwritten digits: how many samples show what was asked for.

record = Path(md.__file__).parents[1] / "chapters" / "results" / "recipes.json"
if record.is_file():
    measured = json.loads(record.read_text(encoding="utf-8"))
    found = {row["recipe"]: [run["class_accuracy"] for run in row.get("runs", [row])] for row in measured["rows"]}
    for name, recipe in (("film", "base"), ("before-mid", "before-mid"), ("after-mid", "after-mid")):
        each = ", ".join(f"{accuracy:.0%}" for accuracy in found[recipe])
        print(f"{name:10} {each} with {len(found[recipe])} seeds, {measured['steps_of_training']:,} steps on MNIST")
    assert min(found["base"]) > max(found["before-mid"]) and min(found["before-mid"]) > max(found["after-mid"])

# %%
# One in ten is right by chance. After-mid is hardly better.
#
# What would break it
# -------------------
# *Listening at the wrong step.* At t = 30 the digit is in plain sight, and the best of networks is deaf: who measures there
# cannot tell one that listens from one that does not.

early = max(curve[at.index(30)] for curve in curves.values())
print(f"decided by the label at t = 30: {early:.1%} at most")
assert early < 0.05

# %%
# *0 for "nobody said"*: without its flag, a value that is not known looks like the middle one; and a missing label that is
# written as 0 asks for a zero. *Labels in another order than their pictures*: nothing fails, and the network learns to
# ignore them; chapter 15 has that bug.
#
# Exercises
# ---------
# 1. **Easy.** Train with ``steps=1000``. Do the others catch up with FiLM in pure noise? Does after-mid learn to lean?
# 2. **Medium.** Keep b of FiLM and leave out s, then the other way round (set the half of ``film`` to 0 after each
#    step). Which half carries the class, and which the weight of the strokes?
# 3. **Hard.** Write the class into the picture instead: ten more input channels, the one of the class all 1. A constant
#    again, but ahead of all blocks. Work out what the first GroupNorm leaves of it, then train it and measure what it hears.
#
# Further reading
# ---------------
# * Wu, He, *Group normalization*, 2018.
# * Perez, Strub, de Vries, Dumoulin, Courville, *FiLM: visual reasoning with a general conditioning layer*, 2018.
# * Dhariwal, Nichol, *Diffusion models beat GANs on image synthesis*, 2021: "adaptive group normalization", which is FiLM
#   behind a GroupNorm, against adding: section 3.
# * Ho, Salimans, *Classifier-free diffusion guidance*, 2022: labels dropped at random, one network for both.
# * Peebles, Xie, *Scalable diffusion models with transformers*, 2023: modulation that starts at zero ("adaLN-Zero").
#
# A label is heard now, by some more and by some less. One network that answers with and without it can do something else
# with the two answers: lay a ruler through both and go further. That is *guidance*, the next chapter.
