"""What steps along estimated gradients show: figures, tables, numbers and sentences of the experiments of one_step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnas.evaluate.lab.contenders import clearly_above, mean_and_sd, only_finite, values, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Figure, Findings, Table

Measured = Mapping[str, np.ndarray]
Titles = Mapping[str, str]  # {label of an estimator: its name in figures}
MIDDLE = (5, 95)  # percentiles between which "most" values lie


def against_rate(cells: Sequence[Cell], titles: Titles, rates: np.ndarray, measured: Measured) -> Findings:
    """Loss decrease against the rate, a figure for each student and width."""
    figures = tuple(
        rate_figure(
            f"{student.capitalize()} student, width {dim}",
            titles,
            rates,
            measured,
            {label: where(cells, student=student, dim=dim, estimator=label) for label in titles},
        )
        for student in values(cells, "student")
        for dim in values(cells, "dim")
    )
    best_rates = measured["best_rate"][np.isfinite(measured["best_rate"])]
    best = ()
    if best_rates.size:
        low, high = np.percentile(best_rates, MIDDLE)
        best = (f"The best rates are mostly (9 of 10) between {low:.2g} and {high:.2g}, of {rates[-1]:.2g} at most.",)
    tables = tuple(_table(cells, titles, measured, student) for student in values(cells, "student"))
    return Findings(_numbers(cells, measured), (*_rankings(cells, titles, measured), *best), figures, tables)


def rate_figure(
    title: str, titles: Titles, rates: np.ndarray, measured: Measured, mine: Mapping[str, Sequence[int]]
) -> Figure:
    """Measured "decrease" [cells, rates] against the rate; mine: {label of an estimator: its cells}."""
    gains = {label: float(measured["best_decrease"][chosen].mean()) for label, chosen in mine.items()}
    gain = max(only_finite(gains)[0].values(), default=0.0)
    curves = []
    for label, name in titles.items():
        mean, sd = mean_and_sd(measured["decrease"][mine[label]])
        drawn = slice(0, 2 + int(np.flatnonzero(mean >= -gain).max(initial=0)))
        curves.append(Curve(name, rates[drawn], mean[drawn], (mean - sd)[drawn], (mean + sd)[drawn]))
    return Figure(
        title,
        "What one step takes off the loss of its batch. Bands: standard deviation over students and batches. A line "
        "ends where a step does more harm than the best step does good.",
        "learning rate",
        "loss decrease",
        tuple(curves),
        log_x=True,
    )


def against_width(cells: Sequence[Cell], titles: Titles, measured: Measured) -> Findings:
    """Loss decrease at the best rate against the width, in the unit of the loss and as a share of it."""
    share = measured["best_decrease"] / np.where(measured["before"] > 0, measured["before"], 1)
    figures, tables = [], []
    for student in values(cells, "student"):
        for name, what in (("loss decrease", measured["best_decrease"]), ("share of the loss", share)):
            curves = tuple(_width_curve(cells, student, label, title, what) for label, title in titles.items())
            figures.append(
                Figure(
                    f"{student.capitalize()} student: best {name}",
                    "After one step at the best of all rates, on the batch of the gradient. Bands: standard deviation "
                    "over students and batches.",
                    "width",
                    name,
                    curves,
                    log_x=True,
                    log_y=_decades(np.concatenate([curve.mean for curve in curves])),
                )
            )
        tables.append(_table(cells, titles, measured, student))
    return Findings(_numbers(cells, measured), _rankings(cells, titles, measured), tuple(figures), tuple(tables))


def _decades(values: np.ndarray) -> bool:
    """Whether values are positive and so far apart that the small ones would be lost on a linear axis."""
    return bool(values.min() > 0 and values.max() > 30 * values.min())


def _width_curve(cells: Sequence[Cell], student: str, label: str, title: str, what: np.ndarray) -> Curve:
    dims = values(cells, "dim")
    chosen = [mean_and_sd(what[where(cells, student=student, dim=dim, estimator=label)]) for dim in dims]
    mean, sd = np.array(chosen).T
    return Curve(title, np.asarray(dims, float), mean, mean - sd, mean + sd)


def _numbers(cells: Sequence[Cell], measured: Measured) -> dict[str, Any]:
    """{student: {width: {estimator: what its steps reached}}}."""

    def summary(student: str, dim: int, label: str) -> dict[str, float]:
        mine = where(cells, student=student, dim=dim, estimator=label)
        decrease, rate = measured["best_decrease"][mine], measured["best_rate"][mine]
        mean, sd = mean_and_sd(decrease)
        low, high = np.percentile(rate, MIDDLE)
        return {
            "loss_before": float(measured["before"][mine].mean()),
            "best_decrease": float(mean),
            "best_decrease_sd": float(sd),
            "best_rate": float(np.median(rate)),
            "best_rate_low": float(low),
            "best_rate_high": float(high),
        }

    return {
        student: {
            str(dim): {label: summary(student, dim, label) for label in values(cells, "estimator")}
            for dim in values(cells, "dim")
        }
        for student in values(cells, "student")
    }


def _table(cells: Sequence[Cell], titles: Titles, measured: Measured, student: str) -> Table:
    rows = []
    for label, title in titles.items():
        row = [title]
        for dim in values(cells, "dim"):
            mine = where(cells, student=student, dim=dim, estimator=label)
            mean, sd = mean_and_sd(measured["best_decrease"][mine])
            row.append(f"{mean:.3g} ± {sd:.2g} at {np.median(measured['best_rate'][mine]):.2g}")
        rows.append(tuple(row))
    return Table(
        f"{student.capitalize()} student: best loss decrease",
        ("estimator", *(f"width {dim}" for dim in values(cells, "dim"))),
        tuple(rows),
        "Mean ± standard deviation over students and batches, and the median of the best rates.",
    )


def _rankings(cells: Sequence[Cell], titles: Titles, measured: Measured) -> tuple[str, ...]:
    return tuple(
        ranking(
            f"On {student} students of width {dim}",
            {
                title: measured["best_decrease"][where(cells, student=student, dim=dim, estimator=label)]
                for label, title in titles.items()
            },
        )
        for student in values(cells, "student")
        for dim in values(cells, "dim")
    )


def ranking(start: str, reached: Mapping[str, np.ndarray]) -> str:
    """Who gets furthest on average, who cannot be told from it on these batches, and who gets least far.

    reached: {estimator: loss decreases [batches]}, on the same batches.
    """
    means, others = only_finite({name: float(decreases.mean()) for name, decreases in reached.items()})
    if not means:
        return f"{start} no estimator's loss decrease is finite."
    return f"{start} {_ranking({name: reached[name] for name in means})}{others}"


def _ranking(reached: Mapping[str, np.ndarray]) -> str:
    order = sorted(reached, key=lambda name: -reached[name].mean())
    behind = (number for number, name in enumerate(order) if clearly_above(reached[order[0]], reached[name]))
    tied = order[: next(behind, len(order))]
    if reached[order[0]].mean() <= 0:
        return "no estimator lowers the loss."
    named = [f"{name} ({reached[name].mean():.3g})" for name in tied]
    if len(tied) == len(order) > 1:
        return f"no estimator is clearly ahead; {named[0]} lowers the loss most and {order[-1]} least."
    last = f"; {order[-1]} lowers it least ({reached[order[-1]].mean():.3g})" if len(order) > 1 else ""
    if len(tied) == 1:
        return f"{named[0]} lowers the loss most{last}."
    return f"{', '.join(named[:-1])} and {named[-1]} lower the loss most, none of them clearly ahead{last}."
