"""Chapter 12: the rate, and labels that get lost."""

import numpy as np

from ... import optim
from ...tensor import Tensor
from ..task import Task


def cosine_lr(k, total, warmup, peak, floor):
    """The learning rate of step k = 0, 1, …            # -> one number

        peak (k + 1)/(W + 1)                                      k < W            W warm-up steps
        floor + ½ (peak − floor) (1 + cos π (k − W)/(K − W))      W ≤ k ≤ K        K steps in all
        floor                                                     k > K
    """
    if k < warmup:
        return peak * (k + 1) / (warmup + 1)
    done = min(1.0, (k - warmup) / (total - warmup))
    return floor + 0.5 * (peak - floor) * (1 + np.cos(np.pi * done))


def drop_labels(labels, rate, u):
    """Labels with some of them lost: each becomes −1 where its own u, from [0,1), is below the rate.            # (N,) (N,) -> (N,)

    Sample by sample, so that one network learns to draw with a class and without, both in every batch.
    """
    return np.where(u < rate, -1, labels)


def _rate(k, total, warmup, peak, floor):
    optimizer = optim.SGD([Tensor(np.zeros(1), requires_grad=True)], lr=peak)
    return optim.CosineLR(optimizer, total, warmup, floor).lr_at(k)


TASKS = [
    Task(
        cosine_lr, "Warm up, then cool down", 12, "easy", 10,
        reference=_rate,
        cases=lambda rng: [(k, 100, 10, 0.02, 0.001) for k in (0, 9, 10, 11, 55, 99, 100, 150)] + [(0, 10, 0, 1.0, 0.0)],
        hints=(
            "Three pieces. The last one is the second, held at its end.",
            "The cosine's angle runs from 0 at k = W to π at k = K.",
            "done = min(1.0, (k − warmup) / (total − warmup)); floor + 0.5 * (peak − floor) * (1 + np.cos(np.pi * done)).",
        ),
        slips=[
            ("peak * (k + 1) / (warmup + 1)", "peak * k / warmup", "the first step would have the rate 0, and be lost: (k + 1)/(W + 1)"),
            ("min(1.0, (k - warmup) / (total - warmup))", "(k - warmup) / (total - warmup)", "after K steps the rate stays at the floor; the cosine would rise again"),
            ("(k - warmup) / (total - warmup)", "k / total", "the cosine begins after the warm-up, and has K − W steps"),
            ("floor + 0.5 * (peak - floor)", "floor + 0.5 * peak", "between peak and floor lie peak − floor"),
            ("np.cos(np.pi * done)", "np.cos(done)", "the angle runs up to π"),
        ],
    ),
    Task(
        drop_labels, "Labels that get lost", 12, "easy", 5,
        reference=lambda labels, rate, u: np.array([-1 if x < rate else k for k, x in zip(labels, u, strict=True)]),
        cases=lambda rng: [(rng.integers(0, 10, n), rate, rng.random(n)) for n, rate in [(8, 0.5), (20, 0.1), (5, 0.0), (12, 0.9)]] + [(np.array([3, 1, 4]), 0.25, np.array([0.25, 0.0, 0.5]))],
        hints=(
            "One throw of the dice for each sample; u is what they show.",
            "np.where(condition, a, b) takes a where the condition holds.",
            "np.where(u < rate, −1, labels).",
        ),
        slips=[
            ("np.where(u < rate, -1, labels)", "np.full_like(labels, -1) if u[0] < rate else labels", "one throw for the whole batch: each sample has a u of its own"),
            ("u < rate", "u > rate", "the wrong ones are lost: a rate of 0.1 would lose nine of ten"),
            ("np.where(u < rate, -1, labels)", "np.where(u < rate, 0, labels)", "0 is a class, the digit 0: no class is −1"),
            ("np.where(u < rate, -1, labels)", "labels[u >= rate]", "lost labels become −1; their samples stay"),
        ],
    ),
]  # fmt: skip
