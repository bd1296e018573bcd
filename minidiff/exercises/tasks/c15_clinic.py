"""Chapter 15: laws that hold for every network, and the mark of one that cannot do better."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def blocky(eps, K):
    """The best guess of the noise that is the same in every K×K patch, and its loss.            # (N,C,H,W) -> (N,C,H,W), one number

        ε̂ = the mean of ε over the patch,    L = ⟨(ε − ε̂)²⟩ over all pixels            H and W are multiples of K

    Of pure noise, L is 1 − 1/K²: a loss that stops there has an output that was enlarged by repeating.
    """
    N, C, H, W = eps.shape
    mean = eps.reshape(N, C, H // K, K, W // K, K).mean(axis=(3, 5))
    guess = mean.repeat(K, axis=2).repeat(K, axis=3)
    return guess, ((eps - guess) ** 2).mean()


def permutation_gap(network, x, t, labels, order):
    """How much a network's answers depend on the company: 0 of a sound one.            # -> one number

        max | network(x, t, y)[order] − network(x[order], t[order], y[order]) |

    Who permutes a batch must get the permuted answers. network(x, t, labels) is (N,C,H,W), as x; order is a permutation.
    """
    apart = network(x, t, labels)[order] - network(x[order], t[order], labels[order])
    return abs(apart).max()


def _blocky(eps, K):
    guess = np.kron(ops.avg_pool2d(Tensor(eps), K).numpy(), np.ones((K, K)))
    return guess, np.mean((eps - guess) ** 2)


def _networks(rng):
    """A sound one, one that reads the step off the place, one whose labels stay behind, one that normalises over the batch."""
    x, t, labels = rng.standard_normal((4, 1, 2, 2)), np.array([3, 20, 40, 99]), np.array([1, 5, 7, 2])

    def told(x, t, labels):
        return np.tanh(x + np.sin(0.1 * t + labels)[:, None, None, None])

    networks = (
        told,
        lambda x, t, labels: told(x, np.arange(len(x)), labels),
        lambda x, t, labels: told(x, t, np.arange(len(x))),
        lambda x, t, labels: told(x, np.arange(len(t)) * t, labels - np.arange(len(x))),
        lambda x, t, labels: told(x - x[:1], t, labels),
    )
    for network in networks:
        yield network, x, t, labels, np.array([2, 0, 3, 1])


TASKS = [
    Task(
        blocky, "The best that half a size can do", 15, "easy", 10,
        reference=_blocky, outputs=("guess", "loss"),
        cases=lambda rng: [(rng.standard_normal(shape), K) for shape, K in [((2, 1, 4, 4), 2), ((1, 2, 6, 3), 3), ((3, 1, 8, 4), 4)]],
        hints=(
            "What single number is nearest to all K² numbers of a patch, in squares?",
            "The mean. With eps as (N, C, H/K, K, W/K, K) it runs over two axes; then each mean is repeated K times along rows and columns.",
            "mean = eps.reshape(N, C, H // K, K, W // K, K).mean(axis=(3, 5)); mean.repeat(K, axis=2).repeat(K, axis=3).",
        ),
        slips=[
            ("reshape(N, C, H // K, K, W // K, K).mean(axis=(3, 5))", "reshape(N, C, K, H // K, K, W // K).mean(axis=(2, 4))", "a patch is made of neighbours: row h K + i belongs to patch h"),
            ("mean.repeat(K, axis=2).repeat(K, axis=3)", "np.tile(mean, (1, 1, K, K))", "each mean stands in its own patch, K times along rows and columns; np.tile repeats the whole picture"),
            ("((eps - guess) ** 2).mean()", "((eps - guess) ** 2).sum()", "the loss is a mean over all pixels"),
            ("((eps - guess) ** 2).mean()", "(guess**2).mean()", "that is what the guess explains; the loss is what it leaves"),
        ],
    ),
    Task(
        permutation_gap, "Does the company matter?", 15, "easy", 10,
        reference=lambda network, x, t, labels, order: np.abs(np.stack([network(x, t, labels)[k] for k in order]) - network(*(a[order] for a in (x, t, labels)))).max(),
        cases=_networks,
        hints=(
            "Two ways to the same answers: ask and then permute, or permute and then ask.",
            "Everything that belongs to a picture is permuted: the picture, its step, its label.",
            "network(x, t, labels)[order] against network(x[order], t[order], labels[order]); then the largest difference.",
        ),
        slips=[
            ("labels[order])", "labels)", "the labels stayed behind: a picture takes its label along"),
            ("t[order], ", "t, ", "the steps stayed behind: a picture takes its t along"),
            ("network(x, t, labels)[order]", "network(x, t, labels)", "the answers to the unpermuted question must be permuted too"),
            ("abs(apart).max()", "apart.max()", "a difference may be negative"),
            ("abs(apart).max()", "abs(apart.mean())", "differences cancel in a mean: the largest one counts"),
        ],
    ),
]  # fmt: skip
