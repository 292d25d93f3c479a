"""The page that compares methods: all numbers, nobody the winner, and no rows that could mislead."""

import re

import pytest
from parsed_page import Page, assert_self_contained

from jaxnas.core.errors import UserError
from jaxnas.report.comparison import markdown_table, render_comparison, write_comparison

ROWS = (
    {
        "name": "random search",
        "accuracies": [0.90, 0.92],
        "true": [],
        "seconds": 100.0,
        "compile": 12.0,
        "memory_bytes": 1_500_000_000,
        "params": [50_000, 52_000],
        "mult_adds": [3e6, 3e6],
        "cost": [],
        "rank_correlation": None,
        "is_baseline": True,
    },
    {
        "name": "darts",
        "accuracies": [0.95, 0.93, 0.94],
        "true": [0.91, 0.92, 0.93],
        "seconds": 400.0,
        "compile": 40.0,
        "memory_bytes": 2_500_000_000,
        "params": [40_000],
        "mult_adds": [2e6],
        "cost": [20.5],
        "rank_correlation": 0.613,
        "is_baseline": False,
    },
    {"name": "not run", "accuracies": []},
)


@pytest.fixture(scope="module")
def page():
    return render_comparison("Methods on digits", ROWS, ["One note.", "Another."])


def test_the_page_is_whole_self_contained_and_the_same_every_time(page):
    parsed = Page(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    assert_self_contained(page)
    assert page == render_comparison("Methods on digits", ROWS, ["One note.", "Another."])


def test_a_ranking_has_a_panel_for_each_method_that_ranked():
    ranked = {"judged": [[0.2, 0.4, 0.3], [0.4, 0.6, 0.1]], "true": [0.5, None, 0.7]}
    unknown = {"judged": [[0.2, 0.4]], "true": [None, None]}
    rows = (ROWS[0], {**ROWS[1], "ranked": ranked}, {"name": "no truth", "ranked": unknown})
    drawn = Page(render_comparison("Methods on digits", rows)).text
    assert "What shared weights say" in drawn and "darts, τ = 0.61" in drawn and "no truth, τ" not in drawn
    assert "What shared weights say" not in Page(render_comparison("Methods on digits", ROWS)).text


def test_nested_networks_have_a_panel_for_each_size_with_a_curve_for_each_method():
    def subnets(largest):
        return {"smallest": [[0.1, 0.2, 0.3]], "largest": [largest]}

    rows = (ROWS[0], {**ROWS[1], "subnets": subnets([0.3, 0.4, 0.5])})
    rows += ({"name": "joint", "subnets": subnets([0.2, 0.3])},)
    page = render_comparison("Methods on digits", rows)
    assert_self_contained(page)
    drawn = page[page.index("Nested networks") :]
    assert "The middle network" not in drawn
    assert drawn.index("The smallest network") < drawn.index("The largest network")
    assert "joint" in drawn and "random search" not in drawn
    assert "Nested networks" not in render_comparison("Methods on digits", ROWS)


def test_everything_that_was_measured_is_in_the_table(page):
    text = Page(page).text
    expected = ["Methods on digits", "One note.", "Another.", "random search (baseline)", "darts", "not run"]
    expected += ["94.00 ± 1.00", "91.00 ± 1.41", "92.00 ± 1.00", "1 min 40 s", "6 min 40 s", "1.5 GB", "2.5 GB"]
    expected += ["51 k ± 1.41 k", "40 k", "3 M", "2 M", "20.5", "0.61"]
    assert [words for words in expected if words not in text] == []


def test_methods_stand_in_the_order_of_their_means_and_none_is_marked_as_best(page):
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    assert re.findall(r"<tr><td>(?:<b>)?([^<]*)", table) == ["darts", "random search", "not run"]
    assert table.count("<b>") == 1  # the baseline's name
    assert not re.search(r"\bbest\b|winner|\*", Page(page).text)


@pytest.mark.parametrize(
    ("left_out", "gone"),
    [("rank_correlation", "rank correlation"), ("cost", "cost"), ("true", "true accuracy"), ("memory_bytes", "memory")],
)
def test_a_column_without_values_is_left_out(left_out, gone):
    less = [{name: value for name, value in row.items() if name != left_out} for row in ROWS]
    assert gone in markdown_table(ROWS).splitlines()[0]
    assert gone not in markdown_table(less).splitlines()[0]


def test_accuracy_against_time_needs_times_that_differ(page):
    assert "Accuracy against time" in page
    assert "Accuracy against time" not in render_comparison("t", [row | {"seconds": 5.0} for row in ROWS])
    assert "Figures" not in Page(render_comparison("t", [{"name": "a"}])).text


def test_every_seed_is_a_dot():
    def marks(*accuracies):
        page = render_comparison("t", [{"name": "a", "accuracies": accuracies}])
        return page[page.index("Test accuracy of every seed of") :].count("<use")

    # The mean and the extremes stay, and with them the ticks, which are marks, too.
    assert marks(0.90, 0.94, 0.92, 0.92) - marks(0.90, 0.94, 0.92) == 1


def test_the_baseline_is_a_line_to_compare_with(page):
    assert "Dashed: the random baseline" in page
    assert "Dashed" not in render_comparison("t", [{**row, "is_baseline": False} for row in ROWS])


def test_the_markdown_table_has_a_line_for_each_method_and_escapes_bars():
    lines = markdown_table([{"name": "a|b", "accuracies": [0.5]}, {"name": "c", "accuracies": [0.75]}]).splitlines()
    assert lines == [
        "| method | test accuracy, % | seeds |",
        "| --- | ---: | ---: |",
        "| c | 75.00 | 1 |",
        r"| a\|b | 50.00 | 1 |",
    ]


def test_what_a_person_typed_is_escaped():
    hostile = "</code><script>alert('&')</script>"
    parsed = Page(render_comparison(hostile, [{"name": hostile, "accuracies": [0.5, 0.6]}], [hostile]))
    assert "script" not in parsed.tags
    assert parsed.text.count(hostile) >= 3


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "a comparison needs at least one method, but has none."),
        ([{"name": "a"}, {"accuracies": [1.0]}], "row 1 of the comparison has no name."),
        ([{"name": "a"}, {"name": "a"}], "the comparison has two rows named 'a'; give each method a name of its own."),
    ],
)
def test_wrong_rows_are_errors(rows, words, tmp_path):
    for make in (markdown_table, lambda each: render_comparison("t", each)):
        with pytest.raises(UserError) as error:
            make(rows)
        assert str(error.value) == words
    with pytest.raises(UserError):
        write_comparison(tmp_path / "page.html", "t", rows)
    assert not list(tmp_path.iterdir())


def test_a_page_is_written(tmp_path, page):
    write_comparison(tmp_path / "page.html", "Methods on digits", ROWS, ["One note.", "Another."])
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
