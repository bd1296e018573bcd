"""What an exercise is: a function to write, what it must give, three hints, and the mistakes that people make.

The solution is an ordinary function, and its docstring is the statement. A learner's file is made of it: everything up to
the docstring, and then nothing. A known mistake, a *slip*, is a change of the solution's text,

    ("gx[rows, columns] +=", "gx[rows, columns] =", "patches overlap: what meets in a pixel must be added up")

so it can be run. What it gives is what it looks like: an answer that equals a slip's answer in every case has made that
mistake, and can be told so. And every slip is a wrong answer to prove the checker with.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

LEVELS = ("easy", "medium", "hard")
IMPORTS = "import math\n\nimport numpy as np\n"


class Slip(NamedTuple):
    """A known mistake: `text` of the solution, which stands there once, becomes `wrong`; and what to say of it."""

    text: str
    wrong: str
    cause: str


@dataclass(frozen=True)
class Task:
    """One exercise.

    solution    the function as it should be; its name is the task's, its docstring the statement
    title       what it is about, in a few words
    chapter     of the book
    level       easy, medium or hard
    minutes     how long it may take
    reference   called with a case's arguments: what must come out, computed in another way, by the library where it can
    cases       called with a random generator: the arguments of each case, as tuples
    hints       three: the idea, the formula, nearly the code
    slips       known mistakes
    outputs     the names of what comes out, where that is a tuple
    given       functions of the same file that the learner's file imports
    tolerance   |got − expected| ≤ tolerance (1 + max |expected|)
    seconds     how long the check may take
    """

    solution: Callable[..., Any]
    title: str
    chapter: int
    level: str
    minutes: int
    reference: Callable[..., Any]
    cases: Callable[[np.random.Generator], Iterable[tuple[Any, ...]]]
    hints: tuple[str, str, str]
    slips: Sequence[Slip | tuple[str, str, str]] = field(repr=False)
    outputs: tuple[str, ...] = ()
    given: tuple[Callable[..., Any], ...] = ()
    tolerance: float = 1e-9
    seconds: float = 20.0

    suffix: ClassVar[str] = ".py"

    @property
    def name(self) -> str:
        """The name of the function to be written."""
        return self.solution.__name__

    @property
    def parameters(self) -> list[str]:
        """Its arguments, by name."""
        return list(inspect.signature(self.solution).parameters)

    @property
    def mistakes(self) -> list[Slip]:
        """The known mistakes: each a change of the solution's text, with its cause."""
        return [Slip(*slip) for slip in self.slips]

    def arguments(self) -> list[tuple[Any, ...]]:
        """Those of every case, always the same."""
        return [tuple(case) for case in self.cases(np.random.default_rng(0))]

    # ------------------------------------------------------------------------------ the texts

    @property
    def unwritten(self) -> str:
        """What stands in a stub in the place of the answer."""
        return f'raise NotImplementedError("{self.name} is yet to be written")'

    def source(self) -> str:
        """The solution's own text."""
        return inspect.getsource(self.solution)

    def statement(self) -> str:
        """What is to be written."""
        return inspect.getdoc(self.solution) or ""

    def stub(self) -> str:
        """The learner's file: all but the answer."""
        function = ast.parse(self.source()).body[0]
        head = self.source().splitlines()[: function.body[0].end_lineno]  # type: ignore[attr-defined]
        return self.file("\n".join([*head, f"    {self.unwritten}", ""]))

    def file(self, function: str) -> str:
        """A learner's file that holds this function."""
        given = "".join(f"\nfrom {helper.__module__} import {helper.__name__}\n" for helper in self.given)
        return f'"""{self.heading}"""\n\n{IMPORTS}{given}\n\n{function}'

    @property
    def heading(self) -> str:
        """What stands at the head of a learner's file."""
        return (f"{self.title}\n\nchapter {self.chapter}, {self.level}, about {self.minutes} minutes\n\n"
                f"    minidiff exercises check {self.name}\n    minidiff exercises hint {self.name}\n")  # fmt: skip

    def solution_file(self) -> str:
        """The learner's file as it would be, solved."""
        return self.file(self.source())

    def wrong_file(self, slip: Slip) -> str:
        """A learner's file with this mistake."""
        source = self.source()
        code = source.rpartition('"""')[2] if self.suffix == ".py" else source          # the statement stays as it is
        return self.file(source.removesuffix(code) + changed(code, slip))

    # ------------------------------------------------------------------------------ running it

    def load(self, path: Path) -> Callable[..., Any]:
        """The learner's function. Raises whatever the file raises, and AttributeError where the function is not there."""
        return self._function(path.read_text(encoding="utf-8"), str(path))

    def wrong(self, slip: Slip) -> Callable[..., Any]:
        """The mistake as a function."""
        return self._function(self.wrong_file(slip), f"<{self.name}>")

    def _function(self, text: str, where: str) -> Callable[..., Any]:
        names: dict[str, Any] = {"__name__": self.name, "__file__": where}
        exec(compile(text, where, "exec"), names)
        if not callable(names.get(self.name)):
            raise AttributeError(f"there is no function {self.name}({', '.join(self.parameters)}) in it")
        return names[self.name]

    def describe(self, arguments: Sequence[Any]) -> str:
        """A case in a line: shapes of arrays, other arguments as they are."""
        return ", ".join(f"{name} {_short(value)}" for name, value in zip(self.parameters, arguments, strict=False))


def changed(text: str, slip: Slip) -> str:
    """The text with the mistake in it. Raises ValueError where its place is not there, or not the only one."""
    if text.count(slip.text) != 1:
        raise ValueError(f"{slip.text!r} stands {text.count(slip.text)} times in the solution; it must once")
    return text.replace(slip.text, slip.wrong)


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        if value.ndim == 0 or (value.ndim == 1 and value.size <= 4):
            return np.array2string(value, precision=4, separator=", ")
        return f"({', '.join(map(str, value.shape))}{',' * (value.ndim == 1)}) {value.dtype}".removesuffix(" float64")
    if callable(value):
        return getattr(value, "__doc__", None) or getattr(value, "__name__", "a function")
    return f"{value:.4g}" if isinstance(value, float) else textwrap.shorten(repr(value), 60, placeholder=" …")


@dataclass(frozen=True)
class KernelTask(Task):
    """A kernel in CUDA, to be run by the emulator.            (see minidiff/kernels/cuda)

    solution    a Python function with the statement for a docstring, which is only read
    code        the solution's text, from the first #include on
    launch      called as launch(kernel, *arguments): what comes out
    body        what the stub has in the place of the kernel's body, which is all between its outer braces
    """

    code: str = ""
    launch: Callable[..., Any] = print

    suffix: ClassVar[str] = ".cu"

    def source(self) -> str:
        """The CUDA text."""
        return self.code

    def stub(self) -> str:
        """The text that the learner starts from."""
        before, _, _ = self.code.partition(") {\n")
        return self.file(f"{before}) {{\n  {self.unwritten}\n}}\n")

    @property
    def unwritten(self) -> str:
        """The line that stands in the stub for the kernel."""
        return "// write the kernel here, and take this line away"

    def file(self, function: str) -> str:
        """The whole text of a learner's file around this function: heading, statement, function."""
        comment = "".join(f"// {line}".rstrip() + "\n" for line in [*self.heading.splitlines(), "", *self.statement().splitlines()])
        return f"{comment}\n{function}"

    def load(self, path: Path) -> Callable[..., Any]:
        """The kernel as a function of arrays, run in emulation."""
        text = path.read_text(encoding="utf-8")
        if self.unwritten in text:
            raise NotImplementedError(f"{self.name} is yet to be written")
        return self._function(text, str(path))

    def _function(self, text: str, where: str) -> Callable[..., Any]:
        """The kernel as a function, run with its threads in either order."""
        from ..files import cache_folder
        from ..kernels.cuda import runtime

        key = hashlib.sha256(text.encode()).hexdigest()[:16]     # the emulator knows a kernel by its file: another text, another file
        path = cache_folder("exercises", f"{self.name}-{key}.cu")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

        def function(*arguments: Any) -> Any:
            kernel, usual, results = runtime.Kernel(str(path), self.name), runtime.backwards, []
            try:
                for runtime.backwards in (False, True):
                    results.append(self.launch(kernel, *arguments))
            finally:
                runtime.backwards = usual
            if not np.array_equal(*results, equal_nan=True):
                raise RuntimeError(f"{UNORDERED}: {results[0].flat[0]:.6g} in one and {results[1].flat[0]:.6g} in the other")
            return results[0]

        return function


UNORDERED = "the result depends on the order in which the threads run"
