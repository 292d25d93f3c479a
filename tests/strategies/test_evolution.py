"""Evolution: who becomes a parent, who dies, and that it finds what is best."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from jaxnas.core.errors import UserError
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode, mutate, random
from jaxnas.strategies.evolution import ageing, evolution
from jaxnas.strategies.strategy import Problem, outcome_of

SPACE = product_space("chain", {"block": ("a", "b", "c", "d")}, {"block": 6})  # 4096 architectures
PROBLEM = Problem(SPACE)
rng = np.random.default_rng(0)
WORTH = jnp.asarray(rng.uniform(0, 1, (6, 4)), jnp.float32)
BEST = np.argmax(WORTH, axis=1)
SPOS = {"population": 12, "parents": 4, "mutants": 5, "crossovers": 4, "mutation_rate": 0.2}
AGEING = {"population": 20, "sample": 6, "mutation_rate": 0.15, "batch": 2}


def accuracy(architecture):
    """Separable: every choice adds what its option is worth."""
    return jnp.sum(WORTH * encode(SPACE, architecture)["block"])


# Every strategy with the number of its rounds.
SEARCHES = {
    "evolution": (evolution(PROBLEM, **SPOS), 50),
    "ageing": (ageing(PROBLEM, **AGEING), 300),
}


@cache
def played(name):
    """A number of repetitions, as one program."""
    strategy, rounds = SEARCHES[name]

    def play(key, without_best):
        def measured(architecture):
            return jnp.where(without_best & (architecture["block"][0] == BEST[0]), jnp.nan, accuracy(architecture))

        def one(state, key):
            ask, tell = jax.random.split(key)
            proposal = strategy.ask(ask, state)
            outcome = outcome_of(PROBLEM, proposal.architectures, jax.vmap(measured)(proposal.architectures))
            state = strategy.tell(tell, state, proposal, outcome)
            return state, (state, proposal.architectures["block"], outcome.reward, strategy.best(state)["block"])

        return jax.lax.scan(one, strategy.init(key), jax.random.split(key, rounds))[1]

    return jax.jit(jax.vmap(play, in_axes=(0, None)))


@cache
def search(name, without_best=False):
    """20 repetitions: the states after every round, proposals [20, rounds, batch, choices], rewards, and the best.

    without_best: whether the best option of the first choice has no accuracy.
    """
    keys = jax.random.split(jax.random.key(0), 20)
    return jax.tree.map(np.asarray, played(name)(keys, jnp.asarray(without_best)))


@pytest.mark.parametrize("name", SEARCHES)
def test_it_finds_the_best_of_a_separable_objective(name):
    """In every repetition, after 600 of 4096 architectures, in which random search finds it in 14 % of them."""
    *_, best = search(name)
    np.testing.assert_array_equal(best[:, -1], np.tile(BEST, (20, 1)))


def test_parents_are_the_best_ever_seen_and_nothing_is_evaluated_twice():
    states, proposed, rewards, _ = search("evolution")
    for repetition in range(2):
        known = {}
        for round_ in range(8):
            rows = [tuple(row) for row in proposed[repetition, round_].tolist()]
            assert not set(rows) & set(known)
            assert len(set(rows)) == len(rows)
            known |= dict(zip(rows, rewards[repetition, round_].tolist(), strict=True))
            ranked = sorted(known, key=lambda row: -known[row])[: SPOS["parents"]]
            parents = [tuple(row) for row in states.architectures["block"][repetition, round_].tolist()]
            assert parents == ranked
            held = states.rewards[repetition, round_]
            np.testing.assert_array_equal(held, np.asarray([known[row] for row in ranked], np.float32))
    assert not np.any(states.repetitions)


def test_children_come_from_the_parents():
    """In the second round there are enough new ones: crossed ones take every choice from a parent, mutants are near."""
    states, proposed, _, _ = search("evolution")
    parents = states.architectures["block"][:, 0]
    mutants, crossed, fresh = np.split(proposed[:, 1], [5, 9], axis=1)
    from_a_parent = np.any(crossed[:, :, None] == parents[:, None], axis=2)
    near, far = (np.min(np.sum(some[:, :, None] != parents[:, None], axis=-1), axis=2) for some in (mutants, fresh))
    assert np.all(from_a_parent)
    # Those that differ at all do so in at most two choices that often, if the next parent is the own one.
    few = (binom.cdf(2, 6, 0.2) - binom.pmf(0, 6, 0.2)) / (1 - binom.pmf(0, 6, 0.2))
    assert np.all(near > 0) and np.mean(near <= 2) > few - 4 * np.sqrt(few * (1 - few) / near.size)
    assert np.mean(far <= 2) < 0.5


def test_rewards_that_are_no_numbers_have_no_children():
    states, proposed, _, best = search("evolution", without_best=True)
    assert np.any(proposed[..., 0] == BEST[0])
    assert np.all(np.isfinite(states.rewards[:, -1]))
    assert not np.any(states.architectures["block"][:, -1, :, 0] == BEST[0])
    assert not np.any(best[:, -1, 0] == BEST[0])


def test_the_oldest_die_and_the_best_that_ever_lived_is_derived():
    """The living are those that were born last, each a neighbour of one that lived when it was born."""
    states, proposed, rewards, best = search("ageing")
    population, batch = AGEING["population"], AGEING["batch"]
    for repetition in range(2):
        born, earned = proposed[repetition].reshape(-1, 6), rewards[repetition].reshape(-1)
        for round_ in range(population // batch, 40):
            count = batch * (round_ + 1)
            living = states.architectures["block"][repetition, round_].tolist()
            assert sorted(living) == sorted(born[count - population : count].tolist())
            assert int(states.born[repetition, round_]) == count
            np.testing.assert_array_equal(best[repetition, round_], born[np.argmax(earned[:count])])


def test_the_best_of_a_tournament_has_the_child():
    """Of four draws with replacement the best k-th of four wins unless a better one is drawn."""
    settings = AGEING | {"population": 4, "sample": 4, "mutation_rate": 1e-6, "batch": 1}
    strategy = ageing(PROBLEM, **settings)
    rows = jnp.asarray([[0] * 6, [1] * 6, [2] * 6, [3] * 6])
    rewards = jnp.asarray([0.1, jnp.nan, 0.7, 0.3])
    state = strategy.init(jax.random.key(0))
    state = state._replace(architectures={"block": rows}, rewards=rewards, born=jnp.asarray(4))
    keys = jax.random.split(jax.random.key(1), 2000)
    children = jax.jit(jax.vmap(lambda key: strategy.ask(key, state).architectures["block"][0]))(keys)
    distances = np.sum(np.asarray(children)[:, None] != np.asarray(rows), axis=-1)
    assert np.all(distances.min(axis=1) == 1)
    winners = np.bincount(distances.argmin(axis=1), minlength=4) / 2000
    expected = np.asarray([0.5**4 - 0.25**4, 0.25**4, 1 - 0.75**4, 0.75**4 - 0.5**4])
    assert np.all(np.abs(winners - expected) < 4 * np.sqrt(expected * (1 - expected) / 2000))


CELLS = cell_space(2, ("none", "skip_connect", "max_pool_3x3"))


@pytest.mark.parametrize("space", [SPACE, CELLS], ids=["chain", "cells"])
def test_a_mutation_that_is_sure_to_happen(space):
    """At rate 0 exactly one choice of a chain changes, each as often as the others; a cell changes, too."""
    parent = random(space, jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), 3000)
    children = jax.jit(jax.vmap(lambda key: mutate(space, key, parent, 0.0, always=True)))(keys)
    changed = np.concatenate([np.asarray(children[part] != parent[part]) for part in parent], axis=1)
    assert np.all(np.any(changed, axis=1))
    if space is SPACE:
        assert np.all(changed.sum(axis=1) == 1)
        assert np.all(np.abs(changed.mean(axis=0) - 1 / 6) < 5 * np.sqrt(5 / 36 / 3000))


@pytest.mark.parametrize(
    ("build", "settings", "changes", "message"),
    [
        (evolution, SPOS, {"parents": 13}, "population is 12, but has to be at least parents, which is 13"),
        (evolution, SPOS, {"parents": 0}, "parents is 0, but has to be at least 1"),
        (evolution, SPOS, {"mutants": 9}, "mutants and crossovers are 9 and 4, .* together at most 12, the population"),
        (evolution, SPOS, {"crossovers": -1}, "mutants and crossovers are 5 and -1, but have to be at least 0"),
        (evolution, SPOS, {"mutation_rate": 0.0}, "mutation_rate is 0.0, but has to be above 0 and at most 1"),
        (ageing, AGEING, {"sample": 21}, "population is 20, but has to be at least sample, which is 21"),
        (ageing, AGEING, {"batch": 21}, "population is 20, but has to be at least batch, which is 21"),
        (ageing, AGEING, {"mutation_rate": 1.1}, "mutation_rate is 1.1, but has to be above 0 and at most 1"),
    ],
)
def test_mistaken_settings(build, settings, changes, message):
    with pytest.raises(UserError, match=message):
        partial(build, PROBLEM)(**settings | changes)
