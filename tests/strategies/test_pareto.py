"""Fronts, ranks and crowding against brute force; NSGA-II on a space that can be enumerated."""

import itertools

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


def everything():
    rows = jnp.asarray(list(itertools.product(range(3), repeat=4)), jnp.int32)
    return {"block": rows}


def search(strategy, problem, rounds, seed=0, measure=accuracy):
    """The last state, and everything that was proposed: {part: [rounds, batch, choices]}."""

    def one(state, key):
        ask, tell = jax.random.split(key)
        proposal = strategy.ask(ask, state)
        outcome = outcome_of(problem, proposal.architectures, jax.vmap(measure)(proposal.architectures))
        return strategy.tell(tell, state, proposal, outcome), proposal.architectures

    key = jax.random.key(seed)
    return jax.jit(lambda: jax.lax.scan(one, strategy.init(key), jax.random.split(key, rounds)))()


def rows_of(architectures):
    return {tuple(row) for row in np.asarray(architectures["block"]).reshape(-1, 4).tolist()}


def test_nsga2_finds_the_front_of_a_space():
    """The population has places for the whole front, which it then holds beside others, and the best reward of it."""
    problem = Problem(SPACE, cost, reward=lambda accuracy, cost: accuracy - 0.7 * cost)
    strategy = nsga2(problem, population=20, mutation_rate=0.2, crossover_rate=0.9)
    state, proposed = search(strategy, problem, 8)
    all_ = everything()
    outcome = outcome_of(problem, all_, jax.vmap(accuracy)(all_))
    optimal = front(jnp.stack([-outcome.accuracy, outcome.cost], axis=1))
    expected = rows_of({"block": all_["block"][optimal]})
    assert 4 < len(expected) <= 20
    found = front(state.objectives)
    assert rows_of({"block": state.architectures["block"][found]}) == expected
    assert int(strategy.metrics(state)["front"]) == len(expected)
    best = jnp.argmax(jnp.where(optimal, outcome.reward, -jnp.inf))
    np.testing.assert_array_equal(strategy.best(state)["block"], all_["block"][best])
    assert len(rows_of({"block": proposed["block"][:3]})) == 60  # nothing twice, while there is something new


def test_survivors_are_ranked_and_never_repeat():
    problem = Problem(SPACE, cost)
    strategy = nsga2(problem, population=8, mutation_rate=0.2, crossover_rate=0.5)
    state, _ = search(strategy, problem, 4)
    ranks = ranks_of(state.objectives)
    assert np.all(np.diff(ranks) >= 0)
    assert len(rows_of(state.architectures)) == 8
    np.testing.assert_allclose(state.objectives[:, 0], -jax.vmap(accuracy)(state.architectures), rtol=1e-6)


def test_accuracies_that_are_no_numbers_never_survive_others():
    problem = Problem(SPACE, cost)
    strategy = nsga2(problem, population=8, mutation_rate=0.2, crossover_rate=0.5)

    def measured(architecture):
        return jnp.where(architecture["block"][0] == 0, jnp.nan, accuracy(architecture))

    state, _ = search(strategy, problem, 4, measure=measured)
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
    settings = {"population": 8, "mutation_rate": 0.1, "crossover_rate": 0.9, **changes}
    with pytest.raises(UserError, match=message):
        nsga2(Problem(SPACE, cost), **settings)


def test_a_search_without_cost_has_no_front():
    with pytest.raises(UserError, match="this search has no cost"):
        nsga2(Problem(SPACE), population=8, mutation_rate=0.1, crossover_rate=0.9)
