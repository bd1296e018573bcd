"""Operations on float32 numbers with the GPU's kernels in place of NumPy's functions, run by the emulator."""

import numpy as np
import pytest

from minidiff import ops
from minidiff.checks import CASES
from minidiff.checks.testing import LAYOUTS, TOLERANCE, Subject, error

FAMILIES = [
    case for case in CASES
    if any(hasattr(module, case.operation) for module in (ops.activation, ops.elementwise, ops.embedding, ops.reduce))
]  # fmt: skip


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_values_and_gradients_are_those_of_the_textbook(case, emulated):
    subject = Subject.of(case)
    for create_graph in (False, True):
        for layout in LAYOUTS:
            ys, gs = subject.run(*subject.cast("float32", layout), create_graph=create_graph)
            for t, expected in zip([*ys, *gs], [*subject.values, *subject.gradients], strict=True):
                found = np.zeros(expected.shape, np.float32) if t is None else t.numpy()
                assert found.dtype == np.float32 and found.shape == expected.shape
                assert error(found, expected) <= TOLERANCE["float32"], layout
