"""
A tensor
========
A tensor is a row of numbers in memory and a rule for reading it: a shape, strides and a number type.
Turning, slicing and repeating change the rule and move nothing, so they are free. And repeating has an
opposite, summing, which is the first gradient rule of this book.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff.viz.style import STYLE

plt.rcParams.update(STYLE)

# %%
# One row of memory, read in four ways
# ------------------------------------
# Twelve numbers lie in memory one after the other. Each number here is its own place, so that in the pictures
# below you can see where a view looks.

memory = np.arange(12, dtype=np.float32)
x = memory.reshape(3, 4)
views = {"x": x, "x.T": x.T, "x[:, ::2]": x[:, ::2], "x[1], repeated": np.broadcast_to(x[1], (3, 4))}


def strides(a):
    """How many places in memory one step along each axis is (NumPy counts in bytes)."""
    return tuple(s // a.itemsize for s in a.strides)


def draw(ax, cells, title):
    ax.imshow(cells, cmap="viridis", vmin=-4, vmax=11)
    for (i, j), place in np.ndenumerate(cells):
        ax.text(j, i, f"{place:.0f}", ha="center", va="center", color="white" if place < 6 else "black")
        ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=2))
    ax.set_title(title, size=9.5)
    ax.axis("off")


fig, axes = plt.subplot_mosaic([["memory"] * 4, list(views)], figsize=(8, 3.9), height_ratios=(1, 3.4))
draw(axes["memory"], memory[None], "memory")
for name, view in views.items():
    draw(axes[name], view, f"{name}\nshape {view.shape}\nstrides {strides(view)}")
    axes[name].set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5))  # cells of one size, whatever the shape
fig.tight_layout()
plt.show()

# %%
# The rule is one sum. A view has a start :math:`p_0` and a stride :math:`s_k` for each axis; the element with
# index :math:`(i_0, i_1, \dots)` lies at
#
# .. math:: p(i_0, i_1, \dots) = p_0 + \sum_k i_k\, s_k .
#
# Transposing swaps two strides. Taking every second column doubles one. Repeating a row is a stride of **0**:
# a step down that goes nowhere.


def address(view):
    return view.__array_interface__["data"][0]


for view in views.values():
    p0 = (address(view) - address(memory)) // memory.itemsize
    for index in np.ndindex(view.shape):
        place = p0 + sum(i * s for i, s in zip(index, strides(view), strict=True))
        assert view[index] == memory[place]

# %%
# minidiff's tensors are such views too. ``md.tensor`` shares the array it is given, and the same four lines
# read the same memory.

t = md.tensor(x)
same = {"x": t, "x.T": t.T, "x[:, ::2]": t[:, ::2], "x[1], repeated": t[1].broadcast_to(3, 4)}
for name, view in views.items():
    assert np.array_equal(same[name].numpy(), view)
    assert strides(same[name].numpy()) == strides(view) and np.shares_memory(same[name].numpy(), memory)

# %%
# Pictures are tensors of four axes
# ---------------------------------
# A batch of N pictures with C colour channels, H rows and W columns is a tensor (N,C,H,W); one step along W
# is the next number in memory. Below are ten digits that minidiff draws itself, their mean, and what is left
# when the mean is taken off. There is only one mean picture (1,H,W) in memory: *broadcasting* lends it to all
# ten, with a stride of 0 along N.

digits = md.data.load("glyphs", limit=10)
x = md.data.to_model(digits.images).astype(np.float64)  # (N,C,H,W) in [-1,1]
N, C, H, W = x.shape
mean = x.mean(axis=0)  # (N,C,H,W) -> (C,H,W): the axis that is named vanishes
repeated = np.broadcast_to(mean, x.shape)
assert strides(x) == (C * H * W, H * W, W, 1) and strides(repeated)[0] == 0

fig, axes = plt.subplots(3, 1, figsize=(8, 3.3))
rows = {f"x  {x.shape}": x, f"mean  {mean.shape}, repeated": repeated, "x − mean": x - mean}
for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
    ax.imshow(np.hstack(pictures[:, 0]), cmap="gray", vmin=-1, vmax=1)
    ax.set_title(name, size=9.5, weight="normal", pad=4)
    ax.axis("off")
fig.tight_layout(h_pad=0.8)
plt.show()

centred = md.tensor(x) - md.tensor(x).mean(axis=0)
assert np.allclose(centred.numpy(), x - mean)

# %%
# The opposite of repeating is summing
# ------------------------------------
# Let y be the mean picture repeated ten times, and let gy say how much we care about each number of y.
# Raising one pixel of the mean raises ten pixels of y, so what we care about it is the sum of those ten:
#
# .. math:: \langle \mathrm{repeat}(m),\, gy \rangle = \langle m,\, \mathrm{sum\_to}(gy) \rangle
#    \qquad\Longrightarrow\qquad gm = \mathrm{sum\_to}(gy) .


def sum_to(gy, shape):
    """gy summed over the axes along which something of `shape` was repeated."""
    gy = gy.sum(axis=tuple(range(gy.ndim - len(shape))))  # axes that repeating put in front
    ones = tuple(i for i, n in enumerate(shape) if n == 1)  # axes of length 1 that it stretched
    return gy.sum(axis=ones, keepdims=True)


rng = np.random.default_rng(0)
gy = rng.standard_normal(x.shape)
assert np.isclose((repeated * gy).sum(), (mean * sum_to(gy, mean.shape)).sum())

for shape in [(C, H, W), (N, 1, 1, 1), (H, 1), ()]:
    assert np.allclose(sum_to(gy, shape), md.ops.sum_to(md.tensor(gy), shape).numpy())

# %%
# So whoever can broadcast forwards must sum backwards. minidiff's engine does it in one place, for every
# operation. Here is a bias, one number per picture, that was stretched over 1,024 pixels, and its gradient:

b = md.tensor(np.zeros((N, 1, 1, 1)), requires_grad=True)
(md.tensor(x) + b).backward(gy)
assert np.allclose(b.grad.numpy(), sum_to(gy, b.shape))

# %%
# The number to remember: 4 bytes
# -------------------------------
# minidiff computes in float32: 4 bytes a number, about seven digits. NumPy leaves it as soon as a float64
# number comes near; a minidiff tensor does not, because a plain number is never a reason to double the
# memory.

half = np.float64(0.5)
single = np.ones(3, dtype=np.float32)
assert (single * half).dtype == np.float64
assert (md.tensor(single) * half).dtype == np.float32

# %%
# A student's report that we follow through this book trains a network of 957,513 parameters, a U-Net
# (chapter 11), and gives its memory as 11.0 MB. That is the weights and the two running means that its rule
# for learning, Adam (chapter 4), keeps for each, at 4 bytes (and with 2²⁰ bytes to the MB). It is true, and it
# is not the whole truth: the output of one single layer, for a batch of 64 pictures, is nearly as large.

parameters = md.models.UNet().num_parameters()
state = 3 * 4 * parameters / 2**20
feature_map = 4 * 64 * 32 * 32 * 32 / 2**20  # (N,C,H,W) = (64,32,32,32), the output of the first convolution
print(f"{parameters:,} weights and two moments each: {state:.2f} MB")
print(f"one feature map (64,32,32,32):            {feature_map:.2f} MB")
assert 10.9 < state < 11.0 and feature_map == 8.0

# %%
# What would break it
# -------------------
# *A forgotten axis.* ``x.mean(axis=1)`` of a square matrix has the shape (n,), and broadcasting lines it up
# with the columns instead of the rows. Nothing complains. ``keepdims=True`` is the cure.

a = rng.standard_normal((5, 5))
wrong, right = a - a.mean(axis=1), a - a.mean(axis=1, keepdims=True)
left = {name: abs(rows.mean(axis=1)).max() for name, rows in (("wrong", wrong), ("right", right))}
print(f"largest row mean left: {left['wrong']:.3f} when wrong, {left['right']:.0e} when right")
assert left["right"] < 1e-15 < 0.01 < left["wrong"]

# %%
# *Writing into a view* writes into everything that shares its memory. *Reshaping a transposed array* copies,
# because no strides can describe it, and what you then write is lost. *Memory that grows for no reason* is
# often a float64 constant far upstream.
#
# Exercises
# ---------
# 1. **Easy.** What are start and strides of ``x[::-1]`` and of ``x[1:, 1:]`` for the 3x4 array above? Check
#    your answer with ``strides`` and ``address``.
# 2. **Medium.** With ``np.lib.stride_tricks.as_strided``, make a view (30,30,3,3) of all 3x3 patches of a
#    32x32 picture, without copying a number. Which strides does it need? (Chapter 5 lives on these patches.)
# 3. **Hard.** Write ``repeat_to(m, shape)`` as a matrix R that multiplies ``m.ravel()``, for any two shapes
#    that broadcast. Show that the matrix of ``sum_to`` is R transposed.
#
# Further reading
# ---------------
# * van der Walt, Colbert, Varoquaux, *The NumPy array: a structure for efficient numerical computation*,
#   2011. Strides from the people who built on them.
# * Harris et al., *Array programming with NumPy*, Nature 585, 2020.
# * Goldberg, *What every computer scientist should know about floating-point arithmetic*, 1991.
#
# We could write down the gradient of one operation. A network has hundreds, one behind the other; the next
# chapter lets the machine do the chaining.
