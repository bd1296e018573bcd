"""
Convolution
===========
A convolution slides one small set of weights over a picture and asks the same question at every place. We
build it from patches, find its gradients, see that one of them is the *transposed* convolution, and learn why
nobody computes it the way it is defined.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
import minidiff.nn.functional as F
from minidiff.viz.style import STYLE

plt.rcParams.update(STYLE)

# %%
# Nine weights, one question
# --------------------------
# Lay a 3x3 kernel over a picture, multiply it with what lies below, add up, move on by one pixel. What comes
# out depends on the nine weights: here they ask "how bright is it around?", "is it brighter below than
# above?", "is it brighter to the right?" and "is this pixel different from its neighbours?".

picture = md.data.to_model(md.data.load("glyphs", limit=6).images[5:])[0, 0].astype(np.float64)  # (H,W)
kernels = {
    "mean": np.full((3, 3), 1 / 9),
    "from above to below": np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]) / 4,
    "from left to right": np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4,
    "unlike its neighbours": np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 2,
}


def slide(x, w):
    """One picture, one kernel, no border.            # (H,W) (K,K) -> (H−K+1,W−K+1)"""
    K = len(w)
    y = np.empty((x.shape[0] - K + 1, x.shape[1] - K + 1))
    for i, j in np.ndindex(y.shape):
        y[i, j] = np.sum(w * x[i : i + K, j : j + K])
    return y


fig, axes = plt.subplots(1, 5, figsize=(8, 1.95))
answers = {"x": picture} | {name: slide(picture, w) for name, w in kernels.items()}
for ax, (name, y) in zip(axes, answers.items(), strict=True):
    ax.imshow(y, cmap="gray", vmin=-1, vmax=1)
    ax.set_title(name, size=8.5, weight="normal")
    ax.axis("off")
fig.tight_layout()
plt.show()

# %%
# A layer of a network has C channels in and O channels out, so O·C kernels w and a bias b for each output.
# With padding p, a border of zeros keeps the size, and with stride s the kernel moves on by s pixels:
#
# .. math:: y_{n,o,i,j} = b_o + \sum_{c,u,v} w_{o,c,u,v}\; x_{n,c,\,si+u-p,\,sj+v-p}
#
# Written down as it stands, that is a loop over every output pixel:


def pad(x, p):
    return np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)])


def out_size(x, K, s, p):
    """H', W': how many places the kernel has."""
    return [(size + 2 * p - K) // s + 1 for size in x.shape[2:]]


def conv_loops(x, w, b, s, p):  # (N,C,H,W) (O,C,K,K) (O,) -> (N,O,H',W')
    K = w.shape[2]
    y, x = np.empty((len(x), len(w), *out_size(x, K, s, p)), x.dtype), pad(x, p)
    for n, o, i, j in np.ndindex(y.shape):
        y[n, o, i, j] = b[o] + np.sum(w[o] * x[n, :, s * i : s * i + K, s * j : s * j + K])
    return y


# %%
# From patches to one product
# ---------------------------
# All these sums are rows times columns. Put the patch below each output pixel into a column, and each kernel
# into a row, and the convolution is one product of matrices, the thing computers do best:
#
# .. math:: Y = W\,P, \qquad W\;(O,\ C K^2), \quad P\;(C K^2,\ H'W') .
#
# The patches need no loop over pixels, only one over the K² places in the kernel: kernel element (u,v) meets
# the whole picture shifted by (u,v). Gathering is also called *im2col*.


def shifted(u, v, H, W, s):
    """The pixels of the padded picture that kernel element (u,v) meets on its way."""
    return ..., slice(u, u + s * (H - 1) + 1, s), slice(v, v + s * (W - 1) + 1, s)


def gather(x, K, s, p):  # (N,C,H,W) -> (N,C·K·K,H'·W')
    N, C, (H, W) = *x.shape[:2], out_size(x, K, s, p)
    P, x = np.empty((N, C, K, K, H, W), x.dtype), pad(x, p)
    for u, v in np.ndindex(K, K):
        P[:, :, u, v] = x[shifted(u, v, H, W, s)]
    return P.reshape(N, C * K * K, H * W)


def conv(x, w, b, s, p):
    K = w.shape[2]
    y = w.reshape(len(w), -1) @ gather(x, K, s, p)  # (O,CKK) (N,CKK,H'W') -> (N,O,H'W')
    return y.reshape(*y.shape[:2], *out_size(x, K, s, p)) + b[:, None, None]


rng = np.random.default_rng(0)
x, w, b = rng.standard_normal((2, 3, 9, 8)), rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)
for s, p in [(1, 0), (1, 1), (2, 1)]:
    library = F.conv2d(md.tensor(x), md.tensor(w), md.tensor(b), stride=s, padding=p)
    assert np.allclose(conv(x, w, b, s, p), conv_loops(x, w, b, s, p))
    assert np.allclose(conv(x, w, b, s, p), library.numpy())

# %%
# Backwards: gather becomes scatter
# ---------------------------------
# :math:`Y = W P` is a product of matrices, so its gradients are those of chapter 2. From the patches they go
# back to the pixels: each pixel had been copied into up to K² patches, so it receives the sum of what they
# receive. Where *gather* reads, *scatter* adds.
#
# .. math:: gW = gY\,P^\top, \qquad gP = W^\top gY, \qquad gx = \mathrm{scatter}(gP), \qquad
#    gb_o = \sum_{n,i,j} gy_{n,o,i,j}


def scatter(P, K, s, p, shape):  # (N,C·K·K,H'·W') -> (N,C,H,W)
    N, C, H, W = shape
    x = np.zeros((N, C, H + 2 * p, W + 2 * p), P.dtype)
    size = [(side + 2 * p - K) // s + 1 for side in (H, W)]
    P = P.reshape(N, C, K, K, *size)
    for u, v in np.ndindex(K, K):
        x[shifted(u, v, *size, s)] += P[:, :, u, v]
    return x[:, :, p : p + H, p : p + W]


def conv_backward(x, w, gy, s, p):
    K, W = w.shape[2], w.reshape(len(w), -1)
    gY = gy.reshape(*gy.shape[:2], -1)
    gw = (gY @ gather(x, K, s, p).swapaxes(1, 2)).sum(axis=0).reshape(w.shape)
    gx = scatter(W.T @ gY, K, s, p, x.shape)
    return gx, gw, gy.sum(axis=(0, 2, 3))


for s, p in [(1, 0), (1, 1), (2, 1)]:
    tensors = [md.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = F.conv2d(*tensors, stride=s, padding=p)
    gy = rng.standard_normal(y.shape)
    y.backward(gy)
    for ours, t in zip(conv_backward(x, w, gy, s, p), tensors, strict=True):
        assert np.allclose(ours, t.grad.numpy())
    assert md.gradcheck(lambda x, w, b, s=s, p=p: F.conv2d(x, w, b, stride=s, padding=p), [x, w, b])

# %%
# The transposed convolution
# --------------------------
# A convolution without bias is linear in x, so it *is* a matrix A, if an odd one. Its columns are what it
# makes of pictures in which a single pixel is lit. The gradient gx is :math:`A^\top gy`: small pictures in,
# large ones out. As a layer of its own that is ``conv_transpose2d``, and the up-going half of a U-Net
# (chapter 11) is built with it.


def matrix_of(f, side, w, **options):
    """Column k of A is f(picture with only pixel k lit)."""
    lit = np.eye(side * side).reshape(-1, 1, side, side)
    return f(md.tensor(lit), md.tensor(w), **options).numpy().reshape(side * side, -1).T


w1 = rng.uniform(0.3, 1, (1, 1, 3, 3))
A = matrix_of(F.conv2d, 7, w1, stride=2, padding=1)  # 7x7 pixels -> 4x4
B = matrix_of(F.conv_transpose2d, 4, w1, stride=2, padding=1)  # 4x4 pixels -> 7x7
assert np.allclose(B, A.T)

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), width_ratios=(49, 18))
for ax, matrix, name in [(left, A, "conv2d, stride 2"), (right, B, "conv_transpose2d")]:
    ax.imshow(np.where(matrix == 0, np.nan, matrix), cmap="viridis_r", vmin=0)
    ax.set_title(f"{name}\n{matrix.shape[1]} pixels to {matrix.shape[0]}", size=9.5)
    ax.set(xlabel="pixel in", ylabel="pixel out", xticks=[], yticks=[])
    ax.spines[:].set_visible(True)
fig.tight_layout()
plt.show()

# %%
# Without writing down any matrix, transposition is tested by the *adjoint identity*. For all x and y,
#
# .. math:: \langle \mathrm{conv}(x),\, y \rangle = \langle x,\, \mathrm{conv\_transpose}(y) \rangle .
#
# One pair of random pictures is enough to catch a wrong index anywhere.

w = rng.standard_normal((5, 3, 3, 3))
x, y = rng.standard_normal((2, 3, 9, 9)), rng.standard_normal((2, 5, 5, 5))
gather_side = np.sum(conv(x, w, np.zeros(5), 2, 1) * y)
scatter_side = np.sum(x * scatter(w.reshape(5, -1).T @ y.reshape(2, 5, -1), 3, 2, 1, x.shape))
up = F.conv_transpose2d(md.tensor(y), md.tensor(w), stride=2, padding=1)
print(f"<conv(x), y> = {gather_side:.12f}\n<x, conv_transpose(y)> = {scatter_side:.12f}")
assert np.isclose(gather_side, scatter_side, rtol=1e-12)
assert np.isclose(gather_side, np.sum(x * up.numpy()), rtol=1e-12)

# %%
# The number to remember: 0.84 %
# ------------------------------
# A dense layer between two 32x32 pictures has a matrix of 1,048,576 weights. A 3x3 convolution has the same
# matrix with 0.84 % of it filled, and with only **nine** different numbers in it. That is what it knows about
# pictures before it has seen one: neighbours belong together, and what is worth finding is worth finding
# anywhere.

A = matrix_of(F.conv2d, 32, w1, padding=1)
share = np.count_nonzero(A) / A.size
different = np.unique(A[A != 0].round(12)).size
print(f"{A.size:,} entries, {share:.2%} not zero, {different} different numbers")
assert 0.0084 <= share < 0.0085 and different == 9

# %%
# What the patches buy
# --------------------
# The same sums three times: pixel by pixel, by patches and one product, and by minidiff, which also keeps the
# patches in the processor's cache and shares the batch over its cores. The times vary from machine to
# machine, the gap between the first and the others does not.

x = rng.standard_normal((16, 32, 32, 32)).astype(np.float32)
w, b = rng.standard_normal((32, 32, 3, 3)).astype(np.float32), np.zeros(32, np.float32)
tx, tw, tb = md.tensor(x), md.tensor(w), md.tensor(b)


def time_per_picture(f, pictures, repeats=5):
    times = []
    for _ in range(repeats):
        start = perf_counter()
        f()
        times.append((perf_counter() - start) / pictures)
    return min(times)


seconds = {
    "loops": time_per_picture(lambda: conv_loops(x[:1], w, b, 1, 1), 1, repeats=1),
    "patches": time_per_picture(lambda: conv(x, w, b, 1, 1), 16),
    "minidiff": time_per_picture(lambda: F.conv2d(tx, tw, tb, padding=1), 16),
}
multiplications = w.size * 32 * 32  # each weight at each place
for name, time in seconds.items():
    rate = multiplications / time / 1e9
    print(f"{name:9} {1000 * time:8.2f} ms a picture, {rate:6.2f} billion multiplications a second")
assert max(seconds["patches"], seconds["minidiff"]) < seconds["loops"]

# %%
# What would break it
# -------------------
# *Scatter that overwrites.* With ``=`` in place of ``+=`` each pixel keeps only the last of its patches; with
# a 1x1 kernel, or stride K, nobody notices. *A kernel turned round*: mathematicians flip w before they slide
# it, networks do not, and gx at stride 1 is the convolution with the *flipped* kernel. *Memory*: P is K²
# times as large as x; for a batch of 64 of these pictures it is 72 MB, so it is made for one picture at a
# time. *Transposed is not inverse*: it returns the shape, not the picture.

pixels = picture.ravel()
assert (A.T @ (A @ pixels)).shape == pixels.shape and not np.allclose(A.T @ (A @ pixels), pixels, atol=0.1)

# %%
# Exercises
# ---------
# 1. **Easy.** What 3x3 kernel leaves a picture as it is? What does it do when its 1 sits in a corner instead?
# 2. **Medium.** Show that at stride 1 gx is ``conv`` of gy with w flipped in both directions and its two
#    channel axes exchanged, with padding K − 1 − p. Why is that quicker than scattering?
# 3. **Hard.** ``conv_transpose2d`` with K = 3 and s = 2 leaves a chessboard: feed it ones and look. For which
#    K and s are all pixels reached equally often? Our U-Net goes up with K = 2, s = 2. (Chapter 6 shows the board.)
#
# Further reading
# ---------------
# * Fukushima, *Neocognitron*, 1980: the idea, from the eye.
# * LeCun et al., *Backpropagation applied to handwritten zip code recognition*, 1989: the idea, trained, on
#   digits.
# * Chellapilla, Puri, Simard, *High performance convolutional neural networks for document processing*, 2006:
#   convolution as one product of matrices.
# * Dumoulin, Visin, *A guide to convolution arithmetic for deep learning*, 2016: every stride and padding,
#   drawn.
# * Odena, Dumoulin, Olah, *Deconvolution and checkerboard artifacts*, Distill, 2016.
#
# One convolution sees its neighbours. Many, one behind the other, see far, if their numbers neither fade nor explode on
# the way, and if pictures get smaller. Both are the next chapter.
