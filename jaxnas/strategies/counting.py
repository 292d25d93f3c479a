"""MDENAS: a distribution over options that learns by counting and comparing, without gradients (Zheng et al. 2019)."""

import math

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array, Key
from jaxnas.search.distribution import Tallies, dominance, no_tallies
from jaxnas.spaces.space import encode
from jaxnas.strategies.policy import allowed_options, check_setting, factorised
from jaxnas.strategies.policy_search import Learned, PolicyState, Samples, on_policy, search_by_policy
from jaxnas.strategies.strategy import Problem, Strategy


def mdenas(problem: Problem, *, batch: int, learning_rate: float) -> Strategy:
    """Options that were drawn less often than another of their choice, and yet do better, become more probable.

    After every round each two options of a choice are compared by how often they were drawn since the search began and
    by the mean reward of this round's architectures that have them; a comparison moves the logits of the two by
    learning_rate, up and down (Zheng et al. 2019, equation 5, there for probabilities). batch: architectures a round.
    Rewards that are not finite are not counted. Raises UserError for settings out of range.
    """
    check_setting("batch", batch, batch >= 1, "at least 1")
    check_setting("learning_rate", learning_rate, 0 < learning_rate < math.inf, "a number above 0, such as 0.01")
    allowed = allowed_options(problem.space, problem.allowed)
    policy = factorised(problem.space, problem.allowed)

    def learn(key: Key, state: PolicyState, samples: Samples) -> Learned:
        del key
        tallies = round_tallies(problem, state.memory, samples)
        moves = dominance(tallies, allowed)
        logits = {part: values + learning_rate * moves[part] for part, values in state.parameters.items()}
        return Learned(logits, tallies, jnp.sum(samples.counted))

    strategy = search_by_policy(
        problem,
        policy,
        on_policy(policy),
        batch=batch,
        baseline_decay=0.0,
        memory=lambda parameters: no_tallies(problem.space),
        learn=learn,
    )
    logged = ("entropy", "mean_reward", "excluded_rewards")
    return strategy._replace(metrics=lambda state: {name: strategy.metrics(state)[name] for name in logged})


def round_tallies(problem: Problem, tallies: Tallies, samples: Samples) -> Tallies:
    """The tallies after a round: its draws added to all that were `trained`, and its own draws and rewards alone."""
    gates = jax.vmap(lambda code: encode(problem.space, code))(samples.codes)

    def over_samples(weights: Array) -> dict[str, Array]:
        return {part: jnp.tensordot(weights, values, axes=1) for part, values in gates.items()}

    drawn = over_samples(samples.counted.astype(samples.rewards.dtype))
    correct = over_samples(jnp.where(samples.counted, samples.rewards, 0.0))
    return Tallies(jax.tree.map(jnp.add, dict(tallies.trained), drawn), drawn, correct)
