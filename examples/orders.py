"""How the error of each sampler falls with the number of its steps, on a problem whose answer is known.

    python examples/orders.py
    python examples/orders.py --roads cosine flow --samplers heun --json orders.json

The picture is a point of the plane, drawn from three Gaussians that overlap. For these the best answer to every question that
a sampler can ask is known in closed form, so no network is in the way, and the curve that the samplers try to follow can be
followed to ten digits by a solver of differential equations. What a sampler gets wrong is then its own. With twice as many
steps a sampler of order p should be 2^p times as near. Takes a few seconds; the record is chapters/results/orders.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from minidiff.data import Mixture
from minidiff.diffusion import Schedule, make_schedule
from minidiff.diffusion.solvers import SOLVERS, Answer
from minidiff.diffusion.targets import noise_in
from minidiff.errors import BadInput
from minidiff.train import records

# Three Gaussians that overlap, so that the way back is curved but not steep anywhere.
MIXTURE = Mixture(np.array([[0.7, -0.2], [-0.5, 0.6], [-0.3, -0.7]]), np.array([0.35, 0.45, 0.4]), np.array([0.5, 0.3, 0.2]))
T = 4096                                     # enough that steps of a subset are even, and half of each is a whole number
COUNTS = (8, 16, 32, 64, 128)
ORDERS = {"ddim": 1, "euler": 1, "midpoint": 2, "heun": 2, "dpm++": 2}
ROADS: dict[str, dict[str, Any]] = {"cosine": {"zero_terminal_snr": True}, "flow": {}, "sigmoid": {}, "edm": {"sigma_max": 20.0}}


def way(schedule: Schedule, x: np.ndarray, t: int, s: int, mixture: Mixture = MIXTURE) -> np.ndarray:
    """Where the noise-free curve leads from x_t at step s: its equation on the straight road, solved to ten digits."""
    S = schedule.noise / (schedule.signal + schedule.noise)

    def slope(S: float, z: np.ndarray) -> np.ndarray:
        x0 = mixture.expected(z.reshape(-1, 2), 1.0 - S, S)
        return ((z.reshape(-1, 2) - (1.0 - S) * x0) / S - x0).ravel()

    c_t, c_s = (schedule.signal[i] + schedule.noise[i] for i in (t, s))
    solved = solve_ivp(slope, (S[t], max(S[s], 1e-9)), (x / c_t).ravel(), method="DOP853", rtol=1e-10, atol=1e-12)
    return c_s * solved.y[:, -1].reshape(-1, 2)


def walk(schedule: Schedule, sampler: str, x: np.ndarray, times: Any, mixture: Mixture = MIXTURE, **options: Any) -> np.ndarray:
    """Where the sampler leads, with the best answers there are."""

    def ask(x: np.ndarray, t: int) -> Answer:
        x0 = mixture.expected(x, schedule.signal[t], schedule.noise[t])
        return Answer(x0, noise_in(schedule, x, t, x0))

    solver = SOLVERS[sampler](schedule, ask, lambda: None, len(times) - 1, **options)
    for t, s in zip(times, times[1:], strict=False):
        x, _ = solver.step(x, t, s)
    return x


def errors(road: str, sampler: str) -> tuple[list[float], float]:
    """How far from the right place each number of steps ends, root mean square, and the order: the slope of the line
    through the logarithms of all but the first. On the middle of the road: its two ends have troubles of their own."""
    schedule = make_schedule(road, T, **ROADS[road])
    start, end = 7 * T // 8, T // 8
    x = np.random.default_rng(0).standard_normal((64, 2)) * np.hypot(schedule.noise[start], schedule.signal[start])
    exact = way(schedule, x, start, end)
    found = [float(np.sqrt(np.square(walk(schedule, sampler, x, np.linspace(start, end, n + 1).astype(int)) - exact).mean())) for n in COUNTS]
    return found, float(-np.polyfit(np.log(COUNTS[1:]), np.log(found[1:]), 1)[0])


def table(roads: list[str], samplers: list[str]) -> list[dict[str, Any]]:
    """A row for every road and sampler, printed as it comes."""
    print(f"{'road':<8} {'sampler':<9}" + "".join(f"{n:>10}" for n in COUNTS) + "     order  theory")
    rows = []
    for road in roads:
        for sampler in samplers:
            found, order = errors(road, sampler)
            print(f"{road:<8} {sampler:<9}" + "".join(f"{error:>10.1e}" for error in found) + f"{order:>10.2f}{ORDERS[sampler]:>8}", flush=True)
            rows.append({"road": road, "sampler": sampler, "errors": found, "order": order, "theory": ORDERS[sampler]})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roads", nargs="+", choices=ROADS, default=list(ROADS), help="default: all")
    parser.add_argument("--samplers", nargs="+", choices=ORDERS, default=list(ORDERS), help="default: all that leave nothing to chance")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table here too")
    args = parser.parse_args()
    try:
        if args.json is not None and not args.json.parent.is_dir():
            raise BadInput(f"--json {args.json}: there is no such folder")
        rows = table(args.roads, args.samplers)
        if args.json is not None:
            records.write_json(args.json, {
                "command": records.command_line(), "commit": records.commit(), "time": records.now(), "versions": records.versions(),
                "T": T, "counts": list(COUNTS), "rows": rows,
            })  # fmt: skip
    except BadInput as error:
        print(f"orders: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
