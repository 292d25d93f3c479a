"""Samplers of categorical codes: continuous logits -> gates. Logits and gates are {part: float[choices, options]}.

Every sampler has the type `Sampler`: (key, logits, count) -> Draw, where `count` is the number of steps done, for
annealed temperatures. The parts of one draw are independent, with one stream of randomness each.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Draw, Key, Logits, Sampler


def _per_part(draw: Callable[[Key, Array], tuple[Array, Array]], key: Key, logits: Logits) -> Draw:
    """Applies draw(key, logits [choices, options]) -> (gates, option numbers [choices]) to every part."""
    gates, architecture, log_prob = {}, {}, jnp.zeros(())
    for part, values in logits.items():
        chex.assert_rank(values, 2)
        gates[part], architecture[part] = draw(named(key, part), values)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(values), architecture[part][:, None], axis=-1)
        log_prob = log_prob + jnp.sum(chosen)
    return Draw(gates, architecture, log_prob)


def _one_hot(index: Array, like: Array) -> Array:
    return jax.nn.one_hot(index, like.shape[-1], dtype=like.dtype)


def _straight_through(hard: Array, soft: Array) -> Array:
    """The value of `hard`, exactly, with the derivative of `soft`."""
    return jax.lax.stop_gradient(hard) + (soft - jax.lax.stop_gradient(soft))


def softmax() -> Sampler:
    """No draw at all: every option weighted by its probability (DARTS, Liu et al. 2019, eq. 2)."""

    def draw(key, values):
        del key
        return jax.nn.softmax(values), jnp.argmax(values, axis=-1)

    return lambda key, logits, count: _per_part(draw, key, logits)


def gumbel_softmax(temperature: optax.Schedule) -> Sampler:
    """Relaxed one-hot gates softmax((logits + Gumbel noise) / τ) (SNAS, Xie et al. 2019, eq. 4)."""

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        def draw(key, values):
            noisy = values + jax.random.gumbel(key, values.shape, values.dtype)
            return jax.nn.softmax(noisy / temperature(count)), jnp.argmax(noisy, axis=-1)

        return _per_part(draw, key, logits)

    return sample


def gumbel_straight_through(temperature: optax.Schedule) -> Sampler:
    """One-hot forward, relaxed backward (GDAS, Dong & Yang 2019, eq. 5-7).

    The options drawn are exact samples of softmax(logits), whatever the temperature; it shapes the gradient only.
    """

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        def draw(key, values):
            noisy = values + jax.random.gumbel(key, values.shape, values.dtype)
            soft = jax.nn.softmax(noisy / temperature(count))
            index = jnp.argmax(noisy, axis=-1)
            return _straight_through(_one_hot(index, soft), soft), index

        return _per_part(draw, key, logits)

    return sample


def argmax() -> Sampler:
    """The most probable option of every choice as one-hot gates, without gradient."""

    def draw(key, values):
        del key
        index = jnp.argmax(values, axis=-1)
        return _one_hot(index, values), index

    return lambda key, logits, count: _per_part(draw, key, logits)


def linear_temperature(start: float, end: float, steps: int) -> optax.Schedule:
    """A temperature that goes linearly from `start` to `end` over `steps` steps."""
    return optax.linear_schedule(start, end, max(steps, 1))
