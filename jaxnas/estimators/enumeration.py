"""The expected loss of a noisy sign network and its gradient, exact, by enumeration of the codes of hidden layers.

The setting is that of `smoothed`. A layer of n signs has 2ⁿ codes; the next layer's signs are independent given one.
So the codes are a Markov chain, whose transition matrices are products of the signs' probabilities. The last hidden
layer needs no enumeration (its contribution is closed form), and everything behind the first code is computed once for
all examples.
"""

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Params
from jaxnas.estimators.smoothed import (
    TILE,
    checked_targets,
    expected_loss,
    expected_signs,
    output_moments,
    sum_over_tiles,
)

WIDEST = 10  # signs of a layer; two layers of it need a million transition probabilities


def enumerated(params: Params, x: Array, y: Array, *, sigma: Array | float) -> Params:
    """The gradient of `enumerated_loss` for the parameters, shaped as they are."""
    return jax.grad(lambda params: enumerated_loss(params, x, y, sigma=sigma))(params)


def enumerated_loss(params: Params, x: Array, y: Array, *, sigma: Array | float) -> Array:
    """E[loss], a scalar, for parameters that are distributed as N(params, sigma²), exact up to rounding.

    Args:
      params: the sign network, a tuple of {'kernel': [in, out], 'bias': [out] (optional)}.
      x: inputs, [batch, in].
      y: targets, [batch] or [batch, out].
      sigma: the standard deviation of the noise, in the unit of the parameters.

    Raises:
      UserError: if a hidden layer before the last one has more than 10 units, for a sigma that is not positive, or for
        targets of another shape.
    """
    targets = checked_targets(params, x, y, sigma)
    front, tail = params[:-2], params[-2:]
    for number, layer in enumerate(front, 1):
        if (width := layer["kernel"].shape[1]) > WIDEST:
            raise UserError(
                f"hidden layer {number} is {width} wide; enumeration holds up to {WIDEST} units in every hidden layer "
                "but the last, the smoothed gradient any number."
            )
    if not front:
        return _weighted_mean(lambda x, y: expected_loss(output_moments(tail, x, sigma), y), x, targets)
    mean, square = _moments_by_code(front[1:], tail, front[0]["kernel"].shape[1], sigma, x.dtype)

    def loss(x, y):
        chances = code_probabilities(expected_signs(front[0], x, sigma))
        return chances @ square + jnp.mean((y - 2 * (chances @ mean)) * y, axis=-1)

    return _weighted_mean(loss, x, targets)


def codes(width: int) -> Array:
    """All codes of a layer, [2**width, width] of ±1; the number of a code has bit i set where sign i is +1."""
    return 2 * (jnp.arange(2**width)[:, None] >> jnp.arange(width) & 1) - 1


def code_probabilities(means: Array) -> Array:
    """The probability of every code, [batch, 2**width] in the order of `codes`, of independent signs of given means."""
    chances = jnp.ones((means.shape[0], 1), means.dtype)
    for sign in means.T:
        chances = jnp.concatenate([chances * (1 - sign[:, None]) / 2, chances * (1 + sign[:, None]) / 2], axis=1)
    return chances


def _moments_by_code(between: Params, tail: Params, width: int, sigma, dtype) -> tuple[Array, Array]:
    """E[outputs] [codes, out] and the mean over outputs of E[output²] [codes], given the first hidden layer's code."""
    inputs = codes(width).astype(dtype)
    if not between:
        mean, variance = output_moments(tail, inputs, sigma)
        return mean, jnp.mean(mean**2 + variance, axis=-1)
    chances = code_probabilities(expected_signs(between[0], inputs, sigma))
    mean, square = _moments_by_code(between[1:], tail, between[0]["kernel"].shape[1], sigma, dtype)
    return chances @ mean, chances @ square


def _weighted_mean(loss, x: Array, y: Array) -> Array:
    """The mean over the batch of loss(x, y) [batch], a tile at a time, forward and backward."""

    @jax.checkpoint
    def one_tile(index, weights, x, y):
        del index
        return jnp.vdot(weights, loss(x, y))

    return sum_over_tiles(one_tile, x.shape[0], TILE, x, y)
