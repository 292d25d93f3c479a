"""Small pieces of HTML, with everything that a person could have typed escaped."""

import html
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def text(value: object) -> str:
    """A value as text that is safe inside an element or an attribute."""
    return html.escape(str(value))


def percent(fraction: float | None) -> str:
    """A fraction of 1 as per cent; a dash where there is none."""
    return "&ndash;" if fraction is None else f"{100 * fraction:.2f} %"


def mean_percent(summary: Mapping[str, float | None] | None) -> str:
    """{mean, std} of fractions as mean ± standard deviation in per cent, as HTML."""
    if not summary or summary.get("mean") is None:
        return "&ndash;"
    mean, std = summary["mean"], summary.get("std")
    return percent(mean) if std is None else f"{100 * (mean or 0):.2f} <small>± {100 * std:.2f} %</small>"


def count(number: float | None) -> str:
    """A large number to three digits: 528 M."""
    if number is None:
        return "&ndash;"
    rounded = float(f"{number:.3g}")
    power = min(4, int(math.log10(max(rounded, 1)) // 3))
    return f"{rounded / 1000**power:.4g} {('', 'k', 'M', 'G', 'T')[power]}".strip()


def duration(seconds: float | None) -> str:
    """Seconds in the two units that matter."""
    if seconds is None:
        return "&ndash;"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def subscripts(name: str) -> str:
    """A name as HTML, with what it writes as c_{k-2} as c and its subscript."""
    return re.sub(r"c_\{(.*?)\}", lambda match: f"c<sub>{match[1].replace('-', '&minus;')}</sub>", text(name))


def figure(svg: str, caption: str = "", *, title: str = "", scroll: bool = False) -> str:
    """A figure with its title and caption, both already HTML; `scroll` keeps its size on narrow screens."""
    head = f"<h3>{title}</h3>" if title else ""
    foot = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{head}<div{' class=scroll' if scroll else ''}>{svg}</div>{foot}</figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A table of cells that are already HTML; the columns in `numbers` are set to the right."""

    def line(kind: str, cells: Sequence[str]) -> str:
        marks = [' class="number"' if at in numbers else "" for at in range(len(cells))]
        return "".join(f"<{kind}{mark}>{cell}</{kind}>" for mark, cell in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    header = f"<thead><tr>{line('th', head)}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table class="wide">{header}<tbody>{body}</tbody></table></div>'


def tile(name: str, value: str, note: str) -> str:
    """One figure of a headline with its name and a note, all already HTML."""
    return f'<div class="panel tile"><span class="name">{name}</span><b>{value}</b><span>{note}</span></div>'


def folded(title: str, content: str) -> str:
    """Content that opens on a click; the title is HTML."""
    return f'<details class="panel"><summary>{title}</summary>{content}</details>'


def flat(nested: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested settings as (dotted name, value), in order."""
    items: list[tuple[str, object]] = []
    for name, value in nested.items():
        dotted = f"{prefix}{name}"
        items += flat(value, f"{dotted}.") if isinstance(value, Mapping) and value else [(dotted, value)]
    return items


def settings_section(tables: Mapping[str, Sequence[tuple[str, object]]]) -> str:
    """The section with the settings, {title: (name, value) of each}, folded; tables without rows are left out."""
    panels = [
        folded(text(title), table(["", ""], [[f"<code>{text(name)}</code>", text(value)] for name, value in rows]))
        for title, rows in tables.items()
        if rows
    ]
    return f'<h2>Settings</h2><div class="stack">{"".join(panels)}</div>' if panels else ""
