"""Losses. Differences are kept away from the kinks at 0 and ±δ by apart() and between()."""

import numpy as np
from scipy.special import expit, log_expit, log_softmax

from .. import ops
from ..ops.loss import CrossEntropy, MSELoss
from .case import apart, between, case, normal, textbook

REDUCE = {"mean": np.mean, "sum": np.sum, "none": np.asarray}


def _huber(a, b, delta=1.0):
    d = np.abs(a - b)
    return np.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta))


def _pair_case(label, name, expected, draws, **options):
    """A loss of two tensors, by PyTorch's names of options."""
    case(f"{name}, {label}", lambda a, b: getattr(ops, name)(a, b, **options), draws, expected,
         lambda torch, a, b: getattr(torch.nn.functional, name)(a, b, **options))  # fmt: skip


_pair_case("mean", "mse_loss", textbook(MSELoss), [normal(2, 3), normal(2, 3)])
_pair_case("sum", "mse_loss", lambda a, b: ((a - b) ** 2).sum(), [normal(2, 3), normal(2, 3)], reduction="sum")
_pair_case("none", "mse_loss", lambda a, b: (a - b) ** 2, [normal(2, 3), normal(2, 3)], reduction="none")
for _name, _reduce in REDUCE.items():
    _draws = [apart(2, 4), between(2, 4)]
    _pair_case(_name, "l1_loss", lambda a, b, r=_reduce: r(np.abs(a - b)), _draws, reduction=_name)
    _pair_case(_name, "huber_loss", lambda a, b, r=_reduce: r(_huber(a, b)), _draws, reduction=_name)
_pair_case("delta", "huber_loss", lambda a, b: _huber(a, b, 0.5).mean(), [apart(3, 2), between(3, 2)], delta=0.5)
_pair_case("beta", "smooth_l1_loss", lambda a, b: _huber(a, b, 0.5).mean() / 0.5, [apart(3, 2), between(3, 2)], beta=0.5)
_pair_case("beta 0", "smooth_l1_loss", lambda a, b: np.abs(a - b).sum(), [apart(5), between(5)], beta=0.0, reduction="sum")

# Cross-entropy. A label of -100 does not count.
LABELS, PIXELS = np.array([2, 0, 2]), np.array([[[1, -100], [0, 1]], [[2, 2], [-100, 0]]])
WEIGHT = np.array([0.5, 2.0, 1.25, 0.75])
PROBABILITIES = np.array([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.5, 0.0]])


def _cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """By the definition, class by class; x has its classes last."""
    k = x.shape[-1]
    weight = np.ones(k) if weight is None else weight
    labels = target.dtype.kind == "i"
    counted = (target != ignore_index)[..., None] if labels else 1.0
    t = np.eye(k)[np.where(target == ignore_index, 0, target)] if labels else target
    total = (counted * t * weight).sum() if labels else x.size / k
    losses = -(counted * ((1 - label_smoothing) * t + label_smoothing / k) * weight * log_softmax(x, -1)).sum(-1)
    return losses.sum() / total if reduction == "mean" else REDUCE[reduction](losses)


for _label, _shape, _target, _options in [
    ("mean", (3, 4), LABELS, {}),
    ("sum", (3, 4), LABELS, {"reduction": "sum"}),
    ("none", (3, 4), LABELS, {"reduction": "none"}),
    ("label smoothing", (3, 4), LABELS, {"label_smoothing": 0.2}),
    ("weight", (3, 4), LABELS, {"weight": WEIGHT}),
    ("pixels", (2, 3, 2, 2), PIXELS, {}),
    ("pixels, none", (2, 3, 2, 2), PIXELS, {"reduction": "none", "label_smoothing": 0.1}),
    ("another ignore_index", (3, 4), LABELS, {"ignore_index": 0}),
    ("weight, smoothing, ignored", (3, 4), np.array([3, -100, 1]), {"weight": WEIGHT, "label_smoothing": 0.3}),
    ("probabilities", (3, 4), PROBABILITIES, {}),
    ("probabilities, weight, smoothing", (3, 4), PROBABILITIES, {"weight": WEIGHT, "label_smoothing": 0.3}),
]:  # fmt: skip
    def _theirs(torch, x, t=_target, o=_options):
        t, o = torch.tensor(t), dict(o)
        if "weight" in o:
            o["weight"] = torch.tensor(o["weight"], dtype=x.dtype)
        return torch.nn.functional.cross_entropy(x, t.to(x.dtype) if t.is_floating_point() else t, **o)

    case(f"cross_entropy, {_label}", lambda x, t=_target, o=_options: ops.cross_entropy(x, t, **o), [normal(*_shape)],
         lambda x, t=_target, o=_options: _cross_entropy(np.moveaxis(x, 1, -1), t, **o), _theirs)  # fmt: skip
case("cross_entropy, of learned probabilities", lambda x, t: ops.cross_entropy(x, t, reduction="none"),
     [normal(2, 3, 2), normal(2, 3, 2)], textbook(CrossEntropy),
     lambda torch, x, t: torch.nn.functional.cross_entropy(x, t, reduction="none"))  # fmt: skip
for _label, _options in {"mean": {}, "weight": {"weight": WEIGHT}, "none": {"reduction": "none"}}.items():
    def _theirs(torch, x, o=_options):
        o = {k: torch.tensor(v, dtype=x.dtype) if k == "weight" else v for k, v in o.items()}
        return torch.nn.functional.nll_loss(x, torch.tensor(LABELS), **o)

    case(f"nll_loss, {_label}", lambda x, o=_options: ops.nll_loss(x, LABELS, **o), [normal(3, 4)],
         lambda x, o=_options: _nll(x, **o), _theirs)  # fmt: skip


def _nll(x, weight=None, reduction="mean"):
    w = (np.ones(4) if weight is None else weight)[LABELS]
    losses = -x[np.arange(3), LABELS] * w
    return losses.sum() / w.sum() if reduction == "mean" else losses


POS_WEIGHT = np.array([0.5, 2.0, 3.0])


def _bce(x, t, weight=1.0, pos_weight=1.0):
    return -weight * (pos_weight * t * log_expit(x) + (1 - t) * np.log1p(-expit(x)))


for _label, _options in {"mean": {}, "sum": {"reduction": "sum"}, "none": {"reduction": "none"},
                         "pos_weight": {"pos_weight": POS_WEIGHT}, "weight": {"weight": POS_WEIGHT[:2, None]}}.items():  # fmt: skip
    def _theirs(torch, x, t, o=_options):
        o = {k: v if k == "reduction" else torch.tensor(v, dtype=x.dtype) for k, v in o.items()}
        return torch.nn.functional.binary_cross_entropy_with_logits(x, t, **o)

    case(f"binary_cross_entropy_with_logits, {_label}",
         lambda x, t, o=_options: ops.binary_cross_entropy_with_logits(x, t, **o), [normal(2, 3), normal(2, 3)],
         lambda x, t, o=_options: REDUCE[o.get("reduction", "mean")](
             _bce(x, t, **{k: v for k, v in o.items() if k != "reduction"})),
         _theirs)  # fmt: skip
