"""Samplers of categorical codes: continuous logits -> gates. Logits and gates are {part: float[choices, options]}.

Every sampler has the type `Sampler`: (key, logits, count) -> Draw, where `count` is the number of steps done, for
annealed temperatures. The parts of one draw are independent, with one stream of randomness each. An option with the
logit EXCLUDED has probability zero, exactly.
"""

from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Array, Draw, Key, Logits, Sampler

# A logit whose probability is zero, exactly. Not -inf, which turns into NaN where it is subtracted from itself.
EXCLUDED = -1e9
# A gate so small that what it multiplies changes no sum, and yet not zero: its option runs, for its gradient's sake.
VANISHING = 1e-20


def masked(logits: Logits, allowed: Mapping[str, Array]) -> Logits:
    """The logits with EXCLUDED in place of options that are not allowed; both {part: [choices, options]}."""
    return {part: jnp.where(allowed[part], values, EXCLUDED) for part, values in logits.items()}


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


def multinomial_straight_through() -> Sampler:
    """One-hot forward, drawn from softmax(logits), with the derivative of softmax(logits) itself.

    Unlike that of `gumbel_straight_through` the derivative does not depend on the draw, and there is no temperature.
    It is how ProxylessNAS (Cai, Zhu & Han 2019, eq. 4) carries the gradients of its binary gates to the logits.
    """

    def draw(key, values):
        index = jax.random.categorical(key, values)
        soft = jax.nn.softmax(values)
        return _straight_through(_one_hot(index, soft), soft), index

    return lambda key, logits, count: _per_part(draw, key, logits)


def log_prob_straight_through() -> Sampler:
    """One-hot forward, drawn from softmax(logits); the gate drawn has the derivative of its log-probability.

    So a loss L has the gradient Σ over choices of ∂L/∂gate · ∇ log p (DSNAS, Hu et al. 2020, eq. 10).
    """

    def draw(key, values):
        index = jax.random.categorical(key, values)
        return _straight_through(_one_hot(index, values), _one_hot(index, values) * jax.nn.log_softmax(values)), index

    return lambda key, logits, count: _per_part(draw, key, logits)


def two_paths() -> Sampler:
    """Draws two options of every choice and chooses between these two: binary gates (Cai, Zhu & Han 2019, section 3.2).

    The two are drawn without replacement by their probabilities, the one that is active by the softmax of the two. Its
    gate is 1, the other's VANISHING, so that a network running two paths evaluates both; the derivative is that of the
    softmax of the two. Choices need two allowed options for a gradient.
    """

    def draw(key, values):
        pair_key, active_key = jax.random.split(key)
        _, pair = jax.lax.top_k(values + jax.random.gumbel(pair_key, values.shape, values.dtype), 2)
        of_pair = jnp.take_along_axis(values, pair, axis=-1)
        active = jax.random.categorical(active_key, of_pair)[:, None]
        index = jnp.take_along_axis(pair, active, axis=-1)[:, 0]
        sampled = jnp.any(_one_hot(pair, values) > 0, axis=1)
        soft = jax.nn.softmax(jnp.where(sampled, values, EXCLUDED))
        return _straight_through(jnp.where(sampled, jnp.maximum(_one_hot(index, values), VANISHING), 0.0), soft), index

    return lambda key, logits, count: _per_part(draw, key, logits)


def ordered_threshold() -> Sampler:
    """Nested options: option j is reached from j - 1 where logits[:, j] > 0, decided with a sigmoid's derivative.

    The choice is the last option that is reached (Single-Path NAS, Stamoulis et al. 2019, eq. 4-6, whose logits are the
    squared norm of what the option adds, less a threshold). Column 0 is not read. No noise: the draw is a function of
    the logits.
    """

    def draw(key, values):
        del key
        gates = _nested(
            values, lambda margin: _straight_through((margin > 0).astype(margin.dtype), jax.nn.sigmoid(margin))
        )
        return gates, jnp.argmax(gates, axis=-1)

    return lambda key, logits, count: _per_part(draw, key, logits)


def ordered_probabilities(values: Array) -> Array:
    """The chance of each option of `ordered_threshold` if steps were taken with their sigmoid; [choices, options]."""
    return _nested(values, jax.nn.sigmoid)


def _nested(values: Array, step: Callable[[Array], Array]) -> Array:
    """Option j as the product of the steps up to it and the complement of the next; an excluded first is no step."""
    reach = jnp.ones_like(values[:, :1])
    for option in range(1, values.shape[-1]):
        passed_over = values[:, option - 1 : option] <= EXCLUDED / 2
        following = reach[:, -1:] * jnp.where(passed_over, 1.0, step(values[:, option : option + 1]))
        reach = jnp.concatenate([reach, following], axis=-1)
    beyond = jnp.concatenate([reach[:, 1:], jnp.zeros_like(reach[:, :1])], axis=-1)
    return reach - beyond


def edge_normalized(sampler: Sampler, nodes: Mapping[str, tuple[str, Sequence[tuple[int, int]]]]) -> Sampler:
    """Multiplies the gates of every edge by a softmax over the edges into its node (PC-DARTS, Xu et al. 2020, eq. 3).

    nodes: {part: (the part of the logits [nodes, sources] that weighs its edges, the edges (source, node))}. Those
        parts are logits of the draw, but not among its gates.
    """

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        weighing = {name for name, _ in nodes.values()}
        draw = sampler(key, {part: values for part, values in logits.items() if part not in weighing}, count)
        gates = dict(draw.gates)
        for part, (name, edges) in nodes.items():
            sources, targets = np.asarray(edges).T
            gates[part] = gates[part] * jax.nn.softmax(logits[name])[targets, sources][:, None]
        return draw._replace(gates=gates)

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


def exponential_temperature(start: float, end: float, steps: int) -> optax.Schedule:
    """A temperature that decays from `start` to `end` over `steps` steps by the same factor in each."""
    return optax.exponential_decay(start, max(steps, 1), end / start, end_value=end)
