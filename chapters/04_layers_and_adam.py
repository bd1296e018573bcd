"""
Linear, GELU, Adam
==================
Mix, bend, learn: every network of this book is made of layers that mix numbers, a curve that bends them, and a rule that
moves weights against their slopes. We write all three in plain arrays, gradients included, meet them again in minidiff, and
let them draw a border between two spirals.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import erf

import minidiff as md
import minidiff.nn.functional as F
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
rng = np.random.default_rng(0)

# %%
# Mix
# ---
# A *linear layer* makes O weighted sums of I numbers. The weights of each sum are a row of w, so a batch of N rows x becomes
#
# .. math:: y = x\,w^\top + b, \qquad gx = gy\,w, \qquad gw = gy^\top x, \qquad gb = \sum_n gy_n
#
# The first two gradients are chapter 2's, of a product. b is added to every row, so what the rows send back adds up.


def linear(x, w, b):  # (N,I) (O,I) (O,) -> (N,O)
    return x @ w.T + b


def linear_backward(x, w, gy):
    return gy @ w, gy.T @ x, gy.sum(axis=0)


x, w, b, gy = (rng.standard_normal(shape) for shape in [(5, 4), (3, 4), (3,), (5, 3)])
tensors = [md.tensor(a, requires_grad=True) for a in (x, w, b)]
y = F.linear(*tensors)
y.backward(gy)
assert np.allclose(linear(x, w, b), y.numpy(), atol=1e-14) and md.gradcheck(F.linear, [x, w, b])
assert all(np.allclose(g, t.grad.numpy(), atol=1e-14) for g, t in zip(linear_backward(x, w, gy), tensors, strict=True))

# %%
# A sum of D products with independent weights of mean 0 has the variance :math:`D\,\mathrm{var}(w)\,\mathrm{var}(x)`. So a
# layer multiplies the deviation of its numbers by :math:`\sqrt D` times that of its weights, and ten layers by the tenth
# power of that. Only weights of deviation :math:`1/\sqrt D` neither die nor explode. (D is the *fan-in*.) ``nn.Linear`` starts
# as in PyTorch, evenly between :math:`\pm 1/\sqrt D`: that is a deviation of :math:`1/\sqrt{3D}`.

D, layers = 256, 10
starts = {r"2 / $\sqrt{D}$": 2.0, r"1 / $\sqrt{D}$": 1.0, "nn.Linear": 3**-0.5, r"½ / $\sqrt{D}$": 0.5}
deviations = {}
md.manual_seed(0)
for name, factor in starts.items():
    h = rng.standard_normal((500, D))
    deviations[name] = [h.std()]
    for _ in range(layers):
        drawn = factor / np.sqrt(D) * rng.standard_normal((D, D))
        h = h @ (md.nn.Linear(D, D).weight.numpy() if name == "nn.Linear" else drawn).T
        deviations[name].append(h.std())
    assert abs(np.log(deviations[name][-1] / factor**layers)) < 0.3
print(f"ten of nn.Linear's layers leave {deviations['nn.Linear'][-1]:.4f} of a deviation of 1; 3 to the -5 is {3.0**-5:.4f}")
assert 0.003 < deviations["nn.Linear"][-1] < 0.0055

# %%
# Ten of the library's layers let 0.4 % through, and what stands between them takes its share too. One can live with that if
# something puts the deviation back to 1 after each layer: GroupNorm will, in chapter 6.
#
# Bend
# ----
# Without a bend depth is wasted: :math:`(x w_1^\top) w_2^\top = x\,(w_2 w_1)^\top` is one linear layer. The simplest bend is
# ReLU, :math:`\max(x, 0)`. Ours is *GELU*: keep x with the probability that a standard normal number lies below it.
#
# .. math:: y = x\,\Phi(x), \qquad gx = gy\,\bigl(\Phi(x) + x\,\varphi(x)\bigr), \qquad
#           \Phi(x) = \tfrac12\bigl(1 + \mathrm{erf}(x/\sqrt 2)\bigr), \quad \varphi(x) = \frac{e^{-x^2/2}}{\sqrt{2\pi}}
#
# Where erf is dear, a tanh takes its place: :math:`\Phi \approx \tfrac12 (1 + \tanh u)` with
# :math:`u = \sqrt{2/\pi}\,(x + 0.044715\,x^3)`.


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def gelu_backward(x, gy):
    return gy * ((1 + erf(x / np.sqrt(2))) / 2 + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


x = np.linspace(-5, 5, 10_001)
z = md.tensor(x, requires_grad=True)
y = F.gelu(z)
y.backward(np.ones_like(x))
by_tanh = x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2
assert np.allclose(gelu(x), y.numpy(), atol=1e-14) and np.allclose(gelu_backward(x, 1.0), z.grad.numpy(), atol=1e-14)
assert np.allclose(by_tanh, F.gelu(z, approximate="tanh").numpy(), atol=1e-14)
apart, lowest = abs(by_tanh - gelu(x)), x[gelu(x).argmin()]
print(f"the tanh form is {apart.max():.5f} off at most, at |x| = {abs(x[apart.argmax()]):.2f}; GELU is lowest at {lowest:.3f}")
assert 4.6e-4 < apart.max() < 4.8e-4 and -0.7525 < lowest < -0.751

# %%
# What is wrong with ReLU? Not much. But its slope jumps, and the slope *of its slope* is 0: whoever needs curvature finds
# none. And a unit that is below zero for all data has the slope 0 and stays as it is: it is dead. GELU's slope fades to the
# left, and is 0 at a single point. (Below −0.75 it is negative: no resurrection, but a pulse.)

z = md.tensor(np.array([-2.0, 1.0]), requires_grad=True)
of_relu, of_gelu = (md.grad(bend(z).sum(), z, create_graph=True) for bend in (F.relu, F.gelu))
assert of_relu.tolist() == [0, 1] and of_relu.creator is None  # constants, as far as the engine can see
assert of_gelu.numpy()[0] < -0.08 and abs(md.grad(of_gelu.sum(), z).numpy()).min() > 0.1

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
for (name, line), colour in zip(deviations.items(), (COLOURS[1], COLOURS[2], COLOURS[0], COLOURS[4]), strict=True):
    left.semilogy(line, color=colour)
    left.text(layers + 0.2, line[-1], name, color=colour, va="center", size=9)
left.set(xlabel="linear layers", ylabel="deviation of the numbers", xlim=(0, 13), xticks=range(0, 11, 2))
for name, colour, bend, slope in [("ReLU", MUTED, np.maximum(x, 0), x > 0), ("GELU", COLOURS[0], gelu(x), gelu_backward(x, 1))]:
    right.plot(x, bend, color=colour, label=name)
    right.plot(x, slope, "--", color=colour, lw=1.2, label="its slope")
right.set(xlabel="x", xlim=(-3, 2), ylim=(-0.3, 1.7))
right.legend()
fig.tight_layout()
plt.show()

# %%
# Learn
# -----
# The gradient says where L rises. *SGD* goes the other way, by the learning rate :math:`\eta` times the slope. With *momentum*
# its steps add up, like those of a ball that rolls. *Adam* keeps two running means, of g and of g², and divides one by the
# root of the other. (Its :math:`\beta_1` and :math:`\beta_2` have nothing to do with noise.)
#
# .. math:: m \leftarrow \beta_1 m + (1-\beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2, \qquad
#           p \leftarrow p - \eta\,\frac{\hat m}{\sqrt{\hat v} + \varepsilon}, \quad
#           \hat m = \frac{m}{1-\beta_1^t}, \quad \hat v = \frac{v}{1-\beta_2^t}


def momentum(p, g, b, t, lr, mu=0.9):  # mu = 0 is SGD
    b = mu * b + g
    return p - lr * b, b


def adam(p, g, means, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v = means if t > 1 else (0.0, 0.0)
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), (m, v)


# %%
# The number to remember: one learning rate
# -----------------------------------------
# At the first step :math:`\hat m / \sqrt{\hat v} = g / |g|`. So Adam's learning rate *is* the length of its step, for every
# weight, however steep its slope. Without the correction both means still feel the zeros that they began with, but unequally:
# :math:`m = 0.1\,g` and :math:`\sqrt v = 0.03\,|g|`. The first step is then 3.2 times too long, under a constant slope the
# twelfth is 6.6 times, and the hundredth still 3.2 times.

for g in (1e-3, 1.0, 1e3):
    assert np.isclose(adam(0.0, g, 0.0, 1, lr=0.01)[0], -0.01, rtol=1e-4)
t = np.arange(1, 101)
too_long = (1 - 0.9**t) / np.sqrt(1 - 0.999**t)
print(f"uncorrected steps: {too_long[0]:.2f} learning rates, {too_long.max():.2f} at t = {t[too_long.argmax()]}, {too_long[-1]:.2f} at 100")
assert np.isclose(too_long[0], np.sqrt(10)) and 6.5 < too_long.max() < 6.6 and 3.2 < too_long[-1] < 3.3

# %%
# *Weight decay* pulls weights towards 0, so that only what is needed stays large. SGD gets it from :math:`\lambda p` added to
# the gradient ("L2"). In Adam that pull is divided as well, and a weight with large slopes hardly feels it. *AdamW* pulls
# beside the step, :math:`p \leftarrow (1 - \eta\lambda)\,p`. Take a weight of 1, a slope that only trembles, ±s, and 100 steps
# with :math:`\eta = 0.01` and :math:`\lambda = 1`. What is left?

for s in (0.1, 10.0):
    left_over = []
    for library, l2, beside in [(md.optim.Adam, 1.0, 0.0), (md.optim.AdamW, 0.0, 1.0)]:
        p, means, q = 1.0, 0.0, md.tensor(np.ones(1), requires_grad=True)
        optimizer = library([q], 0.01, weight_decay=1.0)
        for t in range(1, 101):
            g = s * (-1) ** t
            p, means = adam((1 - 0.01 * beside) * p, g + l2 * p, means, t, 0.01)
            q.grad = md.tensor(np.array([g]))
            optimizer.step()
        assert np.isclose(p, q.item(), rtol=1e-9)
        left_over.append(p)
    print("slopes of ±{:g}: L2 leaves {:.2f}, AdamW {:.2f}".format(s, *left_over))
    assert abs(left_over[1] - 0.99**100) < 0.02 and (left_over[0] < 0.3 if s < 1 else left_over[0] > 0.9)

# %%
# All three together
# ------------------
# Two spirals, one worth 1 and the other −1, and three layers to tell them apart. The whole training by hand is the functions
# from above, forwards and then backwards. After fifty steps by each rule, minidiff has the same weights.

r = np.sqrt(rng.uniform(0.02, 1, (100, 1)))
spiral = r * np.concatenate([np.cos(3 * np.pi * r), np.sin(3 * np.pi * r)], axis=1)
x = np.concatenate([spiral, -spiral]) + 0.02 * rng.standard_normal((200, 2))
target = np.repeat([1.0, -1.0], 100)[:, None]


def fresh():
    md.manual_seed(1)
    model = md.nn.Sequential(md.nn.Linear(2, 32), md.nn.GELU(), md.nn.Linear(32, 32), md.nn.GELU(), md.nn.Linear(32, 1))
    for p in model.parameters():
        p.data = p.data.astype(np.float64)
    return model


def gradients(parameters):
    u, met, g = x, [], []
    for w, b in zip(parameters[::2], parameters[1::2], strict=True):
        h = gelu(u) if met else u
        met.append((u, h, w))  # before the bend, after it, and the weights that it meets
        u = linear(h, w, b)
    gu = 2 * (u - target) / target.size  # of the mean squared error
    for u, h, w in reversed(met):
        gh, gw, gb = linear_backward(h, w, gu)
        gu, g = gelu_backward(u, gh), [gw, gb, *g]
    return g


def fit(model, optimizer, steps=500):
    losses = []
    while len(losses) < steps and (not losses or losses[-1] < 1e6):  # beyond, it is lost
        L = F.mse_loss(model(md.tensor(x)), md.tensor(target))
        L.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(L.item())
    return losses


rules = {
    "SGD": (lambda *step: momentum(*step, mu=0.0), md.optim.SGD, {}),
    "momentum": (momentum, md.optim.SGD, {"momentum": 0.9}),
    "Adam": (adam, md.optim.Adam, {}),
}
for rule, library, options in rules.values():
    model = fresh()
    ours, state = [p.numpy().copy() for p in model.parameters()], [0.0] * 6
    for t in range(1, 51):
        ours, state = zip(*(rule(*each, t, 0.01) for each in zip(ours, gradients(ours), state, strict=True)), strict=True)
    fit(model, library(model.parameters(), 0.01, **options), 50)
    assert all(np.allclose(p, q.numpy(), atol=1e-8) for p, q in zip(ours, model.parameters(), strict=True))

# %%
# And which rule learns it in 500 steps? That is also a question of the learning rate, so each gets seven. Adam learns it at any
# rate over a factor of thirty and more, plain SGD at none. One reason is in the first gradient: a rate for weights whose slopes
# differ by a factor of 58 is too large here or too small there. Adam divides that away, though its rate still matters.

rates, runs, models = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0], {}, {}
for name, (_, library, options) in rules.items():
    for lr in rates:
        models[name, lr] = model = fresh()
        runs[name, lr] = fit(model, library(model.parameters(), lr, **options))
final = {name: np.array([runs[name, lr][-1] for lr in rates]) for name in rules}
for name, L in final.items():
    print(f"{name:9}" + "".join(f" {each:7.4f}" if each < 10 else "    lost" for each in L))
size = [np.sqrt((g**2).mean()) for g in gradients([p.numpy() for p in fresh().parameters()])]
print(f"first slopes: of the last bias {size[-1]:.3f}, of the first weights {size[0]:.4f}, {size[-1] / size[0]:.0f} times less")
assert 50 < size[-1] / size[0] < 66
assert (final["Adam"] < 0.1).sum() >= 4 and (final["momentum"] < 0.1).sum() <= 2 and final["SGD"].min() > 0.2

fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), width_ratios=(3, 3, 2.3))
for name, colour in zip(rules, (COLOURS[1], COLOURS[4], COLOURS[0]), strict=True):
    best = rates[final[name].argmin()]
    axes[0].semilogy(runs[name, best], color=colour, lw=1.2, label=f"{name}, {best:g}")
    axes[1].loglog(rates, np.minimum(final[name], 10), "o-", color=colour, markersize=4)
axes[0].set(xlabel="step", ylabel="loss", title="At its best rate", ylim=(1e-3, 100))
axes[0].legend(loc="upper right", fontsize=8)
axes[1].set(xlabel="learning rate", title="At all rates", ylim=(1e-3, 100))
axes[1].text(0.9, 18, "lost", color=MUTED, ha="right", va="bottom", size=9)
axis = np.linspace(-1.1, 1.1, 150)
plane = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
border = models["Adam", 0.01](md.tensor(plane)).numpy().reshape(150, 150)
axes[2].imshow(border, extent=(-1.1, 1.1, -1.1, 1.1), origin="lower", cmap="RdBu", vmin=-2, vmax=2)
axes[2].scatter(*x.T, s=9, c=target[:, 0], cmap="RdBu", vmin=-1.3, vmax=1.3, edgecolors=INK, linewidths=0.3)
axes[2].set(title="Adam's border", xticks=[], yticks=[])
fig.tight_layout()
# sphinx_gallery_thumbnail_number = 2
plt.show()

# %%
# What would break it
# -------------------
# *No correction.* With a small rate that is only a larger rate, and may even help. At 0.1 it throws the weights far away:


class Uncorrected(md.optim.Adam):
    def step_size(self, t):
        return self.lr, self.eps


calm, thrown = max(runs["Adam", 0.1][:50]), max(fit(model := fresh(), Uncorrected(model.parameters(), 0.1), 50))
print(f"largest loss in 50 steps at rate 0.1: {calm:.1f}; uncorrected {thrown:.0f}")
assert calm < 5 and thrown > 30

# %%
# *Old gradients*: without ``zero_grad`` they pile up. *A shared array*: ``md.tensor`` does not copy, and ``step`` writes in
# place, so the array that a weight was made of moves along; hence ``.copy()`` above. *The same number for all weights at the
# start*: all units of a layer then have the same gradient, and remain one unit for ever. *A wide layer with a start that knows
# nothing of its width*: weights of deviation 1 make :math:`16^{10}` of ten layers of 256.
#
# Exercises
# ---------
# 1. **Easy.** Multiply the loss of the spirals by 1000. Which rates of SGD and of Adam work now? Predict them first.
# 2. **Medium.** Let SGD, momentum and Adam walk down the valley :math:`L = \tfrac12 (p_1^2 + 100\,p_2^2)` from (−4, 0.6). Then
#    turn the valley by 45°. Who minds, and what does that say about what Adam can see?
# 3. **Hard.** Put a GELU behind each of the ten layers, and find the factor over :math:`1/\sqrt D` that keeps the mean of
#    :math:`h^2` at 1. Why is there such a factor for every ReLU network, and for GELU only at one size of h?
#
# Further reading
# ---------------
# * Polyak, *Some methods of speeding up the convergence of iteration methods*, 1964: momentum, as a heavy ball.
# * Glorot, Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010; He, Zhang, Ren, Sun,
#   *Delving deep into rectifiers: surpassing human-level performance on ImageNet classification*, 2015: how large at the start.
# * Kingma, Ba, *Adam: a method for stochastic optimization*, 2015: algorithm 1 is ours; section 3 has the correction.
# * Hendrycks, Gimpel, *Gaussian error linear units*, 2016.
# * Loshchilov, Hutter, *Decoupled weight decay regularization*, 2019: AdamW.
#
# A linear layer between two pictures of 32x32 pixels has a million weights, and must learn each stroke anew at every place
# where it may lie. A picture deserves a layer that knows what a neighbour is: convolution, the next chapter.
