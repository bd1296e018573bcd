"""A denoiser for points instead of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..errors import BadInput
from ..nn import GELU, Embedding, Linear, Module, ModuleList, Sequential
from ..tensor import Tensor
from .conditions import TARGETS, SinusoidalPositionEmbedBlock, check_choices


class MLP(Module):
    """The noise ε̂ (or what `target` says) in points x_t, given the step and the class.            # (N,D), (N,), (N,) -> (N,D)

    A Linear for each of x_t, t and label; their sum goes through `depth` layers of `width` numbers, each added to what it was
    given. Points that lie close together and have other neighbours need fine differences: x_t is shown with its sines, too.

    num_classes   labels run 0 … num_classes − 1; −1 means "no class", which has a learned vector of its own
    """

    def __init__(self, dimensions: int = 2, width: int = 128, depth: int = 3, num_classes: int = 8, time_dim: int = 32, target: str = "eps") -> None:
        for argument, value in (("dimensions", dimensions), ("width", width), ("depth", depth), ("num_classes", num_classes)):
            if int(value) != value or value < 1:
                raise BadInput(f"MLP: {argument} must be a whole number, 1 or more; got {value}")
        check_choices("MLP", target=(target, TARGETS))
        self.config = dict(network="mlp", dimensions=dimensions, width=width, depth=depth, num_classes=num_classes, time_dim=time_dim, target=target)
        self.target, self.num_classes, self.sample_shape = target, num_classes, (dimensions,)
        self.clock = SinusoidalPositionEmbedBlock(time_dim)
        self.points, self.time, self.labels = Linear(3 * dimensions, width), Linear(time_dim, width), Embedding(num_classes + 1, width)
        self.layers = ModuleList([Sequential(GELU(), Linear(width, width)) for _ in range(depth)])
        self.out = Sequential(GELU(), Linear(width, dimensions))

    def forward(self, x: Any, t: Any, labels: Any) -> Tensor:
        """x (N,D); t and labels (N,) or one for all, integers."""
        x = ops.as_tensor(x)
        if x.ndim != 2 or (x.shape[1],) != self.sample_shape:
            raise BadInput(f"MLP: x must be (N, {self.sample_shape[0]}), got {x.shape}")
        t, labels = (np.broadcast_to(np.asarray(a.data if isinstance(a, Tensor) else a), (len(x),)) for a in (t, labels))
        row = np.where(labels == -1, self.num_classes, labels)
        h = self.points(ops.concatenate([x, ops.sin(4.0 * x), ops.cos(4.0 * x)], axis=1)) + self.time(self.clock(t)) + self.labels(row)
        for layer in self.layers:
            h = h + layer(h)
        return self.out(h)
