"""
The U-Net
=========
What function takes a noisy picture and names the noise? One that looks at the whole picture and still answers for
every pixel. We build its blocks one by one in plain arrays, count every parameter by hand, and run it step by step.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import erf

import minidiff as md
import minidiff.nn.functional as F
from minidiff.models import GELUConvBlock, UNet
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
md.manual_seed(0)
rng = np.random.default_rng(0)
model = UNet()  # the network of the student's report, fresh weights

# %%
# Down, across, up
# ----------------
# To know whether a grey speck is noise or the end of a stroke, one must see the stroke. So the network goes *down*:
# pictures get smaller and channels more, until one pixel knows about a large part of the picture. Then it goes *up*
# again to full size. On the way down the place of every edge has been blurred; that is why each level also sends
# its picture straight *across*, where it is put beside the one that comes up. Time and class come in at the bottom.


def box(ax, x, size, channels, text, colour):
    """A stack of feature maps: as high as the picture, as wide as its channels are many."""
    width, height = 0.25 + channels / 110, size / 12
    ax.add_patch(plt.Rectangle((x - width / 2, -height / 2), width, height, facecolor=colour, alpha=0.85))
    ax.text(x, -height / 2 - 0.14, text, ha="center", va="top", size=8.5, color=INK, linespacing=1.25)


def arrow(ax, start, end, text="", colour=MUTED):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.4})
    ax.text((start[0] + end[0]) / 2, max(start[1], end[1]) + 0.08, text, ha="center", va="bottom", size=9, color=colour)


fig, ax = plt.subplots(figsize=(8, 3.5))
places = [0.4, 2.3, 4.0, 6.0, 8.0, 9.9, 11.9]
shapes = [(1, 32), (32, 32), (64, 16), (128, 8), (64, 16), (32, 32), (1, 32)]
names = ["x", "init", "down 1", "down 2, mid", "up 1", "up 2", "out"]
colours = [MUTED, *[COLOURS[i] for i in (0, 0, 1, 2, 2)], MUTED]
for x, (c, s), name, colour in zip(places, shapes, names, colours, strict=True):
    box(ax, x, s, c, f"{name}\n({c},{s},{s})", colour)
for a, b, (c, _), (d, _) in zip(places, places[1:], shapes, shapes[1:], strict=False):
    arrow(ax, (a + 0.2 + c / 220, 0), (b - 0.2 - d / 220, 0))
arrow(ax, (2.3, 1.55), (9.9, 1.55), "skip (32,32,32)", COLOURS[0])
arrow(ax, (4.0, 0.9), (8.0, 0.9), "skip (64,16,16)", COLOURS[0])
ax.annotate("time, class", (6.0, -0.95), (6.0, -1.75), ha="center", size=9.5, color=COLOURS[1],
            arrowprops={"arrowstyle": "->", "color": COLOURS[1], "lw": 1.4})  # fmt: skip
ax.set(xlim=(-0.3, 12.6), ylim=(-2.15, 2.1))
ax.axis("off")
fig.tight_layout()
plt.show()

# %%
# The block
# ---------
# Three quarters of all parameters are in one kind of block: convolve, normalise, bend.
#
# .. math:: y = \mathrm{GELU}(\mathrm{GroupNorm}(\mathrm{Conv}_{3\times3}(x)))
#
# All three are known: the convolution from chapter 5, GroupNorm, here with eight groups, from chapter 6, GELU from chapter 4.
# (GroupNorm's shift is called :math:`\beta` too; it has nothing to do with the noise.)
#
# .. math:: \hat x = \frac{x-\mu}{\sqrt{\sigma^2+\varepsilon}}, \qquad y = \gamma\,\hat x + \beta


def conv3x3(x, w, b):
    """Nine shifted pictures, each times its weights.            # (N,I,H,W) (O,I,3,3) -> (N,O,H,W)"""
    H, W = x.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    y = sum(np.einsum("oc,nchw->nohw", w[:, :, u, v], x[:, :, u : u + H, v : v + W]) for u, v in np.ndindex(3, 3))
    return y + b[:, None, None]


def normalise(x, groups=8, eps=1e-5):
    """x̂: mean 0 and variance 1 over each group of channels of each picture."""
    g = x.reshape(len(x), groups, -1)
    g = (g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + eps)
    return g.reshape(x.shape)


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


block = GELUConvBlock(16, 32)
w, b, gamma, beta = (p.numpy() for p in block.parameters())  # (32,16,3,3) (32,) (32,) (32,)
x = rng.standard_normal((4, 16, 8, 8)).astype(np.float32)
y = gelu(gamma[:, None, None] * normalise(conv3x3(x, w, b)) + beta[:, None, None])
assert np.allclose(y, block(md.tensor(x)).numpy(), atol=1e-5)

# %%
# What is the time?
# -----------------
# At t = 5 the network must look for faint specks, at t = 95 for faint digits. It is the same network, so it must be
# told t. A single number is hard for a layer to read; a *clock* with several hands is easier. Each hand turns at its
# own speed :math:`\omega_i`, from one radian a step to one in 10,000 steps, and is given as sine and cosine.
#
# .. math:: e_i = \sin(\omega_i t), \quad e_{D/2+i} = \cos(\omega_i t), \qquad \omega_i = 10000^{-i/(D/2-1)}

D = 8
t = np.arange(1, 101)
omega = 10_000.0 ** (-np.arange(D // 2) / (D // 2 - 1))
clock = np.concatenate([np.sin(t[:, None] * omega), np.cos(t[:, None] * omega)], axis=1)  # (100,D)
assert np.allclose(clock, model.clock(t).numpy(), atol=1e-5)

fig, ax = plt.subplots(figsize=(8, 2.3))
image = ax.imshow(clock.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, extent=(0.5, 100.5, D - 0.5, -0.5))
ax.set(xlabel="step t", yticks=range(D), yticklabels=[f"sin $\\omega_{i}$t" for i in range(4)] +
       [f"cos $\\omega_{i}$t" for i in range(4)], title="Eight numbers for each t")  # fmt: skip
fig.colorbar(image, ax=ax, pad=0.02)
fig.tight_layout()
plt.show()

# %%
# The first hand tells neighbouring steps apart and the second tells early from late. The other two hardly move in a
# hundred steps: with ten thousand they would. A clock with more hands (``time_dim=32``) is finer, and costs little.
#
# The class is a row of ten numbers, 1 at the digit's place and 0 elsewhere. "No class" is label −1, a row of zeros.
# Two small layers turn each into 128 numbers, and their sum is added to every pixel at the bottom of the U, one number
# per channel: (N,128) becomes (N,128,1,1), and broadcasting does the rest.

labels = np.array([3, 7, -1])
one_hot = (labels[:, None] == np.arange(10)).astype(np.float32)  # (3,10)
assert np.array_equal(one_hot, F.one_hot(labels, 10).numpy()) and not one_hot[2].any()

# %%
# FiLM: the embedding at the controls
# -----------------------------------
# Adding once at the bottom is how the report does it. The stronger way, *FiLM*, lets the embedding turn two knobs per
# channel in *every* block: a scale s and a shift b, after the normalisation.
#
# .. math:: y = (1+s)\,(\gamma \hat x + \beta) + b = \underbrace{(1+s)\gamma}_{\gamma'}\,\hat x
#           + \underbrace{(1+s)\beta + b}_{\beta'}
#
# The right-hand side is again a GroupNorm, only that each picture brings its own :math:`\gamma'` and :math:`\beta'`.
# So it costs two small vectors per picture and no second pass over the pixels.

s, b = rng.standard_normal((2, 4, 16)).astype(np.float32)  # (N,C) each: four pictures, 16 channels
gamma, beta = rng.standard_normal((2, 16)).astype(np.float32)
two_passes = (1 + s)[:, :, None, None] * (gamma[:, None, None] * normalise(x) + beta[:, None, None]) + b[:, :, None, None]
gamma_, beta_ = md.tensor((1 + s) * gamma), md.tensor((1 + s) * beta + b)  # γ′ and β′, (N,C)
assert np.allclose(two_passes, F.group_norm(md.tensor(x), 8, gamma_, beta_).numpy(), atol=1e-5)

# %%
# The number to remember: 957,513
# -------------------------------
# A convolution from I to O channels has :math:`O\,I\,K^2` weights and O biases, a norm two numbers per channel, a
# linear layer :math:`O\,I` weights and O biases. Now add up.


def conv(i, o, k=3):
    return o * i * k * k + o


def block_count(i, o):
    return conv(i, o) + 2 * o  # the convolution, γ and β


def linear(i, o):
    return o * i + o


by_hand = {
    "init": block_count(1, 32),
    "downs.0": block_count(32, 64) + block_count(64, 64) + conv(64, 64),
    "downs.1": block_count(64, 128) + block_count(128, 128) + conv(128, 128),
    "mid": 2 * block_count(128, 128),
    "ups.0": conv(128, 64, 2) + block_count(64 + 64, 64) + block_count(64, 64),
    "ups.1": conv(64, 32, 2) + block_count(32 + 32, 32) + block_count(32, 32),
    "out": conv(32, 1),
    "time_embed": linear(8, 8) + linear(8, 128),
    "class_embed": linear(10, 128) + linear(128, 128),
}
for part, count in by_hand.items():
    of_model = sum(p.size for name, p in model.named_parameters() if name.startswith(part + "."))
    print(f"{part:12} {count:9,}")
    assert count == of_model
parameters = sum(by_hand.values())
print(f"{'together':12} {parameters:9,}")
assert parameters == model.num_parameters() == 957_513

# %%
# The report's "approximate memory 11.0 MB" follows, as in chapter 1. The library prints the report's lines.

print(model.summary())
assert f"{3 * 4 * parameters / 2**20:.1f}" == "11.0"
assert "957,513" in model.summary() and "11.0 MB" in model.summary()

# %%
# Once through the network
# ------------------------
# All that ``model(x, t, labels)`` does, with the shapes as they change:

N = 6
x = rng.standard_normal((N, 1, 32, 32)).astype(np.float32)
t, labels = rng.integers(1, 101, N), rng.integers(-1, 10, N)

with md.no_grad():
    e = model.time_embed(model.clock(t)) + model.class_embed(F.one_hot(labels, 10))
    h = model.init(md.tensor(x))
    trace, skips = [("init", h)], [h]
    for down in model.downs:
        h = down(h)
        trace.append(("down", h))
        skips.append(h)
    h = skips.pop() + e[:, :, None, None]
    for mid in model.mid:
        h = mid(h)
    trace.append(("mid", h))
    for up in model.ups:
        h = up(h, skips.pop())
        trace.append(("up", h))
    eps_hat = model.out(h)
    trace.append(("out", eps_hat))
    whole = model(x, t, labels)
for name, y in trace:
    print(f"{name:5} {y.shape}")
assert np.array_equal(eps_hat.numpy(), whole.numpy()) and whole.shape == x.shape

# %%
# Pictures in a batch are strangers
# ---------------------------------
# Nothing above mixes two pictures: each has its own t, its own class, its own mean and variance. So if we shuffle a
# batch, the answers must be shuffled likewise and nothing else may change. It is a cheap test, and it finds real bugs.

order = rng.permutation(N)
with md.no_grad():
    shuffled = model(x[order], t[order], labels[order])
assert np.allclose(shuffled.numpy(), whole.numpy()[order], atol=1e-5)

# %%
# What would break it
# -------------------
# *The clock read at the wrong place.* There is public code that adds the encoding of the picture's *position in the
# batch* instead of its t. It trains, and its loss falls. Our test sees it at once:

with md.no_grad():
    wrong = model(x, np.arange(N), labels).numpy()
    wrong_shuffled = model(x[order], np.arange(N), labels[order]).numpy()
error = abs(wrong_shuffled - wrong[order]).max()
print(f"shuffled, with t = position in the batch: {error:.4f} off")
assert error > 1e-3

# %%
# *BatchNorm* in place of GroupNorm ties each picture to its neighbours (chapter 6), which are at other t. *No
# skips*: what comes up from 8x8 pixels has lost the places of things, and the noise is different in every pixel.
# *Zeros everywhere at the start* would leave no gradient to start with; a fresh network must neither die nor
# explode. Ours answers with numbers of a modest size:

print(f"standard deviation of a fresh network's answer: {whole.numpy().std():.2f}")
assert 0.05 < whole.numpy().std() < 1

# %%
# Exercises
# ---------
# 1. **Easy.** How many parameters has ``UNet(channels=(64, 128, 256))``? Guess the factor first, then change
#    ``by_hand``, then ask the model.
# 2. **Medium.** Which pixels of x can change the middle pixel of the answer? Set the others to NaN, or change them one
#    by one and look; then leave out the two downs and look again. (GroupNorm will surprise you. Why?)
# 3. **Hard.** Give ``GELUConvBlock`` a second input e and a ``Linear(128, 2 C)``, and build FiLM yourself. Start the
#    Linear at zero and show that a fresh block then answers as one without e. Compare with ``condition="film"``.
#
# Further reading
# ---------------
# * Ronneberger, Fischer, Brox, *U-Net: convolutional networks for biomedical image segmentation*, 2015.
# * Vaswani et al., *Attention is all you need*, 2017: section 3.5 has the clock.
# * Perez, Strub, de Vries, Dumoulin, Courville, *FiLM: visual reasoning with a general conditioning layer*, 2018.
#
# The network answers, and the answer is nonsense: its weights are random. The next chapter teaches it.
