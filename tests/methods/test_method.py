"""What methods have in common: drawing candidates."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from jaxnas.methods.method import Setup, best_drawn
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import random

SPACE = product_space("toy", {"sizes": ("0", "1", "2", "3")}, {"sizes": 2})
ALL = list(itertools.product(range(4), repeat=2))


def total(gates):
    """The sum of both sizes."""
    return jnp.sum(gates["sizes"] @ jnp.arange(4.0))


def judge(architecture, **settings):
    """The larger, the better, and the first choice counts a little more."""
    return jnp.sum(architecture["sizes"] * jnp.asarray([0.11, 0.1]))


@pytest.mark.parametrize("limit", [0.0, 1.0, 3.0, 4.0])
def test_the_best_of_what_was_drawn_is_within_the_limit(limit):
    """Of two hundred draws among sixteen, every architecture is among them (a miss has a chance of 4e-5)."""
    setup = Setup(SPACE, None, 1, 1, cost=total, limit=limit)
    found = best_drawn(setup, jax.random.key(0), 200, lambda key: random(SPACE, key), judge)
    possible = [one for one in ALL if not limit or sum(one) <= limit]
    best = max(possible, key=lambda one: 0.11 * one[0] + 0.1 * one[1])
    assert tuple(found.best["sizes"].tolist()) == best


def test_nothing_within_the_limit_is_nothing_found():
    setup = Setup(SPACE, None, 1, 1, cost=total, limit=0.5)
    found = best_drawn(setup, jax.random.key(0), 3, lambda key: {"sizes": jnp.asarray([1, 2], jnp.int32)}, judge)
    assert float(found.accuracy) == -1
