"""Successive halving: who is promoted, and what is spent."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.strategies.halving import successive_halving
from jaxnas.strategies.strategy import Outcome, Problem

SPACE = product_space("chain", {"block": ("a", "b", "c")}, {"block": 6})
SETTINGS = [(9, 3, 3), (16, 2, 3), (12, 2, 2), (5, 4, 1)]


def played(candidates, reduction, rungs, brackets, rewards_of):
    """Round by round with a reward for every candidate: [(proposal, rewards)], and the strategy with its last state."""
    strategy = successive_halving(Problem(SPACE), candidates=candidates, reduction=reduction, rungs=rungs)
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state, rounds = strategy.init(jax.random.key(0)), []
    for number in range(brackets * (reduction**rungs - 1) // (reduction - 1)):
        key = jax.random.key(number)
        proposal = ask(key, state)
        rewards = rewards_of(np.asarray(proposal.architectures["block"]), number)
        state = tell(key, state, proposal, Outcome(jnp.asarray(rewards), jnp.asarray(rewards), jnp.zeros(len(rewards))))
        rounds.append((proposal, rewards))
    return rounds, strategy, state


def noisy(rows, number):
    """Different in every rung, so that every promotion has to look at the rewards of its own rung."""
    return np.random.default_rng(number).uniform(size=len(rows)).astype(np.float32)


@pytest.mark.parametrize(("candidates", "reduction", "rungs"), SETTINGS)
def test_the_best_of_every_rung_are_promoted_in_order(candidates, reduction, rungs):
    brackets = 2
    rounds, strategy, state = played(candidates, reduction, rungs, brackets, noisy)
    batch = candidates // reduction ** (rungs - 1)
    assert strategy.batch == batch
    at, first = 0, []
    for _ in range(brackets):
        promoted = None
        for rung in range(rungs):
            count = candidates // reduction**rung // batch
            group, at = rounds[at : at + count], at + count
            rows = np.concatenate([proposal.architectures["block"] for proposal, _ in group])
            rewards = np.concatenate([rewards for _, rewards in group])
            fidelity = np.concatenate([proposal.fidelity for proposal, _ in group])
            np.testing.assert_allclose(fidelity, float(reduction) ** (rung - rungs + 1), rtol=1e-6)
            assert len(rows) == candidates // reduction**rung
            if promoted is None:
                first.append(rows)
            else:
                np.testing.assert_array_equal(rows, promoted)
            promoted = rows[np.argsort(-rewards, kind="stable")[: len(rows) // reduction]]
    assert at == len(rounds)
    assert not np.array_equal(first[0], first[1])
    best = max(
        (float(reward), row)
        for proposal, rewards in rounds
        for reward, row in zip(rewards, proposal.architectures["block"].tolist(), strict=True)
        if proposal.fidelity[0] == 1
    )
    assert strategy.best(state)["block"].tolist() == best[1]
    assert float(state.incumbent.reward) == pytest.approx(best[0])


@pytest.mark.parametrize(("candidates", "reduction", "rungs"), SETTINGS)
def test_every_rung_spends_the_same(candidates, reduction, rungs):
    rounds, _, state = played(candidates, reduction, rungs, 1, noisy)
    spent = sum(float(proposal.fidelity.sum()) for proposal, _ in rounds)
    assert spent == pytest.approx(rungs * candidates / reduction ** (rungs - 1), rel=1e-6)
    assert int(state.round) == 0


def test_higher_fidelity_outweighs_a_larger_reward():
    """The best of the first rung is the incumbent only until something was evaluated with more."""
    large_at_first = [9.0, 8.0, 7.0, 6.0, 0.5, 0.4, 0.1]

    def rewards(rows, number):
        return np.full(len(rows), large_at_first[number], np.float32)

    rounds, strategy, state = played(4, 2, 3, 1, rewards)
    assert float(state.incumbent.reward) == pytest.approx(0.1)
    assert strategy.best(state)["block"].tolist() == rounds[-1][0].architectures["block"][0].tolist()


def test_rewards_that_are_no_numbers_are_the_worst():
    values = [np.nan, 0.1, np.nan, -np.inf, 0.3, np.nan, 0.2]

    def rewards(rows, number):
        return np.full(len(rows), values[number], np.float32)

    rounds, _, _ = played(4, 2, 3, 1, rewards)
    rows = [proposal.architectures["block"][0].tolist() for proposal, _ in rounds]
    assert rows[4:] == [rows[1], rows[3], rows[1]]


def test_probabilities_are_those_of_the_candidates_that_are_left():
    rounds, strategy, state = played(4, 2, 2, 1, noisy)
    assert [len(proposal.fidelity) for proposal, _ in rounds] == [2, 2, 2]
    last = np.asarray(rounds[-1][0].architectures["block"])
    np.testing.assert_allclose(strategy.probabilities(state)["block"], np.mean(np.eye(3)[last], axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 10}, "candidates is 10, which cannot be divided by 3 .* 2 promotions; .* is 9"),
        ({"candidates": 0}, "the nearest number that can is 9"),
        ({"candidates": 25}, "the nearest number that can is 27"),
        ({"reduction": 1}, "reduction is 1, but a rung has to be smaller than the one before; take 2 or more"),
        ({"rungs": 0}, "rungs is 0, but successive halving needs at least 1"),
    ],
)
def test_mistaken_settings(changes, message):
    build = partial(successive_halving, Problem(SPACE))
    with pytest.raises(UserError, match=message):
        build(**({"candidates": 9, "reduction": 3, "rungs": 3} | changes))
