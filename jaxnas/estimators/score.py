"""The score-function gradient (REINFORCE): credit to the log-probability of a draw, no derivative of the loss."""

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Logits, Objective, Sampler


def score_function(sampler: Sampler, *, samples: int = 1) -> GradEstimator:
    """∇ E[L] = E[(L - b) ∇ log p] over codes drawn by `sampler` (Williams 1992), for any objective of gates.

    Unbiased for samplers whose draws follow softmax(logits). With several samples, b is the mean loss of the others,
    which keeps it so and takes off most of the variance (Kool, van Hoof & Welling 2019); with one it is 0. Loss and
    metrics are means over the samples, the draw is the first one.
    Raises UserError for fewer than one sample.
    """
    if samples < 1:
        raise UserError(f"samples must be at least 1, not {samples}.")

    def estimate(key: Key, logits: Logits, count: Array, objective: Objective) -> Estimate:
        # The only sample uses the key itself, so that other estimators with this key see the same draw.
        keys = key[None] if samples == 1 else jax.random.split(key, samples)

        def one(key: Key):
            draw = sampler(key, logits, count)
            loss, metrics = objective(draw.gates)
            return jax.lax.stop_gradient(loss), metrics, draw

        losses, metrics, draws = jax.lax.map(one, keys)
        others = (jnp.sum(losses) - losses) / max(samples - 1, 1)

        def credited(logits: Logits) -> Array:
            log_probs = jax.vmap(lambda key: sampler(key, logits, count).log_prob)(keys)
            return jnp.mean((losses - others) * log_probs)

        gradient = jax.grad(credited)(logits)
        metrics = jax.tree.map(lambda values: jnp.mean(values, axis=0), metrics)
        return Estimate(jnp.mean(losses), metrics, gradient, jax.tree.map(lambda leaf: leaf[0], draws))

    return estimate


def through(sampler: Sampler, estimator: GradEstimator) -> GradEstimator:
    """An estimator that perturbs its parameters (differences, evolution strategies) on the logits of a sampler.

    Every evaluation draws with the same key, so that differences between them are due to the logits alone.
    """

    def estimate(key: Key, logits: Logits, count: Array, objective: Objective) -> Estimate:
        draw_key, noise_key = jax.random.split(key)
        return estimator(noise_key, logits, count, lambda logits: objective(sampler(draw_key, logits, count).gates))

    return estimate
