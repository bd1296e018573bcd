"""Chapter 27: the same step, made by many."""

import numpy as np

from ...train.distributed import Ranks
from ..task import Task


def part_of(n, rank, size):
    """Which of n things are a rank's: where its stretch begins, and where it ends.            # three whole numbers -> two

        ⌊r n / R⌋  to  ⌊(r + 1) n / R⌋            r: rank, R: size

    The stretches lie end to end, nothing is left out, and none is longer than another by more than one.
    """
    return rank * n // size, (rank + 1) * n // size


def ring_sum(parts):
    """The sum over ranks, as a ring makes it: each rank gives one piece a turn to the next.            # (R, R·m) -> (R, R·m), all rows alike

    Cut every rank's numbers in R pieces of m. In turn k = 0 … R − 2 rank r gives piece (r − k) mod R to rank r + 1, which
    adds it to its own: then rank r holds the sum of piece r + 1. In as many turns more, k = 0 … R − 2, it gives piece
    (r + 1 − k) mod R on, and the next one puts it in place of its own. All give at once: take what is given before adding.
    """
    R = len(parts)
    held = parts.reshape(R, R, -1).copy()                        # (rank, piece, number)
    r = np.arange(R)
    following = (r + 1) % R
    for k in range(R - 1):
        piece = (r - k) % R
        held[following, piece] += held[r, piece]
    for k in range(R - 1):
        piece = (r + 1 - k) % R
        held[following, piece] = held[r, piece]
    return held.reshape(R, -1)


def mean_gradient(gradients, counts):
    """The gradient of a batch's mean loss, from parts of unequal size.            # (R,P), (R,) -> (P,)

        g = Σ_r n_r g_r / Σ_r n_r            g_r: gradient of the mean over the n_r samples of part r
    """
    return (counts[:, None] * gradients).sum(0) / counts.sum()


def _part(n, rank, size):
    class Given(Ranks):
        pass

    Given.rank, Given.size = rank, size
    part = Given().part(n)
    return part.start, part.stop


def _batch_gradient(gradients, counts):
    """That of samples which all have the gradient of their part."""
    return np.repeat(gradients, counts, axis=0).mean(0)


TASKS = [
    Task(
        part_of, "Who gets what", 27, "easy", 5,
        reference=_part, outputs=("first", "end"),
        cases=lambda rng: [(8, 1, 4), (10, 0, 4), (10, 1, 4), (10, 3, 4), (2, 1, 3), (7, 0, 1)],
        hints=("Round once, at the ends: where a stretch ends the next one begins.", "Multiply before you divide.", "rank * n // size, (rank + 1) * n // size."),
        slips=[
            ("rank * n // size, (rank + 1) * n // size", "n // size * rank, n // size * (rank + 1)", "rounded before it is multiplied: what n / size leaves over belongs to nobody"),
            ("rank * n // size, (rank + 1) * n // size", "rank * n // size, (rank + 1) * n // size - 1", "the end is the first that is not this rank's any more, as in a slice"),
            ("(rank + 1) * n // size", "rank * n // size + n // size", "a stretch is not always n // size long: it ends where the next one begins"),
        ],
    ),
    Task(
        mean_gradient, "A mean of means", 27, "easy", 5,
        reference=_batch_gradient,
        cases=lambda rng: [(rng.standard_normal((2, 3)), np.array([4, 4])), (rng.standard_normal((3, 4)), np.array([1, 2, 5])), (rng.standard_normal((1, 2)), np.array([3]))],
        hints=("A part with more samples counts more.", "n_r g_r is the sum over the samples of a part.", "(counts[:, None] * gradients).sum(0) / counts.sum()."),
        slips=[
            ("(counts[:, None] * gradients).sum(0) / counts.sum()", "gradients.mean(0)", "the mean of means is right for equal parts alone"),
            (".sum(0) / counts.sum()", ".mean(0)", "divided by the number of parts, not of samples"),
            (" / counts.sum()", "", "the loss is a mean over the samples: divide by how many there are"),
        ],
    ),
    Task(
        ring_sum, "A sum around a ring", 27, "hard", 25,
        reference=lambda parts: np.tile(parts.sum(0), (len(parts), 1)),
        cases=lambda rng: [(rng.standard_normal((R, R * m)),) for R, m in ((2, 1), (3, 2), (4, 3), (1, 2))],
        hints=(
            "Follow one piece: it goes once round the ring and grows at each rank, and then once more and is copied.",
            "In turn k rank r gives piece (r − k) mod R and gets piece (r − 1 − k) mod R: never the same one, so all may act at once.",
            "held[following, (r − k) % R] += held[r, (r − k) % R] R − 1 times; then the same with (r + 1 − k) % R and = in place of +=.",
        ),
        slips=[
            ("held[following, piece] += held[r, piece]", "held[following, piece] = held[r, piece]", "on the first way round pieces must grow: add what is given to what is there"),
            ("held[following, piece] = held[r, piece]", "held[following, piece] += held[r, piece]", "on the second way round the sums are ready, and are copied; here they are added once more"),
            ("piece = (r + 1 - k) % R", "piece = (r - 1 - k) % R", "on the second way rank r begins with the piece whose sum it holds, r + 1"),
            ("    for k in range(R - 1):\n        piece = (r + 1 - k) % R\n        held[following, piece] = held[r, piece]\n", "", "each rank holds one sum now; the second way round, which copies them, is missing"),
            ("np.arange(R)\n    following = (r + 1) % R\n    for k in range(R - 1):", "np.arange(R)\n    following = (r + 1) % R\n    for k in range(R):", "R − 1 turns: in one more each piece meets itself and is counted twice"),
        ],
    ),
]  # fmt: skip
