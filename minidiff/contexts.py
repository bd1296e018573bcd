"""Contexts that may be used again: one after the other, one inside itself, in several threads, as decorators.

What `contextlib.contextmanager` makes may be entered once. As a decorator of a generator function it also
ends too early: calling the function only makes the generator, whose lines run later, outside.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

P, T = ParamSpec("P"), TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class _Entered(threading.local):
    """The contexts that one thread has entered and not yet left."""

    def __init__(self) -> None:
        self.contexts: list[contextlib.AbstractContextManager[Any]] = []


class Context(Generic[T]):
    """A context manager and decorator in which every entry is a new context, made by `make()`."""

    def __init__(self, make: Callable[[], contextlib.AbstractContextManager[T]]) -> None:
        self._make, self._entered = make, _Entered()

    def __enter__(self) -> T:
        context = self._make()
        value = context.__enter__()
        self._entered.contexts.append(context)
        return value

    def __exit__(self, *error: Any) -> bool | None:
        return self._entered.contexts.pop().__exit__(*error)

    def __call__(self, function: F) -> F:
        """function run inside the context; a generator function only while it runs, not while it waits at a yield."""
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{function.__qualname__} is an async function, which this cannot decorate: others run while it waits;"
                f" use `with` inside it, around lines without await"
            )
        return (_generator if inspect.isgeneratorfunction(function) else _function)(self, function)  # type: ignore[return-value]


def reusable(function: Callable[P, Iterator[T]]) -> Callable[P, Context[T]]:
    """`contextlib.contextmanager`, for contexts that may be used again."""
    once = contextlib.contextmanager(function)

    @functools.wraps(function)
    def context(*args: P.args, **kwargs: P.kwargs) -> Context[T]:
        return Context(lambda: once(*args, **kwargs))

    return context


def _function(context: Context[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with context:
            return function(*args, **kwargs)

    return inside


def _generator(context: Context[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)
        step = functools.partial(next, steps)
        while True:
            try:
                with context:
                    value = step()
            except StopIteration as end:
                return end.value
            try:
                step = functools.partial(steps.send, (yield value))
            except GeneratorExit:
                with context:
                    steps.close()
                raise
            except BaseException as error:  # thrown in by the caller: the generator may catch it
                step = functools.partial(steps.throw, error)

    return inside
