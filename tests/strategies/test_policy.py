"""Policies against the enumeration of all codes of a tiny space, one table of both kinds."""

import itertools
from functools import partial
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnas.core.errors import UserError
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.strategies.policy import decoded, factorised
from jaxnas.strategies.policy_search import VOTES, selected, vote
from jaxnas.strategies.recurrent import recurrent
from jaxnas.strategies.strategy import Problem, no_incumbent

# The part that comes first is not the first by name: decisions follow the space, not the alphabet.
SPACE = product_space("tiny", {"width": ("a", "b", "c"), "depth": ("1", "2")}, {"width": 2, "depth": 1})
ALLOWED = {"width": np.asarray([[True, True, False], [True, True, True]]), "depth": np.ones((1, 2), bool)}
SETTINGS = {"hidden": 5, "temperature": 0.5, "tanh_constant": 2.5}
POLICIES = {
    "factorised": factorised(SPACE),
    "factorised, masked": factorised(SPACE, ALLOWED),
    "recurrent": recurrent(SPACE, **SETTINGS),
    "recurrent, masked": recurrent(SPACE, **SETTINGS, allowed=ALLOWED),
}
NUMBERS = np.asarray(list(itertools.product(range(3), range(3), range(2))), np.int32)
CODES = {"width": NUMBERS[:, :2], "depth": NUMBERS[:, 2:]}


KEYS = jax.random.split(jax.random.key(1), 20_000)


def parameters_of(policy):
    """Standard normal, far from where they start, so that nothing is near to uniform."""
    random = np.random.default_rng(3)
    shapes = jax.eval_shape(policy.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), shapes)


def fetched(function):
    """The function compiled, with answers in NumPy, in which they are compared without compiling more."""
    run = jax.jit(function)
    return lambda *given: jax.device_get(run(*given))


def compiled(policy):
    """Log-probabilities of `CODES`, decision by decision, their entropies, and codes drawn for many keys."""
    return SimpleNamespace(
        policy=policy,
        parameters=parameters_of(policy),
        decisions=fetched(jax.vmap(policy.log_probs, in_axes=(None, 0))),
        entropies=fetched(jax.vmap(policy.entropy, in_axes=(None, 0))),
        sample=fetched(jax.vmap(policy.sample, in_axes=(0, None))),
        explore=fetched(jax.vmap(policy.explore, in_axes=(0, None, None))),
        greedy=fetched(lambda parameters: (policy.mode(parameters), policy.probabilities(parameters))),
    )


# All parameters 0: every decision is uniform among what is allowed.
ZEROS = {policy: jax.tree.map(np.zeros_like, parameters_of(policy)) for policy in POLICIES.values()}
COMPILED = {name: compiled(policy) for name, policy in POLICIES.items()}


def probabilities_of(tools, parameters=None):
    """The probability of every one of `CODES`, in float64."""
    decisions = tools.decisions(tools.parameters if parameters is None else parameters, CODES)
    return np.exp(sum(np.sum(np.asarray(values, np.float64), axis=-1) for values in decisions.values()))


def check_frequencies(codes, probabilities):
    """Pearson's test; what is impossible is never drawn."""
    counts, possible = counts_of(codes), probabilities > 0
    np.testing.assert_allclose(np.sum(probabilities), 1.0, rtol=1e-5)
    assert np.sum(counts[~possible]) == 0
    expected = probabilities[possible] / np.sum(probabilities) * np.sum(counts)
    assert stats.chisquare(counts[possible], expected).pvalue > 1e-3


def counts_of(codes):
    """How often each of `CODES` is among codes."""
    number = codes["width"][:, 0] * 6 + codes["width"][:, 1] * 2 + codes["depth"][:, 0]
    return np.bincount(number, minlength=18)


@pytest.fixture(params=COMPILED.values(), ids=COMPILED.keys())
def tools(request):
    return request.param


def test_samples_follow_the_probabilities(tools):
    probabilities = probabilities_of(tools)
    assert np.max(probabilities) > 2 / 18  # the parameters do tell codes apart
    check_frequencies(tools.sample(KEYS, tools.parameters), probabilities)


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_exploring_mixes_every_decision_with_the_uniform_one(tools, epsilon):
    """Given the decisions before it, each has the probability (1 - ε) π + ε / options allowed."""
    plain = np.concatenate([np.exp(values) for values in tools.decisions(tools.parameters, CODES).values()], axis=-1)
    uniform = np.concatenate([np.exp(values) for values in tools.decisions(ZEROS[tools.policy], CODES).values()], -1)
    probabilities = np.prod(((1 - epsilon) * plain + epsilon * uniform).astype(np.float64), axis=-1)
    check_frequencies(tools.explore(KEYS, tools.parameters, epsilon), probabilities)


def test_entropy_is_that_of_the_enumeration(tools):
    """A factorised policy's along any code; a recurrent one's as the mean over its codes."""
    probabilities, values = probabilities_of(tools), tools.entropies(tools.parameters, CODES)
    expected = stats.entropy(probabilities)
    np.testing.assert_allclose(np.sum(probabilities * values), expected, rtol=1e-5)
    if tools in (COMPILED["factorised"], COMPILED["factorised, masked"]):
        np.testing.assert_allclose(values, np.full(18, expected), rtol=1e-5)


def test_recurrent_decisions_depend_on_those_before():
    tools = COMPILED["recurrent"]
    depth = np.exp(tools.decisions(tools.parameters, CODES)["depth"][::2, 0])
    assert np.ptp(depth) > 0.05  # the same option after different ones


def test_first_parameters_are_those_published():
    """Logits of 0, and an LSTM with uniform parameters in [-0.1, 0.1], which is nearly indifferent."""
    nothing = {"width": np.zeros((2, 3), np.float32), "depth": np.zeros((1, 2), np.float32)}
    chex.assert_trees_all_equal(factorised(SPACE).init(jax.random.key(0)), nothing)
    first = fetched(POLICIES["recurrent"].init)(jax.random.key(0))
    assert {name: leaf.shape for name, leaf in first.items()} == {
        "start": (5,),
        "lstm": (10, 20),
        "embeddings": (2, 3, 5),
        "heads": (2, 5, 3),
    }
    assert all(np.max(np.abs(leaf)) <= 0.1 for leaf in jax.tree.leaves(first))
    np.testing.assert_allclose(probabilities_of(COMPILED["recurrent"], first), np.full(18, 1 / 18), rtol=0.1)


def test_the_recurrence_is_that_of_enas():
    """Written out in numpy, step by step, it gives the same log-probabilities."""
    tools = COMPILED["recurrent"]
    parameters = jax.tree.map(np.asarray, tools.parameters)
    found = tools.decisions(tools.parameters, CODES)

    def squashed(values):
        return 1 / (1 + np.exp(-values))

    for row in range(18):
        code = [*CODES["width"][row], *CODES["depth"][row]]
        state, memory, reading, expected = np.zeros(5), np.zeros(5), parameters["start"], []
        for part, options, option in zip([0, 0, 1], [3, 3, 2], code, strict=True):
            write, keep, show, new = np.split(np.concatenate([reading, state]) @ parameters["lstm"], 4)
            memory = squashed(keep) * memory + squashed(write) * np.tanh(new)
            state = squashed(show) * np.tanh(memory)
            logits = 2.5 * np.tanh((state @ parameters["heads"][part])[:options] / 0.5)
            expected.append(logits[option] - np.log(np.sum(np.exp(logits))))
            reading = parameters["embeddings"][part, option]
        np.testing.assert_allclose([*found["width"][row], *found["depth"][row]], expected, rtol=1e-4, atol=1e-5)


def test_mode_is_greedy_and_probabilities_are_along_it(tools):
    mode, along = tools.greedy(tools.parameters)
    row = int(np.argmax(counts_of({part: options[None] for part, options in mode.items()})))
    decisions = tools.decisions(tools.parameters, CODES)
    for part, (choices, options) in SPACE.shapes.items():
        assert along[part].shape == (choices, options) and mode[part].dtype == jnp.int32
        np.testing.assert_allclose(np.sum(along[part], -1), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(np.argmax(along[part], -1), mode[part])
        np.testing.assert_allclose(np.exp(decisions[part][row]), np.max(along[part], -1), rtol=1e-5)


def test_probabilities_of_a_factorised_policy_are_the_marginals():
    tools = COMPILED["factorised, masked"]
    probabilities, along = probabilities_of(tools), tools.greedy(tools.parameters)[1]
    for part, (choices, options) in SPACE.shapes.items():
        for choice, option in itertools.product(range(choices), range(options)):
            marginal = np.sum(probabilities[CODES[part][:, choice] == option])
            np.testing.assert_allclose(along[part][choice, option], marginal, rtol=1e-5)


def test_bounded_logits_keep_probabilities_apart_from_zero_and_one():
    """Two options whose logits are within ±1 differ by the factor e² at most; without a bound by any."""
    ratios = []
    for tanh_constant in (1.0, 0.0):
        policy = recurrent(SPACE, hidden=5, temperature=0.01, tanh_constant=tanh_constant)
        rows = fetched(policy.probabilities)(parameters_of(policy))["depth"][0]
        ratios.append(np.max(rows) / np.min(rows))
    assert ratios[0] <= np.exp(2) * 1.001 and ratios[1] > 1000


@pytest.mark.parametrize("name", ["factorised", "recurrent"])
def test_policies_can_be_masked_by_arrays_that_a_program_computes(name):
    """The mask of a stage of a search is part of its state."""
    make = {"factorised": factorised, "recurrent": partial(recurrent, **SETTINGS)}[name]
    tools = COMPILED[f"{name}, masked"]
    masked_by = jax.vmap(
        lambda allowed, code: make(SPACE, allowed=allowed).log_probs(tools.parameters, code), (None, 0)
    )
    expected = tools.decisions(tools.parameters, CODES)
    chex.assert_trees_all_close(jax.jit(masked_by)(ALLOWED, CODES), expected, rtol=1e-5, atol=1e-6)


def test_a_code_of_a_product_space_is_the_architecture():
    for name in ("factorised", "recurrent"):
        along = COMPILED[name].greedy(COMPILED[name].parameters)[1]
        found = jax.jit(jax.vmap(lambda code, along: decoded(SPACE, code, along), in_axes=(0, None)))(CODES, along)
        chex.assert_trees_all_equal(found, CODES)


def test_a_cell_keeps_the_two_most_probable_of_the_edges_that_its_code_has():
    """Node 1 reads states 0, 1 and 2; all three have an operation in the code, or one, which is then kept."""
    space = cell_space(2, ("none", "skip_connect", "sep_conv_3x3"))
    keep = jax.jit(partial(decoded, space))
    code = {part: np.asarray([1, 2, 1, 2, 1], np.int32) for part in space.shapes}
    strength = np.asarray([0.5, 0.5, 0.2, 0.6, 0.3])[:, None]
    probabilities = {part: np.concatenate([1 - strength, strength / 2, strength / 2], -1) for part in space.shapes}
    for kept in keep(code, probabilities).values():
        np.testing.assert_array_equal(kept, [1, 2, 0, 2, 1])
    single = {part: np.asarray([1, 2, 1, 0, 0], np.int32) for part in space.shapes}
    for kept in keep(single, probabilities).values():
        np.testing.assert_array_equal(kept, [1, 2, 1, 1, 0])


def test_a_vote_takes_the_most_frequent_option():
    tools = COMPILED["factorised"]
    codes = tools.sample(jax.random.split(jax.random.key(0), VOTES), tools.parameters)
    for part, options in jax.jit(lambda values: vote(tools.policy, values))(tools.parameters).items():
        np.testing.assert_array_equal(options, stats.mode(np.asarray(codes[part]), axis=0).mode)


def test_what_a_policy_derives_by_name():
    """Where it exceeds the limit of the cost, whatever was best is derived instead."""
    policy, parameters = POLICIES["factorised"], COMPILED["factorised"].parameters
    best = no_incumbent(SPACE)
    mode, voted = jax.jit(lambda given: (policy.mode(given), vote(policy, given)))(parameters)
    table = {"argmax": mode, "vote": voted, "best_sampled": best.architecture}
    dear = Problem(SPACE, cost=lambda gates: 1.0 + gates["width"][0, 0], limit=0.5)
    for name, expected in table.items():
        chex.assert_trees_all_equal(jax.jit(selected(name, Problem(SPACE), policy))(parameters, best), expected)
        chex.assert_trees_all_equal(jax.jit(selected(name, dear, policy))(parameters, best), best.architecture)
    with pytest.raises(UserError, match="unknown selection 'votes'; did you mean 'vote'"):
        selected("votes", Problem(SPACE), policy)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("hidden", 0, "hidden is 0, but has to be at least 1"),
        ("temperature", 0.0, "temperature is 0.0, but has to be a number above 0"),
        ("tanh_constant", -1.0, "tanh_constant is -1.0, but has to be at least 0"),
    ],
)
def test_settings_of_the_recurrent_policy(setting, value, words):
    with pytest.raises(UserError, match=words):
        recurrent(SPACE, **SETTINGS | {setting: value})
