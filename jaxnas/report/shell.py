"""What every page of a report shares: one HTML file that needs nothing else, neither network nor scripts."""

import contextlib
import os
from pathlib import Path

from jaxnas.core.errors import UserError
from jaxnas.report.style import STYLE


def document(title: str, body: str, *, css: str = "") -> str:
    """A whole page from its title and its body, both already HTML; `css` is added to the style of all reports."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{css}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Writes a page to `path`, whole or not at all; its folder has to exist.

    Raises:
        UserError: the file cannot be written (no such folder, no permission, disk full); an older report stays.
    """
    path, content = Path(path), page.encode()
    temporary = path.with_name(f"{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"cannot write the report {str(path)!r}: {error.strerror or error}.") from error
