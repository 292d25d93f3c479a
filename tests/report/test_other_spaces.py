"""The page of a run in spaces other than two cells: chains of boxes, graphs by the names of their edges."""

import re

import numpy as np
import pytest
from fake_record import SPACES, make_other_record, make_record
from parsed_page import Page, assert_self_contained

from jaxnas.report.architecture import derived_architecture
from jaxnas.report.cell_layout import cell_layout
from jaxnas.report.figures import short
from jaxnas.report.page import render
from jaxnas.report.record import derived, noun, part_of

every_space = pytest.mark.parametrize("space", SPACES)


@every_space
def test_the_page_is_whole(space):
    record = make_other_record(space, epochs=4, stages=(("stage_1", 2), ("stage_2", 2)))
    page = render(record)
    parsed = Page(page)
    assert len(parsed.identifiers) == len(set(parsed.identifiers)) > 0
    assert_self_contained(page)
    expected = ["Derived architecture", "Signs of collapse", "True accuracy", "Expected cost", "Curvature", "Latency"]
    expected += ["Inherited weights", "stage_2", "best 94.4%", "mean 87.1%"]
    assert [words for words in expected if words not in parsed.text] == []
    for seed in record.result["seeds"]:
        assert record.result["per_seed"][seed]["genotype"] in parsed.text


@every_space
def test_what_a_run_lacks_is_left_out(space):
    record = make_other_record(space, seeds=(0,), epochs=1, extras=False)
    text = Page(render(record)).text
    for words in ("True accuracy", "Expected cost", "Curvature", "Inherited", "Latency", "Found against random"):
        assert words not in text
    bare = record._replace(history={name: record.history[name] for name in ("train_loss",)})
    text = Page(render(bare)).text
    assert "Signs of collapse" not in text and "Architecture probabilities" not in text


@pytest.mark.parametrize("space", ["chain", "kernels"])
def test_every_choice_is_a_box_with_its_name_and_option(space):
    record = make_other_record(space, epochs=2)
    html = derived_architecture(record)
    boxes = re.findall(r"<li [^>]*><small>([^<]*)</small>([^<]*)</li>", html)
    expected = [
        (row, short(record.options[part][record.history[f"architecture/{part}"][seed, -1, number]]))
        for seed in (0, 1)
        for part in record.options
        for number, row in enumerate(record.rows[part])
    ]
    assert boxes == expected


def test_edges_by_name_are_a_graph_with_every_operation():
    record = make_other_record("nas_bench_201", seeds=(0,), epochs=2)
    part = part_of(record, "cell")
    assert part.edges == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    html = derived_architecture(record)
    for option in set(derived(record, "cell", 0)):
        assert html.count(f">{option}</text>") == derived(record, "cell", 0).count(option)
    assert all(f">{state}</text>" in html for state in (0, 1, 2, 3, "out"))


def test_a_graph_with_one_input_is_laid_out_between_its_ends():
    part = part_of(make_other_record("nas_bench_201", seeds=(0,), epochs=1), "cell")
    nodes = [node for _, node in part.edges]
    layout = cell_layout([("conv", source) for source, _ in part.edges], [3], nodes, inputs=1)
    assert [(pill.source, pill.node) for pill in layout.pills] == part.edges
    assert sorted(layout.states, key=lambda state: layout.states[state].x) == [0, 1, 2, 3]
    assert layout.output.x > layout.states[3].x
    assert len({pill.center for pill in layout.pills}) == 6


def test_what_was_derived_comes_before_the_last_epoch():
    record = make_other_record("chain", epochs=2)
    last = record.history["architecture/blocks"][:, -1]
    names = record.options["blocks"]
    assert derived(record, "blocks", 1) == tuple(names[number] for number in last[1])
    stopped = record._replace(found={"blocks": np.zeros_like(last)})
    assert derived(stopped, "blocks", 1) == (names[0],) * last.shape[1]


def test_the_edges_of_two_cells_are_derived_as_their_genotype_says():
    record = make_record(seeds=(0,), epochs=2, nodes=2)
    for part in ("normal", "reduce"):
        options = derived(record, part, 0)
        assert len(options) == len(record.edges)
        kept = [edge for edge, option in zip(record.edges, options, strict=True) if option]
        assert [node for _, node in kept] == [0, 0, 1, 1]
        genotype = record.result["per_seed"][0]["genotype"]
        assert all(
            f"('{option}', {source})" in genotype
            for (source, _), option in zip(record.edges, options, strict=True)
            if option
        )


@pytest.mark.parametrize(("space", "name"), [("chain", "architecture"), ("nas_bench_201", "cell")])
def test_random_architectures_are_called_what_they_are(space, name):
    record = make_other_record(space, seeds=(0,), epochs=1)
    (entry,) = record.result["per_seed"]
    trained = entry | {"retrained_accuracy": 0.9, "random": entry | {"retrained_accuracy": 0.8}}
    text = Page(render(record._replace(result={**record.result, "per_seed": [trained]}))).text
    assert noun(record) == name
    assert f"the found {name} is 10.00 percentage points better than a random {name} of the same space" in text


def test_choices_of_one_stage_belong_together():
    part = part_of(make_other_record("chain", seeds=(0,), epochs=1), "blocks")
    groups = dict(zip(part.rows, part.groups, strict=True))
    assert groups["stage 2 block 1"] == groups["stage 2 block 4"] != groups["stage 3 block 1"]


def test_choices_without_names_are_numbered():
    record = make_other_record("kernels", seeds=(0,), epochs=1)._replace(rows={})
    assert part_of(record, "kernel").rows == [f"choice {number}" for number in range(1, 6)]
    assert "choice 5" in Page(render(record)).text
