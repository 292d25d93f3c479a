"""The tiled loss against the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.layers import backend
from jaxnas.networks import sign_network
from jaxnas.networks.sign_tiles import tiled_loss

X = jax.random.normal(jax.random.key(1), (20, 3))
Y = jax.random.normal(jax.random.key(2), (20, 2))


@pytest.mark.parametrize("implementation", backend.IMPLEMENTATIONS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize("tile", [None, 4, 7, 20, 100])
def test_a_tiled_loss_is_the_loss(tile, width, bias, implementation):
    params = sign_network.init(jax.random.key(0), (3, width, width, 2), bias)
    with backend.use(implementation):
        found = tiled_loss(params, X, Y, tile)
    np.testing.assert_allclose(found, sign_network.loss(params, X, Y), rtol=1e-5)


@pytest.mark.parametrize("width", [3, 20])
def test_zero_counts_as_positive_and_targets_may_have_one_axis(width):
    params = jax.tree.map(jnp.zeros_like, sign_network.init(jax.random.key(0), (3, width, 1)))
    params[1]["kernel"] = jnp.ones((width, 1))
    np.testing.assert_allclose(tiled_loss(params, X, jnp.zeros(20), 7), width**2, rtol=1e-6)


@pytest.mark.parametrize("width", [3, 20])
def test_what_is_not_a_number_does_not_pass_for_a_sign(width):
    params = sign_network.init(jax.random.key(0), (3, width, 1))
    assert jnp.isnan(tiled_loss(params, X.at[5, 0].set(jnp.nan), Y[:, :1], 7))
