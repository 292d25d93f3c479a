"""Policies that learn by the gradient of their expected reward: REINFORCE (Williams 1992), PPO (Schulman et al. 2017).

E[r] over codes of a policy π has the gradient E[(r - b) ∇ log π(code)], whatever the baseline b that does not depend on
the code. Rewards that are not finite take no part in an update; the strategies count them.
"""

import math

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.types import Array, Key, PyTree
from jaxnas.strategies.policy import Code, Policy, check_setting, total
from jaxnas.strategies.policy_search import Learned, PolicyState, Samples, on_policy, search_by_policy
from jaxnas.strategies.strategy import Problem, Strategy


def reinforce(
    problem: Problem,
    policy: Policy,
    *,
    batch: int,
    learning_rate: float,
    entropy_weight: float,
    baseline_decay: float,
    clip: float,
) -> Strategy:
    """REINFORCE (Williams 1992): a step of Adam along the mean of (r - b) ∇ log π + entropy_weight · ∇ entropy.

    batch: architectures a round. baseline_decay: the baseline b keeps this share of itself a round and takes the rest
    from the mean reward; an update uses it as it was before, but the first round's mean is its own baseline.
    clip: the norm that gradients are cut down to, 0 for none.
    Raises UserError for settings out of range.
    """
    check_learning(batch, learning_rate, entropy_weight, baseline_decay)
    optimizer = ascent(learning_rate, clip)

    def learn(key: Key, state: PolicyState, samples: Samples) -> Learned:
        del key
        advantages = samples.rewards - state.baseline.value
        weights = share(samples.counted)
        gradient = policy_gradient(policy, state.parameters, samples.codes, advantages, weights, entropy_weight)
        return Learned(*climb(optimizer, gradient, state.memory, state.parameters), jnp.sum(samples.counted))

    return search_by_policy(
        problem,
        policy,
        on_policy(policy),
        batch=batch,
        baseline_decay=baseline_decay,
        memory=optimizer.init,
        learn=learn,
    )


def ppo(
    problem: Problem,
    policy: Policy,
    *,
    batch: int,
    learning_rate: float,
    clip_ratio: float,
    updates: int,
    entropy_weight: float,
    baseline_decay: float,
) -> Strategy:
    """PPO (Schulman et al. 2017): several steps of Adam on every batch, along its clipped surrogate (there equation 7).

    The surrogate min(ρ A, clip(ρ, 1 - clip_ratio, 1 + clip_ratio) A), where ρ is the probability of a code relative to
    that at the start of the round and A = r - b, has the gradient of ρ A, except where ρ has gone beyond the clip on
    the side that raises it: there it is 0. updates: passes over a batch; the first of them is that of `reinforce`.
    Raises UserError for settings out of range.
    """
    check_learning(batch, learning_rate, entropy_weight, baseline_decay)
    check_setting("clip_ratio", clip_ratio, 0 < clip_ratio < math.inf, "a number above 0, such as 0.2")
    check_setting("updates", updates, updates >= 1, "at least 1")
    optimizer = ascent(learning_rate, 0.0)

    def learn(key: Key, state: PolicyState, samples: Samples) -> Learned:
        del key
        advantages = samples.rewards - state.baseline.value
        before = code_log_probs(policy, state.parameters, samples.codes)

        def one_pass(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
            parameters, memory = carry
            log_ratios = code_log_probs(policy, parameters, samples.codes) - before
            weights = share(samples.counted) * surrogate_weights(log_ratios, advantages, clip_ratio)
            gradient = policy_gradient(policy, parameters, samples.codes, advantages, weights, entropy_weight)
            return climb(optimizer, gradient, memory, parameters), None

        learned, _ = jax.lax.scan(one_pass, (state.parameters, state.memory), None, updates)
        return Learned(*learned, jnp.sum(samples.counted))

    return search_by_policy(
        problem,
        policy,
        on_policy(policy),
        batch=batch,
        baseline_decay=baseline_decay,
        memory=optimizer.init,
        learn=learn,
    )


def policy_gradient(
    policy: Policy, parameters: PyTree, codes: Code, advantages: Array, weights: Array, entropy_weight: float
) -> PyTree:
    """The gradient, to ascend, of the mean of weight · advantage · log π(code) + entropy_weight · entropy over n codes.

    codes: int32 {part: [n, choices]}. advantages, weights: [n], constants; a sample of weight 0 adds nothing, whatever
    its advantage. The entropy is that along the codes, which are held.
    """
    credits = jax.lax.stop_gradient(jnp.where(weights == 0, 0.0, weights * advantages))

    def objective(parameters: PyTree) -> Array:
        value = jnp.mean(credits * code_log_probs(policy, parameters, codes))
        if not entropy_weight:
            return value
        return value + entropy_weight * jnp.mean(jax.vmap(lambda code: policy.entropy(parameters, code))(codes))

    return jax.grad(objective)(parameters)


def code_log_probs(policy: Policy, parameters: PyTree, codes: Code) -> Array:
    """Log-probabilities [n] of whole codes {part: [n, choices]}."""
    return jax.vmap(lambda code: total(policy.log_probs(parameters, code)))(codes)


def surrogate_weights(log_ratios: Array, advantages: Array, clip_ratio: float) -> Array:
    """What PPO's gradient weighs (advantage · ∇ log π) by, [n]: the ratio, or 0 where its clip holds."""
    ratios = jnp.exp(log_ratios)
    held = jnp.where(advantages > 0, ratios > 1 + clip_ratio, ratios < 1 - clip_ratio)
    return jnp.where(held, 0.0, ratios)


def share(counted: Array) -> Array:
    """Weights [n] under which a mean over all n samples is that over those counted, bool [n]; 0 where none is."""
    return counted * (counted.size / jnp.maximum(jnp.sum(counted), 1))


def ascent(learning_rate: float, clip: float) -> optax.GradientTransformation:
    """Adam that goes up gradients, after they were cut down to the norm `clip` (0: they are not).

    Raises UserError for a negative clip.
    """
    check_setting("the clip of gradients", clip, 0 <= clip < math.inf, "at least 0, which is for none")
    clipped = optax.clip_by_global_norm(clip) if clip else optax.identity()
    return optax.chain(clipped, optax.scale_by_adam(), optax.scale(learning_rate))


def climb(
    optimizer: optax.GradientTransformation, gradient: PyTree, state: PyTree, parameters: PyTree
) -> tuple[PyTree, PyTree]:
    """One step of an optimizer: the new parameters, and its new state."""
    changes, state = optimizer.update(gradient, state, parameters)
    return optax.apply_updates(parameters, changes), state


def check_learning(batch: int, learning_rate: float, entropy_weight: float, baseline_decay: float) -> None:
    """Raises UserError for a setting out of range that all searches by gradients of a policy have."""
    check_setting("batch", batch, batch >= 1, "at least 1")
    check_setting("learning_rate", learning_rate, 0 < learning_rate < math.inf, "a number above 0, such as 0.01")
    check_setting("entropy_weight", entropy_weight, 0 <= entropy_weight < math.inf, "at least 0, such as 0.0001")
    check_setting("baseline_decay", baseline_decay, 0 <= baseline_decay < 1, "from 0 to below 1, such as 0.99")
