#!/usr/bin/env bash
# prdc 0.2: a set of points that occur more often than k is not covered by itself.
#
# Input: compute_prdc(x, x, nearest_k=3) for 20 different points, each of them five times, as a data set with duplicates has them, or
# features of a classifier that agree. Expected: a set compared with itself has precision, recall and coverage 1, as it has where no
# point is repeated. Behaviour: 0 for all of them, and density 0. The distance to the third neighbor among five equal points is 0, and
# a point counts as covered where its distance is less than that, not where it is at most that. Kynkäänniemi et al. (2019, eq. 1)
# define precision and recall with "less than or equal".
#
# Output when this was written:
#     prdc 0.2, 100 different points: precision 1.00, recall 1.00, coverage 1.00
#     prdc 0.2, 20 points, five times each: precision 0.00, recall 0.00, coverage 0.00
#
# Exits 0 while the first set is covered by itself and the second is not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import contextlib
import io
import sys
from importlib.metadata import version

import numpy as np
from prdc import compute_prdc

different = np.arange(200.0).reshape(100, 2)  # integers: all distances between equal points are exactly 0
repeated = np.repeat(different[:20], 5, axis=0)
covered = []
for what, x in (("100 different points", different), ("20 points, five times each", repeated)):
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the sizes
        found = compute_prdc(real_features=x, fake_features=x, nearest_k=3)
    three = [float(found[name]) for name in ("precision", "recall", "coverage")]
    print(f"prdc {version('prdc')}, {what}: precision {three[0]:.2f}, recall {three[1]:.2f}, coverage {three[2]:.2f}")
    covered.append(three)
sys.exit(covered != [[1.0] * 3, [0.0] * 3])
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.2.0 scikit-learn==1.6.1 prdc==0.2
"$folder/venv/bin/python" "$folder/show.py"
