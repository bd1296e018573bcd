"""
From NumPy to the GPU
=====================
A GPU runs one small function in many thousand threads at once. We build such a machine from Python generators, learn
what its threads wait for and where its time goes, and run the same network on the CPU's kernels and on the GPU's.
"""

import json
import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minidiff as md
from minidiff.bench import gpu
from minidiff.kernels.cuda import layout, runtime
from minidiff.viz.style import COLOURS, FAINT, INK, MUTED, STYLE

plt.rcParams.update(STYLE)
rng = np.random.default_rng(0)

# %%
# One function, many threads
# --------------------------
# This is y = a + b for a GPU. It is called a *kernel*, and it has no loop: a thread asks for its own number, adds at
# that one place, and ends.
#
# .. code-block:: cuda
#
#    extern "C" __global__ void add(const float* a, const float* b, float* y, int n) {
#      int i = blockIdx.x * blockDim.x + threadIdx.x;
#      if (i < n) y[i] = a[i] + b[i];
#    }
#
# Threads come in *blocks*, here of 256, and there are as many blocks as it takes. In Python the machine is a loop over
# all threads. Nobody promises an order, so we take them as they come. (The library's own, in ``elementwise.cu``, adds
# eight neighbours in each thread and is otherwise the same.)


def add(block, thread, size, a, b, y):
    i = block * size + thread
    if i < len(y):
        y[i] = a[i] + b[i]


a, b = rng.standard_normal((2, 1000), dtype=np.float32)
y = np.empty_like(a)
for number in rng.permutation(4 * 256):
    add(*divmod(number, 256), 256, a, b, y)
assert np.array_equal(y, a + b)

# %%
# Threads that wait for each other
# --------------------------------
# For a sum they must get together. The threads of a block have a small fast memory in common, *shared memory*. In each
# round half of them fetch a number from the other half: 8 sums become 4, 2, 1. Before a round starts, all must be done
# with the last. CUDA writes ``__syncthreads()``; we make each thread a generator, and write ``yield``.


def block_sum(thread, size, x, shared, y, barrier=True):
    shared[thread] = x[thread]
    yield  # __syncthreads(): go on when all have come as far as this
    half = size // 2
    while half:
        if thread < half:
            shared[thread] += shared[thread + half]
        if barrier:
            yield
        half //= 2
    if thread == 0:
        y[0] = shared[0]


def run(kernel, size, *args, backwards=False, **options):
    """One block: each thread runs to its next barrier, one after the other, until all have ended."""
    threads = {t: kernel(t, size, *args, **options) for t in range(size)[:: -1 if backwards else 1]}
    while threads:
        threads = {t: thread for t, thread in threads.items() if next(thread, "ended") != "ended"}


class Watched(list):
    """Shared memory that remembers how it looked after each write."""

    def __setitem__(self, thread, number):
        super().__setitem__(thread, number)
        self.history = [*getattr(self, "history", []), (thread, list(self))]


x, sums = np.array([3, 1, 4, 1, 5, 9, 2, 6]), {}
variants = {"with barriers": {}, "without, forwards": {"barrier": False},
            "without, backwards": {"barrier": False, "backwards": True}}  # fmt: skip
fig, axes = plt.subplots(1, 3, figsize=(8, 3))
for ax, (name, options) in zip(axes, variants.items(), strict=True):
    shared, y = Watched([0] * 8), [0]
    run(block_sum, 8, x, shared, y, **options)
    sums[name] = y[0]
    for i, (thread, numbers) in enumerate([(None, x), *shared.history[8:]]):
        ax.text(-0.3, i, "all loaded" if i == 0 else f"thread {thread}", ha="right", va="center", size=8, color=MUTED)
        for j, number in enumerate(numbers):
            colour = FAINT if j != thread else COLOURS[0] if y[0] == x.sum() else COLOURS[1]
            ax.add_patch(plt.Rectangle((j, i - 0.43), 0.92, 0.86, color=colour))
            ax.text(j + 0.46, i, number, ha="center", va="center", size=8, color="white" if j == thread else INK)
    ax.set(xlim=(-3.6, 8), ylim=(7.6, -0.6))
    ax.set_title(f"{name}: {y[0]}", size=9.5, loc="right", pad=4)
    ax.axis("off")
fig.tight_layout()
plt.show()

# %%
# Each row is one addition, and in colour the place where it was written. In the middle the barrier is forgotten and
# thread 0 adds up what the others have not finished. On the right it is forgotten too, but the helpers happen to come
# first, and the sum is *right*. On a GPU nobody chooses the order. So minidiff's tests run each kernel twice, with the
# threads in either order, and they need no GPU for it: ``emulate.h`` does for the CUDA sources what ``run`` does here.

assert sums["with barriers"] == sums["without, backwards"] == x.sum() != sums["without, forwards"]
x, y = rng.standard_normal(256, dtype=np.float32), np.zeros((2, 1), np.float32)
for backwards in (False, True):
    run(block_sum, 256, x, np.full(256, np.nan, np.float32), y[int(backwards)], backwards=backwards)
assert y[0] == y[1] and np.isclose(y[0], x.sum(), atol=1e-4)  # the same bits in either order

# %%
# Moving numbers is what costs
# ----------------------------
# In a product of two n x n matrices each number is needed n times. If every thread fetches a row and a column for
# itself, the slow memory delivers 2n³ numbers. If a block first brings a *tile* of each matrix into shared memory,
# one fetch serves a whole row of threads, and a multiplication and an addition are two operations:
#
# .. math:: \mathrm{fetched} = \frac{2\,n^3}{\mathrm{tile}}, \qquad
#           \frac{\mathrm{operations}}{\mathrm{fetched}} = \frac{2\,n^3}{2\,n^3/\mathrm{tile}} = \mathrm{tile}
#
# All products and convolutions in minidiff's CUDA are these ten lines, refined.


def product(thread, size, a, b, y, row, column, tile, tile_a, tile_b, fetched):
    i, j = divmod(thread, tile)
    total = 0.0
    for k in range(0, len(b), tile):
        tile_a[i, j], tile_b[i, j] = a[row + i, k + j], b[k + i, column + j]
        fetched["numbers"] += 2
        yield  # both tiles are complete
        total += tile_a[i] @ tile_b[:, j]
        yield  # nobody needs them any more
    y[row + i, column + j] = total


n = 32
a, b = rng.integers(-9, 10, (2, n, n)).astype(float)
for tile, backwards in ((1, False), (4, False), (4, True), (16, False)):
    y, fetched = np.empty((n, n)), Counter()
    for row, column in np.ndindex(n // tile, n // tile):
        shared = np.full((2, tile, tile), np.nan)
        run(product, tile**2, a, b, y, row * tile, column * tile, tile, *shared, fetched, backwards=backwards)
    assert np.array_equal(y, a @ b) and fetched["numbers"] == 2 * n**3 / tile
    print(f"tiles of {tile:2} x {tile:2}: {fetched['numbers']:6,} numbers fetched, operations for each: {tile}")

# %%
# The number to remember: 590
# ---------------------------
# How many operations for each number are enough? NVIDIA's data sheet of the H100 SXM promises 3.35 TB/s from memory,
# and on the *tensor cores*, which multiply small matrices at once, 989 TFLOP/s in bfloat16 (2 bytes a number) or 495 in
# TF32 (4 bytes; both are explained below). These are limits, not measurements. Both say the same: while one number
# comes, there is time for 590 operations. Without tensor cores, at 67 TFLOP/s in float32, it is 80.
#
# For each pixel a 3x3 convolution from C to C channels makes :math:`2\cdot 9\,C^2` operations, and moves 2C numbers at
# least: 9C operations for each. It takes 66 channels to keep the tensor cores busy. The network that this book is about,
# the U-Net of chapter 11, has 32, 64 and 128. What then limits a step of its training? We need not guess: on any machine,
# minidiff notes down what it would launch.

MEMORY, BYTES = 3.35e12, {"bf16": 2, "tf32": 4, "fp32": 4}
RATE = {"bf16": 989e12, "tf32": 495e12, "fp32": 67e12}
balance = {precision: RATE[precision] / (MEMORY / BYTES[precision]) for precision in RATE}
usual = md.get_kernels()
md.set_kernels("emulated")  # the GPU's kernels …
with runtime.noted() as launches:  # … of which none is run
    gpu.minidiff_step({}, 128, "tf32", graph=False, place="cpu")()  # the report's U-Net, 128 pictures
md.set_kernels(usual)

moving = np.array([gpu.traffic(one) / MEMORY for one in launches])  # seconds, if each array is moved once
multiplying = np.array([gpu.flops(one) / RATE["tf32"] for one in launches])
time, waits = np.maximum(moving, multiplying), moving > multiplying
share = time[waits].sum() / time.sum()
print("operations for each number moved: " + ", ".join(f"{p} {b:.0f}" for p, b in balance.items()))
print(f"a step: {len(launches)} launches, at least {1e3 * time.sum():.2f} ms, {share:.0%} of it in launches that wait for memory")
print(f"if moving were free: {1e3 * multiplying.sum():.2f} ms; if arithmetic were free: {1e3 * moving.sum():.2f} ms")
assert 588 < balance["bf16"] < 592 and 588 < balance["tf32"] < 593 and 79 < balance["fp32"] < 81
assert 0.84 < share < 0.90 and multiplying.sum() < 0.45 * moving.sum()

# %%
# Here are the launches, each kind as large as its share of the time. The roof is what the data sheet allows. Left of 590
# it slopes: there a faster multiplier is of no use, and only moving less helps. That is why minidiff's kernels do
# GroupNorm and GELU in one pass, and why bfloat16 pays: its numbers are half as long on the road.

KINDS = {"gather": "convolution", "weight_gradient": "gradient of its weights", "group_norm": "GroupNorm + GELU",
         "group_norm_backward": "its gradient", None: "all others"}  # fmt: skip
shade = dict(zip(KINDS.values(), (COLOURS[0], COLOURS[5], COLOURS[1], COLOURS[4], MUTED), strict=True))
no_products = {"group_norm": 15, "group_norm_backward": 20, "add": 1 / 3}  # operations a number, by the sources' own count
points, by_kind = Counter(), Counter()
for one, seconds, bound in zip(launches, time, waits, strict=True):
    kind = KINDS.get(one.kernel.name, KINDS[None])
    by_kind[kind, bool(bound)] += seconds
    operations = BYTES["tf32"] * gpu.flops(one) / gpu.traffic(one) or no_products.get(one.kernel.name)
    if operations and seconds > 1e-6:
        points[round(operations, 2), kind] += seconds


def roof(operations, precision="tf32"):
    """TFLOP/s, at most, with so many operations for each number moved."""
    return np.minimum(operations * MEMORY / BYTES[precision], RATE[precision]) / 1e12


fig, (ax, bars) = plt.subplots(1, 2, figsize=(8, 4), width_ratios=(5, 3))
grid = np.logspace(-1, 3.6, 200)
for precision, name, style in (("bf16", "bfloat16", "--"), ("tf32", "TF32", "-"), ("fp32", "float32", ":")):
    ax.loglog(grid, roof(grid, precision), style, color=INK if style == "-" else MUTED, lw=1.2, zorder=1)
    ax.text(4e3, RATE[precision] / 1e12 * 1.12, name, ha="right", size=8.5, color=MUTED)
for (operations, kind), seconds in points.items():
    ax.scatter(operations, roof(operations), 2e6 * seconds, color=shade[kind], edgecolor="white", lw=0.6, zorder=2)
for C in (32, 64, 128):
    ax.plot([9 * C, 9 * C], [9, roof(9 * C)], color=MUTED, lw=0.7, zorder=0)
    ax.text(9 * C, 8, C, ha="center", va="top", size=8.5)
for spot, text in (((9 * 64, 3.7), "channels of a\n3x3 convolution"), ((30, 6), "GroupNorm\n+ GELU"),
                   ((0.9, 0.3), "y = a + b"), ((590, 1900), "590")):  # fmt: skip
    ax.text(*spot, text, ha="center", va="top", size=8.5)
ax.set(xlabel="operations for each number moved", ylabel="TFLOP/s, at most", xlim=(0.1, 5e3), ylim=(0.08, 2000))
ax.set_title("What an H100 allows", size=10.5)
for i, kind in enumerate(shade):
    memory, arithmetic = 1e3 * by_kind[kind, True], 1e3 * by_kind[kind, False]
    bars.barh(i, memory, 0.5, color=shade[kind])
    bars.barh(i, arithmetic, 0.5, left=memory, color="white", edgecolor=shade[kind], hatch="////")
    bars.text(0.004, i - 0.31, kind, size=8.5, va="bottom")
bars.text(0.335, 5, "hatched: arithmetic takes longer", ha="right", size=8.5, color=MUTED)
bars.set(xlabel="ms of a step in TF32, at least", yticks=[], ylim=(5.2, -0.7), xlim=(0, 0.34))
bars.set_title("Where the time goes", size=10.5)
fig.tight_layout()
plt.show()

# %%
# Fewer bits
# ----------
# A float32 has a sign, 8 bits of exponent and 23 of mantissa. TF32 is what the tensor cores read of it, 10 bits of
# mantissa; bfloat16 is its upper half, with 7. Rounding is a matter of whole numbers: add a little less than half of
# what will be cut off, and cut.


def rounded(x, bits):
    """float32 numbers with so many bits of mantissa: the nearest there is; between two, the even one."""
    u, cut = np.asarray(x, np.float32).view(np.uint32), 23 - bits
    if cut:
        u = u + (2 ** (cut - 1) - 1) + (u >> cut & 1)
    return (u >> cut << cut).view(np.float32)


FORMATS = {"float32": 23, "TF32": 10, "bfloat16": 7}
for name, bits in FORMATS.items():
    third = rounded(1 / 3, bits)
    u = f"{third.view(np.uint32):032b}"
    print(f"1/3 in {name:9} {u[0]} {u[1:9]} {u[9 : 9 + bits]:23}  {third:.8f}")
assert rounded(256 + 1, 7) == 256 and rounded(256 + 3, 7) == 260
x, w = rng.standard_normal((2, 500, 9 * 128), dtype=np.float32)
if find_spec("ml_dtypes"):
    assert np.array_equal(rounded(x, 7), x.astype(md.backend.bfloat16()).astype(np.float32))

# %%
# In bfloat16, 256 + 1 is 256, so counting ends there. Numbers may *lie* and *travel* in few bits, but sums stay in
# float32: the tensor cores are built that way. Here is a pixel of a 3x3 convolution with 128 channels, a sum of 1,152
# products.


def dot(x, w, bits, sum_bits=23):
    total = np.zeros(len(x), np.float32)
    for a, b in zip(rounded(x, bits).T, rounded(w, bits).T, strict=True):
        total = rounded(total + a * b, sum_bits)
    return total


exact = (x.astype(np.float64) * w).sum(1)
error = {name: np.std(dot(x, w, bits) - exact) / np.std(exact) for name, bits in FORMATS.items()}
error["bfloat16, also the sum"] = np.std(dot(x, w, 7, 7) - exact) / np.std(exact)
for name, e in error.items():
    print(f"{name:23} error {e:.0e}")
assert error["float32"] < 1e-6 < 1e-4 < error["TF32"] < 1e-3 < error["bfloat16"] < 4e-3 < 1e-2 < error["bfloat16, also the sum"]

# %%
# The same chance everywhere
# --------------------------
# A generator with a state gives the next number to whoever asks next, and thousands of threads ask at once. *Philox* has
# no state. It scrambles a counter ten times over under a key, the seed: *which four numbers, of which picture, in which
# step, for what purpose?* So the noise of a picture is there for the asking, on any device, in any batch.


def philox(block, picture, step, stream, seed):
    c0, c1, c2, c3 = (np.uint64(c) for c in (block, picture, step, stream))
    k0, k1, low = seed % 2**32, seed >> 32, np.uint64(2**32 - 1)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2  # 64 bits of product from 32 and 32
        c0, c1, c2, c3 = q >> 32 ^ c1 ^ np.uint64(k0), q & low, p >> 32 ^ c3 ^ np.uint64(k1), p & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.array([c0, c1, c2, c3], np.uint32)


assert [f"{word:08x}" for word in philox(0, 0, 0, 0, 0)] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]  # Salmon et al.
assert np.array_equal(philox(1, 7, 40, 3, seed=2**40 + 5), md.philox.words(2**40 + 5, [7], 8, step=40, stream=3)[0, 4:])
alone, together = md.philox.normal(0, [7], 1024), md.philox.normal(0, range(8), 1024)
assert np.array_equal(alone[0], together[7])  # whoever else is in the batch

# %%
# The same model on two devices
# -----------------------------
# ``model.to("cuda")`` moves the weights, and the rest of a program stays as it is. Without a GPU, but with a C++ compiler,
# the emulator runs the same CUDA sources thread by thread, as ``run`` does above. (The U-Net is asked about pictures x, each
# at a step t and of a class; chapter 11 says what that means.)

try:
    place = md.backend.resolve_device("cuda")
    runtime.architecture()  # refuses a GPU that is too old
except md.BadInput:
    place = "emulated" if shutil.which("g++") else None

md.manual_seed(0)
model = md.models.UNet(image_size=16, channels=(16, 16), patch=4, num_classes=8)  # few kernels to compile
x, t, labels = rng.standard_normal((2, 1, 16, 16), dtype=np.float32), np.array([3, 50]), np.array([7, -1])
with md.no_grad():
    on_cpu = model(x, t, labels)
    if place == "emulated":
        md.set_kernels("emulated")
    if place:
        device = "cuda" if place == "cuda" else "cpu"
        on_gpu = model.to(device)(md.tensor(x, device=device), t, labels)
        noise = md.philox.Rng(0, like=on_gpu.data).standard_normal((8, 1024))
        md.set_kernels(usual)
        difference = np.abs(on_gpu.numpy() - on_cpu.numpy()).max()
        print(f"the U-Net by the CPU's kernels and the GPU's ({place}): largest difference {difference:.0e}")
        assert 0 < difference < 1e-5 and np.allclose(md.backend.to_numpy(noise), together, atol=4e-6)
    else:
        print("no GPU here, and no compiler to emulate one: `apt install g++`, then `python chapters/07_numpy_to_gpu.py`")

# %%
# Equal up to rounding: another order of sums, other last bits. On one device every sum has a fixed order, as our tree
# has, and the same step gives the same bits.
#
# One change cannot be seen from outside. A thread best fetches 16 bytes at once, and the tensor cores want channels, so
# the channels of a pixel are neighbours in memory. The shape is (N,C,H,W) as ever; only the *strides*, how far it is to
# the next number along each axis, say that the memory is (N,H,W,C).

here, there = np.zeros((2, 16, 8, 8), np.float32), layout.new((2, 16, 8, 8), np.float32, like=x)
print(f"steps in bytes along N, C, H, W: NumPy {here.strides}, for the GPU {there.strides}")
assert here.shape == there.shape and here.strides[3] == there.strides[1] == 4

# %%
# What changed, and what did not
# ------------------------------
# Tensors, gradients, layers and optimizer are those of the chapters before, line by line, and so will be trainer and
# sampler. What changed lies below: the kernels, the order of numbers in memory, the precision if one asks for it. And the
# launching: Python takes some microseconds for each launch, and most of ours could be over sooner. So the trainer records
# the launches of a step once, as a *CUDA graph*, and from then on starts them all as one.

short = np.mean(time < 5e-6)
print(f"{len(launches)} launches in a step, {short:.0%} of them could be over in 5 µs")
assert 150 < len(launches) < 300 and 0.5 < short < 0.9

record = Path(md.__file__).parents[1] / "chapters" / "results" / "bench-cuda.json"
if record.is_file():  # its first network, batch and precision
    print("kernels in".join(gpu.render(json.loads(record.read_text())).split("kernels in")[:2]).rstrip())
else:
    print("no GPU has been measured yet; `minidiff bench --device cuda --against torch --json bench-cuda.json` would do it")

# %%
# What would break it
# -------------------
# *Sums in the order of arrival.* Adding floats is not associative. If threads add to one place as they come, two runs of
# the same step differ; minidiff has no such sums. *A look at a number*: ``if loss > 1:`` makes Python wait until the GPU
# has done all that it was given, and no graph can hold it. *A clock stopped too early*: a launch returns before the work
# is done, and who does not wait at the end has measured the asking. Here is the first:

x = rng.standard_normal(10_000, dtype=np.float32)
orders = {float(np.cumsum(rng.permutation(x))[-1]) for _ in range(20)}
print(f"10,000 numbers added in 20 orders: {len(orders)} different sums")
assert len(orders) > 5

# %%
# Exercises
# ---------
# 1. **Easy.** What does ``block_sum`` say for six threads? Repair it for any number of them.
# 2. **Medium.** How many operations for each number has a 1x1 convolution from C to C channels, and a 5x5? From how many
#    channels on do they keep the tensor cores busy? Then note down a step with 8 pictures instead of 128: an assert
#    fails. What does not shrink with the batch?
# 3. **Hard.** Write softmax of a row as a kernel that reads the row once: carry the largest number so far and the sum of
#    exponentials, and scale the sum when the largest changes. Then combine the threads' pairs in a tree. This is the
#    heart of FlashAttention, and of ``attention.cu``.
#
# Further reading
# ---------------
# * Williams, Waterman, Patterson, *Roofline: an insightful visual performance model for multicore architectures*, 2009.
# * Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, 2011: Philox.
# * Hwu, Kirk, El Hajj, *Programming massively parallel processors*, 4th edition, 2022: threads, tiles, barriers.
# * Dao, Fu, Ermon, Rudra, Ré, *FlashAttention: fast and memory-efficient exact attention with IO-awareness*, 2022.
# * NVIDIA, *H100 Tensor Core GPU* (data sheet), 2023, and *CUDA C++ programming guide*, 2024.
#
# Nothing above the kernels knows which device it is on. So from here on no chapter says where it runs; all of them take less
# than a minute on two cores. The tools are sharp. The first thing that we make with them is someone who can tell digits apart.
