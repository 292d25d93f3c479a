"""Where everything of a cell's drawing goes: layers from left to right, few crossings, nothing on top of anything.

A layered drawing in the manner of Sugiyama, Tagawa & Toda (1981). A node and the operations that it adds up form one
block; blocks stand in columns by their longest way from the inputs. A line that passes a column gets a narrow lane of
its own there, so lines bend only between columns and never run through a block. Lines of one source share its lanes.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

PILL_HEIGHT, PILL_GAP = 22.0, 6.0  # sizes in CSS pixels
NODE_RADIUS, TERMINAL_WIDTH, TERMINAL_HEIGHT = 11.0, 38.0, 26.0
CHANNEL, STEM, MARGIN = 44.0, 16.0, 6.0  # between columns, from the pills to their node, around the drawing
LANE_HEIGHT, SEPARATION = 4.0, 18.0


class Point(NamedTuple):
    """A place in the drawing, in CSS pixels from its upper left corner."""

    x: float
    y: float


class Pill(NamedTuple):
    """The label of one edge, `center` between its ends; `lane` lists the points through which its line comes.

    The line leaves lane[0] to the right, runs straight between lane[1] and lane[2], lane[3] and lane[4] and so on, and
    ends at lane[-1], the left end of the pill.
    """

    operation: str
    source: int
    node: int
    center: Point
    lane: tuple[Point, ...]


class Layout(NamedTuple):
    """A cell's drawing. States are numbered inputs first; in a genotype 0 and 1 are the inputs, state i + 2 is node i.

    states: {state: center}. pills: one for every edge, in their order.
    outputs: {state: lane} of the lines into the output, one for every concatenated state.
    """

    width: float
    height: float
    pill_width: float
    states: Mapping[int, Point]
    output: Point
    pills: tuple[Pill, ...]
    outputs: Mapping[int, tuple[Point, ...]]


class _Block(NamedTuple):
    """What stands in a column: state `state` (where it is born), or a lane of the lines that come from it."""

    column: int
    state: int


_Link = tuple[_Block, _Block, float]  # from, to (in the next column), weight


class _Frame(NamedTuple):
    """Where the columns are, {state: column}, their left and right ends, and the middle of every block in them."""

    column: Mapping[int, int]
    left: Sequence[float]
    right: Sequence[float]
    middle: Mapping[_Block, float]

    def height_of(self, state: int) -> float:
        """The middle of a state where it is born."""
        return self.middle[_Block(self.column[state], state)]

    def lane(self, state: int, until: int) -> tuple[Point, ...]:
        """The way of a line out of a state, as far as the column before `until`."""
        points = [Point(self.right[self.column[state]], self.height_of(state))]
        for at in range(self.column[state] + 1, until):
            y = self.middle[_Block(at, state)]
            points += [Point(self.left[at], y), Point(self.right[at], y)]
        return tuple(points)


def cell_layout(
    edges: Sequence[tuple[str, int]], concat: Sequence[int], nodes: Sequence[int] | None = None, inputs: int = 2
) -> Layout:
    """Lays out a cell: edges (operation, source state), the states that its output is made of, and its `inputs`.

    nodes: the state that each edge leads to; None for those of a genotype, two edges for each node in turn.
    """
    incoming: dict[int, list[int]] = {}
    for number in range(len(edges)):
        incoming.setdefault(2 + number // 2 if nodes is None else nodes[number], []).append(number)
    column = dict.fromkeys(range(inputs), 0)
    for state, numbers in sorted(incoming.items()):
        column[state] = 1 + max(column[edges[number][1]] for number in numbers)
    last = 1 + max(column.values())
    output = max(column) + 1
    column[output] = last
    uses = [(edges[number][1], state, 1.0) for state, numbers in incoming.items() for number in numbers]
    uses += [(state, output, 0.4) for state in concat]
    links = _links(uses, column)
    heights = {block: LANE_HEIGHT for link in links for block in link[:2]}
    heights |= {_Block(at, state): _height(len(incoming.get(state, ()))) for state, at in column.items()}
    middle = _aligned(_ordered(heights, links), heights, links)
    top = min(middle[block] - height / 2 for block, height in heights.items()) - MARGIN
    bottom = max(middle[block] + height / 2 for block, height in heights.items()) + MARGIN

    pill_width = max(92.0, *(6.7 * len(operation) + 16 for operation, _ in edges))
    inner = pill_width + STEM + 2 * NODE_RADIUS
    left = [MARGIN] + [MARGIN + TERMINAL_WIDTH + CHANNEL + at * (inner + CHANNEL) for at in range(last)]
    right = [MARGIN + TERMINAL_WIDTH] + [x + inner for x in left[1:last]] + [left[last] + TERMINAL_WIDTH]
    frame = _Frame(column, left, right, {block: y - top for block, y in middle.items()})
    pills = _pills(edges, incoming, frame, pill_width)
    states = {state: Point(right[column[state]] - NODE_RADIUS, frame.height_of(state)) for state in incoming}
    states |= {state: Point(left[0] + TERMINAL_WIDTH / 2, frame.height_of(state)) for state in range(inputs)}
    end = Point(left[last] + TERMINAL_WIDTH / 2, frame.height_of(output))
    outputs = {state: (*frame.lane(state, last), Point(left[last], end.y)) for state in concat}
    return Layout(right[last] + MARGIN, bottom - top, pill_width, states, end, pills, outputs)


def _pills(
    edges: Sequence[tuple[str, int]], incoming: Mapping[int, Sequence[int]], frame: _Frame, width: float
) -> tuple[Pill, ...]:
    """Stacks the labels in front of their nodes, from top to bottom as their lines arrive."""
    pills: dict[int, Pill] = {}
    for state, numbers in incoming.items():
        at = frame.column[state]
        lanes = {number: frame.lane(edges[number][1], at) for number in numbers}
        for row, number in enumerate(sorted(numbers, key=lambda number: lanes[number][-1].y)):
            y = frame.height_of(state) + (row - (len(numbers) - 1) / 2) * (PILL_HEIGHT + PILL_GAP)
            name, source = edges[number]
            place, end = Point(frame.left[at] + width / 2, y), Point(frame.left[at], y)
            pills[number] = Pill(name, source, state, place, (*lanes[number], end))
    return tuple(pills[number] for number in range(len(edges)))


def _height(pills: int) -> float:
    return pills * PILL_HEIGHT + (pills - 1) * PILL_GAP if pills else TERMINAL_HEIGHT


def _links(uses: Sequence[tuple[int, int, float]], column: Mapping[int, int]) -> list[_Link]:
    """The lines between neighbouring columns, each once with the weight of what it stands for."""
    weights: dict[tuple[_Block, _Block], float] = {}
    for source, target, weight in uses:
        for at in range(column[source], column[target]):
            arrives = at + 1 == column[target]
            pair = _Block(at, source), _Block(at + 1, target if arrives else source)
            weights[pair] = max(weights.get(pair, 0.0), weight) if not arrives else weights.get(pair, 0.0) + weight
    return [(first, second, weight) for (first, second), weight in weights.items()]


def _ordered(heights: Mapping[_Block, float], links: Sequence[_Link]) -> list[list[_Block]]:
    """Orders every column: from the order of the states, exchanges pairs as long as crossings and lengths go down."""
    columns: list[list[_Block]] = [[] for _ in range(1 + max(block.column for block in heights))]
    for block in sorted(heights, key=lambda block: block.state):
        columns[block.column].append(block)
    best, improved = _cost(columns, heights, links), True
    while improved:
        improved = False
        for blocks in columns[1:]:  # the inputs keep their order, c_{k-2} above c_{k-1}, from cell to cell
            for first in range(len(blocks)):
                for second in range(first + 1, len(blocks)):
                    blocks[first], blocks[second] = blocks[second], blocks[first]
                    cost = _cost(columns, heights, links)
                    if cost < best - 1e-9:
                        best, improved = cost, True
                    else:
                        blocks[first], blocks[second] = blocks[second], blocks[first]
    return columns


def _cost(columns: Sequence[Sequence[_Block]], heights: Mapping[_Block, float], links: Sequence[_Link]) -> float:
    place = _stacked(columns, heights)
    total = sum(weight * abs(place[first] - place[second]) for first, second, weight in links) / 40
    for number, (first, second, weight) in enumerate(links):
        for other_first, other_second, other_weight in links[:number]:
            if other_first.column == first.column:
                crossing = (place[first] - place[other_first]) * (place[second] - place[other_second]) < 0
                total += 2 * crossing * min(1.0, weight) * min(1.0, other_weight)
    return total


def _stacked(columns: Sequence[Sequence[_Block]], heights: Mapping[_Block, float]) -> dict[_Block, float]:
    """The middle of every block when each column is stacked densely around 0."""
    place: dict[_Block, float] = {}
    for blocks in columns:
        y = -(sum(heights[block] for block in blocks) + SEPARATION * (len(blocks) - 1)) / 2
        for block in blocks:
            place[block] = y + heights[block] / 2
            y += heights[block] + SEPARATION
    return place


def _aligned(
    columns: Sequence[Sequence[_Block]], heights: Mapping[_Block, float], links: Sequence[_Link]
) -> dict[_Block, float]:
    """Moves blocks towards their neighbours' mean, column by column, keeping order and distances."""
    place = _stacked(columns, heights)
    neighbours: dict[_Block, list[tuple[_Block, float]]] = {block: [] for block in heights}
    for first, second, weight in links:
        neighbours[first].append((second, weight))
        neighbours[second].append((first, weight))
    for _ in range(24):
        for blocks in columns:
            wanted = [
                sum(place[near] * weight for near, weight in neighbours[block])
                / (sum(weight for _, weight in neighbours[block]) or 1.0)
                for block in blocks
            ]
            offsets = [0.0]
            for above, below in pairwise(blocks):
                offsets.append(offsets[-1] + (heights[above] + heights[below]) / 2 + SEPARATION)
            moved = isotonic([want - offset for want, offset in zip(wanted, offsets, strict=True)])
            place |= {block: y + offset for block, y, offset in zip(blocks, moved, offsets, strict=True)}
    return place


def isotonic(values: Sequence[float]) -> list[float]:
    """The nearest non-decreasing sequence (least squares), by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []  # mean, length
    for value in values:
        mean, length = value, 1
        while pools and pools[-1][0] > mean:
            above, count = pools.pop()
            mean, length = (above * count + mean * length) / (count + length), count + length
        pools.append((mean, length))
    return [mean for mean, length in pools for _ in range(length)]
