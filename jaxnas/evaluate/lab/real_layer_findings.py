"""What the estimators do on a real layer: figures, tables, numbers and sentences."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnas.evaluate.lab.contenders import mean_and_sd, values, where
from jaxnas.evaluate.lab.findings import Cell, Findings, Table
from jaxnas.evaluate.lab.one_step_findings import ranking, rate_figure


def findings(
    cells: Sequence[Cell],
    titles: Mapping[str, str],
    rates: np.ndarray,
    coordinates: int,
    measured: Mapping[str, np.ndarray],
) -> Findings:
    """Loss decrease against the rate and a table of cosines, for every layer and student."""
    figures, tables, sentences, numbers = [], [], [], {}
    for layer in values(cells, "layer"):
        for student in values(cells, "student"):
            about = f"{student.capitalize()} network, layer {layer}"
            mine = {label: where(cells, layer=layer, student=student, estimator=label) for label in titles}
            figures.append(rate_figure(about, titles, rates, measured, mine))
            tables.append(_table(about, titles, coordinates, measured, mine))
            reached = {title: measured["best_decrease"][mine[label]] for label, title in titles.items()}
            everyone = where(cells, layer=layer, student=student)
            accuracy = measured["accuracy"][everyone].mean()
            sentences.append(ranking(f"On layer {layer} of {student} networks ({accuracy:.0%} accurate)", reached))
            numbers.setdefault(f"layer {layer}", {})[student] = {
                "accuracy": float(accuracy),
                "loss_before": float(measured["before"][everyone].mean()),
                "estimators": {label: _summary(measured, rows) for label, rows in mine.items()},
            }
    return Findings(numbers, tuple(sentences), tuple(figures), tuple(tables))


def _summary(measured: Mapping[str, np.ndarray], rows: Sequence[int]) -> dict[str, float]:
    pairs = {name: mean_and_sd(measured[name][rows]) for name in ("cosine", "best_decrease")}
    numbers = {
        f"{name}{end}": float(v) for name, pair in pairs.items() for end, v in zip(("", "_sd"), pair, strict=True)
    }
    return numbers | {"best_rate": float(np.median(measured["best_rate"][rows]))}


def _table(
    about: str,
    titles: Mapping[str, str],
    coordinates: int,
    measured: Mapping[str, np.ndarray],
    mine: Mapping[str, Sequence[int]],
) -> Table:
    rows = []
    for label, title in titles.items():
        found = _summary(measured, mine[label])
        rows.append(
            (
                title,
                f"{found['cosine']:.3f} ± {found['cosine_sd']:.3f}",
                f"{found['best_decrease']:.3g} ± {found['best_decrease_sd']:.2g}",
                f"{found['best_rate']:.2g}",
            )
        )
    return Table(
        about,
        ("estimator", "cosine to CDG", "best loss decrease", "at the rate"),
        tuple(rows),
        f"Cosines on {coordinates} coordinates of the kernel; a step of CDG changes those only. Mean ± standard "
        "deviation over networks and batches; rates in lengths of the kernel.",
    )
