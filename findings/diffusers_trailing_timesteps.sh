#!/usr/bin/env bash
# diffusers 0.42.1: with timestep_spacing="trailing" some numbers of steps give one step more, at timestep -1.
#
# Input: DDIMScheduler with the 1,000 training steps of its default and timestep_spacing="trailing", the spacing that Lin et al.
# (2023, "Common diffusion noise schedules and sample steps are flawed", table 2) recommend; set_timesteps(61). Expected: 61 timesteps
# from 999 down to a number of at least 0, as set_timesteps(60) and every divisor of 1,000 give. Behaviour: 62 timesteps, the last one -1.
# The list is made by stepping down from 1,000 by 1000 / 61 in floating point, and rounding lets one more number above 0 through. The
# scheduler's table takes index -1 for its last entry, which is its noisiest, so a sampling loop ends with a step for pure noise.
#
# Output when this was written:
#     diffusers 0.42.1, 60 steps asked for: 60 timesteps, 999 ... 16
#     diffusers 0.42.1, 61 steps asked for: 62 timesteps, 999 ... -1
#     of 1 to 1,000 steps, 62 give another number of timesteps; the first: 61, 103, 121
#
# Exits 0 while 60 steps are right and 61 are one too many.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/show.py" <<'PYTHON'
import sys

import diffusers

scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing")


def timesteps(asked):
    scheduler.set_timesteps(asked)
    return scheduler.timesteps.tolist()


found = {asked: timesteps(asked) for asked in (60, 61)}
for asked, t in found.items():
    print(f"diffusers {diffusers.__version__}, {asked} steps asked for: {len(t)} timesteps, {t[0]} ... {t[-1]}")
wrong = [asked for asked in range(1, 1001) if len(timesteps(asked)) != asked]
print(f"of 1 to 1,000 steps, {len(wrong)} give another number of timesteps; the first: {', '.join(map(str, wrong[:3]))}")
sys.exit(not (len(found[60]) == 60 and len(found[61]) == 62 and found[61][-1] == -1))
PYTHON
"$folder/venv/bin/pip" install --quiet torch==2.13.0 diffusers==0.42.1
"$folder/venv/bin/python" "$folder/show.py"
