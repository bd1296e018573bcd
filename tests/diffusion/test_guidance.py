"""Classifier-free guidance in both conventions."""

import re

import numpy as np
import pytest

import minidiff as md
from minidiff import is_grad_enabled, ops
from minidiff.diffusion import SAMPLERS, Guidance, classifier_gradient, guided_output, make_schedule, predict_x0, sample
from minidiff.diffusion.guidance import lean, rescaled
from minidiff.errors import BadInput
from minidiff.nn import Module
from minidiff.tensor import Tensor

NOISE_OF = np.array([0.5, -2.0, 3.0, 0.25])  # of classes 0 … 2, and last of no class


@pytest.fixture
def model(oracle):
    return oracle(lambda x, t, labels: x + NOISE_OF[labels][:, None, None, None])


@pytest.fixture
def xt(rng):
    return rng.standard_normal((3, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("w", [0.0, 0.5, 2.0, 7.5])
def test_both_conventions_agree(model, xt, w):
    """(1 + w) ε_c − w ε_u = ε_u + s (ε_c − ε_u) with s = 1 + w."""
    labels = np.array([0, 2, 1])
    model.eval()
    eps_cond, eps_uncond = (xt + NOISE_OF[i][..., None, None, None] for i in (labels, [-1, -1, -1]))
    eps = guided_output(model, xt, 5, labels, w)
    assert eps.dtype == np.float32
    np.testing.assert_allclose(eps, (1 + w) * eps_cond - w * eps_uncond, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(eps, eps_uncond + (1 + w) * (eps_cond - eps_uncond), rtol=1e-5, atol=1e-5)


def test_the_network_is_asked_once_and_about_no_class_only_when_needed(model, xt):
    model.eval()
    guided_output(model, xt, 5, np.array([0, 2, 1]), 0.0)
    guided_output(model, xt, 5, np.array([0, 2, 1]), 1.0)
    assert [(n, t, list(labels)) for n, t, labels in model.asked] == [(3, 5, [0, 2, 1]), (6, 5, [0, 2, 1, -1, -1, -1])]


def test_no_class_is_not_pushed_anywhere(model, xt):
    model.eval()
    labels = np.full(3, -1)
    np.testing.assert_allclose(guided_output(model, xt, 5, labels, 4.0), guided_output(model, xt, 5, labels, 0.0), rtol=1e-4, atol=1e-5)


def test_nothing_is_recorded(network, xt):
    seen = []

    def watched(*args):
        seen.append(is_grad_enabled())
        return network(*args)

    assert isinstance(guided_output(watched, xt, 5, np.array([0, 1, 2]), 1.0), np.ndarray)
    assert seen == [False]


# ------------------------------------------------------------------------------------------- more than w


def test_a_negative_class_takes_the_place_of_no_class(model, xt):
    model.eval()
    labels = np.array([0, 2, 1])
    eps = guided_output(model, xt, 5, labels, 1.5, negative=2)
    np.testing.assert_allclose(eps, xt + (2.5 * NOISE_OF[labels] - 1.5 * NOISE_OF[2])[:, None, None, None], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("phi", [0.0, 0.3, 1.0])
def test_rescaling_brings_the_size_back(rng, phi):
    """At φ = 1 each sample is as large as without guidance; in between, in between."""
    y, cond = 5.0 * rng.standard_normal((3, 1, 8, 8)) + 1.0, rng.standard_normal((3, 1, 8, 8))
    size = rescaled(y, cond, phi).std(axis=(1, 2, 3))
    np.testing.assert_allclose(size, phi * cond.std(axis=(1, 2, 3)) + (1 - phi) * y.std(axis=(1, 2, 3)), rtol=1e-9)


@pytest.mark.parametrize(("interval", "on"), [((0.0, 1.0), [1, 50, 100]), ((0.2, 0.8), [20, 50, 80]), ((0.5, 0.5), [50])])
def test_guidance_keeps_to_its_interval(interval, on):
    g = Guidance(w=2.0, interval=interval)
    assert [t for t in (1, 20, 50, 80, 100) if g.at(t, 100)] == [t for t in (1, 20, 50, 80, 100) if t in on or interval == (0.0, 1.0)]
    assert g.at(50, 100) == 2.0


class Brighter(Module):
    """A classifier of two classes, by whether a picture is bright: ln p(1) − ln p(0) = 4 · mean."""

    def forward(self, x0):
        m = 2.0 * x0.mean((1, 2, 3)).reshape(len(x0), 1)
        return ops.concatenate([-m, m], 1)


def test_the_classifiers_gradient_is_that_of_differences(network):
    """Through the network and x̂0, by central differences along a few directions, in float64."""
    for p in network.parameters():
        p.data = p.data.astype(np.float64)
    network.clock = None                                         # whose sines are float32
    rng, schedule = np.random.default_rng(0), make_schedule("cosine", 50)
    xt, labels, t, h = rng.standard_normal((3, 1, 8, 8)), np.array([0, 1, -1]), 30, 1e-5

    def opinion(x):
        x0 = predict_x0(schedule, Tensor(x), t, network(x, t, labels), "eps")
        log_p = ops.log_softmax(Brighter()(x0), 1).data
        return log_p[0, 0] + log_p[1, 1]

    g = classifier_gradient(network, Brighter(), schedule, xt, t, labels)
    assert np.abs(g[2]).max() == 0                               # nobody asked for a class there
    for _ in range(3):
        d = rng.standard_normal(xt.shape)
        assert (g * d).sum() == pytest.approx((opinion(xt + h * d) - opinion(xt - h * d)) / (2 * h), rel=1e-4)


def test_a_classifier_moves_samples_towards_its_class(network):
    schedule, labels = make_schedule("cosine", 50), np.repeat([0, 1], 6)

    def brightness(strength):
        guidance = Guidance(classifier=Brighter(), strength=strength)
        drawn = sample(network, schedule, labels, "ddim", 20, guidance=guidance)
        return [drawn[labels == k].mean() for k in (0, 1)]

    plain, (dark, bright) = sample(network, schedule, labels, "ddim", 20).mean(), brightness(20.0)
    assert dark < plain - 0.02 and bright > plain + 0.02
    np.testing.assert_allclose(brightness(0.0), [sample(network, schedule, labels, "ddim", 20)[labels == k].mean() for k in (0, 1)], atol=1e-4)


class Smooth(Module):
    """A network of one bounded nonlinear layer, which costs nothing."""

    config = {"num_classes": 2, "in_channels": 1, "image_size": 4}

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x, t, labels):
        return ops.tanh(ops.as_tensor(x) * 0.7) + np.float32(0.1) * np.asarray(labels, np.float32).reshape(-1, 1, 1, 1)


ENDS = [("linear", {}), ("rescaled-linear", {}), ("cosine", {}), ("sigmoid", {}), ("flow", {}), ("edm", {}),
        *((name, {"zero_terminal_snr": True}) for name in ("linear", "rescaled-linear", "cosine", "sigmoid"))]  # fmt: skip


@pytest.mark.parametrize("target", ["eps", "x0", "v", "flow", "edm"])
@pytest.mark.parametrize(("name", "options"), ENDS, ids=str)
def test_a_classifier_keeps_every_sampler_finite_where_the_signal_ends(name, options, target):
    """A step at which nothing of the picture is left divides by a signal of 0; samples of no class are those without it."""
    schedule, labels = make_schedule(name, 12, **options), np.array([0, 1, -1])
    if target == "eps" and schedule.signal[-1] == 0:
        return
    network = Smooth(target)
    for sampler in SAMPLERS:
        for clip in (True, False, "dynamic"):
            plain = sample(network, schedule, labels, sampler, 3, clip=clip)
            for strength in (0.0, 1e-6, 1e-3, 1.0, 10.0) if clip is True else (1e-3, 10.0):
                drawn = sample(network, schedule, labels, sampler, 3, clip=clip, guidance=Guidance(classifier=Brighter(), strength=strength))
                assert np.isfinite(drawn).all(), (sampler, clip, strength)
                size = max(1.0, np.abs(plain).max())
                np.testing.assert_allclose(drawn[2], plain[2], atol=1e-4 * size, err_msg=f"{sampler} {clip} {strength}")
                if strength == 0:
                    np.testing.assert_allclose(drawn, plain, atol=1e-4 * size, err_msg=f"{sampler} {clip}")


@pytest.mark.parametrize(("name", "options", "first"), [("flow", {}, 49), ("cosine", {"zero_terminal_snr": True}, 49), ("cosine", {}, 50), ("edm", {}, 50)])
def test_a_classifier_acts_from_the_first_step_that_holds_some_of_the_picture(network, name, options, first):
    """x_T without signal is independent of the class: the gradient of ln p(label | x_T) is 0, and the network's answer stays."""
    schedule, asked = make_schedule(name, 50, **options), []
    network.target = "v"

    class Asked(Brighter):
        def forward(self, x0):
            asked.append(len(x0))
            return super().forward(x0)

    sample(network, schedule, [0, 1], "ddim", guidance=Guidance(classifier=Asked()))
    assert len(asked) == first


def test_a_classifier_moves_x0_and_eps_as_the_paper_has_it(rng):
    """ε̂' = ε̂ − s σ ∇ ln p, and x_t = a x̂0' + σ ε̂'."""
    schedule, (xt, x0, g), t, s = make_schedule("cosine", 50), rng.standard_normal((3, 2, 1, 4, 4)), 30, 2.5
    a, sigma = schedule.signal[t], schedule.noise[t]
    eps = (xt - a * x0) / sigma - s * sigma * g
    np.testing.assert_allclose(lean(schedule, t, x0, g, s), (xt - sigma * eps) / a, rtol=1e-10)


def test_rescaling_leaves_an_answer_without_deviation_as_it_is(model, xt):
    """A network whose last layer starts at 0 answers with 0 everywhere: its deviation is no number to divide by."""
    zero = np.zeros((2, 1, 4, 4), np.float32)
    np.testing.assert_array_equal(rescaled(zero, zero, 0.7), zero)
    assert rescaled(zero, zero, 0.7).dtype == np.float32


def test_the_judge_alone_makes_digits_of_a_model_that_is_told_no_class():
    """The bundled network, told nothing, draws the digit that was asked for once in ten times; the judge can lead it there."""
    loaded, judge, labels = md.train.load_model("mnist"), md.evaluate.load_judge(), np.arange(10)

    def right(guidance):
        drawn = sample(loaded.model, loaded.schedule, labels, "ddim", 10, guidance=guidance)
        return (judge.classify(drawn) == labels).mean()

    assert right(Guidance(classifier=judge, strength=0.0, alone=True)) <= 0.4
    assert right(Guidance(classifier=judge, strength=10.0, alone=True)) >= 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alone": True}, "sample: a classifier that leads alone needs a classifier, and no w beside it"),
        ({"alone": True, "classifier": Brighter, "w": 1.0}, "sample: a classifier that leads alone needs a classifier, and no w beside it"),
        ({"w": -1.0}, "sample: guidance must be a finite number, 0 or more; got -1.0"),
        ({"interval": (0.6, 0.4)}, "sample: the interval of guidance must be two parts of T, 0 <= low <= high <= 1; got (0.6, 0.4)"),
        ({"rescale": 1.5}, "sample: rescale must lie between 0 and 1, got 1.5"),
        ({"strength": float("nan")}, "sample: the strength of a classifier must be finite, got nan"),
    ],
)
def test_bad_input_is_answered_in_one_line(options, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        Guidance(**options)


def test_a_classifier_looks_at_what_the_model_draws_with_its_style():
    told = []

    class Styled(Module):
        config, style_dim, target = {"num_classes": 2, "in_channels": 1, "image_size": 8}, 1, "eps"

        def forward(self, x, t, labels, style=None):
            told.append(style)
            return ops.as_tensor(x) * 0.5

    sample(Styled(), make_schedule("cosine", 10), np.array([0, 1]), "ddim", 2, guidance=Guidance(classifier=Brighter()), style=np.array([1.5]))
    assert len(told) == 4 and all(style is not None and (style == 1.5).all() for style in told)
