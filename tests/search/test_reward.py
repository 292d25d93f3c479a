"""Rewards of architectures against closed forms, on a network whose accuracy is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.types import Batch, Network
from jaxnas.costs.penalties import reward_power
from jaxnas.search.reward import shared_weights_reward
from jaxnas.spaces.product import product_space

SPACE = product_space("toy", {"blocks": ("small", "large")}, {"blocks": 2})
SIZES = np.asarray([1.0, 3.0])  # what the options cost
BATCH = Batch(jnp.zeros((4, 1, 1, 1)), jnp.asarray([0, 1, 1, 1]))


def predict(params, gates, images, noise=None):
    """The class is the first block's option, whatever the image: class 0 is right once in four, class 1 three times."""
    del params, noise
    return jnp.broadcast_to(gates["blocks"][0], (len(images), 2))


NETWORK = Network(init=lambda key: {}, apply=predict, active=lambda gates: {})


def cost(gates):
    return jnp.sum(gates["blocks"] @ SIZES)


def code(*options):
    return {"blocks": jnp.asarray(options, jnp.int32)}


@pytest.mark.parametrize(
    ("path", "base", "exponent", "hard", "expected"),
    [
        ((0, 0), 2.0, -0.5, False, 0.25),  # at the base the accuracy stays
        ((1, 1), 2.0, -1.0, False, 0.75 / 3),
        ((1, 0), 8.0, -0.5, False, 0.75 * 2**0.5),  # below the base it grows
        ((1, 0), 8.0, -0.5, True, 0.75),  # unless the price is hard
        ((1, 1), 3.0, -2.0, True, 0.75 / 4),
        ((0, 1), 1.0, 0.0, False, 0.25),
    ],
)
def test_the_reward_is_the_accuracy_times_a_power_of_the_cost(path, base, exponent, hard, expected):
    earned = shared_weights_reward(NETWORK, SPACE, cost=cost, price=reward_power(base, exponent, hard))
    found = earned({}, code(*path), code(*path), BATCH)
    np.testing.assert_allclose(found.reward, expected, rtol=1e-6)
    np.testing.assert_allclose(found.cost, SIZES[list(path)].sum(), rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, (0.25, 0.75)[path[0]])


def test_the_path_is_judged_and_the_architecture_priced():
    earned = shared_weights_reward(NETWORK, SPACE, cost=cost, price=lambda accuracy, cost: accuracy - cost)
    found = earned({}, code(1, 1), code(0, 0), BATCH)
    assert [float(value) for value in found] == [0.75 - 2.0, 0.75, 2.0]


@pytest.mark.parametrize("settings", [{}, {"price": reward_power(1.0, -1.0)}])
def test_without_a_cost_the_reward_is_the_accuracy(settings):
    found = shared_weights_reward(NETWORK, SPACE, **settings)({}, code(1, 0), code(1, 0), BATCH)
    assert (float(found.reward), float(found.accuracy), found.cost) == (0.75, 0.75, None)


def test_accuracies_are_means_over_devices_before_they_are_priced():
    earned = shared_weights_reward(
        NETWORK, SPACE, cost=cost, price=lambda accuracy, cost: accuracy**2, mean=lambda value: (value + 0.25) / 2
    )
    assert float(earned({}, code(1, 0), code(1, 0), BATCH).reward) == 0.25
