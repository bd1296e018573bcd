"""Would the checks notice a wrong gradient? Each operation is broken on purpose, and a check must say so."""

import functools

import numpy as np
import pytest

from minidiff import ops
from minidiff.autograd import FusedOp
from minidiff.checks import CASES, mutations
from minidiff.checks.mutations import (
    DETACHED,
    DROPPED,
    LOSSY_SUM,
    MISTAKES,
    SWAPPED,
    UNWEIGHTED,
    WRONG_REFERENCE,
    Mutant,
    Use,
    Verdict,
    changes,
    hunt,
    mutants,
    operations,
    uses,
)
from minidiff.gradcheck import GradcheckError, gradcheck

OPERATIONS = operations()
all_mutants = functools.cache(mutants)


def case_of(name):
    (case,) = (case for case in CASES if case.name == name)
    return case


def operation(name):
    (op,) = (op for op in OPERATIONS if op.__name__ == name)
    return op


# ------------------------------------------------------------------------------------ all of them


def test_every_operation_has_a_case():
    used = {use.op for case in CASES for use in uses(case)}
    missing = [op.__name__ for op in OPERATIONS if op not in used]
    assert not missing, f"add a case for {missing} to minidiff/checks"
    assert {ops.conv.Conv2d, ops.elementwise.Add, ops.norm.GroupNormGELU} <= set(OPERATIONS)  # the search does search


def test_every_mutant_is_caught(capsys):
    verdicts = list(hunt(all_mutants()))
    with capsys.disabled():
        print(f"\n{mutations.summary(verdicts)}")
    assert not [str(verdict.mutant) for verdict in verdicts if not verdict.caught]
    assert len(verdicts) > 10 * len(OPERATIONS)


@pytest.mark.parametrize("op", OPERATIONS, ids=lambda op: op.__name__)
def test_every_operation_is_broken_in_every_way_that_any_gradient_can_be(op):
    """The mistakes that change any gradient that is not zero; a wrong reference where there is one."""
    made = {mutant.mistake for mutant in all_mutants() if mutant.op is op}
    expected = {"zero", "scaled by 1.1", "sign", "a constant added", UNWEIGHTED, DETACHED}
    assert made >= expected | ({WRONG_REFERENCE} if issubclass(op, FusedOp) else set())


@pytest.mark.parametrize("op", ["Conv2d", "ConvTranspose2d", "MatMul", "GroupNorm", "Softmax", "Reshape"])
def test_the_order_of_a_gradients_elements_is_checked_too(op):
    made = {mutant.mistake for mutant in all_mutants() if mutant.op is operation(op)}
    assert made >= {"transposed", "backwards", "shifted by one", "one element lost"}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Where", "MatMul", "BroadcastTo"])
def test_a_broadcast_sum_can_be_forgotten_wherever_shapes_broadcast(op):
    assert Mutant(operation(op), LOSSY_SUM) in all_mutants()


# ------------------------------------------------------------------------ mistakes that are none


def use(*gradients, upstream=2.0, shapes=None):
    arrays = tuple(np.array(g, float) for g in gradients)
    return Use(operation("Mul"), np.array(upstream), arrays, shapes or tuple(g.shape for g in arrays), (True,) * len(arrays))


@pytest.mark.parametrize(
    ("mistake", "given", "expected"),
    [
        ("zero", use([1.0, 2.0]), True),
        ("zero", use([0.0, 0.0]), False),  # a gradient that is zero, as that of a constant
        ("sign", use([0.0, 0.0]), False),
        ("a constant added", use([0.0, 0.0]), True),
        ("backwards", use([1.0, 2.0]), True),
        ("backwards", use([3.0]), False),  # one number is the same from both ends
        ("backwards", use([1.0, 1.0]), False),
        ("shifted by one", use([3.0]), False),
        ("transposed", use([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), True),
        ("transposed", use([1.0, 2.0]), False),  # a row has no other order
        ("transposed", use([[1.0, 2.0], [2.0, 1.0]]), False),  # symmetric
        ("one element lost", use([1.0, 0.0]), False),
        (DROPPED, use([1.0], [2.0]), True),
        (DROPPED, use([1.0]), False),  # the only one: that is "zero"
        (SWAPPED, use([1.0, 2.0], [3.0, 4.0]), True),
        (SWAPPED, use([1.0, 2.0], [1.0, 2.0]), False),  # as those of a sum
        (SWAPPED, use([1.0, 2.0], [3.0]), False),
        (UNWEIGHTED, use([1.0]), True),
        (UNWEIGHTED, use([1.0], upstream=1.0), False),
        (LOSSY_SUM, use([[1.0, 2.0]], shapes=((1, 1),)), True),
        (LOSSY_SUM, use([[1.0, 2.0]]), False),
    ],
)
def test_a_mistake_that_changes_no_number_is_no_mutant(mistake, given, expected):
    assert changes(mistake, 0, given) is expected


def test_the_gradient_of_an_input_that_needs_none_cannot_be_wrong():
    one = Use(operation("Mul"), np.array(2.0), (np.ones(2), None), ((2,), (2,)), (True, False))
    assert [changes("zero", i, one) for i in (0, 1, 2)] == [True, False, False]


# --------------------------------------------------------------------------- the hunt is checked


def test_a_hole_in_the_checks_is_reported():
    """This case converts twice: two wrong signs make a right one."""
    mutant = Mutant(operation("AsType"), "sign", 0)
    verdicts = list(hunt([mutant], [case_of("astype")]))
    assert verdicts == [Verdict(mutant, None, None)]
    assert "\nMISSED  AsType: sign, input 0\n" in mutations.as_text(verdicts)
    assert mutations.summary(verdicts) == "1 mutant of 1 operation: 1 MISSED"


def test_a_mutant_lives_only_inside():
    for op, mistake in [("Exp", "zero"), ("GELU", WRONG_REFERENCE), ("GroupNormGELU", "sign"), ("Mul", LOSSY_SUM)]:
        op = operation(op)
        before, sum_to = dict(vars(op)), ops.sum_to
        with Mutant(op, mistake, 0).living():
            assert dict(vars(op)) != before or ops.sum_to is not sum_to
        assert dict(vars(op)) == before and ops.sum_to is sum_to


def test_a_crash_is_not_a_catch(monkeypatch):
    monkeypatch.setitem(MISTAKES, "zero", lambda g: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        list(hunt([Mutant(operation("Exp"), "zero", 0)]))


INPUTS = {"GroupNorm": 3, "GroupNormGELU": 3, "GroupNormSiLU": 3, "Conv2d": 3, "ConvTranspose2d": 3, "Mul": 2, "Div": 2, "MatMul": 2,
         "Sub": 2, "Add": 2, "Where": 2, "MSELoss": 2}  # fmt: skip


@pytest.mark.parametrize(("op", "i"), [(op, i) for op, n in INPUTS.items() for i in range(n)])
def test_one_wrong_gradient_among_several_is_named(monkeypatch, op, i):
    op = operation(op)
    case = next(c for c in CASES if [use.op for use in uses(c)] == [op] and len(c.draws) > i)
    monkeypatch.setitem(MISTAKES, "scaled by 1.1", lambda g: 1.01 * g)
    with (
        Mutant(op, "scaled by 1.1", i).living(),
        pytest.raises(GradcheckError, match=rf"^{op.__name__}: gradient of input {i} at index \(.*\): analytic .*, numeric "),
    ):
        gradcheck(case.ours, case.inputs())


def test_json_says_who_caught_whom():
    (verdict,) = hunt([Mutant(operation("Exp"), "zero", 0)])
    assert verdict.to_json() == {"operation": "Exp", "mistake": "zero", "input": 0, "caught_by": "order 1",
                                 "case": verdict.case}  # fmt: skip
