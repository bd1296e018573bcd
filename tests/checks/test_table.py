"""`minidiff gradcheck`: what the table holds, what it prints, and how the command leaves."""

import inspect
import json
import re

import numpy as np
import pytest

from minidiff import cli, ops
from minidiff.autograd import Op
from minidiff.checks import CASES, Case, mutations, table
from minidiff.checks.case import normal
from minidiff.checks.table import Row, as_text, measure, select, summary
from minidiff.errors import BadInput
from minidiff.nn import functional as F


def say(capsys, *argv):
    """Exit status, stdout and stderr of a command."""
    status = cli.main(["gradcheck", *map(str, argv)])
    return (status, *capsys.readouterr())


class Wrong(Op):
    """y = 2x            and a gradient of 3 gy"""

    def forward(self, x):
        return 2.0 * x

    def backward(self, gy):
        return gy * 3.0


RIGHT = Case("right", lambda x: x * 2.0, (normal(2),), lambda x: 2.0 * x)
WRONG = Case("wrong, gradient", lambda x: Wrong()(x), (normal(2),), lambda x: 2.0 * x)
WRONG_VALUE = Case("wrong, value", lambda x: x * 2.0, (normal(2),), lambda x: 2.1 * x)
CRASHING = Case("crashing", lambda x: x.reshape(3), (normal(2),), lambda x: x)


# -------------------------------------------------------------------------------------- the rows


def test_every_public_differentiable_operation_is_listed_and_passes():
    rows = measure(orders=(1,))  # order 2 of every case is in tests/ops; once is enough
    assert not [line for row in rows for line in row.failures]
    names = [row.operation for row in rows]
    public = {n for module in (ops, F) for n in module.__all__ if inspect.isfunction(getattr(module, n))}
    assert sorted(names, key=str.lower) == names and len(public - set(names)) < 12  # those that have no derivative
    for row in rows:
        assert set(row.orders) == {1} and set(row.values) == set(row.gradients) == {"float32", "float64"}
        assert max(row.orders.values()) < 1e-6, row
    assert sum(row.cases for row in rows) == len(CASES)
    assert f"{len(rows)} operations, {len(CASES)} cases, order 1: all pass" in summary(rows, (1,))


def test_only_what_is_asked_for_is_measured():
    (row,) = measure(["exp"], orders=(2,), dtypes=("float32",))
    assert (set(row.orders), set(row.values), set(row.gradients)) == ({2}, {"float32"}, {"float32"})
    (row,) = measure(["exp"], orders=(), dtypes=())
    assert (row.orders, row.values, row.gradients, row.passed) == ({}, {}, {}, True)


def test_float32_is_rounded_and_float64_is_not():
    (row,) = measure(["exp"])
    assert 1e-9 < row.values["float32"] < 1e-6 and row.values["float64"] < 1e-15


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (WRONG, r"wrong, gradient: order 1, gradient of input 0 at \(\d,\): analytic -?[\d.]+, numeric -?[\d.]+"),
        (WRONG_VALUE, r"wrong, value: value in float32: error [\d.e-]+, limit 5e-06"),
        (CRASHING, r"crashing: BadInput: reshape: \(2,\) has 2 elements, which do not make \(3,\)"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_failure_is_one_line_and_does_not_end_the_table(case, failure):
    rows = measure(cases=[case, RIGHT])
    assert [row.passed for row in rows] == [row.operation == "right" for row in rows]
    (wrong,) = (row for row in rows if not row.passed)
    assert re.fullmatch(failure, wrong.failures[0])
    text = as_text(rows, (1, 2), ("float32", "float64"))
    assert re.search(rf"^{wrong.operation} .* FAIL$", text, re.M) and re.search("^right .* pass$", text, re.M)
    assert f"\nFAIL  {wrong.failures[0]}\n" in text
    assert re.search(r"2 operations, 2 cases, orders 1 and 2: 1 FAIL \(\d+\.\d s\)$", text)


def test_one_name_may_hold_right_and_wrong_cases():
    (row,) = measure(cases=[WRONG, WRONG_VALUE])
    assert row.cases == 2 and len(row.failures) == 3  # one in order 1, one in each dtype


def test_columns_are_aligned_whatever_the_numbers():
    rows = [
        Row("a", 1, {1: 0.0, 2: 1e-9}, {"float32": 1.0}, {"float32": 0.5}, 0.001),
        Row("a_long_name", 120, {1: float("inf")}, {}, {}, 12.5, ["a_long_name: it fails"]),
    ]
    lines = as_text(rows, (1, 2), ("float32",)).splitlines()
    header, first, second = lines[1:4]
    assert len(first) == len(second) and header.endswith("time")
    for name in ("order 1", "order 2", "value", "gradient"):
        end = header.index(name) + len(name)
        assert first[end - 1] != " " and second[end - 1] != " " and first[end] == second[end] == " "
    assert all(len(line) <= 80 for line in lines[:4])


def test_colour_changes_nothing_but_the_colour():
    rows = measure(cases=[WRONG, RIGHT])
    plain = as_text(rows, (1, 2), ("float32",))
    painted = as_text(rows, (1, 2), ("float32",), colour=True)
    assert painted != plain and re.sub("\x1b\\[\\d+m", "", painted) == plain


def test_json_has_no_infinities():
    row = Row("a", 1, {1: float("inf")}, {"float32": 1.23456e-7})
    assert json.loads(json.dumps(row.to_json(), allow_nan=False))["orders"] == {"1": None}
    assert row.to_json()["values"] == {"float32": 1.23e-7}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convd2", "gradcheck: there is no operation 'convd2'; did you mean conv2d"),
        ("qqqq", "gradcheck: there is no operation 'qqqq'; without a name all are checked"),
    ],
)
def test_an_unknown_operation_is_answered_with_near_names(name, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}"):
        select([name], CASES)


# ----------------------------------------------------------------------------------- the command


def test_the_command_prints_the_table_and_leaves_with_0(capsys):
    status, out, err = say(capsys, "exp", "where")
    assert (status, err) == (0, "")
    assert re.match(r" +differences +float32 +float64\noperation +cases +order 1 +order 2 ", out)
    assert re.search(r"^exp +3 .* pass$", out, re.M) and re.search(r"^where +\d .* pass$", out, re.M)
    assert re.search(r"\n2 operations, \d+ cases, orders 1 and 2: all pass \(\d\.\d s\)\n$", out)


def test_options_choose_the_columns(capsys):
    _, out, _ = say(capsys, "exp", "--order", 2, "--dtype", "float64")
    assert "order 2" in out and "order 1" not in out and "float64" in out and "float32" not in out
    assert "order 2: all pass" in out


def test_the_command_leaves_with_1_where_something_fails(capsys, monkeypatch):
    monkeypatch.setattr(ops.elementwise.Exp, "backward", lambda self, gy: gy)
    status, out, _ = say(capsys, "exp", "sin")
    assert status == 1
    assert re.search(r"^FAIL  exp, shape \(\): order 1, gradient of input 0 at \(\): analytic ", out, re.M)
    assert re.search(r"orders 1 and 2: 1 FAIL \(", out)


def test_the_record_says_what_the_table_says(capsys, tmp_path):
    path = tmp_path / "record.json"
    status, out, _ = say(capsys, "exp", "abs", "--json", path)
    record = json.loads(path.read_text())
    assert status == 0 and out.endswith(f"wrote {path}\n")
    assert record["passed"] is True and record["cases"] == 6 and record["orders"] == [1, 2]
    assert [row["operation"] for row in record["rows"]] == ["abs", "exp"]
    assert set(record["rows"][0]["values"]) == {"float32", "float64"}
    assert {"command", "commit", "time", "versions"} <= set(record)


def test_the_figure_is_written(capsys, tmp_path):
    path = tmp_path / "new" / "u-curve.png"
    status, out, _ = say(capsys, "exp", "--order", 1, "--figure", path)
    assert status == 0 and out.endswith(f"wrote {path}\n") and path.read_bytes().startswith(b"\x89PNG")


def test_mutants_are_counted_by_kind(capsys, tmp_path):
    path = tmp_path / "mutants.json"
    status, out, err = say(capsys, "exp", "--mutants", "--json", path)
    assert (status, err) == (0, "")
    assert re.match(r"mistake +mutants +caught\nzero +1 +1\n", out)
    assert re.search(r"\n\d+ mutants of 1 operation: all caught\n", out)
    record = json.loads(path.read_text())
    assert record["mutants"] == record["caught"] == len(record["verdicts"]) >= 10


def test_a_mutant_that_is_missed_makes_the_command_fail(capsys, monkeypatch):
    monkeypatch.setattr(mutations, "gradcheck", lambda *args, **options: True)  # blind
    status, out, _ = say(capsys, "exp", "--mutants")
    assert status == 1 and re.search("^MISSED  Exp: zero, input 0$", out, re.M) and out.endswith("MISSED\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["convd2"], "gradcheck: there is no operation 'convd2'; did you mean conv2d"),
        (["--mutants", "convd2"], "gradcheck: there is no operation 'convd2'; did you mean conv2d"),
        (["--order", "3"], "gradcheck: argument --order: invalid choice: '3'"),
        (["--dtype", "int8"], "gradcheck: argument --dtype: invalid choice: 'int8'"),
        (["--json", "a.txt"], "--json a.txt: unknown ending '.txt'; it must be .json"),
        (["--figure", "a.gif"], "--figure a.gif: unknown ending '.gif'; it must be .png, .pdf, .svg"),
        (["--mutants", "--figure", "a.png"], "gradcheck: --figure draws the errors of differences; give it without --mutants"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_input_is_one_line_and_status_2(capsys, tmp_path, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(table, "measure", None)  # answered before any work
    status, out, err = say(capsys, *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"minidiff: {message}") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_there_is_no_progress_bar_where_stderr_is_no_terminal(capsys):
    assert say(capsys, "exp")[2] == ""


def test_rows_measure_on_numbers_that_float32_holds():
    """Otherwise its error would be that of rounding the inputs, not of the operation."""
    (row,) = measure(cases=[Case("identity", lambda x: x * 1.0, (lambda rng: np.array([0.1]),), lambda x: x)])
    assert row.values["float32"] == 0.0
