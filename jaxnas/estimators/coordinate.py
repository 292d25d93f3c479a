"""Coordinate differences: the gradient by two evaluations per parameter, for objectives with no useful derivative."""

import math

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Estimate, GradEstimator, Key, Logits, Objective


def coordinate_differences(epsilon: float, chunk: int = 1, coordinates: int | None = None) -> GradEstimator:
    """Central differences [L(w + ε eᵢ) - L(w - ε eᵢ)] / 2ε for every coordinate i of any pytree of floats.

    The coordinate discrete gradient (CDG) of BinaryDuo (Kim et al. 2020, eq. 5). The gradient has the shape of the
    parameters; its loss and metrics are those at w. It costs two evaluations per coordinate; memory is that of the
    parameters and of the `chunk` evaluations that are done together.

    Args:
      epsilon: the step ε, in the unit of the parameters.
      chunk: coordinates that are evaluated at once; it changes speed and memory only.
      coordinates: measure this many, drawn with the key without replacement, and give NaN, for "not measured", for the
        others; None measures all and needs no key.

    Raises:
      UserError: for an ε that is not positive and finite, a chunk below 1, and for a number of coordinates below 1 or,
        when the estimator is called, above that of the parameters.
    """
    check_step(epsilon)
    for name, value in (("chunk", chunk), ("coordinates", coordinates)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}.")

    def estimate(key: Key, logits: Logits, count: Array, objective: Objective) -> Estimate:
        del count
        center, unravel = ravel_pytree(logits)
        if coordinates is not None and coordinates > center.size:
            raise UserError(f"coordinates must be at most {center.size}, all that there are, not {coordinates}.")

        def difference(coordinate):
            forward, _ = objective(unravel(center.at[coordinate].add(epsilon)))
            backward, _ = objective(unravel(center.at[coordinate].add(-epsilon)))
            return (forward - backward) / (2 * epsilon)

        where = jnp.arange(center.size)
        if coordinates is not None:
            where = jax.random.choice(key, where, (coordinates,), replace=False)
        differences = jax.lax.map(difference, where, batch_size=chunk if chunk > 1 else None)
        gradient = jnp.full_like(center, jnp.nan).at[where].set(differences)
        return Estimate(*objective(logits), unravel(gradient), None)

    return estimate


def check_step(epsilon: Array | float) -> None:
    """Raises UserError for a step of differences that is not positive and finite; traced values pass unseen."""
    if not isinstance(epsilon, Tracer) and not 0 < epsilon < math.inf:
        raise UserError(f"epsilon must be positive and finite, not {epsilon}; 0.1 is a usual value.")
