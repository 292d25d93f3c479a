"""The students that the lab's experiments start from: raw, or trained with the vanilla STE for a while."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Key, Params
from jaxnas.networks import sign_network
from jaxnas.relax.binary import straight_through

STEPS, BATCH, RATE = 500, 16_000, 1e-2  # of pretraining; the seed document gives steps and batch


class Student(NamedTuple):
    """A sign network to improve, and the teacher of the same shape that sets its targets."""

    params: Params
    teacher: Params

    def batch(self, key: Key, size: int) -> tuple[Array, Array]:
        """x ~ N(0, 1), [size, in], and the teacher's outputs, [size, out]."""
        x = jax.random.normal(key, (size, self.params[0]["kernel"].shape[0]))
        return x, sign_network.apply(self.teacher, x)


def make_student(
    seed: int, init: int, width: int, layers: int, *, pretrained: bool, bias: bool = True, steps: int = STEPS
) -> Student:
    """The student number `init` of a seed: `layers` layers of that width, the last with one output."""
    key = at_step(named(jax.random.key(seed), f"student_{width}_{layers}"), "init", init)
    widths = (*[width] * layers, 1)
    teacher, params = (sign_network.init(named(key, role), widths, bias) for role in ("teacher", "student"))
    student = Student(params, teacher)
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
