"""
Using a trained model
=====================
A network that can draw digits is good for more than new digits. Start the walk from another place, hold a part of it
still, or walk it upwards: the same network redraws, repairs, completes and blends pictures that are there already.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff import evaluate, train, viz
from minidiff.viz.style import COLOURS, FAINT, MUTED, STYLE

plt.rcParams.update(STYLE)
loaded, judge = train.load_model("mnist"), evaluate.load_judge()
model, schedule = loaded.model.eval(), loaded.schedule
a, sigma, T = schedule.signal.astype(np.float32), schedule.noise.astype(np.float32), schedule.T  # x_t = a x0 + σ ε

# %%
# Three lines, and a walk
# -----------------------
# The model that comes with the library was trained on handwritten digits. We give it *printed* ones, which it has never
# seen. It answers v (chapter 20); two lines make a guess of picture and noise of it, and DDIM's line (chapter 13) puts them
# together again, less noisy. All of this chapter is where the walk begins, and what happens to it on the way.

glyphs = md.data.load("glyphs", "test", limit=10)
x0, digit = md.data.to_model(glyphs.images), glyphs.labels  # (10,1,32,32), 0 … 9
none = np.full(10, -1)  # no class: the model has to see for itself


def guess(x, t, labels):
    with md.no_grad():
        v = model(x, np.full(len(x), t), labels).numpy()
    x0_hat = np.clip(a[t] * x - sigma[t] * v, -1, 1)
    return x0_hat, (x - a[t] * x0_hat) / sigma[t]


def step(x, t, s, labels):
    x0_hat, eps_hat = guess(x, t, labels)
    return a[s] * x0_hat + sigma[s] * eps_hat


def walk(x, times, labels):
    for t, s in zip(times, times[1:], strict=False):
        x = step(x, t, s, labels)
    return x


def draw(k, n=10):
    """The noise of the first n pictures when they need some for the k-th time, as in chapter 13."""
    return md.philox.normal(0, range(n), 32 * 32, step=k, stream=md.diffusion.samplers.STREAM).reshape(n, 1, 32, 32)


def rms(x, y):
    return np.sqrt(((x - y) ** 2).mean())


twenty = md.diffusion.time_steps(T, 20)  # 100, 95, … 0
new = walk(draw(0), twenty, digit)
assert np.allclose(new[:3], md.diffusion.sample(model, schedule, digit[:3], sampler="ddim", steps=20), atol=2e-3)

# %%
# From the middle of the road
# ---------------------------
# Put noise over a picture, as much as step τ has, and walk down from there (SDEdit). Noise drowns the details first; what
# is drowned the model makes up anew, as the label says, and what still shows it keeps.
#
# .. math:: x_\tau = a_\tau\, x_0 + \sigma_\tau\, \epsilon, \qquad \tau = \text{strength} \cdot T
#
# How far back must we go? Each digit is asked to become another: 0 to become 5, 1 to become 6, and so on.

other = (digit + 5) % 10
strengths = (0.5, 0.6, 0.7, 0.8, 0.9)
drowned, redrawn = {}, {}
for strength in strengths:
    tau = round(strength * T)
    drowned[strength] = a[tau] * x0 + sigma[tau] * draw(0)
    redrawn[strength] = walk(drowned[strength], [t for t in twenty if t <= tau], other)

library = md.diffusion.image_to_image(model, schedule, x0[:3], other[:3], strength=0.7, steps=20, sampler="ddim")
assert np.allclose(redrawn[0.7][:3], library, atol=2e-3)

def sheet(ax, rows, names, title):
    """Rows of pictures with their names."""
    ax.imshow(viz.grid(np.concatenate(rows).clip(-1, 1), columns=len(rows[0])), cmap="gray", vmin=0, vmax=255)
    ax.set_yticks([33 * i + 16 for i in range(len(rows))], names)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title)


fig, ax = plt.subplots(figsize=(8, 5.4))
rows = [np.stack([x0[n], *(pictures[s][n] for s in strengths)]) for n in (3, 4) for pictures in (drowned, redrawn)]
sheet(ax, rows, [r"$x_\tau$", "asked for 8", r"$x_\tau$", "asked for 9"], "Under noise, and asked for another digit")
ax.set_xticks([33 * i + 16 for i in range(6)], ["given", *(f"strength {s}" for s in strengths)])
fig.tight_layout()
plt.show()

# %%
# The number to remember: 0.7
# ---------------------------
# Chapter 8's judge says what each result shows.

kept, became = ({s: int((judge.classify(redrawn[s]) == want).sum()) for s in strengths} for want in (digit, other))
for s in strengths:
    print(f"strength {s}: {kept[s]:2} of 10 are still what they were, {became[s]:2} are what was asked for")
assert kept[0.5] >= 7 and kept[0.9] <= 2 and became[0.5] <= 2 and became[0.9] >= 8
assert kept[0.6] > kept[0.8] and became[0.8] > became[0.6]  # the lines cross near 0.7

# %%
# Below 0.6 of the road the digit stays, whatever is asked for; above 0.8 the label wins. At 0.7 it is open. Whoever wants
# the same thing in another hand stays below, whoever wants another thing goes above.
#
# Noise that is there already
# ---------------------------
# A picture that *came* noisy, :math:`y = x + \varsigma n`, is on the road already, but for its size: multiplied by
# :math:`a_t` it is what the forward process makes of x at the step where :math:`\sigma_t / a_t = \varsigma`.

with np.errstate(divide="ignore"):
    begin = int(np.argmin(abs(sigma / a - 1.0)))
y = x0 + np.random.default_rng(0).standard_normal(x0.shape).astype(np.float32)  # ς = 1: noise as strong as the picture
below = [begin, *(t for t in twenty if t < begin)]
repaired = walk(a[begin] * y, below, none)
assert np.allclose(repaired, md.diffusion.denoise(model, schedule, y, none, sigma=1.0, steps=20, sampler="ddim"), atol=2e-3)

# %%
# Two answers are better than one, if one knows what each is for. A single question gives the mean of all pictures that
# may have been, which has the least error there is, and is blurred. With DDPM one of them is drawn: sharp, and further
# off, for a perfect network by :math:`\sqrt 2`, since the truth and the draw both lie off the mean, independently.

mean, _ = guess(a[begin] * y, begin, none)
drawn = md.diffusion.denoise(model, schedule, y, none, sigma=1.0, steps=20, sampler="ddpm")
print(f"t = {begin}: off by {rms(y, x0):.2f} as it came, {rms(mean, x0):.2f} by one question, {rms(drawn, x0):.2f} drawn by DDPM")
assert rms(mean, x0) < 0.3 * rms(y, x0) and 1.15 < rms(drawn, x0) / rms(mean, x0) < 1.6

# %%
# Holding a part still
# --------------------
# Only the upper half is known. After each step, put there what the forward process has there, with fresh noise:
#
# .. math:: x_s \leftarrow m\,(a_s x_0 + \sigma_s \epsilon) + (1 - m)\,x_s
#
# The lower half of :math:`x_s` was made before this upper half was seen. *RePaint* goes back up by one step of the
# forward process and down again, so that the lower half is made once more, beside its neighbour.

known = np.arange(32)[:, None] < 16  # m: True where the picture is known


def complete(resample, seen=x0, labels=none):
    n, k = len(seen), iter(range(1000))

    def put(x, s):
        return np.where(known, a[s] * seen + sigma[s] * draw(next(k), n) if s else seen, x)

    x = put(sigma[T] * draw(next(k), n), T)
    for t, s in zip(twenty, twenty[1:], strict=False):
        x = put(step(x, t, s, labels), s)
        for _ in range(resample if s else 0):
            keep = a[t] / a[s]  # √α: up, as in chapter 9, and down again
            x = keep * x + np.sqrt(sigma[t] ** 2 - (keep * sigma[s]) ** 2) * draw(next(k), n)
            x = put(step(x, t, s, labels), s)
    return x


def jump(pictures):
    """The mean difference of the two rows at the seam."""
    return abs(pictures[:, 0, 16] - pictures[:, 0, 15]).mean()


completed = {r: complete(r) for r in (0, 2)}
for r, ours in completed.items():
    library = md.diffusion.inpaint(model, schedule, x0[:1], known, none[:1], resample=r, steps=20, sampler="ddim")
    assert np.allclose(ours[:1], library, atol=5e-3)
    assert np.array_equal(ours[:, :, :16], x0[:, :, :16])

print(f"difference at the seam: {jump(x0):.2f} in real pictures, {jump(completed[0]):.2f} at one go, {jump(completed[2]):.2f} with RePaint")
assert jump(completed[2]) < 0.8 * jump(completed[0])

rows = [y, mean, drawn, np.where(known, x0, -0.5), completed[0], completed[2]]
fig, ax = plt.subplots(figsize=(8, 4.7))
sheet(ax, rows, ["with noise", "one question", "DDPM", "upper half", "at one go", "RePaint"], "Repaired and completed, without being told the digit")
fig.tight_layout()
plt.show()

# %%
# A completion need not be the picture that was cut, only one that goes with the known half. The upper half of a 0 may be
# that of a 9.
#
# Up the road
# -----------
# DDIM follows a curve (chapter 19), and a curve can be walked up: which noise would have become this picture? Take the
# same step from s to a *larger* t. (Of t = 0 the network knows nothing: the first step asks about :math:`a_1 x_0` at t = 1,
# and keeps the picture itself where it would take :math:`\hat x_0`.)


def climb(x, times, labels):
    x0_hat, eps_hat = guess(a[1] * x, 1, labels)
    x = a[times[1]] * x + sigma[times[1]] * (eps_hat + x - x0_hat)
    return walk(x, times[1:], labels)


some, labels = new[3:5], digit[3:5]  # two that the model drew
error = {}
for name, counts in (("ddim", (5, 10, 20)), ("heun", (5, 10))):
    for k in counts:
        noise = md.diffusion.invert(model, schedule, some, labels, steps=k, sampler=name)
        error[name, k] = rms(md.diffusion.decode(model, schedule, noise, labels, steps=k, sampler=name), some)
        if (name, k) == ("ddim", 10):
            assert np.allclose(climb(some, md.diffusion.time_steps(T, 10)[::-1], labels), noise, atol=5e-3)
print("there and back, off by: " + ", ".join(f"{name} {k} steps {e:.3f}" for (name, k), e in error.items()))
assert error["ddim", 20] < 0.65 * error["ddim", 5] and error["heun", 10] < 0.3 * error["ddim", 20]

# %%
# A step up asks at its lower end, the way down at the upper: in between, the slope has changed, and that is the error. Heun
# asks at both ends, and with as many questions as DDIM's 20 steps comes back several times nearer.
#
# Is what came out noise? Its numbers are only half as large as they should be: a flat black ground spreads nothing out.
# ``seed=`` begins at :math:`a_1 x_0 + \sigma_1 \epsilon` instead, and then they are as large as noise.

seeded = md.diffusion.invert(model, schedule, some, labels, steps=10, sampler="heun", seed=0)
print(f"size of x_T: {noise.std():.2f}, with a seed {seeded.std():.2f}")
assert noise.std() < 0.7 and 0.9 < seeded.std() < 1.1

# %%
# From one to another
# -------------------
# Between two pictures lies a double exposure. Between two *noises* lie pictures, if one stays where noise is. A sum of D
# squares of mean 1 is D, give or take :math:`\sqrt{2D}`: noise lies on a shell of radius :math:`\sqrt{D} = 32`. Two noises are at
# right angles, nearly, and the middle of the straight line between them is nearer to the centre. The arc stays outside.
#
# .. math:: \Big\|\frac{u+v}{2}\Big\|^2 = \frac{\|u\|^2 + \|v\|^2 + 2\,u \cdot v}{4} \approx \frac{D}{2}, \qquad
#           \mathrm{slerp}_w = \frac{\sin((1-w)\,\Omega)\,u + \sin(w\,\Omega)\,v}{\sin\Omega}, \quad
#           \cos\Omega = \frac{u \cdot v}{\|u\|\,\|v\|}

u, v = (x.reshape(10, -1).astype(np.float64) for x in (draw(0), draw(1)))  # (10,1024)
length = np.linalg.norm(u, axis=1, keepdims=True), np.linalg.norm(v, axis=1, keepdims=True)
omega = np.arccos((u * v).sum(1, keepdims=True) / (length[0] * length[1]))  # (10,1)


def line(w):
    return (1 - w) * u + w * v


def slerp(w):
    return (np.sin((1 - w) * omega) * u + np.sin(w * omega) * v) / np.sin(omega)


assert all(np.allclose(slerp(w), md.diffusion.slerp(u, v, w)) for w in (0.0, 0.3, 0.5, 1.0))
middle = np.linalg.norm(line(0.5), axis=1)
print(f"lengths of noises {length[0].min():.1f} to {length[0].max():.1f}, of the middles of lines {middle.min():.1f} to {middle.max():.1f}")
assert length[0].min() > 29 and middle.max() < 26

# %%
# What does the model make of a noise that is too short? Clean digits, still: this network takes it. But they are all alike.
# How different are ten 3s from ten noises, and from ten middles?


def variety(latents):
    pictures = md.diffusion.decode(model, schedule, latents.astype(np.float32).reshape(-1, 1, 32, 32), np.full(10, 3), steps=10)
    return np.mean([rms(p, q) for i, p in enumerate(pictures) for q in pictures[:i]])


between = {"noises": variety(u), "straight": variety(line(0.5)), "arc": variety(slerp(0.5))}
print("ten 3s differ by: " + ", ".join(f"{name} {d:.2f}" for name, d in between.items()))
assert between["straight"] < 0.92 * between["noises"] and abs(between["arc"] / between["noises"] - 1) < 0.15

ways, curve = np.linspace(0, 1, 8), np.linspace(0, 1, 41)
latents = np.concatenate([[way(w)[4] for w in ways] for way in (line, slerp)])  # of the fifth pair: (16,1024)
strips = md.diffusion.decode(model, schedule, latents.astype(np.float32).reshape(-1, 1, 32, 32), np.full(16, 4), steps=10)
mixed = np.stack([(1 - w) * strips[0] + w * strips[7] for w in ways])
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), width_ratios=(1, 2.4))
left.axhspan(32 - 1.5, 32 + 1.5, color=FAINT, alpha=0.6, lw=0)
for way, name, colour, at in ((line, "straight", COLOURS[1], 19.4), (slerp, "arc", COLOURS[0], 34.2)):
    left.plot(curve, [np.linalg.norm(way(w), axis=1) for w in curve], color=colour, lw=0.7)
    left.text(0.5, at, name, color=colour, ha="center")
left.text(0.5, 28.6, "grey: noise", color=MUTED, size=9, ha="center")
left.set(xlabel="w", xlim=(0, 1), ylim=(18, 37), xticks=[0, 0.5, 1], yticks=[20, 25, 30, 35])
left.set_title("Distance from 0", size=10.5)
sheet(right, [mixed, strips[:8], strips[8:]], ["pictures", "straight", "arc"], "")
right.set_title("Ways from one 4 to another", size=10.5)
fig.tight_layout()
plt.show()

# %%
# Mixed pictures show two digits at once; both rows from noises are sharp. The straight way goes by ordinary 4s, the arc by
# stranger ones. For pictures that are there already, ``interpolate`` climbs, takes the arc, and comes
# down again:

blend = md.diffusion.interpolate(model, schedule, some[:1], some[1:], np.array([-1]), count=3, steps=5)
up = md.diffusion.invert(model, schedule, some, none[:2], steps=5)
halfway = md.diffusion.decode(model, schedule, md.diffusion.slerp(up[:1], up[1:], 0.5), none[:1], steps=5)
assert np.allclose(blend[0, 1], halfway[0], atol=2e-3)

# %%
# And if a classifier is to be trained with drawn digits beside real ones,
# ``md.diffusion.write_augmented("more.npz", model, schedule, per_class=1000)`` writes them with their labels, as many as
# the disk holds.
#
# What would break it
# -------------------
# *A strength without noise.* Who starts at τ with :math:`a_\tau x_0` alone, shows the model what it has never seen at τ: a picture
# too smooth and too faint. It has nothing to redraw from, and takes faint for thin:

start = a[90] * x0
bare = walk(start, [t for t in twenty if t <= 90], other)
ink = {"with": (redrawn[0.9].mean() + 1) / 2, "without": (bare.mean() + 1) / 2}
came = {"with": became[0.9], "without": int((judge.classify(bare) == other).sum())}
print("at strength 0.9: " + "; ".join(f"{name} noise {came[name]} of 10 are what was asked for, {ink[name]:.1%} ink" for name in ink))
assert ink["without"] < 0.85 * ink["with"] and came["without"] <= came["with"]

# %%
# *A mask put on once, at the end*, cuts and pastes; the model never saw the other half. *The wrong ς*: here are the same
# noisy digits, taken for half and for twice as noisy as they are.

with np.errstate(divide="ignore"):
    taken_for = {s: int(np.argmin(abs(sigma / a - s))) for s in (0.5, 1.0, 2.0)}
off = {s: rms(guess(a[t] * y, t, none)[0], x0) for s, t in taken_for.items()}
print("off by, taken for noise of: " + ", ".join(f"{s} {e:.2f}" for s, e in off.items()))
assert off[0.5] > 1.3 * off[1.0] and off[2.0] > 1.1 * off[1.0]

# %%
# Exercises
# ---------
# 1. **Easy.** Take the chapter's strengths with the digit's own label instead of another. What changes between 0.5 and
#    0.9, and is the hand still printed at 0.9?
# 2. **Medium.** Scale a picture down to 8x8 and up again, and let the model make it sharp: after each step, replace the
#    coarse part of :math:`x_s` by that of the forward process (ILVR, Choi et al.). How is this inpainting?
# 3. **Hard.** Invert with guidance 2 and decode with it. By how much does the way back miss now, and why? Find, for each
#    step, an embedding of "no class" that leads back (null-text inversion, Mokady et al.).
#
# Further reading
# ---------------
# * Meng, He, Song, Song, Wu, Zhu, Ermon, *SDEdit: guided image synthesis and editing with stochastic differential
#   equations*, 2022: from the middle of the road.
# * Lugmayr, Danelljan, Romero, Yu, Timofte, Van Gool, *RePaint: inpainting using denoising diffusion probabilistic
#   models*, 2022.
# * Song, Meng, Ermon, *Denoising diffusion implicit models*, 2021: inversion, and blends by slerp.
# * Mokady, Hertz, Aberman, Pritch, Cohen-Or, *Null-text inversion for editing real images using guided diffusion
#   models*, 2023.
# * Choi, Kim, Jeong, Gwon, Yoon, *ILVR: conditioning method for denoising diffusion probabilistic models*, 2021.
# * Shoemake, *Animating rotation with quaternion curves*, 1985: slerp.
#
# The curve that leads a picture to its noise does more than lead back. Along it one can count how the points of the cloud
# draw together or apart, and so say how likely the picture was. That is the next chapter.
