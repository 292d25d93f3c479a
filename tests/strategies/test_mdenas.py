"""MDENAS as a strategy against what its comparisons give by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.strategies.counting import mdenas
from jaxnas.strategies.policy_search import Draws
from jaxnas.strategies.strategy import Problem, outcome_of, whole

SPACE = product_space("two", {"layer": ("good", "bad")}, {"layer": 1})
PROBLEM = Problem(SPACE)
STRATEGY = mdenas(PROBLEM, batch=5, learning_rate=0.1)


@jax.jit
def told(state, options, accuracies):
    """The state after a round in which these options [batch] were drawn and had these accuracies."""
    codes = {"layer": options[:, None]}
    proposal = whole(codes, Draws(codes, {"layer": jnp.zeros((5, 1))}, jnp.ones(5, bool)))
    return STRATEGY.tell(jax.random.key(0), state, proposal, outcome_of(PROBLEM, codes, accuracies))


def test_the_better_option_gains_while_it_was_drawn_less_often():
    """Two options: every comparison moves their logits apart by 2 · 0.1; at equal numbers and beyond, none does."""
    rounds = [
        ([0, 1, 1, 1, 1], [0.9, 0.5, 0.5, 0.5, 0.5], 0.1),  # drawn 1 and 4 times: the better is behind
        ([0, 0, 1, 1, 1], [0.9, 0.9, 0.5, 0.5, 0.5], 0.2),  # 3 and 7
        ([0, 0, 0, 0, 0], [0.9, 0.9, 0.9, 0.9, 0.9], 0.2),  # 8 and 7, and the other was not drawn in this round
        ([0, 0, 1, 1, 1], [0.9, 0.9, 0.5, 0.5, 0.5], 0.2),  # 10 and 10
        ([0, 0, 0, 1, 1], [0.9, 0.9, 0.9, 0.5, 0.5], 0.2),  # 13 and 12: ahead and better
        ([0, 0, 0, 1, 1], [0.4, 0.4, 0.4, 0.5, 0.5], 0.1),  # 16 and 14: what was worse is better now
        ([0, 1, 1, 0, 1], [0.9, 0.5, 0.5, np.nan, np.nan], 0.1),  # 17 and 16: rewards that are not finite do not count
    ]
    state = STRATEGY.init(jax.random.key(0))
    for options, accuracies, logit in rounds:
        state = told(state, jnp.asarray(options, jnp.int32), jnp.asarray(accuracies, jnp.float32))
        np.testing.assert_allclose(state.parameters["layer"][0], [logit, -logit], rtol=1e-5)
        share = 1 / (1 + np.exp(-2 * logit))
        np.testing.assert_allclose(STRATEGY.probabilities(state)["layer"][0], [share, 1 - share], rtol=1e-5)
    np.testing.assert_array_equal(state.memory.trained["layer"][0], [17, 16])
    assert int(state.excluded) == 2
    assert set(STRATEGY.metrics(state)) == {"entropy", "mean_reward", "excluded_rewards"}


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("batch", 0, "batch is 0, but has to be at least 1"),
        ("learning_rate", -0.1, "learning_rate is -0.1, but has to be a number above 0"),
    ],
)
def test_settings_out_of_range(setting, value, words):
    with pytest.raises(UserError, match=words):
        mdenas(PROBLEM, **{"batch": 5, "learning_rate": 0.1} | {setting: value})
