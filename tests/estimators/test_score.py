"""The score function against the gradient of the enumerated expectation, and estimators made of others."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.estimators.coordinate import coordinate_differences
from jaxnas.estimators.pathwise import pathwise
from jaxnas.estimators.score import score_function, through
from jaxnas.relax import categorical

LOGITS = {"cell": np.random.default_rng(0).standard_normal((2, 3), np.float32)}
COUNT = jnp.zeros((), jnp.int32)
SAMPLER = categorical.multinomial_straight_through()


def objective(gates):
    """Not linear: what one choice is worth depends on the other."""
    table = np.arange(9, dtype=np.float32).reshape(3, 3) ** 1.5
    return gates["cell"][0] @ table @ gates["cell"][1], {"accuracy": jnp.sum(gates["cell"][:, 0])}


def enumerated(logits):
    log_probabilities = jax.nn.log_softmax(logits["cell"])
    total = 0.0
    for code in itertools.product(range(3), repeat=2):
        gates = {"cell": np.eye(3, dtype=np.float32)[np.asarray(code)]}
        total += jnp.exp(sum(log_probabilities[i, option] for i, option in enumerate(code))) * objective(gates)[0]
    return total


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_score_function_is_unbiased(samples):
    """The mean of many estimates lies within five of its standard errors of the enumerated gradient."""
    estimator = score_function(SAMPLER, samples=samples)
    keys = jax.random.split(jax.random.key(1), 20_000)
    estimates = jax.jit(jax.vmap(lambda key: estimator(key, LOGITS, COUNT, objective).gradient["cell"]))
    gradients = np.asarray(estimates(keys), float)
    error = np.abs(np.mean(gradients, axis=0) - jax.jit(jax.grad(enumerated))(LOGITS)["cell"])
    assert np.max(error / (np.std(gradients, axis=0) / len(keys) ** 0.5)) < 5


@pytest.mark.parametrize("samples", [2, 5])
def test_the_mean_of_the_others_as_a_baseline_takes_off_constants(samples):
    """With it a constant added to the loss changes nothing, where a single sample follows the constant."""

    def shifted(gates):
        loss, metrics = objective(gates)
        return loss + 100.0, metrics

    for number in (1, samples):
        estimator = jax.jit(score_function(SAMPLER, samples=number), static_argnums=3)
        plain, other = (
            estimator(jax.random.key(3), LOGITS, COUNT, one).gradient["cell"] for one in (objective, shifted)
        )
        assert np.allclose(plain, other, atol=1e-3) == (number > 1)


def test_differences_through_a_sampler_are_its_derivative():
    """Through a softmax, which draws nothing, central differences are the gradient up to their step squared."""
    sampler = categorical.softmax()
    estimate, expected = (
        jax.jit(estimator, static_argnums=3)(jax.random.key(0), LOGITS, COUNT, objective)
        for estimator in (through(sampler, coordinate_differences(1e-2)), pathwise(sampler))
    )
    np.testing.assert_allclose(estimate.gradient["cell"], expected.gradient["cell"], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(estimate.loss, expected.loss, rtol=1e-6)


def test_samples_have_to_be_positive():
    with pytest.raises(UserError, match="samples must be at least 1, not 0"):
        score_function(SAMPLER, samples=0)
