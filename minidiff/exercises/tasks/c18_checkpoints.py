"""Chapter 18: an average of weights, and what a run must know to go on as if nothing had happened."""

import numpy as np

from ... import nn, optim
from ...data.dataset import Dataset
from ...data.loader import DataLoader
from ..task import Task


def rows_of(step, n, batch, seed):
    """Which of n samples make the batch of a step, counted from 0.            # four whole numbers -> (batch,)

        n // batch batches make an epoch, what is left over is not used;  epoch e visits the samples in the order
        np.random.default_rng((seed, e)).permutation(n)

    Nothing is remembered from one call to the next: a run that is resumed at a step sees the batch that it would have seen.
    """
    e, b = divmod(step, n // batch)
    order = np.random.default_rng((seed, e)).permutation(n)
    return order[b * batch : (b + 1) * batch]


def ema_update(average, weights, updates, decay):
    """The average of the weights, one step further.            # (…) (…) -> (…)

        d = min(decay, (1 + n)/(10 + n)),    a ← d a + (1 − d) θ            n: the updates done before

    While n is small, so is d: the random weights of the start are soon forgotten.
    """
    d = min(decay, (1 + updates) / (10 + updates))
    return d * average + (1 - d) * weights


def _rows(step, n, batch, seed):
    images = np.zeros((n, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(n)
    loader = DataLoader(Dataset("numbered", images, np.zeros(n, np.int64), ("0",)), batch, size=28, seed=seed, prefetch=0)
    loader.load_state_dict({**loader.state_dict(), "position": step})
    x = next(loader)[0]
    return np.round((x[:, 0, 0, 0] + 1) * 127.5).astype(int)


def _ema(average, weights, updates, decay):
    model = nn.Linear(1, 1)
    ema = optim.EMA(model, decay)
    ema.average, ema.updates = {"weight": average.copy(), "bias": np.zeros(1)}, updates
    model.weight.data = weights.copy()
    ema.update()
    return ema.average["weight"]


TASKS = [
    Task(
        ema_update, "The average of the weights", 18, "easy", 5,
        reference=_ema,
        cases=lambda rng: [(*rng.standard_normal((2, 3)), n, 0.99) for n in (0, 5, 2000)],
        hints=(
            "d is how much of the old average stays.",
            "At n = 0 that is 1/10, so nine tenths come from the weights of now.",
            "d = min(decay, (1 + updates) / (10 + updates)); d * average + (1 − d) * weights.",
        ),
        slips=[
            ("d = min(decay, (1 + updates) / (10 + updates))", "d = decay", "the warm-up is missing: the random weights of the start stay for long"),
            ("d * average + (1 - d) * weights", "(1 - d) * average + d * weights", "d is what stays of the average; here it is what comes from the weights"),
            ("min(decay,", "max(decay,", "of decay and (1 + n)/(10 + n) the smaller is meant"),
        ],
    ),
    Task(
        rows_of, "The batch of any step", 18, "easy", 10,
        reference=_rows,
        cases=lambda rng: [(0, 10, 4, 0), (1, 10, 4, 0), (2, 10, 4, 0), (7, 10, 4, 3), (9, 12, 4, 1), (5, 7, 7, 2)],
        hints=("Two numbers say where a step is: its epoch, and which batch of the epoch.", "Both come from dividing the step by the batches of an epoch, n // batch.", "e, b = divmod(step, n // batch); order[b * batch : (b + 1) * batch]."),
        slips=[
            ("(seed, e)", "(seed, 0)", "each epoch has an order of its own: the epoch belongs to the seed"),
            ("(seed, e)", "(seed, step)", "the order is one of an epoch, not of a step: so some samples come twice in it and others never"),
            ("divmod(step, n // batch)", "divmod(step, -(-n // batch))", "what is left over after the whole batches is not used: n // batch, rounded down"),
            ("order[b * batch : (b + 1) * batch]", "order[b : b + batch]", "batch b begins behind b whole batches, not behind b samples"),
            ("np.random.default_rng((seed, e))", "np.random.default_rng(seed + e)", "seed + e makes epoch 1 of seed 0 and epoch 0 of seed 1 the same; give the pair"),
        ],
    ),
]  # fmt: skip
