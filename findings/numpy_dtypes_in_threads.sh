#!/usr/bin/env bash
# NumPy 2.1.0 and 2.1.1: the dtype of a result depends on the thread in which it is computed.
#
# Input: a uint64 array shifted by a Python int, and a float32 number multiplied by a Python float. Expected: NumPy 2's promotion
# rules (NEP 50), by which Python numbers are weak: uint64 and float32, in every thread, as with 2.0.2, 2.1.2 and the main thread.
# Behaviour: other threads than the main one follow NumPy 1's rules, by value. The float32 product with 1e300 becomes float64 (in
# the main thread it is inf), and a 0-d uint64 array cannot be shifted at all: TypeError. A program that is right on one thread
# fails, or computes in another precision, in a ThreadPoolExecutor or a data loader's thread.
#
# Output when this was written:
#     numpy 2.0.2: main thread float32, uint64; another thread float32, uint64
#     numpy 2.1.1: main thread float32, uint64; another thread float64, TypeError
#     numpy 2.1.2: main thread float32, uint64; another thread float32, uint64
#
# Exits 0 while 2.1.1 differs between threads, and 2.0.2 and 2.1.2 do not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys
import threading
import warnings

import numpy as np

warnings.simplefilter("ignore")  # the overflow to inf is meant


def dtypes():
    product = (np.float32(3) * 1e300).dtype.name
    try:
        shifted = (np.array(5, np.uint64) >> 2).dtype.name
    except TypeError:
        shifted = "TypeError"
    return f"{product}, {shifted}"


found = [dtypes()]
thread = threading.Thread(target=lambda: found.append(dtypes()))
thread.start()
thread.join()
print(f"numpy {np.__version__}: main thread {found[0]}; another thread {found[1]}")
sys.exit(found != ["float32, uint64", sys.argv[1]])
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.0.2
"$folder/venv/bin/python" "$folder/show.py" "float32, uint64"
"$folder/venv/bin/pip" install --quiet numpy==2.1.1
"$folder/venv/bin/python" "$folder/show.py" "float64, TypeError"
"$folder/venv/bin/pip" install --quiet numpy==2.1.2
"$folder/venv/bin/python" "$folder/show.py" "float32, uint64"
