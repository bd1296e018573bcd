#!/usr/bin/env bash
# threadpoolctl 3.4.0 beside NumPy 2.1.2: limits of BLAS threads do nothing, silently.
#
# Input: threadpool_limits(1, user_api="blas") in a program that has NumPy, from its wheel, loaded. Expected: BLAS computes with one
# thread, or an error or a warning says that no BLAS was found. Behaviour: NumPy 2's wheels carry OpenBLAS as
# libscipy_openblas64_, whose functions have a prefix that threadpoolctl before 3.5.0 does not look for. It lists no library and
# limits none. OpenBLAS keeps a thread for each core, beside those of the program. Its metadata allows the pair.
#
# Output when this was written, on two cores:
#     threadpoolctl 3.4.0, numpy 2.1.2: BLAS libraries found: none; limited to: nothing
#     threadpoolctl 3.5.0, numpy 2.1.2: BLAS libraries found: openblas; limited to: 1 thread
#
# Exits 0 while 3.4.0 finds no BLAS and 3.5.0 finds and limits one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import numpy as np
import threadpoolctl

np.ones((9, 9)) @ np.ones((9, 9))
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
names = ", ".join(library["internal_api"] for library in found) or "none"
limits = ", ".join(f"{library['num_threads']} thread" for library in found) or "nothing"
print(f"threadpoolctl {threadpoolctl.__version__}, numpy {np.__version__}: BLAS libraries found: {names}; limited to: {limits}")
sys.exit([names, limits] != sys.argv[1:])
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.1.2 threadpoolctl==3.4.0
"$folder/venv/bin/python" "$folder/show.py" none nothing
"$folder/venv/bin/pip" install --quiet threadpoolctl==3.5.0
"$folder/venv/bin/python" "$folder/show.py" openblas "1 thread"
