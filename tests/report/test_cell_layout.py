"""Drawings of cells: every edge once, everything in its place, nothing on top of anything."""

import itertools
import math

import numpy as np
import pytest

from jaxnas.report import cell_layout as place
from jaxnas.report.cell_layout import cell_layout, isotonic
from jaxnas.report.cells import draw_cell
from jaxnas.report.palette import MUTED
from jaxnas.spaces.zoo import ZOO

CHAIN = tuple((name, source) for source in (0, 2, 3, 4) for name in ("sep_conv_3x3", "skip_connect"))
CELLS = {
    f"{name}-{part}": (getattr(zoo, part), getattr(zoo, f"{part}_concat"))
    for name, zoo in ZOO.items()
    for part in ("normal", "reduce")
}
CELLS |= {"chain": (CHAIN, (2, 3, 4, 5)), "one node": ((("none", 0), ("none", 0)), (2,))}
every_cell = pytest.mark.parametrize(("edges", "concat"), CELLS.values(), ids=CELLS.keys())


def boxes(layout):
    """[left, top, right, bottom] of everything that has a body."""
    half = layout.pill_width / 2, place.PILL_HEIGHT / 2
    for pill in layout.pills:
        yield pill.center.x - half[0], pill.center.y - half[1], pill.center.x + half[0], pill.center.y + half[1]
    terminals = [layout.states[0], layout.states[1], layout.output]
    nodes = [center for state, center in layout.states.items() if state > 1]
    wide, high, radius = place.TERMINAL_WIDTH / 2, place.TERMINAL_HEIGHT / 2, place.NODE_RADIUS
    yield from ((x - wide, y - high, x + wide, y + high) for x, y in terminals)
    yield from ((x - radius, y - radius, x + radius, y + radius) for x, y in nodes)


@every_cell
def test_every_edge_is_drawn_once_between_its_ends(edges, concat):
    layout = cell_layout(edges, concat)
    assert [(pill.operation, pill.source) for pill in layout.pills] == list(edges)
    assert [pill.node for pill in layout.pills] == [2 + number // 2 for number in range(len(edges))]
    assert set(layout.outputs) == set(concat)
    assert len({pill.center for pill in layout.pills}) == len(edges)
    for pill in layout.pills:
        assert pill.lane[0].y == layout.states[pill.source].y
        assert pill.lane[-1] == pytest.approx((pill.center.x - layout.pill_width / 2, pill.center.y))


@every_cell
def test_everything_lies_inside_and_nothing_overlaps(edges, concat):
    layout = cell_layout(edges, concat)
    bodies = list(boxes(layout))
    assert np.isfinite(bodies).all()
    for left, top, right, bottom in bodies:
        assert 0 < left < right < layout.width
        assert 0 < top < bottom < layout.height
    for first, second in itertools.combinations(bodies, 2):
        apart = first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        assert apart, (first, second)


@every_cell
def test_lines_go_to_the_right_and_through_nothing(edges, concat):
    layout = cell_layout(edges, concat)
    bodies = list(boxes(layout))
    for lane in [pill.lane for pill in layout.pills] + list(layout.outputs.values()):
        assert all(first.x < second.x for first, second in itertools.pairwise(lane))
        for start, end in zip(lane[1:-1:2], lane[2:-1:2], strict=True):
            assert start.y == end.y
            for left, top, right, bottom in bodies:
                assert not (start.x < right and left < end.x and top < start.y < bottom)


def test_a_layout_depends_on_the_cell_alone():
    edges, concat = CELLS["DARTS_V2-normal"]
    assert cell_layout(edges, concat) == cell_layout(edges, concat)


@pytest.mark.parametrize("values", [(), (3.0,), (1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (1.0, 5.0, 2.0, 2.5, 9.0, -4.0)])
def test_isotonic_is_the_nearest_non_decreasing_sequence(values):
    found = isotonic(values)
    # The closed form: the largest, over where a window starts, of the smallest, over where it ends, of the means.
    closed = [
        max(min(np.mean(values[a : b + 1]) for b in range(at, len(values))) for a in range(at + 1))
        for at in range(len(values))
    ]
    np.testing.assert_allclose(found, closed, atol=1e-12)


@every_cell
def test_a_drawing_names_every_operation_and_state(edges, concat):
    svg = draw_cell(edges, concat, "cell", "A cell")
    for operation in {operation for operation, _ in edges}:
        assert svg.count(f">{operation}</text>") == sum(operation == other for other, _ in edges)
    for node in range(len(edges) // 2):
        assert svg.count(f">{node}</text>") == 1
    assert svg.count(">c<tspan") == 3
    assert MUTED not in svg
    assert "var(--muted)" in svg


def test_crossings_are_avoided_where_that_is_possible():
    # Four nodes, listed so that the order of the states would cross: the first two read c_{k-1}, the others c_{k-2}.
    edges = [("none", source) for source in (1, 1, 1, 1, 0, 0, 0, 0)]
    layout = cell_layout(edges, (2, 3, 4, 5))
    upper, lower = ([pill.center.y for pill in layout.pills if pill.source == source] for source in (0, 1))
    assert max(upper) < min(lower)
    assert math.isclose(layout.output.y, layout.height / 2, rel_tol=0.2)
