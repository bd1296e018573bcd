import gc
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff import data
from minidiff.data import DataLoader, Dataset, to_model
from minidiff.errors import BadInput

N = 50


def numbered(n=N):
    """Image i has the value i everywhere, so that a batch tells which samples it holds."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None], (n, 4, 4)).copy()
    return Dataset("numbered", images, np.arange(n) % 10, tuple("0123456789"))


def samples(batch):
    middle = batch[0].shape[-1] // 2
    return np.rint((batch[0][:, 0, middle, middle] + 1) * 127.5).astype(int).tolist()


def take(loader, count):
    return [samples(next(loader)) for _ in range(count)]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "minidiff-loader"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    yield
    gc.collect()
    assert loader_threads() == []


def test_a_batch_is_the_samples_and_their_labels_as_a_model_sees_them():
    data = numbered()
    with DataLoader(data, 8, size=6) as loader:
        x, labels = next(loader)
    rows = samples((x, labels))
    assert x.shape == (8, 1, 6, 6) and x.dtype == np.float32 and labels.dtype == np.int64
    np.testing.assert_array_equal(x, to_model(data.images[rows], 6))
    np.testing.assert_array_equal(labels, data.labels[rows])


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_an_epoch_sees_each_sample_once_and_drops_the_rest(prefetch):
    with DataLoader(numbered(), 8, seed=3, prefetch=prefetch) as loader:
        assert loader.batches_per_epoch == 6 and loader.epoch == 0
        epochs = [sum(take(loader, 6), []) for _ in range(3)]
        assert loader.epoch == 3
    for e, seen in enumerate(epochs):
        assert seen == np.random.default_rng((3, e)).permutation(N)[:48].tolist()


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_prefetching_changes_nothing(prefetch):
    with DataLoader(numbered(), 7, seed=1, prefetch=0) as plain, \
         DataLoader(numbered(), 7, seed=1, prefetch=prefetch) as ahead:
        for _ in range(20):
            for a, b in zip(next(plain), next(ahead), strict=True):
                np.testing.assert_array_equal(a, b)


def test_without_shuffling_every_epoch_has_the_samples_own_order():
    with DataLoader(numbered(), 25, shuffle=False) as loader:
        assert take(loader, 4) == [list(range(25)), list(range(25, 50))] * 2


def test_the_seed_decides_the_order():
    orders = []
    for seed in (0, 0, 1):
        with DataLoader(numbered(), 10, seed=seed) as loader:
            orders.append(take(loader, 5))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("done", [0, 1, 6, 13])          # at the start, inside and at the end of an epoch
def test_a_resumed_loader_gives_the_batches_that_would_have_come(done, prefetch):
    with DataLoader(numbered(), 8, seed=5, prefetch=prefetch) as first:
        take(first, done)
        state = first.state_dict()
        time.sleep(0.01)          # the thread is ahead by now; what it prepared must not count
        would_have_come = take(first, 10)
    with DataLoader(numbered(), 8, seed=5, prefetch=prefetch) as second:
        take(second, 2)
        second.load_state_dict({key: np.asarray(value) for key, value in state.items()})   # as from .npz
        assert second.epoch == done / 6
        assert take(second, 10) == would_have_come


@pytest.mark.parametrize("other, message", [
    (dict(seed=2), "the state belongs to another loader: seed is 1 there and 2 here"),
    (dict(batch_size=9), "the state belongs to another loader: batch_size is 8 there and 9 here"),
    (dict(n=40, shuffle=False), "the state belongs to another loader: samples is 50 there and 40 here, "
                                "shuffle is 1 there and 0 here"),
])
def test_a_state_of_another_loader_is_refused_and_changes_nothing(other, message):
    with DataLoader(numbered(), 8, seed=1) as first:
        take(first, 3)
        state = first.state_dict()
    options = {"n": N, "batch_size": 8, "seed": 1, **other}
    with DataLoader(numbered(options.pop("n")), options.pop("batch_size"), **options) as second:
        take(second, 1)
        before = second.state_dict()
        with pytest.raises(BadInput, match=f"^DataLoader: {message}$"):
            second.load_state_dict(state)
        assert second.state_dict() == before


def test_a_state_without_its_parts_is_refused():
    with DataLoader(numbered(), 8) as loader, \
         pytest.raises(BadInput, match="^DataLoader: the state lacks position, shuffle; "
                                       r"expected a loader's state_dict\(\)$"):
        loader.load_state_dict({"samples": N, "batch_size": 8, "seed": 0})


@pytest.mark.parametrize("options, message", [
    (dict(batch_size=51), "DataLoader: a batch of 51 from 50 samples; batch_size must be 1 to 50"),
    (dict(batch_size=0), "DataLoader: a batch of 0 from 50 samples; batch_size must be 1 to 50"),
    (dict(seed=-1), "DataLoader: seed is -1; it must be 0 or more"),
    (dict(prefetch=-1), "DataLoader: prefetch is -1; it must be 0 or more"),
    (dict(size=3), "to_model: images of 4x4 do not fit into 3x3; size must be at least 4"),
])
def test_wrong_numbers_are_refused_at_once(options, message):
    with pytest.raises(BadInput, match=f"^{message}$"):
        DataLoader(numbered(), **{"batch_size": 8, **options})


def test_the_thread_is_never_further_ahead_than_asked():
    made = []
    loader = DataLoader(numbered(), 5, prefetch=3)
    make = loader._batches.make
    loader._batches.make = lambda k: (made.append(k), make(k))[1]
    with loader:
        take(loader, 4)
        until = time.monotonic() + 60
        while len(made) < 7 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)          # time enough to make too many
        assert made == list(range(7))          # four taken, three ready


def test_closing_ends_the_thread_and_a_later_batch_goes_on_where_it_was():
    loader = DataLoader(numbered(), 5)
    first = take(loader, 3)
    assert len(loader_threads()) == 1
    loader.close()
    loader.close()
    assert loader_threads() == []
    rest = take(loader, 3)
    loader.close()
    with DataLoader(numbered(), 5, prefetch=0) as plain:
        assert first + rest == take(plain, 6)


def test_a_forgotten_loader_takes_its_thread_along():
    loader = DataLoader(numbered(), 5)
    next(loader)
    del loader
    gc.collect()
    assert loader_threads() == []


def test_a_loader_collected_inside_its_own_thread_ends_it():
    loader = DataLoader(numbered(), 5, prefetch=1)
    make, collected = loader._batches.make, threading.Event()

    def make_and_collect(k):
        gc.collect()
        if not alive:
            collected.set()
        return make(k)

    loader._batches.make = make_and_collect
    alive = [loader]
    loader.cycle = loader          # only the garbage collector can free it now
    next(loader)
    gc.disable()
    try:
        alive.clear()
        thread, room = loader._thread._thread, loader._thread._room
        del loader
        room.put(True)          # lets the thread make one more batch, in which it collects the loader
        assert collected.wait(5)
        thread.join(5)
        assert not thread.is_alive()
    finally:
        gc.enable()


class Failing:
    """Images of which some batches cannot be read, the first time."""

    def __init__(self, images, fails_at):
        self.images, self.left, self.shape, self.dtype = images, fails_at, images.shape, images.dtype

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return self.images[rows]
        self.left -= 1
        if self.left == -1:
            raise OSError("the disk is gone")
        return self.images[rows]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_thread_is_raised_by_the_batch_that_needs_it(prefetch):
    data = numbered()
    object.__setattr__(data, "images", Failing(data.images, fails_at=3))
    with DataLoader(data, 5, prefetch=prefetch) as loader:
        before = take(loader, 3)
        with pytest.raises(OSError, match="^the disk is gone$"):
            next(loader)
        assert loader.state_dict()["position"] == 3
        after = take(loader, 3)          # it works again: nothing was skipped
    with DataLoader(numbered(), 5, prefetch=0) as plain:
        assert before + after == take(plain, 6)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_rows_of_style_come_with_their_samples(prefetch: int) -> None:
    glyphs = data.load("glyphs", "test", limit=30)
    style = np.stack([np.arange(30), glyphs.labels], 1).astype(np.float32)
    with data.DataLoader(glyphs, 7, prefetch=prefetch, style=style, size=28) as loader:
        for _ in range(6):
            images, labels, rows = next(loader)
            assert (rows[:, 1] == labels).all()
            assert (images == data.to_model(glyphs.images[rows[:, 0].astype(int)], 28)).all()


def test_a_style_of_other_length_is_refused() -> None:
    glyphs = data.load("glyphs", "test", limit=30)
    with pytest.raises(BadInput, match=r"style must be \(30, S\), a row for each sample, got \(29, 2\)"):
        data.DataLoader(glyphs, 7, style=np.zeros((29, 2)))


# ------------------------------------------------------------------------------------------------ many processes

@settings(max_examples=40, deadline=None)
@given(ranks=st.integers(1, 6), share=st.integers(1, 4), seed=st.integers(0, 9), shuffle=st.booleans(), augment=st.sampled_from([(), ("shift",)]),
       start=st.integers(0, 9), prefetch=st.integers(0, 2))
def test_ranks_together_see_what_one_alone_sees(ranks, share, seed, shuffle, augment, start, prefetch):
    """Whatever the number of ranks, from any batch on; and each rank's state is the state of the one."""
    options = dict(batch_size=ranks * share, seed=seed, shuffle=shuffle, size=8, augment=augment)
    style = np.arange(N, dtype=np.float32)[:, None]
    one = DataLoader(numbered(), prefetch=0, style=style, **options)
    for _ in range(start):
        next(one)
    parts = [DataLoader(numbered(), prefetch=prefetch, style=style, rank=r, ranks=ranks, **options) for r in range(ranks)]
    for part in parts:
        part.load_state_dict(one.state_dict())
    for _ in range(8):
        whole, shares = next(one), [next(part) for part in parts]
        for k, array in enumerate(whole):
            np.testing.assert_array_equal(np.concatenate([share[k] for share in shares]), array)
        assert all(part.state_dict() == one.state_dict() for part in parts)
    assert [part.first_row for part in parts] == [r * share for r in range(ranks)] and parts[0].local_batch_size == share
    for part in parts:
        part.close()


@pytest.mark.parametrize("before, after", [(1, 4), (4, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_ranks(before, after):
    options = dict(batch_size=8, seed=2, prefetch=1)
    with DataLoader(numbered(), rank=before - 1, ranks=before, **options) as first:
        take(first, 9)
        state = first.state_dict()
    seen = []
    for rank in range(after):
        with DataLoader(numbered(), rank=rank, ranks=after, **options) as loader:
            loader.load_state_dict(state)
            seen += take(loader, 1)[0]
    with DataLoader(numbered(), **options) as alone:
        assert seen == take(alone, 10)[9]


def test_place_tells_where_this_ranks_part_begins():
    with DataLoader(numbered(), 8, seed=1, rank=3, ranks=4) as loader, DataLoader(numbered(), 8, seed=1, rank=3, ranks=4) as other:
        take(loader, 5), take(other, 5)
        order, begin = loader.place()
        assert order[begin:begin + loader.local_batch_size].tolist() == take(other, 1)[0]
        assert loader.state_dict() == other.state_dict()


@pytest.mark.parametrize("options, message", [
    (dict(ranks=3), "DataLoader: a batch of 8 cannot be shared evenly among 3 ranks; batch_size must be a multiple of 3, such as 6"),
    (dict(ranks=16), "DataLoader: a batch of 8 cannot be shared evenly among 16 ranks; batch_size must be a multiple of 16, such as 16"),
    (dict(rank=2, ranks=2), "DataLoader: rank 2 of 2; ranks must be 1 or more and rank 0 to ranks - 1"),
    (dict(rank=-1), "DataLoader: rank -1 of 1; ranks must be 1 or more and rank 0 to ranks - 1"),
    (dict(ranks=0), "DataLoader: rank 0 of 0; ranks must be 1 or more and rank 0 to ranks - 1"),
    (dict(augment=("shift",), seed=2**64), "the seed must be a whole number from 0 to 2\\*\\*64 - 1, got 18446744073709551616"),
])
def test_shares_that_do_not_come_out_even_are_refused(options, message):
    with pytest.raises(BadInput, match=f"^{message}$"):
        DataLoader(numbered(), 8, **options)


def test_a_state_written_before_there_was_augmentation_is_read():
    with DataLoader(numbered(), 8) as loader:
        loader.load_state_dict({"position": 3, "samples": N, "batch_size": 8, "seed": 0, "shuffle": 1})
        assert loader.state_dict() == {"position": 3, "samples": N, "batch_size": 8, "seed": 0, "shuffle": 1}


def test_memory_does_not_grow_with_what_is_handed_out():
    import tracemalloc

    dataset = Dataset("zeros", np.zeros((512, 32, 32), np.uint8), np.zeros(512, np.int64), ("0",))
    with DataLoader(dataset, 128, prefetch=3, augment=("shift",)) as loader:          # a batch is 0.5 MB
        next(loader)
        tracemalloc.start()
        for _ in range(40):
            batch = next(loader)
        time.sleep(0.05)
        held, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Three prepared, one handed out; while one is made, its padded copy and the images it is made from.
    assert held < 5 * batch[0].nbytes and peak < 9 * batch[0].nbytes
