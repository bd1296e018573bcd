"""
A judge
=======
A model that draws digits will draw thousands, and somebody has to say which digit each of them shows. We write a classifier by hand,
train a better one, and ask what one asks of a witness: is it right, is it as sure as it is right, and what if it does not know?
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
import minidiff.nn.functional as F
from minidiff import evaluate
from minidiff.viz.style import COLOURS, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
NAME = "mnist" if md.data.find_mnist() else "glyphs"  # handwriting where it is at hand, digits drawn from fonts where not
train, test = (md.data.load(NAME, split, limit=n) for split, n in (("train", 6000), ("test", 2000)))
x_train, x_test = (md.data.to_model(part.images, 28) for part in (train, test))  # (N,1,28,28) in [−1, 1]
print(f"{len(train):,} digits of {NAME} to learn from, {len(test):,} to be tested on")

# %%
# Ten scores
# ----------
# The simplest judge has a picture of weights for each class, multiplies it with the digit pixel by pixel, and adds up: ten
# *scores* z. Probabilities must be positive and sum to 1; chapter 3's *softmax* makes them so. The loss, *cross-entropy*, is how
# much the truth surprises the judge:
#
# .. math:: z = x w^T + b, \qquad p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}, \qquad L = -\ln p_{\mathrm{truth}}
#
# The logarithm undoes the power, :math:`\ln p_k = z_k - \ln \sum_j e^{z_j}`, and the slope of its last term is p again. So the
# gradient is one subtraction, :math:`\partial L/\partial z = p - y`: what it said, less what it should have said, which is a row y
# with a 1 in the place of the truth. The library's gradient is the same, and training is a loop of three lines.


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))  # what all scores have in common cancels, so the largest may be 0
    return e / e.sum(1, keepdims=True)


def slopes(x, labels, w, b):
    gz = (softmax(x @ w.T + b) - np.eye(10, dtype=np.float32)[labels]) / len(x)  # p − y, of a mean over the batch
    return gz.T @ x, gz.sum(0)  # (10,784), (10,)


rng = np.random.default_rng(0)
pixels, w, b = x_train.reshape(len(train), -1), 0.003 * rng.standard_normal((10, 784)).astype(np.float32), np.zeros(10, np.float32)
w_tensor, b_tensor = md.tensor(w, requires_grad=True), md.tensor(b, requires_grad=True)
loss = F.cross_entropy(F.linear(pixels[:64], w_tensor, b_tensor), train.labels[:64])
loss.backward()
assert np.isclose(loss.item(), -np.log(softmax(pixels[:64] @ w.T + b)[np.arange(64), train.labels[:64]]).mean(), atol=1e-5)
gw, gb = slopes(pixels[:64], train.labels[:64], w, b)
assert np.allclose(gw, w_tensor.grad.numpy(), atol=1e-5) and np.allclose(gb, b_tensor.grad.numpy(), atol=1e-5)

for _ in range(1500):
    picked = rng.integers(0, len(train), 64)
    gw, gb = slopes(pixels[picked], train.labels[picked], w, b)
    w, b = w - 0.02 * gw, b - 0.02 * gb

fig, ax = plt.subplots(figsize=(8, 0.9), layout="constrained")
ax.imshow(np.hstack(w.reshape(10, 28, 28)), cmap="RdBu", vmin=-0.15, vmax=0.15)
ax.axis("off")
plt.show()

# %%
# From 0 to 9: blue ink speaks for the digit, red ink against it. The 0 wants an empty middle. To a judge who weighs pixels, a
# digit that is moved by three of them is another vector.
#
# A judge that looks at strokes
# -----------------------------
# Convolutions (chapter 5) find a stroke wherever it is. Two of them halve the picture twice, and the weights look at what these
# have found, the judge's *features*. The judge that comes with the library has more of everything: four convolutions, GroupNorm,
# 60,000 digits of MNIST turned and shifted, eleven minutes (``examples/train_judge.py``). It has never seen a printed digit.


class Small(md.nn.Module):
    def __init__(self):
        self.conv1, self.conv2 = md.nn.Conv2d(1, 16, 3, stride=2, padding=1), md.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.head = md.nn.Linear(32 * 7 * 7, 10)

    def forward(self, x):  # (N,1,28,28) -> (N,10)
        return self.head(F.gelu(self.conv2(F.gelu(self.conv1(md.tensor(x))))).reshape(len(x), -1))


def trained(n, steps):  # scores of the n digits that it has learned from, and of the test's
    md.manual_seed(0)
    model, rng = Small(), np.random.default_rng(0)
    optimizer = md.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        picked = rng.integers(0, n, 64)
        F.cross_entropy(model(x_train[picked]), train.labels[picked]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with md.no_grad():
        return model(x_train[:n]).numpy(), model(x_test).numpy()


truth, judge = test.labels, evaluate.load_judge()
scores = {"ten pictures": x_test.reshape(len(test), -1) @ w.T + b, "two convolutions": trained(6000, 600)[1],
          "the bundled judge": judge.scores(x_test)}  # fmt: skip
fig, axes = plt.subplots(1, 3, figsize=(8, 3.1), layout="constrained")
right = {}
for ax, (name, z) in zip(axes, scores.items(), strict=True):
    table = np.bincount(10 * truth + z.argmax(1), minlength=100).reshape(10, 10)
    assert np.array_equal(table, evaluate.confusion_matrix(truth, z.argmax(1), 10))
    right[name], wrong = table.trace() / table.sum(), table - np.diag(table.diagonal())
    ax.imshow(np.ma.masked_equal(wrong, 0), cmap="Oranges", vmin=-3, vmax=max(16, 1.5 * wrong.max()))
    for i, j in zip(*np.nonzero(wrong), strict=True):
        ax.text(j, i, wrong[i, j], ha="center", va="center", size=6.5, color=INK)
    ax.plot([-0.5, 9.5], [-0.5, 9.5], color=MUTED, lw=0.6, zorder=0)
    ax.set(xticks=range(10), yticks=range(10), xlabel="said", ylabel="shown" if ax is axes[0] else None)
    ax.set_title(f"{name}:\n{wrong.sum()} of {len(test):,} wrong", size=9.5, weight="normal", loc="center", pad=5)
plt.show()
print("right: " + ", ".join(f"{name} {share:.1%}" for name, share in right.items()) + f"; on all of MNIST's test {judge.accuracy:.2%}")
assert 0.80 < right["ten pictures"] < right["two convolutions"] - 0.01
assert right["the bundled judge"] > 0.97
assert judge.accuracy > 0.99

# %%
# Only mistakes are drawn, and they have favourites. No verdict on samples is surer than the judge is right on real digits.
#
# As right as it is sure
# ----------------------
# The largest p is the judge's *confidence*. Of digits on which it is 90 % sure, nine in ten should be right. Let us ask a judge
# in a hurry, who has seen 200 digits, and keep half of the test apart: never judge a fit by what it was fitted to.

fit, check = np.random.default_rng(1).permutation(2000).reshape(2, 1000)
own, z = trained(200, 300)
sure, hit = softmax(z[check]).max(1).mean(), (z[check].argmax(1) == (others := truth[check])).mean()
at_home = (own.argmax(1) == train.labels[:200]).mean()
print(f"the hasty judge is right on {at_home:.0%} of its own digits; on others on {hit:.1%}, and {sure:.1%} sure")
assert at_home == 1 and sure - hit > 0.03

# %%
# It boasts. Once all its own digits are right, the loss can only be made smaller by larger scores, and nothing says when to
# stop. One number undoes it (Guo et al.): divide all scores by a *temperature* τ. The largest remains the largest; how sure it is
# changes. The best τ has the smallest loss on digits that were not trained on. With :math:`u = 1/\tau`, and a mean ⟨·⟩ over digits:
#
# .. math:: L(u) = \langle \ln \sum_k e^{u z_k} - u\, z_{\mathrm{truth}} \rangle, \qquad L'(u) = \langle \sum_k p_k z_k - z_{\mathrm{truth}} \rangle
#
# At the minimum the truth gets, in the mean, just the score that the judge expects. L' rises with u (its own slope is the
# variance of z under p), so it crosses 0 once, and halving an interval finds the place. How far words and deeds are apart is the
# *expected calibration error*: digits go into ten bins by confidence, and each bin counts, by its size, how far the share of those
# that are right lies from the mean confidence.


def temperature(z, labels):
    low, high = 1e-3, 1e3
    for _ in range(60):
        u = np.sqrt(low * high)
        slope = ((softmax(u * z) * z).sum(1) - z[np.arange(len(z)), labels]).mean()
        low, high = (low, u) if slope > 0 else (u, high)
    return 1 / u


def ece(p, labels):
    off, bins = (p.argmax(1) == labels) - p.max(1), np.minimum((10 * p.max(1)).astype(int), 9)
    return sum(abs(off[bins == k].sum()) for k in range(10)) / len(p)


tau = temperature(z[fit], truth[fit])
before, after = softmax(z[check]), softmax(z[check] / tau)
assert np.isclose(tau, evaluate.fit_temperature(z[fit], truth[fit]), rtol=1e-3)
assert np.isclose(ece(after, others), evaluate.calibration(after, others).error)
floor = np.mean([ece(after, (rng.random((1000, 1)) < after.cumsum(1)).argmax(1)) for _ in range(200)])  # truths drawn as it says
best = temperature(scores["the bundled judge"][fit], truth[fit])
print(f"hasty: τ = {tau:.2f}, ECE {ece(before, others):.1%} before, {ece(after, others):.1%} after; "
      f"if it were perfectly honest, {floor:.1%}; bundled: τ = {best:.2f}")  # fmt: skip
assert tau > 1.5 and ece(after, others) < 0.6 * ece(before, others) and 0.005 < floor < 0.04 and 0.4 < best < 1

# %%
# Not 0, even if all it says were true: the few digits of a bin are not right just as often as they should be. A measure has a
# *floor*, and one number does not always get there. The bundled judge is too modest instead, with a τ below 1: it was trained
# with dropout (numbers set to 0 at random), on digits more crooked than those of the test.

fig, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
ax.plot([0.2, 1], [0.2, 1], color=MUTED, lw=0.8, ls=":")
for p, name, colour in ((before, "as trained", COLOURS[1]), (after, f"scores / {tau:.2f}", COLOURS[2])):
    bins = evaluate.calibration(p, others)
    ax.plot(bins.confidence, bins.accuracy, color=colour, lw=1.2, label=f"{name}: ECE {bins.error:.1%}")
    ax.scatter(bins.confidence, bins.accuracy, 10 + bins.count / 4, color=colour, lw=0)
ax.set(xlabel="how sure it is", ylabel="how often right", title="The hasty judge", xlim=(0.2, 1.04), ylim=(0, 1.08))
ax.legend(loc="lower right")
# sphinx_gallery_thumbnail_number = 3
plt.show()

# %%
# The number to remember: 100 %
# -----------------------------
# The judge is right, and knows how sure it may be. Now it is shown what is no digit. There is no eleventh answer, and ten sum to 1.

digits, labels = x_test[:200], truth[:200]
tiles = digits.reshape(200, 4, 7, 4, 7).swapaxes(2, 3).reshape(200, 16, 7, 7)[:, rng.permutation(16)]
shown = {"digits": digits, "noise": rng.standard_normal(digits.shape, np.float32).clip(-1, 1),
         "nothing": np.full_like(digits, -1), "inverted": -digits,
         "in pieces": tiles.reshape(200, 4, 4, 7, 7).swapaxes(2, 3).reshape(200, 1, 28, 28)}  # fmt: skip
p = {name: judge.probabilities(images) for name, images in shown.items()}
called = {name: np.bincount(p[name].argmax(1), minlength=10) / 200 for name in shown}
for name, share in called.items():
    print(f"{name:10} {p[name].max(1).mean():7.1%} sure; most often called {share.argmax()}, {share.max():.0%} of them")
assert p["noise"].max(1).mean() > 0.99
assert called["noise"][8] > 0.95
assert called["nothing"][1] == 1
assert p["inverted"].max(1).mean() > 0.95

# %%
# It is as sure of noise as of digits: an 8, every time. An empty picture is a 1. **Confidence says which of the ten, if it is one
# of the ten. Whether it is one, it does not say**, at any temperature. So a model that draws only noise is right about its 8s, and
# one in ten comes for nothing. But the features know better: noise lies where no digit lies. How far is a picture from the nearest
# training digit? Other digits are the yardstick. (Chapter 14 writes ``nearest`` by hand.)

known, held_out = judge.features(x_train[:2000]), judge.features(x_test[200:700])
far = {name: evaluate.nearest(judge.features(images), known, held_out) for name, images in shown.items()}
usual = np.quantile(far["digits"].held_out, 0.99)
beyond = {name: (near.distance > usual).mean() for name, near in far.items()}
print("farther than 99 % of digits: " + ", ".join(f"{name} {share:.1%}" for name, share in beyond.items()))
assert beyond["digits"] < 0.04 and all(beyond[name] > 0.7 for name in list(shown)[1:])

fig, axes = plt.subplots(2, 5, figsize=(8, 3.4), height_ratios=(1.2, 1), sharey="row", sharex="row", layout="constrained")
for (top, low), (name, images) in zip(axes.T, shown.items(), strict=True):
    top.imshow(images[3, 0], cmap="gray", vmin=-1, vmax=1)
    top.axis("off")
    top.set_title(f'{name}: "{p[name][3].argmax()}",\n{p[name].max(1).mean():.0%} sure', size=9.5, weight="normal", loc="center", pad=4)
    low.hist((far[name].distance / usual).clip(0, 3.9), np.linspace(0, 4, 41), color=COLOURS[0 if name == "digits" else 1])
    low.axvline(1, color=INK, lw=0.8, ls=":")
    low.set(yticks=[], ylim=(0, 70), xticks=range(5))
axes[1, 2].set_xlabel("distance from the nearest training digit, in features; 1: as far as one digit in a hundred")
plt.show()

# %%
# What would break it
# -------------------
# *Somebody who wants to be believed.* Dust along the judge's own gradient changes its verdict (Goodfellow et al.): each pixel by
# 0.2 at most, the way that it minds most. By chance, as much dust does nothing. Guidance by the judge (chapter 17) walks this
# way, so another must mark it. *A temperature from the digits trained on*: all were right, so τ falls as low as one lets it.

image = md.tensor(digits, requires_grad=True)
F.cross_entropy(judge(image), labels).backward()
dust = {"as it minds most": np.sign(image.grad.numpy()), "by chance": rng.choice(np.float32([-1, 1]), digits.shape)}
believed = {name: (judge.classify((digits + 0.2 * d).clip(-1, 1)) == labels).mean() for name, d in dust.items()}
flattering = temperature(own, train.labels[:200])
print("right under dust: " + ", ".join(f"{name} {share:.0%}" for name, share in believed.items()) + f"; τ from its own digits {flattering:.3f}")
assert believed["as it minds most"] < 0.88 and believed["by chance"] > 0.93 and flattering < 0.1

# %%
# Exercises
# ---------
# 1. **Easy.** Put the pixels of all digits in one random order. What does the judge of ten pictures lose, and what the other?
# 2. **Medium.** Give ``Small`` an eleventh class, and noise to learn it from. What does it call the empty picture, the pieces?
# 3. **Hard.** Mix each digit with noise, :math:`x_t = a x_0 + \sqrt{1-a^2}\,\epsilon`, and train a judge on all a. Must τ depend on a?
#
# Further reading
# ---------------
# * Guo, Pleiss, Sun, Weinberger, *On calibration of modern neural networks*, 2017: temperature, and why networks boast.
# * Hendrycks, Gimpel, *A baseline for detecting misclassified and out-of-distribution examples in neural networks*, 2017.
# * Goodfellow, Shlens, Szegedy, *Explaining and harnessing adversarial examples*, 2015: one step along the sign.
#
# A judge looks at one picture at a time. A model that draws the same perfect 3 a thousand times pleases it a thousand times.
# What samples are worth *together* is asked in chapter 14, when there are some. They will be made from noise. What noise does to a
# digit, and how much of it that takes, is the next chapter.
