"""The memory of evaluated architectures, against a dictionary."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import random
from jaxnas.strategies.seen import among, look_up, nothing_seen, remember, remembered, repeated

SMALL = product_space("small", {"a": ("1", "2"), "b": ("1", "2", "3")}, {"a": 2, "b": 1})  # 12 architectures
WIDE = cell_space(4)  # 84 bits, in more than one word

SPACES = [SMALL, WIDE]

look = jax.jit(look_up)
store = jax.jit(remember)


@partial(jax.jit, static_argnums=(0, 2))
def several(number, seed, count):
    return jax.vmap(lambda key: random(SPACES[number], key))(jax.random.split(jax.random.key(seed), count))


def drawn(space, seed, count):
    return several(SPACES.index(space), seed, count)


def rows(architectures):
    return [tuple(row) for row in np.concatenate([architectures[part] for part in sorted(architectures)], axis=1)]


def update(reference, capacity, architectures, accuracies):
    """The same with a dictionary, which is in the order of insertion."""
    for row, accuracy in zip(rows(architectures), accuracies, strict=True):
        reference.setdefault(row, accuracy)
    while len(reference) > capacity:
        reference.pop(next(iter(reference)))


@pytest.mark.parametrize(("space", "capacity"), [(SMALL, 12), (SMALL, 20), (WIDE, 40)], ids=["full", "room", "words"])
def test_it_knows_what_a_dictionary_knows(space, capacity):
    seen, reference = nothing_seen(space, capacity), {}
    for round_ in range(6):
        batch, accuracies = drawn(space, round_, 5), jax.random.uniform(jax.random.key(round_), (5,))
        known, found = look(seen, batch)
        assert known.tolist() == [row in reference for row in rows(batch)]
        assert found.tolist() == [float(reference.get(row, 0.0)) for row in rows(batch)]
        seen = store(seen, batch, accuracies)
        update(reference, capacity, batch, accuracies)
        assert int(seen.stored) == len(reference)
    architectures, stored = jax.jit(lambda seen: remembered(space, seen))(seen)
    assert stored.tolist() == [number < len(reference) for number in range(capacity)]
    assert dict(zip(rows(architectures)[: len(reference)], seen.accuracy.tolist(), strict=False)) == reference


@pytest.mark.parametrize("capacity", [1, 3, 7])
def test_the_oldest_give_way(capacity):
    """Batches of 5 into fewer slots, too: of more than fit the last ones stay, which are different by construction."""
    seen, reference = nothing_seen(WIDE, capacity), {}
    for round_ in range(4):
        batch = drawn(WIDE, 10 + round_, 5)
        seen = store(seen, batch, jnp.arange(5.0) + round_)
        update(reference, capacity, batch, jnp.arange(5.0) + round_)
        everything = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(drawn(WIDE, 10 + n, 5) for n in range(4)))
        known, found = look(seen, everything)
        assert known.tolist() == [row in reference for row in rows(everything)]
        assert found.tolist() == [float(reference.get(row, 0.0)) for row in rows(everything)]


def test_what_is_known_stays_as_it_is():
    one = drawn(WIDE, 1, 1)
    thrice = jax.tree.map(lambda leaf: jnp.tile(leaf, (3, 1)), one)
    seen = store(nothing_seen(WIDE, 4), thrice, jnp.asarray([0.5, 0.6, 0.7]))
    seen = store(seen, thrice, jnp.asarray([0.1, 0.2, jnp.nan]))
    assert int(seen.stored) == 1
    assert look(seen, one)[1].tolist() == [0.5]


def test_architectures_that_differ_in_one_choice_are_different():
    """Every neighbour of an architecture is unknown, whichever word its choice is in."""
    one = jax.tree.map(lambda leaf: leaf[0], drawn(WIDE, 1, 1))
    options = np.concatenate([one[part] for part in sorted(one)])
    near = np.asarray(
        [[*options[:at], other, *options[at + 1 :]] for at in range(28) for other in range(8) if other != options[at]]
    )
    seen = store(nothing_seen(WIDE, 2), drawn(WIDE, 1, 1), jnp.ones(1))
    known, _ = look(seen, {"normal": jnp.asarray(near[:, :14]), "reduce": jnp.asarray(near[:, 14:])})
    assert len(near) == 28 * 7
    assert not np.any(known)


def test_repeated_and_among():
    batch = drawn(SMALL, 3, 30)
    counts = jnp.asarray(np.random.default_rng(4).uniform(size=30) < 0.5)
    listed = rows(batch)
    expected = [any(counts[n] and listed[n] == row for n in range(at)) for at, row in enumerate(listed)]
    assert repeated(SMALL, batch, counts).tolist() == expected
    few, others = jax.tree.map(lambda leaf: leaf[:20], batch), jax.tree.map(lambda leaf: leaf[20:], batch)
    counted = [row for row, counted in zip(listed[20:], counts[20:], strict=True) if counted]
    assert among(SMALL, few, others, counts[20:]).tolist() == [row in counted for row in listed[:20]]
    assert among(SMALL, few, others).tolist() == [row in listed[20:] for row in listed[:20]]
