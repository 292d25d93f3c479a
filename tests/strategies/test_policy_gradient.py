"""Gradients of the expected reward against its enumeration, baselines and PPO's surrogate against their formulas."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import (
    ascent,
    climb,
    code_log_probs,
    policy_gradient,
    ppo,
    reinforce,
    share,
    surrogate_weights,
)
from jaxnas.strategies.policy_search import Baseline, Samples, first_baseline, moved_baseline
from jaxnas.strategies.recurrent import recurrent
from jaxnas.strategies.strategy import Problem, outcome_of

SPACE = product_space("tiny", {"width": ("a", "b", "c"), "depth": ("1", "2")}, {"width": 2, "depth": 1})
POLICIES = {
    "factorised": factorised(SPACE),
    "recurrent": recurrent(SPACE, hidden=4, temperature=0.7, tanh_constant=2.5),
}
NUMBERS = np.asarray(list(itertools.product(range(3), range(3), range(2))), np.int32)
CODES = {"width": NUMBERS[:, :2], "depth": NUMBERS[:, 2:]}
REWARDS = np.cos(1.7 * np.arange(18.0)) + 0.5  # no choice is worth the same whatever the others are
PROBLEM = Problem(SPACE)
SETTINGS = {"batch": 6, "learning_rate": 0.1, "entropy_weight": 0.01, "baseline_decay": 0.75}


def parameters_of(policy):
    random = np.random.default_rng(3)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape), shapes)


def begun(strategy):
    return jax.jit(strategy.init)(jax.random.key(0))


def accuracies(architectures):
    """Of proposals, by their number in `CODES`."""
    number = architectures["width"][:, 0] * 6 + architectures["width"][:, 1] * 2 + architectures["depth"][:, 0]
    return jnp.asarray(REWARDS, jnp.float32)[number]


def round_of(strategy):
    """Compiled: (state, keys, factors of the rewards) -> the state after a round, the proposal and the rewards."""

    def told(state, keys, factors):
        proposal = strategy.ask(keys[0], state)
        outcome = outcome_of(PROBLEM, proposal.architectures, factors * accuracies(proposal.architectures))
        return strategy.tell(keys[1], state, proposal, outcome), proposal, outcome.reward

    return jax.jit(told)


@pytest.mark.parametrize("name", POLICIES)
def test_gradient_is_that_of_the_enumerated_expectation(name):
    """Weighing every code by its probability, whatever the baseline; the recurrent policy through all its steps."""
    policy = POLICIES[name]
    with jax.enable_x64(True):
        parameters, codes = jax.tree.map(jnp.asarray, (parameters_of(policy), CODES))
        rewards = jnp.asarray(REWARDS)

        def expected(parameters):
            return jnp.sum(jnp.exp(code_log_probs(policy, parameters, codes)) * rewards)

        @jax.jit
        def estimated(parameters, baseline):
            weights = 18 * jnp.exp(code_log_probs(policy, parameters, codes))
            return policy_gradient(policy, parameters, codes, rewards - baseline, weights, 0.0)

        exact = jax.jit(jax.grad(expected))(parameters)
        for baseline in (0.0, 3.0):
            chex.assert_trees_all_close(estimated(parameters, baseline), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
def test_gradient_is_unbiased(name):
    """The mean over many single samples lies within five of its standard errors of the enumerated gradient."""
    policy = POLICIES[name]
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters_of(policy))
    count = 20_000

    @jax.jit
    def estimates(parameters):
        codes = jax.vmap(lambda key: policy.sample(key, parameters))(jax.random.split(jax.random.key(0), count))

        def one(code, reward):
            single = jax.tree.map(lambda leaf: leaf[None], code)
            return policy_gradient(policy, parameters, single, reward - 0.4, jnp.ones(1), 0.0)

        gradients = jax.vmap(one)(codes, accuracies(codes)[:, None])
        exact = jax.grad(lambda values: jnp.exp(code_log_probs(policy, values, CODES)) @ REWARDS)(parameters)
        return jax.tree.map(lambda leaf: (jnp.mean(leaf, 0), jnp.std(leaf, 0)), gradients), exact

    found, exact = jax.device_get(estimates(parameters))
    for (mean, deviation), expected in zip(
        jax.tree.leaves(found, is_leaf=lambda leaf: isinstance(leaf, tuple)), jax.tree.leaves(exact), strict=True
    ):
        assert np.all(np.abs(mean - expected) <= 5 * deviation / count**0.5 + 1e-6)


def test_entropy_adds_its_own_gradient():
    """-Σ p log p of every choice, differentiated through the enumeration of its options."""
    policy = POLICIES["factorised"]
    with jax.enable_x64(True):
        parameters, codes = jax.tree.map(jnp.asarray, (parameters_of(policy), CODES))

        def entropy(parameters):
            rows = [jax.nn.softmax(values) for values in parameters.values()]
            return -sum(jnp.sum(each * jnp.log(each)) for each in rows)

        @jax.jit
        def both(parameters):
            found = policy_gradient(policy, parameters, codes, jnp.zeros(18), jnp.ones(18), 0.3)
            return found, jax.tree.map(lambda leaf: 0.3 * leaf, jax.grad(entropy)(parameters))

        chex.assert_trees_all_close(*both(parameters), rtol=1e-9, atol=1e-12)


def test_samples_of_weight_zero_add_nothing():
    policy = POLICIES["factorised"]
    parameters = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), parameters_of(policy))
    counted = np.arange(18) % 3 > 0
    kept = {part: options[counted] for part, options in CODES.items()}
    advantages = np.where(counted, REWARDS, np.nan)
    gradient = jax.jit(lambda *given: policy_gradient(policy, parameters, *given, 0.0))
    found = gradient(CODES, advantages, jax.jit(share)(counted))
    expected = gradient(kept, advantages[counted], np.ones(12))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(jax.jit(share)(np.zeros(4, bool)), np.zeros(4))


def test_baseline_is_a_moving_average_that_starts_at_the_first_mean():
    batches = [[np.nan, np.nan], [1.0, 3.0], [np.nan, 6.0], [np.nan, np.nan], [0.0, 2.0]]
    used, after = [0.0, 2.0, 2.0, 3.0, 3.0], [0.0, 2.0, 3.0, 3.0, 2.5]  # by 1/4 of the way from 2 to 6, from 3 to 1
    baseline, first, moved = Baseline(np.float32(0), np.bool_(False)), jax.jit(first_baseline), jax.jit(moved_baseline)
    for rewards, before, then in zip(batches, used, after, strict=True):
        finite = np.isfinite(rewards)
        samples = Samples({}, {}, np.where(finite, np.asarray(rewards), 0.0), finite)
        baseline = first(baseline, samples)
        np.testing.assert_allclose(baseline.value, before, rtol=1e-6)
        baseline = moved(baseline, samples, 0.75)
        np.testing.assert_allclose(baseline.value, then, rtol=1e-6)
    assert bool(baseline.known)


def test_reinforce_is_adam_along_the_gradient():
    """Two rounds written out: the second uses the baseline of the first, and cuts its gradient down."""
    policy, clip = POLICIES["factorised"], 0.05
    strategy = reinforce(PROBLEM, policy, **SETTINGS, clip=clip)
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.adam(0.1))

    @jax.jit
    def by_hand(parameters, memory, codes, advantages):
        gradient = policy_gradient(policy, parameters, codes, advantages, jnp.ones(6), 0.01)
        changes, memory = optimizer.update(jax.tree.map(jnp.negative, gradient), memory)
        return optax.apply_updates(parameters, changes), memory

    state, told = begun(strategy), round_of(strategy)
    parameters, memory, baseline = state.parameters, jax.jit(optimizer.init)(state.parameters), None
    for number in range(2):
        state, proposal, rewards = told(state, jax.random.split(jax.random.key(number)), 1.0)
        rewards = np.asarray(rewards)
        baseline = np.mean(rewards) if baseline is None else baseline
        parameters, memory = by_hand(parameters, memory, proposal.info.codes, rewards - baseline)
        baseline = baseline + 0.25 * (np.mean(rewards) - baseline)
        chex.assert_trees_all_close(state.parameters, parameters, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.baseline.value, baseline, rtol=1e-6)
        np.testing.assert_allclose(state.reward, np.mean(rewards), rtol=1e-6)
        assert float(state.sample_size) == 6


def test_rewards_that_are_not_finite_are_excluded_and_counted():
    policy = POLICIES["factorised"]
    strategy = reinforce(PROBLEM, policy, **SETTINGS, clip=0.0)
    keys, state, told = jax.random.split(jax.random.key(1)), begun(strategy), round_of(strategy)
    bad = np.asarray([np.nan, 1.0, np.inf, 1.0, -np.inf, 1.0])
    some, proposal, rewards = jax.device_get(told(state, keys, bad))
    assert int(some.excluded) == 3 and float(some.sample_size) == 3
    chex.assert_tree_all_finite((some.parameters, some.memory, some.baseline))
    np.testing.assert_allclose(some.reward, np.mean(rewards[1::2]), rtol=1e-6)
    np.testing.assert_allclose(some.incumbent.reward, np.max(rewards[1::2]))
    codes = jax.tree.map(lambda leaf: leaf[1::2], proposal.info.codes)

    @jax.jit
    def climbed(advantages):
        gradient = policy_gradient(policy, state.parameters, codes, advantages, jnp.ones(3), 0.01)
        return climb(ascent(0.1, 0.0), gradient, state.memory, state.parameters)[0]

    chex.assert_trees_all_close(some.parameters, climbed(rewards[1::2] - some.reward), rtol=1e-4, atol=1e-5)
    none, _, _ = told(state, keys, np.nan * bad)
    assert int(none.excluded) == 6 and not bool(none.baseline.known)
    chex.assert_tree_all_finite((none.parameters, none.memory, none.baseline))


def test_surrogate_has_the_gradient_of_its_definition():
    """min(ρ A, clip(ρ) A) differentiated for the logarithm of ρ, on both sides of the clip and for both signs of A."""
    log_ratios = np.asarray([-1.0, -0.1, 0.0, 0.1, 1.0] * 2, np.float32)
    advantages = np.repeat(np.float32([1.5, -0.7]), 5)

    def surrogate(log_ratio, advantage):
        ratio = jnp.exp(log_ratio)
        return jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)

    expected = jax.jit(jax.vmap(jax.grad(surrogate)))(log_ratios, advantages)
    weights = np.asarray(jax.jit(surrogate_weights)(log_ratios, advantages, 0.2))
    np.testing.assert_allclose(weights * advantages, expected, rtol=1e-6)
    assert np.count_nonzero(expected) == 8


def test_the_first_pass_of_ppo_is_reinforce():
    """One pass over the batch gives the same parameters, with the same draws; a second one moves on."""
    policy, keys = POLICIES["factorised"], jax.random.split(jax.random.key(1))
    strategies = [ppo(PROBLEM, policy, **SETTINGS, clip_ratio=0.2, updates=updates) for updates in (1, 2)]
    strategies.append(reinforce(PROBLEM, policy, **SETTINGS, clip=0.0))
    rounds = jax.device_get([round_of(strategy)(begun(strategy), keys, 1.0) for strategy in strategies])
    (one, proposal, _), (two, _, _), (plain, expected, _) = rounds
    chex.assert_trees_all_equal(proposal.architectures, expected.architectures)
    chex.assert_trees_all_close(one.parameters, plain.parameters, rtol=1e-5, atol=1e-6)
    moved = [np.max(np.abs(two.parameters[part] - plain.parameters[part])) for part in SPACE.shapes]
    assert max(moved) > 0.05  # about the learning rate of 0.1


@pytest.mark.parametrize(
    ("make", "setting", "value", "words"),
    [
        (reinforce, "batch", 0, "batch is 0, but has to be at least 1"),
        (reinforce, "learning_rate", 0.0, "learning_rate is 0.0, but has to be a number above 0"),
        (reinforce, "entropy_weight", -1.0, "entropy_weight is -1.0, but has to be at least 0"),
        (reinforce, "baseline_decay", 1.0, "baseline_decay is 1.0, but has to be from 0 to below 1"),
        (reinforce, "clip", -5.0, "the clip of gradients is -5.0, but has to be at least 0"),
        (ppo, "clip_ratio", 0.0, "clip_ratio is 0.0, but has to be a number above 0"),
        (ppo, "updates", 0, "updates is 0, but has to be at least 1"),
        (ppo, "learning_rate", float("nan"), "learning_rate is nan, but has to be a number above 0"),
    ],
)
def test_settings_out_of_range(make, setting, value, words):
    own = {"clip": 1.0} if make is reinforce else {"clip_ratio": 0.2, "updates": 2}
    with pytest.raises(UserError, match=words):
        make(PROBLEM, POLICIES["factorised"], **{**SETTINGS, **own, setting: value})
