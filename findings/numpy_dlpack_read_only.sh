#!/usr/bin/env bash
# NumPy 2.0.2: what np.from_dlpack returns is read-only, and cannot be handed on through DLPack.
#
# Input: a writable array that is passed through np.from_dlpack twice, as happens where one library takes an array from another that
# took it from NumPy. Expected: the memory is shared, stays writable, and can be handed on as often as one likes, as with 2.3.0.
# Behaviour: the first result is read-only, though the array was not, and the second call ends with BufferError, since this NumPy
# cannot lend a read-only array. With 2.1.3 the second call works, and what it returns is read-only too.
#
# Output when this was written:
#     numpy 2.0.2: once writable False; twice BufferError
#     numpy 2.1.3: once writable False; twice writable False
#     numpy 2.3.0: once writable True; twice writable True
#
# Exits 0 while 2.0.2 fails at the second, 2.1.3 makes both read-only and 2.3.0 neither.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import numpy as np

once = np.from_dlpack(np.arange(3.0))
try:
    twice = f"writable {np.from_dlpack(once).flags.writeable}"
except BufferError:
    twice = "BufferError"
found = f"once writable {once.flags.writeable}; twice {twice}"
print(f"numpy {np.__version__}: {found}")
sys.exit(found != sys.argv[1])
PYTHON
"$folder/venv/bin/pip" install --quiet numpy==2.0.2
"$folder/venv/bin/python" "$folder/show.py" "once writable False; twice BufferError"
"$folder/venv/bin/pip" install --quiet numpy==2.1.3
"$folder/venv/bin/python" "$folder/show.py" "once writable False; twice writable False"
"$folder/venv/bin/pip" install --quiet numpy==2.3.0
"$folder/venv/bin/python" "$folder/show.py" "once writable True; twice writable True"
