"""Learning a policy over the architectures of a supernet from their rewards with the shared weights.

The policies, behaviours and importance weights are those of `jaxnas.strategies`; here the rewards come from a network
that learns at the same time. A policy's parameters are a search's `logits`, what it remembers is its `memory`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Batch, Key, Metrics, PyTree, Space
from jaxnas.methods.method import Candidates, no_candidates
from jaxnas.relax.categorical import argmax
from jaxnas.search.objectives import Batches, Loss, Mean, SearchState
from jaxnas.search.reward import Earned, Reward
from jaxnas.search.updates import Update, learn_weights
from jaxnas.spaces.space import encode
from jaxnas.strategies.off_policy import (
    Replay,
    checked_correction,
    empty_replay,
    remember,
    weighted_gradient,
    with_recalled,
)
from jaxnas.strategies.off_policy import behaviour as behaviour_of
from jaxnas.strategies.policy import Code, Policy, decoded
from jaxnas.strategies.policy_search import Baseline, Behaviour, Samples, first_baseline, moved_baseline
from jaxnas.strategies.strategy import Incumbent, better, no_incumbent

PolicyOf = Callable[[Mapping[str, Array]], Policy]  # {part: bool [choices, options]}, the options searched -> a policy
Regulariser = Callable[[Policy, PyTree, Code], Array]  # (policy, parameters, codes {part: [n, choices]}) -> to minimise


class Learning(NamedTuple):
    """How a policy learns.

    samples: codes that an update draws and rewards. behaviour, epsilon: what draws them, see `off_policy.behaviour`.
    correction, clip: what they weigh, see `off_policy.importance_weights`. replay, replayed: how many past samples are
    kept, and how many of them an update uses beside its own; their rewards are those of the weights of their time.
    entropy_weight, baseline_decay: see `policy_gradient.reinforce`.
    """

    samples: int
    behaviour: str = "policy"
    epsilon: float = 1.0
    correction: str = "none"
    clip: float = math.inf
    replay: int = 0
    replayed: int = 0
    entropy_weight: float = 0.0
    baseline_decay: float = 0.99


class Experience(NamedTuple):
    """What a policy that learns with shared weights remembers.

    best: the code that earned most among those sampled, and what it earned in the last update; one that earns more on
    the same batch takes its place, because rewards of other weights and batches cannot be compared. found: the best of
    architectures drawn in the end, where a method does that. faulty: whether a reward was not finite; culprit: whose.
    """

    baseline: Baseline
    replay: Replay
    best: Incumbent
    found: Candidates
    faulty: Array
    culprit: Architecture


def no_experience(space: Space, learning: Learning) -> Experience:
    """Nothing remembered yet. Raises UserError for settings of learning that do not fit one another."""
    if learning.replayed > learning.replay:
        raise UserError(
            f"method.replayed is {learning.replayed}, but method.replay keeps {learning.replay} samples; take at most "
            "that many."
        )
    checked_correction(learning.correction, learning.clip)
    nothing = no_incumbent(space)
    return Experience(
        baseline=Baseline(jnp.zeros(()), jnp.zeros((), bool)),
        replay=empty_replay(learning.replay, nothing.architecture),
        best=nothing,
        found=no_candidates(space),
        faulty=jnp.zeros((), bool),
        culprit=nothing.architecture,
    )


def learn_policy(
    space: Space,
    policy_of: PolicyOf,
    reward: Reward,
    optimizer: optax.GradientTransformationExtraArgs,
    learning: Learning,
    regulariser: Regulariser | None = None,
) -> Update:
    """One step of the policy on the rewards of the codes that its behaviour draws, all on one validation batch.

    REINFORCE with a moving baseline, importance weights, a replay of past samples and a bonus of entropy. Beside the
    samples, the most and the least probable code and the best one sampled so far are rewarded, for the log alone.
    regulariser: what the parameters are to minimise besides.
    Metrics: reward/sampled (mean), reward/argmax, reward/argmin, reward/best; policy/entropy (nats, of a whole code),
    policy/baseline, policy/effective_sample_size; and logits_cost, the mean cost of the samples, where there is one.
    """

    def update(key: Key, state: SearchState, batches: Batches) -> tuple[SearchState, Metrics]:
        policy, memory = policy_of(state.allowed), state.memory
        acting = behaviour_of(learning.behaviour, policy, space, learning.epsilon, state.allowed)
        keys = jax.random.split(named(key, "codes"), learning.samples)
        codes = jax.vmap(lambda key: acting.sample(key, state.logits))(keys)
        watched = (policy.mode(state.logits), least_probable(policy, state), memory.best.architecture)
        earned, architectures = _rewarded(space, policy, reward, state, (codes, *watched), batches.valid)
        fresh = _samples(acting, state.logits, codes, earned.reward[: learning.samples])
        memory = memory._replace(baseline=first_baseline(memory.baseline, fresh))
        samples = with_recalled(named(key, "replay"), fresh, memory.replay, learning.replayed)
        gradient, sample_size = _descent(policy, state.logits, samples, memory.baseline, learning, regulariser)
        changes, logits_state = optimizer.update(gradient, state.logits_state, state.logits)
        metrics = {
            **_metrics(policy, state.logits, codes, earned, memory),
            "policy/effective_sample_size": sample_size,
        }
        state = state._replace(
            logits=optax.apply_updates(state.logits, changes),
            logits_state=logits_state,
            memory=_experienced(memory, learning, fresh, earned.reward, architectures),
        )
        return state, metrics

    return update


def least_probable(policy: Policy, state: SearchState) -> Code:
    """The least probable of the options that are searched, at every choice by itself."""
    return {
        part: jnp.argmin(jnp.where(state.allowed[part], values, jnp.inf), axis=-1).astype(jnp.int32)
        for part, values in policy.probabilities(state.logits).items()
    }


def _rewarded(
    space: Space, policy: Policy, reward: Reward, state: SearchState, codes: tuple[Code, ...], batch: Batch
) -> tuple[Earned, Architecture]:
    """What codes [n] followed by single ones earn, each entry [n + ...], and the architectures they stand for."""
    probabilities = policy.probabilities(state.logits)
    together = jax.tree.map(lambda drawn, *others: jnp.concatenate([drawn, jnp.stack(others)]), *map(dict, codes))

    def one(code: Code) -> tuple[Earned, Architecture]:
        architecture = decoded(space, code, probabilities)
        return reward(state.params, code, architecture, batch), architecture

    return jax.lax.map(one, together)


def _samples(acting: Behaviour, parameters: PyTree, codes: Code, rewards: Array) -> Samples:
    log_mu = jax.vmap(lambda code: acting.log_probs(parameters, code))(codes)
    finite = jnp.isfinite(rewards)
    return Samples(codes, log_mu, jnp.where(finite, rewards, 0.0), finite)


def _descent(
    policy: Policy,
    parameters: PyTree,
    samples: Samples,
    baseline: Baseline,
    learning: Learning,
    regulariser: Regulariser | None,
) -> tuple[PyTree, Array]:
    """The gradient to go down, and the effective sample size."""
    gradient, sample_size = weighted_gradient(
        policy,
        parameters,
        samples,
        baseline.value,
        learning.correction,
        learning.clip,
        learning.entropy_weight,
    )
    gradient = jax.tree.map(jnp.negative, gradient)
    if regulariser is not None:
        besides = jax.grad(lambda parameters: regulariser(policy, parameters, samples.codes))(parameters)
        gradient = jax.tree.map(jnp.add, gradient, besides)
    return gradient, sample_size


def _experienced(
    memory: Experience, learning: Learning, fresh: Samples, rewards: Array, architectures: Architecture
) -> Experience:
    """rewards [samples + 3], the last that of the best one so far; architectures {part: [samples + 3, choices]}."""
    present = jnp.where(jnp.isneginf(memory.best.reward), -jnp.inf, rewards[-1])  # -inf before the first update
    sampled = jnp.where(fresh.counted, fresh.rewards, -jnp.inf)
    broken = ~jnp.isfinite(rewards)
    culprit = jax.tree.map(lambda leaf: leaf[jnp.argmax(broken)], dict(architectures))
    return memory._replace(
        baseline=moved_baseline(memory.baseline, fresh, learning.baseline_decay),
        replay=remember(memory.replay, fresh) if learning.replay else memory.replay,
        best=better(memory.best._replace(reward=present), fresh.codes, sampled),
        faulty=memory.faulty | jnp.any(broken),
        culprit=jax.tree.map(lambda old, new: jnp.where(memory.faulty, old, new), dict(memory.culprit), culprit),
    )


def _metrics(policy: Policy, parameters: PyTree, codes: Code, earned: Earned, memory: Experience) -> Metrics:
    *sampled, most, least, best = range(len(earned.reward))
    known = ~jnp.isneginf(memory.best.reward)
    metrics = {
        "reward/sampled": jnp.mean(earned.reward[: len(sampled)]),
        "reward/argmax": earned.reward[most],
        "reward/argmin": earned.reward[least],
        "reward/best": jnp.maximum(
            jnp.where(known, earned.reward[best], -jnp.inf), jnp.max(earned.reward[: len(sampled)])
        ),
        "policy/entropy": jnp.mean(jax.vmap(lambda code: policy.entropy(parameters, code))(codes)),
        "policy/baseline": memory.baseline.value,
    }
    return metrics if earned.cost is None else {**metrics, "logits_cost": jnp.mean(earned.cost[: len(sampled)])}


def learn_weights_along(
    space: Space,
    code_of: Callable[[Key, SearchState], Code],
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    active: Callable[[PyTree], PyTree],
    mean: Mean = lambda tree: tree,
) -> Update:
    """One step of the weights along the path of the code that `code_of` draws; see `updates.learn_weights`."""
    learn = learn_weights(argmax(), loss, optimizer, active, mean)

    def update(key: Key, state: SearchState, batches: Batches) -> tuple[SearchState, Metrics]:
        code = code_of(named(key, "path"), state)
        # The code's encoding as logits, of which the sampler takes the largest.
        changed, metrics = learn(key, state._replace(logits=encode(space, code)), batches)
        return changed._replace(logits=state.logits), metrics

    return update
