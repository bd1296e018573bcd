"""A training step that stays on the GPU: recorded once as a CUDA graph, then replayed.

A step of a small network is several hundred kernels, each shorter than the time that Python takes to launch it. A CUDA
graph holds all these launches, with their arguments, and starts them as one. What it can hold are launches alone: no
look at a number, no copy from the CPU, no memory that is handed out anew. So everything that a step needs lies in the
GPU's memory, at addresses that do not change:

    the data set, as bytes, and the order of this epoch
    `state`     step and position in the epoch (int32), and what the learning rate and the averages need (float32):
                the only things that are copied there before each step
    `history`   loss and gradient norm of the last steps, read when somebody wants to see them

The numbers that come out are those of `Trainer.update`, step by step: same batches, same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend, diffusion, kernels
from ..backend import Array
from ..inplace import written
from ..nn.layers import Dropout, Dropout2d
from ..optim import EMA, Adam
from ..philox import Rng
from ..tensor import Tensor

WARM_UP = 3                                   # steps before the recording: kernels get compiled, memory gets claimed
HISTORY = 64                                  # steps whose loss is kept


def obstacle(model: Any, optimizer: Any) -> str | None:
    """Why a model cannot be trained by :class:`GraphStep`; None where it can."""
    parameters = list(model.parameters())
    if kernels.special("adam", *(p.data for p in parameters)) is None:
        return "the parameters are not float32 on a GPU"
    if not isinstance(optimizer, Adam) or (optimizer.weight_decay and not optimizer.decoupled):
        return "only Adam and AdamW have a kernel"
    if any(isinstance(module, Dropout | Dropout2d) and module.p for module in model.modules()):
        return "dropout draws its numbers on the CPU"
    if any(True for _ in model.named_buffers()):
        return "running statistics are kept by the CPU's clock"
    return None


class GraphStep:
    """Steps of training on data in the GPU's memory.

    images, labels    the whole data set: uint8 (M,C,H,W), int64 (M,)
    batch, size       pictures of a step, and their height and width for the model

    `begin()` comes before the first step after anything else was done on the GPU; `run(step, order, position)` makes one
    step; `losses(steps)` looks at some of them. The first few run launch by launch; then the step is recorded and
    replayed. Where recording fails, `reason` says why and everything goes on launch by launch.
    """

    def __init__(
        self, model: Any, schedule: Any, optimizer: Adam, ema: EMA | None, images: np.ndarray, labels: np.ndarray,
        batch: int, size: int, seed: int, drop: float, clip: float, weighting: str = "uniform", times: str = "uniform",
    ) -> None:  # fmt: skip
        self.model, self.schedule, self.optimizer, self.ema = model, schedule, optimizer, ema
        self.batch, self.size, self.seed, self.drop, self.clip = batch, size, seed, drop, clip
        self.weighting, self.times = weighting, times
        self.parameters = optimizer.params
        home = self.parameters[0].data
        self.images, self.labels = backend.asarray(images, like=home), backend.asarray(labels, like=home)
        self.order = backend.asarray(np.zeros(len(images), np.int32), like=home)
        self.state = backend.asarray(np.zeros(8, np.int32), like=home)
        self.history = backend.full((HISTORY, 2), 0.0, like=home, dtype=np.float32)
        self._host_order: np.ndarray | None = None
        self.steps, self.graph, self.reason = 0, None, None if _is_cupy(home) else "the arrays are on the CPU"
        for i, p in enumerate(self.parameters):                  # moments must be there before the recording
            if not optimizer.state[i]:
                zeros = {name: backend.full(p.shape, 0.0, like=p.data) for name in optimizer.moments}
                optimizer.state[i].update(t=0, **zeros)

    # ------------------------------------------------------------------------------------- one step

    def run(self, step: int, order: np.ndarray, position: int) -> None:
        """Step number `step`, on the pictures from `position` on of the epoch's order."""
        self._upload(step, order, position)
        if self.graph is not None:
            self.graph.launch(self.stream)
        elif self.reason is None and self.steps >= WARM_UP:
            self._record()
        elif self.reason is None:
            with self._stream_and_memory():
                self._step()
        else:
            self._step()
        self.steps += 1
        for p in self.parameters:
            written(p.data)

    def begin(self) -> None:
        """Wait for what others gave the device: the steps run on a stream of their own, which would not."""
        if _is_cupy(self.state):
            import cupy

            cupy.cuda.Device().synchronize()

    def losses(self, steps: Sequence[int]) -> list[tuple[float, float]]:
        """Loss and gradient norm of some of the last HISTORY steps; waits until they are done."""
        if self.reason is None:
            self.stream.synchronize()
        history = backend.to_numpy(self.history)
        return [(float(history[s % HISTORY, 0]), float(history[s % HISTORY, 1])) for s in steps]

    def _upload(self, step: int, order: np.ndarray, position: int) -> None:
        """Bring to the GPU what differs from the step before."""
        ages = {state["t"] for state in self.optimizer.state}
        t = max(ages) + 1
        for state in self.optimizer.state:
            state["t"] = t
        alpha, eps = self.optimizer.step_size(t)
        rate = 0.0 if self.ema is None else 1.0 - self.ema.next_decay()
        if self.ema is not None:
            self.ema.updates += 1
        numbers = np.array([alpha, eps, self.optimizer.decay(), rate], np.float32)
        words = np.concatenate([np.array([step, position, step % HISTORY, 0], np.int32), numbers.view(np.int32)])
        if order is not self._host_order:
            self._host_order = order
            _write(self.order, order.astype(np.int32), self)
        _write(self.state, words, self)

    def _step(self) -> None:
        """The work: only launches, so that it can be recorded."""
        of = kernels.of(self.parameters[0].data)
        step, position, slot, numbers = self.state[0:1], self.state[1:2], self.state[2:3], self.state[4:8].view(np.float32)
        x0, labels = of.gather_batch(self.images, self.labels, self.order, position, self.batch, self.size)
        loss = diffusion.loss(self.model, self.schedule, x0, labels, Rng(self.seed, step=step, like=x0), self.drop, self.weighting,
                              self.times)  # fmt: skip
        loss.backward()
        live = [(p, s) for p, s in zip(self.parameters, self.optimizer.state, strict=True) if p.grad is not None]
        moved = [(p.data, p.grad.data, s["m"], s["v"]) for p, s in live]
        norm = of.gradient_norm([g for _, g, _, _ in moved], self.clip or np.inf)
        of.adam(*zip(*moved, strict=True), self.optimizer.betas, scale=norm[1:2], numbers=numbers)
        if self.ema is not None:
            of.average(*zip(*self.ema.pairs(), strict=True), numbers[3:4])
        of.keep(self.history, slot, loss.data, norm)
        self._alive: list[Tensor] = [loss]
        self.optimizer.zero_grad()

    # ------------------------------------------------------------------------------------ recording

    def _stream_and_memory(self) -> Any:
        """A context: launches go to this step's stream, new arrays come from memory that nobody else is given."""
        import contextlib

        import cupy

        if not hasattr(self, "stream"):
            cupy.cuda.Device().synchronize()                     # what was done on the usual stream is done
            self.stream, self.pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
        stack = contextlib.ExitStack()
        stack.enter_context(self.stream)
        stack.enter_context(cupy.cuda.using_allocator(self.pool.malloc))
        return stack

    def _record(self) -> None:
        """Record the step as a graph and launch it; or say why that is not possible, and make the step."""
        with self._stream_and_memory():
            self.stream.begin_capture()
            try:
                self._step()
            except Exception as error:
                self.reason = f"{type(error).__name__}: {error}".splitlines()[0]
                try:
                    self.stream.end_capture()
                except Exception:                                # a broken recording ends with an error
                    pass
                self.stream.synchronize()
                self._step()
                self.stream.synchronize()
                return
            self.graph = self.stream.end_capture()
        self.graph.launch(self.stream)


def _is_cupy(x: Array) -> bool:
    return backend.device_of(x) == "cuda"


def _write(to: Array, numbers: np.ndarray, step: GraphStep) -> None:
    """Copy numbers into an array, in the order of the stream that the step runs on."""
    if not _is_cupy(to):
        to[...] = numbers
    elif hasattr(step, "stream"):
        with step.stream:
            to.set(numbers)
    else:
        to.set(numbers)
