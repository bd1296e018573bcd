"""
Many machines
=============
A batch can be shared out: each machine takes some of the pictures, works out its gradient, and all take the mean. We see
why that is the same step as before, pass the gradients round a ring so that nobody has to send much, and estimate how many
machines are worth having.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff.train.distributed import Exchange, Ranks
from minidiff.viz.style import COLOURS, FAINT, INK, MUTED, STYLE

plt.rcParams.update(STYLE)

# %%
# The mean of equal parts
# -----------------------
# The loss of a batch is a mean over its pictures, so its gradient is a mean too, and a mean of B numbers is the mean of the
# means of R equal parts:
#
# .. math:: g = \frac1B \sum_{i=1}^{B} \nabla L_i
#             = \frac1R \sum_{r=1}^{R} \underbrace{\frac{R}{B} \sum_{i \in \text{part } r} \nabla L_i}_{g_r}
#
# Let R = 4 processes, called *ranks*, each have the network, and a quarter of a batch of 16.

R, B = 4, 16
digits = md.data.load("glyphs", "train", limit=B)
x0, labels = md.data.to_model(digits.images), digits.labels
schedule = md.diffusion.make_schedule("cosine", T=100)
md.manual_seed(0)
model = md.models.UNet(channels=(16, 32), target="v", condition="film")
parameters = list(model.parameters())


def gradients(rows, rng):
    """∇L of these pictures of the batch: the mean over them.            # a list, one for each parameter"""
    md.diffusion.loss(model, schedule, x0[rows], labels[rows], rng).backward()
    found = [p.grad.numpy().copy() for p in parameters]
    for p in parameters:
        p.grad = None
    return found


def difference(a, b):
    return max(abs(u - v).max() for u, v in zip(a, b, strict=True)) / max(abs(v).max() for v in b)


whole = gradients(slice(0, B), md.philox.Rng(seed=0))
parts = [slice(r * B // R, (r + 1) * B // R) for r in range(R)]
naive = [gradients(part, md.philox.Rng(seed=0)) for part in parts]
print(f"each rank with the same seed: the mean is off by {difference([np.mean(g, 0) for g in zip(*naive, strict=True)], whole):.0%}")
assert difference([np.mean(g, 0) for g in zip(*naive, strict=True)], whole) > 0.02

# %%
# Off? The pictures were right, the *noise* was not: all four ranks began the same random numbers, and so four pictures got
# the same noise. (That is not just another batch. It is a worse one: 4 noises instead of 16.) minidiff's numbers belong to
# a row of a step, whoever draws them (Philox, chapter 7), so a rank says at which row it begins:

ours = [gradients(part, md.philox.Rng(seed=0, first_row=part.start)) for part in parts]
mean = [np.mean(g, 0) for g in zip(*ours, strict=True)]
print(f"each rank with the noise of its rows: off by {difference(mean, whole):.0e}, the order of a sum")
assert difference(mean, whole) < 1e-5

# %%
# A ring
# ------
# Now the mean has to be taken by machines that can only send each other arrays. If all send theirs to one, that one receives
# R times as much as the others send, and everybody waits for it. Put them in a ring instead and cut each array into R pieces.
#
# *Round one.* In each turn rank r sends one piece to its right neighbour, which adds it to its own. After R − 1 turns every
# rank has one piece that has been all the way round: its sum is done. *Round two.* The finished pieces go round once more,
# R − 1 turns, to be copied. (The picture: pieces of four ranks; numbers say how many ranks' gradients are in a sum.)


def ring(arrays):
    """The sum of all arrays on every rank, by sending pieces to the right.            # R arrays (n,) -> the same, and bytes sent"""
    R = len(arrays)
    pieces = [np.array_split(a.copy(), R) for a in arrays]                 # pieces[r][k] lies with rank r
    sent, history = 0, [[[1] * R for _ in range(R)]]
    for turn in range(2 * (R - 1)):
        adding = turn < R - 1
        k = [(r - turn) % R if adding else (r + 1 - (turn - R + 1)) % R for r in range(R)]
        outgoing = [pieces[r][k[r]].copy() for r in range(R)]              # all send at once
        counts = [row.copy() for row in history[-1]]
        for r in range(R):
            right = (r + 1) % R
            pieces[right][k[r]][...] = pieces[right][k[r]] + outgoing[r] if adding else outgoing[r]
            counts[right][k[r]] = history[-1][r][k[r]] + (1 if adding else 0)
        history.append(counts)
        sent += outgoing[0].nbytes
    return [np.concatenate(p) for p in pieces], sent, history


flat = [np.concatenate([g.ravel() for g in grads]) for grads in ours]
sums, sent, history = ring(flat)
assert all(np.allclose(s / R, np.concatenate([g.ravel() for g in mean]), atol=1e-6) for s in sums)
print(f"gradients of {flat[0].nbytes / 1e6:.2f} MB; each rank sent {sent / 1e6:.2f} MB = {sent / flat[0].nbytes:.2f} times as much")

fig, axes = plt.subplots(1, 7, figsize=(8, 1.9))
for turn, (ax, counts) in enumerate(zip(axes, history, strict=True)):
    shade = np.array(counts)
    ax.imshow(shade, cmap="Blues", vmin=0, vmax=5)
    for r in range(R):
        for k in range(R):
            ax.text(k, r, str(shade[r, k]), ha="center", va="center", size=9, color="white" if shade[r, k] == R else INK)
    ax.set(xticks=[], yticks=range(R) if turn == 0 else [], yticklabels=[f"rank {r}" for r in range(R)] if turn == 0 else [])
    ax.tick_params(length=0)
    ax.set_title("start" if turn == 0 else f"turn {turn}", size=9.5)
axes[2].set_xlabel("add on the way round", size=9, color=MUTED)
axes[5].set_xlabel("copy on the way round", size=9, color=MUTED)
fig.tight_layout()
plt.show()

# %%
# The library leaves the ring to MPI, which picks it where it is best, or to NVIDIA's NCCL. What is ours is one buffer for
# all gradients, so that there is one sum a step and not one for each of many small arrays. Here is its line, with a
# stand-in for the other ranks that knows their sums already:


class TheOthersAreHere(Ranks):
    size = R

    def sum(self, flat):
        flat[...] = sums[0]


for p, g in zip(parameters, ours[0], strict=True):
    p.grad = md.tensor(g)
Exchange(parameters, TheOthersAreHere()).mean()
assert difference([p.grad.numpy() for p in parameters], mean) < 1e-6

# %%
# ``mpiexec -n 4 minidiff train --preset mnist`` does all this. The ranks share the batch, the first one writes the files.
#
# The number to remember: twice the gradient
# ------------------------------------------
# Each of the 2 (R − 1) turns sends an R-th of the buffer, so a rank sends
#
# .. math:: \frac{2\,(R-1)}{R} \cdot 4P \text{ bytes for } P \text{ parameters}
#
# which is less than twice the gradient, however many ranks there are. For the report's network:

P = md.models.UNet().num_parameters()
traffic = {R: 2 * (R - 1) / R * 4 * P for R in (2, 4, 8, 64)}
print("MB a step that a rank sends: " + ", ".join(f"{v / 1e6:.2f} for {R} ranks" for R, v in traffic.items()))
assert traffic[64] < 2 * 4 * P < 7.7e6 and np.isclose(sent / flat[0].nbytes, 2 * 3 / 4, rtol=1e-3)

# %%
# How many are worth having?
# --------------------------
# A step takes the time of its own pictures and that of the ring: every turn costs a latency ℓ, and every byte 1/b.
#
# .. math:: \text{time}(R) = \frac{\text{time}(1)}{R} + 2\,(R-1)\,\ell + \frac{2\,(R-1)}{R}\,\frac{4P}{b}
#
# for a batch that is shared out. On paper, then, with an H100 taking 2 ms for a step on 512 pictures (an estimate; nothing
# here has run on one), three kinds of wire, and latencies and bandwidths of the usual size:

WIRES = {"GPUs in one machine": (5e-6, 150e9), "machines, 400 Gb/s InfiniBand": (8e-6, 40e9), "machines, 10 Gb/s Ethernet": (50e-6, 1.1e9)}
counts = np.array([1, 2, 4, 8, 16, 32, 64])


def speedup(R, latency, bandwidth, alone=2e-3, P=P):
    return alone / (alone / R + 2 * (R - 1) * latency + 2 * (R - 1) / R * 4 * P / bandwidth)


fig, ax = plt.subplots(figsize=(7, 3.6))
ax.loglog(counts, counts, "--", color=FAINT, base=2)
ax.text(20, 27, "as fast as ranks are many", size=9, color=MUTED, ha="right")
for colour, (name, wire) in zip(COLOURS, WIRES.items(), strict=False):
    ax.loglog(counts, [speedup(R, *wire) for R in counts], "o-", color=colour, label=name, base=2)
ax.axhline(1, color=FAINT, lw=1)
ax.set(xlabel="ranks", xticks=counts, xticklabels=counts, yticks=[0.25, 1, 4, 16, 64], yticklabels=["¼", 1, 4, 16, 64], ylim=(0.03, 90),
       title="How many times faster, on paper")
ax.minorticks_off()
ax.legend(loc="lower left", fontsize=9)
fig.tight_layout()
plt.show()
best = {name: int(counts[np.argmax([speedup(R, *wire) for R in counts])]) for name, wire in WIRES.items()}
print("fastest with: " + ", ".join(f"{n} ({name})" for name, n in best.items()))
assert speedup(8, *WIRES["GPUs in one machine"]) > 3 and speedup(2, *WIRES["machines, 10 Gb/s Ethernet"]) < 1

# %%
# A small network on a fast card is the hard case: there is hardly any work to share out. Eight cards in one machine pay;
# over an ordinary wire a second machine makes it slower. On two CPU cores, where a step takes a second, the ring takes a
# few thousandths of it and everything pays; but there the cores are shared already.
#
# What pays always is *larger batches*: 512 pictures for each rank instead of 512 in all. Then only the ring is added to the
# step. But a batch 8 times as large is not 8 times as much training, and the learning rate has to be found anew (Goyal et
# al.: times 8, after a warm-up).
#
# What would break it
# -------------------
# *The same noise on all ranks*: seen above; the loss falls, and nobody notices. *Weights that drift apart*: each rank makes
# its own step, and one different bit stays different, and grows. So the ranks compare checksums whenever they save. *One
# that fails*: the others wait for it in the ring, for ever, unless its last act is to end them all. *Gradient clipping before
# the mean*: each part is then cut by its own norm, and the mean is of another length:

norm = [np.sqrt(sum((g**2).sum() for g in grads)) for grads in (*ours, whole)]
print("norms: " + ", ".join(f"{n:.2f}" for n in norm[:-1]) + f" of the parts; {norm[-1]:.2f} of the whole batch")
assert np.mean(norm[:-1]) > norm[-1]

# %%
# Exercises
# ---------
# 1. **Easy.** Show that the norm of the whole is never larger than the mean norm of the parts. When are they equal?
# 2. **Medium.** If the parts are not equally long (17 pictures, 4 ranks), what has each rank to multiply its gradient with?
# 3. **Hard.** Backward finds the gradients of the last layers first. They could be on their way while the others are worked
#    out. Put that into the formula of time(R). From which ratio of work to wire on can it save more than a tenth?
#
# Further reading
# ---------------
# * Patarasuk, Yuan, *Bandwidth optimal all-reduce algorithms for clusters of workstations*, 2009: the ring.
# * Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, 2017: learning rate and warm-up.
# * Sergeev, Del Balso, *Horovod: fast and easy distributed deep learning in TensorFlow*, 2018: the ring for gradients.
# * Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, 2011: why the noise knows its row.
#
# From the first tensor to many machines: that is all there is to making the model. What remains is the report that we have
# followed, and its claims. The last chapter puts each of them beside what was measured.
