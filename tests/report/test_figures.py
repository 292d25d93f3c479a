"""Figures: deterministic, themed, free of identifiers that collide, and right in what they show."""

import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from fake_record import OPERATIONS, SPACES, cell_edges, make_other_record, make_record

from jaxnas.report.dynamics import settled
from jaxnas.report.figures import Series, comparison, curves, shares, short
from jaxnas.report.heatmaps import choice_panels, decisions
from jaxnas.report.palette import VARIABLES, colors
from jaxnas.report.record import part_of

EDGES = cell_edges(2)
DERIVED = ("skip_connect", "sep_conv_3x3", "max_pool_3x3", None, "none")
PART = part_of(make_record(seeds=(0,), epochs=1, nodes=2), "normal")
INKS = colors(OPERATIONS)
BLOCKS = part_of(make_other_record("chain", seeds=(0,), epochs=1), "blocks")


def chances(*shape):
    return np.random.default_rng(0).dirichlet(np.ones(len(OPERATIONS)), size=shape)


FIGURES = {
    "curves": lambda name: curves([Series("a", np.ones((2, 3))), Series("b", np.arange(3.0)[None])], name, "x"),
    "one epoch": lambda name: curves([Series("a", np.ones((2, 1)))], name, "x", percent=True),
    "gaps": lambda name: curves([Series("a", np.array([[np.nan, 1, np.inf], [np.nan, 3, np.nan]]))], name, "x"),
    "levels and stages": lambda name: curves(
        [Series("a", np.ones((1, 4)))], name, "x", levels=[("best", 2.0)], stages=[("one", 2), ("two", 2)]
    ),
    "shares": lambda name: shares(chances(2, 4, len(EDGES)), OPERATIONS, INKS, name, "x"),
    "comparison": lambda name: comparison({0: 0.9, 1: 0.8}, {1: 0.7}, 1, name, "x"),
    "decisions": lambda name: decisions(chances(4, len(EDGES)), PART, INKS, DERIVED, name, "x"),
    "panels": lambda name: choice_panels(chances(4, len(EDGES)), PART, INKS, DERIVED, name, "x"),
    "panels, one epoch": lambda name: choice_panels(chances(1, len(EDGES)), PART, INKS, (), name, "x"),
    "panels of a chain": lambda name: choice_panels(
        chances(2, len(BLOCKS.rows))[..., : len(BLOCKS.options)], BLOCKS, colors(BLOCKS.options), (), name, "x"
    ),
}
every_figure = pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())


class Identifiers(HTMLParser):
    """Collects identifiers and references."""

    def __init__(self, page):
        super().__init__()
        self.own, self.used = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.own.append(value)
            self.used += re.findall(r"url\(#(.*?)\)", value or "")
            if name == "href":
                self.used.append(value.removeprefix("#"))


@every_figure
def test_a_figure_is_the_same_every_time(draw):
    assert draw("name") == draw("name")


@every_figure
def test_two_figures_share_no_identifier_and_refer_to_their_own(draw):
    first, second = Identifiers(draw("first")), Identifiers(draw("second"))
    assert not set(first.own) & set(second.own)
    assert len(set(first.own)) == len(first.own)
    assert {used for used in first.used if not used.startswith("data:")} <= set(first.own)


@every_figure
def test_a_figure_follows_the_theme_and_needs_nothing_else(draw):
    svg = draw("name")
    assert svg.startswith("<svg ") and svg.endswith("</svg>")
    assert "http" not in svg
    assert "#000000" not in svg  # black would vanish on dark ground
    assert not any(stand_in in svg for stand_in in VARIABLES)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", svg)


def test_a_users_own_settings_neither_matter_nor_change():
    plain = FIGURES["curves"]("name")
    with matplotlib.rc_context({"lines.linewidth": 9.0, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert FIGURES["curves"]("name") == plain
        assert matplotlib.rcParams["axes.facecolor"] == "red"


def test_the_end_of_a_curve_shows_the_mean_over_the_seeds_that_have_a_value():
    values = np.array([[1.0, 2.0, 0.25], [3.0, 4.0, 0.75], [5.0, 6.0, np.nan]])
    assert ">loss 0.5</text>" in curves([Series("loss", values)], "name", "x")
    assert ">loss 50.0%</text>" in curves([Series("loss", values)], "name", "x", percent=True)
    assert ">loss</text>" in curves([Series("loss", values)], "name", "x", valued=False)


def test_a_value_between_two_gaps_is_seen():
    alone, joined = np.array([[1.0, np.nan, 2.0, np.nan]]), np.array([[1.0, 1.0, np.nan, np.nan]])
    marks = [curves([Series("a", values)], "name", "x").count("<use") for values in (alone, joined)]
    assert marks[0] == marks[1] + 2


def test_labels_at_the_ends_do_not_overlap():
    values = np.ones((1, 2))
    svg = curves([Series(f"label{number}", values) for number in range(8)], "name", "x")
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]*>label', svg))
    assert len(heights) == 8
    assert np.diff(heights).min() > 11


def test_shares_are_means_over_edges_and_seeds():
    probabilities = np.zeros((2, 1, 2, 2))
    probabilities[..., 0], probabilities[..., 1] = 0.25, 0.75
    probabilities[1, 0, 1] = [1, 0]
    svg = shares(probabilities, ("none", "skip_connect"), INKS, "name", "x")
    assert ">none 43.8%</text>" in svg  # (3 · 0.25 + 1) / 4
    assert ">skip 56.2%</text>" in svg


def test_the_decision_map_names_what_was_derived():
    svg = FIGURES["decisions"]("name")
    for operation in filter(None, DERIVED):
        assert f">{operation}</text>" in svg
    assert svg.count("<image") == len(EDGES)


def test_every_choice_has_a_panel_with_its_name():
    assert FIGURES["panels"]("name").count("<image") == len(EDGES)
    chain = FIGURES["panels of a chain"]("name")
    assert chain.count("<image") == len(BLOCKS.rows)
    assert all(f">{row}</text>" in chain for row in SPACES["chain"][1]["blocks"])


def test_levels_and_stages_are_named_and_ended_stages_only():
    svg = FIGURES["levels and stages"]("name")
    assert all(f">{words}</text>" in svg for words in ("best 2", "a 1", "one", "two"))
    one = [Series("a", np.ones((1, 4)))]
    assert ">only</text>" not in curves(one, "name", "x", stages=[("only", 4)])  # nothing to part
    assert ">three</text>" not in curves(one, "name", "x", stages=[("one", 2), ("two", 2), ("three", 2)])


def test_names_of_short_stages_run_along_their_lines():
    svg = curves([Series("a", np.ones((1, 40)))], "name", "x", stages=[("wide", 38), ("a_long_name", 1), ("b_long", 1)])
    rotated = re.findall(r"rotate\(-90[^>]*>([^<]*)</text>", svg)
    assert rotated == ["a_long_name", "b_long"]


@pytest.mark.parametrize(
    ("leaders", "shares_"),
    [([0, 0, 0], [1, 1, 1]), ([1, 0, 0], [0, 1, 1]), ([0, 1, 0], [0, 0, 1]), ([0], [1])],
)
def test_an_edge_is_settled_from_when_its_leader_stays(leaders, shares_):
    probabilities = np.eye(2)[leaders][None, :, None]
    np.testing.assert_array_equal(settled(probabilities), [shares_])


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("sep_conv_3x3", "sep 3×3"),
        ("skip_connect", "skip"),
        ("max_pool_3x3", "max 3×3"),
        ("conv_7x1_1x7", "conv 7×1 1×7"),
        ("none", "none"),
        ("mine", "mine"),
    ],
)
def test_short_names(operation, name):
    assert short(operation) == name


def test_accuracies_end_at_hundred_per_cent():
    drawn = comparison({0: 0.9833}, {0: 0.9833}, 0, "n", "x")
    ticks = [float(number) for number in re.findall(r">([\d.]+)</text>", drawn)]
    assert len(ticks) > 2 and max(ticks) <= 100
