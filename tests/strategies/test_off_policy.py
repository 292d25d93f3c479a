"""Behaviours and importance weights against the enumeration of all codes, the replay against a queue."""

import itertools
from collections import deque
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.strategies.off_policy import (
    CORRECTIONS,
    behaviour,
    effective_sample_size,
    empty_replay,
    importance_weights,
    off_policy,
    recall,
    remember,
)
from jaxnas.strategies.policy import factorised
from jaxnas.strategies.policy_gradient import code_log_probs, policy_gradient, reinforce
from jaxnas.strategies.policy_search import Samples
from jaxnas.strategies.recurrent import recurrent
from jaxnas.strategies.strategy import Problem, outcome_of

# The part that comes first is not the first by name: decisions follow the space, not the alphabet.
SPACE = product_space("tiny", {"width": ("a", "b", "c"), "depth": ("1", "2")}, {"width": 2, "depth": 1})
ALLOWED = {"width": np.asarray([[True, True, False], [True, True, True]]), "depth": np.ones((1, 2), bool)}
NUMBERS = np.asarray(list(itertools.product(range(3), range(3), range(2))), np.int32)
CODES = {"width": NUMBERS[:, :2], "depth": NUMBERS[:, 2:]}
REWARDS = np.cos(1.7 * np.arange(18.0)) + 0.5  # no choice is worth the same whatever the others are
EPSILON = 0.3
POLICIES = {
    "factorised": (factorised(SPACE, ALLOWED), ALLOWED),
    "recurrent": (recurrent(SPACE, hidden=4, temperature=0.7, tanh_constant=2.5), None),
}
COVERING = ("policy", "random", "epsilon", "epsilon_per_choice")  # the support of the policy
KEYS = jax.random.split(jax.random.key(1), 20_000)
weigh = jax.jit(importance_weights, static_argnums=(2, 3))
put, take = jax.jit(remember), jax.jit(recall, static_argnums=2)


def parameters_of(policy):
    random = np.random.default_rng(3)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), leaf.dtype), shapes)


def compiled(policy_name, name):
    policy, allowed = POLICIES[policy_name]
    own = behaviour(name, policy, SPACE, EPSILON, allowed)
    parameters = parameters_of(policy)
    return SimpleNamespace(
        policy=policy,
        parameters=parameters,
        behaviour=own,
        log_mu=jax.jit(jax.vmap(own.log_probs, in_axes=(None, 0)))(parameters, CODES),
        log_pi=jax.jit(jax.vmap(policy.log_probs, in_axes=(None, 0)))(parameters, CODES),
        sample=jax.jit(jax.vmap(own.sample, in_axes=(0, None))),
    )


def probabilities(decisions):
    return np.exp(sum(np.sum(np.asarray(values, np.float64), axis=-1) for values in decisions.values()))


@pytest.fixture(params=itertools.product(POLICIES, (*COVERING, "argmax")), ids="-".join, scope="module")
def tools(request):
    return request.param, compiled(*request.param)


@jax.jit
def numbers(codes):
    """Positions among `CODES`."""
    return codes["width"][:, 0] * 6 + codes["width"][:, 1] * 2 + codes["depth"][:, 0]


def test_behaviours_draw_by_the_probabilities_that_they_state(tools):
    """Over all codes these sum to one, and they are what the names say; Pearson's test for the draws."""
    (_, name), tools = tools
    mu, pi = probabilities(tools.log_mu), probabilities(tools.log_pi)
    np.testing.assert_allclose(np.sum(mu), 1.0, rtol=1e-5)
    uniform = (pi > 0) / np.count_nonzero(pi)
    likeliest = jax.device_get(jax.jit(tools.policy.mode)(tools.parameters))
    mode = np.arange(18) == numbers(jax.tree.map(lambda leaf: leaf[None], likeliest))
    known = {"policy": pi, "random": uniform, "argmax": mode, "epsilon": (1 - EPSILON) * pi + EPSILON * uniform}
    if name in known:
        np.testing.assert_allclose(mu, known[name], rtol=1e-4, atol=1e-7)
    counts = np.bincount(numbers(tools.sample(KEYS, tools.parameters)), minlength=18)
    assert np.sum(counts[mu == 0]) == 0
    expected = mu[mu > 0] / np.sum(mu) * len(KEYS)
    assert name == "argmax" or stats.chisquare(counts[mu > 0], expected).pvalue > 1e-3


def test_exploring_choice_by_choice_is_a_product():
    """Its decisions are (1 - ε) π + ε / options, each; that of a whole code is not such a product."""
    found = compiled("factorised", "epsilon_per_choice")
    options = {"width": np.asarray([2, 3]), "depth": np.asarray([2])}
    for part, values in found.log_pi.items():
        expected = np.where(np.exp(values) > 0, (1 - EPSILON) * np.exp(values) + EPSILON / options[part], 0.0)
        np.testing.assert_allclose(np.exp(found.log_mu[part]), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("policy_name", POLICIES)
def test_weighted_gradients_are_unbiased(policy_name):
    """Σ over codes of μ · π/μ · (r - b) ∇ log π is the gradient on-policy, by whole codes and decision by decision."""
    policy, allowed = POLICIES[policy_name]
    cases = list(itertools.product(COVERING, ("ordinary", "per_decision")))

    def weights_of(name, kind, parameters, log_pi):
        own = behaviour(name, policy, SPACE, EPSILON, allowed)
        log_mu = jax.vmap(lambda code: own.log_probs(parameters, code))(CODES)
        mu = jnp.exp(sum(jnp.sum(values, axis=-1) for values in log_mu.values()))
        return 18 * mu * importance_weights(log_pi, log_mu, kind)

    def found(parameters):
        log_pi = jax.vmap(lambda code: policy.log_probs(parameters, code))(CODES)
        weights = jnp.stack([weights_of(*case, parameters, log_pi) for case in cases])
        return jax.vmap(lambda row: policy_gradient(policy, parameters, CODES, REWARDS - 0.4, row, 0.0))(weights)

    def expected(parameters):
        return jnp.exp(code_log_probs(policy, parameters, CODES)) @ jnp.asarray(REWARDS)

    with jax.enable_x64(True):
        parameters = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), parameters_of(policy))
        gradients, exact = jax.jit(found)(parameters), jax.jit(jax.grad(expected))(parameters)
    for row, case in enumerate(cases):
        one = jax.tree.map(lambda leaf, row=row: leaf[row], gradients)
        chex.assert_trees_all_close(one, exact, rtol=1e-8, atol=1e-10, custom_message=str(case))


def test_weighted_averages_of_samples_are_unbiased(tools):
    """The mean of π/μ · r over draws lies within five of its standard errors of the expected reward under π."""
    (_, name), tools = tools
    drawn = np.asarray(numbers(tools.sample(KEYS, tools.parameters)))
    weights = np.asarray(weigh(tools.log_pi, tools.log_mu, "ordinary"), np.float64)
    weighted = (weights * REWARDS)[drawn]
    off = abs(np.mean(weighted) - probabilities(tools.log_pi) @ REWARDS)
    assert (off < 5 * np.std(weighted) / len(drawn) ** 0.5 + 1e-5) == (name != "argmax")


def test_weights_of_every_kind_are_their_formulas():
    random = np.random.default_rng(0)
    pi, mu = ({"one": random.normal(size=(7, 2)), "two": random.normal(size=(7, 1))} for _ in range(2))
    decisions = np.exp(np.concatenate([pi[part] - mu[part] for part in pi], axis=-1))
    ratios = np.prod(decisions, axis=-1)
    counted = np.arange(7) != 3
    expected = {
        "none": np.ones(7),
        "ordinary": ratios,
        "clipped": np.minimum(ratios, 1.2),
        "self_normalised": ratios / np.mean(ratios[counted]),
        "per_decision": np.prod(np.minimum(decisions, 1.2), axis=-1),
    }
    assert set(expected) == set(CORRECTIONS)
    assert np.any(ratios > 1.2) and np.any(decisions > 1.2) and np.any(ratios < 1)
    for kind, values in expected.items():
        found = weigh(pi, mu, kind, 1.2, counted)
        np.testing.assert_allclose(found, np.where(counted, values, 0.0), rtol=1e-5, err_msg=kind)
    whole = [sum(np.sum(values, axis=-1) for values in each.values()) for each in (pi, mu)]
    for kind in ("ordinary", "clipped", "per_decision"):  # a whole code is one decision
        found = weigh(*whole, kind, 1.2)
        np.testing.assert_allclose(found, expected["ordinary" if kind == "ordinary" else "clipped"], rtol=1e-5)


@pytest.mark.parametrize("kind", CORRECTIONS)
def test_on_policy_weights_are_exactly_one(kind):
    """Also the self-normalised of 49 samples, where 49 · (1 / 49) is not 1 in float32."""
    values = np.random.default_rng(0).normal(size=(49, 5))
    log_pi = {"one": values[:, :3], "two": values[:, 3:]}
    np.testing.assert_array_equal(weigh(log_pi, log_pi, kind, 1.0), np.ones(49))


@pytest.mark.parametrize("scale", [0.1, 5.0, 300.0])
def test_self_normalised_weights_sum_to_their_number_however_unequal(scale):
    log_pi, log_mu = scale * np.random.default_rng(0).normal(size=(2, 40))
    weights = weigh(log_pi, log_mu, "self_normalised", counted=np.arange(40) % 4 > 0)
    np.testing.assert_allclose(np.sum(weights), 30.0, rtol=1e-5)
    assert 1 <= float(jax.jit(effective_sample_size)(weights)) <= 30
    assert np.all(np.isfinite(weigh(log_pi, log_mu, "ordinary")))
    np.testing.assert_array_equal(weigh(log_pi, log_mu, "self_normalised", counted=np.zeros(40, bool)), np.zeros(40))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1.0] * 5, 5), ([0.0, 7.0, 0.0], 1), ([1.0, 3.0], 1.6), ([1e30] * 2, 2), ([1e-30] * 2, 2), ([0.0], 0)],
)
def test_effective_sample_size(weights, expected):
    np.testing.assert_allclose(jax.jit(effective_sample_size)(np.asarray(weights)), expected, rtol=1e-6)


def some_samples(start, count):
    """Samples that can be told apart by their reward."""
    number = np.arange(start, start + count)
    width, depth = np.stack([number % 3, number % 2], axis=-1), number[:, None] % 2
    codes = {"width": width.astype(np.int32), "depth": depth.astype(np.int32)}
    log_mu = {"width": -0.5 * number[:, None] * np.ones(2, np.float32), "depth": -1.0 * number[:, None]}
    return Samples(codes, log_mu, number.astype(np.float32), number % 5 > 0)


@pytest.mark.parametrize("count", [1, 3, 4, 7, 19])
def test_replay_is_a_queue(count):
    """Of capacity 7, filled by batches that divide it, do not, fill it, and exceed it."""
    code = jax.tree.map(lambda leaf: leaf[0], some_samples(0, 1).codes)
    replay, queue = jax.jit(empty_replay, static_argnums=0)(7, code), deque(maxlen=7)
    assert not np.any(take(jax.random.key(0), replay, 4).counted)
    for number in range(5):
        samples = some_samples(1 + number * count, count)
        replay = put(replay, samples)
        queue.extend(range(1 + number * count, 1 + (number + 1) * count))
        kept = np.asarray(replay.samples.rewards)[: min(int(replay.stored), 7)]
        assert sorted(kept) == sorted(queue)
        recalled = jax.device_get(take(jax.random.key(number), replay, 300))
        assert set(recalled.rewards) == set(queue)
        for at, reward in enumerate(recalled.rewards[:20].astype(int)):
            one = jax.tree.map(lambda leaf, at=at: leaf[at : at + 1], recalled)
            chex.assert_trees_all_equal(one, jax.tree.map(jnp.asarray, some_samples(reward, 1)))


SETTINGS = {"batch": 6, "learning_rate": 0.1, "entropy_weight": 0.01, "baseline_decay": 0.75}
OWN = {"behaviour": "policy", "epsilon": EPSILON, "correction": "clipped", "clip": 2.0, "replay": 0, "replayed": 0}
PROBLEM = Problem(SPACE)
PLAIN = factorised(SPACE)


def round_of(strategy):
    """Compiled: (state, keys) -> the state after a round, and the proposal."""

    def told(state, keys):
        proposal = strategy.ask(keys[0], state)
        accuracies = jnp.asarray(REWARDS, jnp.float32)[numbers(proposal.architectures)]
        outcome = outcome_of(PROBLEM, proposal.architectures, accuracies)
        return strategy.tell(keys[1], state, proposal, outcome), proposal

    return jax.jit(told)


def test_on_policy_without_replay_it_is_reinforce():
    """All corrections weigh by one then, see above; here the one that computes most."""
    strategies = [
        off_policy(PROBLEM, PLAIN, **SETTINGS, **OWN | {"correction": "self_normalised"}, gradient_clip=1.0),
        reinforce(PROBLEM, PLAIN, **SETTINGS, clip=1.0),
    ]
    found = []
    for strategy in strategies:
        state, told = jax.jit(strategy.init)(jax.random.key(0)), round_of(strategy)
        for number in range(2):
            state, _ = told(state, jax.random.split(jax.random.key(number)))
        found.append((state.parameters, state.baseline, state.incumbent, state.sample_size))
    chex.assert_trees_all_close(*found, rtol=1e-5, atol=1e-6)


def test_an_update_weighs_new_and_replayed_samples():
    """The third round written out: samples of the first two keep the probabilities that they were drawn with."""
    settings = OWN | {"behaviour": "epsilon", "correction": "ordinary", "replay": 9, "replayed": 4}
    strategy = off_policy(PROBLEM, PLAIN, **SETTINGS, **settings, gradient_clip=0.0)
    state, told = jax.jit(strategy.init)(jax.random.key(0)), round_of(strategy)
    own = behaviour("epsilon", PLAIN, SPACE, EPSILON)
    log_mu_of = jax.jit(jax.vmap(own.log_probs, in_axes=(None, 0)))
    queue = deque(maxlen=9)
    for number in range(3):
        keys, before = jax.random.split(jax.random.key(number)), state
        state, proposal = told(before, keys)
        fresh = np.asarray(numbers(proposal.architectures))
        log_mu = np.log(probabilities(log_mu_of(before.parameters, CODES)))
        past = take(keys[1], before.memory[1], 4)
        past_log_mu = np.log(probabilities(past.log_mu))
        for code, drawn_with in zip(np.asarray(numbers(past.codes)), past_log_mu if number else [], strict=False):
            assert any(code == other and abs(drawn_with - log_mu_then) < 1e-5 for other, log_mu_then in queue)
        queue.extend(zip(fresh, log_mu[fresh], strict=True))
    rows = np.concatenate([fresh, numbers(past.codes)])
    log_pi = np.asarray(jax.jit(lambda values: code_log_probs(PLAIN, values, CODES))(before.parameters))[rows]
    weights = np.exp(log_pi - np.concatenate([log_mu[fresh], past_log_mu]))
    assert np.max(np.abs(weights - 1)) > 0.1
    codes, advantages = jax.tree.map(lambda leaf: leaf[rows], CODES), REWARDS[rows] - float(before.baseline.value)
    gradient = jax.jit(lambda *given: policy_gradient(PLAIN, before.parameters, codes, *given, 0.01))
    # Adam's mean of gradients, which it moves by 1/10.
    first, second = jax.device_get((state.memory[0][1].mu, before.memory[0][1].mu))
    implied = {part: (first[part] - 0.9 * second[part]) / 0.1 for part in first}
    chex.assert_trees_all_close(implied, dict(gradient(advantages, weights)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(state.sample_size, np.sum(weights) ** 2 / np.sum(weights**2), rtol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("behaviour", "epsilonn", "unknown behaviour 'epsilonn'; did you mean 'epsilon'"),
        ("epsilon", 0.0, "epsilon is 0.0, but has to be above 0 and at most 1"),
        ("epsilon", 1.5, "epsilon is 1.5, but has to be above 0 and at most 1"),
        ("correction", "self_normalized", "unknown correction 'self_normalized'; did you mean 'self_normalised'"),
        ("clip", 0.5, "clip is 0.5, but has to be at least 1"),
        ("replay", -1, "replay is -1, but has to be at least 0"),
        ("replayed", 30, "replayed is 30, but has to be from 0 to replay, which is 20"),
        ("batch", 0, "batch is 0, but has to be at least 1"),
        ("gradient_clip", -1.0, "the clip of gradients is -1.0, but has to be at least 0"),
    ],
)
def test_settings_out_of_range(setting, value, words):
    given = {**SETTINGS, **OWN, "behaviour": "epsilon", "replay": 20, "gradient_clip": 5.0, setting: value}
    with pytest.raises(UserError, match=words):
        off_policy(PROBLEM, PLAIN, **given)


def test_settings_that_are_not_read_are_not_checked():
    given = {**SETTINGS, **OWN, "epsilon": 0.0, "correction": "none", "clip": 0.0, "gradient_clip": 0.0}
    assert off_policy(PROBLEM, PLAIN, **given).batch == 6
