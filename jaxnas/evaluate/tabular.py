"""Tables of architectures whose true accuracy somebody has measured: tabular benchmarks, as CSV files.

A table has a header, `architecture,METRIC,...`, and a line for every architecture: its canonical string in the space,
and a number for every metric. NAS-Bench-Macro (Su et al. 2021) and NAS-Bench-201 (Dong & Yang 2020) are of this form.
Values keep the table's own unit. Where that is percent, a scale of 0.01 gives fractions, as accuracies are elsewhere.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnas.core.errors import UserError, unknown
from jaxnas.core.types import Architecture, Array, Space

FIRST_COLUMN = "architecture"


class Table(NamedTuple):
    """What is known of the architectures of a space.

    metrics: the names of the columns. rows: {canonical string: its row in values}.
    values: float64 [architectures, metrics], in the table's own units.
    """

    space: Space
    metrics: tuple[str, ...]
    rows: Mapping[str, int]
    values: np.ndarray


def read_table(path: str | Path, space: Space) -> Table:
    """Reads a table from a CSV file.

    Raises UserError, with the number of the line where there is one, for a file that cannot be read or is empty, a
    header that does not begin with "architecture", a line with too few or too many fields, an architecture that is not
    of the space or is listed twice, and a value that is no finite number.
    """
    lines = _lines(Path(path))
    _, header = next(lines, (0, []))
    if not header:
        raise UserError(f"the table {str(path)!r} is empty; its first line is to be {FIRST_COLUMN},METRIC,...")
    first, *metrics = (name.strip() for name in header)
    if first != FIRST_COLUMN or not metrics:
        wrong = "names no metric" if first == FIRST_COLUMN else f"begins with {first!r}"
        raise UserError(f"line 1 of the table {str(path)!r} {wrong}; it has to be {FIRST_COLUMN},METRIC,...")
    if len(set(metrics)) < len(metrics) or "" in metrics:
        raise UserError(f"line 1 of the table {str(path)!r} names a metric twice, or not at all: {', '.join(metrics)}.")
    found: dict[str, int] = {}  # canonical string -> line
    values = []
    for number, fields in lines:
        where = f"line {number} of the table {str(path)!r}"
        if len(fields) != len(header):
            raise UserError(f"{where} has {len(fields)} fields, but its header has {len(header)}.")
        text = _canonical(space, fields[0], where)
        if text in found:
            raise UserError(f"{where} lists the architecture {text!r} again, which line {found[text]} has.")
        found[text] = number
        values.append([_number(field, name, where) for name, field in zip(metrics, fields[1:], strict=True)])
    if not values:
        raise UserError(f"the table {str(path)!r} has a header and no architectures.")
    rows = {text: row for row, text in enumerate(found)}
    return Table(space, tuple(metrics), rows, np.asarray(values))


def column(table: Table, metric: str, scale: float = 1.0) -> np.ndarray:
    """A metric of all architectures that are listed, times `scale`: float64 [architectures].

    Raises UserError for a metric that the table does not have.
    """
    return scale * table.values[:, _index(table, metric)]


def lookup(table: Table, architecture: Architecture, metric: str, scale: float = 1.0) -> float:
    """A metric of one architecture, times `scale`.

    Raises UserError for a metric or an architecture that the table does not have.
    """
    index = _index(table, metric)
    text = table.space.canonical(architecture)
    if text not in table.rows:
        raise UserError(
            f"the table does not list the architecture {text!r}; it has {len(table.rows)} of the {table.space.size} "
            f"architectures of {table.space.name!r}."
        )
    return scale * float(table.values[table.rows[text], index])


def true_values(
    table: Table, architectures: Mapping[str, Array | np.ndarray], metric: str, scale: float = 1.0
) -> np.ndarray:
    """A metric of many architectures, times `scale`, NaN for those that the table does not list.

    architectures: {part: integers [..., choices]} -> float64 [...]. Raises UserError for an unknown metric.
    """
    known = np.append(column(table, metric, scale), np.nan)
    arrays = {part: np.asarray(architectures[part]) for part in table.space.shapes}
    shape = next(iter(arrays.values())).shape[:-1]
    flat = np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays.values()], axis=1)
    # A search names the same architecture in many epochs, and writing one as text is slow.
    different, where = np.unique(flat, axis=0, return_inverse=True)
    ends = np.cumsum([array.shape[-1] for array in arrays.values()])[:-1]

    def row_of(numbers: np.ndarray) -> int:
        one: Any = dict(zip(arrays, np.split(numbers, ends), strict=True))
        return table.rows.get(table.space.canonical(one), -1)  # -1: the NaN at the end of `known`

    rows = np.asarray([row_of(one) for one in different], int)
    return known[rows[where.reshape(-1)]].reshape(shape)


def true_history(
    table: Table, history: Mapping[str, Array | np.ndarray], metric: str, scale: float = 1.0
) -> np.ndarray:
    """A metric of what every epoch of a search would have derived: float64 [seeds, epochs], NaN where not listed.

    history: of a search, with "architecture/PART", integers [seeds, epochs, choices], for every part of the space.
    Raises UserError for a metric that the table does not have.
    """
    return true_values(table, {part: history[f"architecture/{part}"] for part in table.space.shapes}, metric, scale)


def _lines(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """The number and the fields of every line that is not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
    except FileNotFoundError as error:
        raise UserError(f"there is no table {str(path)!r}.") from error
    except OSError as error:
        raise UserError(f"the table {str(path)!r} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the table {str(path)!r} is not a CSV file: {error}.") from error


def _canonical(space: Space, text: str, where: str) -> str:
    try:
        return space.canonical(space.parse(text))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _number(text: str, metric: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where} has {text!r} for {metric}, which is no finite number.")
    return value


def _index(table: Table, metric: str) -> int:
    if metric not in table.metrics:
        raise unknown("metric of the table", metric, table.metrics)
    return table.metrics.index(metric)
