"""
GroupNorm and resampling
========================
A deep network needs its numbers to stay of one size, and a network that sees needs its pictures to change theirs. We derive
the gradient of GroupNorm, find out why a diffusion model must not use BatchNorm, and halve and double pictures in five ways,
one of which leaves a checkerboard.
"""

import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
import minidiff.nn.functional as F
from minidiff.viz.style import STYLE

plt.rcParams.update(STYLE)
rng = np.random.default_rng(0)

# %%
# Mean 0, variance 1
# ------------------
# *GroupNorm* takes the channels of each picture in groups, and brings all numbers of a group, over its channels and its pixels,
# to mean 0 and variance 1. Then each channel gets a gain :math:`\gamma` and a shift :math:`\beta`, which are learned.
#
# .. math:: \hat x = \frac{x - \mu}{s}, \quad s = \sqrt{\sigma^2 + \varepsilon}, \qquad y = \gamma\,\hat x + \beta
#
# For the gradient, move x by a little, :math:`\delta`. The mean moves by :math:`\langle\delta\rangle`, s moves by
# :math:`\langle \hat x\,\delta \rangle`, so :math:`\hat x` moves by
#
# .. math:: \frac{1}{s} \bigl( \delta - \langle\delta\rangle - \hat x\,\langle \hat x\,\delta \rangle \bigr)
#
# As a matrix on :math:`\delta`, each of the three terms is its own transpose: 1, a matrix of ones over m, and
# :math:`\hat x \hat x^\top` over m. So the way back is the way there. With :math:`h = \gamma\,gy`,
#
# .. math:: gx = \frac{1}{s} \bigl( h - \langle h \rangle - \hat x\,\langle \hat x\,h \rangle \bigr), \qquad
#           g\gamma = \sum gy\,\hat x, \qquad g\beta = \sum gy


def in_groups(x, groups):  # (N,C,H,W) -> (N,G,m)
    return x.reshape(len(x), groups, -1)


def normalise(x, groups, eps=1e-5):
    g = in_groups(x, groups)
    s = np.sqrt(g.var(-1, keepdims=True) + eps)
    return ((g - g.mean(-1, keepdims=True)) / s).reshape(x.shape), s


def group_norm(x, gamma, beta, groups):
    return gamma[:, None, None] * normalise(x, groups)[0] + beta[:, None, None]


def group_norm_backward(x, gamma, gy, groups):
    x_hat, s = normalise(x, groups)
    h, xh = in_groups(gamma[:, None, None] * gy, groups), in_groups(x_hat, groups)
    gx = (h - h.mean(-1, keepdims=True) - xh * (xh * h).mean(-1, keepdims=True)) / s
    return gx.reshape(x.shape), (gy * x_hat).sum((0, 2, 3)), gy.sum((0, 2, 3))


x, gy = rng.standard_normal((2, 3, 8, 5, 5))
gamma, beta = rng.standard_normal((2, 8))
tensors = [md.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
y = F.group_norm(tensors[0], 4, *tensors[1:])
y.backward(gy)
gx, *_ = by_hand = group_norm_backward(x, gamma, gy, 4)
assert np.allclose(group_norm(x, gamma, beta, 4), y.numpy())
assert all(np.allclose(ours, t.grad.numpy()) for ours, t in zip(by_hand, tensors, strict=True))
assert md.gradcheck(lambda x, gamma, beta: F.group_norm(x, 4, gamma, beta), [x, gamma, beta])

# %%
# What the two means take away is what changes nothing: moving a whole group, or stretching it. So gx has no part along either.
# And what changes nothing may be of any size: ten layers that left 0.4 % of a deviation of 1 in chapter 4 now
# leave all of it. Only far below :math:`\sqrt{\varepsilon} = 0.003` does the norm give up; something must stop it from making
# pictures out of rounding errors.

assert abs(in_groups(gx, 4).mean(-1)).max() < 1e-15 and abs(in_groups(gx * normalise(x, 4)[0], 4).mean(-1)).max() < 1e-4
off = {a: abs(normalise(a * x, 4)[0] - normalise(x, 4)[0]).max() for a in (1e3, 1.0, 1e-1, 1e-3)}
print("x̂ of a x differs from x̂ of x: " + ", ".join(f"a = {a:g}: {error:.0e}" for a, error in off.items()))
assert off[1e3] < 1e-4 and off[1e-1] < 1e-2 and off[1e-3] > 0.5

md.manual_seed(0)
h = md.tensor(rng.standard_normal((500, 256)).astype(np.float32))
for _ in range(10):
    h = F.group_norm(md.nn.Linear(256, 256)(h), 8)
print(f"ten linear layers with GroupNorm leave a deviation of {h.numpy().std():.3f}")
assert 0.99 < h.numpy().std() < 1.01

# %%
# Why not BatchNorm?
# ------------------
# BatchNorm takes its mean and variance over *all pictures of the batch*, for each channel. A diffusion model learns to take
# noise off pictures, from chapter 9 on. In its training a batch holds clean pictures and drowned ones; when it draws, all are
# equally drowned. Here is one picture, through one convolution, with neighbours that are clean, and with neighbours that are
# drowned. What is the answer for the *first* one?

clean = md.data.to_model(md.data.load("glyphs", limit=16).images)  # (16,1,32,32)
drowned = np.concatenate([clean[:1], rng.standard_normal(clean[1:].shape, dtype=np.float32)])
md.manual_seed(0)
seen = md.nn.Conv2d(1, 8, 3, padding=1)
norms = {"BatchNorm": lambda x: F.batch_norm(x, None, None, training=True), "GroupNorm": lambda x: F.group_norm(x, 4)}
answers = {(name, company): norm(seen(md.tensor(batch))).numpy()[0] for name, norm in norms.items()
           for company, batch in {"clean": clean, "drowned": drowned}.items()}  # fmt: skip
for name in norms:
    a, b = answers[name, "clean"], answers[name, "drowned"]
    moved = np.sqrt(((a - b) ** 2).mean()) / a.std()
    print(f"{name}: in other company the answer moves by {moved:.0%} of its deviation")
    assert moved > 0.5 if name == "BatchNorm" else np.array_equal(a, b)

fig, axes = plt.subplots(1, 4, figsize=(8, 2.6), layout="constrained")
for ax, ((name, company), y) in zip(axes, answers.items(), strict=True):
    ax.imshow(y[0], cmap="gray", vmin=-4, vmax=4)
    ax.set_title(f"{name},\nothers {company}", size=9.5, weight="normal", loc="center")
    ax.axis("off")
plt.show()

# %%
# The same picture, and another answer. Averages remembered from training do not help: they are those of all amounts of noise
# together, and who draws meets one after the other. GroupNorm asks nobody, and its answer is the same to the last bit.
#
# Once through memory
# -------------------
# After the norm comes GELU. One after the other they send the picture through memory ten times at least: x in, h out, h in, y
# out, and three and three more on the way back. In one pass (``group_norm_gelu``) it is five times, x in, y out, and x in, gy in,
# gx out, for h is not kept: backward makes it again from x, which is cheaper than to fetch it. (How much time that saves depends
# on who computes.) What each leaves in memory for the way back, its result included, in sizes of x:

x = rng.standard_normal((64, 32, 32, 32)).astype(np.float32)
gamma, beta = rng.standard_normal((2, 32)).astype(np.float32)
blocks = {"two passes": lambda x, gamma, beta: F.gelu(F.group_norm(x, 8, gamma, beta)),
          "one pass": lambda x, gamma, beta: F.group_norm_gelu(x, 8, gamma, beta)}  # fmt: skip
kept, results = {}, []
for name, block in blocks.items():
    tensors = [md.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    block(*tensors)  # the first call may compile
    tracemalloc.start()
    y = block(*tensors)
    kept[name] = tracemalloc.get_traced_memory()[0] / x.nbytes
    tracemalloc.stop()
    y.backward(np.ones_like(x))
    results.append([y.numpy(), tensors[0].grad.numpy()])
print(f"kept in two passes {kept['two passes']:.2f} x, in one {kept['one pass']:.2f}; x has {x.nbytes / 1e6:.1f} MB")
assert np.allclose(*results, atol=1e-5) and 1.95 < kept["two passes"] < 2.1 and 0.95 < kept["one pass"] < 1.1

# %%
# Smaller and larger
# ------------------
# The U-Net of chapter 11 looks at a picture in three sizes. Every way of halving is a matrix A (if nobody looks for the
# *largest* of four), its gradient is :math:`A^\top`, and that is a way of doubling:
#
# * the **mean** of 2x2 pixels. Its transpose repeats each pixel four times, and divides by 4: *nearest* interpolation;
# * **pixel_unshuffle**: 2x2 pixels become four channels. It moves numbers and loses none, a permutation, and the transpose of a
#   permutation is its *inverse*: ``pixel_shuffle``;
# * a **convolution of stride 2**, 2x2 or 3x3. Its transpose spreads each pixel over a kernel (chapter 5);
# * **bilinear** doubling mixes each new pixel of the four around its place. Its transpose is a blur, and every second pixel.


def mean(x):  # (N,C,2H,2W) -> (N,C,H,W)
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).mean((3, 5))


def nearest(y):  # (N,C,H,W) -> (N,C,2H,2W)
    return y.repeat(2, axis=2).repeat(2, axis=3)


def unshuffle(x):  # (N,C,2H,2W) -> (N,4C,H,W)
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(N, 4 * C, H // 2, W // 2)


def shuffle(y):  # (N,4C,H,W) -> (N,C,2H,2W)
    N, C, H, W = y.shape
    return y.reshape(N, C // 4, 2, 2, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(N, C // 4, 2 * H, 2 * W)


def stride2(x, w, p):  # (N,C,2H,2W) (O,C,K,K) -> (N,O,H,W)
    H, W = x.shape[2] // 2, x.shape[3] // 2
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    taps = np.ndindex(w.shape[2:])
    return sum(np.einsum("oc,nchw->nohw", w[:, :, u, v], x[:, :, u : u + 2 * H : 2, v : v + 2 * W : 2]) for u, v in taps)


def spread(y, w, p):  # (N,O,H,W) (O,C,K,K) -> (N,C,2H,2W)
    N, _, H, W = y.shape
    x = np.zeros((N, w.shape[1], 2 * H + 2 * p, 2 * W + 2 * p))
    for u, v in np.ndindex(w.shape[2:]):
        x[:, :, u : u + 2 * H : 2, v : v + 2 * W : 2] += np.einsum("oc,nohw->nchw", w[:, :, u, v], y)
    return x[:, :, p : p + 2 * H, p : p + 2 * W]


place = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)  # of each new line among 8 old ones
B = np.maximum(0, 1 - abs(place[:, None] - np.arange(8)))  # (16,8): how much each old line counts in it
w2, w3 = rng.standard_normal((4, 3, 2, 2)), rng.standard_normal((4, 3, 3, 3))
tw2, tw3 = md.tensor(w2), md.tensor(w3)
pairs = {  # name: (A, its transpose, and both in the library)
    "mean, nearest": (mean, lambda y: nearest(y) / 4,
                      lambda x: F.avg_pool2d(x, 2), lambda y: F.interpolate(y, scale_factor=2) / 4),
    "unshuffle, shuffle": (unshuffle, shuffle, lambda x: F.pixel_unshuffle(x, 2), lambda y: F.pixel_shuffle(y, 2)),
    "2x2 of stride 2": (lambda x: stride2(x, w2, 0), lambda y: spread(y, w2, 0),
                        lambda x: F.conv2d(x, tw2, stride=2), lambda y: F.conv_transpose2d(y, tw2, stride=2)),
    "3x3 of stride 2": (lambda x: stride2(x, w3, 1), lambda y: spread(y, w3, 1), lambda x: F.conv2d(x, tw3, stride=2, padding=1),
                        lambda y: F.conv_transpose2d(y, tw3, stride=2, padding=1, output_padding=1)),
    "bilinear": (lambda x: B.T @ x @ B, lambda y: B @ y @ B.T, None, lambda y: F.interpolate(y, scale_factor=2, mode="bilinear")),
}  # fmt: skip
for name, (A, A_T, down, up) in pairs.items():
    x = rng.standard_normal((2, 3, 16, 16))
    y = rng.standard_normal(A(x).shape)
    there, back = np.sum(A(x) * y), np.sum(x * A_T(y))
    print(f"{name:18} <A x, y> = {there:9.4f}   <x, A' y> = {back:9.4f}")
    assert np.isclose(there, back, rtol=1e-12)
    for ours, transpose, library, given, other in [(A, A_T, down, x, y), (A_T, A, up, y, x)]:
        if library is not None:
            t = md.tensor(given, requires_grad=True)
            out = library(t)
            out.backward(other)
            assert np.allclose(ours(given), out.numpy()) and np.allclose(transpose(other), t.grad.numpy())
assert np.array_equal(shuffle(unshuffle(x)), x) and not np.allclose(nearest(mean(x)), x, atol=0.1)

# %%
# The number to remember: 1, 2, 4
# -------------------------------
# Give a doubling layer a picture of ones, and look at what it makes of it with fresh weights. With a kernel of 2x2 and stride 2
# each new pixel is reached once. With 3x3 some are reached once, some twice, some four times: a checkerboard, before anything has
# been learned. (One kernel can draw any pattern; so we take the root mean square over a thousand of them.) With 4x4 all are
# reached four times. Or one doubles first, and convolves afterwards.

ones, digit = np.ones((1, 1, 16, 16), np.float32), (mean(clean[5:6]) + 1) / 2
md.manual_seed(0)
layers = {
    "2x2, stride 2": md.nn.ConvTranspose2d(1, 1000, 2, stride=2, bias=False),
    "3x3, stride 2": md.nn.ConvTranspose2d(1, 1000, 3, stride=2, padding=1, output_padding=1, bias=False),
    "4x4, stride 2": md.nn.ConvTranspose2d(1, 1000, 4, stride=2, padding=1, bias=False),
    "nearest, 3x3": md.nn.Sequential(md.nn.Upsample(scale_factor=2), md.nn.Conv2d(1, 1000, 3, padding=1, bias=False)),
}
board = {}
fig, axes = plt.subplots(1, 5, figsize=(8, 2.2), layout="constrained")
for ax, (name, layer) in zip(axes[1:], layers.items(), strict=True):
    rms, shown = (np.sqrt((layer(md.tensor(x)).numpy()[0] ** 2).mean(0)) for x in (ones, digit))
    places = [rms[i:-2:2, j:-2:2].mean() for i in (2, 3) for j in (2, 3)]  # even and odd lines, away from the edge
    board[name] = max(places) / min(places)
    ax.imshow(shown, cmap="gray")
    ax.set_title(f"{name}\nstrong : weak = {board[name]:.2f}", size=8.5, weight="normal", loc="center")
axes[0].imshow(digit[0, 0], cmap="gray")
axes[0].set_title("16x16", size=8.5, weight="normal", loc="center")
for ax in axes:
    ax.axis("off")
# sphinx_gallery_thumbnail_number = 2
plt.show()
reached = spread(ones, np.ones((1, 1, 3, 3)), 1)[0, 0, 2:-2, 2:-2]
print(f"a 3x3 kernel of stride 2 reaches a pixel {np.unique(reached)} times; strong : weak = {board['3x3, stride 2']:.2f}")
assert np.unique(reached).tolist() == [1, 2, 4] and 1.8 < board["3x3, stride 2"] < 2.2
assert max(ratio for name, ratio in board.items() if name != "3x3, stride 2") < 1.1

# %%
# What would break it
# -------------------
# *Halving has the same board, in its gradient*: what a 3x3 convolution of stride 2 sends back lands on a pixel once, twice or four
# times. Our U-Net lives with it, and has ``pool="rearrange"``, an unshuffle and a block, for those who will not. *A
# shuffle in another order* loses nothing either, and scrambles the picture. *The largest of four* looks linear, its gradient goes
# to the winner, and it is not: who wins depends on x. *A forgotten mean* in gx raises no error. The network learns, only worse:
# which is why chapter 3's mutants look for it.

x = md.tensor(ones, requires_grad=True)
F.conv2d(x, md.tensor(np.ones((1, 1, 3, 3), np.float32)), stride=2, padding=1).backward(np.ones((1, 1, 8, 8), np.float32))
assert np.unique(x.grad.numpy()[0, 0, 2:-2, 2:-2]).tolist() == [1, 2, 4]
a, b = (md.tensor(rng.standard_normal((1, 1, 8, 8))) for _ in range(2))
assert not np.allclose(F.max_pool2d(a + b, 2).numpy(), (F.max_pool2d(a, 2) + F.max_pool2d(b, 2)).numpy(), atol=0.1)

# %%
# Exercises
# ---------
# 1. **Easy.** What is left of a convolution's bias after a GroupNorm whose groups are single channels? And in groups of four?
# 2. **Medium.** Scale the weights of a convolution before a GroupNorm by 10. What happens to the answer, to their gradient, and
#    to a step of SGD? What to a step of Adam? (Chapter 16 asks what is left of a *label* there.)
# 3. **Hard.** Write the transpose of ``F.interpolate(..., mode="bilinear")`` as a convolution of stride 2 with one 4x4 kernel.
#    Where does it differ, and what would the edge have to do?
#
# Further reading
# ---------------
# * Ioffe, Szegedy, *Batch normalization: accelerating deep network training by reducing internal covariate shift*, 2015.
# * Wu, He, *Group normalization*, 2018.
# * Shi et al., *Real-time single image and video super-resolution using an efficient sub-pixel convolutional neural network*,
#   2016: pixel_shuffle.
# * Odena, Dumoulin, Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016.
# * Zhang, *Making convolutional networks shift-invariant again*, 2019: what every second pixel overlooks.
#
# The tools are made: tensors, gradients that we trust, layers, and pictures in every size. A network of them takes billions
# of multiplications for each step that it learns. The next chapter is about the machine that is made for it.
