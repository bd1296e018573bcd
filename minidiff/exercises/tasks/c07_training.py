"""Chapter 7: the step, the average, the rate, and labels that get lost."""

import numpy as np

from ... import nn, optim
from ...tensor import Tensor
from ..task import Task


def adam_step(p, g, m, v, t, lr, beta1, beta2, eps):
    """Step t = 1, 2, … of Adam (Kingma & Ba 2015, algorithm 1).            # all (…) -> p, m, v as they are after it

        m ← β₁ m + (1 − β₁) g,              v ← β₂ v + (1 − β₂) g²
        m̂ = m / (1 − β₁ᵗ),                  v̂ = v / (1 − β₂ᵗ)
        p ← p − lr m̂ / (√v̂ + eps)
    """
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def ema_update(average, weights, updates, decay):
    """The average of the weights, one step further.            # (…) (…) -> (…)

        d = min(decay, (1 + n)/(10 + n)),    a ← d a + (1 − d) θ            n: the updates done before

    While n is small, so is d: the random weights of the start are soon forgotten.
    """
    d = min(decay, (1 + updates) / (10 + updates))
    return d * average + (1 - d) * weights


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


def _adam(p, g, m, v, t, lr, beta1, beta2, eps):
    """The library's step, which works in place."""
    optim.Adam([Tensor(p, requires_grad=True)], lr, (beta1, beta2), eps)._adapt(p, g, t, m, v, np.empty_like(p))
    return p, m, v


def _ema(average, weights, updates, decay):
    model = nn.Linear(1, 1)
    ema = optim.EMA(model, decay)
    ema.average, ema.updates = {"weight": average.copy(), "bias": np.zeros(1)}, updates
    model.weight.data = weights.copy()
    ema.update()
    return ema.average["weight"]


def _rate(k, total, warmup, peak, floor):
    optimizer = optim.SGD([Tensor(np.zeros(1), requires_grad=True)], lr=peak)
    return optim.CosineLR(optimizer, total, warmup, floor).lr_at(k)


def _adam_cases(rng):
    for shape, t, eps in [((4,), 1, 1e-8), ((2, 3), 3, 1e-8), ((3,), 10, 0.1)]:
        p, g, m = rng.standard_normal((3, *shape))
        v = rng.uniform(0.1, 1, shape)
        yield p, g, (m if t > 1 else 0 * m), (v if t > 1 else 0 * v), t, 0.01, 0.9, 0.99, eps


TASKS = [
    Task(
        adam_step, "A step of Adam", 7, "medium", 15,
        reference=_adam, outputs=("p", "m", "v"), cases=_adam_cases,
        hints=(
            "Five lines, one after the other as they stand there. Nothing is to be changed in place.",
            "m and v are kept as they are; m̂ and v̂ are only for this step. t counts from 1.",
            "p − lr * m_hat / (np.sqrt(v_hat) + eps), and return p, m, v.",
        ),
        slips=[
            ("m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)", "m_hat, v_hat = m, v", "the correction by 1 − βᵗ is missing: m and v still feel the zeros that they began with"),
            ("m / (1 - beta1**t), v / (1 - beta2**t)", "m / (1 - beta1 ** (t - 1) if t > 1 else 1), v / (1 - beta2 ** (t - 1) if t > 1 else 1)", "t counts from 1: at the first step the correction is 1 − β"),
            ("(1 - beta2) * g**2", "(1 - beta2) * g", "v is the mean of g², not of g"),
            ("(np.sqrt(v_hat) + eps)", "np.sqrt(v_hat + eps)", "eps stands beside the root, not under it"),
            ("(np.sqrt(v_hat) + eps)", "(v_hat + eps)", "divide by the root of v̂"),
            ("return p - lr", "return p + lr", "the step goes down the slope: minus"),
            ("return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v", "return p - lr * m_hat / (np.sqrt(v_hat) + eps), m_hat, v_hat", "m and v are kept as they are, without the correction"),
        ],
    ),
    Task(
        ema_update, "The average of the weights", 7, "easy", 5,
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
        cosine_lr, "Warm up, then cool down", 7, "easy", 10,
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
        drop_labels, "Labels that get lost", 7, "easy", 5,
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
