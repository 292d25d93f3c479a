"""What the experiments share that compare gradients on the same students and the same batches."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import at_step, named
from jaxnas.core.threads import kept
from jaxnas.core.types import Array, Key, Params
from jaxnas.estimators.enumeration import WIDEST
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab.checks import check_count, check_counts, check_list, check_sign_layers
from jaxnas.evaluate.lab.contenders import Contender, chosen, grid
from jaxnas.evaluate.lab.event_sweep import Sweep, sweep
from jaxnas.evaluate.lab.findings import Cell, Experiment
from jaxnas.evaluate.lab.students import TASKS, Student, make_student, unit_length, unit_tensors
from jaxnas.networks import sign_network

STUDENTS = ("raw", "pretrained")
NORMALISATIONS: Mapping[str, Callable[[Params], Params]] = {
    "tensors": unit_tensors,
    "whole": unit_length,
    "none": lambda gradient: gradient,
}


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


class Comparison(NamedTuple):
    """The settings that these experiments have in common.

    seed: of students, batches and draws.
    task: what students learn, a name of students.TASKS.
    dims: widths of the hidden layers, and of the inputs where a teacher sets the task.
    inits, batches: students of each width, and batches of `batch_size` inputs for each of them.
    layers: of the network, the output's included.
    students: "raw", "pretrained" (so many steps of the vanilla STE) or both.
    estimators: labels, see contenders.contender.
    """

    seed: int
    task: str
    dims: Sequence[int]
    inits: int
    batches: int
    batch_size: int
    layers: int
    students: Sequence[str]
    pretraining: int
    estimators: Sequence[str]

    def contenders(self, sigma: float, epsilon: float) -> dict[str, Contender]:
        """{label: contender}; raises UserError as contenders.chosen does, and for layers too wide to enumerate."""
        compared = chosen(self.estimators, sigma=sigma, epsilon=epsilon)
        check_count("layers", self.layers)
        check_list("dims", self.dims, check_count)
        check_enumerable(compared.values(), self.dims, self.layers)
        return compared

    def cells(self, **labels: Sequence[Any]) -> tuple[Cell, ...]:
        """The grid of dim, student, init, batch, other labels and estimator; raises UserError for what does not fit."""
        check_counts(inits=self.inits, batches=self.batches)
        check_list("dims", self.dims, check_count)
        check_list("students", self.students, lambda _, kind: choose("student", kind, dict.fromkeys(STUDENTS)))
        numbers = {"init": range(self.inits), "batch": range(self.batches)}
        return grid(dim=self.dims, student=self.students, **numbers, **labels, estimator=self.estimators)

    def problems(self) -> Callable[[Cell], Problem]:
        """cell -> the problem that its labels student, dim, init and batch name; the last two made are kept.

        Its data depend on seed, dim, init and batch only: raw and pretrained students see the same batches.
        Raises UserError for an unknown task and for numbers of things below one.
        """
        choose("task", self.task, TASKS)
        check_sign_layers(self.layers)
        check_counts(batch_size=self.batch_size, pretraining=self.pretraining)

        @kept
        def student(dim: int, init: int, kind: str) -> Student:
            return make_student(
                self.seed,
                init,
                dim,
                self.layers,
                pretrained=kind == "pretrained",
                task=self.task,
                steps=self.pretraining,
            )

        @kept
        def problem(dim: int, init: int, batch: int, kind: str) -> Problem:
            made = student(dim, init, kind)
            key = at_step(at_step(at_step(jax.random.key(self.seed), "dim", dim), "init", init), "batch", batch)
            x, y = made.batch(named(key, "data"), self.batch_size)
            return Problem(made.params, x, y, key, _exact_loss(made.params, x, y))

        return lambda cell: problem(cell["dim"], cell["init"], cell["batch"], cell["student"])


class Comparing:
    """A function of a Comparison and settings of its own as a function of all these settings by keyword."""

    def __init__(self, make: Callable[..., Experiment]):
        own = list(inspect.signature(make).parameters.values())[1:]
        shared = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in Comparison._fields]
        self._make = make
        self.__signature__ = inspect.Signature([*shared, *own])
        functools.update_wrapper(self, make)

    def __call__(self, **settings: Any) -> Experiment:
        """The experiment with these settings, those of Comparison and the function's own."""
        shared = {name: settings.pop(name) for name in Comparison._fields}
        return self._make(Comparison(**shared), **settings)


def _exact_loss(params: Params, x: Array, y: Array) -> float:
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x, y))
        return float(jax.jit(sign_network.loss)(*wide))


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
