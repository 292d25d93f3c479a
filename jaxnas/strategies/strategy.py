"""What proposes architectures and learns from their rewards alone: the joint of every search by sampling.

A strategy never sees a derivative, a weight or an image. The same one searches a table of true accuracies, thousands of
repetitions at a time (`evaluate.tabular_search`), and the shared weights of a supernet (`methods.sampled`).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.types import Architecture, Array, Gates, Key, Metrics, PyTree, Space
from jaxnas.spaces.space import encode


class Problem(NamedTuple):
    """What is searched.

    cost: gates -> what they cost; None for a search that counts none. limit: the most that a proposal may cost, 0 for
    none. reward: (accuracy, cost) -> what is maximised, elementwise. allowed: {part: bool [choices, options]}, the
    options that are still searched; None for all that the space has. cheapest: an architecture that costs least, for a
    cost whose derivative does not tell.
    """

    space: Space
    cost: Callable[[Gates], Array] | None = None
    limit: float = 0.0
    reward: Callable[[Array, Array], Array] = lambda accuracy, cost: accuracy
    allowed: Mapping[str, Array] | None = None
    cheapest: Architecture | None = None

    def price(self, architecture: Architecture) -> Array:
        """What one architecture costs, a scalar; 0 for a search that counts no cost."""
        return jnp.zeros(()) if self.cost is None else self.cost(encode(self.space, architecture))


class Proposal(NamedTuple):
    """Architectures to evaluate, valid ones of the space, int32 {part: [batch, choices]}.

    fidelity: float32 [batch] in (0, 1], the share of a whole evaluation that each is to get (successive halving).
    info: what the strategy wants to have back with the rewards (the codes it drew, their log-probabilities).
    """

    architectures: Architecture
    fidelity: Array
    info: PyTree = ()


class Outcome(NamedTuple):
    """How the architectures of a proposal did, each [batch]; the reward is what the problem makes of the two others."""

    reward: Array
    accuracy: Array
    cost: Array


class Strategy(NamedTuple):
    """A search by rewards as pure functions of its state, all of which work under jit and vmap.

    batch: how many architectures it proposes at a time, all of which it is told of at once.
    init: key -> state, any pytree of arrays of fixed shapes (so that it can be scanned, batched and saved).
    ask: (key, state) -> proposal. tell: (key, state, proposal, outcome) -> state.
    best: state -> the architecture that the search would derive now.
    probabilities: state -> {part: [choices, options]}: of its policy, or how frequent options are in its population.
    metrics: state -> named scalars to log after every round (entropy, baseline, effective sample size).
    """

    batch: int
    init: Callable[[Key], PyTree]
    ask: Callable[[Key, PyTree], Proposal]
    tell: Callable[[Key, PyTree, Proposal, Outcome], PyTree]
    best: Callable[[PyTree], Architecture]
    probabilities: Callable[[PyTree], Mapping[str, Array]]
    metrics: Callable[[PyTree], Metrics] = lambda state: {}


class Incumbent(NamedTuple):
    """The best architecture that a search has seen, and its reward (-inf before the first)."""

    architecture: Architecture
    reward: Array


def no_incumbent(space: Space) -> Incumbent:
    """Nothing seen yet (the architecture is that of equal scores, a valid one)."""
    equal = {part: jnp.zeros(shape) for part, shape in space.shapes.items()}
    return Incumbent(space.decode(equal), jnp.full((), -jnp.inf))


def better(incumbent: Incumbent, architectures: Architecture, rewards: Array) -> Incumbent:
    """The incumbent, or the first of architectures {part: [batch, choices]} of the largest reward [batch], if larger.

    Rewards that are NaN count as -inf.
    """
    rewards = jnp.where(jnp.isnan(rewards), -jnp.inf, rewards)
    index = jnp.argmax(rewards)
    wins = rewards[index] > incumbent.reward
    return jax.tree.map(
        lambda new, old: jnp.where(wins, new, old),
        Incumbent(jax.tree.map(lambda leaf: leaf[index], dict(architectures)), rewards[index]),
        Incumbent(dict(incumbent.architecture), incumbent.reward),
    )


def outcome_of(problem: Problem, architectures: Architecture, accuracies: Array) -> Outcome:
    """The outcome of architectures {part: [batch, choices]} whose accuracies [batch] are known."""
    costs = jax.vmap(problem.price)(architectures)
    return Outcome(problem.reward(accuracies, costs), accuracies, costs)


def whole(architectures: Architecture, info: PyTree = ()) -> Proposal:
    """A proposal to evaluate architectures {part: [batch, choices]} in full."""
    batch = next(iter(architectures.values())).shape[0]
    return Proposal(architectures, jnp.ones(batch), info)
