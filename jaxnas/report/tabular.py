"""The page of searches in a table of true accuracies: curves over the evaluations, and one table of how they end."""

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab.findings import Curve, Figure
from jaxnas.report.lab_figures import draw, looks
from jaxnas.report.markup import count, duration, flat, settings_section, table, text
from jaxnas.report.shell import document, write_page
from jaxnas.report.style import COMPARISON_STYLE

Searches = Mapping[str, Mapping[str, Any]]  # {label: as `tabular_experiment.summary` has it, read from JSON}
EVALUATIONS = "whole evaluations"


class _Column(NamedTuple):
    """A column of the table: its head, and what it shows of a search, as plain text."""

    head: str
    cell: Callable[[Mapping[str, Any]], str]


def render_tabular(title: str, searches: Searches, notes: Sequence[str], config: Mapping[str, Any]) -> str:
    """The page as text; the same searches give the same page. They stand in the order of their mean regret.

    Raises UserError for no searches.
    """
    ordered = _ordered(searches)
    paragraphs = "".join(f"<p>{text(note)}</p>" for note in notes)
    head = f'<header><div class="eyebrow">Searches in a table</div><h1>{text(title)}</h1>{paragraphs}</header>'
    body = _table(ordered) + _figures(ordered) + settings_section({"Config": flat(config)})
    return document(text(title), head + body, css=COMPARISON_STYLE)


def write_tabular(
    path: str | os.PathLike[str], title: str, searches: Searches, notes: Sequence[str], config: Mapping[str, Any]
) -> None:
    """Writes the page of `render_tabular` to `path`, whole or not at all; its folder has to exist.

    Raises UserError where the file cannot be written (see shell.write_page), and for no searches.
    """
    write_page(path, render_tabular(title, searches, notes, config))


def markdown_tabular(searches: Searches) -> str:
    """The table of `render_tabular` in Markdown, for documents; ends with a line break."""
    ordered = _ordered(searches)
    columns = _columns(ordered)
    lines = [["search", *(column.head for column in columns)], ["---", *["---:"] * len(columns)]]
    lines += [[label, *(column.cell(search) for column in columns)] for label, search in ordered.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _ordered(searches: Searches) -> Searches:
    """By rising mean regret; a repetition that found nothing counts as infinite."""
    if not searches:
        raise UserError("a report of searches in a table needs at least one search, but has none.")

    def mean_regret(label: str) -> float:
        return statistics.fmean(math.inf if value is None else value for value in searches[label]["ends"]["regret"])

    return {label: searches[label] for label in sorted(searches, key=mean_regret)}


def _columns(searches: Searches) -> list[_Column]:
    excluded = any(value is None for search in searches.values() for value in search["ends"]["derived"])
    columns = [
        _Column("evaluations", lambda search: f"{search['by_round']['spent'][-1]:,.4g}"),
        _Column("best found, %", lambda search: _per_cent(search["ends"]["accuracy"])),
        _Column("derived, %", lambda search: _per_cent(search["ends"]["derived"])),
        _Column("mean regret", lambda search: _points(search["ends"]["regret"], statistics.fmean)),
        _Column("median regret", lambda search: _points(search["ends"]["regret"], statistics.median)),
        _Column("find the best, %", lambda search: f"{100 * search['by_round']['found'][-1]:.1f}"),
        _Column("evaluations to 99 %", lambda search: _median_count(search["ends"]["nearly"])),
        _Column("run", lambda search: duration(search["seconds"])),
        _Column("compile", lambda search: duration(search["compile"])),
        _Column("evaluations / s", lambda search: count(search["proposals"] / search["seconds"])),
    ]
    if excluded:
        columns.insert(3, _Column("derived beyond the limit, %", lambda search: _excluded(search["ends"]["derived"])))
    return columns


def _per_cent(values: Sequence[float | None]) -> str:
    """Fractions as mean ± sample standard deviation in per cent, without those that are missing."""
    known = [value for value in values if value is not None]
    spread = f" ± {100 * statistics.stdev(known):.2f}" if len(known) > 1 else ""
    return f"{100 * statistics.fmean(known):.2f}{spread}" if known else "–"


def _points(values: Sequence[float | None], summary: Callable[[Sequence[float]], float]) -> str:
    """A summary of fractions, in hundredths; missing ones are infinite."""
    value = summary([math.inf if value is None else value for value in values])
    return f"{100 * value:.3f}" if math.isfinite(value) else "–"


def _excluded(values: Sequence[float | None]) -> str:
    return f"{100 * statistics.fmean(value is None for value in values):.1f}"


def _median_count(values: Sequence[float | None]) -> str:
    """The lower median; a dash where fewer than half of the repetitions have a number."""
    value = statistics.median_low([math.inf if value is None else value for value in values])
    return f"{value:,.4g}" if math.isfinite(value) else "–"


def _table(searches: Searches) -> str:
    columns = _columns(searches)
    cells = [[text(label), *(text(column.cell(search)) for column in columns)] for label, search in searches.items()]
    words = (
        "In the order of mean regret: how much the reward of the best found falls short of the best of the table, in "
        "hundredths. Numbers after ± are standard deviations over repetitions. Evaluations to 99 %: the median number "
        "of whole evaluations until the best found is within a hundredth of the range of rewards from the best."
    )
    body = table(["search", *(column.head for column in columns)], cells, range(1, len(columns) + 1))
    return f'<h2>How the searches end</h2><p class="quiet">{words}</p><div class="panel">{body}</div>'


def _figures(searches: Searches) -> str:
    even = {label: search for label, search in searches.items() if _rounds_are_alike(search)}
    uneven = "" if len(even) == len(searches) else " Without searches whose rounds differ in fidelity."
    figures = (
        Figure(
            "Best so far",
            "True accuracy of the best so far: median over repetitions, with bands from the 10 % to the 90 % quantile.",
            EVALUATIONS,
            "true accuracy, %",
            _curves(searches, "accuracy", 100.0, band=True),
            log_x=True,
        ),
        Figure(
            "Regret",
            "Mean over repetitions; a line ends where all of them have found the best.",
            EVALUATIONS,
            "mean regret, hundredths",
            _curves(searches, "regret", 100.0),
            log_x=True,
            log_y=True,
        ),
        Figure(
            "Found the best of the table",
            "Share of the repetitions.",
            EVALUATIONS,
            "share, %",
            _curves(searches, "found", 100.0),
            log_x=True,
        ),
        Figure(
            "Entropy",
            "Of the policy's probabilities, or of how frequent options are in a population; summed over choices, mean "
            f"over repetitions.{uneven}",
            EVALUATIONS,
            "entropy, nats",
            _curves(even, "entropy", 1.0),
            log_x=True,
        ),
        Figure(
            "Reward of the proposals",
            f"Mean over the proposals of a round and over repetitions: what is asked for, not the best of it.{uneven}",
            EVALUATIONS,
            "mean reward",
            _curves(even, "reward", 1.0),
            log_x=True,
        ),
    )
    of_label = looks(figures)
    drawn = [draw(each, of_label, f"figure-{number}") for number, each in enumerate(figures) if each.curves]
    panels = "".join(f'<div class="panel">{each}</div>' for each in drawn)
    words = "A search has the same colour, dashes and marker everywhere. Rest the pointer on a line to see its name."
    return f'<h2>Figures</h2><p class="quiet">{words}</p><div class="plots">{panels}</div>'


def _rounds_are_alike(search: Mapping[str, Any]) -> bool:
    """Whether every round spends as much as the first, as far as the result has them."""
    spent, rounds = (np.asarray(search["by_round"][name], float) for name in ("spent", "round"))
    return bool(np.allclose(spent, rounds * spent[0]))


def _curves(searches: Searches, name: str, scale: float, *, band: bool = False) -> tuple[Curve, ...]:
    """A line for every search over the evaluations that it spent, missing values as gaps."""

    def values(search: Mapping[str, Any], of: str) -> np.ndarray:
        return scale * np.array([np.nan if value is None else value for value in search["by_round"][of]], float)

    curves = []
    for label, search in searches.items():
        ends = (values(search, "low"), values(search, "high")) if band else (None, None)
        curves.append(Curve(label, np.asarray(search["by_round"]["spent"], float), values(search, name), *ends))
    return tuple(curves)
