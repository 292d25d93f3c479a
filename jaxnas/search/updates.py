"""The steps that a search is made of: each update is (key, state, batches) -> (state, metrics)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import (
    Array,
    Averaged,
    Draw,
    Dropout,
    Gates,
    GradEstimator,
    Key,
    Logits,
    Metrics,
    PyTree,
    Sampler,
)
from jaxnas.relax.categorical import masked
from jaxnas.search.objectives import Batches, GateObjective, Loss, Mean, SearchState

Update = Callable[[Key, SearchState, Batches], tuple[SearchState, Metrics]]
LogitsOf = Callable[[PyTree, Logits], Logits]  # (weights, architecture parameters) -> logits of the sampler


def learn_weights(
    sampler: Sampler,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    active: Callable[[Gates], PyTree],
    mean: Mean = lambda tree: tree,
) -> Update:
    """One optimizer step of the weights on the training batch, under gates drawn from the present logits.

    active: gates -> which weights took part, handed to the optimizer (see optimizers.skip_inactive).
    """

    def update(key, state, batches):
        draw = sampler(key, state.visible, state.step)
        gradients = jax.value_and_grad(loss, has_aux=True)(state.params, draw.gates, batches.train)
        (value, metrics), gradient = gradients
        changes, weights_state = optimizer.update(
            mean(gradient), state.weights_state, state.params, active=active(draw.gates)
        )
        state = state._replace(params=optax.apply_updates(state.params, changes), weights_state=weights_state)
        return state, {"train_loss": value, "train_accuracy": metrics["accuracy"]}

    return update


Settle = Callable[[Logits, Logits, Draw | None], Logits]  # (logits before, after a step, its draw) -> logits


def learn_logits(
    estimator: GradEstimator,
    objective: GateObjective,
    optimizer: optax.GradientTransformationExtraArgs,
    mean: Mean = lambda tree: tree,
    settle: Settle | None = None,
) -> Update:
    """One optimizer step of the architecture parameters on the estimated gradient of an objective.

    settle: corrects the logits after the optimizer's step (see `keep_pair_probability`).
    """

    def update(key, state, batches):
        estimate = estimator(key, state.visible, state.step, lambda gates: objective(state, gates, batches))
        gradient = jax.tree.map(lambda g, may: jnp.where(may, g, 0.0), mean(estimate.gradient), dict(state.allowed))
        changes, logits_state = optimizer.update(gradient, state.logits_state, state.logits)
        logits: Any = optax.apply_updates(state.logits, changes)
        if settle is not None:
            logits = settle(state.logits, logits, estimate.draw)
        state = state._replace(logits=logits, logits_state=logits_state)
        return state, {"logits_loss": estimate.loss} | {f"logits_{n}": value for n, value in estimate.metrics.items()}

    return update


def keep_pair_probability(before: Logits, after: Logits, draw: Draw | None) -> Logits:
    """Shifts the logits that a draw sampled so that the options that it did not sample keep their probability.

    ProxylessNAS, Cai, Zhu & Han 2019, section 3.2.2: with two paths only two logits move, and their sum of exponentials
    is kept. Raises ValueError without a draw, which estimators by perturbation do not have.
    """
    if draw is None:
        raise ValueError("an estimator without a draw sampled no paths.")

    def settled(old: Array, new: Array, gates: Array) -> Array:
        sampled = gates > 0

        def mass(values: Array) -> Array:
            return jax.nn.logsumexp(jnp.where(sampled, values, -jnp.inf), axis=-1, keepdims=True)

        return jnp.where(sampled, new + mass(old) - mass(new), old)

    return {part: settled(before[part], after[part], draw.gates[part]) for part in before}


def learn_together(
    sampler: Sampler,
    loss: Loss,
    weights: optax.GradientTransformationExtraArgs,
    logits: optax.GradientTransformationExtraArgs,
    active: Callable[[Gates], PyTree],
    mean: Mean = lambda tree: tree,
    logits_of: LogitsOf | None = None,
    credited: GradEstimator | None = None,
    cost: Callable[[Gates], tuple[Array, Metrics]] | None = None,
) -> Update:
    """One step of weights and architecture parameters on one loss of the training batch: a single-level search.

    Both gradients come from one backward pass through one draw.
    logits_of: where the sampler's logits depend on the weights, too (Single-Path NAS). credited, cost: an objective
        whose gradient for the logits another estimator adds, with the same key and so the same draw (SNAS).
    """

    def own_logits(params: PyTree, logits: Logits) -> Logits:
        del params
        return logits

    of = logits_of or own_logits

    def update(key, state, batches):
        def total(params, values):
            draw = sampler(key, masked(of(params, values), state.allowed), state.step)
            value, metrics = loss(params, draw.gates, batches.train)
            return value, (metrics, draw)

        gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(state.params, state.logits)
        (value, (metrics, draw)), (weights_bar, logits_bar) = gradients
        if credited is not None and cost is not None:
            estimate = credited(key, state.visible, state.step, cost)
            logits_bar = jax.tree.map(jnp.add, logits_bar, estimate.gradient)
            metrics = {**metrics, **estimate.metrics}
        weights_bar, logits_bar = mean((weights_bar, logits_bar))
        changes, weights_state = weights.update(
            weights_bar, state.weights_state, state.params, active=active(draw.gates)
        )
        moves, logits_state = logits.update(logits_bar, state.logits_state, state.logits)
        state = state._replace(
            params=optax.apply_updates(state.params, changes),
            weights_state=weights_state,
            logits=optax.apply_updates(state.logits, moves),
            logits_state=logits_state,
        )
        others = {f"logits_{name}": one for name, one in metrics.items() if name != "accuracy"}
        return state, {"train_loss": value, "train_accuracy": metrics["accuracy"], **others}

    return update


def alternating(*updates: Update) -> Update:
    """Runs the updates one after another within a step, each with its own randomness, and counts the step."""

    def update(key, state, batches):
        metrics = {}
        for number, one in enumerate(updates):
            state, own = one(named(key, f"update_{number}"), state, batches)
            metrics |= own
        return state._replace(step=state.step + 1), metrics

    return update


def when(condition: Callable[[Array], Array], update: Update) -> Update:
    """Runs an update in those steps, by their number, that fulfil a condition; its metrics are means over these."""

    def conditional(key, state, batches):
        def run() -> tuple[SearchState, Metrics]:
            changed, metrics = update(key, state, batches)
            return changed, {name: Averaged(value, jnp.ones(())) for name, value in metrics.items()}

        shapes = jax.eval_shape(run)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.cond(condition(state.step), run, lambda: (state, nothing))

    return conditional


def dropping(rate: Callable[[Array], Array], update: Update) -> Update:
    """Runs an update with dropout at rate(step), in the networks that have something to drop.

    On several devices every slice of a batch drops the same elements.
    """

    def noisy(key, state, batches):
        train, valid = (
            batch._replace(noise=Dropout(named(key, name), jnp.asarray(rate(state.step), jnp.float32)))
            for name, batch in zip(Batches._fields, batches, strict=True)
        )
        return update(named(key, "update"), state, Batches(train, valid))

    return noisy
