"""Batches without end: shuffled by a seed, resumable to the batch, shared among processes, prepared ahead by one thread."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from minidiff import philox
from minidiff.data.augmentation import AUGMENTATIONS, augment, check_names
from minidiff.data.dataset import Dataset, to_model
from minidiff.errors import BadInput

Batch = tuple[np.ndarray, ...]


class DataLoader:
    """An endless iterator over batches of a dataset.

    Epoch e visits the samples in the order ``default_rng((seed, e)).permutation(N)`` and drops what is
    left over at its end. The order is thus a function of the seed and the number of the batch alone:
    neither `prefetch` nor a restart can change it, and one number is all that a checkpoint must keep.

    ``next(loader)`` gives (images float32 (B,C,size,size) in [−1, 1], labels int64 (B,)), and beside them the rows of
    `style` (B,S), if that is given.

    Processes that train one model together make a loader each, with the same arguments but for `rank`. All walk the
    same order; of every batch, rank r gets the rows r·B/R … (r+1)·B/R − 1, so that R of them see exactly what one alone
    would see. Their states are equal and do not know of ranks: a run may be gone on with by another number of them.

    Args:
        dataset: the images and labels.
        batch_size: samples in each batch of all ranks together, 1 … len(dataset), a multiple of `ranks`.
        seed: any non-negative whole number.
        shuffle: False visits the samples in their own order, every epoch.
        size: height and width of the batches in pixels; smaller images are padded with black.
        style: further values of each sample, (N,S), such as `StyleScale.told` gives.
        prefetch: how many batches a background thread prepares ahead; 0 prepares each when it is asked for.
        augment: names of `minidiff.data.augmentation`, such as ("shift", "flip"); the set must allow them.
        rank, ranks: which of how many processes this is, 0 … ranks−1.

    The thread starts with the first batch, is never more than `prefetch` batches ahead, and ends with
    `close()`, with the ``with`` block, or when the loader is no longer referenced. An error in it is
    raised by the `next` whose batch could not be made. Beside the dataset a loader holds
    `prefetch` batches at most, the one in the making among them.

    Raises:
        BadInput: a batch larger than the dataset or not to be shared evenly, a number out of range, an augmentation
            that is unknown or changes this set's classes, or "flip" beside `style`, whose values it would make wrong.
    """

    def __init__(self, dataset: Dataset, batch_size: int, *, seed: int = 0, shuffle: bool = True,
                 size: int = 32, prefetch: int = 2, style: np.ndarray | None = None,
                 augment: Sequence[str] = (), rank: int = 0, ranks: int = 1) -> None:
        if not 1 <= batch_size <= len(dataset):
            raise BadInput(f"DataLoader: a batch of {batch_size} from {len(dataset):,} samples; "
                           f"batch_size must be 1 to {len(dataset):,}")
        if seed < 0:
            raise BadInput(f"DataLoader: seed is {seed}; it must be 0 or more")
        if prefetch < 0:
            raise BadInput(f"DataLoader: prefetch is {prefetch}; it must be 0 or more")
        if style is not None and (style.ndim != 2 or len(style) != len(dataset)):
            raise BadInput(f"DataLoader: style must be ({len(dataset)}, S), a row for each sample, got {style.shape}")
        if ranks < 1 or not 0 <= rank < ranks:
            raise BadInput(f"DataLoader: rank {rank} of {ranks}; ranks must be 1 or more and rank 0 to ranks - 1")
        if batch_size % ranks:
            raise BadInput(f"DataLoader: a batch of {batch_size} cannot be shared evenly among {ranks} ranks; "
                           f"batch_size must be a multiple of {ranks}, such as {batch_size // ranks * ranks or ranks}")
        names = check_names(dataset, augment)
        if names:
            philox.key_of(seed)
        if "flip" in names and style is not None:
            raise BadInput("DataLoader: flip mirrors the pictures and so makes style values such as slant wrong; leave one of the two out")
        to_model(dataset.images[:1], size)          # a size that does not fit fails here, not in the thread
        self._batches = _Batches(dataset, int(batch_size), int(seed), bool(shuffle), int(size), style, names, int(rank), int(ranks))
        self._prefetch = int(prefetch)
        self._position = 0
        self._thread: _Prefetcher | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Whole batches in one pass over the dataset."""
        return self._batches.per_epoch

    @property
    def epoch(self) -> float:
        """How many passes have been handed out: 1.5 after one and a half."""
        return self._position / self.batches_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self._batches.make(self._position) if self._prefetch == 0 else self._prefetched()
        self._position += 1
        return batch

    @property
    def dataset(self) -> Dataset:
        """What the batches are of."""
        return self._batches.dataset

    def place(self) -> tuple[np.ndarray, int]:
        """The order of this epoch, and where in it the next batch begins; that batch counts as handed out.

        For whoever has the samples elsewhere, such as in a GPU's memory, and takes them from there: `local_batch_size`
        of them, as they are.

        Raises:
            BadInput: the loader augments, which only `next` does.
        """
        if self._batches.augment:
            raise BadInput(f"DataLoader: {', '.join(self._batches.augment)} is done by next(loader); place() tells of samples as they are")
        e, b = divmod(self._position, self.batches_per_epoch)
        self.close()                                             # what was prepared is not wanted
        self._position += 1
        return self._batches.order_of(e), b * self._batches.batch_size + self.first_row

    @property
    def local_batch_size(self) -> int:
        """Samples of each batch that this rank gets."""
        return self._batches.batch_size // self._batches.ranks

    @property
    def first_row(self) -> int:
        """Where in the batch of all ranks this rank's part begins."""
        return self._batches.rank * self.local_batch_size

    def state_dict(self) -> dict[str, int]:
        """The position and what must be equal for it to have a meaning. Prefetched batches do not count."""
        return {"position": self._position, **self._batches.identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly after the batch that was the last before `state_dict()`.

        Raises:
            BadInput: the state belongs to other data, another seed or batch size; nothing is changed then.
        """
        mine = self._batches.identity()
        missing = [key for key in ("position", *mine) if key not in state and key != "augment"]
        if missing:
            raise BadInput(f"DataLoader: the state lacks {', '.join(missing)}; "
                           "expected a loader's state_dict()")
        theirs = {"augment": 0, **state}          # a loader that does not augment says nothing of it
        differ = [f"{key} is {_said(key, theirs[key])} there and {_said(key, value)} here"
                  for key, value in {"augment": 0, **mine}.items() if int(theirs[key]) != value]
        if differ:
            raise BadInput(f"DataLoader: the state belongs to another loader: {', '.join(differ)}")
        if int(state["position"]) < 0:
            raise BadInput(f"DataLoader: position is {int(state['position'])}; it must be 0 or more")
        self.close()
        self._position = int(state["position"])

    def close(self) -> None:
        """End the thread and forget what it had prepared. A later `next` goes on where the last one ended."""
        if self._thread is not None:
            self._end_thread()
            self._thread = None

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prefetched(self) -> Batch:
        if self._thread is None:
            self._thread = _Prefetcher(self._batches, self._position, self._prefetch)
            # The thread refers to the batches, never to the loader, so a forgotten loader is collected …
            self._end_thread = weakref.finalize(self, self._thread.stop)          # … and its thread ends.
        try:
            return self._thread.take()
        except BaseException:
            self.close()          # a failed thread has ended; a later next() starts one at this same batch
            raise


class _Batches:
    """Batch number k of an endless sequence, computed from k alone."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, shuffle: bool, size: int, style: np.ndarray | None,
                 augment: tuple[str, ...], rank: int, ranks: int) -> None:
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.size, self.style = shuffle, size, style
        self.augment, self.rank, self.ranks = augment, rank, ranks
        self.per_epoch = len(dataset) // batch_size
        self._order: tuple[int, np.ndarray] | None = None

    def identity(self) -> dict[str, int]:
        augment = sum(1 << AUGMENTATIONS.index(name) for name in self.augment)
        return {"samples": len(self.dataset), "batch_size": self.batch_size, "seed": self.seed,
                "shuffle": int(self.shuffle), **({"augment": augment} if augment else {})}

    def make(self, k: int) -> Batch:
        e, b = divmod(k, self.per_epoch)
        count = self.batch_size // self.ranks
        start = b * self.batch_size + self.rank * count
        indices = self.order_of(e)[start:start + count]
        images, labels = to_model(self.dataset.images[indices], self.size), self.dataset.labels[indices]
        images = augment(images, indices, self.augment, self.seed, e)
        return (images, labels) if self.style is None else (images, labels, self.style[indices])

    def order_of(self, e: int) -> np.ndarray:
        """The samples of an epoch, in the order in which they are visited."""
        if not self.shuffle:
            e = 0          # one order for all epochs
        if self._order is None or self._order[0] != e:
            N = len(self.dataset)
            order = np.random.default_rng((self.seed, e)).permutation(N) if self.shuffle else np.arange(N)
            self._order = e, order
        return self._order[1]


def _said(key: str, value: Any) -> str:
    if key != "augment":
        return str(int(value))
    return "+".join(name for bit, name in enumerate(AUGMENTATIONS) if int(value) >> bit & 1) or "none"


class _Prefetcher:
    """One thread that makes batches k, k+1, …, at most `ahead` of them before they are taken.

    `room` holds one token for each batch that may still be made. Both queues are SimpleQueues: the
    garbage collector may call `stop` in any thread at any moment, also while that thread is inside a
    put or a get, and only SimpleQueue allows that.
    """

    def __init__(self, batches: _Batches, k: int, ahead: int) -> None:
        self._ready: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[bool] = queue.SimpleQueue()
        for _ in range(ahead):
            self._room.put(True)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=_produce, name="minidiff-loader", daemon=True,
                                        args=(batches, k, self._room, self._ready, self._stopped))
        self._thread.start()

    def take(self) -> Batch:
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        self._room.put(True)
        return item

    def stop(self) -> None:
        self._stopped.set()
        self._room.put(False)          # wakes a thread that waits for room
        if self._thread is not threading.current_thread():
            self._thread.join()


def _produce(batches: _Batches, k: int, room: queue.SimpleQueue[bool],
             ready: queue.SimpleQueue[Batch | BaseException], stopped: threading.Event) -> None:
    try:
        while room.get() and not stopped.is_set():
            ready.put(batches.make(k))
            k += 1
    except BaseException as error:
        ready.put(error)
