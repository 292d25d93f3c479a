"""Names beside the points of a plot, where there is room for all of them."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from jaxnas.report.palette import INK

SIZE = 11.0  # of the text, in pixels
WIDTH, HEIGHT = 7.2, 14.0  # of a letter and a line, with a reserve for fonts and screens where they are larger
NEAR = 8.0  # from the middle of a point to its name


class _Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float


def _overlap(one: _Box, other: _Box) -> bool:
    return one.left < other.right and other.left < one.right and one.bottom < other.top and other.bottom < one.top


def _within(one: _Box, area: _Box) -> bool:
    return one.left >= area.left and one.right <= area.right and one.bottom >= area.bottom and one.top <= area.top


def _options(x: float, y: float, length: float) -> list[tuple[float, str, _Box]]:
    """Where a name of this length can stand beside a point, best first: its anchor, alignment and box."""
    half = HEIGHT / 2
    return [
        (x + NEAR, "left", _Box(x + NEAR, y - half, x + NEAR + length, y + half)),
        (x - NEAR, "right", _Box(x - NEAR - length, y - half, x - NEAR, y + half)),
        (x, "center", _Box(x - length / 2, y + NEAR, x + length / 2, y + NEAR + HEIGHT)),
        (x, "center", _Box(x - length / 2, y - NEAR - HEIGHT, x + length / 2, y - NEAR)),
    ]


def label_points(axes: Axes, points: Sequence[tuple[float, float]], names: Sequence[str]) -> bool:
    """Writes each name beside its point (x, y): right, left, above or below, clear of all other points and names.

    The axes' limits and place have to be final. Returns False, and writes nothing, where one name finds no room.
    """
    pixel = 72 / axes.figure.dpi
    middles = [axes.transData.transform(point) * pixel for point in points]
    area = _Box(*(pixel * end for end in axes.bbox.extents))
    taken = [_Box(x - 5, y - 5, x + 5, y + 5) for x, y in middles]
    places: list[tuple[float, float, str]] = []
    for (x, y), name in zip(middles, names, strict=True):
        for anchor, side, box in _options(x, y, WIDTH * len(name)):
            if _within(box, area) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                places.append((anchor / pixel, (box.bottom + box.top) / 2 / pixel, side))
                break
        else:
            return False
    for (x, y, side), name in zip(places, names, strict=True):
        at = axes.transData.inverted().transform((x, y))
        axes.text(at[0], at[1], name, ha=side, va="center_baseline", fontsize=SIZE, color=INK)
    return True
