"""What the report says of nested networks trained together."""

import re

import numpy as np
import pytest
from fake_record import make_record
from parsed_page import Page, assert_self_contained

from jaxnas.report.page import render
from jaxnas.report.palette import ACCENT, CURVE_INKS, VARIABLES
from jaxnas.report.subnets import _curve, subnets

NAMES = ("largest", "middle", "smallest")
STAGES = (("largest", 2), ("kernel", 2), ("measure", 4))


def with_accuracies(record, *names):
    """The record with accuracies that end where the weights no longer learn, at 60, 50, ... per cent."""
    shape = record.history["train_loss"].shape
    values = {}
    for number, name in enumerate(names):
        values[f"accuracy/{name}"] = np.broadcast_to(np.linspace(0.1, 0.6 - number / 10, 4), (shape[0], 4))
    padded = {name: np.pad(one, ((0, 0), (0, shape[1] - 4)), constant_values=np.nan) for name, one in values.items()}
    return record._replace(history={**record.history, **padded}, stages=STAGES)


@pytest.fixture(scope="module")
def record():
    return make_record(seeds=(0, 1), epochs=8)


def test_every_subnet_has_a_curve_with_the_stages_in_which_it_was_judged(record):
    page = render(with_accuracies(record, *NAMES))
    parsed = Page(page)
    assert_self_contained(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    text = Page(subnets(with_accuracies(record, *NAMES))).text
    expected = ["Nested networks", "largest 60.0%", "middle 50.0%", "smallest 40.0%", "kernel"]
    assert [words for words in expected if words not in text] == []
    assert "measure" not in text  # where nothing was learned any more, there are no epochs


def test_its_colours_follow_the_theme(record):
    section = subnets(with_accuracies(record, *NAMES))
    for ink in (ACCENT, CURVE_INKS[1], CURVE_INKS[2]):
        assert f"var({VARIABLES[ink]})" in section and ink not in section


def test_the_page_defines_every_colour_that_its_figures_use(record):
    page = render(with_accuracies(record, *NAMES))
    used, defined = (set(re.findall(pattern, page)) for pattern in (r"var\((--[\w-]+)\)", r"(--[\w-]+):"))
    assert {"--accent", "--curve-1", "--curve-2"} <= used <= defined


def test_a_curve_of_several_seeds_has_their_mean_and_their_range_in_per_cent():
    curve = _curve("joint", [[0.1, None, 0.2], [0.3, 0.5, 0.4]])
    np.testing.assert_allclose(curve.x, [100 / 3, 200 / 3, 100])
    np.testing.assert_allclose(curve.mean, [20, np.nan, 30])
    np.testing.assert_allclose(curve.low, [10, np.nan, 20])
    np.testing.assert_allclose(curve.high, [30, np.nan, 40])
    assert _curve("joint", [[0.1, 0.2]]).low is None


def test_what_was_not_judged_is_left_out(record):
    assert subnets(record) == ""
    nothing = with_accuracies(record, *NAMES)
    nothing = nothing._replace(history={n: np.full_like(one, np.nan) for n, one in nothing.history.items()})
    assert subnets(nothing) == ""
    text = Page(subnets(with_accuracies(record, "smallest"))).text
    assert "smallest 60.0%" in text and "largest 6" not in text
