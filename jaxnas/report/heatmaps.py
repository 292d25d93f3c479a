"""Heat maps of architecture probabilities over time: which option wins at which choice, and when that was decided.

Colour is the option and its strength the probability, so that the maps read alike on light and dark ground.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxnas.report.figures import short
from jaxnas.report.palette import GRID, INK, MUTED, channels
from jaxnas.report.record import Part
from jaxnas.report.svg import canvas, inline, panel, style

ROW = 24.0  # the height of a choice in the decision map, in pixels
PANEL_WIDTH, PANEL_ROW, PANEL_GAP = 168.0, 11.0, 30.0  # one choice's map of options over epochs
ACROSS = 5  # panels in a row where the choices are no edges of a graph: what fits into the page
LETTER = 6.2  # the width of a letter in labels, in pixels, with a reserve


def decisions(
    probabilities: np.ndarray,
    part: Part,
    inks: Mapping[str, str],
    derived: Sequence[str | None],
    name: str,
    description: str,
) -> str:
    """The <svg> of the strongest option of every choice over epochs; probabilities [epochs, choices, options].

    inks: {option: colour}. derived: the option of every choice, None for edges that were not kept, written beside the
    choices; empty where it is not known.
    """
    epochs, count, _ = probabilities.shape
    kept = derived or [None] * count
    image = _palette(part.options, inks)[probabilities.argmax(axis=-1)]
    image[..., 3] = _strength(probabilities.max(axis=-1), probabilities)
    gaps = np.cumsum([0, *(6.0 * (group != before) for before, group in pairwise(part.groups))])
    tops = gaps + ROW * np.arange(count)
    left, right = (
        max(least, 12 + LETTER * max(map(len, texts)))
        for least, texts in ((72.0, part.rows), (102.0, [each or "" for each in kept]))
    )
    width, height = 480.0, float(tops[-1] + ROW) + 52
    with style():
        figure = canvas(width, height)
        axes = panel(figure, left, 8, width - left - right, height - 52)
        axes.set(xlim=(0.5, epochs + 0.5), ylim=(height - 52, 0))
        axes.grid(visible=False)
        for row, (option, top) in enumerate(zip(kept, tops, strict=True)):
            extent = (0.5, epochs + 0.5, top + ROW - 1, top + 1)
            axes.imshow(image[:, row][None], interpolation="none", aspect="auto", extent=extent)
            beside = {"xytext": (7, 0), "textcoords": "offset points", "va": "center_baseline"}
            axes.annotate(option or "", (epochs + 0.5, top + ROW / 2), **beside, fontsize=10, color=INK)
        axes.set_yticks(tops + ROW / 2, part.rows)
        for label, option in zip(axes.get_yticklabels(), kept, strict=True):
            label.set_color(INK if option else MUTED)
        axes.set(xlim=(0.5, epochs + 0.5), ylim=(height - 52, 0))
        _epoch_axis(axes)
        return inline(figure, name, description)


def choice_panels(
    probabilities: np.ndarray,
    part: Part,
    inks: Mapping[str, str],
    derived: Sequence[str | None],
    name: str,
    description: str,
) -> str:
    """The <svg> of every choice's options over epochs, probabilities [epochs, choices, options].

    Edges of a graph: a row of panels for each node, a column for each source; other choices follow each other in rows
    of `ACROSS`. inks and derived: as for `decisions`; what was derived is marked by a frame and an outlined row.
    """
    ops, places = len(part.options), _places(part)
    left, top = max(66.0, 8 + LETTER * max(len(short(each)) for each in part.options)), 22.0
    pitch = PANEL_WIDTH + 14, PANEL_ROW * ops + PANEL_GAP
    columns, rows = (1 + max(place[axis] for place in places) for axis in (0, 1))
    width, height = left + pitch[0] * columns, top + pitch[1] * rows + 12
    image = np.broadcast_to(_palette(part.options, inks), (*probabilities.shape, 4)).copy()
    image[..., 3] = _strength(probabilities, probabilities)
    last = {column: max(row for other, row in places if other == column) for column, _ in places}
    with style():
        figure = canvas(width, height)
        for number, (column, row) in enumerate(places):
            image_of_choice = image[:, number].transpose(1, 0, 2)
            axes = _panel(figure, left + column * pitch[0], top + row * pitch[1], image_of_choice)
            axes.set_title(part.rows[number], fontsize=10, color=MUTED, pad=4)
            axes.tick_params(labelbottom=row == last[column], labelleft=column == 0, labelsize=9)
            axes.set_yticks(range(ops), [short(each) for each in part.options] if column == 0 else [""] * ops)
            _epoch_axis(axes, "epoch" if (column, row) == (0, last[0]) else "")
            option = derived[number] if derived else None
            if option:
                axes.set_title(part.rows[number], fontsize=10, color=INK, fontweight="bold", pad=4)
                _mark(axes, part.options, option, probabilities.shape[0])
        return inline(figure, name, description)


def _places(part: Part) -> list[tuple[int, int]]:
    """The column and the row of every choice's panel."""
    if not part.edges:
        return [(number % ACROSS, number // ACROSS) for number in range(len(part.rows))]
    first = min(node for _, node in part.edges)
    return [(source, node - first) for source, node in part.edges]


def _strength(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The opacity of probabilities: 0 for 0, 1 for the largest of them all."""
    return values / probabilities.max()


def _palette(options: Sequence[str], inks: Mapping[str, str]) -> np.ndarray:
    """[options, 4], red, green, blue and full opacity."""
    return np.asarray([(*channels(inks[each]), 1.0) for each in options])


def _panel(figure: Figure, left: float, top: float, image: np.ndarray) -> Axes:
    """Adds a panel that shows image [ops, epochs, 4]."""
    ops, epochs = image.shape[:2]
    axes = panel(figure, left, top, PANEL_WIDTH, PANEL_ROW * ops)
    axes.imshow(image, interpolation="none", aspect="auto", extent=(0.5, epochs + 0.5, ops - 0.5, -0.5))
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    return axes


def _mark(axes: Axes, options: Sequence[str], option: str, epochs: int) -> None:
    axes.spines[:].set(color=INK, linewidth=1.3)
    row = list(options).index(option)
    axes.add_patch(Rectangle((0.5, row - 0.5), epochs, 1, fill=False, edgecolor=INK, linewidth=1.3))


def _epoch_axis(axes: Axes, label: str = "epoch") -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel(label, fontsize=10)
    axes.tick_params(axis="x", color=GRID)
