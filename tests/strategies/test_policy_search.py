"""One table of the searches by a policy, one list of properties that all of them have."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.strategies.counting import mdenas
from jaxnas.strategies.off_policy import off_policy
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import ppo, reinforce
from jaxnas.strategies.recurrent import recurrent
from jaxnas.strategies.strategy import Problem, outcome_of

# Two choices; "good" is worth more in each. The limit of the second problem rules out that both are.
SPACE = product_space("two", {"width": ("bad", "good"), "depth": ("bad", "good")}, {"width": 1, "depth": 1})
GOOD = {part: jnp.ones(1, jnp.int32) for part in SPACE.shapes}
PROBLEM = Problem(SPACE)
LIMITED = Problem(SPACE, cost=lambda gates: 1.0 + gates["width"][0, 1] + gates["depth"][0, 1], limit=2.0)
ROUNDS, KEYS = 30, jax.random.split(jax.random.key(7), 3)
PLAIN = {"batch": 8, "learning_rate": 0.1, "entropy_weight": 0.001, "baseline_decay": 0.8}
OFF = {**PLAIN, "epsilon": 0.5, "clip": 2.0, "replay": 32, "replayed": 8, "gradient_clip": 5.0}


def lstm(problem):
    return recurrent(problem.space, hidden=4, temperature=1.0, tanh_constant=2.5)


def off(behaviour, correction, policy=lambda problem: factorised(problem.space), **changed):
    own = {**OFF, "behaviour": behaviour, "correction": correction, **changed}
    return lambda problem: off_policy(problem, policy(problem), **own)


STRATEGIES = {
    "reinforce": lambda problem: reinforce(problem, factorised(problem.space), **PLAIN, clip=5.0),
    "reinforce, recurrent": lambda problem: reinforce(problem, lstm(problem), **PLAIN, clip=0.0),
    "ppo": lambda problem: ppo(problem, factorised(problem.space), **PLAIN, clip_ratio=0.2, updates=3),
    "off_policy, policy": off("policy", "ordinary"),
    "off_policy, random": off("random", "clipped"),
    "off_policy, argmax": off("argmax", "none"),
    "off_policy, epsilon": off("epsilon", "self_normalised"),
    "off_policy, epsilon, uncorrected": off("epsilon", "none", selection="vote"),
    "off_policy, epsilon_per_choice": off("epsilon_per_choice", "per_decision", selection="best_sampled"),
    "off_policy, recurrent": off("epsilon_per_choice", "clipped", lstm, batch=4, replayed=4),
    "mdenas": lambda problem: mdenas(problem, batch=8, learning_rate=0.1),
}


def rounds_of(strategy, problem):
    """key -> the last state, its metrics, what is derived, and all proposals [rounds, batch, ...]."""

    def accuracy(architectures):
        return 0.5 + 0.2 * architectures["width"][:, 0] + 0.1 * architectures["depth"][:, 0]

    def one(state, key):
        ask_key, tell_key = jax.random.split(key)
        proposal = strategy.ask(ask_key, state)
        outcome = outcome_of(problem, proposal.architectures, accuracy(proposal.architectures))
        return strategy.tell(tell_key, state, proposal, outcome), proposal.architectures

    def run(key):
        first, rest = jax.random.split(key)
        state, proposed = jax.lax.scan(one, strategy.init(first), jax.random.split(rest, ROUNDS))
        return state, strategy.metrics(state), strategy.best(state), strategy.probabilities(state), proposed

    return run


@functools.cache
def together(name):
    """What `KEYS` give as one batched program."""
    return jax.jit(jax.vmap(rounds_of(STRATEGIES[name](PROBLEM), PROBLEM)))(KEYS)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_better_option_becomes_more_probable(name):
    """In every repetition, but for two: always the same code tells nothing, as no reward then differs from the
    baseline; and MDENAS raises only what was drawn less often, so that it stops at once on its way, or starts askew.
    """
    state, metrics, best, probabilities, proposed = together(name)
    chex.assert_tree_all_finite((state, metrics, probabilities))
    for part in SPACE.shapes:
        good = np.asarray(probabilities[part][:, 0, 1])
        least = {"off_policy, argmax": np.all(good == 0.5), "mdenas": np.mean(good) > 0.5}
        assert least.get(name, np.all(good > 0.55))
        assert proposed[part].shape[:2] == (3, ROUNDS)
    if name not in ("off_policy, argmax", "mdenas"):
        chex.assert_trees_all_equal(best, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (3, 1)), GOOD))
        np.testing.assert_allclose(state.incumbent.reward, 0.8, rtol=1e-6)
    if "effective_sample_size" in metrics:
        size = np.asarray(metrics["effective_sample_size"])
        assert np.all((size > 1) & (size < 16 + 1e-4))
    assert np.all(np.asarray(metrics["entropy"]) <= 2 * np.log(2) + 1e-6)


@pytest.mark.parametrize("name", ["reinforce", "off_policy, epsilon", "mdenas"])
def test_batched_repetitions_are_what_each_is_alone(name):
    alone = jax.jit(rounds_of(STRATEGIES[name](PROBLEM), PROBLEM))
    for number, key in enumerate(KEYS):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], together(name))
        chex.assert_trees_all_close(one, alone(key), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["reinforce", "off_policy, epsilon"])
def test_every_proposal_and_what_is_derived_are_within_the_limit(name):
    strategy = STRATEGIES[name](LIMITED)
    state, _, best, _, proposed = jax.jit(rounds_of(strategy, LIMITED))(KEYS[0])
    assert np.all(proposed["width"] + proposed["depth"] <= 1)
    assert int(best["width"][0] + best["depth"][0]) <= 1
    np.testing.assert_allclose(state.incumbent.reward, 0.7, rtol=1e-6)


def test_where_nothing_legal_is_found_the_cheapest_stands_in_and_is_not_learned_from():
    """A policy that has all but ruled out what is legal proposes it all the same."""
    strategy = STRATEGIES["reinforce"](LIMITED._replace(limit=1.5))
    state = strategy.init(KEYS[0])
    sure = {part: jnp.asarray([[0.0, 30.0]]) for part in SPACE.shapes}
    proposal = jax.jit(strategy.ask)(KEYS[1], state._replace(parameters=sure))
    assert not np.any(proposal.info.drawn)
    assert all(np.all(options == 0) for options in proposal.architectures.values())
    outcome = outcome_of(LIMITED, proposal.architectures, jnp.linspace(0.1, 0.8, 8))
    after = jax.jit(strategy.tell)(KEYS[2], state._replace(parameters=sure), proposal, outcome)
    chex.assert_trees_all_close(after.parameters, sure, atol=1e-3)
    assert float(after.sample_size) == 0 and int(after.excluded) == 0
    np.testing.assert_allclose(after.incumbent.reward, 0.8, rtol=1e-6)


def test_a_limit_that_nothing_meets_is_refused():
    with pytest.raises(UserError, match=r"the limit of the cost is 0\.5, which no architecture meets"):
        STRATEGIES["reinforce"](LIMITED._replace(limit=0.5))
