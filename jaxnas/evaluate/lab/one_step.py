"""How far one step along an estimated gradient lowers the loss: at every learning rate, and at best.

Every estimator sees the same students and batches. Its gradient is normalised, and the exact event sweep gives the loss
of that very batch after a step at each rate, and at the best of all rates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import choose
from jaxnas.evaluate.lab import checks, contenders, one_step_findings
from jaxnas.evaluate.lab.findings import Cell, Experiment

BEST = {"before": (), "best_rate": (), "best_decrease": ()}


class _Steps(NamedTuple):
    """Cells, the estimators' titles {label: title} and what is measured in a cell: BEST and "decrease" [rates]."""

    cells: tuple[Cell, ...]
    titles: Mapping[str, str]
    measure: Callable[[Cell], Mapping[str, np.ndarray]]


def loss_decrease(
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
    rates: Sequence[float],
    fine_rates: Sequence[float],
) -> Experiment:
    """The loss decrease at every rate, and at the exact best of all rates up to the largest; one cell per gradient.

    Args:
      seed: of students, batches and draws.
      task: what students learn, a name of students.TASKS.
      dims: widths of the hidden layers, and of the inputs where a teacher sets the task.
      inits, batches: students of each width, and batches of `batch_size` inputs for each of them.
      layers: of the network, the output's included.
      students: "raw", "pretrained" (so many steps of the vanilla STE) or both.
      estimators: labels, see contenders.contender; sigma and epsilon are their settings.
      normalise: "tensors" (each to length 1), "whole" or "none".
      rates: (smallest, largest, how many), geometrically spaced.
      fine_rates: (smallest, largest, how many), equally spaced; measured as well.

    Raises:
      UserError: for names that are not known, numbers of things below one, and rates that do not increase.
    """
    grids = (
        np.geomspace(*checks.checked_range("rates", rates)),
        np.linspace(*checks.checked_range("fine_rates", fine_rates)),
    )
    rates_of_both = np.unique(np.concatenate(grids))
    # What both have may differ in its last digits.
    all_rates = rates_of_both[np.diff(rates_of_both, prepend=0) > 1e-12 * rates_of_both]
    steps = _steps(
        all_rates,
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
    )
    return Experiment(
        "loss_decrease",
        steps.cells,
        BEST | {"decrease": all_rates.shape},
        steps.measure,
        lambda measured: one_step_findings.against_rate(steps.cells, steps.titles, all_rates, measured),
    )


def best_by_width(
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
    largest_rate: float,
) -> Experiment:
    """The loss decrease at the best of all rates in [0, largest_rate] against the width; one cell per gradient.

    The other arguments and the errors are those of `loss_decrease`.
    """
    checks.check_positive("largest_rate", largest_rate, 1.0)
    steps = _steps(
        np.array([largest_rate]),
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
    )

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        measured = steps.measure(cell)
        return {name: measured[name] for name in BEST}

    return Experiment(
        "best_by_width",
        steps.cells,
        BEST,
        measure,
        lambda measured: one_step_findings.against_width(steps.cells, steps.titles, measured),
    )


def _steps(
    rates: np.ndarray,
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
) -> _Steps:
    normalised = choose("normalisation", normalise, contenders.NORMALISATIONS)
    compared = contenders.chosen(estimators, sigma=sigma, epsilon=epsilon)
    cells = contenders.student_grid(dims, students, inits, batches, estimator=estimators)
    problem_of = contenders.problems(
        seed=seed, task=task, layers=layers, batch_size=batch_size, pretraining=pretraining
    )
    contenders.check_enumerable(compared.values(), dims, layers)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        problem = problem_of(cell)
        direction = normalised(problem.gradient(compared[cell["estimator"]]))
        swept = contenders.sweep_if_finite(problem.params, direction, problem.x, problem.y, rates)
        return {
            "before": np.asarray(problem.loss),
            "best_rate": np.asarray(swept.best_rate),
            "best_decrease": np.asarray(problem.loss - swept.best_loss),
            "decrease": problem.loss - swept.losses,
        }

    return _Steps(cells, {label: one.title for label, one in compared.items()}, measure)
