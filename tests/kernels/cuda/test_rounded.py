"""The CPU's kernels with the GPU's roundings give the numbers of the CUDA kernels, but for the order of sums."""

import numpy as np
import pytest

from minidiff import backend, models
from minidiff.checks import CASES
from minidiff.checks.testing import Subject
from minidiff.kernels import rounded
from minidiff.nn import functional as F
from minidiff.tensor import Tensor

PRODUCTS = ("conv2d", "conv_transpose2d", "matmul")
PASSES = ("group_norm", "group_norm_gelu", "group_norm_silu", "gelu", "silu", "mse_loss")
FEW = 4                                       # cases of each operation: each takes the emulator a compilation or two


def cases():
    for operation in (*PRODUCTS, *PASSES):
        for case in [case for case in CASES if case.operation == operation][:FEW]:
            for precision in ("tf32", "bf16") if operation in PRODUCTS else ("bf16",):
                yield pytest.param(case, precision, id=f"{case.name}-{precision}")


@pytest.fixture
def use():
    before = backend.get_kernels()
    yield backend.set_kernels
    backend.set_kernels(before)


def outcome(case, precision):
    """Value and gradients; what is an image is given as bfloat16 where that is the precision."""
    subject = Subject.of(case)
    arrays, upstream = subject.cast("float32")
    if precision == "bf16":
        arrays = [a.astype(backend.bfloat16()) if a.ndim == 4 and i == 0 else a for i, a in enumerate(arrays)]
    with backend.precision(precision):
        ys, gs = subject.run(arrays, upstream)
    return [t.data for t in (*ys, *gs) if t is not None]


@pytest.mark.parametrize(("case", "precision"), list(cases()))
def test_rounded_as_the_gpu_rounds(case, precision, use):
    results = {}
    for kernels in ("rounded", "emulated"):
        use(kernels)
        results[kernels] = outcome(case, precision)
    for a, b in zip(*results.values(), strict=True):
        assert a.dtype == b.dtype
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        # A sum in another order can fall on the other side of a rounding: a few numbers are off by a unit in their last place.
        assert np.linalg.norm(a - b) <= (5e-6 if precision == "tf32" else 2e-3) * (np.linalg.norm(b) + 0.1)


@pytest.mark.parametrize("precision, close", [("tf32", 1e-3), ("bf16", 1e-2)])
def test_a_network_learns_by_the_same_gradients(precision, close, use):
    """Roundings spread through two dozen layers, but all gradients are nearer to the GPU's than to those of float32."""
    backend.manual_seed(0)
    model, rng = models.UNet(image_size=8, channels=(8, 16), num_classes=3, condition="film"), np.random.default_rng(0)
    x, target = rng.standard_normal((2, 2, 1, 8, 8), dtype=np.float32)
    found = {}
    for kernels in ("numpy", "rounded", "emulated"):
        use(kernels)
        for p in model.parameters():
            p.grad = None
        with backend.precision(precision):
            F.mse_loss(model(x, np.array([3, 50]), np.array([1, -1])), target).backward()
        found[kernels] = np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]).astype(np.float64)
    size = np.linalg.norm(found["emulated"])
    apart = np.linalg.norm(found["rounded"] - found["emulated"]) / size
    assert apart < close and 2 * apart < np.linalg.norm(found["numpy"] - found["emulated"]) / size


def test_halves_of_tf32_go_away_from_zero():
    ulp = 2.0**-10
    x = np.array([1.0, 1 + ulp / 2, -(1 + ulp / 2), 1 + 0.49 * ulp, 0.0, np.inf, -np.inf, np.nan, 3.0e38], np.float32)
    np.testing.assert_array_equal(rounded.to_tf32(x)[:8], np.array([1, 1 + ulp, -(1 + ulp), 1, 0, np.inf, -np.inf, np.nan], np.float32))
    assert abs(rounded.to_tf32(x)[8] / 3.0e38 - 1) < ulp


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_only_what_is_asked_for_is_rounded(precision, use):
    """float64 stays exact in any precision, and float32 in fp32."""
    use("rounded")
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        x, w = (Tensor(rng.standard_normal(shape).astype(dtype)) for shape in ((2, 4, 6, 6), (4, 4, 3, 3)))
        use("numpy")
        expected = F.conv2d(x, w, padding=1).data
        use("rounded")
        with backend.precision(precision):
            y = F.conv2d(x, w, padding=1)
        exact = precision == "fp32" or dtype == np.float64
        assert (np.abs(y.numpy().astype(np.float64) - expected).max() < 1e-5) == exact
        assert y.dtype == (backend.bfloat16() if precision == "bf16" and not exact else dtype)
