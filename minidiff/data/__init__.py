"""Images to learn from: MNIST, Fashion-MNIST, CIFAR-10, a folder of one's own, and digits drawn on the spot; batches of them in
[−1, 1]. And points in the plane."""

from minidiff.data.augmentation import AUGMENTATIONS, augment
from minidiff.data.catalog import NAMES, SPLITS, Entry, available, fetch, form, known, load, verify
from minidiff.data.check import Check
from minidiff.data.classes import find_classes
from minidiff.data.dataset import Dataset, from_model, to_model
from minidiff.data.idx import read_idx
from minidiff.data.loader import DataLoader
from minidiff.data.mnist import find_mnist
from minidiff.data.plane import FIGURES, Mixture, eight_gaussians, points
from minidiff.data.style import MEASURES, StyleScale, style_values
from minidiff.files import cache_folder

__all__ = ["AUGMENTATIONS", "FIGURES", "MEASURES", "NAMES", "SPLITS", "Check", "DataLoader", "Dataset", "Entry", "Mixture", "StyleScale", "augment",
           "available", "cache_folder", "eight_gaussians", "fetch", "find_classes", "find_mnist", "form", "from_model", "known", "load", "points", "read_idx",
           "style_values", "to_model", "verify"]
