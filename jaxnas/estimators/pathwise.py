"""The pathwise gradient: differentiate through the draw itself, where its gates depend on the logits differentiably."""

import jax

from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Logits, Objective, Sampler


def pathwise(sampler: Sampler) -> GradEstimator:
    """∇ of objective(gates(logits)) by automatic differentiation of one draw.

    Exact for deterministic relaxations (softmax); for a reparameterised draw it is unbiased for the relaxed objective
    (Gumbel-softmax), and for straight-through gates it is the estimator of the paper that proposed them.
    """

    def estimate(key: Key, logits: Logits, count: Array, objective: Objective) -> Estimate:
        def loss(logits):
            draw = sampler(key, logits, count)
            value, metrics = objective(draw.gates)
            return value, (metrics, draw)

        (value, (metrics, draw)), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
        return Estimate(value, metrics, gradient, draw)

    return estimate
