"""The loops that searches of a table are measured against do the same updates as the search."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.sampling_speed import (
    BASELINE_DECAY,
    ENTROPY_WEIGHT,
    LEARNING_RATE,
    Learner,
    jitted_loop,
    numpy_loop,
    numpy_update,
    softmax,
    tabular_speed,
)
from jaxnas.spaces.product import product_space
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import reinforce
from jaxnas.strategies.strategy import Outcome, Problem

SPACE = product_space("two", {"a": ("0", "1", "2")}, {"a": 2})
PROBLEM = Problem(SPACE)
STRATEGY = reinforce(
    PROBLEM,
    factorised(SPACE),
    batch=4,
    learning_rate=LEARNING_RATE,
    entropy_weight=ENTROPY_WEIGHT,
    baseline_decay=BASELINE_DECAY,
    clip=0.0,
)
ACCURACIES = {code: 0.1 * (code[0] == 1) + 0.2 * (code[1] == 2) for code in itertools.product(range(3), repeat=2)}


def test_the_update_in_numpy_is_that_of_the_strategy():
    key = jax.random.key(0)
    state, zeros = STRATEGY.init(key), np.zeros((2, 3))
    learner, tell = Learner(zeros, zeros, zeros, None, 0), jax.jit(STRATEGY.tell)
    for number in range(5):
        proposal = STRATEGY.ask(jax.random.fold_in(key, number), state)
        codes = np.asarray(proposal.architectures["a"])
        rewards = np.array([ACCURACIES[tuple(code)] for code in codes.tolist()])
        observed = jnp.asarray(rewards, jnp.float32)
        state = tell(key, state, proposal, Outcome(observed, observed, jnp.zeros(4)))
        learner = numpy_update(learner, softmax(learner.logits), codes, rewards)
        # Adam divides by the gradient's own size, which in float32 is known to some 1e-4 where it is nearly 0.
        np.testing.assert_allclose(state.parameters["a"], learner.logits, atol=2e-3)
    assert np.abs(learner.logits).max() > 0.1


def test_both_loops_learn_the_better_options():
    plain = next(itertools.islice(numpy_loop(ACCURACIES, 2, 3, 4), 200, None)).logits
    compiled = next(itertools.islice(jitted_loop(ACCURACIES, PROBLEM, STRATEGY), 200, None)).parameters["a"]
    for logits in (plain, np.asarray(compiled)):
        np.testing.assert_array_equal(logits.argmax(axis=1), [1, 2])


def test_speeds_are_measured():
    measured = tabular_speed(choices=2, options=2, batch=1, repetitions=3, updates=4)
    assert set(measured) >= {"batch", "repetitions", "compile", "search", "numpy", "jitted"}
    assert all(value > 0 for value in measured.values())
    assert measured["times_numpy"] == measured["search"] / measured["numpy"]
