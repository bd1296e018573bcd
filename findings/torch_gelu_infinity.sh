#!/usr/bin/env bash
# PyTorch 2.13.0 on an x86 CPU: gelu of infinity is infinity for one number, and NaN for several.
#
# Input: torch.nn.functional.gelu of float32 tensors that hold +inf. Expected: x Φ(x) = inf · 1 = inf, whatever the size, as float64 and
# approximate="tanh" give. Behaviour: a float32 tensor of one element gives inf; with two or more, gelu is computed by oneDNN, and
# the result is NaN where x is +inf, and inf where x is the largest finite float32, which gelu should leave as it is. So a search for the operation that made the first
# NaN ends at gelu, though it was given an overflow; and the same image gives inf or NaN by the size of its tensor.
#
# Output when this was written, with the three values of ATEN_CPU_CAPABILITY (default, avx2, avx512) alike:
#     torch 2.13.0: 1 number inf, 64 numbers nan, 64 of float64 inf, 64 with tanh inf, 64 of the largest finite inf
#
# Exits 0 while that is so; it says so and exits 0 on processors where PyTorch has no oneDNN.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import platform
import sys

import torch
from torch.nn.functional import gelu

if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
    print(f"torch {torch.__version__} on {platform.machine()}: no oneDNN for x86, nothing to show")
    sys.exit(0)
inf = torch.full((64,), float("inf"))
largest = torch.full((64,), torch.finfo(torch.float32).max)
found = [gelu(x)[0].item() for x in (inf[:1], inf, inf.double())] + [gelu(inf, approximate="tanh")[0].item(), gelu(largest)[0].item()]
print("torch {}: 1 number {}, 64 numbers {}, 64 of float64 {}, 64 with tanh {}, 64 of the largest finite {}".format(
    torch.__version__.partition("+")[0], *found))
sys.exit([str(y) for y in found] != ["inf", "nan", "inf", "inf", "inf"])
PYTHON
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.2.0
"$folder/venv/bin/python" "$folder/show.py"
