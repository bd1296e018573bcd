"""Chapter 2: the walk backwards, and what a product does on the way."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def backward_order(last, inputs):
    """The operations that `last` depends on, each once, in an order in which gradients can be handed back.

    Operations are numbered in the order in which they were made, so that the inputs of one are always older, and have
    smaller numbers: inputs[i] is a list of the numbers of i's inputs.

        the youngest first: when its turn comes, all who use its result have had theirs

    Graphs get deep. A chain of 20,000 operations must do, and Python allows about 1,000 calls inside each other.
    """
    seen, stack = {last}, [last]
    while stack:
        for i in inputs[stack.pop()]:
            if i not in seen:
                seen.add(i)
                stack.append(i)
    return sorted(seen, reverse=True)


def backprop(tape, result):
    """The slope of `result` along every number on the tape.            # -> {name: slope}

    tape is a list, in the order of computing, of pairs (name, inputs); inputs is a list of pairs (name of the input, slope
    of this operation along it), empty for the numbers that all began with.

        slope of the result along itself: 1
        slope along x: the sum, over every use of x in some y, of (slope along y) · (slope of y along x)
    """
    grads = {name: 0.0 for name, _ in tape}
    grads[result] = 1.0
    for name, inputs in reversed(tape):
        for x, slope in inputs:
            grads[x] += grads[name] * slope
    return grads


def matmul_backward(a, b, gy):
    """The gradients of y = a @ b, for a whole batch of a and one b.            # (N,I,K) (K,J) (N,I,J) -> (N,I,K), (K,J)

        y[n,i,j] = Σ_k a[n,i,k] b[k,j]

        ga[n,i,k] = Σ_j gy[n,i,j] b[k,j],        gb[k,j] = Σ_{n,i} a[n,i,k] gy[n,i,j]
    """
    ga = gy @ b.T
    gb = (a.transpose(0, 2, 1) @ gy).sum(axis=0)
    return ga, gb


def _order(last, inputs):
    needed = np.zeros(last + 1, bool)
    needed[last] = True
    for i in range(last, -1, -1):
        if needed[i]:
            needed[inputs[i]] = True
    return [i for i in range(last, -1, -1) if needed[i]]


def _by_paths(tape, result):
    """The sum over all paths, of the product of the slopes on each."""
    uses = {name: [] for name, _ in tape}
    for name, inputs in tape:
        for x, slope in inputs:
            uses[x].append((name, slope))

    def along(x):
        return (x == result) + sum(slope * along(y) for y, slope in uses[x])

    return {name: float(along(name)) for name, _ in tape}


def _matmul(a, b, gy):
    a, b = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    ops.matmul(a, b).backward(gy)
    return a.grad.numpy(), b.grad.numpy()


_DEEP = [[]] + [[i] for i in range(20_000)]
_TAPES = [
    ([("x", []), ("u", [("x", 3.0)]), ("y", [("u", -2.0)])], "y"),
    ([("x", []), ("w", []), ("u", [("x", 2.0), ("w", 5.0)]), ("y", [("u", 1.5), ("u", 1.5)])], "y"),
    ([("x", []), ("a", [("x", 2.0)]), ("b", [("x", -1.0), ("a", 0.5)]), ("c", [("b", 4.0), ("a", 3.0)]), ("d", [("c", 7.0)])], "c"),
]

TASKS = [
    Task(
        backward_order, "Whose turn is it?", 2, "medium", 15,
        reference=_order,
        cases=lambda rng: [
            (4, [[], [], [0, 1], [2, 2], [3, 0]]), (3, [[], [], [1], [1, 2], [3]]), (20_000, _DEEP),
            (7, [[], [0], [], [1], [1, 3], [2], [4, 3], [6, 3]]),
        ],
        hints=(
            "There are two questions: which operations are needed, and in which order. The numbers answer the second.",
            "Collect with a stack instead of calls: take one, look at its inputs, put those that you have not seen onto the stack.",
            "seen = {last}; stack = [last]; while stack: for i in inputs[stack.pop()]: if i not in seen: add it to both. Then sorted(seen, reverse=True).",
        ),
        slips=[
            ("return sorted(seen, reverse=True)", "return sorted(seen)", "this is the order of computing; gradients go the other way"),
            ("return sorted(seen, reverse=True)", "return list(range(last, -1, -1))", "operations that the result does not depend on are in it"),
            ("    seen, stack = {last}, [last]\n    while stack:\n        for i in inputs[stack.pop()]:\n            if i not in seen:\n                seen.add(i)\n                stack.append(i)\n    return sorted(seen, reverse=True)",
             "    def visit(i, seen):\n        seen.add(i)\n        for j in inputs[i]:\n            if j not in seen:\n                visit(j, seen)\n        return seen\n\n    return sorted(visit(last, set()), reverse=True)",
             "a function that calls itself ends at a depth of about 1,000: keep a stack of your own"),
            ("    seen, stack = {last}, [last]\n    while stack:\n        for i in inputs[stack.pop()]:\n            if i not in seen:\n                seen.add(i)\n                stack.append(i)\n    return sorted(seen, reverse=True)",
             "    order, stack = [], [last]\n    while stack:\n        i = stack.pop()\n        if i not in order[-9:]:\n            order.append(i)\n            stack.extend(inputs[i])\n    return order",
             "in the order of finding them, an operation may come before one that uses its result: take the youngest first"),
        ],
    ),
    Task(
        backprop, "Where arrows meet", 2, "easy", 15,
        reference=_by_paths,
        cases=lambda rng: _TAPES,
        hints=(
            "Go through the tape from its end. Everybody who is reached hands on what he has got so far.",
            "For each input x of y: grads[x] grows by grads[y] times the slope of y along x. It grows: x may be used again.",
            "grads = all 0, grads[result] = 1; for name, inputs in reversed(tape): for x, slope in inputs: grads[x] += grads[name] * slope.",
        ),
        slips=[
            ("grads[x] += grads[name] * slope", "grads[x] = grads[name] * slope", "a number that is used twice gets the sum of both: add, do not overwrite"),
            ("in reversed(tape)", "in tape", "the walk goes from the result to the beginning: from the end of the tape"),
            ("grads[x] += grads[name] * slope", "grads[x] += slope", "the chain rule is missing: the slope must be multiplied by what came from above"),
            ("grads[result] = 1.0", "grads[tape[-1][0]] = 1.0", "the walk begins at the result that was asked for, which need not be the last of the tape"),
        ],
    ),
    Task(
        matmul_backward, "Backwards through a product", 2, "easy", 10,
        reference=_matmul, outputs=("ga", "gb"),
        cases=lambda rng: [
            (rng.standard_normal((n, i, k)), rng.standard_normal((k, j)), rng.standard_normal((n, i, j)))
            for n, i, k, j in [(1, 2, 3, 4), (3, 2, 5, 4), (2, 3, 3, 3)]
        ],
        hints=(
            "The shapes leave hardly a choice: ga is made of gy and b, gb of a and gy, and the sizes must fit.",
            "ga = gy bᵀ, and for each n aᵀ gy; b is shared by all n, so these are added up.",
            "ga = gy @ b.T and gb = (a.transpose(0, 2, 1) @ gy).sum(axis=0).",
        ),
        slips=[
            ("(a.transpose(0, 2, 1) @ gy).sum(axis=0)", "a.transpose(0, 2, 1) @ gy", "the sum over the batch is missing in gb: all samples share b"),
            ("(a.transpose(0, 2, 1) @ gy).sum(axis=0)", "(a.transpose(0, 2, 1) @ gy).mean(axis=0)", "gb is the sum over the batch, not the mean"),
            ("ga = gy @ b.T", "ga = gy @ b", "b must be transposed in ga"),
            ("return ga, gb", "return gb, ga", "ga and gb are exchanged"),
        ],
    ),
]  # fmt: skip
