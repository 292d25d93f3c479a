"""Signs with surrogate derivatives: values exact, derivatives those of the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.relax.binary import SURROGATES, sign, stochastic_sign, straight_through

POINTS = np.asarray([-3.0, -1.5, -1.0, -0.7, -0.2, 0.0, 0.3, 0.9, 1.0, 2.5], np.float32)


def swish_sign_itself(a, beta):
    s = jax.nn.sigmoid(beta * a)
    return 2 * s * (1 + beta * a * (1 - s)) - 1


# Every surrogate as the derivative of the function that it comes from, away from kinks.
PRIMITIVES = [
    ("identity", {}, lambda a: a),
    ("clipped", {}, lambda a: jnp.clip(a, -1, 1)),
    ("clipped", {"threshold": 0.5}, lambda a: jnp.clip(a, -0.5, 0.5)),
    ("steep", {"slope": 4.0}, lambda a: jnp.clip(4 * a, -1, 1)),
    ("swish_sign", {"beta": 5.0}, lambda a: swish_sign_itself(a, 5.0)),
    ("swish_sign", {"beta": 0.7}, lambda a: swish_sign_itself(a, 0.7)),
    ("polynomial", {}, lambda a: jnp.where(jnp.abs(a) < 1, 2 * a - a * jnp.abs(a), jnp.sign(a))),
    ("tanh", {"beta": 2.0}, lambda a: jnp.tanh(2 * a)),
]


@pytest.mark.parametrize(("name", "settings", "primitive"), PRIMITIVES)
def test_a_surrogate_is_the_derivative_of_its_primitive(name, settings, primitive):
    points = POINTS[np.abs(POINTS) != 1] + np.float32(0.01)
    derivative = jax.jit(jax.vmap(jax.grad(primitive)))(points)
    np.testing.assert_allclose(jax.jit(SURROGATES[name](**settings))(points), derivative, rtol=1e-4, atol=1e-5)


def test_every_surrogate_is_in_the_table_above():
    assert {row[0] for row in PRIMITIVES} == set(SURROGATES)


@pytest.mark.parametrize("name", SURROGATES)
def test_forward_is_the_sign_and_backward_the_surrogate(name):
    activation = straight_through(name)
    values, pullback = jax.vjp(activation, POINTS)
    assert set(np.asarray(values)) == {-1.0, 1.0}
    np.testing.assert_array_equal(values, sign(POINTS))
    np.testing.assert_allclose(pullback(POINTS)[0], SURROGATES[name]()(POINTS) * POINTS, rtol=1e-6)
    assert straight_through(name) is activation


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_stay_finite_far_out(name):
    assert np.isfinite(SURROGATES[name]()(jnp.asarray([-1e30, -1e4, 1e4, 1e30]))).all()


def test_the_sign_itself_has_no_gradient():
    assert float(sign(jnp.zeros(()))) == 1
    np.testing.assert_array_equal(jax.vmap(jax.grad(sign))(POINTS), 0)


def test_stochastic_rounding_is_unbiased_between_its_limits():
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(jax.jit(jax.vmap(stochastic_sign, (0, None)))(keys, POINTS))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    # The standard error of a mean of 20,000 signs is at most 0.0071.
    np.testing.assert_allclose(drawn.mean(axis=0), np.clip(POINTS, -1, 1), atol=0.03)
    gradient = jax.jit(jax.grad(lambda a: stochastic_sign(keys[0], a).sum()))(np.asarray([-2.0, -0.5, 0.5, 2.0]))
    np.testing.assert_array_equal(gradient, [0, 1, 1, 0])


def test_in_a_flax_layer():
    class Binary(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(1)(straight_through("polynomial")(nn.Dense(3)(x)))

    x = np.ones((2, 4), np.float32)
    variables = jax.jit(Binary().init)(jax.random.key(0), x)
    gradient = jax.jit(jax.grad(lambda v: Binary().apply(v, x).sum()))(variables)
    assert np.any(gradient["params"]["Dense_0"]["kernel"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cliped", {}), "unknown surrogate 'cliped'; did you mean 'clipped'?"),
        (("clipped", {"threshold": 0.0}), "threshold of the surrogate 'clipped' must be positive, not 0.0."),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError) as caught:
        straight_through(arguments[0], **arguments[1])
    assert str(caught.value) == message
