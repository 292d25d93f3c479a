"""The students that the lab's experiments start from: raw, or trained with the vanilla STE for a while."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.core.errors import choose
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Key, Params
from jaxnas.data.sources import load
from jaxnas.networks import sign_network
from jaxnas.relax.binary import straight_through

STEPS, BATCH, RATE = 500, 16_000, 1e-2  # of pretraining; the seed document gives steps and batch


class Student(NamedTuple):
    """A sign network to improve. batch: (key, size) -> inputs [size, in] and targets [size, out] of its task."""

    params: Params
    batch: Callable[[Key, int], tuple[Array, Array]]


class Task(NamedTuple):
    """What a student is to learn: the widths of its inputs and outputs, and where its batches come from."""

    inputs: int
    outputs: int
    batch: Callable[[Key, int], tuple[Array, Array]]


def teacher(key: Key, width: int, layers: int, bias: bool) -> Task:
    """The outputs of a network of the student's own shape, on inputs from N(0, 1)."""
    params = sign_network.init(named(key, "teacher"), (*[width] * layers, 1), bias)

    def batch(key: Key, size: int) -> tuple[Array, Array]:
        x = jax.random.normal(key, (size, width))
        return x, sign_network.apply(params, x)

    return Task(width, 1, batch)


def digits(key: Key, width: int, layers: int, bias: bool) -> Task:
    """Real images: the training part of scikit-learn's digits, rows drawn with replacement; targets are one-hot.

    Pixels are shifted and scaled to mean 0 and deviation 1 over all images. The squared error to one-hot targets is a
    classification loss that every estimator of the lab takes.
    """
    del key, width, layers, bias
    data = load("digits")
    pixels = data.x_train.reshape(len(data.x_train), -1).astype(np.float32)
    x = (pixels - pixels.mean()) / pixels.std()
    y = np.eye(len(data.class_names), dtype=np.float32)[data.y_train]

    def batch(key: Key, size: int) -> tuple[Array, Array]:
        rows = jax.random.randint(key, (size,), 0, len(x))
        return jnp.asarray(x)[rows], jnp.asarray(y)[rows]

    return Task(x.shape[1], y.shape[1], batch)


TASKS: Mapping[str, Callable[[Key, int, int, bool], Task]] = {"teacher": teacher, "digits": digits}


def make_student(
    seed: int,
    init: int,
    width: int,
    layers: int,
    *,
    pretrained: bool,
    task: str = "teacher",
    bias: bool = True,
    steps: int = STEPS,
) -> Student:
    """The student number `init` of a seed: `layers` layers, the hidden ones of that width; `task`: a name of TASKS."""
    key = at_step(named(jax.random.key(seed), f"student_{width}_{layers}"), "init", init)
    chosen = choose("task", task, TASKS)(key, width, layers, bias)
    widths = (chosen.inputs, *[width] * (layers - 1), chosen.outputs)
    student = Student(sign_network.init(named(key, "student"), widths, bias), chosen.batch)
    return student._replace(params=_trained(student, named(key, "training"), steps)) if pretrained else student


def _trained(student: Student, key: Key, steps: int) -> Params:
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    activation = straight_through("clipped")

    @jax.jit
    def run(params: Params) -> Params:
        def step(carry, number):
            params, state = carry
            x, y = student.batch(jax.random.fold_in(key, number), BATCH)
            gradient = jax.grad(sign_network.loss)(params, x, y, activation)
            changes, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, changes), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[0][0]

    return run(student.params)


def unit_length(gradient: Params) -> Params:
    """The gradient divided by its length over all tensors; zeros stay zeros."""
    length = optax.tree.norm(gradient)
    return jax.tree.map(lambda leaf: leaf / jnp.where(length > 0, length, 1), gradient)


def unit_tensors(gradient: Params) -> Params:
    """Every tensor of the gradient divided by its own length; zeros stay zeros."""

    def unit(leaf: Array) -> Array:
        length = jnp.linalg.norm(leaf)
        return leaf / jnp.where(length > 0, length, 1)

    return jax.tree.map(unit, gradient)
