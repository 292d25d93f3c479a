"""What a step of every search method costs, relative to a step of training one network of the space.

The ideal of a method that runs one path is 1, that of a mixture the number of options. The programs measured are those
of real runs: augmentation, data, optimizers and metrics included.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import PyTree
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.plan import Plan, plan
from jaxnas.spaces.space import random
from jaxnas.train.loop import compile_task
from jaxnas.train.parallel import init_over_seeds
from jaxnas.train.task import Task, init_run, rehearse

EXAMPLES, SIZE, CLASSES = 128, 32, 10  # as many images of CIFAR-10's size as a few steps need
CALLS = 5


class Step(NamedTuple):
    """A task's step. Seconds of tracing and compiling, without and with the persistent cache, and of a step.

    step: the fastest of some; spread: the slowest divided by the fastest. memory: bytes of the program with its data.
    """

    name: str
    compile: float
    compile_cached: float
    step: float
    spread: float
    memory: int


def methods_suite(configs: Mapping[str, Any], batch_size: int) -> dict[str, Any]:
    """Measures every config's search, and the training of one random architecture of each space among them.

    configs: {label: a search config}; data, batch size and retraining are replaced by what the measurement needs.
    """
    rows, trained = [], {}
    with tempfile.TemporaryDirectory() as folder:
        path = write_images(Path(folder) / "images.npz")
        for label, config in configs.items():
            made = plan(_small(config, path, batch_size))
            space = made.space.name
            if space not in trained:
                trained[space] = _train_step(made, space)
            stages = made.stages
            for stage in stages:
                name = label if len(stages) == 1 else f"{label}, {stage.task.name}"
                step = measure_step(name, stage.task, stage.shapes, made.search_data(), _before(made, stage.task))
                print(f"{name}: {step.step:.3f} s a step", file=sys.stderr)  # the whole takes half an hour
                derived = trained[space]
                rows.append(
                    step._asdict()
                    | {"space": space, "ratio": step.step / derived.step, "memory_ratio": step.memory / derived.memory}
                )
    return {
        "batch_size": batch_size,
        "derived": {space: step._asdict() for space, step in trained.items()},
        "rows": rows,
    }


def write_images(path: Path) -> str:
    """Writes random images of CIFAR-10's shape, and their labels."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{name}_{split}": rng.integers(0, 256, (EXAMPLES, SIZE, SIZE, 3), np.uint8) if name == "x" else labels
        for split in ("train", "test")
        for labels in [np.arange(EXAMPLES) % CLASSES]
        for name in ("x", "y")
    }
    np.savez(path, allow_pickle=False, **arrays)
    return str(path)


def _small(config: Any, path: str, batch_size: int) -> Any:
    """The config on these images, with stand-alone networks of the supernet's size."""
    with config.unlocked():
        config.data.name, config.data.path = "npz", path
        config.batch_size, config.retrain.batch_size = batch_size, batch_size
        config.retrain.epochs = 1
        if config.space.name == "darts":
            config.retrain.channels, config.retrain.layers = config.space.channels, config.space.layers
            config.retrain.auxiliary = False
        config.retrain.drop_path = 0.0
    return config


def _train_step(made: Plan, name: str) -> Step:
    _, task = made.training(random(made.space, jax.random.key(0)), "training")
    data = TrainingData(jnp.asarray(made.dataset.x_train), jnp.asarray(made.dataset.y_train))
    return measure_step(f"one network of {name}", task, rehearse(task, data), data)


def _before(made: Plan, task: Task) -> PyTree:
    """Learners for a stage to continue: zeros of the shapes that the stage before ends with."""
    earlier = [stage.shapes.learner for stage in made.stages]
    number = next(i for i, stage in enumerate(made.stages) if stage.task is task)
    if number == 0:
        return ()
    return jax.tree.map(lambda leaf: jnp.ones((1, *leaf.shape), leaf.dtype), earlier[number - 1])


def measure_step(name: str, task: Task, shapes: Any, data: PyTree, before: PyTree = ()) -> Step:
    """Compiles a task twice, the second time from the persistent cache if one is set, and times its steps."""
    run = init_over_seeds(lambda key, before: init_run(task, key, shapes, before), (0,), before)
    cold, programs = _seconds(lambda: compile_task(task, run, data))
    jax.clear_caches()
    cached, programs = _seconds(lambda: compile_task(task, run, data))
    one = jnp.asarray(1, jnp.int32)
    run = jax.block_until_ready(programs.advance(run, data, one))
    times = []
    for _ in range(CALLS):
        seconds, run = _seconds(lambda run=run: jax.block_until_ready(programs.advance(run, data, one)))
        times.append(seconds)
    return Step(name, cold, cached, min(times), max(times) / min(times), programs.advance.memory)


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = function()
    return time.perf_counter() - begin, result
