"""SMASH's search: what is drawn from where in each of its three phases."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.perturbation import perturbation
from jaxnas.strategies.strategy import Problem, outcome_of

SPACE = product_space("chain", {"block": ("a", "b", "c", "d")}, {"block": 6})
PROBLEM = Problem(SPACE)
WORTH = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (6, 4)), jnp.float32)
SETTINGS = {"samples": 12, "perturbations": 8, "mutation_rate": 0.2, "batch": 2}
SAMPLING, PERTURBING, ROUNDS = 6, 10, 30  # rounds until the end of the first, the second and the third phase
REPETITIONS = 200


@cache
def search():
    """Repetitions: the bases that each round proposes from, proposals, rewards and probabilities, and the last best."""
    strategy = perturbation(PROBLEM, **SETTINGS)

    def play(key):
        def one(state, key):
            proposal = strategy.ask(key, state)
            accuracies = jnp.sum(WORTH * jax.vmap(lambda a: encode(SPACE, a)["block"])(proposal.architectures), (1, 2))
            outcome = outcome_of(PROBLEM, proposal.architectures, accuracies)
            before = state.base["block"], strategy.probabilities(state)["block"]
            return strategy.tell(key, state, proposal, outcome), (
                *before,
                proposal.architectures["block"],
                outcome.reward,
            )

        state, rounds = jax.lax.scan(one, strategy.init(key), jax.random.split(key, ROUNDS))
        return *rounds, strategy.best(state)["block"]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), REPETITIONS)))


def best_of(proposals, rewards):
    """The proposal [choices] of the largest reward, of those of some rounds of one repetition."""
    return proposals.reshape(-1, 6)[np.argmax(rewards.ravel())]


def test_samples_are_uniform():
    _, probabilities, proposals, _, _ = search()
    np.testing.assert_array_equal(probabilities[:, :SAMPLING], 0.25)
    rows = proposals[:, :SAMPLING].reshape(-1, 6)
    shares = np.mean(rows[..., None] == np.arange(4), axis=0)
    np.testing.assert_allclose(shares, 0.25, atol=5 * (0.25 * 0.75 / len(rows)) ** 0.5)


def test_perturbations_are_of_the_best_sample_and_steps_of_a_chain_of_the_best_of_all():
    """Whatever the perturbations found in the meantime."""
    bases, _, proposals, rewards, best = search()
    improved = 0
    for number in range(REPETITIONS):
        sample = best_of(proposals[number, :SAMPLING], rewards[number, :SAMPLING])
        np.testing.assert_array_equal(bases[number, SAMPLING:PERTURBING], np.tile(sample, (4, 1)))
        for at in range(PERTURBING, ROUNDS):
            known = best_of(proposals[number, :at], rewards[number, :at])
            np.testing.assert_array_equal(bases[number, at], known)
        improved += not np.array_equal(sample, bases[number, PERTURBING])
        np.testing.assert_array_equal(best[number], best_of(proposals[number], rewards[number]))
    assert improved > REPETITIONS / 4


def test_every_perturbation_changes_a_choice_and_others_at_the_rate():
    """As the probabilities say, but for those that would have changed nothing: (1 - rate)^6 more changes."""
    bases, probabilities, proposals, _, _ = search()
    changed = (proposals != bases[:, :, None])[:, SAMPLING:]
    assert changed.any(axis=-1).all()
    expected = 0.2 * 6 + 0.8**6
    count = changed.sum(axis=-1)
    assert count.mean() == pytest.approx(expected, abs=5 * count.std() / count.size**0.5)
    current = bases[:, SAMPLING:, :, None] == np.arange(4)
    np.testing.assert_allclose(probabilities[:, SAMPLING:], np.where(current, 0.8, 0.2 / 3), rtol=1e-5)


def test_a_choice_without_another_option_keeps_its_own():
    allowed = {"block": jnp.asarray([[True] * 4] * 5 + [[False, True, False, False]])}
    strategy = perturbation(PROBLEM._replace(allowed=allowed), **SETTINGS)
    state = strategy.init(jax.random.key(0))._replace(evaluated=jnp.asarray(12))
    np.testing.assert_array_equal(strategy.probabilities(state)["block"][5], [0, 1, 0, 0])
    proposed = jax.jit(strategy.ask)(jax.random.key(1), state).architectures["block"]
    np.testing.assert_array_equal(proposed[:, 5], 1)


def test_rewards_that_are_not_finite_do_not_win():
    strategy = perturbation(PROBLEM, **SETTINGS)
    state = strategy.init(jax.random.key(0))
    proposal = strategy.ask(jax.random.key(1), state)
    outcome = outcome_of(PROBLEM, proposal.architectures, jnp.asarray([jnp.nan, 0.5]))
    told = strategy.tell(jax.random.key(2), state, proposal, outcome)
    np.testing.assert_array_equal(strategy.best(told)["block"], proposal.architectures["block"][1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 0}, "samples is 0, but has to be at least 1 and a multiple of batch, which is 2; .* is 2"),
        ({"samples": 13}, "samples is 13, but has to be .* nearest such number is 12"),
        ({"perturbations": 7}, "perturbations is 7, but has to be at least 0 .* nearest such number is 8"),
        ({"batch": 0}, "batch is 0, but at least 1 architecture"),
        ({"mutation_rate": 0.0}, "mutation_rate is 0.0, but has to be above 0 and at most 1"),
    ],
)
def test_settings_that_do_not_fit(changed, message):
    with pytest.raises(UserError, match=message):
        perturbation(PROBLEM, **SETTINGS | changed)
