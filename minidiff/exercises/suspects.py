"""Which line is it? Change one sign, number or name of the learner's function at a time, and see whether it becomes right.

The line is told, and not the change: finding that is the exercise. What stands in a `while` is left alone, as a changed one
may never end.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 3.0  # for all changes together

SIGNS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitOr: ast.BitXor,
}  # fmt: skip
TURNED: dict[type, type] = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
WORDS = {"sum": "mean", "mean": "sum", "sin": "cos", "cos": "sin", "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min",
         "log10": "log", "log2": "log", "var": "std", "std": "var", "cumsum": "cumprod", "zeros_like": "ones_like", "ones_like": "zeros_like"}  # fmt: skip

Change = Callable[[Any], None]


def suspects(text: str, name: str, right: Callable[[Callable[..., Any]], bool]) -> list[int]:
    """The lines in which one change makes `right(function)` true, for the function of this name in the text."""
    tree, found, until = ast.parse(text), [], time.perf_counter() + SECONDS
    for place, (node, changes) in enumerate(_sites(tree, name)):
        for change in changes:
            if time.perf_counter() > until:
                return found
            other = copy.deepcopy(tree)
            change(next(n for i, (n, _) in enumerate(_sites(other, name)) if i == place))
            if node.lineno not in found and _works(other, name, right):
                found.append(node.lineno)
    return found


def _works(tree: ast.Module, name: str, right: Callable[[Callable[..., Any]], bool]) -> bool:
    names: dict[str, Any] = {"__name__": name}
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(ast.fix_missing_locations(tree), f"<{name}, changed>", "exec"), names)
            return right(names[name])
        except (Exception, SystemExit):
            return False


def _sites(tree: ast.Module, name: str) -> Iterator[tuple[Any, list[Change]]]:
    """The places in the function of this name that can be changed, and how each can."""
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == name:
            parameters = [a.arg for a in function.args.args]
            for statement in function.body:
                for node in _walk(statement):
                    if changes := list(_changes(node, parameters)):
                        yield node, changes


def _walk(node: ast.AST) -> Iterator[Any]:
    """Everything in it but loops that may never end."""
    if not isinstance(node, ast.While):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)


def _changes(node: Any, parameters: list[str]) -> Iterator[Change]:
    if isinstance(node, ast.BinOp | ast.AugAssign):
        if type(node.op) in SIGNS:
            yield lambda n: setattr(n, "op", SIGNS[type(n.op)]())
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div | ast.MatMult):
            yield lambda n: vars(n).update(left=n.right, right=n.left)
    elif isinstance(node, ast.Compare):
        for table in (SIGNS, TURNED):
            if type(node.ops[0]) in table:
                yield lambda n, table=table: n.ops.__setitem__(0, table[type(n.ops[0])]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        for change in (1, -1):
            yield lambda n, change=change: setattr(n, "value", n.value + change)
        for factor in (2.0, 0.5, -1.0):
            yield lambda n, factor=factor: setattr(n, "value", n.value * factor)
    elif isinstance(node, ast.Attribute) and node.attr in WORDS:
        yield lambda n: setattr(n, "attr", WORDS[n.attr])
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in parameters:
        for other in parameters:
            if other != node.id:
                yield lambda n, other=other: setattr(n, "id", other)
