"""Counter-based random numbers: the published answers, the distributions, and that they depend on nothing else."""

import numpy as np
import pytest
import scipy.stats

from minidiff import philox
from minidiff.errors import BadInput

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    "counter, key, answer",
    [  # the known answers of the authors' library Random123
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ONES,) * 4, (ONES,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_published_answers(counter, key, answer):
    assert " ".join(f"{int(w):08x}" for w in philox.philox(counter, key)) == answer


def test_numbers_do_not_depend_on_which_others_are_drawn():
    whole = philox.normal(7, range(10), 37, step=3, stream=2)
    assert np.array_equal(whole[[8, 2]], philox.normal(7, [8, 2], 37, step=3, stream=2))
    assert np.array_equal(whole[:, :20], philox.normal(7, range(10), 20, step=3, stream=2))


@pytest.mark.parametrize("change", [{"seed": 8}, {"seed": 7 + 2**32}, {"step": 4}, {"stream": 3}, {"rows": range(10, 20)}], ids=str)
def test_every_part_of_the_counter_and_key_counts(change):
    used = dict(seed=7, rows=range(10), size=50, step=3, stream=2)
    a, b = philox.words(**used), philox.words(**{**used, **change})
    assert not np.intersect1d(a, b).size, "500 words of 2³² agree by chance once in 17,000 tries"


def test_the_distributions():
    """Kolmogorov and Smirnov's test on 40,000 numbers; p below 1e-4 would mean a mistake, with a fixed seed it is no chance."""
    z, u = philox.normal(0, range(40), 1000).ravel(), philox.uniform(0, range(40), 1000).ravel()
    assert scipy.stats.kstest(z, "norm").pvalue > 1e-4 and scipy.stats.kstest(u, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(z[::2], z[1::2])[0, 1]) < 0.03, "the two of a pair are independent"
    assert u.min() >= 0 and u.max() < 1 and z.dtype == u.dtype == np.float32


def test_integers_are_even_and_within_bounds():
    k = philox.integers(0, range(60_000), 1, 101)
    assert k.min() == 1 and k.max() == 100 and k.dtype == np.int64
    assert scipy.stats.chisquare(np.bincount(k)[1:]).pvalue > 1e-4


def test_rng_is_a_function_of_seed_and_step():
    def draws(**options):
        rng = philox.Rng(5, **options)
        return rng.integers(1, 101, 4), rng.standard_normal((4, 3, 2)), rng.random(4)

    for a, b, c in zip(draws(step=9), draws(step=9), draws(step=10), strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, c)
    part = philox.Rng(5, step=9, first_row=2)
    assert np.array_equal(part.integers(1, 101, 2), draws(step=9)[0][2:]), "half of a batch gets its own half of the numbers"
    assert np.array_equal(part.standard_normal((2, 3, 2)), draws(step=9)[1][2:])


@pytest.mark.parametrize("seed", [-1, 1.5, 2**64])
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(BadInput, match="the seed must be a whole number from 0 to 2"):
        philox.Rng(seed)
