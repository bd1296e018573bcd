"""Images to learn from: MNIST, Fashion-MNIST, and digits drawn on the spot; batches of them in [−1, 1]."""

from minidiff.data.catalog import NAMES, SPLITS, Check, Entry, available, fetch, load, verify
from minidiff.data.dataset import Dataset, from_model, to_model
from minidiff.data.idx import read_idx
from minidiff.data.loader import DataLoader
from minidiff.data.mnist import find_mnist
from minidiff.files import cache_folder

__all__ = ["NAMES", "SPLITS", "Check", "DataLoader", "Dataset", "Entry", "available", "cache_folder", "fetch",
           "find_mnist", "from_model", "load", "read_idx", "to_model", "verify"]
