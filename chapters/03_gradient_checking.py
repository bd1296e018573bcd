"""
Gradient checking
=================
A wrong gradient raises no error: the network just learns worse. So we measure slopes with a rule that knows
no calculus, compare, and then test the tester: we plant wrong gradients and see which of them it lets through.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
import minidiff.nn.functional as F
from minidiff.ops.activation import Softmax
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)

# %%
# How small is a small step?
# --------------------------
# Move x a little to both sides and see how much f moves. That is the *central difference*:
#
# .. math:: f'(x) \approx \frac{f(x + h) - f(x - h)}{2h} .
#
# We measure the slope of tanh at 1,000 points, with every step h from 1 down to 10⁻¹⁴, and plot how wrong it
# is. The one-sided difference :math:`(f(x+h) - f(x))/h`, and the same in float32, are there to compare.

points = np.random.default_rng(0).uniform(-2, 2, 1000)
steps = np.logspace(-14, 0, 113)
slope = 1 - np.tanh(points) ** 2


def central(x, h):
    return (np.tanh(x + h) - np.tanh(x - h)) / (2 * h)


def one_sided(x, h):
    return (np.tanh(x + h) - np.tanh(x)) / h


def error_curve(difference, dtype, steps):
    """The root mean square error over the points, for each step."""
    x = points.astype(dtype)
    return np.array([np.sqrt(np.mean((difference(x, dtype(h)) - slope) ** 2)) for h in steps])


coarse = steps[steps > 1e-7]  # below, float32 cannot tell x + h from x
curves = {
    "one-sided, float64": (steps, error_curve(one_sided, np.float64, steps)),
    "central, float32": (coarse, error_curve(central, np.float32, coarse)),
    "central, float64": (steps, error_curve(central, np.float64, steps)),
}
fig, ax = plt.subplots(figsize=(8, 4.4))
for (name, (h, error)), colour in zip(curves.items(), (COLOURS[5], COLOURS[4], COLOURS[0]), strict=True):
    best = error.argmin()
    ax.loglog(h, error, color=colour, label=f"{name}: at best {error[best]:.0e}, h = {h[best]:.0e}")
    ax.plot(h[best], error[best], "o", color=colour)
ax.text(1.5e-10, 3e-9, "rounding: error ε / h", color=MUTED, ha="right")
ax.text(3e-3, 3e-9, "curvature: error h²", color=MUTED)
ax.set(xlabel="step h", ylabel="error of the slope", ylim=(1e-12, 1e2))
ax.legend(loc="upper left")
ax.grid(True)
fig.tight_layout()
plt.show()

# %%
# Two errors pull in opposite directions. Too large a step, and the curve bends between the two points:
# Taylor's formula leaves :math:`h^2 f'''/6`. Too small a step, and the difference of two nearly equal numbers
# drowns in rounding: :math:`\varepsilon / h`, with :math:`\varepsilon = 2.2\cdot10^{-16}` in float64. They
# meet at
#
# .. math:: h^2 \approx \frac{\varepsilon}{h}
#    \quad\Longrightarrow\quad h \approx \varepsilon^{1/3} = 6\cdot 10^{-6} .
#
# The number to remember: step 10⁻⁵, ten digits
# ---------------------------------------------
# With :math:`h = 10^{-5}` ten digits of a slope can be trusted. In float32 the same bargain leaves five,
# which is why gradients are checked in float64.

h, error = curves["central, float64"]
best_step, best_error = h[error.argmin()], error.min()
at_1e_5 = error_curve(central, np.float64, [1e-5])[0]
print(f"best step {best_step:.1e} with error {best_error:.0e}; step 1e-05 has error {at_1e_5:.0e}")
print(f"the cube root of ε is {np.finfo(np.float64).eps ** (1 / 3):.1e}")
assert 1e-6 < best_step < 3e-5 and 1e-12 < best_error < 1e-10
assert at_1e_5 < 1e-10 < 1e-6 < curves["central, float32"][1].min()

# %%
# A checker in ten lines
# ----------------------
# Backward takes an upstream gradient u and claims that :math:`\varphi(x) = \sum u\, f(x)` has the slope gx.
# So we choose a u, move one number of x at a time, and measure the slope of φ.


def numeric_gradient(f, x, u, h=1e-5):
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = h
        g[i] = (np.sum(u * f(x + e)) - np.sum(u * f(x - e))) / (2 * h)
    return g


def agrees(f, backward, x, u):
    return np.allclose(backward(x, u), numeric_gradient(f, x, u), rtol=1e-6, atol=1e-8)


# %%
# Here is softmax with its rule, :math:`y_i = e^{x_i} / \sum_j e^{x_j}` and :math:`gx = y\,(gy - \sum_j gy_j\,
# y_j)`. The checker agrees, and so does minidiff's, which is the same idea with a name for the culprit.


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(x, gy):
    y = softmax(x)
    return y * (gy - (gy * y).sum(axis=-1, keepdims=True))


rng = np.random.default_rng(1)
x = rng.standard_normal((4, 4))
u, ones = rng.standard_normal((4, 4)), np.ones((4, 4))
t = md.tensor(x, requires_grad=True)
F.softmax(t).backward(u)
assert agrees(softmax, softmax_backward, x, u)
assert np.allclose(t.grad.numpy(), softmax_backward(x, u), atol=1e-15)
assert md.gradcheck(F.softmax, [x])

# %%
# Testing the tester
# ------------------
# A test that cannot fail is worth nothing. So we plant mistakes, *mutants*, and see who catches them. The
# first one is outrageous: a backward that returns zeros.


def zeros(x, gy):
    return np.zeros_like(x)


print("zeros pass with u = 1: ", agrees(softmax, zeros, x, ones))
print("zeros pass with random u:", agrees(softmax, zeros, x, u))
assert agrees(softmax, zeros, x, ones) and not agrees(softmax, zeros, x, u)

# %%
# With all-ones u, or with ``f(x).sum()``, which is the same thing and the first idea everybody has, zeros
# pass! The outputs of softmax always add up to 1, so their sum has the slope 0, and zeros are right. The
# upstream gradient has to treat the outputs differently; random numbers do.
#
# The same in the library: a broken operation slips through behind a ``sum()``, and is caught without it.


class ZeroSoftmax(Softmax):
    def backward(self, gy):
        return gy * 0.0


def broken(x):
    return ZeroSoftmax(axis=-1)(x)


assert md.gradcheck(lambda x: broken(x).sum(), [x])
try:
    md.gradcheck(broken, [x])
except md.GradcheckError as error:
    print(error)
else:
    raise AssertionError("gradcheck let a zero gradient pass")

# %%
# More mutants. ``norm`` is the heart of GroupNorm (chapter 6): each row minus its mean, divided by its deviation.
#
# .. math:: \hat x = \frac{x - \mu}{\sigma}, \qquad
#    gx = \frac{1}{\sigma}\bigl(gy - \langle gy \rangle - \hat x\, \langle gy\, \hat x \rangle\bigr)


def norm(x):
    return (x - x.mean(axis=-1, keepdims=True)) / x.std(axis=-1, keepdims=True)


def norm_backward(x, gy, mean=1, scale=1):
    x_hat = norm(x)
    gx = gy - mean * gy.mean(-1, keepdims=True) - scale * x_hat * (gy * x_hat).mean(-1, keepdims=True)
    return gx / x.std(-1, keepdims=True)


def tanh_backward(x, gy):
    return gy * (1 - np.tanh(x) ** 2)


mutants = {  # name: (f, right backward, wrong backward)
    "softmax: zeros": (softmax, softmax_backward, zeros),
    "softmax: the sum forgotten": (softmax, softmax_backward, lambda x, gy: softmax(x) * gy),
    "norm: zeros": (norm, norm_backward, zeros),
    "norm: the term with x̂ forgotten": (norm, norm_backward, lambda x, gy: norm_backward(x, gy, scale=0)),
    "norm: the mean forgotten": (norm, norm_backward, lambda x, gy: norm_backward(x, gy, mean=0)),
    "transpose: not turned back": (np.transpose, lambda x, gy: gy.T, lambda x, gy: gy),
    "flip: not flipped back": (np.flip, lambda x, gy: np.flip(gy), lambda x, gy: gy),
    "tanh: 1 − y for 1 − y²": (np.tanh, tanh_backward, lambda x, gy: gy * (1 - np.tanh(x))),
}
for f, right, _ in mutants.values():
    assert agrees(f, right, x, u) and agrees(f, right, x, ones)
caught = np.array([[not agrees(f, wrong, x, g) for g in (ones, u)] for f, _, wrong in mutants.values()])

fig, ax = plt.subplots(figsize=(8, 3.6))
for row, name in enumerate(mutants):
    ax.text(-0.3, row, name, ha="right", va="center")
    for column in range(2):
        text, colour = ("caught", COLOURS[2]) if caught[row, column] else ("missed", COLOURS[1])
        ax.add_patch(plt.Rectangle((column - 0.2, row - 0.42), 0.92, 0.84, facecolor=colour))
        ax.text(column + 0.26, row, text, color="white", weight="bold", ha="center", va="center")
for column, name in enumerate(("u = 1 everywhere", "random u")):
    ax.text(column + 0.26, -0.75, name, ha="center", weight="bold")
ax.set(xlim=(-2.1, 1.8), ylim=(len(mutants) - 0.5, -1.2))
ax.axis("off")
fig.tight_layout()
plt.show()
print(f"caught with u = 1: {caught[:, 0].sum()} of {len(mutants)}, with random u: {caught[:, 1].sum()}")
assert caught[:, 1].all() and caught[:, 0].sum() <= 3

# %%
# Thousands of numbers at once
# ----------------------------
# Moving every number of a large input takes for ever. One random direction d checks them all together: the
# slope of φ along it must be :math:`\langle gx, d \rangle`, and a mistake anywhere would have to lie exactly
# at right angles to d to hide.

x, u, d = rng.standard_normal((3, 64, 128))
h = 1e-5
measured = (np.sum(u * norm(x + h * d)) - np.sum(u * norm(x - h * d))) / (2 * h)
assert np.isclose(measured, np.sum(norm_backward(x, u) * d), rtol=1e-8)
assert not np.isclose(measured, np.sum(norm_backward(x, u, scale=0) * d), rtol=1e-4)

# %%
# minidiff takes eight such directions for every large input, and single numbers for small ones. Here it
# checks three operations in a row that the next chapters build (convolution, GroupNorm and GELU: a block of the
# U-Net), with respect to a picture of 8,192 numbers and all weights; then, on a smaller one, the gradient *of
# the gradient*.


def block(x, w, gamma, beta):
    return F.gelu(F.group_norm(F.conv2d(x, w, padding=1), 2, gamma, beta))


def block_inputs(c, size):
    shapes = [(2, c, size, size), (4, c, 3, 3), (4,), (4,)]
    return [rng.standard_normal(shape) for shape in shapes]


assert md.gradcheck(block, block_inputs(4, 32))
assert md.gradcheck(block, block_inputs(2, 3), order=2)

# %%
# What would break it
# -------------------
# *float32*: five digits of truth, and tolerances so wide that small mistakes fit in. *Kinks*: around x = 0
# the ReLU has two slopes, and a difference over both sides measures their mean. *Chance*: dropout must draw
# the same numbers each time φ is computed. *A wrong forward pass*: the gradient of the wrong function can be
# perfectly right; that takes a second opinion, a reference to compare the values with. Here is the kink:

measured = (max(1e-5, 0) - max(-1e-5, 0)) / 2e-5
z = md.tensor(np.zeros(1), requires_grad=True)
F.relu(z).backward()
assert measured == 0.5 and z.grad.item() == 0.0

# %%
# Exercises
# ---------
# 1. **Easy.** Plant a factor of 1.001 in the gradient of tanh. Which step h and which tolerance still catch
#    it in float64, and which in float32?
# 2. **Medium.** The *complex step*, :math:`f'(x) \approx \mathrm{Im} f(x + ih) / h`, subtracts nothing. Add
#    its curve to the first figure. How small may h be now?
# 3. **Hard.** Choose u = x̂ instead of random numbers. Which mutants of ``norm`` get through now, and why?
#    Then, for any fixed u, write a mutant of tanh that passes. What does that say about a checker with a
#    fixed seed?
#
# Further reading
# ---------------
# * Squire, Trapp, *Using complex variables to estimate derivatives of real functions*, SIAM Review, 1998.
# * Press, Teukolsky, Vetterling, Flannery, *Numerical Recipes*, 3rd edition, 2007: the section on numerical
#   derivatives weighs the two errors.
# * DeMillo, Lipton, Sayward, *Hints on test data selection: help for the practicing programmer*, 1978: where
#   mutation testing began.
#
# With a tester that we trust we can write operations whose gradients are not obvious, and learn from them. The next
# chapter makes the parts of every network: a layer, a bend, and a rule that moves the weights.
