"""Which rows of a device-resident dataset make up which batch: a pure function of the key and the step.

Nothing about the order of data needs saving, so a resumed run sees the very batches it would have seen.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Array, Key


def steps_per_epoch(count: int, batch_size: int, field: str = "batch_size") -> int:
    """Whole batches in `count` examples; the remainder is dropped. Raises UserError, naming `field`, without any."""
    _check_batch_size(batch_size)
    if batch_size > count:
        raise UserError(f"{field} {batch_size} is larger than the {count} examples of the split; use at most {count}.")
    return count // batch_size


def epoch_order(key: Key, epoch: Array | int, count: int) -> Array:
    """The order of one epoch: a random permutation of 0 ... count - 1, int32 [count], the same for (key, epoch)."""
    return jax.random.permutation(at_step(key, "order", epoch), jnp.arange(count, dtype=jnp.int32))


def rows(order: Array, step_in_epoch: Array | int, batch_size: int) -> Array:
    """The rows of one batch, int32 [batch_size]; step_in_epoch is in 0 ... steps_per_epoch - 1."""
    chex.assert_rank(order, 1)
    return jax.lax.dynamic_slice_in_dim(order, step_in_epoch * batch_size, batch_size)


def evaluation_rows(count: int, batch_size: int) -> tuple[Array, Array]:
    """Batches that cover every example exactly once, in order.

    Returns rows int32 [steps, batch_size] and mask float32 [steps, batch_size]: 1 for an example, 0 where the last
    batch is filled up with rows from the start again.
    """
    _check_batch_size(batch_size)
    if count < 1:
        raise UserError(f"an evaluation needs at least one example, not {count}.")
    steps = -(-count // batch_size)
    position = jnp.arange(steps * batch_size, dtype=jnp.int32).reshape(steps, batch_size)
    return position % count, (position < count).astype(jnp.float32)


def split_rows(key: Key, count: int, fraction: float) -> tuple[Array, Array]:
    """Splits 0 ... count - 1 at random, the same way for the same key: int32 [n] and int32 [count - n].

    n is count * fraction, rounded. Raises UserError where either part would be empty.
    """
    first = round(count * fraction)
    if not 0 < first < count:
        raise UserError(
            f"a fraction of {fraction} splits {count} examples into {first} and {count - first}; both parts need at "
            "least one example, so the fraction must be between 0 and 1."
        )
    return _split(key, count, first)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _split(key: Key, count: int, first: int) -> tuple[Array, Array]:
    order = jax.random.permutation(named(key, "split"), jnp.arange(count, dtype=jnp.int32))
    return order[:first], order[first:]


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}.")
