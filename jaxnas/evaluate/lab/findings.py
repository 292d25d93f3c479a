"""What an experiment of the lab is, and what it finds: the types that experiments, runner and report share."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

Cell = Mapping[str, Any]  # the labels of one unit of work, as JSON knows them: {"dim": 8, "estimator": "ste"}


class Curve(NamedTuple):
    """Values `mean` [n] over `x` [n], with a band from `low` to `high` where there is one; `marks`: points, no line."""

    label: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    marks: bool = False


class Figure(NamedTuple):
    """Curves in one plot. The same label has the same colour in all figures of a report."""

    title: str
    caption: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False


class Table(NamedTuple):
    """Rows of text under column names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


class Findings(NamedTuple):
    """What came out: `numbers` for result.json, sentences in plain words, figures and tables for the report."""

    numbers: Mapping[str, Any]
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]


class Experiment(NamedTuple):
    """What to measure.

    cells: the units of work, in the order in which they run.
    shapes: every quantity that a cell measures, {name: shape}; all are float64.
    measure: cell -> {name: values}, a pure function of the cell and the experiment's settings.
    conclude: {name: [cells, *shape]}, of all cells -> what they show.
    timed: whether times are measured, so that a cell needs the machine for itself; else threads measure several cells.
    """

    name: str
    cells: tuple[Cell, ...]
    shapes: Mapping[str, tuple[int, ...]]
    measure: Callable[[Cell], Mapping[str, np.ndarray]]
    conclude: Callable[[Mapping[str, np.ndarray]], Findings]
    timed: bool = False
