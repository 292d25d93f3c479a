"""Heat maps of architecture probabilities over time: which operation wins on which edge, and when that was decided.

Colour is the operation and its strength the probability, so that the maps read alike on light and dark ground.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxnas.report.figures import short
from jaxnas.report.palette import GRID, INK, MUTED, channels, color
from jaxnas.report.record import source_name
from jaxnas.report.svg import canvas, inline, panel, style

Edge = tuple[int, int]  # (source, node)
ROW = 24.0  # the height of an edge in the decision map, in pixels
PANEL_WIDTH, PANEL_ROW, PANEL_GAP = 168.0, 11.0, 30.0  # one edge's map of operations over epochs


def edge_name(edge: Edge) -> str:
    """An edge as source → node."""
    return f"{source_name(edge[0])} → {edge[1]}"


def decisions(
    probabilities: np.ndarray,
    operations: Sequence[str],
    edges: Sequence[Edge],
    derived: Mapping[Edge, str],
    name: str,
    description: str,
) -> str:
    """The <svg> of the strongest operation of every edge over epochs; probabilities [epochs, edges, ops].

    derived: {edge: operation} of the cell that was derived, written beside its edges.
    """
    epochs, count, _ = probabilities.shape
    strongest = probabilities.argmax(axis=-1)
    image = _palette(operations)[strongest]
    image[..., 3] = _strength(probabilities.max(axis=-1), probabilities)
    nodes = [node for _, node in edges]
    gaps = np.cumsum([0, *(6.0 * (node != before) for before, node in pairwise(nodes))])
    tops = gaps + ROW * np.arange(count)
    width, height = 480.0, float(tops[-1] + ROW) + 52
    with style():
        figure = canvas(width, height)
        axes = panel(figure, 72, 8, 306, height - 52)
        axes.set(xlim=(0.5, epochs + 0.5), ylim=(height - 52, 0))
        axes.grid(visible=False)
        for row, (edge, top) in enumerate(zip(edges, tops, strict=True)):
            extent = (0.5, epochs + 0.5, top + ROW - 1, top + 1)
            axes.imshow(image[:, row][None], interpolation="none", aspect="auto", extent=extent)
            beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(derived.get(edge, ""), (epochs + 0.5, top + ROW / 2), **beside, fontsize=10, color=INK)
        axes.set_yticks(tops + ROW / 2, [edge_name(edge) for edge in edges])
        for label, edge in zip(axes.get_yticklabels(), edges, strict=True):
            label.set_color(INK if edge in derived else MUTED)
        axes.set(xlim=(0.5, epochs + 0.5), ylim=(height - 52, 0))
        _epoch_axis(axes)
        return inline(figure, name, description)


def edge_panels(
    probabilities: np.ndarray,
    operations: Sequence[str],
    edges: Sequence[Edge],
    derived: Mapping[Edge, str],
    name: str,
    description: str,
) -> str:
    """The <svg> of every edge's operations over epochs: a row of panels for each node, a column for each source.

    probabilities [epochs, edges, ops]; derived {edge: operation} is marked by a frame and an outlined row.
    """
    ops = len(operations)
    left, top = 66.0, 22.0
    pitch = PANEL_WIDTH + 14, PANEL_ROW * ops + PANEL_GAP
    sources, nodes = 1 + max(source for source, _ in edges), 1 + max(node for _, node in edges)
    width, height = left + pitch[0] * sources, top + pitch[1] * nodes + 12
    image = np.broadcast_to(_palette(operations), (*probabilities.shape, 4)).copy()
    image[..., 3] = _strength(probabilities, probabilities)
    last = {source: max(node for other, node in edges if other == source) for source, _ in edges}
    with style():
        figure = canvas(width, height)
        for row, (source, node) in enumerate(edges):
            image_of_edge = image[:, row].transpose(1, 0, 2)
            axes = _panel(figure, left + source * pitch[0], top + node * pitch[1], image_of_edge)
            axes.set_title(edge_name((source, node)), fontsize=10, color=MUTED, pad=4)
            axes.tick_params(labelbottom=node == last[source], labelleft=source == 0, labelsize=9)
            axes.set_yticks(range(ops), [short(each) for each in operations] if source == 0 else [""] * ops)
            _epoch_axis(axes, "epoch" if (source, node) == (0, last[0]) else "")
            if (source, node) in derived:
                axes.set_title(edge_name((source, node)), fontsize=10, color=INK, fontweight="bold", pad=4)
                _mark(axes, operations, derived[source, node], probabilities.shape[0])
        return inline(figure, name, description)


def _strength(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The opacity of probabilities: 0 for 0, 1 for the largest of them all."""
    return values / probabilities.max()


def _palette(operations: Sequence[str]) -> np.ndarray:
    """[ops, 4], red, green, blue and full opacity."""
    return np.asarray([(*channels(color(each)), 1.0) for each in operations])


def _panel(figure: Figure, left: float, top: float, image: np.ndarray) -> Axes:
    """Adds a panel that shows image [ops, epochs, 4]."""
    ops, epochs = image.shape[:2]
    axes = panel(figure, left, top, PANEL_WIDTH, PANEL_ROW * ops)
    axes.imshow(image, interpolation="none", aspect="auto", extent=(0.5, epochs + 0.5, ops - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    return axes


def _mark(axes: Axes, operations: Sequence[str], operation: str, epochs: int) -> None:
    axes.spines[:].set(color=INK, linewidth=1.3)
    row = list(operations).index(operation)
    axes.add_patch(Rectangle((0.5, row - 0.5), epochs, 1, fill=False, edgecolor=INK, linewidth=1.3))


def _epoch_axis(axes: Axes, label: str = "epoch") -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel(label, fontsize=10)
    axes.tick_params(axis="x", color=GRID)
