"""Kernels for NVIDIA GPUs, written in CUDA and launched through CuPy; without a GPU, an emulator runs them.

One file of CUDA (`conv.cu`) and one of Python beside it (`conv.py`) for each subject. `compile.py` is the only way
from a .cu file to machine code, `runtime.py` the only way to launch it, `device.h` and `tile.h` are what the
kernels are written with, `emulate.h` stands in for the GPU.
"""
