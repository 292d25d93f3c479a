"""Who takes part in the lab's comparisons, and on what: estimators by label, students and the batches they see."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose, unknown
from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import kept
from jaxnas.core.types import Array, Key, Params
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.findings import Cell
from jaxnas.evaluate.lab.students import STEPS, Student, make_student, unit_length, unit_tensors
from jaxnas.networks import sign_network

STUDENTS = ("raw", "pretrained")
NORMALISATIONS: Mapping[str, Callable[[Params], Params]] = {
    "tensors": unit_tensors,
    "whole": unit_length,
    "none": lambda gradient: gradient,
}


class Contender(NamedTuple):
    """An estimator of the lab's table with its settings, and its name in figures."""

    title: str
    name: str
    settings: Mapping[str, Any]


# By label; the ε of CDG and the σ of the others are settings of the experiments.
FIXED: Mapping[str, Contender] = {
    "ste": Contender("STE", "ste", {"surrogate": "clipped"}),
    "ste_steep": Contender("STE steep", "ste", {"surrogate": "steep"}),
    "ste_swish": Contender("STE SwishSign", "ste", {"surrogate": "swish_sign"}),
    "ste_polynomial": Contender("STE polynomial", "ste", {"surrogate": "polynomial"}),
    "sr_ste": Contender("STE rounding", "sr_ste", {}),
    "cdg": Contender("CDG", "cdg", {}),
    "smoothed": Contender("smoothed", "smoothed", {}),
    "enumerated": Contender("enumerated", "enumerated", {}),
}
SAMPLED = re.compile(r"nes_([1-9]\d*)(_ste)?")  # NES with that many samples, with the STE as its control variate


def contender(label: str, *, sigma: float, epsilon: float) -> Contender:
    """What a label stands for: one of FIXED, "nes_500" (NES with any number of samples) or "nes_500_ste" (see SAMPLED).

    Raises UserError for other labels and for settings that do not fit.
    """
    sampled = SAMPLED.fullmatch(label)
    if sampled:
        population, controlled = int(sampled[1]), bool(sampled[2])
        settings = {"population": population} | ({"control": "ste"} if controlled else {})
        found = Contender(f"NES {population:,}{' with STE control' if controlled else ''}", "nes", settings)
    elif label in FIXED:
        found = FIXED[label]
    else:
        raise unknown("estimator", label, [*FIXED, "nes_500", "nes_500_ste"])
    given = {"sigma": sigma, "epsilon": epsilon}
    scale = {name: given[name] for name in lab.estimators()[found.name].settings if name in given}
    found = found._replace(settings={**found.settings, **scale})
    lab.estimator(found.name, **found.settings)
    return found


def chosen(labels: Sequence[str], *, sigma: float, epsilon: float) -> dict[str, Contender]:
    """{label: contender}; raises UserError as `contender` does, and for σ and ε that are not positive."""
    for name, scale in (("sigma", sigma), ("epsilon", epsilon)):
        check_positive(name, scale, 0.1)
    return {label: contender(label, sigma=sigma, epsilon=epsilon) for label in labels}


@dataclasses.dataclass(frozen=True, eq=False)  # hashable: a problem equals itself only
class Problem:
    """A student, a batch of inputs [batch, in] and targets [batch, 1], the key for whatever is drawn on them, the loss.

    The loss is computed in float64, as the event sweep computes it.
    """

    params: Params
    x: Array
    y: Array
    key: Key
    loss: float

    def gradient(self, who: Contender, purpose: str = "gradient") -> Params:
        """Its gradient by an estimator, shaped as params; other contenders and purposes draw other numbers."""
        key = named(self.key, f"{purpose} {who.title}")
        return lab.gradient(who.name, self.params, self.x, self.y, key, **who.settings)


def problems(*, seed: int, layers: int, batch_size: int, pretraining: int = STEPS) -> Callable[[Cell], Problem]:
    """cell -> the problem that its labels student, dim, init and batch name; the last two that were made are kept.

    The data of a problem depend on seed, dim, init and batch only: raw and pretrained students see the same batches.
    Raises UserError for numbers of things below one.
    """
    check_counts(layers=layers, batch_size=batch_size, pretraining=pretraining)

    @kept
    def student(dim: int, init: int, kind: str) -> Student:
        return make_student(seed, init, dim, layers, pretrained=kind == "pretrained", steps=pretraining)

    @kept
    def problem(dim: int, init: int, batch: int, kind: str) -> Problem:
        made = student(dim, init, kind)
        key = at_step(at_step(at_step(jax.random.key(seed), "dim", dim), "init", init), "batch", batch)
        x, y = made.batch(named(key, "data"), batch_size)
        return Problem(made.params, x, y, key, _exact_loss(made.params, x, y))

    return lambda cell: problem(cell["dim"], cell["init"], cell["batch"], cell["student"])


def _exact_loss(params: Params, x: Array, y: Array) -> float:
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x, y))
        return float(jax.jit(sign_network.loss)(*wide))


def grid(
    dims: Sequence[int], students: Sequence[str], inits: int, batches: int, **labels: Sequence[Any]
) -> tuple[Cell, ...]:
    """A cell for every combination of dim, student, init, batch and other labels, the last one running fastest.

    Raises UserError for unknown students, numbers below one, and labels with no value or with one twice.
    """
    check_counts(inits=inits, batches=batches)
    for dim in dims:
        check_counts(dim=dim)
    for kind in students:
        choose("student", kind, dict.fromkeys(STUDENTS))
    numbers = {"init": range(inits), "batch": range(batches)}
    cells: list[dict[str, Any]] = [{}]
    for name, given in {"dim": dims, "student": students, **numbers, **labels}.items():
        if not len(given):
            raise UserError(f"there must be at least one {name}, but the list is empty.")
        if len(set(given)) < len(given):
            raise UserError(f"every {name} may be given once, but the list is {', '.join(map(str, given))}.")
        cells = [cell | {name: value} for cell in cells for value in given]
    return tuple(cells)


def where(cells: Sequence[Cell], **labels: Any) -> list[int]:
    """The places of the cells that have these labels."""
    return [i for i, cell in enumerate(cells) if all(cell.get(name) == value for name, value in labels.items())]


def values(cells: Sequence[Cell], label: str) -> tuple[Any, ...]:
    """The values that a label takes, in the order of their first cell."""
    return tuple(dict.fromkeys(cell[label] for cell in cells))


def check_positive(name: str, value: float, usual: float) -> None:
    """Raises UserError for a number that is not positive and finite."""
    if not 0 < value < math.inf:
        raise UserError(f"{name} must be positive and finite, not {value}; {usual:g} is a usual value.")


def check_counts(**counts: int) -> None:
    """Raises UserError for a number of things that is below one."""
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"{name} must be at least 1, not {count}.")


def mean_and_sd(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the leading axis; the deviation of one sample is 0."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1 if len(samples) > 1 else 0)


def clearly_above(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether paired samples differ by more than twice the standard error of their mean difference.

    Two samples at least are needed to tell; batches of one student count as independent.
    """
    lead, sd = mean_and_sd(first - second)
    return len(first) > 1 and bool(lead > 2 * sd / np.sqrt(len(first)))
