"""The report of a run."""

import os

from jaxnas.report import architecture, collapse, dynamics, probabilities, rewards, sections, subnets
from jaxnas.report.markup import text
from jaxnas.report.record import RunRecord
from jaxnas.report.shell import document, write_page


def render(record: RunRecord) -> str:
    """The page as text; the same record gives the same page. Sections without data are left out."""
    title = f"{text(record.result['method'])} on {text(record.result['data'])}"
    body = "".join(
        section(record)
        for section in (
            sections.headline,
            collapse.warnings_box,
            sections.against_random,
            architecture.derived_architecture,
            dynamics.search_curves,
            dynamics.true_accuracy,
            subnets.subnets,
            rewards.rewards,
            dynamics.signs_of_collapse,
            probabilities.probabilities,
            dynamics.retraining_curves,
            sections.seed_table,
            sections.settings,
        )
    )
    return document(title, body)


def write_report(path: str | os.PathLike[str], record: RunRecord) -> None:
    """Writes the report of a run to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written; see shell.write_page.
    """
    write_page(path, render(record))
