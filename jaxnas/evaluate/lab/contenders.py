"""Who takes part in the lab's comparisons, and on what: estimators by label, students and the batches they see."""

import dataclasses
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose, unknown
from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import kept
from jaxnas.core.types import Array, Key, Params
from jaxnas.estimators.enumeration import WIDEST
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.checks import check_count, check_counts, check_list, check_positive, check_sign_layers
from jaxnas.evaluate.lab.event_sweep import Sweep, sweep
from jaxnas.evaluate.lab.findings import Cell
from jaxnas.evaluate.lab.students import STEPS, TASKS, Student, make_student, unit_length, unit_tensors
from jaxnas.networks import sign_network

Name = TypeVar("Name", bound=Hashable)
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
SAMPLED = re.compile(r"nes_([1-9]\d*)(?:_(\w+))?")  # NES with that many samples, and perhaps one of HELPED
SPAN = ("clipped", "steep", "swish_sign", "polynomial")  # the surrogates whose gradients NES may sample between
HELPED: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # {end of a label: (end of the title, settings)}
    "ste": (" with STE control", {"control": "ste"}),
    "shift": (" from where the STE leads", {"shift": "ste"}),
    "span": (" in the span of STEs", {"subspace": SPAN}),
}


def contender(label: str, *, sigma: float, epsilon: float) -> Contender:
    """What a label stands for: one of FIXED, "nes_500" (NES with any number of samples) or "nes_500_ste" (see HELPED).

    Raises UserError for other labels and for settings that do not fit.
    """
    label = str(label)  # a config may hold anything
    sampled = SAMPLED.fullmatch(label)
    if sampled and (sampled[2] is None or sampled[2] in HELPED):
        population, (end, settings) = int(sampled[1]), HELPED.get(sampled[2] or "", ("", {}))
        found = Contender(f"NES {population:,}{end}", "nes", {"population": population, **settings})
    elif label in FIXED:
        found = FIXED[label]
    else:
        raise unknown("estimator", label, [*FIXED, "nes_500", *(f"nes_500_{end}" for end in HELPED)])
    given = {"sigma": sigma, "epsilon": epsilon}
    scale = {name: given[name] for name in lab.estimators()[found.name].settings if name in given}
    found = found._replace(settings={**found.settings, **scale})
    lab.estimator(found.name, **found.settings)
    return found


def chosen(labels: Sequence[str], *, sigma: float, epsilon: float) -> dict[str, Contender]:
    """{label: contender}; raises UserError as `contender` does, and for σ and ε that are not positive."""
    for name, scale in (("sigma", sigma), ("epsilon", epsilon)):
        check_positive(name, scale)
    check_list("estimators", labels)
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


def problems(
    *, seed: int, task: str, layers: int, batch_size: int, pretraining: int = STEPS
) -> Callable[[Cell], Problem]:
    """cell -> the problem that its labels student, dim, init and batch name; the last two that were made are kept.

    The data of a problem depend on seed, dim, init and batch only: raw and pretrained students see the same batches.
    Raises UserError for an unknown task and for numbers of things below one.
    """
    choose("task", task, TASKS)
    check_sign_layers(layers)
    check_counts(batch_size=batch_size, pretraining=pretraining)

    @kept
    def student(dim: int, init: int, kind: str) -> Student:
        return make_student(seed, init, dim, layers, pretrained=kind == "pretrained", task=task, steps=pretraining)

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


def grid(**labels: Sequence[Any]) -> tuple[Cell, ...]:
    """A cell for every combination of the labels' values, the last label running fastest.

    Raises UserError for labels without a value or with one twice.
    """
    cells: list[dict[str, Any]] = [{}]
    for name, given in labels.items():
        check_list(f"{name}s", given)
        cells = [cell | {name: value} for cell in cells for value in given]
    return tuple(cells)


def student_grid(
    dims: Sequence[int], students: Sequence[str], inits: int, batches: int, **labels: Sequence[Any]
) -> tuple[Cell, ...]:
    """The grid of dim, student, init, batch and other labels; raises UserError also for unknown students and counts."""
    check_counts(inits=inits, batches=batches)
    check_list("dims", dims, check_count)
    check_list("students", students, lambda _, kind: choose("student", kind, dict.fromkeys(STUDENTS)))
    return grid(dim=dims, student=students, init=range(inits), batch=range(batches), **labels)


def where(cells: Sequence[Cell], **labels: Any) -> list[int]:
    """The places of the cells that have these labels."""
    return [i for i, cell in enumerate(cells) if all(cell.get(name) == value for name, value in labels.items())]


def values(cells: Sequence[Cell], label: str) -> tuple[Any, ...]:
    """The values that a label takes, in the order of their first cell."""
    return tuple(dict.fromkeys(cell[label] for cell in cells))


def check_enumerable(compared: Iterable[Contender], dims: Iterable[int], layers: int) -> None:
    """Raises UserError where the enumeration of codes would meet layers that are too wide for it."""
    widest = max(dims)
    if layers > 2 and widest > WIDEST and any(who.name == "enumerated" for who in compared):
        raise UserError(f"the estimator enumerated is for widths up to {WIDEST}, not {widest}; smoothed is for any.")


def sweep_if_finite(params: Params, direction: Params, x: Array, y: Array, rates: Any) -> Sweep:
    """The event sweep; NaN where the direction has numbers that are not finite, as estimates of extreme scales have."""
    if all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(direction)):
        return sweep(params, direction, x, y, rates)
    return Sweep(np.full(len(rates), np.nan), np.nan, np.nan)


def only_finite(found: Mapping[Name, float]) -> tuple[dict[Name, float], str]:
    """What is finite, and a sentence that names the others, with a space before it; "" where there are none."""
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    others = "; ".join(str(name) for name in found if name not in finite)
    return finite, f" Not finite, and left out: {others}." if others else ""


def mean_and_sd(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the leading axis; the deviation of one sample is 0."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1 if len(samples) > 1 else 0)


def clearly_above(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether paired samples differ by more than twice the standard error of their mean difference.

    Two samples at least are needed to tell; batches of one student count as independent.
    """
    lead, sd = mean_and_sd(first - second)
    return len(first) > 1 and bool(lead > 2 * sd / np.sqrt(len(first)))
