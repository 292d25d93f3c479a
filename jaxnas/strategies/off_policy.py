"""Learning a policy from codes that others drew: behaviours, importance weights, and a replay of past samples.

For codes drawn from a behaviour μ whose support covers that of the policy π,

    E_π[(r - b) ∇ log π(code)] = E_μ[π(code) / μ(code) · (r - b) ∇ log π(code)].

Behaviours give the log-probability of every decision given those before it, so that both the probability of a whole
architecture and ratios decision by decision are exact.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import choose
from jaxnas.core.keys import named
from jaxnas.core.types import Array, Key, PyTree, Space
from jaxnas.relax.categorical import EXCLUDED
from jaxnas.strategies.policy import Code, Policy, check_setting, factorised, log_mixture
from jaxnas.strategies.policy_gradient import ascent, check_learning, climb, policy_gradient, share
from jaxnas.strategies.policy_search import (
    Behaviour,
    Learned,
    PolicyState,
    Samples,
    on_policy,
    search_by_policy,
)
from jaxnas.strategies.strategy import Problem, Strategy

# Ratios of probabilities end at e^40, so that sums of their squares are finite in float32.
LARGEST = 40.0
CLIPPING = ("clipped", "per_decision")  # the corrections that read `clip`
EXPLORING = ("epsilon", "epsilon_per_choice")  # the behaviours that read `epsilon`


def behaviour(
    name: str,
    policy: Policy,
    space: Space,
    epsilon: float = 1.0,
    allowed: Mapping[str, Array] | None = None,
) -> Behaviour:
    """What draws the codes that a policy π learns from, by name.

    "policy": π itself. "random": U, uniform over the codes of the options allowed. "argmax": the greedy code of π,
    always: a point mass, whose support does not cover that of π, so that estimates weighted by π/μ are biased.
    "epsilon": a whole code from U with the probability epsilon, else from π, so that μ = (1 - ε) π + ε U.
    "epsilon_per_choice": every decision by itself is uniform with the probability epsilon.
    allowed: {part: bool [choices, options]} as the policy has it, None for all options.
    Raises UserError for an unknown name, and for an epsilon outside (0, 1] where it is read.
    """
    if name in EXPLORING:
        check_setting("epsilon", epsilon, 0 < epsilon <= 1, "above 0 and at most 1, such as 0.3")
    uniform = factorised(space, allowed)
    equal = uniform.init(jax.random.key(0))
    random = Behaviour(
        lambda key, parameters: uniform.sample(key, equal),
        lambda parameters, code: uniform.log_probs(equal, code),
    )
    own = on_policy(policy)
    table: Mapping[str, Callable[[], Behaviour]] = {
        "policy": lambda: own,
        "random": lambda: random,
        "argmax": lambda: _point_mass(policy),
        "epsilon": lambda: _mixture(space, own, random, epsilon),
        "epsilon_per_choice": lambda: Behaviour(
            lambda key, parameters: policy.explore(key, parameters, epsilon),
            lambda parameters, code: jax.tree.map(
                lambda one, other: log_mixture(one, other, epsilon),
                policy.log_probs(parameters, code),
                random.log_probs(parameters, code),
            ),
        ),
    }
    return choose("behaviour", name, table)()


def _point_mass(policy: Policy) -> Behaviour:
    """The greedy code, whose decisions have the probability 1 and all others about 0."""

    def log_probs(parameters: PyTree, code: Code) -> Mapping[str, Array]:
        return jax.tree.map(
            lambda taken, most: jnp.where(taken == most, 0.0, EXCLUDED), dict(code), dict(policy.mode(parameters))
        )

    return Behaviour(lambda key, parameters: policy.mode(parameters), log_probs)


def _mixture(space: Space, first: Behaviour, second: Behaviour, epsilon: float) -> Behaviour:
    """A whole code from the second with the probability epsilon, else from the first."""
    ends = np.cumsum([choices for choices, _ in space.shapes.values()])[:-1]

    def sample(key: Key, parameters: PyTree) -> Code:
        explores = jax.random.bernoulli(named(key, "explore"), epsilon)
        code, other = first.sample(named(key, "first"), parameters), second.sample(named(key, "second"), parameters)
        return {part: jnp.where(explores, other[part], code[part]) for part in space.shapes}

    def so_far(values: Mapping[str, Array]) -> Array:
        """The log-probability of the decisions up to each of them, in the order in which they are made."""
        return jnp.cumsum(jnp.concatenate([values[part] for part in space.shapes]))

    def log_probs(parameters: PyTree, code: Code) -> Mapping[str, Array]:
        one, other = (each.log_probs(parameters, code) for each in (first, second))
        # Given those before it, a decision has the chance of all up to it over the chance of those before it.
        steps = jnp.diff(log_mixture(so_far(one), so_far(other), epsilon), prepend=0.0)
        return dict(zip(space.shapes, jnp.split(steps, ends), strict=True))

    return Behaviour(sample, log_probs)


LogProbs = Array | Mapping[str, Array]  # of whole codes, [n], or of their decisions, {part: [n, choices]}
# (log-ratios of whole codes [n], of their decisions [n, decisions], counted [n], clip) -> weights [n]
Correction = Callable[[Array, Array, Array, float], Array]
CORRECTIONS: Mapping[str, Correction] = {
    "none": lambda whole, decisions, counted, clip: jnp.ones_like(whole),
    "ordinary": lambda whole, decisions, counted, clip: _ratios(whole),
    "clipped": lambda whole, decisions, counted, clip: jnp.minimum(_ratios(whole), clip),
    "self_normalised": lambda whole, decisions, counted, clip: _shares(whole, counted),
    "per_decision": lambda whole, decisions, counted, clip: _ratios(
        jnp.sum(jnp.minimum(decisions, math.log(clip)), axis=-1)
    ),
}


def importance_weights(
    log_pi: LogProbs, log_mu: LogProbs, kind: str, clip: float = math.inf, counted: Array | None = None
) -> Array:
    """What samples of a behaviour μ weigh in an estimate for π, [n]. Where μ is π all are 1, exactly.

    "none": 1, which is right for samples of π only. "ordinary": π/μ of the whole code, unbiased. "clipped":
    min(π/μ, clip), biased towards μ, of bounded variance. "self_normalised": π/μ divided by its mean over the samples,
    so that the weights sum to their number; biased by O(1/n). "per_decision": the product of the decisions' ratios,
    each at most clip; of one decision the same as "clipped".
    log_pi, log_mu: of whole codes [n], or of their decisions {part: [n, choices]}. counted: bool [n], others weigh 0.
    Raises UserError for an unknown kind, and for a clip below 1 where it is read.
    """
    correction = checked_correction(kind, clip)
    differences = jax.tree.map(lambda pi, mu: (pi - mu).reshape(len(pi), -1), log_pi, log_mu)
    decisions = jnp.concatenate(jax.tree.leaves(differences), axis=-1)
    counted = jnp.ones(len(decisions), bool) if counted is None else counted
    return jnp.where(counted, correction(jnp.sum(decisions, axis=-1), decisions, counted, clip), 0.0)


def checked_correction(kind: str, clip: float) -> Correction:
    """The correction of that name; raises UserError for an unknown name, and a clip below 1 where it is read."""
    if kind in CLIPPING:
        check_setting("clip", clip, clip >= 1, "at least 1, the weight of a sample of the policy itself, such as 2")
    return choose("correction", kind, CORRECTIONS)


def _ratios(log_ratios: Array) -> Array:
    return jnp.exp(jnp.minimum(log_ratios, LARGEST))


def _shares(log_ratios: Array, counted: Array) -> Array:
    """Ratios divided by their mean over those counted; only differences of their logarithms matter, however large."""
    largest = jnp.max(jnp.where(counted, log_ratios, -jnp.inf), initial=EXCLUDED)
    ratios = jnp.where(counted, jnp.exp(log_ratios - largest), 0.0)
    return ratios * (jnp.sum(counted) / jnp.maximum(jnp.sum(ratios), jnp.finfo(ratios.dtype).tiny))


def effective_sample_size(weights: Array) -> Array:
    """(Σ w)² / Σ w² of weights [n] (Kish 1965): n if all are equal, 1 if all but one are 0, and 0 if that is 0, too."""
    scaled = weights / jnp.maximum(jnp.max(weights), jnp.finfo(weights.dtype).tiny)
    return jnp.sum(scaled) ** 2 / jnp.maximum(jnp.sum(scaled**2), jnp.finfo(weights.dtype).tiny)


class Replay(NamedTuple):
    """The last samples of a search in a ring; slots that are not yet filled are not counted.

    samples: [capacity]. stored: int32, how many were ever put in; the next goes to slot stored modulo capacity.
    """

    samples: Samples
    stored: Array


def empty_replay(capacity: int, code: Code) -> Replay:
    """A ring without samples; its slots hold a code {part: [choices]} that nothing counts."""
    codes = {part: jnp.broadcast_to(options, (capacity, *options.shape)) for part, options in code.items()}
    log_mu = {part: jnp.zeros(options.shape) for part, options in codes.items()}
    samples = Samples(codes, log_mu, jnp.zeros(capacity), jnp.zeros(capacity, bool))
    return Replay(samples, jnp.zeros((), jnp.int32))


def remember(replay: Replay, samples: Samples) -> Replay:
    """Puts samples [n] in the place of the oldest; of more than the capacity the last."""
    capacity, count = len(replay.samples.rewards), len(samples.rewards)
    last = min(capacity, count)
    slots = (replay.stored + jnp.arange(count - last, count)) % capacity
    kept = jax.tree.map(lambda old, new: old.at[slots].set(new[count - last :]), replay.samples, samples)
    return Replay(kept, replay.stored + count)


def recall(key: Key, replay: Replay, count: int) -> Samples:
    """So many samples, each uniformly from those in the ring (with replacement); not counted where it is empty."""
    filled = jnp.minimum(replay.stored, len(replay.samples.rewards))
    slots = jax.random.randint(key, (count,), 0, jnp.maximum(filled, 1))
    return jax.tree.map(lambda leaf: leaf[slots], replay.samples)


def with_recalled(key: Key, fresh: Samples, replay: Replay, count: int) -> Samples:
    """The new samples, followed by so many of those before them."""
    if not count:
        return fresh
    return jax.tree.map(lambda *two: jnp.concatenate(two), fresh, recall(key, replay, count))


def weighted_gradient(
    policy: Policy,
    parameters: PyTree,
    samples: Samples,
    baseline: Array,
    correction: str,
    clip: float,
    entropy_weight: float,
) -> tuple[PyTree, Array]:
    """The gradient of a policy, to ascend, from samples of any behaviours, and their effective number.

    correction, clip: see `importance_weights`. entropy_weight: see `policy_gradient`.
    """
    log_pi = jax.vmap(policy.log_probs, in_axes=(None, 0))(parameters, samples.codes)
    weights = importance_weights(log_pi, samples.log_mu, correction, clip, samples.counted)
    advantages = samples.rewards - baseline
    gradient = policy_gradient(
        policy, parameters, samples.codes, advantages, weights * share(samples.counted), entropy_weight
    )
    return gradient, effective_sample_size(weights)


def off_policy(
    problem: Problem,
    policy: Policy,
    *,
    batch: int,
    behaviour: str,
    epsilon: float,
    correction: str,
    clip: float,
    replay: int,
    replayed: int,
    learning_rate: float,
    entropy_weight: float,
    baseline_decay: float,
    gradient_clip: float,
    selection: str = "argmax",
) -> Strategy:
    """REINFORCE from a behaviour's samples, each weighted for the policy, and from samples of rounds before.

    behaviour, epsilon: see the function `behaviour`. correction, clip: see `importance_weights`. replay: how many past
    samples are kept, with the log-probabilities of the behaviour that drew them; replayed: how many of them every
    update draws beside the `batch` new ones. gradient_clip: the norm that gradients are cut down to, 0 for none.
    selection: what is derived, see `policy_search.selected`. With the behaviour "policy" and nothing replayed every
    correction gives `reinforce`. Raises UserError for settings out of range, and for more replayed than are kept.
    """
    check_learning(batch, learning_rate, entropy_weight, baseline_decay)
    check_setting("replay", replay, replay >= 0, "at least 0")
    check_setting("replayed", replayed, 0 <= replayed <= replay, f"from 0 to replay, which is {replay}")
    checked_correction(correction, clip)
    optimizer = ascent(learning_rate, gradient_clip)

    def memory(parameters: PyTree) -> tuple[PyTree, Replay]:
        return optimizer.init(parameters), empty_replay(replay, policy.mode(parameters))

    def learn(key: Key, state: PolicyState, fresh: Samples) -> Learned:
        optimizer_state, past = state.memory
        samples = with_recalled(key, fresh, past, replayed)
        gradient, sample_size = weighted_gradient(
            policy, state.parameters, samples, state.baseline.value, correction, clip, entropy_weight
        )
        parameters, optimizer_state = climb(optimizer, gradient, optimizer_state, state.parameters)
        past = remember(past, fresh) if replay else past
        return Learned(parameters, (optimizer_state, past), sample_size)

    return search_by_policy(
        problem,
        policy,
        _behaviour(behaviour, problem, policy, epsilon),
        batch=batch,
        baseline_decay=baseline_decay,
        memory=memory,
        learn=learn,
        selection=selection,
    )


def _behaviour(name: str, problem: Problem, policy: Policy, epsilon: float) -> Behaviour:
    return behaviour(name, policy, problem.space, epsilon, problem.allowed)
