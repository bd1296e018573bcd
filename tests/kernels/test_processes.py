"""Kernels beside threads, forks, and folders that cannot be written to, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

TRAINING = """
import multiprocessing, threading, time
import numpy as np, minidiff as md

md.set_num_threads(2)

def trained(seed, steps=3):
    rng = np.random.default_rng(seed)
    model = md.models.UNet(image_size=16, channels=(8, 16), condition="film", target="v")
    for p in model.parameters():
        p.data[...] = 0.1 * rng.standard_normal(p.shape)
    optimizer, schedule = md.optim.AdamW(model.parameters(), lr=1e-3), md.diffusion.make_schedule("cosine", 50)
    images = rng.uniform(-1, 1, (6, 1, 16, 16)).astype(np.float32)
    for k in range(steps):
        md.diffusion.loss(model, schedule, images, np.arange(6), md.philox.Rng(seed, step=k)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return np.concatenate([p.data.ravel() for p in model.parameters()])

def forked(work):
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
        raise SystemExit("the child waits for ever")
    assert child.exitcode == 0

def while_it_is_held(lock, work):
    "Fork while another thread holds a lock, as it does while it computes what the lock is for."
    held = threading.Event()
    def hold():
        with lock:
            held.set()
            time.sleep(0.5)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    forked(work)
    thread.join()
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


@FORKS
def test_a_forked_child_computes_what_its_parent_did():
    run(TRAINING + """
expected = trained(0)
def child(): assert np.array_equal(trained(0), expected)
forked(child)
""")


@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_threads_that_train_do_not_meet(layer):
    run(TRAINING + """
expected, found = [trained(i) for i in range(3)], [None] * 3
def train(i): found[i] = trained(i)
threads = [threading.Thread(target=train, args=(i,)) for i in range(3)]
[t.start() for t in threads], [t.join() for t in threads]
assert all(map(np.array_equal, expected, found))
""", NUMBA_THREADING_LAYER=layer)


@FORKS
def test_a_process_can_fork_while_another_of_its_threads_compiles():
    pytest.importorskip("numba", reason="Numba is not installed: nothing is compiled")
    run(TRAINING + """
from numba.core.compiler_lock import global_compiler_lock
from minidiff.kernels import numba as kernels
def child():
    assert kernels.compiled(lambda x: x + 1)(1) == 2
while_it_is_held(global_compiler_lock, child)
""")


@FORKS
def test_a_process_can_fork_while_another_of_its_threads_draws_random_numbers():
    run(TRAINING + """
from minidiff import backend
def child(): md.nn.Linear(3, 4)
while_it_is_held(backend.default_rng().bit_generator.lock, child)
""")


def test_where_nothing_can_be_kept_on_disk_kernels_are_compiled_anew_and_that_is_said_once():
    """As for a user without a home of a package that root installed: Numba then finds none of its folders."""
    pytest.importorskip("numba", reason="Numba is not installed: nothing is compiled")
    done = run("""
import numba.core.caching, numpy as np
numba.core.caching.CompileResultCacheImpl._locator_classes = []
import minidiff as md
md.set_kernels("numba")
x = np.ones((2, 3), np.float32)
assert abs(md.ops.gelu(md.tensor(x)).numpy() - 0.8413447).max() < 1e-6
""")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("minidiff: compiled kernels cannot be kept on disk, ") and "NUMBA_CACHE_DIR" in done.stderr
