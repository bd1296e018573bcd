"""
The clinic
==========
A wrong gradient is found by a check. A wrong diffusion model trains, its loss falls, and it draws something. We break one
healthy model in six ways, on purpose, look at the symptoms, and find for each a test that would have told in a second.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff.clinic import CASES, Healthy
from minidiff.diffusion import samplers
from minidiff.evaluate import frechet_distance
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)

# %%
# The patient
# -----------
# So that a training takes seconds, our pictures have two pixels: they are points in the plane, and can be seen all at
# once. There are eight heaps of them, and the heap is the class.

truth = md.data.eight_gaussians()
x_train, y_train = truth.draw(20_000, np.random.default_rng(0))
x_test, y_test = truth.draw(2_000, np.random.default_rng(1))
x_train, x_test = x_train.astype(np.float32), x_test.astype(np.float32)
cosine = md.diffusion.make_schedule("cosine", T=100)
STEPS, BATCH = 800, 128


def train(labels=y_train, network=md.models.MLP, target="v"):
    """Chapter 12's loop, with v for a target (chapter 20).

    What comes back: the network, two averages of its weights (chapter 18), and the loss of the last steps.
    """
    md.manual_seed(0)
    model = network(width=96, target=target)
    ema, cold = md.optim.EMA(model, decay=0.99), md.optim.EMA(model, decay=0.999, warmup=False)
    optimizer = md.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    lr_schedule = md.optim.CosineLR(optimizer, STEPS, warmup_steps=50)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(STEPS):
        picked = rng.integers(0, len(x_train), BATCH)
        loss = md.diffusion.loss(model, cosine, x_train[picked], labels[picked], rng, drop=0.1)
        loss.backward()
        md.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        lr_schedule.step()
        ema.update()
        cold.update()
        losses.append(loss.item())
    return model, ema, cold, np.mean(losses[-200:])


def draw(model, **options):
    """A point for each label of the test set."""
    usual = {"steps": 20, "guidance": 0.0, "clip": model.target == "eps"}  # ε near T says so little of x0 that faults grow
    return md.diffusion.sample(model, cosine, y_test, seed=0, batch_size=2000, **{**usual, **options})


# %%
# Three instruments look at what is drawn. *The loss*, of the last 200 steps of training, which is what one watches. *The
# judge* says which heap a point belongs to: how many points are where they were asked to be? And *the Fréchet distance*
# of chapter 14 asks how far all points together are from real ones, by their means and covariances:
#
# .. math:: d^2 = \|\mu_1-\mu_2\|^2 + \mathrm{tr}\left(\Sigma_1+\Sigma_2-2\,(\Sigma_1\Sigma_2)^{1/2}\right)


def judge(points):
    distance = ((points[:, None] - truth.means) ** 2).sum(2) / (2 * truth.deviations**2) + 2 * np.log(truth.deviations)
    return distance.argmin(1)


def frechet_by_hand(a, b):
    """Chapter 14's: the root of a matrix by its eigenvalues."""
    s1, s2 = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(s1 @ s2).real.clip(0))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2) - 2 * roots.sum()


floor = frechet_distance(x_test, x_train[:2000])
assert np.isclose(floor, frechet_by_hand(x_test.astype(float), x_train[:2000].astype(float)), atol=1e-8)
print(f"Fréchet distance of real points from other real points: {floor:.5f}, the floor; of noise: "
      f"{frechet_distance(np.random.default_rng(2).standard_normal((2000, 2)), x_train[:2000]):.2f}")  # fmt: skip

# %%
# As in chapter 14, the distance says something beside its floor, at equal N, and nothing alone.
#
# Six ways to break it
# --------------------
# Each changes one thing. Three are wrong in training:
#
# * **shuffled labels**: points and labels were put in order separately.
# * **step by place**: the table of sines is read at the point's place in the batch, and not at t (chapter 11).
# * **one for both**: the network answers with one number, and both coordinates get it. In a picture that is an output made
#   at half the size, and enlarged by repeating each pixel.


class ByPlace(md.models.MLP):
    def forward(self, x, t, labels):
        return super().forward(x, np.arange(1, len(x) + 1) % 100 + 1, labels)


class OneForBoth(md.models.MLP):
    def forward(self, x, t, labels):
        return super().forward(x, t, labels).mean(1, keepdims=True) * md.tensor(np.ones((1, 2), np.float32))


healthy, ema, cold, loss = train()
runs = {
    "healthy": (healthy, ema, loss),
    "shuffled labels": train(labels=np.random.default_rng(3).permutation(y_train)),
    "step by place": train(network=ByPlace),
    "one for both": train(network=OneForBoth, target="eps"),
}
seen = {}  # name: (points, loss)
for name, (model, average, *_, its_loss) in runs.items():
    with average.applied():
        seen[name] = draw(model), its_loss

# %%
# And three take the healthy network, and use it wrongly:
#
# * **cold average**: the average of the weights (chapter 18) began anew after a resume, without warm-up. After n steps it is
#   still made of the first weights to a part of 0.999ⁿ.
# * **wrong sign**: guidance, chapter 17's exaggeration of the class, goes :math:`(1-w)\,\hat\epsilon_c + w\,\hat\epsilon_u`.
# * **stops early**: the loop ends before the last step.

with cold.applied():
    seen["cold average"] = draw(healthy), loss

right = samplers.guided_output
samplers.guided_output = lambda model, xt, t, labels, w, *more: right(model, xt, t, labels, -w, *more)
with ema.applied():
    seen["wrong sign"] = draw(healthy, guidance=2.0), loss
samplers.guided_output = right

on_the_way = []
with ema.applied():
    draw(healthy, callback=lambda k, s, xs, x0_hat, indices: on_the_way.append(xs))
seen["stops early"] = on_the_way[-2], loss

# %%
# Here they are. The colour is the class that was asked for.

fig, axes = plt.subplots(2, 4, figsize=(8, 4.6))
pictures = {"real points": x_test, **{name: points for name, (points, _) in seen.items()}}
for ax, (name, points) in zip(axes.flat, pictures.items(), strict=True):
    ax.scatter(*points.T, s=1.5, c=[(*COLOURS, MUTED)[k] for k in y_test], lw=0)
    ax.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), xticks=[], yticks=[], aspect="equal")
    ax.set_title(name, size=10, loc="center", pad=4)
fig.tight_layout()
plt.show()

figures = {}
print(f"{'':16}   loss   right class   Fréchet")
for name, (points, its_loss) in seen.items():
    figures[name] = its_loss, np.mean(judge(points) == y_test), frechet_distance(points, x_train[:2000])
    print("{:16} {:6.3f} {:12.1%} {:10.4f}".format(name, *figures[name]))

# %%
# Read the table by columns. **The loss** cannot see what is wrong in use: the last three rows have the loss of the healthy
# run, to the last digit. **The judge** cannot see grain. **The Fréchet distance** cannot see a class: with shuffled labels
# the points together lie nearly as they should, only not when they are asked for. And one bug escapes all three.

names = np.array(list(seen))
its_loss, accuracy, distance = np.array([figures[name] for name in names]).T
assert accuracy[0] > 0.99 and distance[0] < 4 * floor
misses = {"the loss": its_loss < 1.1 * its_loss[0], "the judge": accuracy > 0.95, "Fréchet": distance < 6 * floor}
for instrument, missed in misses.items():
    print(f"{instrument} misses: {', '.join(names[1:][missed[1:]])}")
    assert 1 <= missed[1:].sum() <= 3
assert names[np.all(list(misses.values()), axis=0)].tolist() == ["healthy", "stops early"]

# %%
# The number to remember: 0.75
# ----------------------------
# Another bug of the six has a loss that says its name. Let a 2x2 patch of noise be :math:`\epsilon_1 \dots \epsilon_4`, and
# let one number c be the answer for all four. With the mean m of the four,
#
# .. math:: \tfrac14\sum_i(\epsilon_i-c)^2 = \tfrac14\sum_i(\epsilon_i-m)^2 + (m-c)^2.
#
# So c = m is the best there is, even for a network that knows everything. And m has a variance of 1/4: that is all it
# explains. **A loss of the noise that stops at 0.75 has an output at half the size.** In our plane there were two
# coordinates, and the floor was 1/2.

eps = np.random.default_rng(4).standard_normal((64, 16, 2, 16, 2))  # 64 pictures of 32x32, in patches
left = ((eps - eps.mean((2, 4), keepdims=True)) ** 2).mean()
print(f"the best answer that is the same in each 2x2 patch leaves {left:.3f} of the noise; in the plane: {figures['one for both'][0]:.3f}")
assert 0.74 < left < 0.76 and 0.48 < figures["one for both"][0] < 0.65

# %%
# A test for each, in a second
# ----------------------------
# Nobody has to train a network to find these. Most bugs break a *law* that holds for every network, a fresh one too: who
# permutes a batch permutes the answers; a network that is sure of its picture gets that very picture; guidance leads
# towards the class. The permutation, by hand:

md.manual_seed(0)
x, t, labels = x_test[:5], np.array([3, 20, 40, 60, 99]), y_test[:5]
order = np.array([4, 2, 0, 1, 3])
for network in (md.models.MLP, ByPlace):
    model = network()
    with md.no_grad():
        apart = abs(model(x, t, labels).numpy()[order] - model(x[order], t[order], labels[order]).numpy()).max()
    print(f"{network.__name__}: permuted question and permuted answer differ by {apart:.0e}")
    assert (apart < 1e-5) == (network is md.models.MLP)

# %%
# ``minidiff.clinic`` has more cases, on pictures, each a class that overrides one method of a healthy run, and a check for
# each. The check must pass the healthy run and complain about the broken one. Here are those that take no training.

for name, case in CASES.items():
    if case.find is not None and case.find.__name__ != "hears_the_class":
        fine, broken = case.find(Healthy()), case.find(case())
        print(f"{name:16} {case.wrong}\n{'':16} {case.find.__name__}: {broken.seen}")
        assert fine.healthy and not broken.healthy

# %%
# What did they cost, trained on handwritten digits? Here is the record that ``python examples/clinic.py`` leaves, and how
# many of them the judge notices at all. (``eps`` has no bug: asked for the noise, so short a run draws nothing yet. Its loss
# is lower than the healthy one's, for it answers another question.)

record = Path(md.__file__).parents[1] / "chapters" / "results" / "clinic.json"
if record.is_file():
    measured = json.loads(record.read_text(encoding="utf-8"))
    usual = measured["frechet"]
    print(f"{measured['steps']:,} steps each; Fréchet distance of real digits {usual['floor']:.1f}, of noise {usual['noise']:.0f}")
    for name, row in measured["cases"].items():
        print(f"{name:16} loss {row['held_out_loss']:.3f}   class {row['class_accuracy']:6.1%}   Fréchet {row['frechet']:5.1f}   {row['wrong']}")
    ill = {name: row for name, row in measured["cases"].items() if row["found_by"]}
    noticed = [name for name, row in ill.items() if row["interval_95"][1] < measured["cases"]["healthy"]["interval_95"][0]]
    print(f"the judge notices {len(noticed)} of {len(ill)}, the checks {sum(not row['check']['broken']['passed'] for row in ill.values())}")
    assert all(row["check"]["healthy"]["passed"] and not row["check"]["broken"]["passed"] for row in ill.values())

# %%
# About half of the bugs cost nothing that one could see in a run so short. A network that is not told the step even draws
# *better* digits here: how noisy a picture is can be seen, and it has one thing less to learn. **That a run looks healthy
# does not say that it is.** What such a bug costs comes later: with more steps, with fewer stops, on other data.

# %%
# What would break it
# -------------------
# *Instruments without controls.* A judge finds a digit in anything, so one in ten is right by chance; a Fréchet distance of
# few samples is large for real digits too. Here is the floor of our plane for fewer and fewer points:

floors = {}
for n in (1000, 100, 10):
    pairs = [truth.draw(2 * n, np.random.default_rng(k))[0].reshape(2, n, 2) for k in range(20)]
    floors[n] = np.mean([frechet_distance(one, other) for one, other in pairs])
print("floor:", ", ".join(f"{value:.4f} with {n} points" for n, value in floors.items()))
assert floors[10] > 30 * floors[1000]

# %%
# *A test that the healthy run does not pass* is switched off by the next person who sees it; *a test that the broken run
# passes* was never one. So each check is tried on both. *Two bugs at once* hide each other: a network that does not hear
# its class loses nothing by shuffled labels.
#
# Exercises
# ---------
# 1. **Easy.** Stop two steps early, and ten. From which step on does the judge notice?
# 2. **Medium.** Break a seventh thing: drop the labels of a whole batch at once, or divide t by T before the sines. Which
#    instrument sees it, and which law does it break? Write the check.
# 3. **Hard.** Let the output be constant on patches of k x k. What is the floor? Then let the last layer be a *bilinear*
#    enlargement from half the size: which part of the noise can it explain? Solve it in Fourier space.
#
# Further reading
# ---------------
# * Dowson, Landau, *The Fréchet distance between multivariate normal distributions*, 1982.
# * Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, *GANs trained by a two time-scale update rule converge to a local Nash
#   equilibrium*, 2017: the distance in a network's features.
# * Chong, Forsyth, *Effectively unbiased FID and Inception score and where to find them*, 2020: why N matters.
# * Lin, Liu, Li, Yang, *Common diffusion noise schedules and sample steps are flawed*, 2024: a schedule that does not end in
#   noise, in a model that millions used.
#
# We can tell a sound model from one that only looks like it. One bug of the six was a class that nobody listened to. Where a
# class must be told so that it is heard is the next chapter.
