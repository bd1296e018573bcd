"""The same functions as PyTorch's: results and every gradient, in both dtypes."""

import numpy as np
import pytest

from minidiff.checks import CASES
from minidiff.tensor import Tensor

WITH_TORCH = [case for case in CASES if case.theirs is not None]


@pytest.mark.parametrize("case", WITH_TORCH, ids=lambda case: case.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-11)])
def test_results_and_gradients_are_pytorchs(torch, case, dtype, tolerance):
    arrays = case.inputs(dtype)
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = case.ours(*xs), case.theirs(torch, *ts)
    assert y.shape == tuple(z.shape)
    u = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    y.backward(u)
    z.backward(torch.tensor(u))
    for ours, theirs in [(y, z), *((x.grad, t.grad) for x, t in zip(xs, ts, strict=True))]:
        theirs = np.zeros(ours.shape) if theirs is None else theirs.detach().numpy()
        np.testing.assert_allclose(ours.data, theirs, rtol=tolerance, atol=tolerance * (1 + np.abs(theirs).max()))
