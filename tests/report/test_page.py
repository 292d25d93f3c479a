"""The page of a run: whole, self-contained, safe, and able to do without what a method lacks."""

import pytest
from fake_record import make_record
from parsed_page import Page, assert_self_contained

from jaxnas.core.errors import UserError
from jaxnas.report.markup import count, duration, flat, mean_percent, percent
from jaxnas.report.page import render, write_report
from jaxnas.report.record import seeds


@pytest.fixture(scope="module")
def record():
    return make_record(seeds=(3, 4, 5), epochs=4, nodes=2)


@pytest.fixture(scope="module")
def page(record):
    return render(record)


def without(record, *words):
    """The record without histories and entries whose name starts with one of the words."""
    kept = {name: values for name, values in record.history.items() if not name.startswith(words)}
    result = {name: value for name, value in record.result.items() if not name.startswith(words)}
    return record._replace(history=kept, result=result)


def test_the_page_is_well_formed_and_its_identifiers_are_unique(page):
    parsed = Page(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0


def test_the_page_needs_nothing_else(page):
    assert_self_contained(page)


@pytest.mark.parametrize("count_", [1, 3])
def test_every_seed_is_shown_with_its_genotype_the_selected_first(count_):
    record = make_record(seeds=tuple(range(5, 5 + count_)), epochs=2, nodes=1)
    text = Page(render(record)).text
    for entry in record.result["per_seed"]:
        assert text.count(entry["genotype"]) >= 2  # beside its cells and in the table of seeds
        assert entry["random"]["genotype"] in text
    places = [text.index(f"Seed {seed}") for seed in seeds(record)]
    assert places == sorted(places)
    assert seeds(record)[0] == record.result["selected_seed"]


def test_the_headline_gives_accuracies_with_their_deviation(record, page):
    text = Page(page).text
    for name in ("retrained_accuracy", "random_accuracy"):
        summary = record.result["summary"][name]
        assert f"{100 * summary['mean']:.2f} ± {100 * summary['std']:.2f} %" in text
    assert "2 min 58 s" in text


HOSTILE = "</code><script>alert('&')</script>\"><img src=x onerror=1>"


@pytest.mark.parametrize("field", ["method", "space", "data", "device"])
def test_what_a_person_typed_is_escaped_in_the_result(record, field):
    assert_escaped(record._replace(result={**record.result, field: HOSTILE}))


def test_what_a_person_typed_is_escaped_in_the_config_and_versions(record):
    config = {HOSTILE: {"path": HOSTILE, HOSTILE: [HOSTILE]}}
    versions = {HOSTILE: HOSTILE}
    assert_escaped(record._replace(config=config, result={**record.result, "versions": versions}))


def test_what_a_person_typed_is_escaped_in_the_names_of_operations(record):
    options = {part: (HOSTILE, *names[1:]) for part, names in record.options.items()}
    assert_escaped(record._replace(options=options))


def assert_escaped(record):
    parsed = Page(render(record))
    assert not {"script", "img"} & set(parsed.tags)
    assert HOSTILE in parsed.text


LESS = {
    "no probabilities": (("probabilities", "entropy"), "Architecture probabilities"),
    "no histories": (("probabilities", "entropy", "train_", "valid_"), "“valid”"),
    "no costs and times": (("seconds", "cost", "versions", "device"), "Versions"),
    "no summary": (("summary",), "Found cell"),
    "no seeds": (("per_seed",), "Every seed"),
}


@pytest.mark.parametrize(("words", "gone"), LESS.values(), ids=LESS.keys())
def test_what_a_method_lacks_is_left_out(record, page, words, gone):
    assert gone in Page(page).text
    assert gone not in Page(render(without(record, *words))).text


def test_a_run_without_a_random_baseline_says_so(record):
    entries = [
        {name: value for name, value in entry.items() if name != "random"} for entry in record.result["per_seed"]
    ]
    summary = {**record.result["summary"], "random_accuracy": {"mean": None, "std": None}}
    less = {**record.result, "per_seed": entries, "summary": summary, "random_baseline": None}
    retraining = {"found": record.retraining["found"]}
    text = Page(render(record._replace(result=less, retraining=retraining))).text
    assert "No random cell was trained" in text
    assert "Random cell" not in text


@pytest.mark.parametrize(
    ("sign", "words"),
    [
        (+1, "1.25 percentage points better than a random cell"),
        (-1, "1.25 percentage points worse than a random cell"),
        (0, "is as good as a random cell"),
    ],
)
def test_found_against_random_in_words(record, sign, words):
    entries = [
        {**entry, "retrained_accuracy": 0.9, "random": {**entry["random"], "retrained_accuracy": 0.9 - sign * 0.0125}}
        for entry in record.result["per_seed"]
    ]
    text = Page(render(record._replace(result={**record.result, "per_seed": entries}))).text
    assert words in text
    assert f"better for {3 if sign > 0 else 0} of them" in text


def test_the_same_record_gives_the_same_page(record, page):
    assert render(record) == page


def test_a_report_is_written_whole(tmp_path, record, page):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, record)
    assert path.read_text(encoding="utf-8") == page
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path, record):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "report.html", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot write the report") as error:
            write_report(path, record)
        assert str(path) in str(error.value)
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "&ndash;"),
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1930618, "1.93 M"),
        (528359040, "528 M"),
        (54_800, "54.8 k"),
        (999_999, "1 M"),
    ],
)
def test_counts(number, text):
    assert count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "&ndash;"),
        (0.26, "0.3 s"),
        (59.99, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.8, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_accuracies_are_per_cent():
    assert percent(0.97375) == "97.38 %"
    assert percent(None) == "&ndash;"
    assert mean_percent({"mean": 0.5, "std": None}) == "50.00 %"
    assert mean_percent({"mean": 0.5, "std": 0.01}) == "50.00 <small>± 1.00 %</small>"


def test_nested_settings_are_flattened_in_order():
    assert flat({"b": {"c": 1, "a": {}}, "a": (1, 2)}) == [("b.c", 1), ("b.a", {}), ("a", (1, 2))]
