"""Would the checks notice a wrong gradient? Each operation's backward is broken on purpose, and gradcheck must say so."""

import importlib
import pkgutil
from collections import Counter

import numpy as np
import pytest

import minidiff
from minidiff import ops
from minidiff.autograd import FusedOp, Op
from minidiff.checks import CASES
from minidiff.gradcheck import GradcheckError, gradcheck
from minidiff.tensor import Tensor

for module in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"minidiff.ops.{module.name}")


def operations(parent=Op):
    """Every operation of the package: the subclasses of Op, theirs, and so on."""
    for op in parent.__subclasses__():
        if op is not FusedOp and op.__module__.startswith("minidiff."):
            yield op
        yield from operations(op)


def made_of(case):
    """The operations that a case is computed with, and how often each."""
    y = case.ours(*(Tensor(a, requires_grad=True) for a in case.inputs()))
    stack, found = [y.creator], {y.creator}
    while stack:
        parents = {edge for edge in stack.pop().edges if isinstance(edge, Op)} - found
        found |= parents
        stack += parents
    return Counter(map(type, found))


USES = {case.name: made_of(case) for case in CASES}
OPERATIONS = sorted(set(operations()), key=lambda op: op.__name__)


def simplest_case(op):
    """The first of the cases that use `op` least often and least else, so that nothing hides its mistake."""
    using = [case for case in CASES if op in USES[case.name]]
    return min(using, key=lambda case: (USES[case.name][op], USES[case.name].total()))


def test_every_operation_has_a_case():
    missing = [op.__name__ for op in OPERATIONS if not any(op in uses for uses in USES.values())]
    assert not missing, f"add a case for {missing} to minidiff/checks"
    assert {ops.conv.Conv2d, ops.elementwise.Add, ops.norm.GroupNormGELU} <= set(OPERATIONS)  # the search does search


def spoiled(backward, spoil):
    """`backward` with every gradient it gives passed through `spoil`; they are arrays or Tensors."""

    def wrong(self, gy):
        gxs = backward(self, gy)
        gxs = gxs if isinstance(gxs, tuple) else (gxs,)
        return tuple(None if gx is None else spoil(gx) for gx in gxs)

    return wrong


@pytest.mark.parametrize("factor", [0.0, 1.1])
@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.__name__)
def test_a_backward_that_is_wrong_by_a_factor_is_caught(monkeypatch, op, factor):
    case = simplest_case(op)
    monkeypatch.setattr(op, "backward", spoiled(op.backward, lambda gx: gx * factor))
    with pytest.raises(GradcheckError) as error:
        gradcheck(case.ours, case.inputs(), h=case.h)
    wrong_by = factor ** USES[case.name][op]
    assert error.value.analytic == pytest.approx(wrong_by * error.value.numeric, rel=1e-4, abs=1e-6)


def lossy_sum_to(gx, shape, where=""):
    """Takes the first of the repeats instead of their sum: right in shape and dtype."""
    lead = gx.ndim - len(shape)
    first = tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)
    return gx[(*(0,) * lead, *first)].reshape(shape)


BROADCASTING = [case for case in CASES if "broadcast" in case.name]


@pytest.mark.parametrize("case", BROADCASTING, ids=lambda case: case.name)
def test_a_dropped_broadcast_sum_is_caught(monkeypatch, case):
    monkeypatch.setattr(minidiff.ops, "sum_to", lossy_sum_to)
    with pytest.raises(GradcheckError):
        gradcheck(case.ours, case.inputs())


INPUTS = {"GroupNorm": 3, "GroupNormGELU": 3, "Conv2d": 3, "ConvTranspose2d": 3, "Mul": 2, "Div": 2, "MatMul": 2,
         "Sub": 2, "Add": 2, "Where": 2, "MSELoss": 2}  # fmt: skip


@pytest.mark.parametrize(("op", "i"), [(op, i) for op, n in INPUTS.items() for i in range(n)])
def test_one_wrong_gradient_among_several_is_caught_and_named(monkeypatch, op, i):
    (op,) = (o for o in OPERATIONS if o.__name__ == op)
    case = next(c for c in CASES if USES[c.name] == {op: 1} and len(c.draws) > i)

    def wrong(self, gy, backward=op.backward):
        gxs = list(backward(self, gy))
        gxs[i] = gxs[i] * 1.01
        return tuple(gxs)

    monkeypatch.setattr(op, "backward", wrong)
    with pytest.raises(GradcheckError, match=rf"^{op.__name__}: gradient of input {i} at index \(.*\): analytic .*, numeric "):
        gradcheck(case.ours, case.inputs())


@pytest.mark.parametrize("op", [op for op in OPERATIONS if issubclass(op, FusedOp)], ids=lambda op: op.__name__)
def test_a_reference_that_is_wrong_by_a_factor_is_caught(monkeypatch, op):
    """Values are compared with the reference, so it cannot be wrong unseen either."""
    case = simplest_case(op)
    reference = op.reference
    monkeypatch.setattr(op, "reference", staticmethod(lambda *inputs, **options: reference(*inputs, **options) * 1.01))
    y = case.ours(*map(Tensor, case.inputs())).data
    assert not np.allclose(y, case.expected(*case.inputs()), rtol=1e-3)
