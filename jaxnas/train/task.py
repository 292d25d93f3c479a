"""A task is anything that trains by epochs; its whole state is one pytree and its epoch one compiled program.

Searches and the training of what they found are tasks alike, so that resuming, logging and data parallelism exist once.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Averaged, Key, PyTree
from jaxnas.train.parallel import Devices

LOSS = "the loss", "a smaller learning rate"  # what is not finite where weights learn, and what to try instead


class Task(NamedTuple):
    """What to train, on which devices. `branches` tells whether a step chooses what to run by its data.

    init: (key, before) -> learner, the pytree that a step changes; before is the learner that the task before this one
        ended with where the task continues it, and () otherwise.
    begin_epoch: (key, epoch) -> order, what the epoch's steps need to find their data (computed once a call).
    step: (key, learner, data, order, position in the epoch) -> (learner, metrics: scalars or `Averaged`).
    finish_epoch: (key, learner, data, epoch) -> (learner, row), the row being what to remember of the epoch.
    ended: learner -> whether to end before the last epoch, looked at after every epoch; None for never.
    stream: tells the randomness of tasks that follow one another in a run apart; those without a name share it.
    feed: (first step) -> the data of every step from there on, one after another, for data that do not stay on the
        device; None where they do. What a step is fed is a function of its number, so that resuming is exact.
    checked: learner -> what of it has to stay finite. fault: (the learner of one seed, when that or a metric did not)
        -> what is not finite and what to try instead, for people.
    room: rows of the history, if there are more than epochs, so that tasks which are alike but for their epochs have
        the same program.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    devices: Devices
    branches: bool
    init: Callable[[Key, PyTree], PyTree]
    begin_epoch: Callable[[Key, Array], PyTree]
    step: Callable[[Key, PyTree, PyTree, PyTree, Array], tuple[PyTree, dict[str, Array]]]
    finish_epoch: Callable[[Key, PyTree, PyTree, Array], tuple[PyTree, dict[str, Array]]]
    ended: Callable[[PyTree], Array] | None = None
    stream: str = ""
    feed: Callable[[int], Iterator[PyTree]] | None = None
    checked: Callable[[PyTree], PyTree] = lambda learner: learner
    fault: Callable[[PyTree], tuple[str, str]] = lambda learner: LOSS
    room: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole task."""
        return self.epochs * self.steps_per_epoch


class RunState(NamedTuple):
    """Everything that a run needs to go on, exactly as if it had never stopped.

    step: int32, steps done. key: the run's key; the randomness of a step is a function of (key, step).
    sums: the step metrics summed since the epoch began (`Averaged` ones with their weight).
    history: {name: [epochs, ...]}, a row for every epoch, and zeros where a task has room for more.
    failed: int32, the first step after which metrics or learner were not finite, -1 as long as there is none.
    """

    step: Array
    key: Key
    learner: PyTree
    sums: dict[str, Any]
    history: Mapping[str, Array]
    failed: Array


def rehearse(task: Task, data: PyTree, before: PyTree = ()) -> Any:
    """Traces one step and one epoch's end, without running or compiling them: a RunState of shapes and types.

    before: the learner that the task continues, or its shapes. Errors of shape surface here, before anything is
    written.
    """

    def one_epoch(key, data, before):
        learner, zero = task.init(key, before), jnp.zeros((), jnp.int32)
        _, metrics = task.step(key, learner, data, task.begin_epoch(key, zero), zero)
        return learner, metrics, task.finish_epoch(key, learner, data, zero)[1]

    key = jax.random.key(0)
    learner, metrics, row = task.devices.eval_shape(one_epoch, key, data, before)
    one_row = jax.eval_shape(lambda metrics, row: {**_means(metrics, 1), **row}, metrics, row)
    history: Any = {
        name: jax.ShapeDtypeStruct((max(task.epochs, task.room), *leaf.shape), leaf.dtype)
        for name, leaf in one_row.items()
    }
    integer: Any = jax.ShapeDtypeStruct((), jnp.int32)
    run_key: Any = jax.ShapeDtypeStruct(key.shape, key.dtype)
    return RunState(integer, run_key, learner, metrics, history, integer)


def init_run(task: Task, key: Key, shapes: Any, before: PyTree = ()) -> RunState:
    """The state before the first step, of the shapes that `rehearse` gave; jit- and vmap-able over keys."""
    key = named(key, task.stream) if task.stream else key
    sums, history = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (shapes.sums, shapes.history))
    learner = task.init(named(key, "learner"), before)
    return RunState(jnp.zeros((), jnp.int32), key, learner, sums, history, jnp.full((), -1, jnp.int32))


def advance(task: Task, run: RunState, data: PyTree, count: Array) -> RunState:
    """Takes `count` steps, all within one epoch, without leaving the device, and notes the first that is not finite.

    The number of steps is an argument of the compiled program: whatever pieces an epoch is run in (to save in between,
    to answer a signal), the same program runs and the result is the same, bit for bit.
    """
    order = task.begin_epoch(named(run.key, "data"), run.step // task.steps_per_epoch)

    def one_step(_: Array, run: RunState) -> RunState:
        key = at_step(run.key, "step", run.step)
        learner, metrics = task.step(key, run.learner, data, order, run.step % task.steps_per_epoch)
        sums = jax.tree.map(jnp.add, run.sums, metrics)
        failed = jnp.where((run.failed < 0) & ~_all_finite(metrics), run.step, run.failed)
        return run._replace(step=run.step + 1, learner=learner, sums=sums, failed=failed)

    return _checked(task, lax.fori_loop(0, count, one_step, run))


def _checked(task: Task, run: RunState) -> RunState:
    """Notes the step just taken where the learner is no longer finite."""
    broken = (run.failed < 0) & ~_all_finite(task.checked(run.learner))
    return run._replace(failed=jnp.where(broken, run.step - 1, run.failed))


def finish_epoch(task: Task, run: RunState, data: PyTree) -> RunState:
    """Closes the epoch whose last step was just taken: validates, and writes its row of the history."""
    epoch = run.step // task.steps_per_epoch - 1
    learner, row = task.finish_epoch(at_step(run.key, "finish_epoch", epoch), run.learner, data, epoch)
    values = {**_means(run.sums, task.steps_per_epoch), **row}
    history = {name: run.history[name].at[epoch].set(value) for name, value in values.items()}
    sums = jax.tree.map(jnp.zeros_like, run.sums)
    return _checked(task, run._replace(learner=learner, sums=sums, history=history))


def _means(sums: Mapping[str, Any], steps: int) -> dict[str, Array]:
    """The means of an epoch's metrics; NaN for one that no step had."""
    return {
        name: one.total / jnp.where(one.weight > 0, one.weight, jnp.nan) if isinstance(one, Averaged) else one / steps
        for name, one in sums.items()
    }


def _all_finite(tree: PyTree) -> Array:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
