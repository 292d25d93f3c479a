"""What is ruled out between stages and at the end, against brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.relax.categorical import masked
from jaxnas.search.restriction import keep_strongest, restricted_skips
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space

SPACE = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))
SKIP = 1


def logits_of(seed):
    return {part: 2 * jax.random.normal(jax.random.key(seed), shape) for part, shape in SPACE.shapes.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_the_strongest_are_kept(count):
    logits = logits_of(0)
    for part, kept in keep_strongest(logits, count).items():
        expected = np.argsort(np.argsort(-np.asarray(logits[part]), axis=-1), axis=-1) < count
        np.testing.assert_array_equal(kept, expected)


def test_what_was_dropped_stays_dropped():
    """From stage to stage the sets shrink: an excluded option is never among the strongest of the others."""
    first = keep_strongest(logits_of(1), 2)
    second = keep_strongest(masked(logits_of(2), first), 1)
    for part in first:
        assert bool(jnp.all(first[part] | ~second[part]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", range(5))
def test_identities_are_restricted_one_by_one(seed, most):
    """The weakest identity loses its probability, and the cell is derived again, until there are few enough."""
    logits = logits_of(seed)
    logits["normal"] = logits["normal"].at[:, SKIP].add(2.0)
    values = np.asarray(jax.nn.softmax(logits["normal"])).copy()
    others = jax.nn.softmax(logits["reduce"])
    while True:
        found = np.asarray(SPACE.best({"reduce": others, "normal": jnp.asarray(values)})["normal"])
        skips = np.flatnonzero(found == SKIP)
        if len(skips) <= most:
            break
        values[skips[np.argmin(values[skips, SKIP])], SKIP] = -1.0
    actual = jax.jit(lambda logits: restricted_skips(SPACE, logits, most))(logits)
    np.testing.assert_array_equal(actual["normal"], found)
    np.testing.assert_array_equal(actual["reduce"], SPACE.decode(logits)["reduce"])


def test_no_restriction_leaves_the_architecture():
    for seed, part in itertools.product(range(3), SPACE.shapes):
        logits = logits_of(seed)
        np.testing.assert_array_equal(restricted_skips(SPACE, logits, 4)[part], SPACE.decode(logits)[part])


def test_spaces_without_identities_are_decoded():
    space = product_space("chain", {"blocks": ("a", "b")}, {"blocks": 3})
    logits = {"blocks": jax.random.normal(jax.random.key(0), (3, 2))}
    np.testing.assert_array_equal(restricted_skips(space, logits, 0)["blocks"], space.decode(logits)["blocks"])
