"""The quick check: one step at one fixed learning rate along every estimator's gradient, for every width."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnas.evaluate.lab.checks import check_positive
from jaxnas.evaluate.lab.comparison import Comparing, Comparison
from jaxnas.evaluate.lab.contenders import mean_and_sd, only_finite, values, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Experiment, Figure, Findings, Table
from jaxnas.evaluate.lab.one_step import steps


@Comparing
def quick_check(comparison: Comparison, *, sigma: float, epsilon: float, normalise: str, rate: float) -> Experiment:
    """The loss decrease after a step at `rate`; the other settings are those of one_step.loss_decrease."""
    check_positive("rate", rate)
    made = steps(comparison, np.array([rate]), normalise, sigma, epsilon)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        measured = made.measure(cell)
        return {"before": measured["before"], "decrease": measured["decrease"][0]}

    shapes = {"before": (), "decrease": ()}
    return Experiment(
        "quick_check", made.cells, shapes, measure, lambda measured: _conclude(made.cells, made.titles, rate, measured)
    )


def _conclude(
    cells: Sequence[Cell], titles: Mapping[str, str], rate: float, measured: Mapping[str, np.ndarray]
) -> Findings:
    dims = values(cells, "dim")
    numbers, sentences, figures, tables = {}, [], [], []
    for student in values(cells, "student"):
        found = {
            label: [
                mean_and_sd(measured["decrease"][where(cells, student=student, dim=d, estimator=label)]) for d in dims
            ]
            for label in titles
        }
        numbers[student] = {
            label: {str(d): {"mean": float(mean), "sd": float(sd)} for d, (mean, sd) in zip(dims, row, strict=True)}
            for label, row in found.items()
        }
        curves = []
        for label, row in found.items():
            mean, sd = np.array(row, float).T
            curves.append(Curve(titles[label], np.asarray(dims, float), mean, mean - sd, mean + sd))
        name = student.capitalize()
        figures.append(
            Figure(
                f"{name} student",
                f"Loss decrease after one step at rate {rate:g}. Bands: standard deviation over students and batches.",
                *("width", "loss decrease"),
                tuple(curves),
                log_x=True,
            )
        )
        rows = [(titles[label], *(f"{mean:.3g} ± {sd:.2g}" for mean, sd in row)) for label, row in found.items()]
        tables.append(Table(f"{name} student", ("estimator", *(f"width {d}" for d in dims)), tuple(rows)))
        widest, others = only_finite({titles[label]: float(row[-1][0]) for label, row in found.items()})
        best = max(widest, key=lambda title: widest[title], default=None)
        start = f"At width {dims[-1]} and rate {rate:g}"
        if best is None:
            sentences.append(f"{start} no estimator's loss decrease on {student} students is finite.")
        elif widest[best] <= 0:
            sentences.append(f"{start} no estimator lowers the loss of {student} students on average.{others}")
        else:
            decrease = f"by {widest[best]:.3g} on average"
            sentences.append(f"{start}, {best} lowers the loss of {student} students most, {decrease}.{others}")
    return Findings(numbers, tuple(sentences), tuple(figures), tuple(tables))
