"""
Attention and colour
====================
A convolution sees its neighbours, and what lies further off only by hearsay. In attention every pixel asks all others at
once and takes most from those that answer best. We build it in four lines of arrays, see why it is divided by a root and
what it costs, and set it a task at which convolutions fail: two dots, far apart, that must have the same colour.
"""

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
import minidiff.nn.functional as F
from minidiff.viz.style import COLOURS, MUTED, STYLE

plt.rcParams.update(STYLE)
rng = np.random.default_rng(0)

# %%
# Everyone asks everyone
# ----------------------
# Each of N pixels has a vector of C numbers. Three matrices make three vectors of it: a *query*, what it looks for; a
# *key*, what it can be found by; and a *value*, what it has to say. A query and a key that point the same way have a large
# product. A softmax over the keys makes shares of the products, and the shares mix the values (Vaswani et al.):
#
# .. math:: s = \frac{q\,k^\mathsf{T}}{\sqrt d}, \qquad p = \mathrm{softmax}(s), \qquad y = p\,v


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):  # (N,d) (N,d) (N,C) -> (N,C)
    return softmax(q @ k.T / np.sqrt(q.shape[-1])) @ v


q, k, v = rng.standard_normal((3, 64, 16))
by_hand = attention(q, k, v)
assert np.allclose(by_hand, F.scaled_dot_product_attention(md.tensor(q), md.tensor(k), md.tensor(v)).numpy())

# %%
# The shares of a query add up to 1, so the answer lies among the values. And nowhere does it say which pixel is where:
# shuffle the pixels, and the answers are shuffled alike. Attention alone sees a bag of pixels. Where a thing is, it must
# be told by the convolutions before it.

assert np.allclose(softmax(q @ k.T).sum(1), 1) and (by_hand.max(0) <= v.max(0)).all()
order = rng.permutation(64)
assert np.allclose(attention(q[order], k[order], v[order]), by_hand[order])

# %%
# Why the root
# ------------
# The product of two vectors of d numbers with variance 1 has variance d. At d = 256 the scores lie between −40 and 40, and
# the softmax of such numbers gives all to the largest: nobody else is heard, and no gradient reaches them. Divided by
# :math:`\sqrt d` they have variance 1 whatever d is. We measure how many keys a query really listens to,
# :math:`\exp(-\sum p \ln p)`.


def listens_to(p):
    return np.exp(-(p * np.log(p + 1e-30)).sum(-1)).mean()


for d in (4, 64, 256):
    q, k = rng.standard_normal((2, 256, d))
    s = q @ k.T
    print(f"d = {d:3}: of 256 keys a query listens to {listens_to(softmax(s)):5.1f}, and with the root to {listens_to(softmax(s / np.sqrt(d))):5.1f}")
    assert np.isclose(s.var(), d, rtol=0.1)
assert listens_to(softmax(s)) < 3 and listens_to(softmax(s / np.sqrt(d))) > 140

# %%
# In a network
# ------------
# The block of the library takes a picture, normalises it, makes q, k and v by 1x1 convolutions (a matrix for each pixel),
# lets several *heads* look separately, each with a part of the channels, and adds the answer to the picture. Its last
# matrix P starts at 0: a new block changes nothing, and training brings it in as far as it is good for something.

block = md.models.AttentionBlock(32, width=16)
x = rng.standard_normal((1, 32, 6, 6)).astype(np.float32)
assert np.array_equal(block(md.tensor(x)).numpy(), x)

block.proj.weight.data[...] = 0.2 * rng.standard_normal((32, 32, 1, 1))
groups = block.norm.num_groups
centred = x.reshape(groups, -1) - x.reshape(groups, -1).mean(1, keepdims=True)
pixels = (centred / np.sqrt((centred**2).mean(1, keepdims=True) + block.norm.eps)).reshape(32, 36).T  # (N,C)
Q, K, V, P = (layer.weight.numpy()[:, :, 0, 0] for layer in (block.query, block.key, block.value, block.proj))
bq, bk, bv, bp = (layer.bias.numpy() for layer in (block.query, block.key, block.value, block.proj))
heads = [
    attention((pixels @ Q.T + bq)[:, h], (pixels @ K.T + bk)[:, h], (pixels @ V.T + bv)[:, h])
    for h in (slice(0, 16), slice(16, 32))
]
y = x + (np.concatenate(heads, 1) @ P.T + bp).T.reshape(x.shape)
assert np.allclose(y, block(md.tensor(x)).numpy(), atol=1e-5)

# %%
# What it costs
# -------------
# N pixels ask N pixels: :math:`2 N^2 C` multiplications, beside :math:`9 N C^2` of a 3x3 convolution. Twice as wide a
# picture has four times the pixels and sixteen times the scores. So it is put where the picture is small already.

C = 128
for width in (64, 32, 16, 8):
    N = width**2
    print(f"{width:2} x {width:2}: attention {2 * N * N * C / 1e6:7.0f} million, convolution {9 * N * C * C / 1e6:5.0f}; "
          f"scores of 64 pictures {64 * N * N * 4 / 1e6:6.0f} MB")  # fmt: skip
assert 2 * 16**2 < 9 * C < 2 * 32**2  # at 16x16 it costs less than a convolution, at 32x32 more

# %%
# Those megabytes need never be there: the library works on a block of queries at a time, and computes the shares once more
# in backward (Dao et al.). ``minidiff/ops/attention.py`` is the page to read.
#
# Two dots
# --------
# The task. A picture in colour is three numbers a pixel instead of one; for a network that is three channels at its first
# and its last convolution and nothing else. On the left, at any height, is a dot of any colour. On the right is a white
# one, which shall be painted like the left. Two networks: four 3x3 convolutions, which see four pixels far; and three of
# them with attention in the middle, with fewer parameters.

SIZE, WIDTH = 16, 32


def dots(n, rng):
    """Pictures with a white dot, the same with the dot painted, and where it is.  # (n,3,16,16) (n,3,16,16) (n,16,16)"""
    x, mask = np.full((n, 3, SIZE, SIZE), -1, np.float32), np.zeros((n, SIZE, SIZE), bool)
    colour = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    for i, (left, right) in enumerate(rng.integers(1, SIZE - 3, (n, 2))):
        x[i, :, left : left + 2, 1:3] = colour[i, :, None, None]
        mask[i, right : right + 2, SIZE - 3 : SIZE - 1] = True
    goal = np.where(mask[:, None], colour[:, :, None, None], x)
    return np.where(mask[:, None], np.float32(1), x), goal, mask


class Painter(md.nn.Module):
    def __init__(self, looks):
        self.first = md.models.GELUConvBlock(3, WIDTH)
        self.second = md.models.GELUConvBlock(WIDTH, WIDTH)
        self.third = md.models.AttentionBlock(WIDTH, WIDTH) if looks else md.models.GELUConvBlock(WIDTH, WIDTH)
        self.last = md.nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, x):
        return self.last(self.third(self.second(self.first(x))))


def train(looks, steps=400, seed=0):
    md.manual_seed(seed)
    model, rng = Painter(looks), np.random.default_rng(seed)
    optimizer = md.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x, goal, mask = dots(32, rng)
        error = (model(md.tensor(x)) - md.tensor(goal)) * md.tensor(mask[:, None].astype(np.float32))
        loss = (error**2).sum() * (1 / (3 * mask.sum()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


x, goal, mask = dots(256, np.random.default_rng(7))
models = {"convolutions": train(False), "with attention": train(True)}
painted, explained = {}, {}
right = np.broadcast_to(mask[:, None], goal.shape)
for name, model in models.items():
    with md.no_grad():
        painted[name] = model(md.tensor(x)).numpy()
    explained[name] = 1 - ((painted[name] - goal)[right] ** 2).mean() / goal[right].var()

# %%
# The number to remember: 4 % and all
# -----------------------------------
# So much does the dot on the right know of the left one's colour. Convolutions alone paint it grey, the mean of all
# colours, and nothing better can be done by who cannot see the other dot. With attention the colour is there.

for name, share in explained.items():
    print(f"{name:<15} {models[name].num_parameters():6,} parameters  {share:5.0%} of the colour's variance")
assert abs(explained["convolutions"]) < 0.1 and explained["with attention"] > 0.8
assert models["with attention"].num_parameters() < models["convolutions"].num_parameters()

# %%
# Where does it look? We take the query of a pixel in the white dot and show its shares over the picture. Nobody told it. It
# does not look at the dot, but at the edge beside it: nothing is ever painted there, and so the convolutions before have
# made it the place where they leave what they know of the colour.

looker = models["with attention"]


def where_it_looks(i):
    """The shares of the first pixel of the white dot of picture i, (16,16), and which pixel that is."""
    with md.no_grad():
        h = looker.third.norm(looker.second(looker.first(md.tensor(x[i : i + 1]))))
        q, k = (layer(h).numpy()[0].reshape(WIDTH, -1).T for layer in (looker.third.query, looker.third.key))
    row, column = np.argwhere(mask[i])[0]
    return softmax(q @ k.T / np.sqrt(WIDTH))[row * SIZE + column].reshape(SIZE, SIZE), row, column


on_the_left = np.mean([where_it_looks(i)[0][:, :5].sum() for i in range(50)])
print(f"a white dot gives {on_the_left:.0%} of its attention to the five columns on the left")
assert on_the_left > 0.6

fig, axes = plt.subplots(3, 5, figsize=(8, 5.2), layout="constrained")
for axs, i in zip(axes, (3, 5, 6)):
    shares, row, column = where_it_looks(i)
    answers = (np.where(mask[i], painted[name][i], x[i]) for name in models)
    for ax, picture in zip(axs, (x[i], *answers, goal[i])):
        ax.imshow((picture.transpose(1, 2, 0).clip(-1, 1) + 1) / 2)
    axs[4].imshow(shares, cmap="magma", vmin=0)
    axs[4].plot(column, row, "o", ms=8, mfc="none", mec=COLOURS[1])
for ax, title in zip(axes[0], ("given", "convolutions", "with attention", "right", "where it looks")):
    ax.set_title(title, size=10)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
fig.supxlabel("the ring is who asks", size=9, color=MUTED)
plt.show()

# %%
# The network for colour pictures
# -------------------------------
# ``AttentionUNet`` is the U-Net of Ho et al. for CIFAR-10: residual blocks, which add their answer to what they were
# given as the block above does, three channels, attention where the picture is 16 pixels wide, and at the bottom. Most of
# its parameters are convolutions still: a block of attention has four C x C matrices and two vectors for its norm, where
# one 3x3 convolution has nine.

net = md.models.AttentionUNet()
C = net.config["channels"][-1]
one = 4 * (C * C + C) + 2 * C
blocks = [m for m in net.modules() if isinstance(m, md.models.AttentionBlock)]
share = one * len(blocks) / net.num_parameters()
print(f"{net.num_parameters():,} parameters; {len(blocks)} blocks of attention of {one:,} each: {share:.0%}")
assert all(b.num_parameters() == one for b in blocks) and 0.02 < share < 0.1
small = md.models.AttentionUNet(channels=(32, 64), blocks=1, attention=(16,), head_width=32, time_dim=32)
assert small(np.zeros((2, 3, 32, 32), np.float32), np.array([1, 9]), np.array([3, -1])).shape == (2, 3, 32, 32)

# %%
# It trains as all others do, ``minidiff train --data cifar10 --preset attention``, but not on a laptop: a day on two cores
# shows clouds of colour. It is a recipe for a GPU.
#
# What would break it
# -------------------
# * **The root left out**: at 32 channels it still learns. At 256 it starts with queries that listen to two keys, and those
#   it happened to like first are the only ones that get a gradient.
# * **The norm left out**: queries and keys grow with the picture's contrast, and the scores with its square.
# * **P not started at 0**: each new block throws the picture at the others, and a deep network starts as noise.
# * **Attention at full size**: 64 pictures of 32x32 have 268 MB of scores for each head, if they are kept.
# * **Softmax over the queries instead of the keys**: the shares still add up to 1, in the wrong direction; every pixel
#   must be heard, and none may ask.
#
# Exercises
# ---------
# 1. **Easy.** The convolutions knew a few percent of the colour of a dot that none of them can see. Which layer looks at the
#    whole picture? Take it out and measure again.
# 2. **Medium.** Let a second white dot appear beside the first. Which colours do they get, and why the same?
# 3. **Hard.** Two coloured dots on the left, and the white one shall be painted like the one that is level with it. What
#    must a query know that a bag of pixels does not? Give each pixel its row as sines and cosines, and train again.
#
# Further reading
# ---------------
# * Vaswani et al., *Attention is all you need*, 2017: queries, keys, values, and the root.
# * Wang et al., *Non-local neural networks*, 2018: every pixel sees every pixel, in pictures and films.
# * Ho, Jain, Abbeel, *Denoising diffusion probabilistic models*, 2020: appendix B, the network above.
# * Dao, Fu, Ermon, Rudra, Ré, *FlashAttention: fast and memory-efficient exact attention with IO-awareness*, 2022: the scores,
#   block by block, never all there.
#
# With this the network of every large diffusion model of its time is on the table, and each line of it has been read. What
# they have more of is machines; how many work as one is the next chapter.
