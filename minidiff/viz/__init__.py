"""Pictures: sample grids, strips of the two diffusion processes, curves, animations, autograd graphs.

Images are float arrays in [-1, 1] of shape (N,C,H,W), C = 1 or 3. Every drawing function returns a
:class:`matplotlib.figure.Figure` that belongs to nobody else, works without a display and leaves pyplot
alone; :func:`save` and :func:`animation` write files.
"""

from .card import report_card
from .curves import compare_curves, loss_curve, schedule_plot, step_size_plot
from .files import animation, save
from .graph import graph, graph_dot
from .images import class_grid, grid, sample_sheet, to_uint8
from .strips import film_strip, forward_strip, named_rows

__all__ = [
    "animation",
    "class_grid",
    "compare_curves",
    "film_strip",
    "forward_strip",
    "graph",
    "graph_dot",
    "grid",
    "loss_curve",
    "named_rows",
    "report_card",
    "sample_sheet",
    "save",
    "schedule_plot",
    "step_size_plot",
    "to_uint8",
]
