"""The page of a lab experiment: whole, self-contained, safe, and right in what its figures show."""

import re

import numpy as np
import pytest
from fake_lab_record import ESTIMATORS, make_lab_record
from matplotlib.figure import Figure as Sheet
from parsed_page import Page, assert_self_contained

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab.findings import Curve, Figure, Findings, Table
from jaxnas.report.lab_axes import tick_texts
from jaxnas.report.lab_figures import BINS, draw, looks
from jaxnas.report.lab_labels import label_points
from jaxnas.report.lab_page import render_lab, write_lab_report

HOSTILE = "</code><script>alert('&')</script>\"><img src=x onerror=1> $\\frac"
NOTHING = Findings({}, (), (), ())


@pytest.fixture(scope="module")
def record():
    return make_lab_record(ESTIMATORS[:4], rates=20)


@pytest.fixture(scope="module")
def page(record):
    return render_lab(record)


def plot(*curves, **settings):
    """The <figure> of these curves."""
    figure = Figure("title", "", "x", "y", curves, **settings)
    return draw(figure, looks([figure]), "name")


def points(html):
    """The vertices of every line through values, in order, [(x, y)] in pixels."""
    paths = re.findall(r'<g><title>[^<]*</title>\s*<path d="([^"]*)"', html)
    return [[tuple(map(float, at)) for at in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path)] for path in paths]


def test_the_page_is_well_formed_self_contained_and_its_identifiers_are_unique(page):
    parsed = Page(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    assert_self_contained(page)


def test_everything_found_is_on_the_page(record, page):
    text = Page(page).text
    found = record.findings
    expected = [record.question, *found.sentences, "Best by width", "seed 0", "20 min 34 s", "settings.dims", "jaxnas"]
    for figure in found.figures:
        expected += [figure.title, figure.caption, figure.x_label, figure.y_label]
        expected += [curve.label for curve in figure.curves]
    for table in found.tables:
        expected += [table.title, table.caption, *table.columns, *(cell for row in table.rows for cell in row)]
    assert [each for each in expected if each not in text] == []
    assert f"best.{ESTIMATORS[0]}" in text
    assert text.index(found.sentences[0]) < text.index(found.figures[0].title) < text.index("Config")


@pytest.mark.parametrize("place", ["name", "question", "config", "versions", "sentence", "number", "table", "figure"])
def test_what_a_person_typed_is_escaped(record, place):
    curve = Curve(HOSTILE, np.arange(3), np.arange(3))
    figure = Figure(HOSTILE, HOSTILE, HOSTILE, HOSTILE, (curve, curve._replace(marks=True)))
    found = {
        "sentence": NOTHING._replace(sentences=(HOSTILE,)),
        "number": NOTHING._replace(numbers={HOSTILE: {HOSTILE: HOSTILE}}),
        "table": NOTHING._replace(tables=(Table(HOSTILE, (HOSTILE,), ((HOSTILE,),), HOSTILE),)),
        "figure": NOTHING._replace(figures=(figure,)),
    }
    other = {"config": {HOSTILE: HOSTILE}, "versions": {HOSTILE: HOSTILE}}.get(place, HOSTILE)
    changed = {"findings": found[place]} if place in found else {place: other}
    parsed = Page(render_lab(record._replace(**changed)))
    assert not {"script", "img"} & set(parsed.tags)
    assert HOSTILE[1:] in parsed.text  # a name's first letter may be a capital


def test_a_page_without_findings_says_so_and_keeps_the_settings(record):
    text = Page(render_lab(record._replace(findings=NOTHING, seconds=None, question=""))).text
    assert "no findings" in text
    assert "Config" in text
    for gone in ("What was found", "Figures", "Numbers", "took"):
        assert gone not in text


@pytest.mark.parametrize("small", [True, False])
def test_the_small_variant_is_called_so(record, small):
    text = Page(render_lab(record._replace(config={**record.config, "small": small}))).text
    assert ("small variant" in text) == small


def test_the_same_record_gives_the_same_page_and_is_written_whole(tmp_path, record, page):
    path = tmp_path / "report.html"
    write_lab_report(path, record)
    assert path.read_text(encoding="utf-8") == page
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(UserError, match="cannot write the report"):
        write_lab_report(tmp_path / "missing" / "report.html", record)


def test_a_label_looks_the_same_in_all_figures_and_no_two_labels_look_alike():
    def figure(*labels):
        return Figure("", "", "", "", tuple(Curve(label, np.ones(2), np.ones(2)) for label in labels))

    names = [str(number) for number in range(40)]
    whole = looks([figure(*names[:25]), figure(*reversed(names))])
    assert list(whole)[:25] == names[:25]
    assert len({look[:2] for look in whole.values()}) == 40  # by colour and dashes, whatever the marker
    assert len({look.ink for look in list(whole.values())[:10]}) == 10


def test_lines_are_drawn_where_their_values_are():
    x = np.array([1.0, 10.0, 100.0])
    line, steep = points(plot(Curve("a", x, np.array([0.0, 1.0, 4.0])), Curve("b", x, 2 * np.arange(3)), log_x=True))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert x1 - x0 == pytest.approx(x2 - x1, abs=1e-3)
    assert (y0 - y2) == pytest.approx(4 * (y0 - y1), abs=1e-3)
    assert steep[2] == pytest.approx(line[2])


def test_a_band_goes_from_low_to_high():
    x, mean = np.arange(3), np.array([1.0, 2.0, 3.0])
    html = plot(Curve("a", x, mean, mean - 1, mean + 3))
    (line,) = points(html)
    unit = line[0][1] - line[1][1]
    bands = [path for path in re.findall(r' d="(M[^"]*)"', html) if len(re.findall(r"[ML]", path)) >= 6]
    corners = [tuple(map(float, at)) for at in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", bands[0])]
    for x_, y in line:
        heights = {round((y - b) / unit, 3) for a, b in corners if abs(a - x_) < 0.01}
        shift = round(min(heights) + 1, 3)  # the path is moved as a whole to its place
        assert {round(height - shift, 3) for height in heights} == {-1, 3}


NAN = np.nan
ODD = {
    "long, no places": [Curve("a", np.full(2000, NAN), np.ones(2000))],
    "no curves": [],
    "no points": [Curve("a", np.zeros(0), np.zeros(0))],
    "only NaN": [Curve("a", np.arange(3), np.full(3, NAN), np.full(3, NAN), np.full(3, NAN))],
    "one point": [Curve("a", np.ones(1), np.ones(1), np.zeros(1), np.ones(1) * 2)],
    "constant": [Curve("a", np.arange(3), np.ones(3), np.ones(3), np.ones(3))],
    "gaps": [Curve("a", np.arange(5), np.array([NAN, 1, NAN, np.inf, 2]), np.zeros(5), np.array([NAN, 2, 3, NAN, 4]))],
    "low only": [Curve("a", np.arange(3), np.ones(3), low=np.zeros(3))],
    "marks": [Curve("a", np.arange(3), np.arange(3), np.arange(3) - 1, np.arange(3) + 1, True)],
    "negative": [Curve("a", -np.arange(3), -np.arange(3), marks=True), Curve("b", np.arange(3), -np.ones(3))],
    "huge and tiny": [Curve("a", np.array([1e-12, 1e12]), np.array([1e-30, 1e30]))],
    "integers": [Curve("a", np.arange(1, 4), np.arange(1, 4), np.arange(3), np.arange(2, 5))],
    "unsorted": [Curve("a", np.array([3.0, 1, 2] * 500), np.arange(1500.0))],
    "no label": [Curve("", np.arange(3), np.arange(3))],
}


@pytest.mark.parametrize("log", [(False, False), (True, False), (True, True)], ids=["linear", "log x", "log"])
@pytest.mark.parametrize("curves", ODD.values(), ids=ODD.keys())
def test_odd_values_are_drawn_or_said_to_be_missing(curves, log):
    html = plot(*curves, log_x=log[0], log_y=log[1])
    parsed = Page(html)
    assert ("There is no finite value to draw" in parsed.text) != ("viewBox" in html.split("legend")[0])
    assert not re.search(r"\bnan\b|\binf\b", html)
    assert "#06" not in html  # every stand-in became the page's variable


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        ([1, 2, 3], {"log_x": True}, "1 point at or below zero is not on"),
        ([-1, 0, 3], {"log_y": True}, "2 points at or below zero are not on"),
        ([0, 0, 5], {"log_x": True, "log_y": True}, "2 points at or below zero are not on"),
    ],
)
def test_what_a_logarithmic_axis_cannot_show_is_counted(values, settings, words):
    assert words in Page(plot(Curve("a", np.arange(3), np.array(values)), **settings)).text


def test_an_axis_without_positive_values_is_linear_and_nothing_is_missing():
    html = plot(Curve("a", np.arange(3), -np.arange(3)), log_y=True)
    assert "at or below zero" not in html
    assert len(points(html)[0]) == 3


def test_a_point_between_gaps_is_seen():
    mean = np.arange(40.0)
    mean[[4, 6]] = np.nan
    html = plot(Curve("a", np.arange(40), mean))
    assert html.count("<use") - plot(Curve("a", np.arange(40), np.arange(40.0))).count("<use") == 1


def test_a_long_curve_keeps_its_extremes_and_little_else():
    x = np.linspace(0, 0.5, 20_000)
    mean = np.sin(300 * x) / 10
    mean[[777, 15_001]] = 1, -1
    (line,) = points(plot(Curve("a", x, mean), log_x=True))
    (full,) = points(plot(Curve("a", x[[1, 777, 15_001, -1]], mean[[1, 777, 15_001, -1]]), log_x=True))
    assert len(line) <= 4 * BINS
    heights = [y for _, y in line]
    assert (min(heights), max(heights)) == pytest.approx((full[1][1], full[2][1]), abs=1e-3)


@pytest.mark.parametrize(
    ("ticks", "log", "texts"),
    [
        ([0.0, 0.25, 0.5], False, ["0", "0.25", "0.50"]),
        ([-1, 0, 1], False, ["−1", "0", "1"]),
        ([0.01, 0.1, 1, 1000], True, ["0.01", "0.1", "1", "1,000"]),
        ([1e-5, 1e-3, 0.1, 1, 10], True, ["10⁻⁵", "10⁻³", "10⁻¹", "1", "10¹"]),
        ([-2e-5, 0, 2e-5], False, ["−2×10⁻⁵", "0", "2×10⁻⁵"]),
        ([0.269646, 0.269648], False, ["0.269646", "0.269648"]),
        ([1_000_000, 1_500_000], False, ["10⁶", "1.5×10⁶"]),
        ([2, 4, 8], True, ["2", "4", "8"]),
        ([0.1 + 0.2, 0.4], False, ["0.3", "0.4"]),
        ([0.0], False, ["0"]),
        ([], False, []),
    ],
)
def test_ticks_say_enough_and_no_more(ticks, log, texts):
    assert tick_texts(ticks, log=log) == texts


def test_few_shared_places_are_the_ticks():
    widths = np.array([2, 4, 8, 16, 32, 64])
    html = plot(*(Curve(name, widths, np.ones(6)) for name in "ab"), log_x=True)
    assert all(f">{width}</text>" in html for width in widths)
    assert ">10</text>" not in html
    awkward = plot(*(Curve(name, widths * 0.0178, np.ones(6)) for name in "ab"), log_x=True)
    assert ">0.1</text>" in awkward and ">0.0356</text>" not in awkward


def test_single_points_carry_their_names_where_there_is_room():
    def marks(*places):
        return [Curve(f"estimator {n}", np.array([x]), np.array([y]), marks=True) for n, (x, y) in enumerate(places)]

    apart, together = plot(*marks((0, 0), (1, 1), (2, 0.5))), plot(*marks(*[(1, 1)] * 9))
    assert "legend" not in apart and "legend" in together
    for number in range(3):
        assert f">estimator {number}</text>" in apart
    assert "</text>" in together and ">estimator 0</text>" not in together


def test_names_beside_points_stay_inside_and_apart():
    axes = Sheet(figsize=(480 / 72, 300 / 72)).add_axes((0.1, 0.1, 0.85, 0.85))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    places = [(0.5, 0.5), (0.52, 0.5), (0.98, 0.9), (0.02, 0.1)]
    assert label_points(axes, places, ["middle", "beside", "at the right", "at the left"])
    inside = axes.get_window_extent()
    boxes = [text.get_window_extent() for text in axes.texts]
    for number, box in enumerate(boxes):
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1
        assert not any(box.overlaps(other) for other in boxes[:number])
        for place in places:
            assert not box.contains(*axes.transData.transform(place))
