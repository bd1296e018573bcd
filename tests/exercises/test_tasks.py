"""Every solution passes, every stub is to do, every planted wrong answer is told by name."""

import ast
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from minidiff.errors import BadInput
from minidiff.exercises import find
from minidiff.exercises.labs import FAULTS, LABS
from minidiff.exercises.marking import FAILED, PASSED, TODO, WRONG, mark, mark_file
from minidiff.exercises.proving import Proof, prove, prove_task
from minidiff.exercises.task import LEVELS, KernelTask, Slip, changed
from minidiff.exercises.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
NEEDS_GXX = pytest.mark.skipif(shutil.which("g++") is None, reason="emulating CUDA kernels needs g++")
ALL = [pytest.param(task, id=name, marks=NEEDS_GXX if isinstance(task, KernelTask) else ()) for name, task in TASKS.items()]


def written(task, text, name="mine"):
    """A learner's function of this text."""
    return task._function(text, name)


@pytest.mark.parametrize("task", ALL)
def test_the_solution_passes_the_stub_is_to_do_and_every_wrong_answer_is_told_by_name(task, tmp_path):
    proof = Proof()
    prove_task(task, tmp_path, proof)
    assert proof.against == []
    assert (proof.solutions, proof.stubs, proof.caught) == (1, 1, len(task.mistakes))


def test_there_are_enough_of_them_and_the_record_counts_them_rightly():
    record = json.loads((ROOT / "chapters" / "results" / "exercises.json").read_text(encoding="utf-8"))
    mistakes = sum(len(task.mistakes) for task in TASKS.values())
    assert len(TASKS) >= 25 and mistakes >= 60
    assert (record["tasks"], record["solutions"], record["stubs"]) == (len(TASKS),) * 3
    assert record["mistakes"] == record["caught"] == mistakes and record["labs"] == record["found"] == len(LABS)
    assert record["against"] == record["skipped"] == []


def test_there_is_something_to_do_for_every_chapter():
    chapters = {int(path.name[:2]) for path in (ROOT / "chapters").glob("[0-9][0-9]_*.py")}
    assert {task.chapter for task in TASKS.values()} == chapters


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_task_says_what_is_to_be_done_and_helps_in_three_stages(task):
    assert task.level in LEVELS and 0 < task.minutes <= 60 and len(task.hints) == 3 and len(set(task.hints)) == 3
    assert len(task.statement()) > 40 and len(task.mistakes) >= 3
    causes = [slip.cause for slip in task.mistakes]
    assert len(set(causes)) == len(causes)


@pytest.mark.parametrize("task", [t for t in TASKS.values() if not isinstance(t, KernelTask)], ids=lambda task: task.name)
def test_a_stub_tells_all_but_the_answer(task):
    stub = ast.parse(task.stub()).body[-1]
    assert ast.get_docstring(stub) == task.statement()
    assert [type(node) for node in stub.body] == [ast.Expr, ast.Raise]
    body = ast.parse(task.source()).body[0].body[1:]
    assert ast.unparse(body[-1]) not in task.stub()


def test_cases_are_always_the_same_and_no_two_runs_share_arrays():
    first, second = (TASKS["conv2d_backward"].arguments() for _ in range(2))
    assert np.array_equal(first[1][0], second[1][0]) and first[1][0] is not second[1][0]


def test_a_slip_must_have_its_place_in_the_solution():
    with pytest.raises(ValueError, match=r"'y' stands 2 times in the solution; it must once"):
        changed("y + y", Slip("y", "x", ""))


def test_a_proof_says_what_does_not_hold(monkeypatch):
    task = TASKS["log_snr"]
    lame = [*task.mistakes[:1], Slip("alpha_bar[1:]", "alpha_bar[1:] + 0", "no mistake at all")]
    monkeypatch.setattr(type(task), "mistakes", lame)
    proof = prove([task], with_labs=False)
    assert not proof.holds and proof.caught == 1 and "'alpha_bar[1:] + 0' is passed, and said to be: -" in str(proof)


# ------------------------------------------------------------------------------------- not only our own text

OTHERWISE = {
    "sum_to": """
def sum_to(gy, shape):
    while gy.ndim > len(shape):
        gy = gy.sum(0)
    for i, n in enumerate(shape):
        if n == 1:
            gy = gy.sum(i, keepdims=True)
    return gy
""",
    "strides": """
def strides(shape, itemsize):
    return [itemsize * math.prod(shape[i + 1:]) for i in range(len(shape))]
""",
    "matmul_backward": """
def matmul_backward(a, b, gy):
    return [np.einsum("nij,kj->nik", gy, b), np.einsum("nik,nij->kj", a, gy)]
""",
    "conv2d_backward": """
def conv2d_backward(x, w, gy, stride, padding):
    k, p = w.shape[2], padding
    wide = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    gx, gw = np.zeros_like(wide), np.zeros_like(w)
    for i in range(gy.shape[2]):
        for j in range(gy.shape[3]):
            rows, columns = slice(i * stride, i * stride + k), slice(j * stride, j * stride + k)
            gw += np.einsum("no,ncuv->ocuv", gy[:, :, i, j], wide[:, :, rows, columns])
            gx[:, :, rows, columns] += np.einsum("no,ocuv->ncuv", gy[:, :, i, j], w)
    return gx[:, :, p:gx.shape[2] - p, p:gx.shape[3] - p], gw, gy.sum((0, 2, 3))
""",
    "group_norm": """
def group_norm(x, gamma, beta, groups, eps):
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for n in range(len(x)):
        for c in range(0, x.shape[1], size):
            part = x[n, c:c + size]
            y[n, c:c + size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return y * gamma.reshape(1, -1, 1, 1) + beta.reshape(1, -1, 1, 1)
""",
    "guided": "def guided(cond, uncond, w):\n    return cond + w * (cond - uncond)\n",
    "drop_labels": "def drop_labels(labels, rate, u):\n    out = labels.copy()\n    out[u < rate] = -1\n    return out\n",
    "heun_step": """
def heun_step(slope, z, S_t, S_s):
    first = slope(z, S_t)
    ahead = z + (S_s - S_t) * first
    return 0.5 * (ahead + z + (S_s - S_t) * slope(ahead, S_s))
""",
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_solution_of_another_kind_passes_too(name):
    assert mark(TASKS[name], written(TASKS[name], f"import math\nimport numpy as np\n{OTHERWISE[name]}")).status == PASSED


SAME_MISTAKE = [  # the mistake in other words than ours, and its cause
    ("sum_to", "def sum_to(gy, shape):\n    while gy.ndim > len(shape):\n        gy = gy[0]\n    for i, n in enumerate(shape):\n"
     "        if n == 1:\n            gy = gy.sum(i, keepdims=True)\n    return gy\n", "the sum over the axes in front (the batch) is missing"),
    ("guided", "def guided(cond, uncond, w):\n    return cond - w * (cond - uncond)\n", "the sign of w is the wrong one"),
    ("q_sample", "def q_sample(x0, t, eps, alpha_bar):\n    a = alpha_bar[t][(...,) + (None,) * (x0.ndim - 1)]\n    return x0 * a + eps - a * eps\n",
     "the roots are missing"),
    ("matmul_backward", "def matmul_backward(a, b, gy):\n    return np.einsum('nij,kj->nik', gy, b), np.einsum('nik,nij->nkj', a, gy)\n", "the sum over the batch is missing in gb"),
    ("adam_step", "def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):\n    m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g * g - v)\n"
     "    return p - lr * m / (v ** 0.5 + eps), m, v\n", "the correction by 1 − βᵗ is missing"),
    ("embedding_backward", "def embedding_backward(labels, gy, classes):\n    g = np.zeros((classes, gy.shape[1]))\n    for k, row in zip(labels, gy):\n"
     "        g[k] = row\n    return g\n", "counts a class that occurs several times only once"),
    ("backward_order", "def backward_order(last, inputs):\n    found = []\n    def walk(i):\n        if i not in found:\n            for j in inputs[i]:\n"
     "                walk(j)\n            found.append(i)\n    walk(last)\n    return sorted(found)[::-1]\n", "a function that calls itself ends at a depth of about 1,000"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "cause"), SAME_MISTAKE, ids=[name for name, _, _ in SAME_MISTAKE])
def test_a_known_mistake_is_known_in_other_words_too(name, text, cause):
    verdict = mark(TASKS[name], written(TASKS[name], f"import numpy as np\n{text}"))
    assert verdict.status in (WRONG, FAILED) and cause in verdict.cause


# ------------------------------------------------------------------------------------- what no task knows

UNKNOWN = [
    ("film", "pass", "nothing is returned: a return is missing"),
    ("film", "return h", "it is h as it came"),
    ("film", "return 0 * h", "it is zero everywhere"),
    ("film", "return 'done'", "a str is returned that is no array of numbers"),
    ("film", "return -right", "the sign is the wrong one"),
    ("film", "return 2.5 * right", "it is 2.5 times what it should be"),
    ("film", "return right / h.shape[1]", "(1/h.shape[1], which is 3: a mean in the place of a sum?)"),
    ("film", "return right + 0.5", "every number is off by +0.5"),
    ("film", "return right[:, ::-1]", "it is the wrong way round along axis 1"),
    ("film", "return right.swapaxes(2, 3)", "axes 2 and 3 are exchanged"),
    ("matmul_backward", "return right[0], right[1].T", "axes 0 and 1 are exchanged"),
    ("film", "return right.ravel()", "in another shape (reshape)"),
    ("film", "return right[:, None]", "axes of length 1 are too many or missing (keepdims, reshape)"),
    ("film", "return right.sum(0)", "there is a sum over axis 0 too many (the batch)"),
    ("film", "return np.sqrt(-abs(right))", "there is NaN in it"),
    ("film", "return right.astype(np.float32).astype(float)", "it is nearly right"),
    ("film", "h += 1\n    return right", "h itself was changed: somebody else may need it; work on a copy"),
    ("film", "return (right, right)", "2 things are returned, and there should be one"),
    ("conv2d_backward", "return right[0]", "gx, gw, gb must be returned, in this order; one ndarray came"),
    ("conv2d_backward", "return right[0], right[2], right[1]", "it is gb: the order is gx, gw, gb"),
    ("conv2d_backward", "return right[0], right[1]", "gx, gw, gb must be returned, in this order; 2 things came"),
    ("conv2d_backward", "right[0][..., 0, :] = 0\n    return right", "it is wrong at the border only (padding?)"),
    ("uniform", "return right.astype(np.float64)", "the numbers are to be float32"),
    ("backprop", "return {k: v for k, v in right.items() if k != 'x'}", "'x' is missing in the result"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "body", "cause"), UNKNOWN, ids=[f"{name}: {body}" for name, body, _ in UNKNOWN])
def test_a_mistake_that_no_task_knows_is_read_from_the_result(name, body, cause):
    task = TASKS[name]
    text = f"{task.solution_file().replace(f'def {name}(', 'def ours(')}\n\ndef {name}({', '.join(task.parameters)}):\n    right = ours({', '.join(task.parameters)})\n    "
    verdict = mark(task, written(task, text + body + "\n"))
    assert verdict.status == WRONG and cause in verdict.cause, verdict
    assert verdict.case


def test_a_verdict_names_the_first_wrong_place_what_should_be_there_and_how_far_it_is():
    task = TASKS["q_sample"]
    right = written(task, task.solution_file())

    def mine(x0, t, eps, alpha_bar):
        y = right(x0, t, eps, alpha_bar)
        if x0.ndim == 4:
            y[2, 0, 1, 2] += 0.25
            y[3, 0, 0, 0] -= 0.5
        return y

    verdict = mark(task, mine)
    assert (verdict.status, verdict.place) == (WRONG, "result[2,0,1,2]")
    assert float(verdict.got) - float(verdict.expected) == pytest.approx(0.25, abs=1e-6)
    assert verdict.error == "0.5; 2 of 36 numbers wrong" and verdict.case.startswith("x0 (4, 1, 3, 3), t [")


def test_a_cause_that_fits_one_case_only_is_no_cause():
    """−2 (z − h k) is a constant times −2 (z + h k); only the other cases show that it is not the factor."""
    task = TASKS["heun_step"]
    text = task.solution_file().replace("k2 = slope(z + h * k1, S_s)", "k2 = slope(z - h * k1, S_s)")
    assert mark(task, written(task, text)).cause == ""


def test_an_output_is_called_by_its_name():
    task = TASKS["group_norm_backward"]
    right = written(task, task.solution_file())
    verdict = mark(task, lambda *a: (right(*a)[0], right(*a)[1] * np.arange(len(a[1])), right(*a)[2]))
    assert verdict.place == "g_gamma[0]"


def test_a_kernel_that_does_not_compile_is_told_with_its_line(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("emulating CUDA kernels needs g++")
    task = TASKS["noisy"]
    text = task.solution_file().replace("const int step = t[i / size];", "const int step = t[i / size]")
    (tmp_path / "k.cu").write_text(text, encoding="utf-8")
    line = next(i for i, one in enumerate(text.splitlines(), 1) if "const int step" in one)
    verdict = mark_file(task, tmp_path / "k.cu")
    assert verdict.status == FAILED and any(verdict.cause.startswith(f"RuntimeError: line {n}: expected ") for n in (line, line + 1)), verdict


def test_without_a_compiler_a_kernel_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    task = TASKS["row_sum"]
    (tmp_path / "k.cu").write_text(task.solution_file().replace("total", "sum"), encoding="utf-8")
    assert "needs the compiler g++, which was not found" in mark_file(task, tmp_path / "k.cu").cause
    assert prove([task], with_labs=False).skipped == ["row_sum"]


@pytest.mark.parametrize(("given", "name"), [("sum_to", "sum_to"), ("2", "sum_to"), ("02_sum_to.py", "sum_to"), ("a/b/02_sum_to.py", "sum_to"), ("02", "sum_to"), ("71", "linear_loss")])
def test_a_task_is_found_by_name_number_and_file(given, name):
    assert find(given).name == name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("sum_too", "exercises: there is no exercise 'sum_too'; did you mean sum_to?"),
        ("conv2d_backwards", "exercises: there is no exercise 'conv2d_backwards'; did you mean conv2d_backward or "),
        ("0", "exercises: there is no exercise '0'; there are 1 to 71; minidiff exercises list names them"),
        ("99", "exercises: there is no exercise '99'; there are 1 to 71; minidiff exercises list names them"),
    ],
)
def test_an_unknown_name_is_answered_with_those_like_it(given, message):
    with pytest.raises(BadInput) as error:
        find(given)
    assert str(error.value).startswith(message)


def test_every_fault_of_the_clinic_has_a_lab():
    from minidiff.clinic import CASES

    assert set(FAULTS) == {name for name, case in CASES.items() if case.find} and len(LABS) == len(FAULTS)


def test_todo_is_not_wrong():
    assert mark(TASKS["film"], written(TASKS["film"], TASKS["film"].stub())).status == TODO
