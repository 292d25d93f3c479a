"""The report of a run: one HTML file that needs nothing else, neither network nor scripts."""

import contextlib
import os
from pathlib import Path

from jaxnas.core.errors import UserError
from jaxnas.report import dynamics, sections
from jaxnas.report.markup import text
from jaxnas.report.record import RunRecord
from jaxnas.report.style import STYLE


def render(record: RunRecord) -> str:
    """The page as text; the same record gives the same page. Sections without data are left out."""
    title = f"{text(record.result['method'])} on {text(record.result['data'])}"
    body = "".join(
        section(record)
        for section in (
            sections.headline,
            sections.against_random,
            sections.derived_cells,
            dynamics.search_curves,
            dynamics.probabilities,
            dynamics.retraining_curves,
            sections.seed_table,
            sections.settings,
        )
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def write_report(path: str | os.PathLike[str], record: RunRecord) -> None:
    """Writes the report of a run to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written (no such folder, no permission, disk full); an older report stays.
    """
    path, page = Path(path), render(record).encode()
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"cannot write the report {str(path)!r}: {error.strerror or error}.") from error
