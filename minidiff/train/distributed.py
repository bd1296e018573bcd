"""Several processes that train one model as if they were one: data parallel.

    mpiexec -n 4 minidiff train --preset mnist          four processes on this machine, or on as many as the list of hosts has

Each process, a *rank* r of R, has the whole model and the same weights. Of each batch of B pictures it takes the rows
r B/R … (r+1) B/R − 1, with the noise that these rows have in the whole batch (philox's numbers belong to rows, not to
processes). The loss is a mean over pictures, and the mean of equal parts is the mean of the whole, so

    g = 1/R Σ_r g_r

is the gradient of the whole batch, and every rank makes the same step with it. That is the only thing to be exchanged. All
gradients lie in one flat buffer, behind them a few numbers (the loss; whether somebody was asked to stop), so that a step
is one call: a ring of R ranks sends 2 (R − 1)/R times the buffer's bytes (Patarasu & Yuan 2009).

It is not overlapped with backward: between two processes on one machine it takes 4 ms of a step of 290 (scaling.json), so there
is no more than that to be hidden. Chapter 27 estimates where it would pay.

MPI is reached through mpi4py; gradients on GPUs go through NCCL where CuPy has it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

import numpy as np

from .. import backend
from ..backend import Array
from ..errors import BadInput, Failed
from ..tensor import Tensor

# Set by the launchers of MPICH, Open MPI and Slurm for each process they start: how many there are.
LAUNCHERS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")                  # and which of them this one is
PATIENCE = 2.0  # seconds that the first rank gets to say what all ranks know
Result = TypeVar("Result")


class Ranks:
    """This process among those that were started together. Alone, unless a subclass says otherwise.

    rank, size    its number r and how many there are, R
    cores         the cores that each rank on this machine may run on, this one among them
    place         its number among these
    """

    rank, size, place = 0, 1, 0
    cores: Sequence[frozenset[int]] = (frozenset(),)

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Which of n things are this rank's: a stretch of them, none longer than another by more than one."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, flat: Array) -> None:
        """Put the sum over all ranks in place of an array that lies in one piece."""

    def share(self, value: Any) -> Any:
        """What the first rank has."""
        return value

    def all(self, value: Any) -> list[Any]:
        """What each rank has."""
        return [value]

    def gather(self, value: Any) -> list[Any]:
        """What each rank has, for the first; nothing for the others."""
        return [value]

    def abort(self, status: int) -> NoReturn:
        """End all ranks at once."""
        sys.exit(status)

    def together(self, work: Callable[[], Result]) -> Result:
        """What work() gives, if it succeeds everywhere. Where it raises BadInput on some ranks, all raise the first one's.

        So that nobody waits for a rank that has left.
        """
        problem, result = None, None
        try:
            result = work()
        except BadInput as error:
            problem = error
        for said in self.all(None if problem is None else str(problem)):
            if said is not None:
                raise problem if problem is not None and str(problem) == said else BadInput(said)
        return result  # type: ignore[return-value]

    def agree(self, what: str, arrays: Sequence[Array]) -> None:
        """Raises BadInput unless the arrays are the same on all ranks, byte by byte."""
        check = 0
        for a in arrays:
            check = zlib.crc32(np.ascontiguousarray(backend.to_numpy(a)), check)
        if len(set(checks := self.all(check))) > 1:
            raise BadInput(f"train: {what} of rank {checks.index(next(c for c in checks if c != checks[0]))} are not those of rank 0;"
                           " the machines do not compute alike, or one is broken")  # fmt: skip


class MPIRanks(Ranks):
    """Ranks of MPI's world."""

    def __init__(self) -> None:
        from mpi4py import MPI

        self._MPI, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        here = self._comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.cores, self.place = here.allgather(backend.cores()), here.rank
        self._nccl: Any = None

    def sum(self, flat: Array) -> None:
        """By MPI, on GPUs by NCCL where there is one."""
        if backend.device_of(flat) == "cpu":
            self._comm.Allreduce(self._MPI.IN_PLACE, flat, op=self._MPI.SUM)
        elif (nccl := self._communicator()) is not None:
            nccl(flat)
        else:
            there = backend.to_numpy(flat)
            self._comm.Allreduce(self._MPI.IN_PLACE, there, op=self._MPI.SUM)
            flat.set(there)

    def share(self, value: Any) -> Any:
        """By MPI's broadcast."""
        return self._comm.bcast(value)

    def all(self, value: Any) -> list[Any]:
        """By MPI's allgather."""
        return self._comm.allgather(value)

    def gather(self, value: Any) -> list[Any]:
        """By MPI's gather."""
        return self._comm.gather(value) or []

    def abort(self, status: int) -> NoReturn:
        """By MPI's Abort, which ends every process of the launcher."""
        sys.stderr.flush()
        sys.stdout.flush()
        self._comm.Abort(status)
        os._exit(status)                                  # some MPIs return

    def _communicator(self) -> Any:
        """A function that sums over GPUs by NCCL, or None where CuPy has none: then the sum goes through the CPUs."""
        if self._nccl is None:
            try:
                from cupy.cuda import nccl
            except ImportError:
                self._nccl = False
                return None
            import cupy

            world = nccl.NcclCommunicator(self.size, self.share(nccl.get_unique_id() if self.first else None), self.rank)

            def summed(flat: Array) -> None:
                stream = cupy.cuda.get_current_stream()
                world.allReduce(flat.data.ptr, flat.data.ptr, flat.size, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, stream.ptr)

            self._nccl = summed
        return self._nccl or None


_ranks: Ranks | None = None
_threads: int | None = None


def ranks() -> Ranks:
    """The ranks that this process was started among: MPI's, if `mpiexec` or `srun` started it, else itself alone.

    Raises BadInput if it was started among several and mpi4py is not there.
    """
    global _ranks
    if _ranks is None:
        _ranks = MPIRanks() if started_among() > 1 and _mpi4py() else Ranks()
        if _ranks.size != started_among():
            print(f"minidiff: {started_among()} processes were started, and MPI knows of {_ranks.size}: mpiexec and mpi4py belong to different MPIs",
                  file=sys.stderr, flush=True)  # fmt: skip
            _ranks.abort(2)
    return _ranks


def started_among() -> int:
    """How many processes the launcher started, by its environment; 1 without one."""
    return max((int(os.environ[name]) for name in LAUNCHERS if os.environ.get(name, "").isdecimal()), default=1)


def is_first() -> bool:
    """Whether this process is the first of those started together, by its environment, before any of them has spoken."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def _mpi4py() -> bool:
    try:
        import mpi4py  # noqa: F401
    except ImportError:
        raise BadInput(f"train: this is one of {started_among()} processes, and mpi4py, by which they would work together, is"
                       " not installed; pip install 'minidiff[mpi]', or start one") from None  # fmt: skip
    return True


def share_machine(group: Ranks, device: str = "cpu") -> None:
    """Cores and GPUs shared out among the ranks on one machine: as many threads in all as there were, and a GPU each.

    Ranks that the launcher has bound to cores of their own keep all of these. With fewer GPUs than ranks, some ranks have one
    together.
    """
    global _threads
    if group.size == 1:
        return
    if _threads is None:                                  # as many as there were at the start, however often this is said
        _threads = backend.get_num_threads()
        one_each = len({core for cores in group.cores if len(cores) == 1 for core in cores}) == len(group.cores)
        if group.first and one_each and 1 < len(group.cores) < (os.cpu_count() or 1):
            print("minidiff: the launcher has bound each rank to one core, as Open MPI does by default, so each computes with one thread;"
                  " mpiexec --bind-to none shares all cores out", file=sys.stderr, flush=True)  # fmt: skip
    backend.set_num_threads(max(1, int(_threads * own_part(group.cores, group.place))))
    if device == "cuda":
        import cupy

        cupy.cuda.Device(group.place % cupy.cuda.runtime.getDeviceCount()).use()


def own_part(cores: Sequence[frozenset[int]], place: int) -> Fraction:
    """What part of the cores of one rank is its own, when each core is divided equally among the ranks that may run on it."""
    mine = cores[place]
    return sum((Fraction(1, sum(core in others for others in cores)) for core in mine), Fraction()) / len(mine)


class Exchange:
    """The gradients of all parameters in one buffer, and their mean over ranks.

    numbers    how many numbers travel with them
    """

    def __init__(self, parameters: Sequence[Tensor], group: Ranks, numbers: int = 0) -> None:
        self.parameters, self.group = list(parameters), group
        ends = np.cumsum([p.size for p in self.parameters])
        home = self.parameters[0].data
        self.flat = backend.full((int(ends[-1]) + numbers,), 0.0, like=home, dtype=np.float32)
        self.views = [self.flat[end - p.size : end].reshape(p.shape) for p, end in zip(self.parameters, ends, strict=True)]
        self.numbers = self.flat[int(ends[-1]) :]

    def mean(self, *numbers: float) -> tuple[float, ...]:
        """Put the mean over ranks in place of each gradient; gives the means of the numbers.

        A parameter without a gradient has none on any rank, since all run the same program; it stays so.
        """
        live = [(p, view) for p, view in zip(self.parameters, self.views, strict=True) if p.grad is not None]
        for p, view in zip(self.parameters, self.views, strict=True):
            view[...] = 0.0 if p.grad is None else p.grad.data
        self.numbers[...] = backend.asarray(np.array(numbers, np.float32), like=self.flat)
        self.group.sum(self.flat)
        self.flat *= np.float32(1.0 / self.group.size)
        for p, view in live:
            p.grad = Tensor(view)
        return tuple(map(float, backend.to_numpy(self.numbers)))


@contextlib.contextmanager
def ending_all(group: Ranks) -> Iterator[None]:
    """A context whose failure on one rank ends all of them, after that rank has said what happened.

    Without it the others would wait for the lost one for ever. Some failures come to all ranks at once, such as a loss that
    is no longer a number; then the first one speaks for them, and the others give it the time to.
    """
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        if group.size == 1:
            raise
        if os.environ.get("MINIDIFF_TRACEBACK") == "1":
            traceback.print_exc()
        expected = isinstance(error, (BadInput, Failed))
        if expected and not group.first:
            time.sleep(PATIENCE)
        who = "" if group.first else f"rank {group.rank} of {group.size}: "
        said = str(error) if expected else f"{type(error).__name__}: {error}"
        print(f"minidiff: {who}{' '.join(said.split())}", file=sys.stderr, flush=True)
        group.abort(2 if isinstance(error, BadInput) else 128 + 2 if isinstance(error, KeyboardInterrupt) else 1)
