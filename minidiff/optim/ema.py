"""The average of a model's weights over its last steps, which draws better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .. import kernels
from ..backend import Array, array_module, array_of, to_numpy
from ..contexts import reusable
from ..errors import BadInput
from ..nn.module import Module, state_difference
from .optimizer import Scratch, fraction, is_plain


class EMA:
    """Exponential moving average of a model's parameters (Polyak & Juditsky 1992, in its exponential form).

        a ← a + (1 − d) (θ − a),      d = min(decay, (1 + n)/(10 + n))

    n counts the updates done before. The average remembers about 1/(1 − d) updates; with `warmup`
    that is a fixed part of those so far, so that the random weights of the start are soon forgotten.
    Without, d = decay from the first. a begins as a copy of θ.
    """

    def __init__(self, model: Module, decay: float = 0.999, warmup: bool = True) -> None:
        if not isinstance(model, Module):
            raise BadInput(f"EMA: model must be a Module, got {type(model).__name__}")
        self.model = model
        self.decay, self.warmup = fraction("EMA: decay", decay), warmup
        self.updates = 0
        self.average = {name: p.data.copy() for name, p in self._parameters()}
        self._scratch = Scratch()

    def update(self) -> None:
        """Take the model's present weights into the average."""
        d = self.next_decay()
        pairs = self.pairs()
        self.updates += 1
        flat = [a for pair in pairs for a in pair]
        kernel = kernels.special("average", *flat) if flat else None
        if kernel is not None and all(map(is_plain, flat)):
            kernel(*zip(*pairs, strict=True), 1 - d)
            return
        for a, data in pairs:
            change = self._scratch.like(a)
            array_module(a).subtract(data, a, out=change)
            change *= 1 - d
            a += change

    def pairs(self) -> list[tuple[Array, Array]]:
        """(a, θ) for every parameter."""
        return [(self.average[name], p.data) for name, p in self._parameters()]

    def next_decay(self) -> float:
        """d of the next update."""
        n = self.updates
        return min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay

    @reusable
    def applied(self) -> Iterator[Module]:
        """`with ema.applied():` the model has the averages for weights, and afterwards its own again.

        Its own arrays are put aside, not copied, so they come back bit by bit, also after an error.
        Inside, the model works on copies: training it there changes neither them nor the average.
        """
        own = [(p, p.data) for _, p in self._parameters()]
        try:
            for name, p in self._parameters():
                p.data = self.average[name].copy()
            yield self.model
        finally:
            for p, data in own:
                p.data = data

    def state_dict(self) -> dict[str, Any]:
        """The model's state_dict with averages for weights, and "ema.updates"; buffers are the model's."""
        averages = {name: np.array(to_numpy(a)) for name, a in self.average.items()}
        return {**self.model.state_dict(), **averages, "ema.updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict. Raises BadInput, having changed nothing, if it is not of this model."""
        arrays = {name: to_numpy(array_of(value)) for name, value in state.items() if name != "ema.updates"}
        if "ema.updates" not in state:
            raise BadInput("EMA: the state has no ema.updates")
        if difference := state_difference(self.model.state_dict(), arrays):
            raise BadInput(f"written by another architecture: {difference}")
        new = {name: array_module(a).array(arrays[name], dtype=a.dtype) for name, a in self.average.items()}
        self.average, self.updates = new, int(state["ema.updates"])

    def _parameters(self) -> Iterator[tuple[str, Any]]:
        """Every path of every parameter: one that two modules share has two, as in the model's state_dict."""
        return self.model.named_parameters(remove_duplicate=False)
