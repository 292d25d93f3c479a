"""How well estimated gradients agree with the truth, what they cost, and how σ and ε change them.

Two truths: the coordinate differences of the loss (CDG), and the gradient of the loss under Gaussian noise on the
parameters (smoothed), from so many draws that its own noise does not matter.
"""

import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.threads import kept
from jaxnas.core.types import Params
from jaxnas.evaluate.lab import agreement_findings, checks
from jaxnas.evaluate.lab.comparison import NORMALISATIONS, Comparing, Comparison, Problem, sweep_if_finite
from jaxnas.evaluate.lab.contenders import Contender, chosen
from jaxnas.evaluate.lab.findings import Cell, Experiment

TIMING = 10.0  # seconds after which a gradient is not timed again


def cosines(gradient: Params, truth: Params) -> np.ndarray:
    """The cosine between two gradients in every layer (kernel and bias together) and, last, over all; [layers + 1].

    A gradient of zeros points nowhere: its cosine is 0. That of a gradient that is not finite is NaN.
    """

    def vectors(tree: Params) -> list[np.ndarray]:
        layers = [
            np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(one)]) for one in tree
        ]
        return [*layers, np.concatenate(layers)]

    def cosine(one: np.ndarray, other: np.ndarray) -> float:
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        with np.errstate(invalid="ignore"):
            return float(one @ other / lengths) if lengths != 0 else 0.0

    return np.array([cosine(*pair) for pair in zip(vectors(gradient), vectors(truth), strict=True)])


@Comparing
def cosine_and_cost(
    comparison: Comparison,
    *,
    sigma: float,
    epsilon: float,
    truth_draws: int,
    repeats: int,
) -> Experiment:
    """Cosine to both truths and seconds per gradient; one cell per gradient.

    The cosines are deterministic, the quantity "seconds" is not: it is the median of up to `repeats` calls of
    lab.gradient after the first, which compiles; its checks of the arguments are part of it.

    Args:
      comparison: what is compared, on what.
      sigma, epsilon: the estimators' settings of these names; σ is also that of the smoothed truth.
      truth_draws: codes per example of the smoothed truth.
      repeats: calls that are timed, fewer where they would take more than ten seconds in all, but at least one.

    Raises:
      UserError: for names that are not known and numbers of things below one.
    """
    checks.check_counts(truth_draws=truth_draws, repeats=repeats)
    compared = comparison.contenders(sigma, epsilon)
    cells, problem_of = comparison.cells(), comparison.problems()
    differences = chosen(["cdg"], sigma=sigma, epsilon=epsilon)["cdg"]
    truths = kept(lambda problem: (problem.gradient(differences), truth(problem, sigma, truth_draws)))

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        problem, who = problem_of(cell), compared[cell["estimator"]]
        gradient = problem.gradient(who)
        to_cdg, to_smoothed = (cosines(gradient, one) for one in truths(problem))
        return {"to_cdg": to_cdg, "to_smoothed": to_smoothed, "seconds": np.asarray(_seconds(problem, who, repeats))}

    titles = {label: one.title for label, one in compared.items()}
    return Experiment(
        "cosine_and_cost",
        cells,
        {"to_cdg": (comparison.layers + 1,), "to_smoothed": (comparison.layers + 1,), "seconds": ()},
        measure,
        lambda measured: agreement_findings.cosine_against_cost(cells, titles, measured),
        timed=True,
    )


@Comparing
def sigma_epsilon(
    comparison: Comparison,
    *,
    scales: Sequence[float],
    reference: float,
    truth_draws: int,
    normalise: str,
    largest_rate: float,
) -> Experiment:
    """Cosine and best loss decrease against the scale: σ of NES and smoothed, ε of CDG; one cell per gradient.

    "to_reference" compares with the smoothed truth at σ = `reference`, "to_own" with that at σ = the cell's scale.

    Args:
      comparison: what is compared, on what; its estimators have a scale.
      scales: the values of σ and of ε.
      reference: the σ of the truth that all are compared with.
      truth_draws: codes per example of the smoothed truth.
      normalise, largest_rate: as in one_step.best_by_width.

    Raises:
      UserError: for names that are not known, estimators without a scale, and numbers that are not positive.
    """
    checks.check_counts(truth_draws=truth_draws)
    normalised = choose("normalisation", normalise, NORMALISATIONS)
    checks.check_positive("largest_rate", largest_rate, 1.0)
    checks.check_list("scales", scales, checks.check_positive)
    checks.check_positive("reference", reference)
    at_scale = {scale: comparison.contenders(scale, scale) for scale in (*scales, reference)}
    for label, who in at_scale[reference].items():
        if not {"sigma", "epsilon"} & set(who.settings):
            raise UserError(f"estimators must have a scale to vary, but {label!r} has neither sigma nor epsilon.")
    cells, problem_of = comparison.cells(scale=scales), comparison.problems()
    reference_truth = kept(lambda problem: truth(problem, reference, truth_draws))
    own_truth = kept(lambda problem, scale: truth(problem, scale, truth_draws))

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        problem, scale = problem_of(cell), cell["scale"]
        gradient = problem.gradient(at_scale[scale][cell["estimator"]])
        swept = sweep_if_finite(problem.params, normalised(gradient), problem.x, problem.y, [largest_rate])
        return {
            "to_reference": cosines(gradient, reference_truth(problem)),
            "to_own": cosines(gradient, own_truth(problem, scale)),
            "best_rate": np.asarray(swept.best_rate),
            "best_decrease": np.asarray(problem.loss - swept.best_loss),
        }

    titles = {label: who.title for label, who in at_scale[reference].items()}
    return Experiment(
        "sigma_epsilon",
        cells,
        {
            "to_reference": (comparison.layers + 1,),
            "to_own": (comparison.layers + 1,),
            "best_rate": (),
            "best_decrease": (),
        },
        measure,
        lambda measured: agreement_findings.against_scale(cells, titles, reference, measured),
    )


def truth(problem: Problem, sigma: float, draws: int) -> Params:
    """The smoothed gradient of a problem, averaged over `draws` codes per example."""
    return problem.gradient(Contender("truth", "smoothed", {"sigma": sigma, "draws": draws}), "truth")


def _seconds(problem: Problem, who: Contender, repeats: int) -> float:
    """The median time of a gradient whose program is compiled."""
    times: list[float] = []
    while len(times) < repeats and sum(times) < TIMING:
        start = time.perf_counter()
        jax.block_until_ready(problem.gradient(who))
        times.append(time.perf_counter() - start)
    return float(np.median(times))
