"""How fast, and how much memory: one training step and one forward pass, beside PyTorch's.

Both libraries run the same network with the same weights in one process, turn by turn, on the same
number of threads: whatever else the machine does in a given second, it does to both. A figure of
speed is the median over the rounds of the ratio within a round.
"""

from .cpu import main_bench, measure, peak_memory

__all__ = ["main_bench", "measure", "peak_memory"]
