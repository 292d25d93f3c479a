"""Averages of stochastic gradients: of one draw's gradient over many draws, uniform or weighted by importance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError, choose
from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Objective, PyTree

NoisyObjective = Callable[[Key, PyTree], tuple[Array, dict[str, Array]]]  # (key, params) -> (loss, metrics)


def mean_of_draws(draws: int, weighting: str = "uniform") -> Callable[[NoisyObjective], GradEstimator]:
    """Estimators from objectives with noise of their own: the gradient averaged over `draws` of it.

    weighting: "uniform", or "importance": draws weigh softmax(-loss / s) with s the standard deviation of the draws'
    losses, so that draws that did better than others count more, whatever the loss's unit. Memory is that of one
    gradient. With one draw both are that draw's gradient.
    Raises UserError for fewer than one draw and an unknown weighting.
    """
    if draws < 1:
        raise UserError(f"draws must be at least 1, not {draws}.")
    choose("weighting", weighting, {"uniform": None, "importance": None})

    def estimator(noisy: NoisyObjective) -> GradEstimator:
        def estimate(key: Key, logits: PyTree, count: Array, objective: Objective) -> Estimate:
            del count
            keys = jax.random.split(key, draws)
            weights = jnp.full(draws, 1 / draws)
            if weighting == "importance":
                losses = jax.lax.map(lambda one: noisy(one, logits)[0], keys)
                spread = jnp.std(losses)
                weights = jax.nn.softmax(-(losses - losses.min()) / jnp.where(spread > 0, spread, 1))

            def add(total, one):
                key, weight = one
                gradient = jax.grad(lambda params: noisy(key, params)[0])(logits)
                return jax.tree.map(lambda t, g: t + weight.astype(g.dtype) * g, total, gradient), None

            gradient, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, logits), (keys, weights))
            loss, metrics = objective(logits)
            return Estimate(loss, metrics, gradient, None)

        return estimate

    return estimator
