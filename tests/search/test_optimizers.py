"""The optimizers against the update rules written out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.search.optimizers import adam, sgd, skip_inactive

PARAMS = {"a": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.asarray([4.0])}
GRADIENTS = [
    {"a": jnp.asarray([[3.0, 4.0], [0.0, 0.0]]), "b": jnp.asarray([12.0])},
    {"a": jnp.asarray([[0.1, 0.2], [0.3, 0.4]]), "b": jnp.asarray([-0.5])},
]
SGD = {"momentum": 0.9, "weight_decay": 0.01, "clip": 5.0}


def test_sgd_clips_then_decays_then_accumulates():
    optimizer, params = sgd(0.1, **SGD), PARAMS
    state = optimizer.init(params)
    velocity = jax.tree.map(jnp.zeros_like, params)
    expected = params
    for gradient in GRADIENTS:
        changes, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, changes)
        norm = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))))
        scale = min(1.0, 5.0 / norm)
        velocity = jax.tree.map(lambda v, g, w, s=scale: 0.9 * v + s * g + 0.01 * w, velocity, gradient, expected)
        expected = jax.tree.map(lambda w, v: w - 0.1 * v, expected, velocity)
    chex.assert_trees_all_close(params, expected, rtol=1e-5)


def test_adam_takes_the_decay_into_the_gradient():
    optimizer = adam(0.1, b1=0.5, b2=0.999, weight_decay=0.01)
    changes, _ = optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS)
    decayed = jax.tree.map(lambda g, w: g + 0.01 * w, GRADIENTS[0], PARAMS)  # the first step is the sign of this
    chex.assert_trees_all_close(changes, jax.tree.map(lambda g: -0.1 * g / (jnp.abs(g) + 1e-8), decayed), rtol=1e-4)


def test_skip_inactive_leaves_weights_and_their_momentum_alone():
    inner = sgd(0.1, **SGD)
    optimizer = skip_inactive(inner)
    active = {"a": jnp.asarray([[True], [False]]), "b": True}
    _, state = optimizer.update(GRADIENTS[0], optimizer.init(PARAMS), PARAMS, active={"a": True, "b": True})
    changes, after = optimizer.update(GRADIENTS[1], state, PARAMS, active=active)
    plain_changes, plain_after = inner.update(GRADIENTS[1], state, PARAMS)
    trace, before, plain = (optax.tree_utils.tree_get(s, "trace") for s in (after, state, plain_after))
    np.testing.assert_array_equal(changes["a"][1], 0.0)  # a zero gradient would still decay and roll on
    np.testing.assert_array_equal(trace["a"][1], before["a"][1])
    np.testing.assert_array_equal(changes["a"][0], plain_changes["a"][0])
    np.testing.assert_array_equal(trace["a"][0], plain["a"][0])
    np.testing.assert_array_equal(changes["b"], plain_changes["b"])
    assert float(jnp.abs(plain_changes["a"][1]).min()) > 0
