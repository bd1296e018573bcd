"""Cheap checks: each tells one kind of bug without a training that deserves the name.

A check is given a case, healthy or not, tries the part of it that it is about, and says what it saw.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import data, diffusion, nn, optim
from ..autograd import no_grad
from ..evaluate import judge_samples
from ..nn import functional as F
from ..tensor import Tensor
from .healthy import LR, Finding, Healthy

SMALL = {"channels": (16, 32), "patch": 2}  # the networks that are only looked at


class Believes:
    """A stand-in for a network, whose belief x̂0 is the same grey for each label, whatever it is shown."""

    config = {"in_channels": 1, "image_size": 8, "num_classes": 10}
    target, training = "x0", False

    def __init__(self, with_class: float, without: float) -> None:
        self.with_class, self.without = with_class, without

    def __call__(self, x: Any, t: Any, labels: Any) -> Tensor:
        grey = np.where(np.asarray(labels) >= 0, self.with_class, self.without).astype(np.float32)
        return Tensor(np.broadcast_to(grey.reshape(-1, 1, 1, 1), x.shape))

    def eval(self) -> None: ...

    def train(self, mode: bool = True) -> None: ...


def shaken(case: Healthy) -> Any:
    """A fresh, small network with all weights a little off: a new FiLM layer is zero, and hears nothing."""
    model, rng = case.build(**SMALL), np.random.default_rng(0)
    for p in model.parameters():
        p.data += 0.1 * rng.standard_normal(p.shape, dtype=np.float32)
    return model.eval()


def questions(n: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x_t, t and labels, all different."""
    x = np.random.default_rng(1).standard_normal((n, 1, 32, 32), dtype=np.float32)
    return x, np.linspace(1, 100, n).astype(int), np.arange(n)


def answers(model: Any, x: np.ndarray, t: Any, labels: np.ndarray) -> np.ndarray:
    with no_grad():
        return model(x, t, labels).numpy()


# ------------------------------------------------------------------------------------- schedule and data


def ends_in_noise(case: Healthy) -> Finding:
    """Sampling starts from pure noise, so the road must end there: read `Schedule.report()`."""
    return Finding("warning" not in case.road().report(), f"{case.road().signal[-1]:.1%} of the picture is left at T")


def fills_the_range(case: Healthy) -> Finding:
    """Black must be −1 and white 1: look at the smallest and the largest number that the network gets."""
    x = case.prepare(data.to_model(data.load("glyphs", limit=16).images))
    return Finding(bool(x.min() == -1 and x.max() > 0.9), f"pictures run from {x.min():g} to {x.max():g}")


def labels_fit(case: Healthy) -> Finding:
    """Images and labels must belong together: let a judge, who has never seen this program, read some."""
    pairs = case.dataset(data.load("glyphs", limit=200))
    accuracy = judge_samples(data.to_model(pairs.images), pairs.labels).accuracy
    return Finding(accuracy > 0.7, f"the judge reads {accuracy:.0%} of the training images as their label says")


def drops_one_by_one(case: Healthy) -> Finding:
    """Of a rate p, a batch of 32 must lose about 32 p labels: count in 200 batches."""
    rng, labels = np.random.default_rng(0), np.arange(32) % 10
    lost = np.array([(case.drop(labels, rng) == -1).sum() for _ in range(200)])
    return Finding(bool(0 < lost.mean() and lost.max() < 32), f"a batch of 32 loses {lost.min()} to {lost.max()} labels, {lost.mean():.1f} in the mean")


# ------------------------------------------------------------------------------------- the network


def keeps_the_order(case: Healthy) -> Finding:
    """No sample may know its place: permuting the batch must permute the answers, and change nothing else."""
    model, (x, t, labels) = shaken(case), questions()
    order = np.random.default_rng(2).permutation(len(x))
    apart = abs(answers(model, x, t, labels)[order] - answers(model, x[order], t[order], labels[order])).max()
    return Finding(bool(apart < 1e-3), f"answers differ by {apart:.1g} when the batch is permuted")


def hears_the_step(case: Healthy) -> Finding:
    """The same x with another t is another question."""
    model, (x, _, labels) = shaken(case), questions()
    apart = abs(answers(model, x, 5, labels) - answers(model, x, 90, labels)).max()
    return Finding(bool(apart > 1e-3), f"answers at t = 5 and t = 90 differ by {apart:.1g}")


def sees_past_the_bottleneck(case: Healthy) -> Finding:
    """Silence what comes up from the bottom. The answer must still depend on x: that way the fine strokes come."""
    model, (x, t, labels) = shaken(case), questions()
    for p in model.ups[0].up.parameters():
        p.data[...] = 0
    change = abs(answers(model, x, t, labels) - answers(model, x[::-1].copy(), t, labels)).max()
    return Finding(bool(change > 1e-3), f"with the bottom silenced, another x changes the answer by {change:.1g}")


def draws_single_pixels(case: Healthy) -> Finding:
    """ε is independent from pixel to pixel, so the answer must be able to be."""
    model, (x, t, labels) = shaken(case), questions()
    y = answers(model, x, t, labels)
    spread = y.reshape(len(y), 16, 2, 16, 2).std((2, 4)).max()
    return Finding(bool(spread > 1e-3), f"pixels of one 2x2 patch differ by {spread:.1g}" + ("" if spread > 1e-3 else ": no ε-MSE below 0.75"))


T_EXAM, EXAM_STEPS, EXAM_GAP = 80, 80, 0.03


def hears_the_class(case: Healthy) -> Finding:
    """A short exam: 80 steps with all pictures drowned to t = 80, where the class is worth knowing. Then ask about unseen
    digits, once with their labels and once with the wrong ones: that must cost something.

    It tells who hears the class *soon*. Always with patches of 2 pixels: there the ways to hear it differ most.
    """
    learn, test = data.load("glyphs", limit=2000), data.load("glyphs", "test", limit=128)
    model, road, rng = case.build(**SMALL), case.road(), np.random.default_rng(0)
    optimizer = optim.AdamW(model.parameters(), lr=2 * LR, weight_decay=0.0)

    def loss(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Tensor:
        x0 = data.to_model(images)
        eps = rng.standard_normal(x0.shape, dtype=np.float32)
        wanted = diffusion.training_target(road, x0, T_EXAM, eps, model.target)
        return F.mse_loss(model(diffusion.q_sample(road, x0, T_EXAM, eps), T_EXAM, labels), wanted)

    for _ in range(EXAM_STEPS):
        picked = rng.integers(0, len(learn), 32)
        loss(learn.images[picked], learn.labels[picked], rng).backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with no_grad():
        right, wrong = (loss(test.images, (test.labels + k) % 10, np.random.default_rng(1)).item() for k in (0, 1))
    return Finding(wrong > (1 + EXAM_GAP) * right, f"wrong labels raise the loss by {wrong / right - 1:.1%}")


# ------------------------------------------------------------------------------------- weights


def forgets_the_start(case: Healthy) -> Finding:
    """A weight that is 0 at first and 1 from then on must have an average near 1 after 100 steps."""
    model: Any = nn.Linear(1, 1)
    model.weight.data[...] = 0
    ema = case.average(model)
    model.weight.data[...] = 1
    for _ in range(100):
        ema.update()
    share = 1 - ema.average["weight"].item()
    return Finding(share < 0.1, f"after 100 steps {share:.0%} of the average are the weights of the start")


def draws_with_the_average(case: Healthy) -> Finding:
    """Mark the average, and see which weights are there while drawing."""
    model: Any = nn.Linear(1, 1)
    ema = case.average(model)
    ema.average["weight"][...] = 7
    with case.weights(ema):
        used = model.weight.item()
    return Finding(used == 7, "drawn with the " + ("average" if used == 7 else "last weights"))


# ------------------------------------------------------------------------------------- sampling


def arrives_at_the_picture(case: Healthy) -> Finding:
    """If the network is sure of the picture, that very picture must come out, without a grain of noise."""
    grain = abs(case.sample(Believes(0.5, 0.5), np.arange(4)) - 0.5).max()
    return Finding(bool(grain < 1e-4), f"a network that is sure of its picture gets it with errors of {grain:.1g}")


def leans_to_the_class(case: Healthy) -> Finding:
    """With a class the belief is 0.2, without −0.2. Guidance must lead past 0.2, away from −0.2: (1 + w) 0.2 + w 0.2."""
    drawn = case.sample(Believes(0.2, -0.2), np.arange(4), guidance=1.0).mean()
    return Finding(bool(drawn > 0.21), f"belief 0.2 with the class and -0.2 without; guidance leads to {drawn:.2f}")


def stays_where_pictures_lie(case: Healthy) -> Finding:
    """No belief may leave [−1,1], whatever the network says: look at x̂0 while a fresh one samples."""
    largest = []
    case.sample(case.build(**SMALL), np.arange(2), steps=4, guidance=0.0, callback=lambda k, s, xs, x0, i: largest.append(abs(x0).max()))
    return Finding(bool(max(largest) <= 1.0), f"the largest pixel of a belief is {max(largest):.3g}")
