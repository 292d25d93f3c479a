"""The report of an experiment of the lab: what was found in words, the figures, the tables and the settings."""

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxnas.evaluate.lab.findings import Findings, Table
from jaxnas.report.lab_figures import draw, looks
from jaxnas.report.markup import duration, figure, flat, folded, settings_section, table, text
from jaxnas.report.shell import document, write_page
from jaxnas.report.style import LAB_STYLE


class LabRecord(NamedTuple):
    """Everything that an experiment left behind.

    name: the experiment's, as in its config.
    config: nested plain values.
    findings: what it found.
    seconds: how long it took, all its sessions together; None where that is not known.
    versions: {library: version}.
    question: what the experiment asks, in a sentence.
    """

    name: str
    config: Mapping[str, Any]
    findings: Findings
    seconds: float | None
    versions: Mapping[str, Any]
    question: str = ""


def render_lab(record: LabRecord) -> str:
    """The page as text; the same record gives the same page. Sections without content are left out."""
    found = record.findings
    title = _words(record.name)
    body = _headline(record) + _sentences(found) + _figures(found) + _tables(found)
    body += settings_section({"Config": flat(record.config), "Versions": flat(record.versions)})
    return document(f"{text(title)} · estimator lab", body, css=LAB_STYLE)


def write_lab_report(path: str | os.PathLike[str], record: LabRecord) -> None:
    """Writes the report of an experiment to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written; see shell.write_page.
    """
    write_page(path, render_lab(record))


def _words(name: str) -> str:
    """A name as words: cosine_and_cost -> Cosine and cost."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _headline(record: LabRecord) -> str:
    facts = [f"seed {record.config['seed']}"] if "seed" in record.config else []
    facts += [f"took {duration(record.seconds)}"] if record.seconds is not None else []
    if record.config.get("small"):
        facts.append("small variant: it shows that everything runs; the full one settles the question")
    asks = f"<p>{text(record.question)}</p>" if record.question else ""
    quiet = f'<p class="quiet">{text(" · ".join(facts))}</p>' if facts else ""
    return f'<header><div class="eyebrow">Estimator lab</div><h1>{text(_words(record.name))}</h1>{asks}{quiet}</header>'


def _sentences(found: Findings) -> str:
    if not any((found.sentences, found.figures, found.tables, found.numbers)):
        return '<div class="panel findings"><p>The experiment has no findings.</p></div>'
    words = "".join(f"<p>{text(sentence)}</p>" for sentence in found.sentences)
    return f'<h2>What was found</h2><div class="panel findings">{words}</div>' if words else ""


def _figures(found: Findings) -> str:
    of_label = looks(found.figures)
    drawn = [draw(each, of_label, f"figure-{number}") for number, each in enumerate(found.figures)]
    panels = "".join(f'<div class="panel">{each}</div>' for each in drawn)
    notes = []
    curves = [curve for each in found.figures for curve in each.curves]
    if len(drawn) > 1:
        notes.append("A label has the same colour, dashes and marker in every figure.")
    if len(curves) > 1:
        notes.append("Rest the pointer on a line to see its name.")
    words = f'<p class="quiet">{" ".join(notes)}</p>' if notes else ""
    return f'<h2>Figures</h2>{words}<div class="plots">{panels}</div>' if panels else ""


def _tables(found: Findings) -> str:
    panels = [f'<div class="panel">{_table(each)}</div>' for each in found.tables]
    if found.numbers:
        rows = [[f"<code>{text(name)}</code>", text(_short(value))] for name, value in flat(found.numbers)]
        panels.append(folded("All numbers", table(["", ""], rows)))
    return f'<h2>Numbers</h2><div class="stack">{"".join(panels)}</div>' if panels else ""


def _table(each: Table) -> str:
    numbers = [at for at in range(len(each.columns)) if each.rows and all(_numeric(row[at]) for row in each.rows)]
    cells = [[text(cell) for cell in row] for row in each.rows]
    return figure(
        table([text(column) for column in each.columns], cells, numbers), text(each.caption), title=text(each.title)
    )


def _numeric(cell: str) -> bool:
    """Whether a cell begins like a number, or is empty or a dash."""
    return bool(re.match(r"[-+±≤≥<>−–\s]*(\d|\.\d|$|nan|inf)", cell))


def _short(value: object) -> object:
    """A number to six digits; everything else as it is."""
    return f"{value:.6g}" if isinstance(value, float) else value
