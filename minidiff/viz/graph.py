"""The autograd graph as a picture: data flows from the top to the tensor at the bottom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadInput
from .layout import Point, arrange
from .style import COLOURS, DPI, INK, MUTED, SMALL, TITLE, house_look, new_figure, text_width
from .text import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYER, HEIGHT, GAP = 46.0, 24.0, 14.0  # points: from layer to layer, of a box, between boxes
FILL = {"op": "#e8eef6", "leaf": "#fdf0dc", "output": "#dff3ea"}
EDGE = {"op": COLOURS[0], "leaf": COLOURS[4], "output": COLOURS[2]}


@dataclass
class Graph:
    """Nodes 0 … n−1 with a kind (op, leaf, output) and a text; edges (from, to) along the data."""

    kinds: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


def source(node: Any) -> Any:
    """What a node stands for in the graph: a tensor that an op made is drawn as that op."""
    creator = getattr(node, "creator", None)
    return node if creator is None else creator


def inputs_of(node: Any) -> list[Any]:
    """The ops and leaf tensors that an op read. Its edge is None where no gradient goes; a leaf has none."""
    return [source(x) for x in getattr(node, "edges", ()) if x is not None]


def text_of(node: Any, name: str | None) -> str:
    """ "Conv2d (64, 32, 28, 28)" for an op and what it gives, "weight (32, 1, 3, 3)" for a leaf."""
    if is_op(node):
        return f"{node.name} {node.output_type[0]}"
    return f"{name or getattr(node, 'name', None) or type(node).__name__} {tuple(node.shape)}"


def is_op(node: Any) -> bool:
    return hasattr(node, "edges")


def trace(tensor: Any, names: Mapping[str, Any] | None = None) -> Graph:
    """Everything ``tensor`` was computed from, each op and leaf once; without recursion, at any depth."""
    name_of = {id(leaf): name for name, leaf in (names or {}).items()}
    graph, number, waiting = Graph(), {}, []

    def visit(node: Any) -> int:
        if id(node) not in number:
            number[id(node)] = len(graph.kinds)
            graph.kinds.append("op" if is_op(node) else "leaf")
            graph.texts.append(text_of(node, name_of.get(id(node))))
            waiting.append(node)
        return number[id(node)]

    visit(source(tensor))
    while waiting:
        node = waiting.pop()
        to = number[id(node)]
        graph.edges += [(visit(x), to) for x in inputs_of(node)]
    if source(tensor) is not tensor:
        graph.edges.append((0, len(graph.kinds)))
        graph.kinds.append("output")
        graph.texts.append(text_of(tensor, name_of.get(id(tensor), "output")))
    return graph


def graph_dot(tensor: Any, names: Mapping[str, Any] | None = None) -> str:
    """The autograd graph of ``tensor`` as Graphviz text, for ``dot -Tsvg``; any size.

    names: {name: tensor}, such as ``dict(model.named_parameters())``, to name the leaves.
    """
    traced = trace(tensor, names)
    lines = ["digraph autograd {", '  rankdir=TB; node [fontname="DejaVu Sans", fontsize=10, style=filled];']
    for i, (kind, text) in enumerate(zip(traced.kinds, traced.texts, strict=True)):
        style = "filled" if kind == "op" else "filled,rounded"
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(
            f'  n{i} [label="{quoted}", shape=box, style="{style}", fillcolor="{FILL[kind]}", '
            f'color="{EDGE[kind]}"];'
        )
    lines += [f"  n{a} -> n{b};" for a, b in traced.edges]
    return "\n".join([*lines, "}"]) + "\n"


@house_look
def graph(
    tensor: Any, names: Mapping[str, Any] | None = None, title: str | None = None, limit: int = 400
) -> Figure:
    """The autograd graph of ``tensor``: square boxes for ops, round ones for leaves and for the result.

    Data flows downwards, gradients the other way; beside each op stands the shape it gives. Inputs that need
    no gradient are not part of the graph. names: {name: tensor}, such as ``dict(model.named_parameters())``,
    to name the leaves. Raises BadInput for more than ``limit`` nodes.
    """
    traced = trace(tensor, names)
    n = len(traced.kinds)
    if n > limit:
        raise BadInput(
            f"viz.graph: {n:,} nodes are too many to draw, {limit:,} can be; "
            f"draw a smaller piece, or give graph_dot(tensor) to Graphviz"
        )
    texts = [plain(text) for text in traced.texts]
    widths = [text_width(text, SMALL) * 72 / DPI + 18 for text in texts]
    kinds = ["leaf" if kind == "leaf" else "op" for kind in traced.kinds]
    x, y, routes = arrange(kinds, widths, traced.edges, LAYER, GAP)

    half = np.array(widths) / 2
    bends = np.array([point for route in routes for point in route] or [(x[0], y[0])])
    left, right = min((x - half).min(), bends[:, 0].min()) - 12, max((x + half).max(), bends[:, 0].max()) + 12
    head, title = 30 if title else 0, plain(title or "")
    right = max(right, left + 24 + (text_width(title, TITLE, "bold") * 72 / DPI if title else 0))
    bottom, top = y.min() - HEIGHT / 2 - 12, y.max() + HEIGHT / 2 + 12 + head
    fig = new_figure((right - left) / 72, (top - bottom) / 72, layout=None)
    ax = fig.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    ax.set_axis_off()
    if title:
        ax.text(left + 12, top - 12, title, size=TITLE, weight="bold", va="top")
    for (a, b), route in zip(traced.edges, routes, strict=True):
        draw_edge(ax, (x[a], y[a] - HEIGHT / 2), route, (x[b], y[b] + HEIGHT / 2))
    for i, (kind, text) in enumerate(zip(traced.kinds, texts, strict=True)):
        draw_box(ax, x[i], y[i], widths[i], kind, text)
    return fig


def draw_box(ax: Axes, x: float, y: float, width: float, kind: str, text: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    shape = f"round,pad=0,rounding_size={1.5 if kind == 'op' else HEIGHT / 2}"
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - HEIGHT / 2),
            width,
            HEIGHT,
            boxstyle=shape,
            lw=1,
            fc=FILL[kind],
            ec=EDGE[kind],
            zorder=2,
        )
    )
    ax.text(x, y, text, size=SMALL, color=INK, ha="center", va="center_baseline", zorder=3)


def draw_edge(ax: Axes, start: Point, bends: list[Point], end: Point) -> None:
    """A line with an arrow head: straight down past the boxes of a layer, curved from layer to layer."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    corners, codes, leave = [start], [Path.MOVETO], start
    for x, y in [*bends, end]:
        (x0, y0), arrive = leave, (x, y if (x, y) == end else y + HEIGHT / 2)
        bend = (y0 - arrive[1]) * 0.45
        corners += [(x0, y0 - bend), (x, arrive[1] + bend), arrive]
        codes += [Path.CURVE4] * 3
        if (x, y) != end:
            leave = (x, y - HEIGHT / 2)
            corners.append(leave)
            codes.append(Path.LINETO)
    ax.add_patch(
        FancyArrowPatch(
            path=Path(corners, codes),
            arrowstyle="-|>,head_length=3.2,head_width=1.7",
            mutation_scale=1.6,
            lw=0.9,
            color=MUTED,
            zorder=1,
            joinstyle="miter",
        )
    )
