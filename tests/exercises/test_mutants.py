"""The cases notice every change of a solution that changes what it gives; and a wrong line is found by changing it back."""

import ast
import copy

import pytest

from minidiff.exercises.marking import PASSED, WRONG, mark, mark_file
from minidiff.exercises.suspects import suspects
from minidiff.exercises.task import KernelTask
from minidiff.exercises.tasks import TASKS

OTHER = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.BitXor: ast.BitOr,
    ast.RShift: ast.LShift, ast.Mod: ast.Add,
}  # fmt: skip
SAME = {  # changes that change nothing
    "sum_to": {"gx.shape[i] >= 1"},  # a sum over one number
    "conv2d": {"3", "-2"}, "conv2d_backward": {"3", "-2"},  # kernels are square; −2 means −1 to reshape
    "q_sample": {"-2"}, "group_norm": {"-2"}, "group_norm_backward": {"-2"}, "flow_pair": {"-2"},
    "time_embedding": {"dim / 2"},  # NumPy's arange takes 4.0
    "cosine_lr": {"k <= warmup"},  # both lines give the peak there
    "trace_estimate": {"vjp(v) / v"},  # of ±1
    "ring_sum": {"R + 1", "-2"},  # what is everywhere may go round once more
    "slant": {"x + (p * x).sum() / p.sum()", "(p * x).sum() * p.sum()"},  # Σ p (y − ȳ) is 0 whatever x is measured from
}  # fmt: skip


def sites(tree):
    """What can be changed, with the smallest expression around a constant."""
    for parent in ast.walk(tree):
        for node in [parent, *ast.iter_child_nodes(parent)]:
            if node is parent and isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OTHER:
                yield node, node
            elif node is parent and isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
                yield node, node
            elif node is not parent and isinstance(node, ast.Constant) and isinstance(node.value, int | float):
                yield node, parent if isinstance(parent, ast.UnaryOp) else node


def change(node):
    if isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Compare):
        node.ops[0] = OTHER[type(node.ops[0])]()
    else:
        node.op = OTHER[type(node.op)]()


@pytest.mark.parametrize("task", [t for t in TASKS.values() if not isinstance(t, KernelTask)], ids=lambda task: task.name)
def test_every_changed_solution_is_noticed(task):
    tree, alive = ast.parse(task.source()), []
    for i in range(len(list(sites(tree)))):
        mutant = copy.deepcopy(tree)
        node, around = list(sites(mutant))[i]
        change(node)
        try:
            function = task._function(task.file(ast.unparse(mutant)), "mutant")
        except Exception:
            continue
        if mark(task, function).status == PASSED:
            alive.append(ast.unparse(around))
    odd = [text for text in alive if text not in SAME.get(task.name, set())]
    assert odd == [], f"{task.name}: {odd}"


def test_the_wrong_line_is_named_but_not_the_cure(tmp_path):
    task, path = TASKS["heun_step"], tmp_path / "heun.py"
    path.write_text("def heun_step(slope, z, S_t, S_s):\n    h = S_s - S_t\n    k1 = slope(z, S_t)\n    k2 = slope(z - h * k1, S_s)\n    return z + 0.5 * h * (k1 + k2)\n")
    verdict = mark_file(task, path)
    assert verdict.status == WRONG and verdict.line == "line 4 of heun.py: k2 = slope(z - h * k1, S_s)"
    assert verdict.cause == "one sign, number or name there is not as it should be; all else is right"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("return (a + b) * c", [2]), ("return (b - a) * c", [2]), ("return (a - b) / c", [2]), ("return (a - b) * a", [2]), ("return (c - b) * c", [2]),
        ("return (a - b) * c", [2]), ("return (a - b) * c + 1", [2]), ("return 2 * (a - b) * c + 7", []), ("return undefined", []),
    ],
)  # fmt: skip
def test_one_sign_number_or_name_is_tried(line, found):
    text = f"def f(a, b, c):\n    {line}\n"
    assert suspects(text, "f", lambda f: f(7, 4, 5) == 15 and f(1, 5, 2) == -8) == (found if line != "return (a - b) * c" else [])


def test_a_loop_that_may_not_end_is_left_alone():
    text = "def f(n):\n    k = 0\n    while k < n:\n        k = k + 1\n    return k - 1\n"
    assert suspects(text, "f", lambda f: f(5) == 5) == [5]


def test_trying_stops_in_time(monkeypatch):
    monkeypatch.setattr("minidiff.exercises.suspects.SECONDS", 0.0)
    assert suspects("def f(a):\n    return a + 1\n", "f", lambda f: f(2) == 1) == []


def test_what_a_learner_prints_is_not_printed_again_and_again(capsys):
    assert suspects("print('hello')\n\n\ndef f(a):\n    print(a)\n    return a + 1\n", "f", lambda f: f(2) == 1) == [6]
    assert capsys.readouterr().out == ""
