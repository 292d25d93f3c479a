"""The page that compares several methods: one table, every seed's accuracy, and accuracy against time.

Nothing is declared the winner: a mean over few seeds does not settle which method is best, so that the page shows the
seeds themselves, their spread, and the random baseline beside everything.
"""

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab.findings import Curve, Figure
from jaxnas.report.lab_figures import Look, draw, looks_of
from jaxnas.report.markup import count, duration, figure, table, text
from jaxnas.report.palette import ACCENT, INK, MUTED
from jaxnas.report.ranking import ranking_figure
from jaxnas.report.shell import document, write_page
from jaxnas.report.style import COMPARISON_STYLE
from jaxnas.report.subnets import compared_subnets
from jaxnas.report.svg import canvas, end_at_hundred, inline, panel, style

Row = Mapping[str, Any]  # one method: see `render_comparison`
WIDTH, LINE = 460.0, 30.0  # of the figure of all seeds, and the height of a method in it, in pixels
LETTER = 6.8  # the width of a letter of a method's name, in pixels, with a reserve
MARK = " (baseline)"


class _Column(NamedTuple):
    """A column of the table: its head, whether a row has anything to show in it, and what it shows, as plain text."""

    head: str
    known: Callable[[Row], bool]
    cell: Callable[[Row], str]


def render_comparison(title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The page as text; the same rows give the same page.

    Methods stand in the order of their mean test accuracy, or of the true one where none was tested.

    rows: one for each method, with "name", "accuracies" (test accuracy of every seed, fractions of 1), "true" (those
    of a table), "seconds" and "compile" (of the search), "memory_bytes", "params", "mult_adds" and "cost" (of every
    seed), "rank_correlation" (between the search's ranking and the true one), "rank_interval" (low, high), "ranked"
    (see `report.ranking`), "subnets" (see `report.subnets`) and "is_baseline". Whatever but the name is missing, None
    or empty shows as a dash, and a column without any value is left out.
    notes: paragraphs below the title, as plain text.
    Raises UserError for no rows, for rows without a name, and for two rows of one name.
    """
    ordered = _ordered(rows)
    paragraphs = "".join(f"<p>{text(note)}</p>" for note in notes)
    head = f'<header><div class="eyebrow">Comparison of methods</div><h1>{text(title)}</h1>{paragraphs}</header>'
    of_name = looks_of(row["name"] for row in ordered)
    body = _table(ordered) + _figures(ordered, of_name) + compared_subnets(ordered, of_name)
    return document(text(title), head + body, css=COMPARISON_STYLE)


def write_comparison(path: str | os.PathLike[str], title: str, rows: Sequence[Row], notes: Sequence[str] = ()) -> None:
    """Writes the page of `render_comparison` to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written (see shell.write_page), or the rows are wrong.
    """
    write_page(path, render_comparison(title, rows, notes))


def markdown_table(rows: Sequence[Row]) -> str:
    """The table of `render_comparison` in Markdown, for documents; ends with a line break. Raises as that does."""
    ordered = _ordered(rows)
    columns = _columns(ordered)
    lines = [[column.head for column in columns], ["---", *(["---:"] * (len(columns) - 1))]]
    lines += [[column.cell(row).replace("|", "\\|") for column in columns] for row in ordered]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows by falling mean accuracy, those without one last; raises UserError for rows that are wrong."""
    if not rows:
        raise UserError("a comparison needs at least one method, but has none.")
    names = [row.get("name") for row in rows]
    for number, name in enumerate(names):
        if not name:
            raise UserError(f"row {number} of the comparison has no name.")
        if name in names[:number]:
            raise UserError(f"the comparison has two rows named {name!r}; give each method a name of its own.")
    field = _judged_by(rows)[0]
    return sorted(rows, key=lambda row: -(_mean(row, field) or 0.0))


def _judged_by(rows: Sequence[Row]) -> tuple[str, str]:
    """The accuracies that order and figures go by, and their name: a table's where nothing was trained and tested."""
    tested = any(_values(row, "accuracies") for row in rows)
    return ("accuracies", "test accuracy") if tested else ("true", "true accuracy")


def _values(row: Row, name: str) -> list[float]:
    """What a row has of every seed, without the seeds that lack it."""
    return [float(value) for value in row.get(name) or () if value is not None and np.isfinite(value)]


def _mean(row: Row, name: str) -> float | None:
    values = _values(row, name)
    return statistics.fmean(values) if values else None


def _columns(rows: Sequence[Row]) -> list[_Column]:
    """The columns that at least one of the rows has a value for."""
    columns = [
        _Column("method", lambda row: True, lambda row: f"{row['name']}{MARK if row.get('is_baseline') else ''}"),
        _of_seeds("test accuracy, %", "accuracies", _per_cent),
        _Column(
            "seeds", lambda row: bool(_values(row, "accuracies")), lambda row: str(len(_values(row, "accuracies")))
        ),
        _of_seeds("true accuracy, %", "true", _per_cent),
        _of_seeds("better than, %", "better_than", _per_cent),
        _single("search", "seconds", duration),
        _single("compile", "compile", duration),
        _single("memory", "memory_bytes", _bytes),
        _of_seeds("parameters", "params", _counts),
        _of_seeds("mult-adds", "mult_adds", _counts),
        _of_seeds("cost", "cost", _counts),
        _Column("rank correlation", lambda row: _has(row, "rank_correlation"), _rank),
    ]
    return [column for column in columns if any(column.known(row) for row in rows)]


def _of_seeds(head: str, name: str, form: Callable[[Sequence[float]], str]) -> _Column:
    return _Column(head, lambda row: bool(_values(row, name)), lambda row: form(_values(row, name)) or "–")


def _single(head: str, name: str, form: Callable[[float], str]) -> _Column:
    return _Column(head, lambda row: _has(row, name), lambda row: form(row[name]) if _has(row, name) else "–")


def _has(row: Row, name: str) -> bool:
    """Whether a row has a finite number of this name."""
    return row.get(name) is not None and bool(np.isfinite(row[name]))


def _rank(row: Row) -> str:
    """The correlation with its interval where that is known: "0.61 [0.48, 0.72]"."""
    if not _has(row, "rank_correlation"):
        return "–"
    low, high = row.get("rank_interval") or (None, None)
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{row['rank_correlation']:.2f}{interval}"


def _per_cent(values: Sequence[float]) -> str:
    """Fractions as mean ± sample standard deviation, in per cent; the mean alone of a single one."""
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread}" if values else ""


def _counts(values: Sequence[float]) -> str:
    """Numbers as mean ± sample standard deviation; the mean alone where all are the same."""
    if not values:
        return ""
    spread = f" ± {count(statistics.stdev(values))}" if len(set(values)) > 1 else ""
    return f"{count(statistics.fmean(values))}{spread}"


def _bytes(value: float) -> str:
    """A number of bytes, in powers of 1000."""
    number = count(value)
    return f"{number}B" if number[-1].isalpha() else f"{number} B"


def _table(rows: Sequence[Row]) -> str:
    columns = _columns(rows)
    cells = [[text(column.cell(row)) for column in columns] for row in rows]
    for row, line in zip(rows, cells, strict=True):
        if row.get("is_baseline"):
            line[0] = f"<b>{text(row['name'])}</b>{MARK}"
    judged = _judged_by(rows)[1]
    head = [column.head + ("\N{NO-BREAK SPACE}▾" if column.head.startswith(judged) else "") for column in columns]
    spread = any(len(set(_values(row, name))) > 1 for row in rows for name in ("accuracies", "true", "params"))
    means = " Numbers after ± are sample standard deviations over seeds." if spread else ""
    words = f"In the order of mean {judged}, which says little where methods lie within each other's spread.{means}"
    body = table(head, cells, range(1, len(columns)))
    return f'<h2>Methods</h2><p class="quiet">{words}</p><div class="panel">{body}</div>'


def _figures(rows: Sequence[Row], of_name: Mapping[str, Look]) -> str:
    panels = []
    field, judged = _judged_by(rows)
    known = [row for row in rows if _values(row, field)]
    if known:
        reference = " Dashed: the random baseline's mean." if _baseline(known) is not None else ""
        caption = f"Dots: single seeds. Bar and line: their mean ± sample standard deviation.{reference}"
        panels.append(figure(_seeds(known), caption, title=f"{judged.capitalize()} of every seed"))
    timed = [row for row in known if row.get("seconds")]
    if len({row["seconds"] for row in timed}) > 1:
        panels.append(_against_time(timed, of_name))
    inside = "".join(f'<div class="panel">{each}</div>' for each in panels)
    plots = f'<h2>Figures</h2><div class="plots">{inside}</div>' if panels else ""
    ranked = [
        row for row in rows if row.get("ranked") and np.any(np.isfinite(np.asarray(row["ranked"]["true"], float)))
    ]
    if not ranked:
        return plots
    caption = "Dots: the architectures that were ranked, the mean over seeds. A perfect order would only rise."
    drawn = figure(ranking_figure(ranked), caption, title="What shared weights say, and what is true")
    return f'{plots}<h2>Ranking</h2><div class="panel">{drawn}</div>'


def _baseline(rows: Sequence[Row]) -> float | None:
    """The mean accuracy of the first baseline among the rows."""
    return next((_mean(row, _judged_by(rows)[0]) for row in rows if row.get("is_baseline")), None)


def _seeds(rows: Sequence[Row]) -> str:
    """The <svg> of every seed's accuracy, a line for each method."""
    field, judged = _judged_by(rows)
    left = 20 + LETTER * max(len(row["name"]) for row in rows)
    left, height = min(left, WIDTH / 2), LINE * len(rows) + 60
    with style():
        sheet = canvas(WIDTH, height)
        axes = panel(sheet, left, 10, WIDTH - left - 20, height - 60)
        reference = _baseline(rows)
        if reference is not None:
            axes.axvline(100 * reference, color=MUTED, linewidth=1.4, linestyle=(0, (3, 2)), zorder=1)
        for at, row in enumerate(rows):
            values = [100 * value for value in _values(row, field)]
            mean, ink = statistics.fmean(values), MUTED if row.get("is_baseline") else ACCENT
            axes.scatter(values, [at] * len(values), s=34, color=ink, alpha=0.55, linewidths=0, zorder=2)
            if len(values) > 1:
                spread = statistics.stdev(values)
                axes.plot([mean - spread, mean + spread], [at, at], color=INK, linewidth=1.4, zorder=3)
            axes.plot([mean, mean], [at - 0.24, at + 0.24], color=INK, linewidth=2.4, zorder=4)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [_clipped(row["name"], left) for row in rows])
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_color(MUTED if row.get("is_baseline") else INK)
        axes.margins(x=0.08)
        end_at_hundred(axes)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(f"{judged}, %", fontsize=10)
        return inline(sheet, "seeds", f"{judged.capitalize()} of every seed of every method")


def _clipped(name: str, room: float) -> str:
    """A name that fits beside the plot: the table above has it in full."""
    letters = int((room - 20) / LETTER)
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _against_time(rows: Sequence[Row], of_name: Mapping[str, Look]) -> str:
    """The figure of mean accuracy ± standard deviation against the seconds of the search, a point for each method."""
    points = []
    field, judged = _judged_by(rows)
    for row in rows:
        values = [100 * value for value in _values(row, field)]
        mean = statistics.fmean(values)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        ends = (np.array([mean - spread]), np.array([mean + spread])) if spread else (None, None)
        points.append(Curve(row["name"], np.array([row["seconds"]]), np.array([mean]), *ends, marks=True))
    seconds = [row["seconds"] for row in rows]
    title, caption = "Accuracy against time", f"Mean ± sample standard deviation of the {judged} over seeds."
    wide = max(seconds) > 8 * min(seconds)
    plot = Figure(title, caption, "seconds of the search", f"{judged}, %", tuple(points), log_x=wide)
    return draw(plot, of_name, "time")
