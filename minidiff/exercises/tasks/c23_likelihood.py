"""Chapter 23: how likely is a picture?"""

import numpy as np

from ..task import Task


def trace_estimate(vjp, probes):
    """The trace of a matrix J that one can only multiply with (Hutchinson 1990).            # (V,D) -> one number

        E[vᵀ J v] = tr J    for random v of ±1            the mean over the rows v of probes

    vjp(v) gives vᵀJ, (D,) for (D,): a backward pass.
    """
    return np.mean([(vjp(v) * v).sum() for v in probes])


def bits_per_number(ln_p, D):
    """Bits per number of pictures of 256 levels, from their density: ln p for D numbers in [−1,1].            # (N,) -> (N,)

        −log₂ p / D + 7            a level is a bin 2/256 wide, and −log₂(2/256) = 7
    """
    return -ln_p / (D * np.log(2)) + 7


def kl_bits(mean_q, mean_p, variance_q, variance_p):
    """How many bits it costs to expect N(mean_p, variance_p) where N(mean_q, variance_q) comes: the mean over all numbers.

        KL(q ‖ p) = ½ (ln(v_p/v_q) + (v_q + (m_q − m_p)²)/v_p − 1)            in nats; / ln 2 in bits

    The terms of the variational bound are these (Ho et al. 2020, eq. 5). The means are arrays, the variances numbers.
    """
    nats = 0.5 * (np.log(variance_p / variance_q) + (variance_q + (mean_q - mean_p) ** 2) / variance_p - 1)
    return nats.mean() / np.log(2)


def _matrix(seed, n):
    """vᵀJ of a matrix J"""
    J = np.random.default_rng(seed).standard_normal((n, n))

    def vjp(v):
        return v @ J

    vjp.__doc__, vjp.J = f"vᵀJ of a {n}x{n} matrix", J
    return vjp


def _trace(vjp, probes):
    """Element by element: Σ J[i,j] C[i,j], C the probes' mean product."""
    return float((vjp.J * (probes.T @ probes) / len(probes)).sum())


def _kl(mean_q, mean_p, variance_q, variance_p):
    """By integrating on a grid."""
    z, w = np.polynomial.hermite_e.hermegauss(20)
    x = mean_q[..., None] + np.sqrt(variance_q) * z

    def ln(m, v):
        return -0.5 * ((x - m[..., None]) ** 2 / v + np.log(2 * np.pi * v))

    return (((ln(mean_q, variance_q) - ln(mean_p, variance_p)) * w).sum(-1) / w.sum()).mean() / np.log(2)


TASKS = [
    Task(
        trace_estimate, "A trace without the matrix", 23, "easy", 5,
        reference=_trace,
        cases=lambda rng: [(_matrix(i, n), rng.choice([-1.0, 1.0], (v, n))) for i, (v, n) in enumerate([(1, 3), (4, 5), (10, 2)])],
        hints=("Each probe gives one guess; the guesses are averaged.", "vᵀ J v is vjp(v) times v, summed.", "np.mean([(vjp(v) * v).sum() for v in probes])."),
        slips=[
            ("(vjp(v) * v).sum()", "vjp(v).sum()", "the second v is missing: vᵀ J v"),
            ("(vjp(v) * v).sum()", "(vjp(v) * v).mean()", "over the numbers it is a sum; the mean is taken over the probes"),
            ("np.mean([", "np.sum([", "over the probes the mean is taken"),
            ("for v in probes]", "for v in probes[:1]]", "all probes count, not the first alone"),
        ],
    ),
    Task(
        bits_per_number, "Bits per number", 23, "easy", 5,
        reference=lambda ln_p, D: -np.log2(np.exp(ln_p / D)) - np.log2(2 / 256),
        cases=lambda rng: [(rng.normal(-100, 30, 4), 64), (rng.normal(500, 30, 3), 1024), (np.array([0.0]), 2)],
        hints=("Three steps: to bits, for one number, for a bin.", "log₂ p = ln p / ln 2.", "−ln_p / (D * np.log(2)) + 7."),
        slips=[
            (" + 7", "", "a density is not a probability: the width of a bin, 7 bits, is missing"),
            (" + 7", " + 8", "pictures lie in [−1,1]: a bin is 2/256 wide, 7 bits and not 8"),
            ("-ln_p / (D * np.log(2))", "-ln_p / D", "these are nats: divide by ln 2"),
            ("-ln_p /", "ln_p /", "bits are −log₂ p: the sign is the wrong one"),
            ("(D * np.log(2))", "np.log(2)", "per number: divide by D"),
        ],
    ),
    Task(
        kl_bits, "The price of a wrong guess", 23, "medium", 10,
        reference=_kl, tolerance=1e-8,
        cases=lambda rng: [(*rng.standard_normal((2, *shape)), *v) for shape, v in [((3,), (0.5, 0.7)), ((2, 4), (1.0, 1.0)), ((5,), (2.0, 0.3))]],
        hints=("It is one line; mind which variance belongs to whom.", "p is what is expected, and v_p stands below the line.", "nats = 0.5 * (np.log(v_p / v_q) + (v_q + (m_q − m_p) ** 2) / v_p − 1); nats.mean() / np.log(2)."),
        slips=[
            ("nats.mean() / np.log(2)", "nats.mean()", "these are nats: divide by ln 2"),
            ("nats.mean()", "nats.sum()", "the mean over all numbers is wanted, not the sum"),
            ("variance_p - 1)", "variance_p)", "the −1 is missing: two equal bells cost nothing"),
            ("np.log(variance_p / variance_q)", "np.log(variance_q / variance_p)", "the logarithm is that of v_p/v_q"),
            ("(mean_q - mean_p) ** 2", "np.abs(mean_q - mean_p)", "the distance of the means counts by its square"),
            ("nats = 0.5 * (", "nats = 1.0 * (", "the half is missing"),
        ],
    ),
]  # fmt: skip
