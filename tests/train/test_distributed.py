"""Several ranks are one: in threads here, and in processes of MPI where it is installed."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minidiff as md
from minidiff.errors import BadInput
from minidiff.train import checkpoint, distributed, read_metrics
from minidiff.train.distributed import Exchange, Ranks

ROOT = Path(__file__).resolve().parents[2]


class Meeting:
    """Where the threads of a test wait for each other and leave something."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.left = size, threading.Barrier(size, timeout=30), [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.left[rank] = value
        self.barrier.wait()
        found = list(self.left)
        self.barrier.wait()
        return found


class ThreadRanks(Ranks):
    """Ranks that are threads of this process."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.size = meeting, rank, meeting.size
        self.cores, self.place = [FOUR] * meeting.size, rank

    def sum(self, flat: np.ndarray) -> None:
        flat[...] = sum(self.all(flat.copy()))

    def share(self, value: Any) -> Any:
        return self.all(value)[0]

    def all(self, value: Any) -> list[Any]:
        return self.meeting.exchange(self.rank, value)


def in_threads(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What work(ranks) gave or raised on each of `size` ranks."""
    meeting, results = Meeting(size), [None] * size

    def run(rank: int) -> None:
        try:
            results[rank] = work(ThreadRanks(meeting, rank))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@given(st.integers(0, 200), st.integers(1, 9))
def test_parts_are_all_of_it_once_and_of_nearly_equal_length(n, size):
    group = [Ranks() for _ in range(size)]
    for rank, each in enumerate(group):
        each.rank, each.size = rank, size
    parts = [range(n)[each.part(n)] for each in group]
    assert [i for part in parts for i in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_alone_is_the_first_and_changes_nothing():
    group, a = Ranks(), np.arange(3.0)
    group.sum(a)
    group.agree("parameters", [a])
    assert group.first and group.share(5) == 5 and group.all(5) == [5] and a.tolist() == [0, 1, 2]
    assert group.together(lambda: 7) == 7


@pytest.mark.parametrize("size", [2, 3])
def test_gradients_become_their_mean_and_numbers_travel_with_them(size):
    def work(group):
        p, q, unused = (md.tensor(np.zeros(shape, np.float32), requires_grad=True) for shape in ((2, 3), (4,), (5,)))
        exchange = Exchange([p, q, unused], group, numbers=2)
        for step in range(2):                              # the buffer is used again, and nothing of before is left in it
            p.grad, q.grad = md.tensor(np.full((2, 3), group.rank + step, np.float32)), md.tensor(np.full(4, 2.0 * group.rank, np.float32))
            said = exchange.mean(10.0 * group.rank, 1.0)
        return p.grad.numpy(), q.grad.numpy(), unused.grad, said

    mean = (size - 1) / 2
    for p, q, unused, said in in_threads(size, work):
        np.testing.assert_allclose(p, np.full((2, 3), mean + 1), rtol=1e-6)
        np.testing.assert_allclose(q, np.full(4, 2 * mean), rtol=1e-6)
        assert unused is None and said == pytest.approx((10 * mean, 1.0))


def test_what_is_refused_somewhere_is_refused_everywhere():
    def work(group):
        def check():
            if group.rank in (1, 2):
                raise BadInput(f"rank {group.rank}: no such folder")
            return group.rank

        return group.together(check)

    assert [str(r) for r in in_threads(4, work)] == ["rank 1: no such folder"] * 4
    assert in_threads(3, lambda group: group.together(lambda: group.rank)) == [0, 1, 2]


def test_ranks_that_differ_in_one_bit_are_noticed():
    def work(group):
        a = np.ones(5, np.float32)
        if group.rank == 2:
            a[3] = np.nextafter(a[3], np.float32(2))
        group.agree("parameters", [np.zeros(2, np.float32), a])

    assert {str(r) for r in in_threads(3, work)} == {"train: parameters of rank 2 are not those of rank 0; the machines do not compute alike, or one is broken"}
    assert in_threads(2, work) == [None, None]


def test_a_rank_that_fails_ends_all(capsys, monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", 0.0)
    group, ended = Ranks(), []
    group.rank, group.size = 1, 4
    group.abort = ended.append
    with distributed.ending_all(group):
        raise ZeroDivisionError("division by zero")
    assert ended == [1] and "minidiff: rank 1 of 4: ZeroDivisionError: division by zero" in capsys.readouterr().err
    with distributed.ending_all(group):
        raise BadInput("this folder is not on my machine")
    group.rank = 0
    with distributed.ending_all(group):
        raise BadInput("all ranks know that")
    assert ended == [1, 2, 2]
    assert capsys.readouterr().err == "minidiff: rank 1 of 4: this folder is not on my machine\nminidiff: all ranks know that\n"
    with pytest.raises(ZeroDivisionError), distributed.ending_all(Ranks()):
        raise ZeroDivisionError


def test_several_processes_without_mpi4py_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "_ranks", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(BadInput, match=r"^train: this is one of 4 processes, and mpi4py, by which they would work together, is not installed; "):
        distributed.ranks()
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert distributed.ranks().size == 1


FOUR = frozenset(range(4))


@pytest.fixture
def shared(monkeypatch):
    """A function: the threads of a rank of `size` ranks, with those on its machine bound to `cores`, that had `threads`."""
    before = md.get_num_threads()

    def share(cores, threads, place=0, size=4):
        monkeypatch.setattr(distributed, "_threads", None)
        group = Ranks()
        group.size, group.cores, group.rank, group.place = size, cores, place, place
        md.set_num_threads(threads)
        for _ in range(2):                                  # as often as there are trainers in one process
            distributed.share_machine(group)
        return md.get_num_threads()

    yield share
    md.set_num_threads(before)


def test_threads_are_shared_among_those_on_one_machine(shared, capsys):
    assert shared([FOUR] * 2, 4) == 2
    assert shared([FOUR] * 8, 4) == 1
    assert shared([FOUR] * 2, 8) == 4, "as many in all as --threads says"
    assert shared([FOUR], 4, size=2) == 4, "the other is elsewhere"
    assert capsys.readouterr().err == ""


def test_ranks_that_are_bound_to_cores_keep_these(shared, capsys):
    assert shared([FOUR, frozenset(range(4, 8))], 4) == 4
    assert shared([FOUR, FOUR, frozenset({4, 5}), frozenset({4, 5})], 4) == 2
    assert shared([FOUR, FOUR, frozenset({4, 5}), frozenset({4, 5})], 2, place=2) == 1
    assert shared([frozenset({0, 1, 2}), frozenset({2, 3, 4})], 3) == 2, "of the core that both have, half is too little for a thread"
    assert capsys.readouterr().err == ""


def test_it_is_said_once_that_each_rank_is_bound_to_one_core(shared, monkeypatch, capsys):
    """As by Open MPI's mpiexec, unless it is told otherwise."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert shared([frozenset({0}), frozenset({1})], 1, size=2) == 1
    said = capsys.readouterr().err
    assert said.startswith("minidiff: the launcher has bound each rank to one core, ") and "--bind-to none" in said and said.count("\n") == 1
    shared([frozenset({0}), frozenset({1})], 1, place=1, size=2)
    shared([frozenset({0}), frozenset({0})], 1, size=2)     # a container that has no more than this one
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    shared([frozenset({0}), frozenset({1})], 1, size=2)     # nothing is left over
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------------------------------------ in processes


def mpiexec(n: int, *command: str, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run n ranks of a command, or skip where there is no MPI."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'minidiff[mpi]'")
    launcher = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if launcher is None:
        pytest.skip("there is no mpiexec: install MPICH or Open MPI")
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([launcher, "-n", str(n), sys.executable, *command], env=given, capture_output=True, text=True, timeout=timeout)


STEPS = """
import sys, numpy as np, minidiff as md
from minidiff.train.distributed import Exchange, ranks, share_machine

group, B = ranks(), 12
share_machine(group)
md.manual_seed(0)
# With a channel a group, GroupNorm takes away what a bias before it adds: its gradient is 0 but for rounding, and Adam walks.
model = md.models.UNet(image_size=16, channels=(16, 32), condition="film", target="v")
optimizer = md.optim.AdamW(model.parameters(), lr=1e-3)
exchange, schedule = Exchange(model.parameters(), group, 1), md.diffusion.make_schedule("cosine", 50)
images = np.random.default_rng(0).uniform(-1, 1, (8 * B, 1, 16, 16)).astype(np.float32)
part = group.part(B)
for k in range(8):
    rows = np.arange(k * B, (k + 1) * B)[part]
    loss = md.diffusion.loss(model, schedule, images[rows], rows % 10, md.philox.Rng(0, step=k, first_row=part.start))
    loss.backward()
    mean, = exchange.mean(loss.item())
    md.optim.clip_grad_norm(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
group.agree("parameters", [p.data for p in model.parameters()])
if group.first:
    np.savez(sys.argv[1], mean=mean, ranks=group.size, weights=np.concatenate([p.data.ravel() for p in model.parameters()]))
"""


@pytest.mark.parametrize("n", [2, 3])
def test_ranks_of_mpi_make_the_steps_of_one(tmp_path, n):
    (tmp_path / "steps.py").write_text(STEPS)
    one = subprocess.run([sys.executable, str(tmp_path / "steps.py"), str(tmp_path / "one.npz")], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert one.returncode == 0, one.stderr
    done = mpiexec(n, str(tmp_path / "steps.py"), str(tmp_path / "many.npz"))
    assert done.returncode == 0, done.stderr
    one, many = np.load(tmp_path / "one.npz"), np.load(tmp_path / "many.npz")
    difference = abs(one["weights"] - many["weights"]).max()
    print(f"{n} ranks against one: largest difference of a parameter {difference:.1e}")
    assert many["ranks"] == n and one["mean"] == pytest.approx(many["mean"], rel=1e-5)
    assert difference < 1e-4                                 # of eight steps of 1e-3; Adam divides small gradients by their size


def test_a_rank_of_mpi_that_fails_ends_the_others(tmp_path):
    """The others wait in an exchange, and would for ever."""
    (tmp_path / "fails.py").write_text("""
import numpy as np
from minidiff.train.distributed import ending_all, ranks
group = ranks()
with ending_all(group):
    if group.rank == 1:
        raise RuntimeError("the disk of rank 1 is gone")
    group.sum(np.zeros(4, np.float32))
    print("went on")
""")
    done = mpiexec(2, str(tmp_path / "fails.py"), timeout=60)
    assert done.returncode != 0 and "went on" not in done.stdout
    assert "minidiff: rank 1 of 2: RuntimeError: the disk of rank 1 is gone" in done.stderr


# ------------------------------------------------------------------------------------------------ the commands

RECIPE = ("train", "--data", "glyphs", "--preset", "tiny", "--limit", "120", "--batch", "12", "--augment", "shift", "--style", "slant",
          "--set", "sheet_every=0", "validate=20", "checkpoint_every=4", "model.channels=16,32", "warmup=0")  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the runs of these tests, and the environment: one cache, the kernels that are here."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder, {"MINIDIFF_CACHE": str(folder / "cache")}


def alone(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-m", "minidiff", *command], env=given, capture_output=True, text=True, timeout=240)


def weights(run: Path) -> np.ndarray:
    arrays, _ = checkpoint.load(run / "model.npz")
    return np.concatenate([a.ravel() for a in arrays["model"].values()])


def assert_same_but_for_rounding(a: np.ndarray, b: np.ndarray) -> None:
    """Sums in another order differ in their last bits; Adam makes more of it where a gradient is next to nothing."""
    difference = abs(a - b)
    assert np.quantile(difference, 0.999) < 1e-4 and difference.max() < 5e-3          # one step of the learning rate


@pytest.fixture(scope="module")
def one(place):
    """A run of one process, 8 steps."""
    folder, environment = place
    done = alone(*RECIPE, "--steps", "8", "--out", str(folder / "one"), **environment)
    assert done.returncode == 0, done.stderr
    return folder / "one"


def test_two_processes_train_the_model_of_one(place, one):
    folder, environment = place
    done = mpiexec(2, "-m", "minidiff", *RECIPE, "--steps", "8", "--out", str(folder / "two"), **environment)
    assert done.returncode == 0, done.stderr
    difference = abs(weights(one) - weights(folder / "two")).max()
    print(f"two processes against one, {weights(one).size:,} parameters after 8 steps: largest difference {difference:.1e}")
    assert_same_but_for_rounding(weights(one), weights(folder / "two"))
    assert "processes         2, each with 6 of 12 images a step" in done.stdout and done.stdout.count("wrote") == 1
    losses = [[row["loss"] for row in read_metrics(run)] for run in (one, folder / "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[1]) == 8
    assert sorted(p.name for p in (folder / "two").iterdir()) == sorted(p.name for p in one.iterdir())


def test_a_run_of_one_goes_on_with_three_and_one_of_three_with_one(place, one):
    folder, environment = place
    for first, then in ((1, 3), (3, 1)):
        out = str(folder / f"{first}-then-{then}")
        for n, steps, more in ((first, 4, ()), (then, 8, ("--resume",))):
            command = (*RECIPE, "--set", "lr_schedule=constant", "--steps", str(steps), "--out", out, *more)
            done = alone(*command, **environment) if n == 1 else mpiexec(n, "-m", "minidiff", *command, **environment)
            assert done.returncode == 0, done.stderr
    assert_same_but_for_rounding(weights(folder / "1-then-3"), weights(folder / "3-then-1"))


def test_a_signal_to_one_process_stops_all_of_them_with_a_checkpoint(place):
    folder, environment = place
    script = folder / "signalled.py"
    script.write_text("""
import os, signal, sys
from minidiff import cli
from minidiff.train import trainer
update = trainer.Trainer.update
def update_then_signal(self, *batch):
    if self.step == 2 and self.group.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    return update(self, *batch)
trainer.Trainer.update = update_then_signal
sys.exit(cli.main(sys.argv[1:]))
""")
    done = mpiexec(2, str(script), *RECIPE, "--steps", "50", "--out", str(folder / "stopped"), **environment)
    assert done.returncode == 128 + 15 and "stopped at step 3 of 50" in done.stderr, done.stderr
    assert checkpoint.latest(folder / "stopped").name == "step_00000003.npz"


def test_what_is_wrong_is_said_once(place, one):
    folder, environment = place
    for command, message in (
        ((*RECIPE, "--steps", "8", "--out", str(one)), f"minidiff: {one}: holds a run already; go on with it by --resume, or give another --out"),
        ((*RECIPE, "--batch", "9", "--out", str(folder / "odd")), "minidiff: DataLoader: a batch of 9 cannot be shared evenly among 2 ranks; "),
        (("train", "--preset", "huge"), "minidiff: unknown preset 'huge'; there are "),
    ):
        done = mpiexec(2, "-m", "minidiff", *command, **environment)
        assert done.returncode == 2 and done.stderr.count(message) == 1, done.stderr


def test_a_loss_that_is_no_number_stops_all_processes(place):
    folder, environment = place
    script = folder / "diverges.py"
    script.write_text("""
import sys
from minidiff import cli
from minidiff.train import gradients, trainer
whole = trainer.gradients
def spoiled(model, schedule, c, step, *batch):
    value = whole(model, schedule, c, step, *batch)
    return float("nan") if step == 5 and batch[-1] > 0 else value
trainer.gradients = spoiled
sys.exit(cli.main(sys.argv[1:]))
""")
    done = mpiexec(2, str(script), *RECIPE, "--steps", "50", "--out", str(folder / "nan"), **environment)
    assert done.returncode == 2 and done.stderr.count("minidiff: train: step 6: the loss is nan") == 1, done.stderr
    assert "computed again, the same step stays finite, in process 1 of 2" in done.stderr         # its arithmetic was right: we spoiled it
    assert checkpoint.latest(folder / "nan").name == "step_00000004.npz"


def test_samples_and_verdicts_are_those_of_one_process(place, one):
    folder, environment = place
    draw = ("sample", str(one), "--classes", "0-4", "--per-class", "1", "--steps", "4", "--sampler", "ddim")
    assert alone(*draw, "--out", str(folder / "a.npz"), **environment).returncode == 0
    for n in (2, 7):                                         # with seven, two have nothing to draw
        done = mpiexec(n, "-m", "minidiff", *draw, "--out", str(folder / f"{n}.npz"), **environment)
        assert done.returncode == 0 and done.stdout.count("wrote") == 1, done.stderr
        a, b = np.load(folder / "a.npz"), np.load(folder / f"{n}.npz")
        assert (a["labels"] == b["labels"]).all()
        np.testing.assert_allclose(a["images"], b["images"], atol=1e-4)
    done = mpiexec(2, "-m", "minidiff", *draw, "--out", str(folder / "film.gif"), **environment)
    assert done.returncode == 0 and (folder / "film.gif").stat().st_size > 1000, done.stderr
    judged = ("evaluate", str(one), "--n", "11", "--steps", "2", "--reference", "none")
    done = mpiexec(2, "-m", "minidiff", *judged, "--json", str(folder / "v.json"), **environment)
    assert done.returncode == 0 and done.stdout.count("class accuracy") == 1, done.stderr
    assert alone(*judged, **environment).stdout.splitlines()[0] == done.stdout.splitlines()[0]


def test_a_command_that_fails_on_one_process_ends_all(place, one):
    """The first has a model to draw with, the second has not: it says so, and nobody waits."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'minidiff[mpi]'")
    folder, environment = place
    script = folder / "lacks.py"
    script.write_text("""
import sys
from minidiff import cli
from minidiff.train import ranks
sys.exit(cli.main([*sys.argv[1:], *(["--out", "s.npz"] if ranks().first else ["--out", "s.bmp"])]))
""")
    done = mpiexec(2, str(script), "sample", str(one), "--per-class", "1", "--steps", "2", timeout=90, **environment)
    assert done.returncode == 2, done.stderr
    assert "minidiff: rank 1 of 2: --out s.bmp: unknown ending '.bmp'; it must be .png, .gif, .webp, .npz" in done.stderr


def test_masks_of_dropout_differ_between_processes(place):
    """And are the same when a step is made again: they are drawn from (seed, step, row)."""
    folder, environment = place
    script = folder / "masks.py"
    script.write_text("""
import sys
import numpy as np
from minidiff import cli
from minidiff.train import trainer
seen = []
whole = trainer.gradients
def watched(*given):
    value = whole(*given)
    from minidiff import backend
    seen.append(float(backend.default_rng().random()))
    return value
trainer.gradients = watched
status = cli.main(sys.argv[1:])
from minidiff.train import ranks
rows = ranks().all(seen)
if ranks().first:
    print("masks", all(len(set(pair)) == 2 for pair in zip(*rows)), rows[0])
sys.exit(status)
""")
    network = ("--set", "sheet_every=0", "validate=0", "model.network=attention-unet", "model.channels=8,16", "model.head_width=8", "model.attention=none",
               "model.dropout=0.3", "model.blocks=1")  # fmt: skip
    said = []
    for name in ("a", "b"):
        done = mpiexec(2, str(script), "train", "--data", "glyphs", "--preset", "tiny", "--limit", "40", "--batch", "4", "--steps", "2", *network,
                       "--out", str(folder / f"masks-{name}"), **environment)  # fmt: skip
        assert done.returncode == 0, done.stderr
        said.append(next(line for line in done.stdout.splitlines() if line.startswith("masks")))
    assert said[0].startswith("masks True") and said[0] == said[1]
