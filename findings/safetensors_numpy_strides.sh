#!/usr/bin/env bash
# safetensors 0.8.0: save() of a transposed NumPy array writes the numbers in another order, silently.
#
# Input: a valid float32 array (3, 2) that is a transposed view, as weights are when a Linear layer of one framework is turned
# into another's. Expected: load(save(x)) equals x, as with 0.7.0 and before, which wrote the array's elements in C order; or an
# error, as safetensors.torch gives for tensors that are not contiguous. Behaviour: 0.8.0 writes the memory under the view as it
# lies, with the view's shape. The file is valid and has the right shape and dtype, and its numbers are permuted.
#
# Output when this was written:
#     safetensors 0.7.0, numpy 2.2.0
#     saved  [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
#     loaded [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
#     safetensors 0.8.0, numpy 2.2.0
#     saved  [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
#     loaded [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
#
# Exits 0 while 0.7.0 gives the array back and 0.8.0 does not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load, save

x = np.arange(6, dtype=np.float32).reshape(2, 3).T
y = load(save({"x": x}))["x"]
print(f"safetensors {safetensors.__version__}, numpy {np.__version__}")
print("saved ", x.tolist())
print("loaded", y.tolist())
expected = x if sys.argv[1] == "same" else np.array([[0, 1], [2, 3], [4, 5]], np.float32)
sys.exit(not (y.shape == x.shape and np.array_equal(y, expected)))
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.2.0 safetensors==0.7.0
"$folder/venv/bin/python" "$folder/show.py" same
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0
"$folder/venv/bin/python" "$folder/show.py" permuted
