"""Nested networks that were trained together: how small and large ones fare over time, in one search and in several."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.evaluate.lab.findings import Curve, Figure
from jaxnas.report.figures import Series, curves
from jaxnas.report.lab_figures import Look, draw
from jaxnas.report.markup import figure
from jaxnas.report.palette import ACCENT, CURVE_INKS
from jaxnas.report.record import RunRecord
from jaxnas.search.subnets import subnet_accuracies

# Whose accuracies are shown: the name in the history, and the colour.
OF = (("largest", ACCENT), ("middle", CURVE_INKS[1]), ("smallest", CURVE_INKS[2]))


def subnets(record: RunRecord) -> str:
    """Accuracies with the shared weights of the same architectures at every epoch in which these learn.

    Empty for searches whose architectures are not nested.
    """
    values = subnet_accuracies(record.history)
    if not values:
        return ""
    series = [Series(name, values[name], ink) for name, ink in OF if name in values]
    svg = curves(series, "subnets", "Accuracy of nested networks", percent=True, stages=record.stages)
    caption = (
        "Smallest and largest have the first or the last option of every choice, middle the one between. Where small "
        "networks rise while the largest falls, they interfere."
    )
    words = (
        "Accuracy on the validation half with the weights as they were after every epoch of training, the same "
        "architectures throughout, whether they were trained by then or not."
    )
    plot = f'<div class="plots"><div class="panel">{figure(svg, caption, title="Accuracy of subnets")}</div></div>'
    return f'<h2>Nested networks</h2><p class="quiet">{words}</p>{plot}'


def compared_subnets(rows: Sequence[Mapping[str, Any]], of_name: Mapping[str, Look]) -> str:
    """The same for searches side by side: a panel for each of the networks, in it a curve for each search.

    rows: with "name" and "subnets", {network: [seeds][epochs]} of accuracies, None or absent for searches whose
    architectures are not nested. of_name: how the curve of a row is drawn. Empty where no row has any.
    """
    known = [row for row in rows if row.get("subnets")]
    if not known:
        return ""
    figures = [
        Figure(
            f"The {name} network",
            "",
            "of the epochs that train weights, %",
            "accuracy, %",
            tuple(_curve(row["name"], row["subnets"][name]) for row in known if name in row["subnets"]),
        )
        for name, _ in reversed(OF)
    ]
    panels = [draw(each, of_name, f"subnet-{number}") for number, each in enumerate(figures) if each.curves]
    words = (
        "Accuracy on the validation half with the shared weights as they were after every epoch of training; the mean "
        "over seeds, and a band from the lowest to the highest. Where small networks rise while the largest falls, "
        "they interfere. Epochs of different searches may train different numbers of subnets a step."
    )
    plots = "".join(f'<div class="panel">{one}</div>' for one in panels)
    return f'<h2>Nested networks</h2><p class="quiet">{words}</p><div class="plots">{plots}</div>'


def _curve(label: str, accuracies: Sequence[Sequence[float | None]]) -> Curve:
    """Of [seeds][epochs]; what is null in a file of results is NaN."""
    values = 100 * np.asarray(accuracies, float)
    share = 100 * np.arange(1, values.shape[1] + 1) / values.shape[1]
    ends = (values.min(axis=0), values.max(axis=0)) if len(values) > 1 else (None, None)
    return Curve(label, share, values.mean(axis=0), *ends)
