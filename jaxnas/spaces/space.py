"""What follows from any Space alone: random, mutated and crossed architectures, encodings and probabilities.

All functions of arrays work under jit and vmap. Whatever makes an architecture ends in `space.decode`, so that it is
valid in spaces where not every combination of options is.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Gates, Key, Logits, Space

# Logits of an option that is held, that is preferred, and (not below any other) of one that is ruled out. Noise is in
# [0, 1), so that it breaks ties and nothing else.
HELD, PREFERRED, RULED_OUT = 4.0, 8.0, -1.0


def encode(space: Space, architecture: Architecture) -> Gates:
    """One-hot rows, float32 {part: [choices, options]}: the gates under which exactly this architecture runs."""
    return {part: jax.nn.one_hot(architecture[part], options) for part, (_, options) in space.shapes.items()}


def random(space: Space, key: Key) -> Architecture:
    """A random architecture: what `decode` makes of independent standard Gumbel noise in every logit.

    Uniform over the valid architectures wherever they can be carried into one another by permuting choices and options
    in a way that `decode` commutes with: such a permutation leaves independent, identically distributed noise as it is,
    so all architectures that it connects are equally likely. This holds where every combination is valid (`decode` is
    the argmax of each row), and for cells (see `spaces.cell`).
    """
    noise = {p: jax.random.gumbel(named(key, p), shape) for p, shape in space.shapes.items()}
    return space.decode(noise)


def _noise(space: Space, key: Key) -> Mapping[str, Array]:
    return {p: jax.random.uniform(named(key, p), shape) for p, shape in space.shapes.items()}


def mutate(space: Space, key: Key, architecture: Architecture, rate: Array | float) -> Architecture:
    """Gives each choice another option with probability `rate`, uniformly among its other options.

    Where the space then has to repair the result (a node of a cell keeps two edges), mutated choices take precedence
    over those that were not mutated. A mutated choice never keeps its option unless the space leaves it no other.
    """
    noise = _noise(space, named(key, "noise"))

    def perturbed(part: str) -> Array:
        current = jax.nn.one_hot(architecture[part], space.shapes[part][1])
        mutated = jax.random.bernoulli(named(key, part), rate, current.shape[:1])[:, None]
        without = jnp.where(current > 0, RULED_OUT, noise[part])
        chosen = jax.nn.one_hot(jnp.argmax(without, axis=-1), current.shape[-1])
        return jnp.where(mutated, without + PREFERRED * chosen, noise[part] + HELD * current)

    return space.decode({part: perturbed(part) for part in space.shapes})


def crossover(space: Space, key: Key, first: Architecture, second: Architecture) -> Architecture:
    """Takes each choice from either parent with equal probability.

    Where the space has to repair the result, what the repair brings in comes from the other parent as far as possible:
    every operation that a crossed cell keeps is one that a parent keeps on that edge.
    """
    noise = _noise(space, named(key, "noise"))
    parents = encode(space, first), encode(space, second)

    def mixed(part: str) -> Array:
        from_first = jax.random.bernoulli(named(key, part), 0.5, (space.shapes[part][0], 1))
        one, other = parents[0][part], parents[1][part]
        taken, left = jnp.where(from_first, one, other), jnp.where(from_first, other, one)
        return noise[part] + PREFERRED * taken + HELD * left

    return space.decode({part: mixed(part) for part in space.shapes})


def log_prob(logits: Logits, architecture: Architecture) -> Array:
    """Log-probability (nats, a scalar) of drawing exactly these options, every choice independently by its softmax."""
    parts = (
        jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits[part]), architecture[part][:, None], axis=-1))
        for part in logits
    )
    return jnp.sum(jnp.stack(list(parts)))


def entropy(logits: Logits) -> Mapping[str, Array]:
    """Entropy of each part's choices in nats, summed over the choices: {part: scalar}."""

    def of_part(values: Array) -> Array:
        log_probabilities = jax.nn.log_softmax(values)
        # An option of probability zero (logit -inf) contributes nothing, not 0 · inf.
        return -jnp.sum(jnp.where(jnp.isneginf(log_probabilities), 0.0, jnp.exp(log_probabilities) * log_probabilities))

    return {part: of_part(values) for part, values in logits.items()}
