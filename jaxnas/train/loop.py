"""The only Python loop: calls the compiled pieces of a task, saves, reports, and stops when asked."""

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import Stopped, UserError
from jaxnas.core.types import PyTree
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog, Progress
from jaxnas.train.parallel import Program, compile_program, init_over_seeds, one_of, over_seeds, prefers_one_by_one
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import RunState, Task, advance, finish_epoch, init_run

# A call into the compiled program returns to Python after about this many seconds, to answer signals and show progress.
# Where an epoch is shorter it is one call; where it is longer, a return costs milliseconds, one part in a thousand.
SECONDS_PER_CALL = 5.0

SHOWN = ("train_loss", "valid_accuracy", "loss", "accuracy")  # beside the progress bar


class Cadence(NamedTuple):
    """When to save besides at the end: after so many steps (0: never), and after so many seconds."""

    every_steps: int
    every_seconds: float


class Surroundings(NamedTuple):
    """What a task runs for and with: its seeds, when to save, where to log, and the request to stop."""

    seeds: tuple[int, ...]
    cadence: Cadence
    log: MetricLog
    stop: StopRequest


class Outcome(NamedTuple):
    """A finished task: its final state (leading axis: seeds), and seconds {"compile", "run"} over all restarts.

    memory: bytes on each device of the program that takes the steps, with all its data.
    """

    run: RunState
    seconds: Mapping[str, float]
    memory: int


class Programs(NamedTuple):
    """A task compiled for its state, data and devices."""

    advance: Program
    finish_epoch: Program


def compile_task(task: Task, run: PyTree, data: PyTree) -> Programs:
    """Compiles both programs of a task for a state with a leading axis of seeds; each is traced once."""
    one_by_one = prefers_one_by_one(task.branches)
    steps = over_seeds(lambda run, data, count: advance(task, run, data, count), one_by_one=one_by_one)
    closing = over_seeds(lambda run, data: finish_epoch(task, run, data), one_by_one=one_by_one)
    return Programs(
        compile_program(steps, task.devices, run, data, jnp.zeros((), jnp.int32)),
        compile_program(closing, task.devices, run, data),
    )


def train(
    task: Task,
    shapes: RunState,
    data: PyTree,
    around: Surroundings,
    checkpoints: Checkpoints,
    first_step: int,
    before: PyTree = (),
) -> Outcome:
    """Runs a task for every seed from its newest checkpoint, or from the start, to its end.

    shapes: what `rehearse` gave for the task. first_step: where this task's steps begin in the log of the whole run.
    before: the learners (leading axis: seeds) that the task continues, if it does.
    Raises Stopped, after saving, when a stop was requested, and UserError when a loss is not finite (the newest
    checkpoint, which is finite, is kept).
    """

    def start() -> RunState:
        return init_over_seeds(lambda key, before: init_run(task, key, shapes, before), around.seeds, before)

    restored = checkpoints.restore(jax.eval_shape(start))
    for problem in restored.skipped if restored else ():
        print(f"warning: {problem}", file=sys.stderr)
    step = restored.step if restored else 0
    seconds = dict(restored.metadata["seconds"]) if restored else {"compile": 0.0, "run": 0.0}
    if restored and (step == task.steps or _ended(task, restored.state, step)):
        return Outcome(_trimmed(task, restored.state, step), seconds, restored.metadata["memory"])
    if around.stop.requested:  # asked between two tasks: compiling first could take minutes
        raise _stopped(task, step, around.stop.requested)
    around.log.rewind(first_step + step)
    print(f"{task.name}: compiling", file=sys.stderr)
    begin = time.perf_counter()
    feed = task.feed(step) if task.feed else itertools.repeat(data)
    with contextlib.closing(_on_devices(task, feed)) as fed:
        run, data = task.devices.replicate(restored.state if restored else start()), next(fed)
        programs = compile_task(task, run, data)
        seconds["compile"] += time.perf_counter() - begin
        run, step = _loop(task, programs, run, step, data, fed, around, checkpoints, first_step, seconds)
    return Outcome(_trimmed(task, run, step), seconds, programs.advance.memory)


def _on_devices(task: Task, feed: Iterator[PyTree]) -> Generator[PyTree]:
    """The data of one step after another on the task's devices; what stays is put there once."""
    try:
        if task.feed is None:
            data = task.devices.replicate(next(feed))
            while True:
                yield data
        for data in feed:
            yield task.devices.replicate(data)
    finally:
        close = getattr(feed, "close", None)
        if close is not None:  # ends the processes that prepare data
            close()


def _ended(task: Task, run: RunState, step: int) -> bool:
    """Whether every seed's search has ended before the last epoch; looked at between epochs."""
    if task.ended is None or step % task.steps_per_epoch or step == 0:
        return False
    return bool(np.all(np.asarray(jax.vmap(task.ended)(run.learner))))


def _trimmed(task: Task, run: RunState, step: int) -> RunState:
    """A finished run whose history has the epochs that there were."""
    epochs = step // task.steps_per_epoch
    return run._replace(history={name: values[:, :epochs] for name, values in run.history.items()})


def _loop(
    task: Task,
    programs: Programs,
    run: RunState,
    step: int,
    data: PyTree,
    fed: Iterator[PyTree],
    around: Surroundings,
    checkpoints: Checkpoints,
    first_step: int,
    seconds: dict[str, float],
) -> tuple[RunState, int]:
    """Takes the steps from `step` on; data: of the first of them, fed: of those that follow."""
    saved_at = time.perf_counter()
    pace = SECONDS_PER_CALL  # seconds per step; so large that the first call takes one step and measures it
    score: float | None = None
    best = -math.inf  # so that a resumed run saves its next score, too
    with Progress(task.name, epochs=task.epochs) as progress:
        progress.start(task.steps, step)
        while step < task.steps and not _ended(task, run, step):
            begin = time.perf_counter()
            count = 1 if task.feed else _steps_now(task, step, around.cadence.every_steps, pace)
            run = programs.advance(run, data, jnp.asarray(count, jnp.int32))
            if step + count < task.steps:
                data = next(fed)  # while the devices are at work
            _check_finite(task, run, around.seeds, checkpoints)
            step += count
            pace = (time.perf_counter() - begin) / count
            score, row = None, {}
            if step % task.steps_per_epoch == 0:
                run = programs.finish_epoch(run, data)
                _check_finite(task, run, around.seeds, checkpoints)
                row = _epoch_row(run, step // task.steps_per_epoch - 1, around.seeds)
                score = row.get("search_accuracy")
                around.log.write(first_step + step, {f"{task.name}/{name}": value for name, value in row.items()})
            progress.update(step, {name: row[name] for name in SHOWN if math.isfinite(row.get(name, math.nan))})
            seconds["run"] += time.perf_counter() - begin
            overdue = time.perf_counter() - saved_at >= around.cadence.every_seconds
            on_the_step = around.cadence.every_steps > 0 and step % around.cadence.every_steps == 0
            better = score is not None and score > best
            last = step == task.steps or _ended(task, run, step)
            if better or overdue or on_the_step or around.stop.requested or last:
                best = max(best, -math.inf if score is None else score)
                checkpoints.save(step, run, {"seconds": dict(seconds), "memory": programs.advance.memory}, score)
                saved_at = time.perf_counter()
            if around.stop.requested and not last:
                checkpoints.wait()
                raise _stopped(task, step, around.stop.requested)
    checkpoints.wait()
    return run, step


def _stopped(task: Task, step: int, signal: str) -> Stopped:
    return Stopped(signal, f"in {task.name} at step {step} of {task.steps}")


def _steps_now(task: Task, step: int, every_steps: int, pace: float) -> int:
    """Steps for the next call: to the end of the epoch, the next save or the next look around, whichever is first."""
    limits = [task.steps_per_epoch - step % task.steps_per_epoch, max(1, int(SECONDS_PER_CALL / pace))]
    if every_steps > 0:
        limits.append(every_steps - step % every_steps)
    return min(limits)


def _epoch_row(run: RunState, epoch: int, seeds: tuple[int, ...]) -> dict[str, float]:
    """The scalars of one epoch: the mean over seeds, and each seed's own where there are several."""
    row = {}
    for name, values in run.history.items():
        if values.ndim == 2:
            column = np.asarray(values)[:, epoch]
            row[name] = float(column.mean())
            if len(seeds) > 1:
                row |= {f"{name}/seed_{seed}": float(value) for seed, value in zip(seeds, column, strict=True)}
    return row


def _check_finite(task: Task, run: RunState, seeds: tuple[int, ...], checkpoints: Checkpoints) -> None:
    """Raises UserError where what a seed learns stopped being finite; waits for the device to be done."""
    failed = np.asarray(run.failed)
    if np.all(failed < 0):
        return
    checkpoints.wait()
    number = int(np.argmax(failed >= 0))
    kept = checkpoints.latest_step()
    what, remedy = task.fault(one_of(run.learner, number))
    raise UserError(
        f"{task.name}: {what} is not finite at step {int(failed[number])} of seed {seeds[number]}; "
        + (f"the checkpoint of step {kept} is kept; " if kept is not None else "no step had been saved yet; ")
        + f"try {remedy} in a new workdir."
    )
