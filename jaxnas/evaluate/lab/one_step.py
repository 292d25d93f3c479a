"""How far one step along an estimated gradient lowers the loss: at every learning rate, and at best.

Every estimator sees the same students and batches. Its gradient is normalised, and the exact event sweep gives the loss
of that very batch after a step at each rate, and at the best of all rates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxnas.core.errors import choose
from jaxnas.evaluate.lab import checks, one_step_findings
from jaxnas.evaluate.lab.comparison import NORMALISATIONS, Comparing, Comparison, sweep_if_finite
from jaxnas.evaluate.lab.findings import Cell, Experiment

BEST = {"before": (), "best_rate": (), "best_decrease": ()}


class Steps(NamedTuple):
    """Cells, the estimators' titles {label: title} and what is measured in a cell: BEST and "decrease" [rates]."""

    cells: tuple[Cell, ...]
    titles: Mapping[str, str]
    measure: Callable[[Cell], Mapping[str, np.ndarray]]


@Comparing
def loss_decrease(
    comparison: Comparison,
    *,
    sigma: float,
    epsilon: float,
    normalise: str,
    rates: Sequence[float],
    fine_rates: Sequence[float],
) -> Experiment:
    """The loss decrease at every rate, and at the exact best of all rates up to the largest; one cell per gradient.

    Args:
      comparison: what is compared, on what.
      sigma, epsilon: the estimators' settings of these names.
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
    made = steps(comparison, all_rates, normalise, sigma, epsilon)
    return Experiment(
        "loss_decrease",
        made.cells,
        BEST | {"decrease": all_rates.shape},
        made.measure,
        lambda measured: one_step_findings.against_rate(made.cells, made.titles, all_rates, measured),
    )


@Comparing
def best_by_width(
    comparison: Comparison,
    *,
    sigma: float,
    epsilon: float,
    normalise: str,
    largest_rate: float,
) -> Experiment:
    """The loss decrease at the best of all rates in [0, largest_rate] against the width; one cell per gradient.

    The other arguments and the errors are those of `loss_decrease`.
    """
    checks.check_positive("largest_rate", largest_rate, 1.0)
    made = steps(comparison, np.array([largest_rate]), normalise, sigma, epsilon)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        measured = made.measure(cell)
        return {name: measured[name] for name in BEST}

    return Experiment(
        "best_by_width",
        made.cells,
        BEST,
        measure,
        lambda measured: one_step_findings.against_width(made.cells, made.titles, measured),
    )


def steps(comparison: Comparison, rates: np.ndarray, normalise: str, sigma: float, epsilon: float) -> Steps:
    """One step from every student along every gradient, at `rates`; see loss_decrease."""
    normalised = choose("normalisation", normalise, NORMALISATIONS)
    compared = comparison.contenders(sigma, epsilon)
    cells, problem_of = comparison.cells(), comparison.problems()

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        problem = problem_of(cell)
        direction = normalised(problem.gradient(compared[cell["estimator"]]))
        swept = sweep_if_finite(problem.params, direction, problem.x, problem.y, rates)
        return {
            "before": np.asarray(problem.loss),
            "best_rate": np.asarray(swept.best_rate),
            "best_decrease": np.asarray(problem.loss - swept.best_loss),
            "decrease": problem.loss - swept.losses,
        }

    return Steps(cells, {label: one.title for label, one in compared.items()}, measure)
