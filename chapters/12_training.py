"""
Training
========
Take a picture, drown it, ask the network for the noise, and compare. That is the whole training of a diffusion
model. We write its loss by hand, check the loop on eight pictures, and train a small network in half a minute.
"""

import os
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import train, viz
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)
STEPS = 2500 if os.environ.get("MINIDIFF_FULL") == "1" else 240

# %%
# So that half a minute is enough, the pictures are small: digits that minidiff draws itself, each 2x2 pixels made
# one, 16x16 in all. And the network is a third of the report's.


def shrink(x):
    """The mean of every 2x2 patch.            # (N,C,2H,2W) -> (N,C,H,W)"""
    N, C, H, W = x.shape
    return x.reshape(N, C, H // 2, 2, W // 2, 2).mean((3, 5))


def small_unet():
    md.manual_seed(0)
    return md.models.UNet(image_size=16, channels=(16, 32, 64), time_dim=32, condition="film")


digits = md.data.load("glyphs")
test = md.data.load("glyphs", "test", limit=256)
test_x0, test_labels = shrink(md.data.to_model(test.images)), test.labels  # (256,1,16,16), (256,)
schedule = md.diffusion.make_schedule("cosine", T=100)
model = small_unet()
print(f"{len(digits):,} digits, {model.num_parameters():,} parameters")

# %%
# The exam
# --------
# The question is a drowned picture :math:`x_t`, its step t and its class. The right answer is the noise in it. Here
# are ten questions, the answers, and what the network says before it has learned anything.

rng = np.random.default_rng(0)
x0, labels = test_x0[:10], test_labels[:10]
t = np.linspace(5, 95, 10).astype(int)
eps = rng.standard_normal(x0.shape, dtype=np.float32)
alpha_bar = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
xt = (np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps).astype(np.float32)
with md.no_grad():
    eps_hat = model(xt, t, labels).numpy()


def table(rows, titles):
    """Named rows of pictures, a title above each column."""
    fig, axes = plt.subplots(len(rows), 1, figsize=(8, 0.86 * len(rows) + 0.2))
    for ax, (name, pictures) in zip(axes, rows.items(), strict=True):
        ax.imshow(viz.grid(pictures, columns=len(pictures)), cmap="gray", vmin=0, vmax=255)
        ax.text(-4, 8, name, ha="right", va="center", color=MUTED)
        ax.axis("off")
    for i, title in enumerate(titles):
        axes[0].text(17 * i + 8, -2, title, ha="center", va="bottom", size=9)
    fig.subplots_adjust(left=0.12, right=0.99, bottom=0.01, top=0.93, hspace=0.06)
    plt.show()


table({"$x_0$": x0, "$x_t$": xt, r"$\epsilon$": eps / 3, r"fresh $\hat\epsilon$": eps_hat}, [f"t = {i}" for i in t])

# %%
# The mark, as in chapter 10, is the mean squared error, over all pixels of all pictures. Every picture draws a step t of its own, and
# loses its class now and then (label −1), so that the network also learns to answer without; chapter 17 needs both.
#
# .. math:: L = \mathbb E_{x_0,\,t,\,\epsilon} \left\| \epsilon - \hat\epsilon(x_t, t, y) \right\|^2,
#           \qquad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon


def loss_by_hand(model, schedule, x0, labels, rng, drop=0.1):
    t = rng.integers(1, schedule.T + 1, len(x0))  # 1 … T
    eps = rng.standard_normal(x0.shape, dtype=np.float32)
    alpha_bar = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
    xt = (np.sqrt(alpha_bar) * x0 + np.sqrt(1 - alpha_bar) * eps).astype(np.float32)
    y = np.where(rng.random(len(labels)) < drop, -1, labels)
    return ((eps - model(xt, t, y).numpy()) ** 2).mean()


by_hand = loss_by_hand(model, schedule, test_x0[:64], test_labels[:64], np.random.default_rng(1))
L = md.diffusion.loss(model, schedule, test_x0[:64], test_labels[:64], np.random.default_rng(1))
print(f"fresh network: {by_hand:.4f} by hand, {L.item():.4f} by md.diffusion.loss")
assert np.isclose(by_hand, L.item(), rtol=1e-4)

# %%
# What is a good mark? Whoever answers 0 everywhere gets the variance of the noise, which is 1. A fresh network is
# no better. That is the mark to start from.

assert 0.9 < L.item() < 1.5

# %%
# One step
# --------
# Backward gives the gradient of L for every weight, and AdamW moves each weight a little against it. A rare, very
# large gradient would undo much, so the gradient is clipped to length 1.


def train_step(model, optimizer, x0, labels, rng, drop=0.1):
    L = md.diffusion.loss(model, schedule, x0, labels, rng, drop)
    L.backward()
    md.optim.clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return L.item()


# %%
# Before a long run, a short exam that everyone must pass: **eight pictures, always the same, with always the same
# noise**. There is nothing to understand, only to learn by heart. A loop that cannot do that has a bug.

model = small_unet()
optimizer = md.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
heart = [train_step(model, optimizer, x0[:8], labels[:8], np.random.default_rng(2), drop=0.0) for _ in range(100)]
print(f"eight pictures by heart: {heart[0]:.3f} -> {heart[-1]:.4f}")
assert heart[-1] < 0.1 * heart[0]

# %%
# Many steps
# ----------
# Now the real thing: new pictures in each step, new t, new noise. The learning rate climbs for 20 steps and then
# falls along half a cosine to 0. Every 40 steps we take the exam with 256 pictures that are never trained on, and
# with the same t and noise each time, so that two results differ by what was learned and by nothing else.


def held_out(model):
    with md.no_grad():
        rng = np.random.default_rng(3)
        return md.diffusion.loss(model, schedule, test_x0, test_labels, rng, drop=0.0).item()


model = small_unet()
optimizer = md.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
lr_schedule = md.optim.CosineLR(optimizer, STEPS, warmup_steps=20)
rng = np.random.default_rng(0)
losses, exams = [], [(0, held_out(model))]
with md.data.DataLoader(digits, 32, seed=0) as loader:
    for step in range(1, STEPS + 1):
        x0, labels = next(loader)
        losses.append(train_step(model, optimizer, shrink(x0), labels, rng))
        lr_schedule.step()
        if step % 40 == 0 or step == STEPS:
            exams.append((step, held_out(model)))
            print(f"step {step:5}  training loss {np.mean(losses[-40:]):.4f}  held-out loss {exams[-1][1]:.4f}")

# %%
# The number to remember: from 1 to 0.1
# -------------------------------------
# A fresh network scores 1. A few hundred steps bring that down by a factor of ten, and ten times as many (run with
# ``MINIDIFF_FULL=1``) do not even halve it again: 0.054. The held-out loss is as good as the training loss, for each
# picture comes with another t and other noise each time, and that cannot be learned by heart.

first, last = exams[0][1], exams[-1][1]
print(f"held-out loss: {first:.3f} at the start, {last:.3f} after {STEPS} steps of 32 pictures")
assert 0.9 < first < 1.5 and 0.03 < last < 0.14
assert abs(np.mean(losses[-60:]) - last) < 0.03

# %%
# Which steps are hard? Here is the loss for each t alone.

t_all = np.arange(2, 101, 7)
by_t = []
for t in t_all:
    rng = np.random.default_rng(4)
    eps = rng.standard_normal(test_x0[:64].shape, dtype=np.float32)
    xt = md.diffusion.q_sample(schedule, test_x0[:64], int(t), eps)
    with md.no_grad():
        by_t.append(((eps - model(xt, int(t), test_labels[:64]).numpy()) ** 2).mean())

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5), width_ratios=(3, 2))
left.semilogy(np.arange(1, STEPS + 1), losses, color=COLOURS[0], alpha=0.35, lw=0.9, label="training, each step")
left.semilogy(*zip(*exams, strict=True), "o-", color=COLOURS[1], ms=4, label="held out")
left.set(xlabel="step", title="Loss")
left.legend()
right.semilogy(t_all, by_t, "o-", color=COLOURS[2], ms=4)
right.set(xlabel="t", title="Held-out loss for each t")
for ax in (left, right):
    ax.grid(True, which="both")
fig.tight_layout()
plt.show()

print(f"loss at t = {t_all[0]}: {by_t[0]:.3f}; at t = {t_all[-1]}: {by_t[-1]:.4f}")
assert by_t[0] > 5 * by_t[-1]

# %%
# At small t there is next to no noise, and one cannot name what one cannot see. At large t there is next to nothing
# else, and naming it is easy. The mean over all t is therefore mostly about *how many steps a schedule spends at
# small noise*: **losses compare only under the same schedule**. The report's 0.03 and a public run's 0.055 under
# another schedule say nothing about who draws better.
#
# What does it believe?
# ---------------------
# An answer :math:`\hat\epsilon` is also a belief about the picture. Solve the shortcut of chapter 9 for x0:
#
# .. math:: \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\hat\epsilon}{\sqrt{\bar\alpha_t}}

x0, labels = test_x0[10:20], test_labels[10:20]
t = np.linspace(5, 95, 10).astype(int)
eps = np.random.default_rng(5).standard_normal(x0.shape, dtype=np.float32)
xt = md.diffusion.q_sample(schedule, x0, t, eps)
with md.no_grad():
    eps_hat = model(xt, t, labels).numpy()
alpha_bar = schedule.alpha_bar[t].reshape(-1, 1, 1, 1).astype(np.float32)
x0_hat = (xt - np.sqrt(1 - alpha_bar) * eps_hat) / np.sqrt(alpha_bar)
assert np.allclose(x0_hat, md.diffusion.predict_x0(schedule, xt, t, eps_hat), atol=1e-4)

table({"$x_0$": x0, "$x_t$": xt, r"belief $\hat x_0$": x0_hat}, [f"t = {i}" for i in t])

# %%
# At small t it sees through the noise. Near t = T it cannot know the digit, and what it believes is a mixture.
# One question is not enough to draw a picture from noise; the next chapter asks a hundred.
#
# The library's loop
# ------------------
# ``train.Trainer`` does what our loop does, and around it what a long run needs: a progress bar, sample sheets,
# checkpoints, and a resume that goes on bit for bit. Three of its steps and three of ours, from the same seed, end
# in the same weights:

config = train.Config(data="glyphs", limit=64, model={"channels": [8, 16]}, steps=3, batch=8, lr=1e-3, clip=1.0,
                      lr_schedule="constant", seed=0)  # fmt: skip
with TemporaryDirectory() as folder:
    trainer = train.Trainer(config, folder, progress=False)
    for _ in range(3):
        trainer.update(*next(trainer.loader))
    trainer.loader.close()

md.manual_seed(0)
ours = md.models.UNet(channels=(8, 16))
optimizer = md.optim.AdamW(ours.parameters(), lr=1e-3, weight_decay=0.0)
with md.data.DataLoader(md.data.load("glyphs", limit=64), 8, seed=0) as loader:
    for step in range(3):  # the library's t and noise are a function of the seed and the step (Philox, chapter 7)
        batch = next(loader)
        train_step(ours, optimizer, *batch, md.philox.Rng(seed=0, step=step))
for (name, p), q in zip(ours.named_parameters(), trainer.model.parameters(), strict=True):
    assert np.allclose(p.numpy(), q.numpy(), atol=1e-6), name

# %%
# What would break it
# -------------------
# *One t for the whole batch*: still right on average, but the loss jumps between 1 and 0.01 from step to step, and
# the weights with it. *Labels dropped for the whole batch at once*: the same mistake again. *Exams with new noise each
# time*: the result trembles more than it improves. *Gradients that are not cleared* add up, and each step repeats
# all earlier ones:

L = md.diffusion.loss(ours, schedule, *batch, np.random.default_rng(0))
L.backward(retain_graph=True)
once = ours.out.bias.grad.item()
L.backward()
assert np.isclose(ours.out.bias.grad.item(), 2 * once)

# %%
# Exercises
# ---------
# 1. **Easy.** Train with learning rates of 0.0004 and 0.04. Which exam result tells you early that something is wrong?
# 2. **Medium.** The best answer that looks at one pixel at a time is a straight line,
#    :math:`\hat\epsilon = a_t x_t + b_t`. Fit it for each t on the training digits. What is its mean loss? From which
#    step on is our network better, and what does that say about the first hundred steps?
# 3. **Hard.** Divide each picture's error by the value of ``by_t`` at its t, so that all t count alike. Does the network
#    get better at large t, and what happens at small? (Chapter 20 has other weights.)
#
# Further reading
# ---------------
# * Vincent, *A connection between score matching and denoising autoencoders*, 2011: why naming the noise teaches the
#   shape of the data.
# * Ho, Jain, Abbeel, *Denoising diffusion probabilistic models*, 2020: algorithm 1 is our loop.
# * Loshchilov, Hutter, *Decoupled weight decay regularization*, 2019: AdamW.
# * Hang, Gu, Li, Bao, Chen, Hu, Geng, Guo, *Efficient diffusion training via min-SNR weighting strategy*, 2023: how much
#   each t should count.
#
# The network now names noise. The next chapter turns that into digits.
