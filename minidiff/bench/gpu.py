"""`minidiff bench --device cuda`: a whole training step on the GPU, launch by launch and as a CUDA graph, beside PyTorch.

A step is all that training does: gather a batch from data in the GPU's memory, draw t and noise, forward, backward,
clip, AdamW, average of the weights. Libraries take turns, round after round, in one process; a round is many steps between
two events, which the device itself puts a time on. What does not fit into memory beside the others is measured alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, diffusion, models, optim, train
from ..errors import BadInput
from ..kernels.cuda import runtime
from ..train.graph import GraphStep
from .kernels import short_name

DATA = 4096                                   # pictures in the GPU's memory, of random bytes
STEPS = 50                                    # of a round
SCHEDULE = {"name": "linear", "T": 100}
LR, CLIP, DECAY, DROP = 1e-3, 1.0, 0.999, 0.1

Step = Callable[[], None]                     # makes one training step, and waits for nothing


class Device:
    """Waiting, memory and facts of the GPU. Tests have another one, of a machine without."""

    def wait(self) -> None:
        """Until all work that was handed out is done."""
        import cupy

        cupy.cuda.Device().synchronize()

    def mark(self, stream: Any = None) -> Any:
        """A moment: when all that was handed to a stream (the usual one if None) so far is done."""
        import cupy

        event = cupy.cuda.Event()
        event.record(stream)
        return event

    def between(self, start: Any, end: Any) -> float:
        """Seconds between two moments; waits for the second."""
        import cupy

        end.synchronize()
        return cupy.cuda.get_elapsed_time(start, end) / 1000

    def forget(self) -> None:
        """Give back memory that nobody uses, so that each library finds the device empty."""
        import gc

        import cupy

        gc.collect()
        cupy.get_default_memory_pool().free_all_blocks()
        if importlib.util.find_spec("torch"):
            import torch

            torch.cuda.empty_cache()

    def used(self) -> int:
        """Bytes of the device that are taken."""
        import cupy

        free, total = cupy.cuda.runtime.memGetInfo()
        return total - free

    def facts(self) -> dict[str, Any]:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        return {
            "name": properties["name"].decode(), "multiprocessors": properties["multiProcessorCount"],
            "architecture": runtime.architecture(), "driver": cupy.cuda.runtime.driverGetVersion(),
            "runtime": cupy.cuda.runtime.runtimeGetVersion(), "cupy": cupy.__version__,
        }  # fmt: skip

    def asarray(self, numbers: np.ndarray) -> Any:
        import cupy

        return cupy.asarray(numbers)


# ------------------------------------------------------------------------------------- the ceilings


def ceilings(device: Device, megabytes: int = 1024, size: int = 8192) -> dict[str, float]:
    """What the device can do at most: copied bytes a second, read and written, and products a second, where PyTorch is."""
    a = device.asarray(np.zeros(megabytes << 18, np.float32))
    b = a.copy()

    def copy() -> None:
        b[...] = a

    found = {"copy_bytes_per_second": 2 * a.nbytes / per_step(device, copy, 20)}
    if importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            for name, dtype, tf32 in (("fp32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
                torch.backends.cuda.matmul.allow_tf32 = tf32
                x, y = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
                found[f"{name}_flop_per_second"] = 2 * size**3 / per_step(device, lambda x=x, y=y: torch.mm(x, y), 10)
            torch.backends.cuda.matmul.allow_tf32 = False
    return found


def per_step(device: Device, step: Step, steps: int, warm_up: int = 3) -> float:
    """Seconds of one step, from many."""
    for _ in range(warm_up):
        step()
    device.wait()
    stream = step.stream() if hasattr(step, "stream") else None  # that of a recorded step, which has its own
    start = device.mark(stream)
    for _ in range(steps):
        step()
    return device.between(start, device.mark(stream)) / steps


# ---------------------------------------------------------------------------------------- the jobs


def _pictures(channels: int, size: int = 28) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (DATA, channels, size, size), np.uint8), rng.integers(0, 10, DATA)


def minidiff_step(options: dict[str, Any], batch: int, precision: str, graph: bool, place: str = "cuda") -> Step:
    """A step of this library, recorded as a CUDA graph or launch by launch."""
    backend.manual_seed(0)
    model = models.build(options).to(place)
    optimizer = optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01)
    images, labels = _pictures(model.config["in_channels"])
    step = GraphStep(model, diffusion.make_schedule(**SCHEDULE), optimizer, optim.EMA(model, DECAY), images, labels,
                     batch, options.get("image_size", 32), 0, DROP, CLIP)  # fmt: skip
    if not graph:
        step.reason = "asked for"
    order, count = np.random.default_rng(1).permutation(DATA), iter(range(1 << 60))

    def one() -> None:
        k = next(count)
        with backend.precision(precision):
            step.run(k, order, k * batch % (DATA - batch + 1))
        if graph and k == 8 and step.graph is None:
            raise RuntimeError(f"bench: the step was not recorded: {step.reason}")

    one.stream = lambda: getattr(step, "stream", None)           # type: ignore[attr-defined]
    return one


def torch_step(options: dict[str, Any], batch: int, precision: str, compiled: str | None) -> Step:
    """The same step in PyTorch: channels last, fused AdamW; `compiled` is None (eager) or a mode of torch.compile."""
    import torch

    from . import twin

    backend.manual_seed(0)
    ours = models.build(options)
    model = twin.torch_unet(ours).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.01, fused=True)
    averages = [p.detach().clone() for p in model.parameters()]
    images, labels = (torch.from_numpy(a).cuda() for a in _pictures(ours.config["in_channels"]))
    schedule = diffusion.make_schedule(**SCHEDULE)
    signal, noise = (torch.from_numpy(np.sqrt(a).astype(np.float32)).cuda() for a in (schedule.alpha_bar, 1 - schedule.alpha_bar))
    run = model if compiled is None else torch.compile(model, mode=compiled)
    parameters = list(model.parameters())
    order, count = torch.from_numpy(np.random.default_rng(1).permutation(DATA)).cuda(), iter(range(1 << 60))

    def one() -> None:
        first = next(count) * batch % (DATA - batch + 1)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        chosen = order[first : first + batch]
        x0 = torch.nn.functional.pad(images[chosen] / 127.5 - 1, (2, 2, 2, 2), value=-1.0)
        t = torch.randint(1, schedule.T + 1, (batch,), device="cuda")
        eps = torch.randn_like(x0)
        y = torch.where(torch.rand(batch, device="cuda") < DROP, -1, labels[chosen])
        xt = (signal[t][:, None, None, None] * x0 + noise[t][:, None, None, None] * eps).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = torch.nn.functional.mse_loss(run(xt, t, y).float(), eps)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        torch._foreach_lerp_(averages, [p.detach() for p in parameters], 1 - DECAY)

    return one


def jobs(options: dict[str, Any], batch: int, precisions: list[str], against: str | None) -> Iterator[tuple[str, Callable[[], Step]]]:
    """(name, how to make it) for everything that is compared."""
    for precision in precisions:
        for graph in (True, False):
            name = f"minidiff {precision}, {'graph' if graph else 'launch by launch'}"
            yield name, lambda precision=precision, graph=graph: minidiff_step(options, batch, precision, graph)
        if against == "torch":
            for label, mode in (("eager", None), ("compile", "default"), ("compile, graphs", "reduce-overhead")):
                yield f"torch {precision}, {label}", lambda precision=precision, mode=mode: torch_step(options, batch, precision, mode)


def measure_steps(
    device: Device, chosen: list[tuple[str, Callable[[], Step]]], rounds: int, steps: int
) -> tuple[dict[str, list[float]], dict[str, int], dict[str, str]]:
    """Seconds a step of each job in each round, the bytes that each took of the device, and why others did not run.

    Jobs take turns as far as they fit into memory together; each of the others has all its rounds when these are done.
    """
    seconds: dict[str, list[float]] = {}
    memory: dict[str, int] = {}
    failed: dict[str, str] = {}

    def prepare(name: str, make: Callable[[], Step]) -> Step | None:
        device.forget()
        before = device.used()
        failed.pop(name, None)
        try:
            step = make()
            per_step(device, step, 3, warm_up=10)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return None
        memory[name] = device.used() - before
        return step

    def measure(ready: dict[str, Step]) -> None:
        for _ in range(rounds):
            for name, step in ready.items():
                seconds.setdefault(name, []).append(per_step(device, step, steps, warm_up=2))

    together = {name: step for name, make in chosen if (step := prepare(name, make)) is not None}
    measure(together)
    some = bool(together)
    together.clear()
    for name, make in chosen:
        if some and "OutOfMemory" in failed.get(name, "") and (step := prepare(name, make)) is not None:
            measure({name: step})
            step = None
    return seconds, memory, failed


# ------------------------------------------------------------------------------- the single kernels


def by_kernel(
    device: Device, step: Step, limits: dict[str, float], timed: Callable[[runtime.Launch], float] | None = None
) -> list[dict[str, Any]]:
    """Each kernel of a step that runs launch by launch: how often, how long, how long at least, and the fraction of that.

    At least: every array that it is given moved once through memory at the speed of a copy, or its products at the
    speed of the largest matrix product in that precision, whichever is longer.
    """
    step()
    device.wait()
    found: dict[str, dict[str, Any]] = {}
    for launch in watched(step):
        seconds = timed(launch) if timed else _seconds(device, launch)
        name = f"{launch.kernel.name} {short_name(launch.kernel.build)}"
        moving, multiplying = traffic(launch) / limits["copy_bytes_per_second"], _products_seconds(launch, limits)
        row = found.setdefault(name, {"kernel": name, "launches": 0, "seconds": 0.0, "floor_seconds": 0.0,
                                      "held_by": "memory" if moving >= multiplying else "products"})  # fmt: skip
        row["launches"] += 1
        row["seconds"] += seconds
        row["floor_seconds"] += max(moving, multiplying)
    for row in found.values():
        row["fraction_of_floor"] = row["floor_seconds"] / row["seconds"] if row["seconds"] else None
    return sorted(found.values(), key=lambda row: -row["seconds"])


def watched(step: Step) -> list[runtime.Launch]:
    """All launches of one step, which is made."""
    launches: list[runtime.Launch] = []
    watcher = launches.append
    runtime.watchers.append(watcher)
    try:
        step()
    finally:
        runtime.watchers.remove(watcher)
    return launches


def _seconds(device: Device, launch: runtime.Launch) -> float:
    """The launch again, between two events: the median of several times."""
    times = []
    for _ in range(7):
        start = device.mark()
        launch()
        times.append(device.between(start, device.mark()))
    return float(np.median(times))


def traffic(launch: runtime.Launch) -> int:
    """Bytes of all arrays that a kernel is given."""
    arrays = [a for a in launch.args if hasattr(a, "nbytes") and not isinstance(a, np.generic)]
    arrays += [a for value in launch.args if isinstance(value, runtime.Value) for a in value.arrays]
    return sum(a.nbytes for a in arrays)


def flops(launch: runtime.Launch) -> int:
    """Multiplications and additions of a kernel that multiplies matrices; 0 for the others."""
    d = {name: int(v) if v.lstrip("-").isdigit() else v for name, v in launch.kernel.build.defines}
    if launch.kernel.name == "gather":
        y, taps = launch.args[3], d["KH"] * d["KW"]
        positions = y.size // d["O"]
        return 2 * positions * d["C"] * d["O"] * taps // (d["SH"] * d["SW"] if d["TRANSPOSED"] else 1)
    if launch.kernel.name == "weight_gradient":
        gy = launch.args[1]
        return 2 * (gy.size // gy.shape[1]) * d["C"] * d["O"] * d["KH"] * d["KW"]
    if launch.kernel.name == "matmul":
        y, k = launch.args[3], launch.args[6]
        return 2 * y.size * k
    return 0


def _products_seconds(launch: runtime.Launch, limits: dict[str, float]) -> float:
    rate = limits.get(f"{dict(launch.kernel.build.defines).get('MATH', 'FP32').lower()}_flop_per_second")
    return flops(launch) / rate if rate else 0.0


# ------------------------------------------------------------------------------------- the command


def run(
    device: Device, presets: list[str], batches: list[int], precisions: list[str], against: str | None, rounds: int,
    steps: int,
) -> dict[str, Any]:  # fmt: skip
    """Everything, as one record."""
    from ..train import records

    limits = ceilings(device)
    record: dict[str, Any] = {
        "command": records.command_line(), "commit": records.commit(), "time": records.now(), "device": device.facts(),
        "versions": records.versions(), "ceilings": limits, "rounds": rounds, "steps_per_round": steps, "networks": {},
    }  # fmt: skip
    for preset in presets:
        options = {"image_size": train.preset(preset).image_size, **train.preset(preset).model}
        network: dict[str, Any] = {"parameters": models.build(options).num_parameters(), "model": options, "batches": {}}
        for batch in batches:
            seconds, memory, failed = measure_steps(device, list(jobs(options, batch, precisions, against)), rounds, steps)
            kernels = {p: by_kernel(device, minidiff_step(options, batch, p, False), limits) for p in precisions}
            network["batches"][str(batch)] = {
                "median_seconds": {name: float(np.median(s)) for name, s in seconds.items()}, "seconds": seconds,
                "bytes": memory, "failed": failed, "kernels": kernels,
            }  # fmt: skip
        record["networks"][preset] = network
    return record


def render(record: dict[str, Any]) -> str:
    """The record as tables."""
    device, limits = record["device"], record["ceilings"]
    lines = [f"{device['name']}, {device['architecture']}, driver {device['driver']}, CuPy {device['cupy']}",
             f"copy {limits['copy_bytes_per_second'] / 1e12:.2f} TB/s; products " + ", ".join(
                 f"{name.split('_')[0]} {rate / 1e12:.0f} TFLOP/s" for name, rate in limits.items() if "flop" in name)]  # fmt: skip
    for preset, network in record["networks"].items():
        for batch, found in network["batches"].items():
            lines += ["", f"{preset}, {network['parameters']:,} parameters, batch {batch}: a training step, median of {record['rounds']} rounds"]
            for name, seconds in found["median_seconds"].items():
                eager = found["median_seconds"].get(f"torch {name.split()[1].rstrip(',')}, eager")
                ratio = f"{seconds / eager:>8.2f}x" if eager else ""
                lines.append(f"  {name:<34}{1000 * seconds:>9.3f} ms{ratio:>9}{found['bytes'][name] / 1e6:>9.0f} MB")
            lines += [f"  {name:<34} did not run: {reason}" for name, reason in found["failed"].items()]
            for precision, rows in found["kernels"].items():
                whole = sum(row["seconds"] for row in rows)
                lines.append(f"  kernels in {precision}, {1000 * whole:.3f} ms in all; floor = bytes or products, whichever takes longer")
                for row in rows[:25]:
                    share = f"{row['fraction_of_floor']:.0%}" if row["fraction_of_floor"] else "-"
                    lines.append(f"    {row['kernel']:<70}{row['launches']:>4} x{1e6 * row['seconds']:>9.1f} µs"
                                 f"{1e6 * row['floor_seconds']:>9.1f} µs{share:>6} of {row['held_by']}")  # fmt: skip
    return "\n".join(lines)


def main_gpu(args: Any) -> int:
    """`minidiff bench --device cuda [--against torch] [--batch N …] [--preset NAME …] [--precision P …] [--json FILE]`"""
    import json

    from ..files import atomic_path

    backend.resolve_device("cuda")
    if args.kernels or args.peers:
        raise BadInput("bench: --kernels and --peers are for the CPU; leave them out with --device cuda")
    record = run(Device(), args.preset or ["report", "attention"], args.batch or [128, 512], args.precision or list(backend.PRECISIONS),
                 args.against, args.rounds, STEPS if args.steps is None else args.steps)  # fmt: skip
    print(render(record))
    if args.json:
        with atomic_path(Path(args.json)) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")
    return 0
