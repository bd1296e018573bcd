"""What every optimizer promises, and step-by-step agreement with PyTorch."""

import time

import numpy as np
import pytest

from minidiff import backend, nn, optim
from minidiff.errors import BadInput
from minidiff.tensor import Tensor

SHAPES = [(3, 4), (5,), (2, 3, 1, 2), ()]
# Name, constructor arguments: the same words in PyTorch.
OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.3}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.1, "weight_decay": 0.3}),
    ("Adam", {"lr": 0.1, "betas": (0.0, 0.0)}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.3}),
]
ALL = [pytest.param(*case, id="-".join([case[0], *case[1]])) for case in OPTIMIZERS]


def parameters(dtype=np.float64, device="cpu"):
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]
    return [Tensor(backend.to_device(array, device), requires_grad=True) for array in arrays]


def gradients(k, dtype=np.float64):
    rng = np.random.default_rng((1, k))
    return [np.asarray(rng.standard_normal(shape) * 10.0 ** (i - 1), dtype) for i, shape in enumerate(SHAPES)]


def set_gradients(params, arrays):
    for p, g in zip(params, arrays, strict=True):
        p.grad = None if g is None else Tensor(backend.to_device(g, p.device))


def walk(optimizer, steps, start=0):
    for k in range(start, start + steps):
        set_gradients(optimizer.params, gradients(k, optimizer.params[0].dtype))
        optimizer.step()


def values(params):
    return [backend.to_numpy(p.data).copy() for p in params]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize(("name", "options"), ALL)
def test_twenty_steps_are_pytorchs(name, options, dtype, rtol):
    """Rounding differs, as the same formula is evaluated in another order; 20 steps let it grow a little."""
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)(parameters(dtype), **options)
    twins = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in ours.params]
    theirs = getattr(torch.optim, name)(twins, **({"lr": 1e-3} | options))
    for k in range(20):
        arrays = gradients(k, dtype)
        arrays[1] = None if k % 3 == 1 else arrays[1]  # a parameter that is not always reached
        set_gradients(ours.params, arrays)
        for p, g in zip(twins, arrays, strict=True):
            p.grad = None if g is None else torch.from_numpy(g)
        if k == 10:
            ours.lr = theirs.param_groups[0]["lr"] = 0.03
        ours.step()
        theirs.step()
        for p, q in zip(ours.params, twins, strict=True):
            assert p.dtype == dtype
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=rtol, atol=rtol, err_msg=f"step {k}")


@pytest.mark.parametrize(("name", "decoupled"), [("Adam", False), ("AdamW", True)])
def test_adam_is_the_algorithm_of_the_papers(name, decoupled):
    """Kingma & Ba 2015, Algorithm 1, and Loshchilov & Hutter 2019, Algorithm 2, written out with m̂ and v̂."""
    alpha, beta1, beta2, eps, decay = 0.1, 0.8, 0.9, 1e-2, 0.3
    optimizer = getattr(optim, name)(parameters(), alpha, (beta1, beta2), eps, decay)
    thetas = values(optimizer.params)
    m, v = [0.0] * len(thetas), [0.0] * len(thetas)
    for t in range(1, 11):
        for i, g in enumerate(gradients(t)):
            if decoupled:
                thetas[i] = thetas[i] - alpha * decay * thetas[i]
            else:
                g = g + decay * thetas[i]
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            m_hat, v_hat = m[i] / (1 - beta1**t), v[i] / (1 - beta2**t)
            thetas[i] = thetas[i] - alpha * m_hat / (np.sqrt(v_hat) + eps)
    walk(optimizer, 10, start=1)
    for p, theta in zip(values(optimizer.params), thetas, strict=True):
        np.testing.assert_allclose(p, theta, rtol=1e-12)


@pytest.mark.parametrize(
    ("nesterov", "expected"), [(False, [-1, -2.5, -4.25]), (True, [-1.5, -3.25, -5.125])]
)
def test_momentum_by_hand(nesterov, expected):
    """A slope of 1, lr 1, μ = ½: b is 1, 1.5, 1.75, and Nesterov's step is 1 + b/2."""
    p = Tensor(np.zeros(1), requires_grad=True)
    optimizer, found = optim.SGD([p], lr=1.0, momentum=0.5, nesterov=nesterov), []
    for _ in range(3):
        p.grad = Tensor(np.ones(1))
        optimizer.step()
        found.append(p.item())
    assert found == expected


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_quadratic_is_minimised(name, options):
    p = Tensor(np.array([3.0, -2.0]), requires_grad=True)
    optimizer = getattr(optim, name)([p], **(options | {"lr": 0.05, "weight_decay": 0.0}))
    for _ in range(400):
        p.grad = Tensor(2 * (p.data - [1.0, 2.0]))
        optimizer.step()
    # Adam with no memory moves by lr whatever the slope: it cannot come nearer than one step.
    np.testing.assert_allclose(p.data, [1, 2], atol=0.051)


@pytest.mark.parametrize(("name", "options"), ALL)
def test_gradients_are_not_written_to(name, options):
    optimizer = getattr(optim, name)(parameters(), **options)
    for k in range(3):
        arrays = gradients(k)
        for g in arrays:
            g.setflags(write=False)
        set_gradients(optimizer.params, arrays)
        optimizer.step()


@pytest.mark.parametrize(("name", "options"), ALL)
def test_parameters_are_updated_in_place_without_changing_dtype(name, options):
    optimizer = getattr(optim, name)(parameters(np.float32), **options)
    optimizer.lr = np.float64(0.01)  # a NumPy scalar must not promote
    arrays = [p.data for p in optimizer.params]
    walk(optimizer, 3)
    assert all(p.data is a and a.dtype == np.float32 for p, a in zip(optimizer.params, arrays, strict=True))


@pytest.mark.parametrize(("name", "options"), ALL)
def test_memory_layout_does_not_matter(name, options):
    plain = getattr(optim, name)(parameters(), **options)
    strided = getattr(optim, name)(parameters(), **options)
    for p in strided.params:
        p.data = np.array(p.data, order="F")
    for k in range(3):
        set_gradients(plain.params, gradients(k))
        set_gradients(strided.params, [np.array(g, order="F") for g in gradients(k)])
        plain.step()
        strided.step()
    assert same(values(plain.params), values(strided.params))


@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_parameter_without_gradient_stays_and_has_no_state(name, options):
    optimizer = getattr(optim, name)(parameters(), **options)
    before = values(optimizer.params)
    set_gradients(optimizer.params, [None, *gradients(0)[1:]])
    optimizer.step()
    moved = [not np.array_equal(a, b) for a, b in zip(before, values(optimizer.params), strict=True)]
    assert moved == [False, True, True, True]
    assert "t.0" not in optimizer.state_dict() and optimizer.state_dict()["t.1"] == 1


@pytest.mark.parametrize(("name", "options"), ALL)
def test_lr_zero_changes_nothing(name, options):
    optimizer = getattr(optim, name)(parameters(), **(options | {"lr": 0.0}))
    before = values(optimizer.params)
    walk(optimizer, 2)
    assert same(before, values(optimizer.params))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_zero_grad_forgets(name):
    optimizer = getattr(optim, name)(parameters())
    set_gradients(optimizer.params, gradients(0))
    optimizer.zero_grad()
    assert all(p.grad is None for p in optimizer.params)


def test_adam_does_not_care_for_the_scale_of_the_gradient():
    a, b = optim.Adam(parameters(), eps=0.0), optim.Adam(parameters(), eps=0.0)
    for k in range(5):
        set_gradients(a.params, gradients(k))
        set_gradients(b.params, [1024 * g for g in gradients(k)])  # a power of two: exact
        a.step()
        b.step()
    for x, y in zip(values(a.params), values(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


def test_the_first_step_of_adam_is_lr_long_whatever_the_betas():
    for betas in [(0.9, 0.999), (0.5, 0.6)]:
        optimizer = optim.Adam(parameters(), lr=0.25, betas=betas, eps=0.0)
        before = values(optimizer.params)
        walk(optimizer, 1)
        for x, y, g in zip(before, values(optimizer.params), gradients(0), strict=True):
            np.testing.assert_allclose(y - x, -0.25 * np.sign(g), rtol=1e-9)


def test_adamw_decays_all_weights_alike_where_adam_does_not():
    """With g = 0 on one side and g huge on the other, AdamW takes off the same fraction of both."""
    decayed, plain = parameters(), parameters()
    a, b = optim.AdamW(decayed, lr=0.1, weight_decay=0.5), optim.AdamW(plain, lr=0.1, weight_decay=0.0)
    start = values(plain)
    walk(a, 1)
    walk(b, 1)
    for w, x, y in zip(start, values(decayed), values(plain), strict=True):
        np.testing.assert_allclose(y - x, 0.1 * 0.5 * w, rtol=1e-9)


# --------------------------------------------------------------------------------- saving, loading


def through_npz(state, path):
    np.savez(path, **state)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), ALL)
def test_a_run_that_was_saved_goes_on_bit_by_bit(name, options, dtype, tmp_path):
    whole = getattr(optim, name)(parameters(dtype), **options)
    walk(whole, 3)
    whole.lr = 0.0123
    state, weights = through_npz(whole.state_dict(), tmp_path / "state.npz"), values(whole.params)
    walk(whole, 4, start=3)

    resumed = getattr(optim, name)(parameters(dtype), **options)
    for p, w in zip(resumed.params, weights, strict=True):
        p.data[...] = w
    resumed.load_state_dict(state)
    assert resumed.lr == 0.0123
    walk(resumed, 4, start=3)
    assert same(values(whole.params), values(resumed.params))
    ours, theirs = whole.state_dict(), resumed.state_dict()
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_a_state_dict_is_flat_copies_of_arrays_and_numbers():
    optimizer = optim.Adam(parameters())
    assert optimizer.state_dict() == {"lr": 1e-3}
    walk(optimizer, 2)
    state = optimizer.state_dict()
    assert list(state)[:4] == ["lr", "t.0", "m.0", "v.0"] and len(state) == 1 + 3 * len(SHAPES)
    assert type(state["lr"]) is float and type(state["t.0"]) is int
    state["m.0"] += 1
    assert not np.array_equal(state["m.0"], optimizer.state_dict()["m.0"])


def test_a_loaded_state_is_a_copy_in_the_dtype_of_the_parameter():
    saved = optim.Adam(parameters(np.float64))
    walk(saved, 2)
    state = saved.state_dict()
    before = {name: np.copy(value) for name, value in state.items()}
    optimizer = optim.Adam(parameters(np.float32))
    optimizer.load_state_dict(state)
    walk(optimizer, 2)
    assert all(np.array_equal(state[name], before[name]) for name in state)
    assert {s[name].dtype for s in optimizer.state for name in "mv"} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("lr"), "Adam: the state has no lr"),
        (lambda s: s.pop("v.1"), "Adam: the state of parameter 1 has no v.1"),
        (lambda s: s.update({"m.0": np.zeros((4, 3))}), "Adam: m.0 is (4, 3), its parameter (3, 4)"),
        (
            lambda s: s.update({"m.4": np.zeros(2)}),
            "Adam: the state has 'm.4'; this one keeps t, m, v for each of 4 parameters",
        ),
        (lambda s: s.update(lr=np.nan), "Adam: lr must be a finite number of at least 0, got nan"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    optimizer = optim.Adam(parameters())
    walk(optimizer, 2)
    before = optimizer.state_dict()
    walk(other := optim.Adam(parameters(), lr=0.5), 5)
    state = other.state_dict()
    change(state)
    with pytest.raises(BadInput) as error:
        optimizer.load_state_dict(state)
    assert str(error.value) == message
    after = optimizer.state_dict()
    assert before.keys() == after.keys() and all(np.array_equal(before[k], after[k]) for k in before)


def test_the_state_of_another_optimizer_is_refused():
    sgd = optim.SGD(parameters())
    adam = optim.Adam(parameters())
    walk(adam, 1)
    with pytest.raises(BadInput, match="SGD: the state has 'm.0'; this one keeps t for each of 4 parameters"):
        sgd.load_state_dict(adam.state_dict())


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.SGD([]), "SGD: there are no parameters to optimize"),
        (lambda p: optim.SGD(p[0]), "SGD: params must be a list of tensors, not a tensor"),
        (lambda p: optim.SGD([np.zeros(2)]), "SGD: params must be tensors, got ndarray"),
        (
            lambda p: optim.Adam(nn.Linear(2, 2)),
            "Adam: params must be a list of tensors, not a Linear; give its .parameters()",
        ),
        (lambda p: optim.SGD([p[0], p[0]]), "SGD: a parameter is listed twice"),
        (lambda p: optim.SGD(p, momentum=1.0), "SGD: momentum must be at least 0 and below 1, got 1.0"),
        (
            lambda p: optim.SGD(p, nesterov=True),
            "SGD: nesterov looks ahead along the momentum, so it needs momentum above 0",
        ),
        (
            lambda p: optim.SGD(p, weight_decay=-1),
            "SGD: weight_decay must be a finite number of at least 0, got -1",
        ),
        (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "Adam: beta2 must be at least 0 and below 1, got 1.0"),
        (lambda p: optim.Adam(p, betas=(0.9,)), "Adam: betas must be two numbers (beta1, beta2), got (0.9,)"),
        (lambda p: optim.AdamW(p, eps=np.inf), "AdamW: eps must be a finite number of at least 0, got inf"),
        (lambda p: optim.AdamW(p, "fast"), "AdamW: lr must be a finite number of at least 0, got fast"),
    ],
)
def test_bad_arguments_get_one_clear_line(make, message):
    with pytest.raises(BadInput) as error:
        make(parameters())
    assert str(error.value) == message


@pytest.mark.parametrize("lr", [np.nan, np.inf, -np.inf, -1e-9])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_learning_rate_must_be_finite_and_not_negative_when_made_and_when_set(name, lr):
    make = getattr(optim, name)
    message = f"{name}: lr must be a finite number of at least 0, got {lr}"
    with pytest.raises(BadInput) as made:
        make(parameters(), lr=lr)
    optimizer = make(parameters(), lr=0.5)
    with pytest.raises(BadInput) as set_later:
        optimizer.lr = lr
    assert str(made.value) == str(set_later.value) == message and optimizer.lr == 0.5


def test_a_result_cannot_be_optimized():
    x = Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(BadInput, match="SGD: params must not be results; one came out of Mul"):
        optim.SGD([x * 2])


def test_a_gradient_of_another_shape_stops_the_step_before_anything_moves():
    optimizer = optim.SGD(parameters())
    before = values(optimizer.params)
    set_gradients(optimizer.params, [*gradients(0)[:1], np.ones((1, 5)), *gradients(0)[2:]])
    with pytest.raises(BadInput, match=r"SGD: the grad of a \(5,\) parameter is \(1, 5\)"):
        optimizer.step()
    assert same(before, values(optimizer.params))


# ------------------------------------------------------------------------------------ GPU and speed


@pytest.mark.parametrize(("name", "options"), ALL)
def test_the_gpu_takes_the_same_steps(name, options):
    try:
        backend.resolve_device("cuda")
    except BadInput as reason:
        pytest.skip(str(reason))
    cpu = getattr(optim, name)(parameters(), **options)
    gpu = getattr(optim, name)(parameters(device="cuda"), **options)
    walk(cpu, 3)
    walk(gpu, 3)
    gpu.load_state_dict(gpu.state_dict())
    walk(cpu, 3, start=3)
    walk(gpu, 3, start=3)
    for x, y in zip(values(cpu.params), values(gpu.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_a_step_of_adam_is_a_small_part_of_a_training_step():
    """957,513 parameters in 60 arrays took 2 ms on one core; the bound leaves room for a busy machine."""
    sizes = [140_000] * 6 + [2_000] * 53 + [11_513]
    params = [Tensor(np.ones(size, np.float32), requires_grad=True) for size in sizes]
    for p in params:
        p.grad = Tensor(np.ones_like(p.data))
    optimizer = optim.AdamW(params)
    optimizer.step()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    assert sum(sizes) == 957_513 and min(times) < 0.02


def test_a_read_only_parameter_is_refused_before_any_has_moved():
    free, fixed = Tensor(np.ones(2), requires_grad=True), Tensor(np.broadcast_to(1.0, (3,)), requires_grad=True)
    (free.sum() + fixed.sum()).backward()
    with pytest.raises(BadInput) as error:
        optim.Adam([free, fixed]).step()
    assert str(error.value) == "Adam: the array of a (3,) parameter is read-only; make it of a copy"
    np.testing.assert_array_equal(free.numpy(), np.ones(2))


@pytest.mark.parametrize("given", [lambda a: a.astype(a.dtype.newbyteorder()), lambda a: np.ma.array(a), list])
def test_a_state_may_hold_any_array(given):
    optimizer, other = optim.Adam(parameters()), optim.Adam(parameters())
    walk(optimizer, 2)
    state = optimizer.state_dict()
    other.load_state_dict({key: given(a) if isinstance(a, np.ndarray) and a.ndim else a for key, a in state.items()})
    for key, a in other.state_dict().items():
        np.testing.assert_array_equal(a, state[key])
        assert not isinstance(a, np.ndarray) or (type(a) is np.ndarray and a.dtype.isnative)


def test_masked_elements_in_a_state_are_refused():
    optimizer = optim.SGD([Tensor(np.ones(2), requires_grad=True)], momentum=0.5)
    state = {"lr": 0.1, "t.0": 1, "b.0": np.ma.array([1.0, 2.0], mask=[0, 1])}
    with pytest.raises(BadInput, match="1 of 2 elements of a masked array"):
        optimizer.load_state_dict(state)
