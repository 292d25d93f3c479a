"""The smoothed loss and gradient against brute force, parameter noise and the arcsine law."""

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.special import ndtr

from jaxnas.core.errors import UserError
from jaxnas.estimators.enumeration import enumerated, enumerated_loss
from jaxnas.estimators.smoothed import TILE, smoothed, smoothed_loss

# Widths from the inputs to the outputs, and which layers have a bias.
NETWORKS = [
    ((3, 1), (True,)),
    ((3, 2), (False,)),
    ((2, 3, 1), (True, True)),
    ((3, 2, 2), (False, False)),
    ((2, 3, 2, 1), (True, True, True)),
    ((3, 2, 3, 2), (False, False, False)),
    ((2, 2, 3, 2, 1), (True, False, True, True)),
    ((2, 2, 2, 2, 2, 2), (False, True, False, True, False)),
]
SHALLOW = [network for network in NETWORKS if len(network[0]) <= 3]
DEEP = [network for network in NETWORKS if len(network[0]) > 3]
MIXED = [NETWORKS[i] for i in (1, 2, 5, 6)]  # one of every depth up to four layers
SIGMA = 0.3


def problem(network, batch=5):
    """Parameters, inputs and targets; targets of a single output have rank 1."""
    widths, biases = network
    generator = np.random.default_rng(len(widths))

    def normal(*shape):
        return generator.standard_normal(shape, np.float32)

    params = []
    for i, has_bias in enumerate(biases):
        layer = {"kernel": 0.6 * normal(*widths[i : i + 2])}
        if has_bias:
            layer["bias"] = 0.4 * normal(widths[i + 1])
        params.append(layer)
    y = normal(batch) if widths[-1] == 1 else normal(batch, widths[-1])
    return tuple(params), normal(batch, widths[0]), y


def single_loss(params, x, y):
    """The loss of one network, without noise."""
    for layer in params[:-1]:
        x = jnp.where(x @ layer["kernel"] + layer.get("bias", 0) >= 0, 1, -1)
    outputs = x @ params[-1]["kernel"] + params[-1].get("bias", 0)
    return jnp.mean((outputs - y.reshape(outputs.shape)) ** 2)


def brute_force_loss(params, x, y):
    """The expected loss summed over all codes of all hidden layers together, with the product of their chances."""
    widths = [layer["kernel"].shape[1] for layer in params[:-1]]
    joint = jnp.array(list(itertools.product((-1, 1), repeat=sum(widths))), x.dtype)
    parts = jnp.split(joint, np.cumsum(widths, dtype=int), axis=1)[:-1]
    inputs, chances = x[:, None, :], 1.0  # [batch, codes, units] and [batch, codes]
    for layer, codes in zip(params[:-1], parts, strict=True):
        mean, deviation = gaussian(layer, inputs)
        chances = chances * jnp.prod(ndtr(codes * mean / deviation), axis=-1)
        inputs = codes[None]
    mean, deviation = gaussian(params[-1], inputs)
    losses = jnp.mean((mean - y.reshape(len(x), 1, -1)) ** 2, axis=-1) + deviation[..., 0] ** 2
    return jnp.mean(jnp.sum(chances * losses, axis=1))


def gaussian(layer, inputs):
    """Mean and standard deviation of a layer's pre-activations."""
    variance = jnp.sum(inputs**2, axis=-1, keepdims=True) + (1 if "bias" in layer else 0)
    return inputs @ layer["kernel"] + layer.get("bias", 0), SIGMA * jnp.sqrt(variance)


# Loss and gradient together, compiled once for the shapes that tests share.
brute_force = jax.jit(jax.value_and_grad(brute_force_loss))
exact = jax.jit(lambda *a, sigma: (enumerated_loss(*a, sigma=sigma), enumerated(*a, sigma=sigma)))
drawn = jax.jit(
    lambda *a, sigma, tile=TILE: tuple(f(*a, sigma=sigma, tile=tile) for f in (smoothed_loss, smoothed)),
    static_argnames="tile",
)


def in_float64(tree):
    return jax.tree.map(np.float64, tree)


@functools.cache
def truth(network):
    """The loss and the gradient of a problem by enumeration, in float64."""
    with jax.enable_x64(True):
        return jax.device_get(exact(*in_float64(problem(network)), sigma=SIGMA))


def over_keys(function, params, x, y, count):
    """Mean and standard error of function(key, params, x, y) over keys."""

    @jax.jit
    def of_all(params, x, y):
        keys = jax.random.split(jax.random.key(1), count)
        return jax.vmap(lambda key: function(key, params, x, y, sigma=SIGMA))(keys)

    values = in_float64(of_all(params, x, y))
    return (
        jax.tree.map(lambda a: np.mean(a, axis=0), values),
        jax.tree.map(lambda a: np.std(a, axis=0) / count**0.5, values),
    )


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_enumeration_equals_the_sum_over_all_codes(network):
    with jax.enable_x64(True):
        loss, gradient = brute_force(*in_float64(problem(network)))
    np.testing.assert_allclose(truth(network)[0], loss, rtol=1e-12)
    chex.assert_trees_all_close(truth(network)[1], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", SHALLOW, ids=str)
def test_smoothed_is_exact_up_to_one_hidden_layer(network):
    with jax.enable_x64(True):
        arguments = in_float64(problem(network))
        loss, gradient = brute_force(*arguments)
        found_loss, found = drawn(None, *arguments, sigma=SIGMA)
    np.testing.assert_allclose(found_loss, loss, rtol=1e-10)
    chex.assert_trees_all_close(found, gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("network", MIXED, ids=str)
def test_the_expected_loss_is_the_mean_over_parameter_noise(network):
    def noisy_loss(key, params, x, y, sigma):
        flat, unravel = ravel_pytree(params)
        return single_loss(unravel(flat + sigma * jax.random.normal(key, flat.shape)), x, y)

    mean, error = over_keys(noisy_loss, *problem(network), 40_000)
    loss, _ = truth(network)
    assert error < 0.01 * loss
    assert abs(mean - loss) < 4 * error


@pytest.mark.parametrize("network", DEEP, ids=str)
def test_smoothed_is_unbiased_for_deeper_networks(network):
    mean, error = over_keys(smoothed, *problem(network), 8000)
    for layer, (expected, found, spread) in enumerate(zip(truth(network)[1], mean, error, strict=True)):
        for name in expected:
            bound = 4.5 * spread[name] + 1e-5  # 4.5 standard errors for the farthest of some eighty numbers
            assert np.all(np.abs(found[name] - expected[name]) < bound), (layer, name)
            assert np.linalg.norm(spread[name]) < 0.1 * np.linalg.norm(expected[name]), (layer, name)


@pytest.mark.parametrize("widths", [(2, 1, 3, 2), (2, 1, 1, 3, 2), (2, 1, 1, 1, 3, 2)], ids=str)
def test_draws_of_single_units_leave_no_noise_in_the_first_layer(widths):
    """A sign's own difference takes off the noise of its draw, which is all there is where no two can turn at once."""
    with jax.enable_x64(True):
        arguments = in_float64(problem((widths, (True,) * (len(widths) - 1)), batch=30))
        (_, first), (_, second) = (drawn(jax.random.key(seed), *arguments, sigma=SIGMA) for seed in (0, 1))
        _, expected = exact(*arguments, sigma=SIGMA)
    chex.assert_trees_all_close(first[0], expected[0], rtol=1e-10, atol=1e-12)
    assert np.any(np.not_equal(first[1]["kernel"], second[1]["kernel"]))  # the second layer's inputs are drawn


@pytest.mark.parametrize("network", DEEP, ids=str)
def test_smoothed_loss_is_unbiased_for_deeper_networks(network):
    mean, error = over_keys(smoothed_loss, *problem(network), 4000)
    loss, _ = truth(network)
    assert error < 0.01 * loss
    assert abs(mean - loss) < 4 * error


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_enumerated_is_the_slope_of_the_enumerated_loss(network):
    step = 1e-5
    with jax.enable_x64(True):
        params, x, y = in_float64(problem(network))
        direction = jax.tree.map(lambda a: np.cos(np.arange(a.size)).reshape(a.shape), params)
        ahead, behind = (
            exact(jax.tree.map(lambda w, v, s=s: w + s * v, params, direction), x, y, sigma=SIGMA)[0]
            for s in (step, -step)
        )
        slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, truth(network)[1], direction)))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("network", MIXED, ids=str)
@pytest.mark.parametrize("tile", [3, 100])
def test_the_tile_changes_nothing(network, tile):
    with jax.enable_x64(True):
        arguments = in_float64(problem(network, batch=7))
        tiled, whole = (drawn(jax.random.key(0), *arguments, sigma=SIGMA, tile=t) for t in (tile, 7))
        chex.assert_trees_all_close(tiled, whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("function", [smoothed, smoothed_loss])
def test_batching_over_keys_and_compiling_change_nothing(function):
    arguments = problem(((2, 3, 2, 1), (True, True, True)))
    keys = jax.random.split(jax.random.key(0), 3)
    batched = jax.jit(jax.vmap(lambda key: function(key, *arguments, sigma=SIGMA, tile=2)))(keys)
    apart = [function(key, *arguments, sigma=SIGMA, tile=2) for key in keys]
    chex.assert_trees_all_close(batched, jax.tree.map(lambda *a: np.stack(a), *apart), rtol=1e-4, atol=1e-6)


def test_draws_are_averaged_independently():
    arguments = problem(((2, 3, 2, 1), (True, True, True)))
    errors = [over_keys(lambda *a, draws=n, **s: smoothed(*a, draws=draws, **s), *arguments, 1500)[1] for n in (1, 9)]
    one, nine = (np.linalg.norm(error[0]["kernel"]) for error in errors)
    np.testing.assert_allclose(one / nine, 3, rtol=0.1)  # standard errors go with 1/√draws


@pytest.mark.parametrize("function", [smoothed_loss, lambda key, *a, sigma: enumerated_loss(*a, sigma=sigma)])
def test_inputs_of_zeros_without_bias_give_signs_of_one(function):
    """Noise on a kernel does not move a pre-activation whose inputs are zeros, and sign(0) = 1."""
    (first, second), _, y = problem(((3, 2, 2), (False, False)), batch=1)
    x = np.zeros((1, 3), np.float32)
    expected = np.mean((second["kernel"].sum(0) - y) ** 2) + SIGMA**2 * 2
    loss = jax.value_and_grad(lambda layer: function(None, (layer, second), x, y, sigma=SIGMA))
    value, gradient = jax.jit(loss)(first)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_array_equal(gradient["kernel"], 0)


@pytest.mark.parametrize("sigma", [0.04, 0.02])
def test_small_noise_gives_the_arcsine_law(sigma):
    """E sign(u·x) sign(v·x) = 2/π asin(cos ∠(u, v)) for x ~ N(0, I), so the loss of student against teacher is closed.

    Two inputs, of which the signs use the direction only: the mean over normal inputs is one over a circle. Smoothing
    a smooth function changes it and its gradient by O(σ²); noise on the last layer adds 3 σ².
    """
    student = {"kernel": np.array([[1.0, -0.4, 0.3], [0.2, 0.9, -1.1]])}, {"kernel": np.array([[0.8], [-0.5], [0.6]])}
    teacher = {"kernel": np.array([[-1.0, 1.0], [0.5, 0.8]])}, {"kernel": np.array([[0.7], [0.4]])}

    def closed_form(params):
        kernels = jnp.concatenate([params[0]["kernel"], teacher[0]["kernel"]], axis=1)
        weights = jnp.concatenate([params[1]["kernel"], -teacher[1]["kernel"]])[:, 0]
        cosines = (kernels.T @ kernels) / jnp.outer(*2 * [jnp.linalg.norm(kernels, axis=0)])
        off_diagonal = 1 - jnp.eye(5)  # a sign agrees with itself, whatever its kernel
        products = off_diagonal * 2 / jnp.pi * jnp.arcsin(off_diagonal * cosines) + jnp.eye(5)
        return weights @ products @ weights

    angles = (np.arange(20_000) + 0.5) * 2 * math.pi / 20_000
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    y = np.sign(x @ teacher[0]["kernel"]) @ teacher[1]["kernel"]
    with jax.enable_x64(True):
        loss, gradient = jax.jit(jax.value_and_grad(closed_form))(student)
        found_loss, found = drawn(None, student, x, y, sigma=sigma)
        np.testing.assert_allclose(found_loss, loss + 3 * sigma**2, atol=5 * sigma**2)
        chex.assert_trees_all_close(found, gradient, atol=5 * sigma**2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": 0.0}, "sigma must be positive, not 0.0"),
        ({"sigma": -1.0}, "sigma must be positive"),
        ({"sigma": math.nan}, "sigma must be positive"),
        ({"draws": 0}, "draws must be at least 1, not 0"),
        ({"tile": 0}, "tile must be at least 1, not 0"),
        ({"key": None}, "give a key"),
        ({"y": np.zeros((5, 2))}, r"y has the shape \(5, 2\).* the shape \(5, 1\)"),
        ({"x": np.zeros((0, 2)), "y": np.zeros(0)}, "x holds no examples"),
        ({"y": np.zeros(4)}, r"y has the shape \(4,\)"),
    ],
)
@pytest.mark.parametrize("function", [smoothed, smoothed_loss])
def test_mistakes_are_named(function, settings, message):
    params, x, y = problem(((2, 3, 2, 1), (True, True, True)))
    arguments = {"key": jax.random.key(0), "params": params, "x": x, "y": y, "sigma": 0.1}
    with pytest.raises(UserError, match=message):
        function(**(arguments | settings))


@pytest.mark.parametrize(
    ("network", "sigma", "message"),
    [
        (((2, 11, 2, 1), (True, True, True)), 0.1, "hidden layer 1 is 11 wide; enumeration holds up to 10"),
        (((2, 2, 12, 2, 1), (True,) * 4), 0.1, "hidden layer 2 is 12 wide"),
        (((2, 2, 1), (True, True)), 0.0, "sigma must be positive"),
    ],
)
@pytest.mark.parametrize("function", [enumerated, enumerated_loss])
def test_what_cannot_be_enumerated_is_named(function, network, sigma, message):
    with pytest.raises(UserError, match=message):
        function(*problem(network), sigma=sigma)


def test_the_last_hidden_layer_may_be_wide():
    network = ((2, 3, 40, 1), (True, True, True))
    mean, error = over_keys(smoothed_loss, *problem(network), 2000)
    assert abs(mean - truth(network)[0]) < 4 * error
