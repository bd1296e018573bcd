"""
Reverse mode
============
Every operation knows only its own slope. Walk back from the result, multiply slopes along each arrow and add
where arrows meet: one walk gives the slope of the result with respect to every number that went in. We build
the machine that does this in about sixty lines, train a small network with it, and meet it again in minidiff.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)

# %%
# Forwards values, backwards slopes
# ---------------------------------
# Take the smallest neuron, :math:`y = \tanh(wx + b)`, and the loss :math:`L = y\,y`. We compute from left to
# right. Then we ask, from right to left: if this number rose a little, how much would L rise? Call that
# number :math:`g` of the thing: :math:`gw = \partial L / \partial w`.

x, w, b = 2.0, -0.5, 0.4

u = w * x
s = u + b
y = np.tanh(s)
L = y * y

gL = 1.0  # L rises as fast as itself
gy = gL * y + gL * y  # y enters the product twice, and both ways count
gs = gy * (1 - y**2)  # tanh has the slope 1 − y²
gu, gb = gs, gs  # a sum hands on what it gets
gw, gx = gu * x, gu * w  # a product hands each factor the other one

# %%
# In the picture, black is the value and orange the slope. Each arrow needs to know nothing but its own
# operation.

nodes = {  # name: (place, value, slope)
    "w": ((0, 2), w, gw), "x": ((0, 1), x, gx), "b": ((1, 0.5), b, gb), "u = w x": ((1, 1.5), u, gu),
    "s = u + b": ((2, 1), s, gs), "y = tanh s": ((3, 1), y, gy), "L = y y": ((4, 1), L, gL),
}  # fmt: skip
arrows = [("w", "u = w x", 0), ("x", "u = w x", 0), ("u = w x", "s = u + b", 0), ("b", "s = u + b", 0),
          ("s = u + b", "y = tanh s", 0), ("y = tanh s", "L = y y", 0.15), ("y = tanh s", "L = y y", -0.15)]

fig, ax = plt.subplots(figsize=(8, 3.4))
for start, end, aside in arrows:
    (i, j), (k, m) = nodes[start][0], nodes[end][0]
    arrow = dict(arrowstyle="-|>", color=MUTED, shrinkA=2, shrinkB=2)
    ax.annotate("", (k - 0.36, m + aside), (i + 0.36, j + aside), arrowprops=arrow)
for name, ((i, j), value, slope) in nodes.items():
    ax.add_patch(plt.Rectangle((i - 0.36, j - 0.4), 0.72, 0.8, facecolor="#eef2f7"))
    lines = [(name, MUTED), (f"{value:.3f}", INK), (f"{slope:.3f}", COLOURS[1])]
    for line, (text, colour) in enumerate(lines):
        text = text.replace("-", "−")
        ax.text(i, j + 0.24 * (1 - line), text, color=colour, ha="center", va="center", size=9.5)
ax.set(xlim=(-0.4, 4.4), ylim=(0.05, 2.45))
ax.axis("off")
fig.tight_layout()
plt.show()

# %%
# That is the chain rule, read from the end. For an operation :math:`y = f(x)`,
#
# .. math:: gx = gy\,\frac{\partial y}{\partial x}
#    \qquad\text{and if } x \text{ was used several times,}\qquad
#    gx = \sum_{\text{uses}} gy\,\frac{\partial y}{\partial x} .
#
# For a product of matrices :math:`y = a\,b` the shapes leave no choice: :math:`ga = gy\,b^\top` and :math:`gb
# = a^\top gy`.
#
# The engine
# ----------
# A ``Value`` holds an array and remembers, for each array it was made from, the rule that turns gy into gx.


class Value:
    def __init__(self, data, inputs=()):
        self.data = np.asarray(data, dtype=np.float64)
        self.inputs = inputs  # pairs (Value, rule: gy -> gx)
        self.grad = None

    def __add__(a, b):
        return Value(a.data + b.data, [(a, lambda gy: gy), (b, lambda gy: gy)])

    def __mul__(a, b):
        b = b if isinstance(b, Value) else Value(b)
        return Value(a.data * b.data, [(a, lambda gy: gy * b.data), (b, lambda gy: gy * a.data)])

    def __matmul__(a, b):
        ga, gb = (lambda gy: product(gy, b.data.T)), (lambda gy: product(a.data.T, gy))
        return Value(product(a.data, b.data), [(a, ga), (b, gb)])

    def tanh(x):
        y = np.tanh(x.data)
        return Value(y, [(x, lambda gy: gy * (1 - y**2))])

    def sum(x):
        return Value(x.data.sum(), [(x, lambda gy: np.broadcast_to(gy, x.data.shape))])

    def backward(self):
        """Leave dself/dx in the `.grad` of every x that self was computed from."""
        order = inputs_first(self)
        for x in order:
            x.grad = None
        self.grad = np.ones_like(self.data)
        for y in reversed(order):
            for x, rule in y.inputs:
                gx = sum_to(rule(y.grad), x.data.shape)
                x.grad = gx if x.grad is None else x.grad + gx  # a new array: the old one may be shared


def inputs_first(y):
    """Everything y was computed from, each after its own inputs; y is last. No recursion: graphs get deep."""
    order, seen, stack = [], set(), [(y, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(x, False) for x, _ in node.inputs]
    return order


def sum_to(gy, shape):
    """Undo broadcasting (chapter 1)."""
    gy = gy.sum(axis=tuple(range(gy.ndim - len(shape))))
    return gy.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


multiplications = 0


def product(a, b):
    """a @ b, and a tally of the multiplications it takes."""
    global multiplications
    multiplications += a.shape[0] * a.shape[1] * b.shape[1]
    return a @ b


# %%
# Reversed, the order guarantees that a number has received *all* of its slope before it hands it on. The
# engine gives what we worked out by hand, and so does minidiff:

for make in (Value, lambda number: md.tensor(np.float64(number), requires_grad=True)):
    X, W, B = make(x), make(w), make(b)
    Y = (W * X + B).tanh()
    (Y * Y).backward()
    grads = [float(v.grad) for v in (X, W, B)]
    assert np.allclose(grads, [gx, gw, gb], atol=1e-15)

# %%
# A network learns
# ----------------
# Three layers, 1,153 parameters, and 100 noisy points of a curve. ``network`` asks its arguments only for
# ``@``, ``+`` and ``tanh``; it does not care whose they are.

rng = np.random.default_rng(1)
points = np.linspace(-1, 1, 100)[:, None]  # (N,1)
targets = np.sin(5 * points) * np.exp(-points) / 2 + 0.05 * rng.standard_normal(points.shape)
sizes = [1, 32, 32, 1]
start = [rng.standard_normal(s) * np.sqrt(1 / s[0]) if len(s) == 2 else rng.uniform(-1, 1, s)
         for i, o in zip(sizes[:-1], sizes[1:], strict=True) for s in [(i, o), (o,)]]  # fmt: skip


def network(x, w1, b1, w2, b2, w3, b3):
    return ((((x @ w1) + b1).tanh() @ w2 + b2).tanh() @ w3) + b3


def loss(make, parameters):
    """The mean squared error, computed with whatever `make` makes."""
    error = network(make(points), *parameters) + make(-targets)
    return (error * error).sum() * (1 / len(points))


parameters = [Value(p) for p in start]
curves, losses = {}, []
for step in range(1501):
    L = loss(Value, parameters)
    L.backward()
    losses.append(float(L.data))
    if step in (0, 100, 1500):
        curves[step] = network(Value(points), *parameters).data
    for p in parameters:
        p.data = p.data - 0.1 * p.grad

fig, ax = plt.subplots(figsize=(8, 3.6))
ax.plot(points, targets, "o", color=MUTED, markersize=3.5, alpha=0.6, label="data")
for (step, curve), colour in zip(curves.items(), COLOURS[4::-2], strict=True):
    ax.plot(points, curve, color=colour, label=f"step {step:,}: loss {losses[step]:.4f}")
ax.set(xlabel="x", ylabel="y")
ax.legend()
fig.tight_layout()
# sphinx_gallery_thumbnail_number = 2
plt.show()
assert losses[-1] < 0.01 < 0.1 < losses[0]

# %%
# The same in minidiff
# --------------------
# The same function on minidiff's tensors, from the same start: the six gradients agree to the last digits.

ours = [Value(p) for p in start]
loss(Value, ours).backward()
theirs = [md.tensor(p, requires_grad=True) for p in start]
L = loss(md.tensor, theirs)
L.backward()
for p, q in zip(ours, theirs, strict=True):
    assert np.allclose(p.grad, q.grad.numpy(), rtol=1e-12, atol=1e-14)

# %%
# There, a tensor points to the operation that made it (``creator``), and the operation to where its inputs
# came from (``edges``). What the small engine lacks and ``autograd.py`` has: gradients of gradients, no work
# for numbers that need no gradient, memory given back on the way, and an error when backward runs a second
# time.

op, names = L.creator, []
while not isinstance(op, md.Tensor):
    names.append(op.name)
    op = next(edge for edge in op.edges if edge is not None)
print("back from the loss:", " · ".join(names))
assert names[:3] == ["Mul", "Sum", "Mul"] and names.count("MatMul") == 3 and names.count("Tanh") == 2

# %%
# The number to remember: 2
# -------------------------
# A layer's forward pass is one product of matrices, its backward pass two: one for gx, one for gw. So a whole
# backward pass costs two forward passes, **whatever the number of parameters**. Measuring the same slopes by
# moving each parameter up and down would take two forward passes *per parameter*.

multiplications = 0
L = loss(Value, ours)
forward, multiplications = multiplications, 0
L.backward()
n = sum(p.size for p in start)
ratio = multiplications / forward
print(f"{forward:,} multiplications forward, {multiplications:,} backward: {ratio:.2f} times")
print(f"one backward pass instead of {2 * n:,} forward passes for {n:,} slopes")
assert 1.9 < ratio < 2.1

# %%
# What would break it
# -------------------
# *Overwriting instead of adding.* With ``x.grad = gx`` the second use of a number wipes out the first: for
# :math:`y\,y` the slope would come out as y, not 2y. *Adding in place.* ``x.grad += gx`` writes into an array
# that a sum may have handed to two inputs at once, and changes the other one too:

gy = np.ones(3)
ga = gb = gy  # what the rule of a + b hands on: one array, three names
ga += 1.0
assert np.array_equal(gb, [2, 2, 2]) and np.array_equal(gy, [2, 2, 2])  # nobody asked for that

# %%
# *The wrong order*: a number that hands on its slope before all of it has arrived. *Changing data in place
# between forward and backward*: rules that remember p then use the wrong value. *A wrong rule*, which fails
# silently: the loss still falls, only slower. And *recursion*, which gives up at a depth of a thousand; a
# loop does not care:

for x in (Value(1.0), md.tensor(np.float64(1.0), requires_grad=True)):
    y = x
    for _ in range(10_000):
        y = y * 1.0001
    y.backward()
    assert np.isclose(float(x.grad), 1.0001**10_000)

# %%
# Exercises
# ---------
# 1. **Easy.** Give ``Value`` an ``exp`` and a ``relu``, each in two lines.
# 2. **Medium.** The engine computes a slope for the data ``points`` too, which nobody reads. Add a flag
#    ``needs`` that spares it. What does the 2 become?
# 3. **Hard.** Write the rules with Values instead of arrays, so that ``x.grad`` is a Value that can be
#    differentiated again. Check that the third derivative of ``x.tanh()`` at 0 is −2.
#
# Further reading
# ---------------
# * Linnainmaa, *Taylor expansion of the accumulated rounding error*, 1976: reverse mode, first published in
#   his thesis of 1970.
# * Rumelhart, Hinton, Williams, *Learning representations by back-propagating errors*, 1986.
# * Griewank, Walther, *Evaluating Derivatives*, 2nd edition, 2008: the book, with the proof of the small
#   constant.
# * Baydin, Pearlmutter, Radul, Siskind, *Automatic differentiation in machine learning: a survey*, 2018.
#
# The engine is as right as its rules. How would we notice a wrong one? By measuring the slope: the next
# chapter.
