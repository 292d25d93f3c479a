"""A derived cell drawn as a graph, as SVG for the report."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from jaxnas.report import cell_layout as place
from jaxnas.report.cell_layout import Layout, Point
from jaxnas.report.palette import INK, MUTED, PANEL, colors, text_on
from jaxnas.report.record import Part, source_name
from jaxnas.report.svg import canvas, inline, panel, style


def draw_cell(
    edges: Sequence[tuple[str, int]],
    concat: Sequence[int],
    name: str,
    description: str,
    inks: Mapping[str, str] | None = None,
) -> str:
    """The <svg> of a cell: inputs left, every edge a label before the node that adds it, the output c_{k} right.

    edges: (operation, source), two for each node in turn, as in a genotype. name: unique in the page.
    inks: {operation: colour}, None for the operations' own.
    """
    layout = place.cell_layout(edges, concat)
    states = {state: source_name(state) for state in layout.states}
    return _draw(layout, states, "c_{k}", 2, inks or colors(operation for operation, _ in edges), name, description)


def draw_graph(part: Part, options: Sequence[str | None], inks: Mapping[str, str], name: str, description: str) -> str:
    """The <svg> of a part whose choices are the edges of a graph with one input, state 0; its last state is the output.

    options: the one of every choice, by name. inks: {option: colour}. name: unique in the page.
    """
    edges = [(option or "", source) for option, (source, _) in zip(options, part.edges, strict=True)]
    nodes = [node for _, node in part.edges]
    layout = place.cell_layout(edges, [max(nodes)], nodes, inputs=1)
    return _draw(layout, dict(enumerate(part.states)), "out", 1, inks, name, description)


def _draw(
    layout: Layout,
    names: Mapping[int, str],
    output: str,
    inputs: int,
    inks: Mapping[str, str],
    name: str,
    description: str,
) -> str:
    with style():
        figure = canvas(layout.width, layout.height)
        axes = panel(figure, 0, 0, layout.width, layout.height)
        axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
        axes.set_axis_off()
        drawn: set[tuple[Point, Point]] = set()
        _lines(axes, [pill.lane for pill in layout.pills], 1.0, drawn)
        _lines(axes, layout.outputs.values(), 0.4, drawn)
        _pills(axes, layout, inks)
        _states(axes, layout, names, inputs)
        _terminal(axes, layout.output, output)
        return inline(figure, name, description)


def _lines(axes: Axes, lanes: Iterable[Sequence[Point]], alpha: float, drawn: set[tuple[Point, Point]]) -> None:
    """Lines through their lanes: straight inside a column, a smooth bend with level ends between two columns.

    Stretches that are already in `drawn` are left out, since lines from one source share their lanes.
    """
    for points in lanes:
        for number, stretch in enumerate(pairwise(points)):
            if stretch in drawn:
                continue
            drawn.add(stretch)
            start, end = stretch
            middle = (start.x + end.x) / 2
            bend = Path([start, (middle, start.y), (middle, end.y), end], [Path.MOVETO] + [Path.CURVE4] * 3)
            path = Path([start, end]) if number % 2 else bend
            axes.add_patch(PathPatch(path, fill=False, edgecolor=MUTED, linewidth=1.3, alpha=alpha))


def _pills(axes: Axes, layout: Layout, inks: Mapping[str, str]) -> None:
    width, height = layout.pill_width, place.PILL_HEIGHT
    for pill in layout.pills:
        node = layout.states[pill.node]
        stem = Point(pill.center.x + width / 2, pill.center.y), Point(node.x - place.NODE_RADIUS, node.y)
        _lines(axes, [stem], 1.0, set())
        fill = inks[pill.operation]
        _box(axes, pill.center, width, height, fill, fill)
        axes.text(*pill.center, pill.operation, color=text_on(fill), fontsize=11, ha="center", va="center_baseline")


def _states(axes: Axes, layout: Layout, names: Mapping[int, str], inputs: int) -> None:
    for state, center in layout.states.items():
        if state < inputs:
            _terminal(axes, center, names[state])
        else:
            axes.add_patch(Circle(center, place.NODE_RADIUS, facecolor=PANEL, edgecolor=INK, linewidth=1.3))
            axes.text(*center, names[state], color=INK, fontsize=11, ha="center", va="center_baseline")


def _terminal(axes: Axes, center: Point, name: str) -> None:
    _box(axes, center, place.TERMINAL_WIDTH, place.TERMINAL_HEIGHT, PANEL, MUTED)
    axes.text(*center, name, color=INK, fontsize=11, ha="center", va="center_baseline")


def _box(axes: Axes, center: Point, width: float, height: float, fill: str, edge: str) -> None:
    corner = center.x - width / 2, center.y - height / 2
    rounding = f"round,pad=0,rounding_size={height / 4}"
    axes.add_patch(FancyBboxPatch(corner, width, height, rounding, facecolor=fill, edgecolor=edge, linewidth=1.2))
