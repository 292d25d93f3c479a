"""Training with each estimator, not one step but many; and changing to another one where the first is stuck."""

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
from jaxnas.evaluate.lab.contenders import Contender, mean_and_sd, only_finite, where
from jaxnas.evaluate.lab.findings import Cell, Curve, Experiment, Figure, Findings, Table
from jaxnas.evaluate.lab.students import TASKS, Student, make_student

Stretch = Callable[[tuple[Params, optax.OptState], Array], tuple[Params, optax.OptState]]


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
    """Students trained by Adam on fresh batches with each estimator, and with one that gives way to another.

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
    contenders.check_enumerable(people.values(), (dim,), layers)
    plans = {label: (label, None) for label in estimators} | {"switch": (switch_from, switch_to)}
    titles = {label: people[label].title for label in estimators}
    titles["switch"] = f"{people[switch_from].title}, then {people[switch_to].title}"
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    cells = tuple({"init": init, "estimator": label} for init in range(inits) for label in plans)

    def measure(cell: Cell) -> Mapping[str, np.ndarray]:
        student = make_student(seed, cell["init"], dim, layers, pretrained=False, task=task)
        key = at_step(named(jax.random.key(seed), "training"), "init", cell["init"])
        x, y = student.batch(named(key, "measure"), 16_384)
        first, second = plans[cell["estimator"]]
        stretches = {
            label: _stretch(people[label], student, optimizer, key, batch_size, every)
            for label in (first, second)
            if label is not None
        }
        loss = jax.jit(lab.loss)
        carry = student.params, optimizer.init(student.params)
        losses, seconds, now, switched = [float(loss(carry[0], x, y))], [0.0], first, np.nan
        for stretch in stretches.values():
            jax.block_until_ready(stretch(carry, jnp.asarray(0)))  # compiled before the clock starts
        begin = time.perf_counter()
        for number in range(steps // every):
            if second is not None and now == first and is_stuck(losses, window, tolerance):
                now, switched = second, float(number * every)
            carry = jax.block_until_ready(stretches[now](carry, jnp.asarray(number * every)))
            seconds.append(time.perf_counter() - begin)
            losses.append(float(loss(carry[0], x, y)))
        return {"loss": np.asarray(losses), "seconds": np.asarray(seconds), "switched": np.asarray(switched)}

    points = steps // every + 1
    shapes = {"loss": (points,), "seconds": (points,), "switched": ()}
    at = np.arange(points, dtype=float) * every
    return Experiment(
        "training", cells, shapes, measure, lambda measured: _conclude(cells, titles, at, measured), timed=True
    )


def is_stuck(losses: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the lowest of the last `window` losses is not lower, by a share, than the lowest before them."""
    if len(losses) <= window:
        return False
    return min(losses[-window:]) > (1 - tolerance) * min(losses[:-window])


def _stretch(
    who: Contender, student: Student, optimizer: optax.GradientTransformation, key: Key, batch_size: int, every: int
) -> Stretch:
    """A compiled function of the carry and the number of its first step that takes `every` steps."""
    gradient = lab.estimator(who.name, **who.settings)

    @jax.jit
    def run(carry: tuple[Params, optax.OptState], start: Array) -> tuple[Params, optax.OptState]:
        def step(carry, number):
            params, state = carry
            own = at_step(key, "step", number)
            x, y = student.batch(named(own, "data"), batch_size)
            changes, state = optimizer.update(gradient(named(own, "draw"), params, x, y), state)
            return (optax.apply_updates(params, changes), state), None

        return jax.lax.scan(step, carry, start + jnp.arange(every))[0]

    return run


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
    switched = measured["switched"][where(cells, estimator="switch")]
    numbers["switch"]["switched_at"] = [float(step) for step in switched]
    final, others = only_finite({title: numbers[label]["final_loss"] for label, title in titles.items()})
    best = min(final, key=lambda title: final[title], default=None)
    changes = int(np.isfinite(switched).sum())
    sentences = (
        f"Trained to the end, {best} reaches the lowest loss, {final[best]:.3g} on average.{others}"
        if best is not None
        else "Trained to the end, no estimator's loss is finite.",
        f"{titles['switch']}: {changes} of {len(switched)} students were stuck and changed the estimator.",
    )
    figures = (
        Figure("Against steps", "Bands: standard deviation over students.", "step", "loss", tuple(by_step), log_y=True),
        Figure("Against time", "Compiling left out.", "seconds", "loss", tuple(by_time), log_x=True, log_y=True),
    )
    return Findings(numbers, sentences, figures, (Table("At the end", ("estimator", "loss", "time"), tuple(rows)),))
