"""Where the boxes of a layered drawing go, after Sugiyama, Tagawa & Toda (1981).

Put every node into a layer, order each layer so that few edges cross, then move the nodes sideways until the
edges are nearly straight. An edge that crosses layers gets a place of its own, a bend, in each of them, so
that no box lies on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]

# How much an edge wants to be straight, and a place to stay where it is. What counts is the line of the ops;
# leaves stand around it, and long edges go where there is room but without wriggling.
STRAIGHT = {("op", "op"): 4.0, ("bend", "bend"): 8.0, ("bend", "op"): 0.1}
FIRM = {"op": 1.0, "bend": 1e-2, "leaf": 1e-4}


@dataclass
class Layers:
    """Places 0 … m−1, nodes first and then bends; in ``rows`` from left to right, the lowest layer first."""

    kinds: list[str]  # op, leaf, bend
    widths: np.ndarray  # (m,)
    rows: list[list[int]]
    above: list[list[int]]  # neighbours in the next higher layer
    below: list[list[int]]


def arrange(
    kinds: list[str], widths: list[float], edges: list[tuple[int, int]], height: float, gap: float
) -> tuple[np.ndarray, np.ndarray, list[list[Point]]]:
    """x (n,) and y (n,) of the middle of n boxes, and for each edge the points where it bends.

    kinds: op or leaf, (n,). widths: (n,). edges: (from, to), drawn downwards. height: from layer to layer.
    gap: least distance between boxes.
    """
    layer = layer_of_each(len(kinds), edges)
    layers, bends = with_bends(kinds, widths, edges, layer)
    order_rows(layers)
    x = straighten(layers, gap)
    routes = [
        [(x[bend], (layer[a] - 1 - j) * height) for j, bend in enumerate(chain)]
        for (a, _), chain in zip(edges, bends, strict=True)
    ]
    return x[: len(kinds)], np.array(layer) * height, routes


def layer_of_each(n: int, edges: list[tuple[int, int]]) -> list[int]:
    """The longest way from each node down to the end: a leaf then sits just above the op that reads it."""
    readers, sources = [0] * n, [[] for _ in range(n)]
    for a, b in edges:
        readers[a] += 1
        sources[b].append(a)
    layer, ready = [0] * n, [i for i in range(n) if readers[i] == 0]
    while ready:
        b = ready.pop()
        for a in sources[b]:
            layer[a] = max(layer[a], layer[b] + 1)
            readers[a] -= 1
            if readers[a] == 0:
                ready.append(a)
    return layer


def with_bends(
    kinds: list[str], widths: list[float], edges: list[tuple[int, int]], layer: list[int]
) -> tuple[Layers, list[list[int]]]:
    """The layers with a bend wherever an edge crosses one, and the bends of each edge from top to bottom."""
    kinds, widths, layer = list(kinds), list(widths), list(layer)
    bends = []
    for a, b in edges:
        crossed = range(layer[a] - 1, layer[b], -1)
        bends.append(list(range(len(kinds), len(kinds) + len(crossed))))
        kinds += ["bend"] * len(crossed)
        widths += [1.0] * len(crossed)
        layer += crossed
    rows = [[] for _ in range(max(layer) + 1)]
    above, below = [[] for _ in kinds], [[] for _ in kinds]
    for i in sorted(range(len(kinds)), key=lambda i: ("leaf", "op", "bend").index(kinds[i])):
        rows[layer[i]].append(i)
    for (a, b), chain in zip(edges, bends, strict=True):
        for upper, lower in zip([a, *chain], [*chain, b], strict=True):
            above[lower].append(upper)
            below[upper].append(lower)
    return Layers(kinds, np.array(widths), rows, above, below), bends


def order_rows(layers: Layers, sweeps: int = 16) -> None:
    """Sort each row by the mean place of its neighbours, up and down in turn; keep what crosses least."""
    rows = layers.rows
    place = np.zeros(len(layers.kinds))

    def number(row: list[int]) -> None:
        place[row] = np.arange(len(row)) - (len(row) - 1) / 2

    for row in rows:
        number(row)
    best, fewest = [list(row) for row in rows], crossings(layers, place)
    for sweep in range(sweeps):
        neighbours = layers.below if sweep % 2 == 0 else layers.above
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            row.sort(key=lambda i: np.mean(place[neighbours[i]]) if neighbours[i] else place[i])
            number(row)
        if (crossed := crossings(layers, place)) < fewest:
            best, fewest = [list(row) for row in rows], crossed
    layers.rows = best


def crossings(layers: Layers, place: np.ndarray) -> int:
    """How many pairs of edges between neighbouring rows cross: the inversions among their lower ends."""
    total = 0
    for row in layers.rows[1:]:
        ends = np.array([end for i in row for end in sorted(place[layers.below[i]])])
        total += int(np.triu(ends[:, None] > ends, 1).sum())
    return total


def straighten(layers: Layers, gap: float, sweeps: int = 80) -> np.ndarray:
    """x (m,): each row in turn as near to its neighbours as it gets without boxes touching.

    First every row looks only at the row before it, up and then down, which straightens long lines at once;
    later it looks at both sides, which settles it.
    """
    firm = np.array([FIRM[kind] for kind in layers.kinds])
    below, above = pulls(layers.kinds, layers.below), pulls(layers.kinds, layers.above)
    both = [b + a for b, a in zip(below, above, strict=True)]
    x = np.zeros(len(layers.kinds))
    for sweep in range(sweeps):
        up = sweep % 2 == 0
        pull = both if sweep >= sweeps // 4 else below if up else above
        for row in layers.rows if up else layers.rows[::-1]:
            wanted = [
                sum(w * x[j] for j, w in pull[i]) / sum(w for _, w in pull[i]) if pull[i] else x[i]
                for i in row
            ]
            x[row] = spread(np.array(wanted), layers.widths[row], firm[row], gap)
    return x


def pulls(kinds: list[str], neighbours: list[list[int]]) -> list[list[tuple[int, float]]]:
    """For each place its neighbours, each with how much the edge between them wants to be straight."""
    return [
        [(j, STRAIGHT.get(tuple(sorted((kinds[i], kinds[j]))), 0.01)) for j in others]
        for i, others in enumerate(neighbours)
    ]


def spread(wanted: np.ndarray, widths: np.ndarray, firm: np.ndarray, gap: float) -> np.ndarray:
    """Places x in the given order and ``gap`` apart that minimise Σ firm (x − wanted)².

    With S_i the distance that box i needs from box 0, z = x − S only has to be non-decreasing: isotonic
    regression, solved by pooling neighbours that stand in the wrong order at their mean.
    """
    S = np.concatenate([[0.0], np.cumsum((widths[:-1] + widths[1:]) / 2 + gap)])
    pools: list[tuple[float, float, int]] = []  # mean, weight, count
    for z, w in zip(wanted - S, firm, strict=True):
        pools.append((z, w, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (z1, w1, n1), (z2, w2, n2) = pools[-2:]
            pools[-2:] = [((z1 * w1 + z2 * w2) / (w1 + w2), w1 + w2, n1 + n2)]
    return np.concatenate([np.full(n, z) for z, _, n in pools]) + S
