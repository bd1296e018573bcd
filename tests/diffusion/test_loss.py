"""The training loss: what it asks the network, and what it makes of the answer."""

import numpy as np
import pytest

from minidiff.diffusion import drop_labels, loss, make_schedule

SCHEDULE = make_schedule("cosine", 40)


def pictures(rng, n):
    return rng.uniform(-1, 1, (n, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, n)


def test_the_right_noise_has_no_loss(rng, knows_picture):
    x0 = pictures(rng, 1)[0]
    model = knows_picture(SCHEDULE, x0)
    assert loss(model, SCHEDULE, np.repeat(x0, 16, 0), np.zeros(16, int), rng).item() < 1e-9


def test_no_answer_loses_one(rng, oracle):
    """ε has mean square 1; of n numbers that errs by √(2/n)."""
    x0, labels = pictures(rng, 256)
    value = loss(oracle(lambda x, t, labels: 0 * x), SCHEDULE, x0, labels, rng)
    assert value.shape == () and abs(value.item() - 1.0) < 5 * np.sqrt(2 / x0.size)


def test_every_sample_has_its_own_uniform_step_and_label(rng, oracle):
    model, (x0, labels) = oracle(lambda x, t, labels: x), pictures(rng, 4000)
    loss(model, SCHEDULE, x0, labels, rng, drop=0.25)
    ((n, t, asked),) = model.asked
    assert n == 4000 and t.shape == asked.shape == (4000,)
    counts = np.bincount(t, minlength=41)
    assert counts[0] == 0 and len(counts) == 41
    assert ((counts[1:] - 100) ** 2 / 100).sum() < 80  # χ² of 39 degrees: above 80 once in 10,000
    dropped = asked == -1
    np.testing.assert_array_equal(asked[~dropped], labels[~dropped])
    assert abs(dropped.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
def test_labels_are_dropped_one_by_one_at_the_right_rate(rng, drop):
    """Batches of 10: of a whole batch dropped at once, all or none would be −1."""
    batches = np.array([drop_labels(np.arange(10), drop, rng) for _ in range(1000)])
    dropped = batches == -1
    assert abs(dropped.mean() - drop) <= 5 * np.sqrt(drop * (1 - drop) / dropped.size)
    np.testing.assert_array_equal(batches[~dropped], np.tile(np.arange(10), (1000, 1))[~dropped])
    # The number dropped in a batch is binomial: its variance is 10 p (1 − p), not the 100 p (1 − p) of all or none.
    assert dropped.sum(1).var() == pytest.approx(10 * drop * (1 - drop), rel=0.25)


def test_the_same_generator_gives_the_same_loss_and_every_parameter_learns(network, rng):
    x0, labels = pictures(rng, 4)
    values = [loss(network, SCHEDULE, x0, labels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert values[0].item() == values[1].item() != values[2].item()
    values[0].backward()
    assert all(np.abs(p.grad.data).max() > 0 for p in network.parameters())
