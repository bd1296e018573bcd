"""The cases. Each breaks one part of `Healthy`, and names the check that finds it.

`eps` and `rescaled-linear` are no failures, but something to compare with. Some failures cost next to nothing in so short
a run, and `looks` says so; what each cost is in chapters/results/clinic.json.
"""

from __future__ import annotations

import contextlib
from typing import Any
from unittest.mock import patch

import numpy as np

from .. import models, optim
from ..backend import array_module
from ..data import Dataset
from ..diffusion import samplers
from ..nn import functional as F
from ..tensor import Tensor
from . import checks
from .healthy import DROP, Healthy


class Eps(Healthy):
    """The same run, asked for the noise: what a case that needs ε is held against. Near T a guess of the noise says next to
    nothing of the picture, so ε wants many more steps than v; after these few it draws a weave of patches, if a lower loss.
    """

    name, wrong, looks = "eps", "nothing; the noise is asked for", "a weave of patches: too few steps for ε"
    network = {**Healthy.network, "target": "eps"}


# ------------------------------------------------------------------------------------- the schedule


class ShortLinear(Healthy):
    """β from 0.0001 to 0.02 was made for 1,000 steps. With 100 it leaves ᾱ_T = 0.364: 60 % of the picture are there at T,
    and training never sees anything noisier. Sampling starts from pure noise all the same, which the network takes for a
    picture of its own.
    """

    name, wrong = "short-linear", "linear β with T = 100"
    looks = "scattered blots; the loss looks no worse"
    cure = "rescaled-linear or cosine, or zero_terminal_snr=True"
    schedule = {"name": "linear", "T": 100}
    find = staticmethod(checks.ends_in_noise)


class RescaledLinear(Healthy):
    """The same β times 1000/T: the cure that changes least."""

    name, wrong, looks = "rescaled-linear", "nothing; β times 1000/T", "digits"
    schedule = {"name": "rescaled-linear", "T": 100}


# ------------------------------------------------------------------------------------- the class


class AfterMid(Healthy):
    """The class is a vector, the same all over the image. Added where only a few small convolutions follow, and a GroupNorm
    that takes part of it away again, it can tint a digit but not choose one.
    """

    name, wrong = "after-mid", "class and step added after the mid blocks"
    looks = "pieces of digits, seldom those asked for"
    cure = "the class in every block: condition='film'"
    network = {**Healthy.network, "condition": "after-mid"}
    find = staticmethod(checks.hears_the_class)


class BeforeMid(Healthy):
    """Two blocks earlier, as in the report's network. The class is heard late (the check, after 80 steps, sees nothing of it
    yet), but after a thousand steps nearly as well as with FiLM.
    """

    name, wrong = "before-mid", "class and step added before the mid blocks"
    looks = "digits, mostly as asked for: it only hears later"
    cure = AfterMid.cure
    network = {**Healthy.network, "condition": "before-mid"}
    find = staticmethod(checks.hears_the_class)


class ShuffledLabels(Healthy):
    """Images and labels were shuffled, each in an order of their own."""

    name, wrong = "shuffled-labels", "labels belong to other images"
    looks = "pieces of digits of whatever class; the loss hardly moves"
    cure = "shuffle indices, and take both by the same"
    find = staticmethod(checks.labels_fit)

    def dataset(self, dataset: Dataset) -> Dataset:
        order = np.random.default_rng(0).permutation(len(dataset))
        return Dataset(dataset.name, dataset.images, dataset.labels[order], dataset.classes)


class WholeBatchDrop(Healthy):
    """One throw of the dice for the whole batch. Right in the mean, but nine steps teach only drawing with a class, and the
    tenth only drawing without.
    """

    name, wrong = "batch-drop", "labels dropped for whole batches at once"
    looks = "next to nothing at this rate"
    cure = "one throw for each sample"
    find = staticmethod(checks.drops_one_by_one)

    def drop(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.full_like(labels, -1) if rng.random() < DROP else labels


class WrongSign(Healthy):
    """(1 − w) ε_c + w ε_u: guidance leans away from the class. Both conventions in use have a plus where the other has a
    minus, which is how it happens.
    """

    name, wrong = "wrong-sign", "guidance with the wrong sign"
    looks = "anything but the digit asked for"
    cure = "(1 + w) ε_c − w ε_u"
    trained_as = "healthy"
    find = staticmethod(checks.leans_to_the_class)

    def sample(self, model: Any, labels: np.ndarray, **options: Any) -> np.ndarray:
        right = samplers.guided_output
        with patch.object(samplers, "guided_output", lambda model, xt, t, labels, w, *more: right(model, xt, t, labels, -w, *more)):
            return super().sample(model, labels, **options)


# ------------------------------------------------------------------------------------- the step


class UNetByPosition(models.UNet):
    """t is overwritten by the sample's place in the batch, 1 … N."""

    def forward(self, x: Any, t: Any, labels: Any) -> Tensor:
        data = x.data if isinstance(x, Tensor) else x
        return super().forward(x, array_module(data).arange(1, len(data) + 1), labels)


class ByPosition(Healthy):
    """The table of sines is indexed as for words in a sentence: row i for the i-th of the batch, and not row t. So equal steps
    are told as different ones, and the picture depends on its neighbours. It learns not to listen.
    """

    name, wrong = "by-position", "t embedded by the place in the batch"
    looks = "digits; but each changes with its place in the batch"
    cure = "table[t]"
    unet = UNetByPosition
    find = staticmethod(checks.keeps_the_order)


class NoClock(Healthy):
    """Nobody tells the network how much noise there is. It has to guess, and can, from the noise that it sees."""

    name, wrong = "no-clock", "no time embedding"
    looks = "digits all the same: how noisy a picture is, one sees"
    cure = "tell the step: clock=True"
    network = {**Healthy.network, "clock": False}
    find = staticmethod(checks.hears_the_step)


# ------------------------------------------------------------------------------------- the network


class NoSkips(Healthy):
    """All that is known of x has to pass the bottleneck, which is too narrow for noise: what is not named stays in the picture."""

    name, wrong = "no-skips", "no skip connections"
    looks = "the right digits under heavy grain; a loss three times as high"
    cure = "join each level's input on the way up: skips=True"
    network = {**Healthy.network, "skips": False}
    find = staticmethod(checks.sees_past_the_bottleneck)


class BlockyUNet(models.UNet):
    """Answers at half the size, brought to full size by repeating each pixel."""

    def forward(self, x: Any, t: Any, labels: Any) -> Tensor:
        return F.interpolate(F.avg_pool2d(super().forward(x, t, labels), 2), scale_factor=2)


class Blocky(Eps):
    """The last layer works at half the size, and nearest upsampling makes the rest. Asked for the noise, no such network can
    have a loss below 0.75, however long it is trained and however much it knows.

    For let ε₁ … ε₄ be the noise in a 2x2 patch, independent, of variance 1, and c the one number that is answered. Whatever c
    is, with the mean m = (ε₁ + … + ε₄)/4,

        ¼ Σ (εᵢ − c)² = ¼ Σ (εᵢ − m)² + (m − c)²,

    so c = m is best. And m has variance ¼, which is all that is explained: ¼ E Σ (εᵢ − m)² = 1 − ¼ = ¾.
    """

    name, wrong = "blocky", "output upsampled from half the size (target ε)"
    looks = "noise; the loss stops above 0.75"
    cure = "end in a convolution at full size, or in pixel_shuffle"
    unet = BlockyUNet
    find = staticmethod(checks.draws_single_pixels)


# ------------------------------------------------------------------------------------- the data


class ZeroToOne(Healthy):
    """Bytes divided by 255, and nothing more. The strokes have half the contrast against noise of size 1, all pictures are
    brighter than the noise that sampling starts from, and clipping at −1 no longer protects black. A network trained for v
    from end to end learns to live with that; one made for [−1,1], or shared with others, does not.
    """

    name, wrong = "zero-to-one", "data left in [0,1]"
    looks = "digits, thinner ones; a lower loss, which says nothing"
    cure = "2x − 1"
    find = staticmethod(checks.fills_the_range)

    def prepare(self, x0: np.ndarray) -> np.ndarray:
        return (x0 + 1) / 2

    def present(self, pictures: np.ndarray) -> np.ndarray:
        return np.clip(2 * pictures - 1, -1.0, 1.0)


# ------------------------------------------------------------------------------------- sampling


class StopsEarly(Healthy):
    """The loop ends one step before 0: `for t in range(T, 1, -1)`. With all 100 steps that leaves the noise of t = 1, with 25
    that of t = 4.
    """

    name, wrong = "stops-early", "the last denoising step is left out"
    looks = "the same digits; a grain that few would notice"
    cure = "down to t = 0"
    trained_as = "healthy"
    find = staticmethod(checks.arrives_at_the_picture)

    def sample(self, model: Any, labels: np.ndarray, callback: Any = None, **options: Any) -> np.ndarray:
        last = np.empty((len(labels), *samplers.sample_shape(model)), np.float32)

        def keep(k: int, s: int, xs: np.ndarray, x0: np.ndarray, indices: np.ndarray) -> None:
            if s > 0:
                last[indices] = xs
                if callback is not None:
                    callback(k, s, xs, x0, indices)

        super().sample(model, labels, callback=keep, **options)
        return last


class Unclipped(Eps):
    """x̂0 = (x_t − σ ε̂)/a, and a is 0.0005 at T of the cosine schedule: a fault of ε̂ comes back two thousand times as large.
    x̂0 knows no bounds; the pictures are clipped only when they are shown. (Asked for v, the same network hardly minds.)
    """

    name, wrong = "unclipped", "x̂0 not clipped while sampling (target ε)"
    looks = "flat black and white in place of shades"
    cure = "clip x̂0 to [−1,1] at each step, or ask for v"
    trained_as = "eps"
    find = staticmethod(checks.stays_where_pictures_lie)

    def sample(self, model: Any, labels: np.ndarray, **options: Any) -> np.ndarray:
        return super().sample(model, labels, clip=False, **options)


# ------------------------------------------------------------------------------------- weights


class RawWeights(Healthy):
    """The average was kept, and not put in place for drawing. A run whose learning rate falls to 0 forgives that."""

    name, wrong = "raw-weights", "drawn with the last weights, not their average"
    looks = "nothing, after a learning rate that fell to 0"
    cure = "with ema.applied():"
    trained_as = "healthy"
    find = staticmethod(checks.draws_with_the_average)

    def weights(self, ema: optim.EMA) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()


class ColdAverage(Healthy):
    """At resume the average was not restored: it begins anew, as a copy of fresh weights, and with no warm-up it keeps
    0.999^n of them after n steps, 37 % after 1,000.
    """

    name, wrong = "cold-average", "the average starts anew, with no warm-up"
    looks = "digits under grain; the training loss is the healthy one's"
    cure = "restore the average with the weights; EMA(warmup=True)"
    find = staticmethod(checks.forgets_the_start)

    def average(self, model: models.UNet) -> optim.EMA:
        return optim.EMA(model, decay=0.999, warmup=False)


CASES: dict[str, type[Healthy]] = {
    case.name: case
    for case in (
        Healthy, Eps, ShortLinear, RescaledLinear, AfterMid, BeforeMid, ShuffledLabels, WholeBatchDrop, WrongSign,
        ByPosition, NoClock, NoSkips, Blocky, ZeroToOne, StopsEarly, Unclipped, RawWeights, ColdAverage,
    )
}  # fmt: skip
