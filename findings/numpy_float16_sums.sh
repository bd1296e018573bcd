#!/usr/bin/env bash
# NumPy 2.2.0: a sum of float16 numbers depends on the axis it is taken along.
#
# Input: ones of float16, 3,000 to a sum, along the last axis and along the first. Expected: one result for one set of numbers, as float32
# gives up to its last bits; 3,000 is a float16 number. Behaviour: along the contiguous axis the sum is carried in float32 and is 3,000;
# along another axis it is carried in float16 and stops at 2,048, where adding 1 rounds back. np.mean carries float32 along every axis, so
# sum / n and mean differ by a third. Gradients of a bias are such sums, over the first axis of a batch.
#
# Output when this was written:
#     numpy 2.2.0: last axis 3000.0, first axis 2048.0, first axis with dtype=float32 3000.0, mean of the first axis 1.0
#
# Exits 0 while that is so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import numpy as np

x = np.ones((2, 3000), np.float16)
y = np.ones((3000, 2), np.float16)
found = [float(a[0]) for a in (x.sum(1), y.sum(0), y.sum(0, dtype=np.float32), y.mean(0))]
print("numpy {}: last axis {}, first axis {}, first axis with dtype=float32 {}, mean of the first axis {}".format(np.__version__, *found))
sys.exit(found != [3000.0, 2048.0, 3000.0, 1.0])
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.2.0
"$folder/venv/bin/python" "$folder/show.py"
