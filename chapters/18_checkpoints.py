"""
EMA, checkpoints and exact resume
=================================
A long training ends twice: when it is done, and whenever the power fails. We average the weights so that the last step
does not decide what is drawn, find out what a file must hold so that a run can go on as if nothing had happened, and
write that file so that no crash can spoil it. Then we count the bits in which the interrupted run differs.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import train
from minidiff.viz.style import COLOURS, STYLE

plt.rcParams.update(STYLE)
STEPS = 2500 if os.environ.get("MINIDIFF_FULL") == "1" else 300
digits, test = md.data.load("glyphs"), md.data.load("glyphs", "test", limit=128)
test_x0 = md.data.to_model(test.images)  # (128,1,32,32)
schedule = md.diffusion.make_schedule("cosine", T=100)

# %%
# The average of the weights
# --------------------------
# Each step follows the gradient of a few pictures. It goes down on the whole, and a little sideways by chance: the
# weights tremble around where they ought to be. An *exponential moving average* follows behind and does not tremble.
#
# .. math:: \bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta
#
# How much is gained? If θ were a fixed value and independent noise of variance 1, the average would be a sum of noises
# with weights :math:`(1-d)\,d^k`, and its variance :math:`(1-d)^2 \sum_k d^{2k} = \frac{1-d}{1+d}`:

d = 0.97
variance_left = np.sum(((1 - d) * d ** np.arange(2000)) ** 2)
assert np.isclose(variance_left, (1 - d) / (1 + d)) and variance_left < 0.016

# %%
# A network's steps are not independent, so less is gained, but it costs one line. Here is a training run as one object;
# its learning rate is constant and large on purpose, so that there is something to average.


class Run:
    """A network in training: everything that its next step depends on."""

    def __init__(self):
        md.manual_seed(0)
        self.model = md.models.UNet(channels=(8, 16), time_dim=16, condition="film", patch=2)
        self.optimizer = md.optim.AdamW(self.model.parameters(), lr=8e-3, weight_decay=0.0)
        self.average = {name: p.data.copy() for name, p in self.model.named_parameters()}
        self.loader = md.data.DataLoader(digits, 16, seed=0, prefetch=0)
        self.step = 0

    def train_step(self):
        x0, labels = next(self.loader)
        rng = md.philox.Rng(seed=0, step=self.step)  # t and noise are a function of seed and step: chapter 12
        L = md.diffusion.loss(self.model, schedule, x0, labels, rng)
        L.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for name, p in self.model.named_parameters():
            self.average[name] += np.float32(1 - d) * (p.data - self.average[name])  # the same as d θ̄ + (1 − d) θ
        self.step += 1
        return L.item()

    def exam(self, weights):
        other = md.models.UNet(**self.model.config)
        other.load_state_dict(weights)
        with md.no_grad():
            return md.diffusion.loss(other, schedule, test_x0, test.labels, md.philox.Rng(1), drop=0.0).item()  # one and the same noise


run = Run()
library = md.optim.EMA(run.model, decay=d, warmup=False)
exams = []
for step in range(1, STEPS + 1):
    run.train_step()
    library.update()
    if step % 10 == 0:
        exams.append((step, run.exam(run.model.state_dict()), run.exam(run.average)))
assert all(np.allclose(run.average[name], library.average[name], atol=1e-6) for name in run.average)

at, last, averaged = map(np.array, zip(*exams, strict=True))
late = [curve[len(at) // 2 :] for curve in (last, averaged)]
mean, jitter = [curve.mean() for curve in late], [abs(np.diff(curve)).mean() for curve in late]
print(f"held-out loss, second half: {mean[0]:.4f} for the last weights, {mean[1]:.4f} averaged")
print(f"change between two exams:   {jitter[0]:.4f} for the last weights, {jitter[1]:.4f} averaged")
assert mean[1] < mean[0] and jitter[1] < 0.75 * jitter[0]

fig, ax = plt.subplots(figsize=(8, 3.4))
ax.semilogy(at, last, color=COLOURS[1], label="weights of the last step")
ax.semilogy(at, averaged, color=COLOURS[0], label=f"their average, d = {d}")
ax.set(xlabel="step", title="Held-out loss")
ax.legend()
fig.tight_layout()
plt.show()

# %%
# What the next step depends on
# -----------------------------
# Now stop at step 6 and go on in another process. The next step asks for the weights, Adam's moments, the number of
# the step (which the noise is a function of), the place in the data, and the average. ``leave_out`` forgets one.


def state(run):
    return {"weights": run.model.state_dict(), "moments": run.optimizer.state_dict(), "step": run.step,
            "data": run.loader.state_dict(), "average": {k: v.copy() for k, v in run.average.items()}}  # fmt: skip


def resumed(saved, leave_out=None):
    run = Run()
    run.model.load_state_dict(saved["weights"])
    run.average = run.model.state_dict()  # what one would begin with who has none
    take = {"moments": run.optimizer.load_state_dict, "data": run.loader.load_state_dict,
            "average": lambda average: run.average.update({k: v.copy() for k, v in average.items()}),
            "step": lambda step: setattr(run, "step", step)}  # fmt: skip
    for name in take.keys() - {leave_out}:
        take[name](saved[name])
    return run


def bits(a, b):
    """In how many bits two dictionaries of float32 arrays differ."""
    return sum(int(np.bitwise_count(a[k].view(np.uint32) ^ b[k].view(np.uint32)).sum()) for k in a)


unbroken = Run()
for _ in range(6):
    unbroken.train_step()
saved, first = state(unbroken), {}
seen = [(unbroken.train_step(), state(unbroken)) for _ in range(6)]
for leave_out in (None, "moments", "step", "data", "average"):
    run, differs = resumed(saved, leave_out), {}
    for step, (loss, then) in enumerate(seen, 7):
        far = {"loss": abs(run.train_step() - loss), **{k: bits(state(run)[k], then[k]) for k in ("weights", "average")}}
        differs = {what: step for what, difference in far.items() if difference} | differs
    first[leave_out] = differs
    print(f"left out: {leave_out or 'nothing':<8} {far['weights'] + far['average']:>8,} bits differ in the end; first step: {differs}")

assert first[None] == {} and first["average"] == {"average": 7}
assert first["step"]["loss"] == first["data"]["loss"] == 7  # at once: other noise, other pictures
assert first["moments"]["weights"] == 7 and first["moments"]["loss"] == 8  # the first loss is still right

# %%
# The last line is the dangerous one: who forgets the average sees a perfect loss curve, and draws with the wrong weights.
#
# Leaving out all but the weights can be meant, too. It is no resume but a new run, with steps, noise and rate of its own,
# that begins with what another has learned: ``train.Config(start="mnist", ...)``, or ``minidiff train --start mnist``.
#
# A file that is whole or is not there
# ------------------------------------
# Writing takes time, and the power can fail in the middle. Whoever writes over the old checkpoint then has neither. So:
# write beside it, make sure that it is on the disk, and then give it the name, which ``os.replace`` does in one piece.


def write(path, arrays, fails=False):
    with open(path, "wb") as file:
        np.savez(file, **arrays)
        if fails:
            file.truncate(file.tell() // 2)
            raise OSError("the power fails")
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path, arrays, fails=False):
    write(path.with_suffix(".part"), arrays, fails)
    os.replace(path.with_suffix(".part"), path)


def survives(writer):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.npz"
        writer(path, {"step": np.array(6)})
        with suppress(OSError):
            writer(path, {"step": np.array(7), **saved["weights"]}, fails=True)
        try:
            with np.load(path) as archive:
                return f"step {archive['step']} is there"
        except Exception as error:
            return f"nothing is left ({type(error).__name__})"


print(f"written over:   {survives(write)}\nwritten beside: {survives(write_atomically)}")
assert survives(write).startswith("nothing is left") and survives(write_atomically) == "step 6 is there"

# %%
# The number to remember: 0 bits
# ------------------------------
# ``train.Trainer`` does all of this. We pull the plug in step 8 and start it again; the last checkpoint is the unbroken
# run's to the last byte. (The library's tests do it fifty times, with ``kill -9``, also while a checkpoint is written.)

config = train.Config(data="glyphs", limit=64, model={"channels": [8, 16]}, steps=10, batch=8, ema=0.9, clip=1.0,
                      warmup=2, sheet_every=0, checkpoint_every=3, validate=16)  # fmt: skip
with TemporaryDirectory() as folder:
    whole, broken = Path(folder) / "whole", Path(folder) / "broken"
    train.Trainer(config, whole, progress=False).run()
    trainer = train.Trainer(config, broken, progress=False)
    update = trainer.update
    trainer.update = lambda *batch: update(*batch) if trainer.step < 7 else sys.exit()
    with suppress(SystemExit):
        trainer.run()
    train.Trainer(config, broken, resume=True, progress=False).run()
    a, b = (np.frombuffer((run / "checkpoints/step_00000010.npz").read_bytes(), np.uint8) for run in (whole, broken))
    difference = int(np.bitwise_count(a ^ b).sum())
    print(f"{8 * a.size:,} bits, of which differ: {difference}")
assert difference == 0

# %%
# What would break it
# -------------------
# *A generator that everyone draws from*: one more sample sheet, and all later noise is another. *Seeding again on every
# launch*: the same batches once more. *Another number of threads*: sums in another order, rounded otherwise.
#
# Exercises
# ---------
# 1. **Easy.** What does d = 0.5 gain by the formula, and d = 0.999? Which of them is bad after 300 steps, and why?
# 2. **Medium.** Leave the moments out, but take a tenth of the learning rate for some steps after the stop. Does it help?
# 3. **Hard.** ``os.replace`` survives a killed process without ``fsync``. What can a failing power supply do that a
#    kill cannot, and in which order must file and name reach the disk?
#
# Further reading
# ---------------
# * Polyak, Juditsky, *Acceleration of stochastic approximation by averaging*, 1992: why the average of the steps beats
#   the last one.
# * Karras et al., *Analyzing and improving the training dynamics of diffusion models*, 2024: how long the average
#   should be, found out after training.
#
# A run that cannot be lost may be as long as it needs. Sampling may not: who waits for a picture counts the questions to the
# network. The next chapter asks how few will do.
