"""Evolution: who becomes a parent, who dies, and that it finds what is best."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
AGEING = {"population": 6, "sample": 3, "mutation_rate": 0.15, "batch": 2}


def accuracy(architecture):
    """Separable: every choice adds what its option is worth."""
    return jnp.sum(WORTH * encode(SPACE, architecture)["block"])


def search(strategy, rounds, repetitions, measure=accuracy):
    """States after every round, what was proposed {part: [repetitions, rounds, batch, choices]} and its rewards."""

    def play(key):
        def one(state, key):
            ask, tell = jax.random.split(key)
            proposal = strategy.ask(ask, state)
            outcome = outcome_of(PROBLEM, proposal.architectures, jax.vmap(measure)(proposal.architectures))
            state = strategy.tell(tell, state, proposal, outcome)
            return state, (state, proposal.architectures, outcome.reward, strategy.best(state))

        return jax.lax.scan(one, strategy.init(key), jax.random.split(key, rounds))[1]

    found = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), repetitions))
    return jax.tree.map(np.asarray, found)


@pytest.mark.parametrize(
    ("strategy", "rounds"),
    [(evolution(PROBLEM, **SPOS), 25), (ageing(PROBLEM, **AGEING | {"population": 20, "sample": 6}), 150)],
    ids=["evolution", "ageing"],
)
def test_it_finds_the_best_of_a_separable_objective(strategy, rounds):
    """In every repetition, after 300 of 4096 architectures, of which random search finds the best in 7 %."""
    *_, best = search(strategy, rounds, 20)
    np.testing.assert_array_equal(best["block"][:, -1], np.tile(BEST, (20, 1)))


def test_parents_are_the_best_ever_seen_and_nothing_is_evaluated_twice():
    states, proposed, rewards, _ = search(evolution(PROBLEM, **SPOS), 8, 2)
    for repetition in range(2):
        known = {}
        for round_ in range(8):
            rows = [tuple(row) for row in proposed["block"][repetition, round_].tolist()]
            assert not set(rows) & set(known)
            assert len(set(rows)) == len(rows)
            known |= dict(zip(rows, rewards[repetition, round_].tolist(), strict=True))
            ranked = sorted(known, key=lambda row: -known[row])[: SPOS["parents"]]
            parents = [tuple(row) for row in states.architectures["block"][repetition, round_].tolist()]
            assert parents == ranked
            np.testing.assert_array_equal(
                states.rewards[repetition, round_], np.asarray([known[row] for row in ranked], np.float32)
            )
    assert not np.any(states.repetitions)


def test_children_come_from_the_parents():
    """Crossed ones take every choice from a parent; mutants at a low rate mostly differ from one in a choice or two."""
    states, proposed, _, _ = search(evolution(PROBLEM, **SPOS | {"mutation_rate": 0.05}), 2, 40)
    parents = states.architectures["block"][:, 0]
    mutants, crossed, fresh = np.split(proposed["block"][:, 1], [5, 9], axis=1)
    from_a_parent = np.any(crossed[:, :, None] == parents[:, None], axis=2)
    distance = np.min(np.sum(mutants[:, :, None] != parents[:, None], axis=-1), axis=2)
    far = np.min(np.sum(fresh[:, :, None] != parents[:, None], axis=-1), axis=2)
    # Where parents have too few different children, a random architecture comes in their place.
    assert np.mean(np.all(from_a_parent, axis=-1)) > 0.9
    assert np.mean(distance == 1) > 0.7 and np.all(distance > 0)
    assert np.mean(far) > 2


def test_rewards_that_are_no_numbers_have_no_children():
    def measured(architecture):
        return jnp.where(architecture["block"][0] == BEST[0], jnp.nan, accuracy(architecture))

    states, *_ = search(evolution(PROBLEM, **SPOS), 5, 2, measured)
    assert not np.any(states.architectures["block"][:, -1, :, 0] == BEST[0])
    assert np.all(np.isfinite(states.rewards[:, -1]))
    states, _, _, best = search(ageing(PROBLEM, **AGEING), 12, 2, measured)
    assert not np.any(best["block"][:, -1, 0] == BEST[0])


def test_the_oldest_die_and_the_best_of_a_tournament_have_children():
    """The living are the last six that were born; a sample of many is won by the best of them."""
    states, proposed, rewards, best = search(ageing(PROBLEM, **AGEING | {"sample": 6, "mutation_rate": 1e-6}), 12, 2)
    for repetition in range(2):
        born = proposed["block"][repetition].reshape(-1, 6)
        earned = rewards[repetition].reshape(-1)
        for round_ in range(3, 12):
            count = 2 * (round_ + 1)
            living = {tuple(row) for row in states.architectures["block"][repetition, round_].tolist()}
            assert living == {tuple(row) for row in born[count - 6 : count].tolist()}
            assert int(states.born[repetition, round_]) == count
            ever = born[np.argmax(earned[:count])]
            np.testing.assert_array_equal(best["block"][repetition, round_], ever)
            before = born[count - 8 : count - 2]
            near = np.sum(born[count - 2 : count, None] != before, axis=-1)
            assert np.all(near.min(axis=1) <= 1)  # one choice of a parent is another, which a brother may be


def test_a_tournament_of_all_is_won_by_the_best():
    """With a sample as large as can be drawn many times over, every child is a neighbour of the best of the living."""
    settings = AGEING | {"population": 4, "sample": 4, "mutation_rate": 1e-6, "batch": 1}
    strategy = ageing(PROBLEM, **settings)
    state = strategy.init(jax.random.key(0))
    rows = jnp.asarray([[0] * 6, [1] * 6, [2] * 6, [3] * 6])
    state = state._replace(
        architectures={"block": rows}, rewards=jnp.asarray([0.1, jnp.nan, 0.7, 0.3]), born=jnp.asarray(4)
    )
    keys = jax.random.split(jax.random.key(1), 2000)
    children = jax.jit(jax.vmap(lambda key: strategy.ask(key, state).architectures["block"][0]))(keys)
    distances = np.sum(np.asarray(children)[:, None] != np.asarray(rows), axis=-1)
    assert np.all(distances.min(axis=1) == 1)
    winners = np.bincount(distances.argmin(axis=1), minlength=4) / 2000
    # Four draws with replacement: the best k-th of four wins unless no better is drawn.
    expected = np.asarray([(2 / 4) ** 4 - (1 / 4) ** 4, (1 / 4) ** 4, 1 - (3 / 4) ** 4, (3 / 4) ** 4 - (2 / 4) ** 4])
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
        (ageing, AGEING, {"sample": 7}, "population is 6, but has to be at least sample, which is 7"),
        (ageing, AGEING, {"batch": 7}, "population is 6, but has to be at least batch, which is 7"),
        (ageing, AGEING, {"mutation_rate": 1.1}, "mutation_rate is 1.1, but has to be above 0 and at most 1"),
    ],
)
def test_mistaken_settings(build, settings, changes, message):
    with pytest.raises(UserError, match=message):
        partial(build, PROBLEM)(**settings | changes)
