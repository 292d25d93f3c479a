"""Measured latency: the pieces of a family's networks, timed in compiled programs, as a table and as a cost of gates.

The cost is a sum over pieces, as in ProxylessNAS (Cai, Zhu & Han 2019, section 3.3) and FBNet (Wu et al. 2019, section
3.3). A table is a small CSV file: comments that begin with "#" and say what was measured, a header, and a row for each
piece. The row "rest" is what whole networks take beyond their pieces; it may be negative where a network overlaps them.

A sum cannot know what a compiler leaves out: in NAS-Bench-201 an edge between two nodes of which one is cut off by
`none` takes no time in a network, and is counted all the same. Chains have no such edges.

    # jaxnas latency table, version 1
    # device: cpu
    # family: proxylessnas
    # units: ms
    # batch_size: 1
    # jax: 0.10.0
    component,milliseconds,spread
    mbconv_k3_e6 24x56x56 c40 s2,0.4131,0.0102
    rest,1.205,0.03
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from jaxnas.core.errors import UserError
from jaxnas.costs.terms import ExpectedCost, components, expected_cost, tabulate
from jaxnas.networks.family import Family, Images

VERSION = "jaxnas latency table, version 1"
HEADER = ("component", "milliseconds", "spread")
REST = "rest"


class Timing(NamedTuple):
    """The median of some repetitions in milliseconds, and their interquartile range, None where it is not known."""

    milliseconds: float
    spread: float | None = None


class LatencyTable(NamedTuple):
    """Timings by the name of the component, and "rest" where it is known.

    about: what else the comments of the file say, such as {"device": "cpu", "family": "darts", "batch_size": "1"}.
    """

    rows: Mapping[str, Timing]
    about: Mapping[str, str]


def write_latency_table(path: str | Path, table: LatencyTable) -> None:
    """Writes a table; five digits are kept. Raises UserError where the file cannot be written."""
    try:
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            about = {"units": "ms", **table.about}
            file.writelines(f"# {line}\n" for line in (VERSION, *(f"{name}: {text}" for name, text in about.items())))
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(HEADER)
            for name, timing in table.rows.items():
                spread = "" if timing.spread is None else f"{timing.spread:.5g}"
                writer.writerow((name, f"{timing.milliseconds:.5g}", spread))
    except OSError as error:
        raise UserError(f"the latency table {path} cannot be written: {error.strerror or error}.") from error


def read_latency_table(path: str | Path) -> LatencyTable:
    """Reads a table of version 1, in milliseconds, measured here or elsewhere; the spread may be missing.

    Raises UserError, naming the line, for whatever is not as it has to be.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"the latency table {str(path)!r} cannot be read: {reason}.") from error
    about = _about(path, {n: line[1:].strip() for n, line in enumerate(lines, start=1) if line.startswith("#")})
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise UserError(f"the latency table {path} is empty: it has no header {','.join(HEADER)}.")
    header = tuple(name.strip() for name in numbered[0][1].split(","))
    if header not in (HEADER, HEADER[:2]):
        raise _wrong(path, numbered[0][0], f"is {numbered[0][1]!r}, but has to be the header {','.join(HEADER)}")
    rows: dict[str, Timing] = {}
    for number, line in numbered[1:]:
        fields = next(csv.reader([line]))
        if len(fields) not in (2, 3) or not fields[0].strip():
            raise _wrong(path, number, f"is {line!r}, but has to be a component, its milliseconds and their spread")
        name = fields[0].strip()
        if name in rows:
            raise _wrong(path, number, f"names the component {name!r} a second time")
        milliseconds = _number(path, number, fields[1], signed=name == REST)
        rows[name] = Timing(milliseconds, _number(path, number, fields[2]) if "".join(fields[2:]).strip() else None)
    if not set(rows) - {REST}:
        raise UserError(f"the latency table {path} is empty: it has no row of a component.")
    return LatencyTable(rows, about)


def _about(path: str | Path, comments: Mapping[int, str]) -> dict[str, str]:
    """What the comments say, {name: text}, by the lines they are on; UserError unless version and units are known."""
    about: dict[str, str] = {}
    version = False
    for number, line in comments.items():
        name, colon, text = (piece.strip() for piece in line.partition(":"))
        if line.startswith(VERSION.partition(", ")[0]):
            if line != VERSION:
                raise _wrong(path, number, f"says {line!r}, but this program reads {VERSION!r}")
            version = True
        elif colon:
            about[name] = text
        if name == "units" and text != "ms":
            raise _wrong(path, number, f"has the units {text!r}, but this program reads 'ms'")
    if not version:
        raise UserError(f"the latency table {path} does not say its version; line 1 has to be '# {VERSION}'.")
    if "units" not in about:
        raise UserError(f"the latency table {path} does not say its units; it needs the line '# units: ms'.")
    return about


def _number(path: str | Path, line: int, text: str, *, signed: bool = False) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise _wrong(path, line, f"has {text.strip()!r}, which is not a number") from error
    if not math.isfinite(value):
        raise _wrong(path, line, f"has {text.strip()!r}, which is not a finite number")
    if value < 0 and not signed:
        raise _wrong(path, line, f"has {text.strip()}, but milliseconds are not negative")
    return value


def _wrong(path: str | Path, line: int, what: str) -> UserError:
    return UserError(f"line {line} of the latency table {path} {what}.")


def latency_cost(family: Family, images: Images, table: LatencyTable) -> ExpectedCost:
    """Milliseconds of the family's stand-alone networks for these images: the pieces' sum and the row "rest", if any.

    Raises UserError naming the first component of the family that the table lacks.
    """
    measured = table.about.get("family", family.space.name)
    if measured != family.space.name:
        raise UserError(
            f"the latency table is of the family {measured!r}, but the space is {family.space.name!r}; "
            "pieces of one name can differ between families, so measure this one."
        )
    terms = family.terms()
    lacking = [name for name in components(terms) if name not in table.rows]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        size = "x".join(map(str, images.shape))
        raise UserError(
            f"the latency table lacks the component "
            f"{lacking[0]!r}{more} that {family.space.name} has for images of {size}; measure this family."
        )
    values = tabulate(terms, lambda component: table.rows[component.name].milliseconds)
    rest = table.rows[REST].milliseconds if REST in table.rows else 0.0
    return expected_cost(family.space, terms, values, rest)
