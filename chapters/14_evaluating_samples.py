"""
Evaluating samples
==================
Many samples, and one question: are they as real digits are? Each number that answers it can be had by cheating. So we write the
numbers by hand, plant cheats on purpose, and see which number catches which.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import evaluate
from minidiff.viz.style import COLOURS, FAINT, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
NAME, N = "mnist" if md.data.find_mnist() else "glyphs", 200  # handwriting where it is at hand, digits drawn from fonts where not
rng, whole = np.random.default_rng(0), {split: md.data.load(NAME, split) for split in ("train", "test")}
train, test = (whole[split].subset(rng.permutation(len(whole[split]))[:n]) for split, n in (("train", 6000), ("test", 1000)))
x_train, x_test = (md.data.to_model(part.images, 28) for part in (train, test))
judge, bundled = evaluate.load_judge(), md.train.load_model("mnist")

# %%
# Six makers of pictures
# ----------------------
# Real digits that nobody trained on show what a perfect model would get. The bundled model draws 200 in six steps, with a little
# guidance (chapter 17), and chapter 8's judge looks at all. And four cheats:
# one draws well and never what it was asked for; a **thief** hands out training digits as its own; a **stamp** knows one perfect
# picture for each class; the last one hands out noise.

asked = np.arange(N) % 10
drawn = md.diffusion.sample(bundled.model, bundled.schedule, asked, "ddim", 6, guidance=1.0)[:, :, 2:30, 2:30]
p = judge.probabilities(x_test[N:])
perfect = [N + np.argmax(p[:, k] * (test.labels[N:] == k)) for k in range(10)]  # of each class the digit that the judge likes best
makers = {"real digits": (x_test[:N], test.labels[:N]), "the model": (drawn, asked), "wrong labels": (x_test[:N], (test.labels[:N] + 1) % 10),
          "the thief": (x_train[3000 : 3000 + N], train.labels[3000 : 3000 + N]), "the stamp": (x_test[perfect][asked], asked),
          "noise": (rng.standard_normal((N, 1, 28, 28), np.float32).clip(-1, 1), asked)}  # fmt: skip
known, held_out = judge.features(x_train), judge.features(x_test)  # (6000,128), (1000,128)
features = {name: judge.features(images) for name, (images, _) in makers.items()}

# %%
# Is each one what it should be?
# ------------------------------
# Count how many the judge takes for what was asked for. If 200 of 200 are right, is the model always right? *Wilson's interval*
# keeps all those p for which a share :math:`\hat p` of n would be no surprise, no farther off than z deviations:
#
# .. math:: (\hat p - p)^2 \le z^2\, \frac{p\,(1 - p)}{n}, \qquad z = 1.96 \text{ for } 95\,\%
#
# The textbook's :math:`\hat p` in place of p on the right says ± 0 at 100 %, which is certainty from 200 tries.


def interval(correct, n, z=1.959964):
    p = np.linspace(0, 1, 200_001)
    return p[(correct / n - p) ** 2 <= z**2 * p * (1 - p) / n + 1e-12][[0, -1]]


verdicts = {name: evaluate.judge_samples(images, labels, judge) for name, (images, labels) in makers.items()}
assert all(np.allclose(interval(v.correct, v.n), v.interval, atol=1e-4) for v in verdicts.values())
print("200 right of 200 may be {:.1%} to {:.0%}".format(*interval(200, 200)))
assert verdicts["the stamp"].correct == N and 0.975 < interval(200, 200)[0] < 0.985

# %%
# Are they together as real ones are?
# -----------------------------------
# The *Fréchet distance* takes two clouds for bells and asks how far one must be moved and reshaped to become the other. With one
# feature that is :math:`(\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2`. With many the trace of a root is the sum of the
# roots of the eigenvalues:
#
# .. math:: d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}\,(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2})


def frechet(a, b):
    s1, s2 = np.cov(a.T, dtype=float), np.cov(b.T, dtype=float)
    roots = np.sqrt(np.linalg.eigvals(s1 @ s2).real.clip(0))  # never negative, but for rounding
    return ((a.mean(0, dtype=float) - b.mean(0, dtype=float)) ** 2).sum() + np.trace(s1 + s2) - 2 * roots.sum()


real = known[:N]  # what all are held against
assert np.isclose(frechet(held_out[:N], real), evaluate.frechet_distance(held_out[:N], real), atol=1e-3)
assert abs(frechet(real, real)) < 1e-3

# %%
# The number to remember: half
# ----------------------------
# Two clouds of the *same* digits have no distance of 0: means and covariances of N differ by chance, and both can only add. The
# means differ by :math:`2\,\mathrm{tr}\,\Sigma/N`. For bells the rest is known too (exercise 3); with the eigenvalues λ of Σ,
#
# .. math:: d^2_{\mathrm{floor}} \approx \frac{1}{N} \Big( 2 \sum_i \lambda_i + \frac12 \sum_i \lambda_i + \sum_{ij} \frac{\lambda_i \lambda_j}{\lambda_i + \lambda_j} \Big)
#
# **Twice the samples, half the floor**: a Fréchet distance without its N and its floor says nothing.

sizes, orders = np.array([100, 200, 400, 800]), [np.random.default_rng(k).permutation(6000) for k in range(16)]
floors = np.array([np.mean([frechet(known[order[:n]], known[order[-n:]]) for order in orders]) for n in sizes])
eigen = np.linalg.eigvalsh(np.cov(known.T, dtype=float)).clip(1e-12)
predicted = (2.5 * eigen.sum() + (np.outer(eigen, eigen) / np.add.outer(eigen, eigen)).sum()) / sizes
halving = (floors[-1] / floors[0]) ** (1 / 3)
print(f"floors of training digits, {floors.round(2)} for N = {sizes}; predicted {predicted.round(2)}; "
      f"twice the samples, {halving:.2f} of the floor")  # fmt: skip
assert 0.42 < halving < 0.6 and np.allclose(floors, predicted, rtol=0.4)

distance = {name: frechet(f, real) for name, f in features.items()}
fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.loglog(sizes, floors, "o", color=COLOURS[0], label="training digits from others")
ax.loglog(sizes, predicted, ":", color=MUTED, label="predicted, 1/N")
for name, colour in (("real digits", COLOURS[2]), ("the model", COLOURS[1]), ("the stamp", COLOURS[3])):
    ax.plot(N, distance[name], "D", color=colour, ms=5, label=f"{name}, N = {N}: {distance[name]:.2f}")
ax.set(xlabel="N", ylabel="Fréchet distance", title=f"The floor, on {NAME}",
       xticks=sizes, xticklabels=sizes, yticks=(0.3, 1, 3), yticklabels=("0.3", "1", "3"))  # fmt: skip
ax.minorticks_off()
ax.legend(loc="upper right")
plt.show()

# %%
# Real, and everything real
# -------------------------
# One number for two faults: samples that are no digits, and digits that are never drawn. *Precision* and *recall* tell them apart
# (Kynkäänniemi et al.). Around each point of a cloud lay a ball that reaches to its third neighbour. Precision is the share of
# samples in the balls of real points, recall the share of real points in the balls of samples. In the plane one can see it:


def squares(a, b):  # |a − b|² of all pairs                                      (N,F), (M,F) -> (N,M)
    return ((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T).clip(0)


def among(points, cloud, k=3):
    reach = np.sort(squares(cloud, cloud), axis=1)[:, k]  # place 0 is the point itself
    return (squares(points, cloud) <= reach).any(1)


heaps, rng = md.data.eight_gaussians(), np.random.default_rng(0)
dots, (crowd, heap) = heaps.draw(120, rng)[0], heaps.draw(400, rng)
fakes = (crowd + 0.08 * rng.standard_normal(crowd.shape))[heap < 5][:120]  # five heaps of eight, and those blurred
found = evaluate.precision_recall(dots, fakes)
precision, recall = among(fakes, dots), among(dots, fakes)
assert np.allclose((precision.mean(), recall.mean()), (found.precision, found.recall), atol=0.01)
assert found.recall < 0.75

fig, axes = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
panels = ((axes[0], fakes, dots, precision, "precision: samples among real points"),
          (axes[1], dots, fakes, recall, "recall: real points among samples"))  # fmt: skip
for ax, points, cloud, inside, title in panels:
    for centre, reach in zip(cloud, np.sqrt(np.sort(squares(cloud, cloud), axis=1)[:, 3]), strict=True):
        ax.add_patch(plt.Circle(centre, reach, color=FAINT, lw=0))
    ax.scatter(*points.T, s=9, c=np.where(inside, COLOURS[0], COLOURS[1]), lw=0, zorder=3)
    ax.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
    ax.set_title(f"{title}, {inside.mean():.0%}", size=10, weight="normal", loc="center")
plt.show()

# %%
# The stamp has a simpler sign: two of its class are never apart. *Diversity* is the mean of :math:`|f - f'|^2` over pairs of one
# class, which is :math:`2\,\mathrm{tr}\,\Sigma` of the class, as a part of what training digits have.

own = held_out[test.labels == 3]
by_pairs = squares(own.astype(float), own.astype(float)).sum() / (len(own) * (len(own) - 1))
assert np.isclose(by_pairs, evaluate.diversity(own, np.full(len(own), 3))[3], rtol=1e-4)
usual = evaluate.diversity(known, train.labels)

# %%
# Is it only a copy?
# ------------------
# The thief passes all of this; what it hands out *is* real. Look for the training digit nearest to each sample. Too near is what
# only one in a hundred of other digits is.

pixels, others = x_train.reshape(6000, -1), x_test.reshape(1000, -1)
suspicious = np.quantile(np.sqrt(squares(others, pixels).min(1) / 784), 0.01)
near = {name: squares(images.reshape(N, -1), pixels) for name, (images, _) in makers.items()}  # (200,6000) each
too_near = {name: (np.sqrt(d.min(1) / 784) < suspicious).mean() for name, d in near.items()}
assert np.isclose(too_near["the model"], evaluate.nearest(makers["the model"][0], x_train, x_test).close, atol=0.011)
moved = np.roll(makers["the thief"][0], 1, axis=3)  # the thief again, all digits a pixel to the right
moved_near = {"pixels": evaluate.nearest(moved, x_train, x_test), "features": evaluate.nearest(judge.features(moved), known, held_out)}

fig, axes = plt.subplots(1, 3, figsize=(8, 2.1), layout="constrained")
for ax, (name, images, index) in zip(axes, [(name, makers[name][0], near[name].argmin(1)) for name in ("the model", "the thief")]
                                     + [("the thief, a pixel aside", moved, moved_near["pixels"].index)], strict=True):  # fmt: skip
    ax.imshow(np.concatenate([np.hstack(images[2:7, 0]), np.hstack(x_train[index[2:7], 0])]), cmap="gray", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=(14, 42), yticklabels=("sample", "nearest") if ax is axes[0] else ())
    ax.tick_params(length=0)
    ax.set_title(name, size=10, weight="normal", loc="center")
plt.show()

# %%
# Who catches whom
# ----------------
# All numbers of all makers. *Caught* is who is plainly worse than real digits: an interval wholly below theirs, twice their
# Fréchet distance, 20 points less of precision or recall, 30 % less variety, five times as many too near as there should be.

table = {}
for name, (_, labels) in makers.items():
    spread = evaluate.diversity(features[name], labels)
    table[name] = {
        "class accuracy": verdicts[name].accuracy,
        "Fréchet": distance[name],
        "precision": among(features[name], real).mean(),
        "recall": among(real, features[name]).mean(),
        "diversity": np.mean([spread[k] / usual[k] for k in spread]),
        "too near": too_near[name],
    }
best = table["real digits"]


def plainly_worse(name, row):
    return {
        "class accuracy": verdicts[name].interval[1] < verdicts["real digits"].interval[0],
        "Fréchet": row["Fréchet"] > 2 * best["Fréchet"],
        "precision": row["precision"] < best["precision"] - 0.2,
        "recall": row["recall"] < best["recall"] - 0.2,
        "diversity": row["diversity"] < 0.7 * best["diversity"],
        "too near": row["too near"] > 0.05,
    }


caught = {name: {key for key, worse in plainly_worse(name, row).items() if worse} for name, row in table.items()}
fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
for i, (name, row) in enumerate(table.items()):
    print(f"{name:13}" + "".join(f"   {key} {value:.3f}" for key, value in row.items()))
    for j, (key, value) in enumerate(row.items()):
        ax.add_patch(plt.Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, color=COLOURS[4] if key in caught[name] else FAINT, lw=0, alpha=0.75))
        ax.text(j, i, f"{value:.2f}" if key in ("Fréchet", "diversity") else f"{value:.1%}", ha="center", va="center", size=10, color=INK)
ax.set(xlim=(-0.5, 5.5), ylim=(5.5, -0.5), xticks=range(6), xticklabels=best, yticks=range(6), yticklabels=table)
ax.tick_params(length=0, labeltop=True, labelbottom=False)
ax.spines[:].set_visible(False)
# sphinx_gallery_thumbnail_number = 4
plt.show()
assert caught["real digits"] == set()
assert caught["wrong labels"] == {"class accuracy"}
assert caught["the thief"] == {"too near"}
assert {"recall", "diversity"} <= caught["the stamp"]
assert not {"class accuracy", "too near"} & caught["the stamp"]
assert len(caught["noise"]) >= 4
assert table["the model"]["class accuracy"] > 0.85
assert "too near" not in caught["the model"]
assert distance["the model"] < 0.1 * distance["noise"]

# %%
# Each number is blind to someone: class accuracy to the stamp, Fréchet, precision and recall to a label, and all but the last to the
# thief. So report them together, each beside that of real digits, as ``minidiff evaluate`` does. And the model? Its
# recall and its diversity are below those of real digits: it draws the usual ones. Guidance (chapter 17) buys class accuracy with
# just that. A larger run, held against MNIST and all of its 60,000 training digits, is on record:

record = Path(md.__file__).parents[1] / "chapters" / "results" / "mnist-evaluate.json"
if record.is_file():
    seen = json.loads(record.read_text(encoding="utf-8"))
    for name, row in {"the model": seen, "real digits": seen["controls"]["real"]}.items():
        figures = ("class_accuracy", "frechet", "precision", "recall", "diversity")
        print(f"N = {row['n']}, {name:11}", *(f"{key} {row[key]:.3f}" for key in figures))
    print(f"too near {seen['nearest']['pixels']['close']:.1%}, where {seen['nearest']['pixels']['expected_close']:.0%} would be expected")
    assert seen["class_accuracy"] > 0.95
    assert seen["recall"] < seen["controls"]["real"]["recall"]
    assert seen["nearest"]["pixels"]["close"] < 0.05

# %%
# What would break it
# -------------------
# *A thief who thinks.* Moved by one pixel, the same digits are as far from the training set, pixel by pixel, as new ones. The judge's
# features mind the move less, and tell. *Rubbish*: a point alone has a huge ball. Let a tenth of the samples in the plane be rubbish,
# and its balls cover the heaps that were never drawn. *A judge who helped*: what guided the samples, or chose them (chapter 24),
# must not mark them.

print("the thief, a pixel aside, too near: " + ", ".join(f"in {name} {near.close:.1%}" for name, near in moved_near.items()))
rubbish = np.concatenate([fakes[:108], rng.uniform(-1.6, 1.6, (12, 2))])
lifted = evaluate.precision_recall(dots, rubbish)
print(f"recall in the plane {found.recall:.0%}; with a tenth of rubbish {lifted.recall:.0%}, and precision {lifted.precision:.0%}")
assert moved_near["pixels"].close < 0.05 < 0.12 < moved_near["features"].close and lifted.recall > found.recall + 0.1

# %%
# Exercises
# ---------
# 1. **Easy.** Plant a fifth cheat: real digits, but no 4 among them. Which number catches it at N = 200, and at 500?
# 2. **Medium.** Fit :math:`d^2 = d_\infty^2 + c/N` to the distances of 100, 200 and 400 samples. What do all N have in common?
# 3. **Hard.** Derive the floor. Begin with one feature, where :math:`(\sigma_1 - \sigma_2)^2` adds :math:`\sigma^2/N` in the mean.
#
# Further reading
# ---------------
# * Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, *GANs trained by a two time-scale update rule converge to a local Nash
#   equilibrium*, 2017: the distance.
# * Chong, Forsyth, *Effectively unbiased FID and Inception score and where to find them*, 2020: exercise 2.
# * Kynkäänniemi, Karras, Laine, Lehtinen, Aila, *Improved precision and recall metric for assessing generative models*, 2019.
# * Wilson, *Probable inference, the law of succession, and statistical inference*, 1927: the interval.
#
# A number is worth what it can catch. Plant the cheat first, then believe the number. The next chapter plants them not among the
# samples but in the model: bugs that train, whose loss falls, and that draw something.
