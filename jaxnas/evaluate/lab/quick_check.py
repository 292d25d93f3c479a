"""The quick check: one step at one fixed learning rate along every estimator's gradient, for every width."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnas.evaluate.lab.checks import check_positive
from jaxnas.evaluate.lab.contenders import chosen, mean_and_sd, only_finite, values, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Experiment, Figure, Findings, Table
from jaxnas.evaluate.lab.one_step import loss_decrease


def quick_check(
    *,
    seed: int,
    task: str,
    dims: Sequence[int],
    inits: int,
    batches: int,
    batch_size: int,
    layers: int,
    students: Sequence[str],
    pretraining: int,
    estimators: Sequence[str],
    sigma: float,
    epsilon: float,
    normalise: str,
    rate: float,
) -> Experiment:
    """The loss decrease after a step at `rate`; the other settings are those of one_step.loss_decrease."""
    check_positive("rate", rate)
    steps = loss_decrease(
        seed=seed,
        task=task,
        dims=dims,
        inits=inits,
        batches=batches,
        batch_size=batch_size,
        layers=layers,
        students=students,
        pretraining=pretraining,
        estimators=estimators,
        sigma=sigma,
        epsilon=epsilon,
        normalise=normalise,
        rates=(rate, rate, 1),
        fine_rates=(rate, rate, 1),
    )
    titles = {label: one.title for label, one in chosen(estimators, sigma=sigma, epsilon=epsilon).items()}

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        measured = steps.measure(cell)
        return {"before": measured["before"], "decrease": measured["decrease"][0]}

    shapes = {"before": (), "decrease": ()}
    return Experiment(
        "quick_check", steps.cells, shapes, measure, lambda measured: _conclude(steps.cells, titles, rate, measured)
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
        sentences.append(
            f"{start}, {best} lowers the loss of {student} students most, by {widest[best]:.3g} on average.{others}"
            if best is not None
            else f"{start} no estimator's loss decrease on {student} students is finite."
        )
    return Findings(numbers, tuple(sentences), tuple(figures), tuple(tables))
