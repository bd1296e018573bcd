"""Chapter 16: a class becomes a vector, and the vector learns."""

import numpy as np

from ... import ops
from ...tensor import Tensor
from ..task import Task


def class_embedding(labels, table):
    """The row of the table that belongs to each label, and zeros for −1, which means no class.            # (N,) (K,E) -> (N,E)"""
    return np.where(labels[:, None] >= 0, table[labels], 0.0)


def embedding_backward(labels, gy, classes):
    """The gradient of the table, from that of the rows that were taken: labels 0 … classes − 1.            # (N,) (N,E) -> (classes,E)

        gtable[k] = Σ gy[n]    over all n with labels[n] = k

    A class may occur several times in a batch, and every one of them counts.
    """
    g = np.zeros((classes, gy.shape[1]))
    np.add.at(g, labels, gy)
    return g


def _rows(labels, table):
    one_hot = labels[:, None] == np.arange(len(table))
    return one_hot.astype(float) @ table


def _table(labels, gy, classes):
    table = Tensor(np.zeros((classes, gy.shape[1])), requires_grad=True)
    ops.embedding(labels, table).backward(gy)
    return table.grad.numpy()


TASKS = [
    Task(
        class_embedding, "A class as a vector", 16, "easy", 5,
        reference=_rows,
        cases=lambda rng: [(np.array([2, -1, 0, 2]), rng.standard_normal((3, 2))), (np.array([-1, 3]), rng.standard_normal((4, 5))), (np.array([1]), rng.standard_normal((2, 3)))],
        hints=("table[labels] gives the rows. What does Python think table[−1] is?", "−1 is the last row for NumPy: those must become zeros afterwards.", "np.where(labels[:, None] >= 0, table[labels], 0.0)."),
        slips=[
            ("np.where(labels[:, None] >= 0, table[labels], 0.0)", "table[labels]", "−1 takes the last row of the table: no class must give zeros"),
            ("np.where(labels[:, None] >= 0, table[labels], 0.0)", "table[np.maximum(labels, 0)]", "−1 has become class 0: no class must give zeros"),
            ("labels[:, None] >= 0", "labels[:, None] > 0", "0 is a class too, the first one"),
            ("np.where(labels[:, None] >= 0, table[labels], 0.0)", "table[labels[labels >= 0]]", "samples without a class get a row of zeros; they must not be left out"),
        ],
    ),
    Task(
        embedding_backward, "What the table learns", 16, "medium", 10,
        reference=_table,
        cases=lambda rng: [(np.array([1, 0, 1, 1]), rng.standard_normal((4, 3)), 3), (np.array([2, 2]), rng.standard_normal((2, 2)), 5), (np.array([0]), rng.standard_normal((1, 4)), 1)],
        hints=("It is sum_to once more: what was handed out several times is gathered in again.", "g[labels] += gy is a trap: NumPy reads all, adds, and writes all back, and of several equal labels the last one wins.", "np.add.at(g, labels, gy) adds one after the other; so does a loop, or one_hot.T @ gy."),
        slips=[
            ("np.add.at(g, labels, gy)", "g[labels] += gy", "g[labels] += gy counts a class that occurs several times only once"),
            ("np.zeros((classes, gy.shape[1]))", "np.zeros((labels.max() + 1, gy.shape[1]))", "the table has a row for each of its classes, whether it occurs in this batch or not"),
            ("    return g\n", "    return g / np.maximum(np.bincount(labels, minlength=classes), 1)[:, None]\n", "the sum over the samples of a class is wanted, not their mean"),
        ],
    ),
]  # fmt: skip
