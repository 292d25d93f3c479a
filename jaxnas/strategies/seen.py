"""Which architectures a search has evaluated, and how well they did, in arrays of fixed shapes.

A search that draws an architecture again need not evaluate it again: with `jax.lax.cond` on what `look_up` answers.
"""

from functools import reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Architecture, Array, Space

WORD = 2**31  # the numbers from 0 up to this one fit an int32


class Seen(NamedTuple):
    """The architectures that were remembered last, as many as there are slots.

    codes: `numbered` architectures, int32 [words, capacity]. accuracy: float32 [capacity].
    stored: how many ever were; number n is in slot n modulo the capacity, until another takes its place.
    places: what numbers them, int32 [choices, words].
    """

    codes: Array
    accuracy: Array
    stored: Array
    places: Array


def nothing_seen(space: Space, capacity: int) -> Seen:
    """A memory for `capacity` architectures of the space, all slots empty."""
    places = jnp.asarray(_places(space))
    codes = jnp.zeros((places.shape[1], capacity), jnp.int32)
    return Seen(codes, jnp.zeros(capacity), jnp.zeros((), jnp.int32), places)


def look_up(seen: Seen, architectures: Architecture) -> tuple[Array, Array]:
    """Which of these architectures {part: [batch, choices]} are known, bool [batch], and the accuracy of those.

    The accuracies are float32 [batch], 0 where the architecture is not known.
    """
    filled = jnp.arange(seen.accuracy.shape[0]) < seen.stored
    matches = _same(_number(seen.places, architectures), seen.codes) & filled
    known = jnp.any(matches, axis=1)
    return known, jnp.where(known, seen.accuracy[jnp.argmax(matches, axis=1)], 0.0)


def remember(seen: Seen, architectures: Architecture, accuracies: Array) -> Seen:
    """Stores architectures {part: [batch, choices]} with their accuracies [batch], over the oldest where it is full.

    What is known already stays as it is, and of equals among the new ones the first is stored.
    """
    capacity = seen.accuracy.shape[0]
    codes = _number(seen.places, architectures)
    known, _ = look_up(seen, architectures)
    new = ~known & ~_repeated(codes, jnp.ones_like(known))
    number = jnp.cumsum(new)
    # Of more than fit the last are kept; slot `capacity` does not exist, so that nothing is written there.
    kept = new & (number > number[-1] - capacity)
    slot = jnp.where(kept, (seen.stored + number - 1) % capacity, capacity)
    return seen._replace(
        codes=seen.codes.at[:, slot].set(codes, mode="drop"),
        accuracy=seen.accuracy.at[slot].set(accuracies, mode="drop"),
        stored=seen.stored + number[-1],
    )


def remembered(space: Space, seen: Seen) -> tuple[Architecture, Array]:
    """All slots as architectures {part: [capacity, choices]}, and which of them hold one, bool [capacity]."""
    parts = sorted(space.shapes)
    options = np.concatenate([np.full(*space.shapes[part]) for part in parts])
    words, places = jnp.argmax(seen.places, axis=1), jnp.max(seen.places, axis=1)
    digits = seen.codes[words] // places[:, None] % options[:, None]
    ends = np.cumsum([space.shapes[part][0] for part in parts])[:-1]
    found = dict(zip(parts, jnp.split(digits.T.astype(jnp.int32), ends, axis=1), strict=True))
    return {part: found[part] for part in space.shapes}, jnp.arange(seen.accuracy.shape[0]) < seen.stored


def repeated(space: Space, architectures: Architecture, counts: Array) -> Array:
    """Which of architectures {part: [n, choices]} equal an earlier one that counts (bool [n]); bool [n]."""
    return _repeated(_number(_places(space), architectures), counts)


def among(space: Space, architectures: Architecture, others: Architecture, counts: Array | bool = True) -> Array:
    """Which of architectures {part: [n, choices]} equal one of the others [m] that counts (bool [m]); bool [n]."""
    one, other = (_number(_places(space), group) for group in (architectures, others))
    return jnp.any(_same(one, other) & counts, axis=1)


def _places(space: Space) -> np.ndarray:
    """The value of one more in every choice, int32 [choices, words]: options are digits of as few numbers as hold them.

    Choices are in the order of their parts' names. Comparing numbers takes a fraction of comparing options.
    """
    values, word, place = [], 0, 1
    for part in sorted(space.shapes):
        choices, options = space.shapes[part]
        for _ in range(choices):
            if place * options > WORD:
                word, place = word + 1, 1
            values.append((word, place))
            place *= options
    places = np.zeros((len(values), word + 1), np.int32)
    for choice, (word, place) in enumerate(values):
        places[choice, word] = place
    return places


def _number(places: Array | np.ndarray, architectures: Architecture) -> Array:
    """Architectures {part: [n, choices]} as numbers, one column each: int32 [words, n]."""
    options = jnp.concatenate([architectures[part] for part in sorted(architectures)], axis=1)
    return jnp.einsum("nc,cw->wn", options, jnp.asarray(places))


def _same(one: Array, other: Array) -> Array:
    """Which columns of [words, n] and [words, m] are equal, bool [n, m]."""
    return reduce(jnp.logical_and, (a[:, None] == b for a, b in zip(one, other, strict=True)))


def _repeated(codes: Array, counts: Array) -> Array:
    return jnp.any(jnp.tril(_same(codes, codes), k=-1) & counts, axis=1)
