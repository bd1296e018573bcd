"""Speed and memory, measured against PyTorch and others in the same process: `minidiff bench`."""

from .command import main_bench

__all__ = ["main_bench"]
