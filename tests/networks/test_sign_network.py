"""Sign networks: values by hand, shapes, and what `check` refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.networks import sign_network
from jaxnas.relax.binary import sign, straight_through

X = jnp.ones((4, 3))
Y = jnp.ones((4, 1))


def network(*widths, bias=True):
    return sign_network.init(jax.random.key(0), widths, bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [(3, 1), (3, 5, 2), (2, 4, 4, 1)])
def test_a_network_by_hand(widths, bias):
    params = network(*widths, bias=bias)
    x = jax.random.normal(jax.random.key(1), (6, widths[0]))
    expected = np.asarray(x)
    for number, layer in enumerate(params):
        expected = expected @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0.0))
        if number < len(params) - 1:
            expected = np.where(expected >= 0, 1.0, -1.0)
    np.testing.assert_allclose(sign_network.apply(params, x), expected, rtol=1e-5, atol=1e-6)
    y = jnp.zeros((6, widths[-1]))
    np.testing.assert_allclose(sign_network.loss(params, x, y), (expected**2).mean(), rtol=1e-5)
    assert all(set(layer) == ({"kernel", "bias"} if bias else {"kernel"}) for layer in params)


def test_targets_of_one_output_may_have_one_axis():
    params = network(3, 4, 1)
    assert sign_network.loss(params, X, Y[:, 0]) == sign_network.loss(params, X, Y)


def test_scaling_the_weights_into_a_sign_changes_nothing():
    params = network(3, 5, 1)
    scaled = (jax.tree.map(lambda leaf: 7.0 * leaf, params[0]), params[1])
    x = jax.random.normal(jax.random.key(1), (50, 3))
    np.testing.assert_array_equal(sign_network.apply(scaled, x), sign_network.apply(params, x))


def test_binary_weights_act_by_their_signs():
    params = network(3, 4, 1, bias=False)
    signs = jax.tree.map(lambda leaf: jnp.where(leaf >= 0, 1.0, -1.0), params)
    x = jax.random.normal(jax.random.key(1), (6, 3))
    np.testing.assert_allclose(
        sign_network.apply(params, x, binary_weights=True), sign_network.apply(signs, x), rtol=1e-6
    )
    gradient = jax.grad(lambda p: sign_network.apply(p, x, straight_through(), binary_weights=True).sum())(params)
    assert float(jnp.abs(gradient[0]["kernel"]).sum()) > 0


def test_layers_may_differ_in_their_activation():
    params = network(3, 5, 4, 1)
    x = jax.random.normal(jax.random.key(1), (6, 3))
    first = jnp.where(x @ params[0]["kernel"] + params[0]["bias"] >= 0, 1.0, -1.0)
    second = jax.nn.relu(first @ params[1]["kernel"] + params[1]["bias"])
    expected = second @ params[2]["kernel"] + params[2]["bias"]
    np.testing.assert_allclose(sign_network.apply(params, x, (sign, jax.nn.relu)), expected, rtol=1e-5, atol=1e-6)
    assert sign_network.loss(params, x, expected, (sign, jax.nn.relu)) < 1e-9 < sign_network.loss(params, x, expected)


def test_there_is_one_activation_for_each_hidden_layer():
    with pytest.raises(UserError, match="an activation for each of 2 hidden layers, not 1"):
        sign_network.apply(network(3, 5, 4, 1), X, (sign,))


GOOD = network(3, 4, 1)
MISTAKES = [
    ((), X, Y, "params must be a tuple of layers"),
    (({"kernal": jnp.ones((3, 1))},), X, Y, "params must be a tuple of layers"),
    (({"kernel": jnp.ones((3, 1)), "biass": jnp.ones(1)},), X, Y, "layer 0 has the entry 'biass'"),
    (({"kernel": jnp.ones(3)},), X, Y, "the kernel of layer 0 must be [in, out]"),
    (({"kernel": jnp.ones((3, 1)), "bias": jnp.ones(2)},), X, Y, "the bias of layer 0 must have the shape (1,)"),
    ((GOOD[1], GOOD[0]), X, Y, "layer 0 has 1 outputs but layer 1 takes 3 inputs"),
    (GOOD, X[:, :2], Y, "x must be [batch, 3] with at least one example, but its shape is (4, 2)"),
    (GOOD, X[:0], Y[:0], "x must be [batch, 3] with at least one example"),
    (GOOD, X, Y[:2], "y must be [4, 1], one target an output, but its shape is (2, 1)"),
    (GOOD, X.at[0, 0].set(jnp.nan), Y, "x holds numbers that are not finite"),
    (jax.tree.map(lambda leaf: leaf / 0.0, GOOD), X, Y, "params holds numbers that are not finite"),
]


@pytest.mark.parametrize(("params", "x", "y", "message"), MISTAKES)
def test_mistakes(params, x, y, message):
    with pytest.raises(UserError) as caught:
        sign_network.check(params, x, y)
    assert message in str(caught.value)


def test_a_good_network_passes():
    sign_network.check(GOOD, X, Y)
    sign_network.check(GOOD, X, Y[:, 0])
