"""The steps that a search alternates: each update is (key, state, batches) -> (state, metrics)."""

from collections.abc import Callable

import jax
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Gates, GradEstimator, Key, Metrics, PyTree, Sampler
from jaxnas.search.objectives import Batches, GateObjective, Loss, Mean, SearchState

Update = Callable[[Key, SearchState, Batches], tuple[SearchState, Metrics]]


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
        draw = sampler(key, state.logits, state.step)
        gradients = jax.value_and_grad(loss, has_aux=True)(state.params, draw.gates, batches.train)
        (value, metrics), gradient = gradients
        changes, weights_state = optimizer.update(
            mean(gradient), state.weights_state, state.params, active=active(draw.gates)
        )
        state = state._replace(params=optax.apply_updates(state.params, changes), weights_state=weights_state)
        return state, {"train_loss": value, "train_accuracy": metrics["accuracy"]}

    return update


def learn_logits(
    estimator: GradEstimator,
    objective: GateObjective,
    optimizer: optax.GradientTransformationExtraArgs,
    mean: Mean = lambda tree: tree,
) -> Update:
    """One optimizer step of the architecture parameters on the estimated gradient of an objective."""

    def update(key, state, batches):
        estimate = estimator(key, state.logits, state.step, lambda gates: objective(state, gates, batches))
        changes, logits_state = optimizer.update(mean(estimate.gradient), state.logits_state, state.logits)
        state = state._replace(logits=optax.apply_updates(state.logits, changes), logits_state=logits_state)
        return state, {"logits_loss": estimate.loss, "logits_accuracy": estimate.metrics["accuracy"]}

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
