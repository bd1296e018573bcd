"""Every context of the library may be entered again, in any order that nests, and decorates functions and generator functions."""

import inspect
import threading

import numpy as np
import pytest

import minidiff as md
from minidiff.autograd import mode
from minidiff.contexts import reusable

MODEL = md.nn.Linear(1, 1, bias=False)
EMA = md.optim.EMA(MODEL)
EMA.average["weight"][...] = 5.0


# A context, what it sets, the value outside and the value inside.
CONTEXTS = {
    "no_grad": (md.no_grad, md.is_grad_enabled, True, False),
    "enable_grad": (md.enable_grad, md.is_grad_enabled, False, True),
    "precision": (lambda: md.precision("tf32"), md.get_precision, "fp32", "tf32"),
    "detect_anomaly": (md.detect_anomaly, lambda: mode.anomaly is not None, False, True),
    "EMA.applied": (EMA.applied, lambda: MODEL.weight.item(), 3.0, 5.0),
}


@pytest.fixture(params=list(CONTEXTS))
def setting(request):
    """A new context and what it sets, with whatever must hold outside of it."""
    MODEL.weight.data = np.full((1, 1), 3.0, np.float32)
    make, look, outside, inside = CONTEXTS[request.param]
    if request.param == "enable_grad":
        with md.no_grad():
            yield make(), look, outside, inside
    else:
        yield make(), look, outside, inside


def test_one_object_may_be_entered_again(setting):
    context, look, outside, inside = setting
    for _ in range(2):
        with context:
            assert look() == inside
        assert look() == outside


def test_one_object_may_be_entered_inside_itself(setting):
    context, look, outside, inside = setting
    with context:
        with context:
            assert look() == inside
        assert look() == inside
    assert look() == outside


def test_it_ends_after_an_error_and_does_not_hide_it(setting):
    context, look, outside, _ = setting
    for _ in range(2):
        with pytest.raises(KeyError), context, context:
            raise KeyError
        assert look() == outside


def test_a_decorated_function_may_call_itself(setting):
    context, look, outside, inside = setting

    @context
    def seen(n):
        return [look()] if n == 0 else [look(), *seen(n - 1), look()]

    assert seen(2) == [inside] * 5 and look() == outside


def test_a_generator_function_is_inside_while_it_runs_and_outside_while_it_waits(setting):
    context, look, outside, inside = setting

    @context
    def steps(n):
        for _ in range(n):
            seen.append(look())
            yield look()
        seen.append(look())
        return n

    seen, pauses = [], []
    for value in steps(3):
        assert value == inside
        pauses.append(look())
    assert seen == [inside] * 4 and pauses == [outside] * 3 and look() == outside
    assert inspect.isgeneratorfunction(steps) and steps.__name__ == "steps"


def test_what_is_sent_thrown_and_returned_reaches_a_generator(setting):
    context, look, outside, inside = setting
    closed = []

    @context
    def echo():
        try:
            sent = yield "first"
            while True:
                try:
                    sent = yield sent
                except KeyError:
                    sent = "caught" if look() == inside else "outside"
                if sent == "end":
                    return "result"
        finally:
            closed.append(look())

    steps = echo()
    assert [next(steps), steps.send(1), steps.throw(KeyError("x")), look()] == ["first", 1, "caught", outside]
    with pytest.raises(StopIteration) as end:
        steps.send("end")
    assert end.value.value == "result"
    steps = echo()
    next(steps)
    steps.close()
    steps = echo()
    next(steps)
    with pytest.raises(ValueError, match="passed through"):
        steps.throw(ValueError("passed through"))
    assert closed == [inside] * 3 and look() == outside


def test_an_async_function_is_refused(setting):
    context, *_ = setting

    async def wait():
        pass

    async def several():
        yield

    for fn in (wait, several):
        with pytest.raises(TypeError, match="is an async function, which this cannot decorate"):
            context(fn)


def _modes():
    return md.is_grad_enabled(), md.get_precision(), mode.anomaly is None


@pytest.mark.parametrize("make", [md.no_grad, lambda: md.precision("tf32"), md.detect_anomaly], ids=["no_grad", "precision", "detect_anomaly"])
def test_one_object_serves_several_threads_at_once(make):
    """Each thread enters and leaves while the others are inside, and finds its own mode."""
    context, failures = make(), []
    outside = _modes()
    both_in = threading.Barrier(2, timeout=10)

    def work(first):
        try:
            with context:
                both_in.wait()
                inside = _modes()
                if not first:
                    both_in.wait()       # the other has left by now
                assert inside != outside and _modes() == inside
            if first:
                both_in.wait()
            assert _modes() == outside
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_what_a_context_gives_is_given_at_every_entry():
    @reusable
    def counted(start):
        yield next(numbers) + start

    numbers = iter(range(3))
    context = counted(10)
    with context as a, context as b:
        assert (a, b) == (10, 11)
    with context as c:
        assert c == 12
