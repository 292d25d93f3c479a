"""Fronts, ranks and crowding against brute force; NSGA-II on a space that can be enumerated."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.pareto import crowding_distances, front, non_dominated_ranks, nsga2
from jaxnas.strategies.strategy import Problem, outcome_of

SPACE = product_space("small", {"block": ("a", "b", "c")}, {"block": 4})  # 81 architectures
rng = np.random.default_rng(0)
WORTH, PRICE = (jnp.asarray(rng.uniform(0, 1, (4, 3)), jnp.float32) for _ in range(2))

ranks_of = jax.jit(non_dominated_ranks)
crowding_of = jax.jit(crowding_distances)


def cost(gates):
    return jnp.sum(PRICE * gates["block"])


def accuracy(architecture):
    return jnp.sum(WORTH * encode(SPACE, architecture)["block"])


def dominates(one, other):
    return np.all(one <= other) and np.any(one < other)


def brute_ranks(objectives):
    ranks, left, rank = np.zeros(len(objectives), int), set(range(len(objectives))), 0
    while left:
        best = {i for i in left if not any(dominates(objectives[j], objectives[i]) for j in left)}
        ranks[list(best)] = rank
        left, rank = left - best, rank + 1
    return ranks


def brute_crowding(objectives, ranks):
    """As Deb et al. 2002 write it down, one front after another."""
    distance = np.zeros(len(objectives))
    for rank in np.unique(ranks):
        members = np.flatnonzero(ranks == rank)
        for values in objectives.T:
            order = members[np.argsort(values[members], kind="stable")]
            extent = values[order[-1]] - values[order[0]]
            distance[order[[0, -1]]] = np.inf
            for before, at, after in zip(order, order[1:], order[2:], strict=False):
                distance[at] += (values[after] - values[before]) / extent if extent > 0 else 0.0
    return distance


def some_objectives(kind):
    """[5, 40, 2 or 3]: continuous, with ties, all on one front, all the same."""
    generator = np.random.default_rng(1)
    continuous = generator.uniform(size=(5, 40, 3 if kind == "three" else 2))
    line = np.sort(continuous[..., :1], axis=1)
    return {
        "two": continuous,
        "three": continuous,
        "ties": np.floor(4 * continuous),
        "line": np.concatenate([line, 1 - line], axis=2),
        "equal": np.ones_like(continuous),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["two", "three", "ties", "line", "equal"])
def test_ranks_and_crowding_against_brute_force(kind):
    """Also under vmap. Distances are sums of a few shares: 1e-5 leaves room for their rounding in float32."""
    objectives = some_objectives(kind)
    ranks = jax.jit(jax.vmap(non_dominated_ranks))(objectives)
    crowding = jax.jit(jax.vmap(crowding_distances))(objectives, ranks)
    for one, of_one, distances in zip(objectives, ranks, crowding, strict=True):
        np.testing.assert_array_equal(of_one, brute_ranks(one))
        np.testing.assert_array_equal(front(one), brute_ranks(one) == 0)
        np.testing.assert_allclose(distances, brute_crowding(one.astype(float), np.asarray(of_one)), rtol=1e-5)


def test_what_has_no_value_is_behind_all_others():
    objectives = jnp.asarray([[jnp.inf, jnp.inf], [0.0, 1.0], [jnp.inf, jnp.inf], [1.0, 0.0]])
    ranks = ranks_of(objectives)
    assert ranks.tolist() == [1, 0, 1, 0]
    assert not np.any(np.isnan(crowding_of(objectives, ranks)))


PROBLEM = Problem(SPACE, cost, reward=lambda accuracy, cost: accuracy - 0.7 * cost)
SETTINGS = {"population": 20, "mutation_rate": 0.2, "crossover_rate": 0.9}


@cache
def search(without_first):
    """The strategy, its last state, and everything that was proposed: {part: [rounds, batch, choices]}.

    without_first: whether the first option of the first choice has no accuracy.
    """
    strategy = nsga2(PROBLEM, **SETTINGS)
    return strategy, *played(strategy)(jnp.asarray(without_first))


@cache
def played(strategy):
    def measured(architecture, without_first):
        return jnp.where(without_first & (architecture["block"][0] == 0), jnp.nan, accuracy(architecture))

    def play(without_first):
        def one(state, key):
            ask, tell = jax.random.split(key)
            proposal = strategy.ask(ask, state)
            accuracies = jax.vmap(lambda one: measured(one, without_first))(proposal.architectures)
            outcome = outcome_of(PROBLEM, proposal.architectures, accuracies)
            return strategy.tell(tell, state, proposal, outcome), proposal.architectures

        key = jax.random.key(0)
        return jax.lax.scan(one, strategy.init(key), jax.random.split(key, 8))

    return jax.jit(play)


def rows_of(options):
    return {tuple(row) for row in np.asarray(options).reshape(-1, 4).tolist()}


def test_nsga2_finds_the_front_of_a_space():
    """The population has places for the whole front, which it then holds beside others, and the best reward of it."""
    strategy, state, proposed = search(False)
    all_ = {"block": jnp.asarray(list(itertools.product(range(3), repeat=4)), jnp.int32)}
    outcome = outcome_of(PROBLEM, all_, jax.vmap(accuracy)(all_))
    optimal = front(jnp.stack([-outcome.accuracy, outcome.cost], axis=1))
    expected = rows_of(all_["block"][optimal])
    assert 4 < len(expected) <= 20
    assert rows_of(state.architectures["block"][front(state.objectives)]) == expected
    assert int(strategy.metrics(state)["front"]) == len(expected)
    best = jnp.argmax(jnp.where(optimal, outcome.reward, -jnp.inf))
    np.testing.assert_array_equal(strategy.best(state)["block"], all_["block"][best])
    assert len(rows_of(proposed["block"][:3])) == 60  # nothing twice, while there is something new


def test_survivors_are_in_the_order_of_their_ranks_and_different():
    """Also when the space is exhausted, as 8 rounds of 20 exhaust 81 architectures."""
    _, state, proposed = search(False)
    assert len(rows_of(proposed["block"])) > 70
    assert np.all(np.diff(ranks_of(state.objectives)) >= 0)
    assert len(rows_of(state.architectures["block"])) == 20
    np.testing.assert_allclose(state.objectives[:, 0], -jax.vmap(accuracy)(state.architectures), rtol=1e-6)


def test_accuracies_that_are_no_numbers_do_not_survive_others():
    _, state, proposed = search(True)
    assert np.any(proposed["block"][..., 0] == 0)
    assert np.all(np.isfinite(state.objectives))
    assert np.all(state.architectures["block"][:, 0] != 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"population": 1}, "population is 1, but has to be at least the size of a tournament, which is 2"),
        ({"mutation_rate": 0.0}, "mutation_rate is 0.0, but has to be above 0 and at most 1"),
        ({"crossover_rate": 1.5}, "crossover_rate is 1.5, but has to be at least 0 and at most 1"),
    ],
)
def test_mistaken_settings(changes, message):
    with pytest.raises(UserError, match=message):
        nsga2(PROBLEM, **SETTINGS | changes)


def test_a_search_without_cost_has_no_front():
    with pytest.raises(UserError, match="this search has no cost"):
        nsga2(Problem(SPACE), **SETTINGS)
