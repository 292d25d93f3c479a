"""One table of samplers, one list of properties that all of them have."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.relax import categorical
from jaxnas.spaces.space import log_prob

TEMPERATURE = categorical.linear_temperature(2.0, 0.5, 10)
SAMPLERS = {
    "softmax": (categorical.softmax(), False),
    "gumbel_softmax": (categorical.gumbel_softmax(TEMPERATURE), False),
    "gumbel_straight_through": (categorical.gumbel_straight_through(TEMPERATURE), True),
    "argmax": (categorical.argmax(), True),
}
LOGITS = {
    "normal": jax.random.normal(jax.random.key(0), (5, 4)),
    "reduce": 3 * jax.random.normal(jax.random.key(1), (2, 4)),
}
COUNT = jnp.asarray(3)


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS.keys())
def sampler_and_hard(request):
    return request.param


def test_draw(sampler_and_hard):
    sampler, hard = sampler_and_hard
    draw = jax.jit(sampler)(jax.random.key(2), LOGITS, COUNT)
    chex.assert_trees_all_equal_shapes_and_dtypes(draw.gates, LOGITS)
    for part, gates in draw.gates.items():
        np.testing.assert_allclose(jnp.sum(gates, -1), 1.0, rtol=1e-6)
        assert float(jnp.min(gates)) >= 0
        assert draw.architecture[part].shape == gates.shape[:1]
        assert jnp.issubdtype(draw.architecture[part].dtype, jnp.integer)
        if hard:
            np.testing.assert_array_equal(gates, jax.nn.one_hot(draw.architecture[part], 4))
    np.testing.assert_allclose(draw.log_prob, log_prob(LOGITS, draw.architecture), rtol=1e-5)


def test_gradient_is_finite_and_a_draw_repeats(sampler_and_hard):
    sampler, _ = sampler_and_hard

    def loss(logits):
        gates = sampler(jax.random.key(2), logits, COUNT).gates
        return sum(jnp.sum(jnp.sin(3 * values)) for values in gates.values())

    chex.assert_tree_all_finite(jax.grad(loss)(LOGITS))
    chex.assert_trees_all_equal(sampler(jax.random.key(5), LOGITS, COUNT), sampler(jax.random.key(5), LOGITS, COUNT))


def test_vmap_equals_one_by_one(sampler_and_hard):
    sampler, _ = sampler_and_hard
    keys = jax.random.split(jax.random.key(3), 4)
    together = jax.vmap(lambda key: sampler(key, LOGITS, COUNT))(keys)
    for number, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], together)
        chex.assert_trees_all_close(one, sampler(key, LOGITS, COUNT), rtol=1e-6)


@pytest.mark.parametrize("name", ["gumbel_softmax", "gumbel_straight_through"])
def test_gumbel_draws_follow_softmax(name):
    """Whatever the temperature; the bound is five standard errors of a binomial share."""
    count = 20_000
    keys = jax.random.split(jax.random.key(4), count)
    draws = jax.vmap(lambda key: SAMPLERS[name][0](key, LOGITS, COUNT).architecture)(keys)
    for part, values in LOGITS.items():
        expected = jax.nn.softmax(values)
        share = jnp.mean(jax.nn.one_hot(draws[part], 4), axis=0)
        assert float(jnp.max(jnp.abs(share - expected) / jnp.sqrt(expected * (1 - expected) / count))) < 5


def test_parts_are_independent_streams():
    """Parts of equal logits draw different noise, and a part's noise does not depend on which others there are."""
    sampler = SAMPLERS["gumbel_softmax"][0]
    same = {"normal": LOGITS["normal"], "reduce": LOGITS["normal"]}
    both = sampler(jax.random.key(0), same, COUNT).gates
    assert not np.allclose(both["normal"], both["reduce"])
    alone = sampler(jax.random.key(0), {"normal": LOGITS["normal"]}, COUNT).gates
    np.testing.assert_array_equal(alone["normal"], both["normal"])


def test_straight_through_has_the_relaxed_derivative():
    """For an objective that is linear in the gates, exactly that of the Gumbel-softmax with the same noise."""
    weights = jax.tree.map(lambda leaf: jnp.arange(leaf.size, dtype=jnp.float32).reshape(leaf.shape), LOGITS)

    def loss(name, logits):
        gates = SAMPLERS[name][0](jax.random.key(6), logits, COUNT).gates
        return sum(jnp.vdot(weights[part], gates[part]) for part in gates)

    hard, soft = (
        jax.grad(lambda logits, name=name: loss(name, logits))(LOGITS)
        for name in ("gumbel_straight_through", "gumbel_softmax")
    )
    chex.assert_trees_all_close(hard, soft, rtol=1e-6)


def test_temperature_goes_from_start_to_end():
    np.testing.assert_allclose(
        [TEMPERATURE(0), TEMPERATURE(5), TEMPERATURE(10), TEMPERATURE(20)], [2.0, 1.25, 0.5, 0.5]
    )
