"""Coordinate differences against derivatives, and their structured form against the plain one."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxnas.core.errors import UserError
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.structured import UNROLLED, structured_differences
from jaxnas.networks import sign_network

KEY = jax.random.key(0)
COUNT = jnp.zeros((), jnp.int32)


@functools.partial(jax.jit, static_argnames="epsilon")
def plain(params, x, y, epsilon):
    """The differences of the network's loss, parameter by parameter."""
    estimator = coordinate_differences(epsilon, chunk=64)
    return estimator(KEY, params, COUNT, lambda params: (sign_network.loss(params, x, y), {})).gradient


structured = jax.jit(structured_differences, static_argnames="tile")  # once for what tests share


def problem(widths, bias, batch, values):
    """A network, inputs and targets in float64; `values` makes the numbers of a shape."""
    generator = np.random.default_rng(sum(widths) + batch)
    params = tuple(
        {"kernel": values(generator, (fan_in, out))} | ({"bias": values(generator, (out,))} if bias else {})
        for fan_in, out in itertools.pairwise(widths)
    )
    return params, values(generator, (batch, widths[0])), generator.normal(size=(batch, widths[-1]))


def real(generator, shape):
    return generator.normal(size=shape) / 2


def small_integers(generator, shape):
    """Numbers whose sums are exact and often 0, so that pre-activations and stepped ones are often exactly 0."""
    return generator.integers(-1, 2, size=shape).astype(float)


@pytest.mark.parametrize("values", [real, small_integers])
@pytest.mark.parametrize(
    ("widths", "bias", "batch", "epsilon", "tile"),
    [
        ((3, 1), True, 5, 0.5, 512),
        ((3, 2), False, 5, 1.0, 2),
        ((3, 4, 1), False, 9, 0.5, 512),
        ((2, 5, 3), True, 9, 1.0, 4),
        ((4, 3, 5, 1), True, 12, 1.0, 12),
        ((3, 4, 4, 2), False, 11, 2.0, 1),
        ((3, 1, 3, 1), True, 7, 0.5, 3),
        ((3, 4, 2, 3, 1), True, 13, 0.25, 5),
        ((2, 3, 4, 3, 2), False, 8, 3.0, 8),
        ((3, 4, 3, 1), True, 10, 0.1, 7),
        ((3, 4, 5, 1), True, 70, 0.5, 40),
        ((3, 4, 5, 2), False, 70, 0.5, 40),
        ((2, 3, UNROLLED + 1, 1), True, 20, 0.5, 512),
    ],
)
def test_structured_equals_plain(widths, bias, batch, epsilon, tile, values):
    with jax.enable_x64(True):
        params, x, y = problem(widths, bias, batch, values)
        got = structured(params, x, y, epsilon=epsilon, tile=tile)
        chex.assert_trees_all_equal_shapes_and_dtypes(got, params)
        chex.assert_trees_all_close(got, plain(params, x, y, epsilon), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("x", "weight", "epsilon", "changes"),
    [
        # z = x · weight; the sign differs between the steps where -ε|x| ≤ z < ε|x|, by the direction of x.
        (1.0, 0.5, 0.5, 0),
        (1.0, -0.5, 0.5, 1),
        (-1.0, 0.5, 0.5, -1),
        (-1.0, -0.5, 0.5, 0),
        (2.0, 0.0, 0.5, 1),
        (-2.0, 0.0, 0.5, -1),
        (0.0, 0.0, 0.5, 0),
        (1.0, 0.75, 0.5, 0),
    ],
)
def test_a_single_sign_by_hand(x, weight, epsilon, changes):
    """With output 3·sign(x·w) and target 1 the loss is 4 at +1 and 16 at -1: a difference of -12 over 2ε."""
    x, weight, output = (np.full((1, 1), value, np.float32) for value in (x, weight, 3.0))
    arguments = ({"kernel": weight}, {"kernel": output}), x, np.ones(1, np.float32)
    gradient = structured(*arguments, epsilon=epsilon)
    np.testing.assert_allclose(gradient[0]["kernel"], [[changes * -12 / (2 * epsilon)]])
    np.testing.assert_allclose(plain(*arguments, epsilon)[0]["kernel"], gradient[0]["kernel"])


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 3.0])
def test_the_last_layer_has_the_derivative_whatever_the_step(epsilon):
    with jax.enable_x64(True):
        arguments = problem((3, 4, 2), True, 10, real)
        got = structured(*arguments, epsilon=epsilon)
        chex.assert_trees_all_close(got[-1], jax.jit(jax.grad(sign_network.loss))(*arguments)[-1], rtol=1e-12)


def test_structured_maps_over_networks_and_steps_and_takes_targets_of_rank_one():
    one, x, y = jax.tree.map(np.float32, problem((3, 4, 4, 1), True, 10, real))
    params = jax.tree.map(lambda leaf: np.stack([leaf, -leaf, leaf / 2]), one)
    steps = np.asarray([0.1, 0.5, 1.0], np.float32)
    over_both = jax.vmap(lambda params, epsilon: structured_differences(params, x, y[:, 0], epsilon=epsilon, tile=4))
    mapped = jax.device_get(jax.jit(over_both)(params, steps))
    for i, step in enumerate(steps):
        one = structured(jax.tree.map(lambda leaf, i=i: leaf[i], params), x, y, epsilon=step)
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), one, rtol=1e-5, atol=1e-6)


def quartic(params):
    """L = Σa⁴ + (Σa)(Σb), with (L(a + ε) - L(a - ε)) / 2ε = 4a³ + 4aε² + Σb."""
    a, b = params["a"], params["b"]["c"]
    return jnp.sum(a**4) + jnp.sum(a) * jnp.sum(b), {"first": jnp.max(a)}


PARAMS = jax.tree.map(np.float32, {"a": np.array([[1, -2], [0.5, 0]]), "b": {"c": np.array([3, -1, 0.25])}})


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 100])
def test_plain_differences_of_a_polynomial_are_its_closed_form(chunk):
    estimate = jax.jit(coordinate_differences(0.5, chunk), static_argnums=3)(KEY, PARAMS, COUNT, quartic)
    a, b = PARAMS["a"], PARAMS["b"]["c"]
    expected = {"a": 4 * a**3 + 4 * a * 0.25 + np.sum(b), "b": {"c": np.full(3, np.sum(a))}}
    chex.assert_trees_all_close(estimate.gradient, expected, rtol=1e-4, atol=1e-4)
    loss, metrics = quartic(PARAMS)
    chex.assert_trees_all_equal((estimate.loss, estimate.metrics, estimate.draw), (loss, metrics, None))


@pytest.mark.parametrize("number", [1, 3, 7])
def test_a_sample_of_coordinates_measures_just_these_and_others_with_other_keys(number):
    def flat(key, coordinates):
        gradient = coordinate_differences(0.5, coordinates=coordinates)(key, PARAMS, COUNT, quartic).gradient
        return ravel_pytree(gradient)[0]

    samples = np.asarray(jax.jit(jax.vmap(lambda key: flat(key, number)))(jax.random.split(KEY, 40)))
    measured = ~np.isnan(samples)
    whole = np.broadcast_to(jax.jit(flat, static_argnums=1)(KEY, None), samples.shape)
    np.testing.assert_allclose(samples[measured], whole[measured], rtol=1e-6)
    assert (measured.sum(axis=1) == number).all()
    assert measured.any(axis=0).all()


NETWORK = ({"kernel": jnp.ones((2, 3))}, {"kernel": jnp.ones((3, 1))})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coordinate_differences(0.0), "epsilon must be positive and finite, not 0.0"),
        (lambda: coordinate_differences(float("nan")), "epsilon must be positive and finite, not nan"),
        (lambda: coordinate_differences(0.1, chunk=0), "chunk must be at least 1, not 0"),
        (lambda: coordinate_differences(0.1, coordinates=0), "coordinates must be at least 1, not 0"),
        (
            lambda: coordinate_differences(0.1, coordinates=8)(KEY, PARAMS, COUNT, quartic),
            "coordinates must be at most 7",
        ),
        (
            lambda: structured_differences(NETWORK, jnp.ones((4, 2)), jnp.ones(4), epsilon=-1.0),
            "epsilon must be positive and finite, not -1.0",
        ),
        (lambda: structured_differences(NETWORK, jnp.ones((4, 2)), jnp.ones(4), epsilon=0.1, tile=0), "tile must be"),
        (
            lambda: structured_differences(NETWORK, jnp.ones((4, 2)), jnp.ones(3), epsilon=0.1),
            r"y has the shape \(3,\)",
        ),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(UserError, match=message):
        call()
