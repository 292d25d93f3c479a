"""Training with each estimator, not one step but many; and changing to another one where the first is stuck.

Whoever changes begins anew: fresh moments, and a learning rate that falls from the start to zero over the steps that
are left. What that alone is worth is told by a plan that changes from an estimator to itself.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Key, Params
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab import checks, contenders
from jaxnas.evaluate.lab.comparison import check_enumerable
from jaxnas.evaluate.lab.contenders import Contender, mean_and_sd, only_finite, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Experiment, Figure, Findings, Table
from jaxnas.evaluate.lab.students import TASKS, Student, make_student

MOMENTS = optax.scale_by_adam()
Carry = tuple[Params, optax.OptState]
Stretch = Callable[[Carry, int, int], Carry]  # (carry, number of the first step, number of the step it began at)


def training(
    *,
    seed: int,
    task: str,
    dim: int,
    layers: int,
    inits: int,
    batch_size: int,
    steps: int,
    every: int,
    rate: float,
    estimators: Sequence[str],
    sigma: float,
    epsilon: float,
    switch_from: str,
    switch_to: str,
    window: int,
    tolerance: float,
) -> Experiment:
    """Students trained by Adam on fresh batches with each estimator, and with one that gives way to another, or itself.

    Args:
      task: what students learn, a name of students.TASKS.
      steps, every: steps of `batch_size` inputs, and after how many the loss is measured, on one large batch.
      rate: of Adam, falling to zero by a cosine.
      estimators: labels, see contenders.contender; sigma and epsilon are their settings.
      switch_from, switch_to: labels; from the first to the second where the loss did not fall by the share `tolerance`
        over the last `window` measurements.

    Raises:
      UserError: for unknown labels, numbers that do not fit, and steps that are no multiple of `every`.
    """
    choose("task", task, TASKS)
    checks.check_counts(dim=dim, inits=inits, batch_size=batch_size, steps=steps, every=every, window=window)
    checks.check_sign_layers(layers)
    checks.check_positive("rate", rate, 0.01)
    checks.check_number("tolerance", tolerance)
    if not 0 <= tolerance <= 1:
        raise UserError(f"tolerance must be a share of the loss, from 0 to 1, not {tolerance}.")
    if steps % every:
        raise UserError(f"steps must be a multiple of every, {every}, not {steps}.")
    people = contenders.chosen(estimators, sigma=sigma, epsilon=epsilon)
    people |= {label: contenders.contender(label, sigma=sigma, epsilon=epsilon) for label in (switch_from, switch_to)}
    check_enumerable(people.values(), (dim,), layers)
    plans = {label: (label, None) for label in estimators}
    plans |= {"restart": (switch_from, switch_from), "switch": (switch_from, switch_to)}
    titles = {label: people[label].title for label in estimators}
    titles["restart"] = f"{people[switch_from].title}, then anew"
    titles["switch"] = f"{people[switch_from].title}, then {people[switch_to].title}"
    cells = tuple({"init": init, "estimator": label} for init in range(inits) for label in plans)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        student = make_student(seed, cell["init"], dim, layers, pretrained=False, task=task)
        key = at_step(named(jax.random.key(seed), "training"), "init", cell["init"])
        x, y = student.batch(named(key, "measure"), 16_384)
        first, second = plans[cell["estimator"]]
        stretches = {
            label: _stretch(people[label], student, key, batch_size, every, rate, steps)
            for label in (first, second)
            if label is not None
        }
        loss = jax.jit(lab.loss)
        carry = student.params, MOMENTS.init(student.params)
        losses, seconds, now, began = [float(loss(carry[0], x, y))], [0.0], first, 0
        for stretch in stretches.values():
            jax.block_until_ready(stretch(carry, 0, 0))  # compiled before the clock starts
        start = time.perf_counter()
        for number in range(0, steps, every):
            if second is not None and not began and is_stuck(losses, window, tolerance):
                now, began, carry = second, number, (carry[0], MOMENTS.init(carry[0]))
            carry = jax.block_until_ready(stretches[now](carry, number, began))
            seconds.append(time.perf_counter() - start)
            losses.append(float(loss(carry[0], x, y)))
        switched = float(began) if began else np.nan
        return {"loss": np.asarray(losses), "seconds": np.asarray(seconds), "switched": np.asarray(switched)}

    points = steps // every + 1
    shapes = {"loss": (points,), "seconds": (points,), "switched": ()}
    at = np.arange(points, dtype=float) * every
    return Experiment(
        "training", cells, shapes, measure, lambda measured: _conclude(cells, titles, at, measured), timed=True
    )


def is_stuck(losses: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the lowest of the last `window` losses is not lower, by a share, than the lowest before them.

    Losses that are not finite count as infinite.
    """
    if len(losses) <= window:
        return False
    parts = losses[-window:], losses[:-window]
    latest, before = (min(filter(math.isfinite, part), default=math.inf) for part in parts)
    return latest >= (1 - tolerance) * before


def _stretch(
    who: Contender, student: Student, key: Key, batch_size: int, every: int, rate: float, steps: int
) -> Stretch:
    """A compiled function that takes `every` steps."""
    gradient = lab.estimator(who.name, **who.settings)

    @jax.jit
    def run(carry: Carry, first: Array, began: Array) -> Carry:
        def step(carry, number):
            params, state = carry
            own = at_step(key, "step", number)
            x, y = student.batch(named(own, "data"), batch_size)
            changes, state = MOMENTS.update(gradient(named(own, "draw"), params, x, y), state)
            left = rate * (1 + jnp.cos(jnp.pi * (number - began) / (steps - began))) / 2
            return (jax.tree.map(lambda leaf, change: leaf - left * change, params, changes), state), None

        return jax.lax.scan(step, carry, first + jnp.arange(every))[0]

    return run


def _ends(final: Mapping[str, float], titles: Mapping[str, str]) -> list[str]:
    """Where the plans that change end, as far as that is finite."""
    plans = [titles[plan] for plan in ("switch", "restart")]
    return [f"{plan} ends at {final[plan]:.3g}." for plan in plans if plan in final]


def _conclude(
    cells: Sequence[Cell], titles: Mapping[str, str], at: np.ndarray, measured: Mapping[str, np.ndarray]
) -> Findings:
    by_step, by_time, rows, numbers = [], [], [], {}
    for label, title in titles.items():
        mine = where(cells, estimator=label)
        mean, sd = mean_and_sd(measured["loss"][mine])
        seconds = measured["seconds"][mine].mean(axis=0)
        by_step.append(Curve(title, at, mean, mean - sd, mean + sd))
        by_time.append(Curve(title, seconds, mean))
        numbers[label] = {"final_loss": float(mean[-1]), "final_loss_sd": float(sd[-1])}
        rows.append((title, f"{mean[-1]:.3g} ± {sd[-1]:.2g}", f"{seconds[-1]:.2g} s"))
    for plan in ("restart", "switch"):
        switched = measured["switched"][where(cells, estimator=plan)]
        numbers[plan]["switched_at"] = [float(step) for step in switched]
    final, others = only_finite({title: numbers[label]["final_loss"] for label, title in titles.items()})
    best = min(final, key=lambda title: final[title], default=None)
    changes = int(np.isfinite(switched).sum())
    sentences = (
        f"Trained to the end, {best} reaches the lowest loss, {final[best]:.3g} on average.{others}"
        if best is not None
        else "Trained to the end, no estimator's loss is finite.",
        " ".join([f"{changes} of {len(switched)} students were stuck.", *_ends(final, titles)]),
    )
    figures = (
        Figure("Against steps", "Bands: standard deviation over students.", "step", "loss", tuple(by_step), log_y=True),
        Figure("Against time", "Compiling left out.", "seconds", "loss", tuple(by_time), log_x=True, log_y=True),
    )
    return Findings(numbers, sentences, figures, (Table("At the end", ("estimator", "loss", "time"), tuple(rows)),))
