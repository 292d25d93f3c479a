"""What follows from any Space alone: random, mutated and crossed architectures, encodings and probabilities.

All functions of arrays work under jit and vmap. Whatever makes an architecture ends in `space.best`, so that it is
valid in spaces where not every combination of options is.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Gates, Key, Logits, Space

# Scores of an option that is held, that is preferred, and (not below any other) of one that is ruled out. Noise is in
# [0, 1), so that it breaks ties and nothing else.
HELD, PREFERRED, RULED_OUT = 4.0, 8.0, -1.0
RESOLUTION = 2.0**-24  # noise is a multiple of it


def encode(space: Space, architecture: Architecture) -> Gates:
    """One-hot rows, float32 {part: [choices, options]}: the gates under which exactly this architecture runs."""
    return {part: jax.nn.one_hot(architecture[part], options) for part, (_, options) in space.shapes.items()}


def features(space: Space, architecture: Architecture) -> Array:
    """All one-hot rows one after another, float32 [features], zeros where a choice decides nothing."""
    matters = _relevant(space, architecture)
    return jnp.concatenate([(of * matters[part][:, None]).ravel() for part, of in encode(space, architecture).items()])


def _relevant(space: Space, architecture: Architecture) -> Mapping[str, Array]:
    """Which choices decide anything, {part: bool [choices]}."""
    if space.relevant is None:
        return {part: jnp.ones(choices, bool) for part, (choices, _) in space.shapes.items()}
    return space.relevant(architecture)


def random(space: Space, key: Key) -> Architecture:
    """A random architecture: the best one where every option scores independent noise of one distribution.

    Uniform over the valid architectures wherever they can be carried into one another by permuting choices and options
    in a way that `best` commutes with: such a permutation leaves independent, identically distributed noise as it is,
    so all architectures that it connects are equally likely. This holds where every combination is valid (`best` is
    the argmax of each row), and for cells (see `spaces.cell`).
    """
    return space.best({part: noise for part, (noise, _) in _noise(space, key).items()})


def _noise(space: Space, key: Key) -> Mapping[str, tuple[Array, Array]]:
    """Uniform noise in [0, 1) for every option and every choice: {part: (float32 [choices, options], [choices])}."""

    return {part: _noise_of(part, shape, key) for part, shape in space.shapes.items()}


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)  # one program where it is not part of another
def _noise_of(part: str, shape: tuple[int, int], key: Key) -> tuple[Array, Array]:
    choices, options = shape
    noise = _spread(jax.random.bits(named(key, part), (choices,)), options + 1)
    return noise[:, :options], noise[:, options]


def _spread(words: Array, count: int) -> Array:
    """Makes `count` numbers in [0, 1) of every random word, uint32 [n] -> float32 [n, count].

    They are the multiples of the golden ratio from that word on, each mixed by the last step of MurmurHash3 (Appleby):
    where one word decides one choice they do for independent ones, in an eighth of the time that as many words take.
    """
    mixed = words[:, None] + jnp.uint32(0x9E3779B9) * jnp.arange(1, count + 1, dtype=jnp.uint32)
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * jnp.uint32(0xC2B2AE35)
    return ((mixed ^ (mixed >> 16)) >> 8).astype(jnp.float32) * RESOLUTION


def mutate(
    space: Space, key: Key, architecture: Architecture, rate: Array | float, *, always: bool = False
) -> Architecture:
    """Gives each choice another option with probability `rate`, uniformly among its other options.

    always: whether one choice that decides something, drawn uniformly, mutates where none would.
    Where the space then has to repair the result (a node of a cell keeps two edges), mutated choices take precedence
    over those that were not mutated. A mutated choice never keeps its option unless the space leaves it no other.
    Choices that decided nothing are drawn anew: they may decide something now, as those of a block that was not there.
    """

    drawn, matters = _noise(space, key), _relevant(space, architecture)
    if always:  # a change of what decides nothing would be none
        lucks = [jnp.where(matters[part], luck, 1.0) for part, (_, luck) in drawn.items()]
        rate = jnp.maximum(rate, jnp.min(jnp.concatenate(lucks)) + RESOLUTION)

    def perturbed(part: str, noise: Array, luck: Array) -> Array:
        current = encode(space, architecture)[part]
        without = jnp.where((current > 0) | ~space.allowed[part], RULED_OUT, noise)
        chosen = without == jnp.max(without, axis=-1, keepdims=True)
        scores = jnp.where((luck < rate)[:, None], without + PREFERRED * chosen, noise + HELD * current)
        return jnp.where(matters[part][:, None], scores, noise)

    return space.best({part: perturbed(part, *noise) for part, noise in drawn.items()})


def crossover(space: Space, key: Key, first: Architecture, second: Architecture) -> Architecture:
    """Takes each choice from either parent with equal probability.

    Where the space has to repair the result, what the repair brings in comes from the other parent as far as possible:
    every operation that a crossed cell keeps is one that a parent keeps on that edge. A choice that decides nothing in
    one parent comes from the other, and is drawn anew where it decides nothing in both.
    """
    parents = tuple(
        {part: rows * matters[part][:, None] for part, rows in encode(space, one).items()}
        for one, matters in ((one, _relevant(space, one)) for one in (first, second))
    )

    def mixed(part: str, noise: Array, luck: Array) -> Array:
        one, other = parents[0][part], parents[1][part]
        preference = jnp.where((luck < 0.5)[:, None], PREFERRED * one + HELD * other, PREFERRED * other + HELD * one)
        return noise + preference

    return space.best({part: mixed(part, *noise) for part, noise in _noise(space, key).items()})


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
