"""The smoothed gradient of a sign network: ∇ E[loss] when every parameter has independent Gaussian noise.

This is what natural evolution strategies with raw fitness estimate, without their noise: the limit of an infinite
population (Wierstra et al. 2014). Noise that examples share does not change a mean over examples, and given the inputs
h of a layer its pre-activations are independent Gaussians with means h·kernel + bias and the one variance
σ² (|h|² + 1) (without a bias: σ² |h|²). Hence the signs of a layer are independent with known means, and the output's
mean and variance are closed form given the inputs of the *last hidden* layer. Networks with at most one hidden layer
need no draw at all. In deeper ones the codes of the other hidden layers are drawn, one per example, and a layer's
gradient is its local expectation: the difference that every single sign makes, times the derivative of its probability
(Titsias & Lázaro-Gredilla 2015). These differences of one layer are a control variate for the draws of that layer when
those of the layer before are computed.

Networks are tuples of {'kernel': [in, out], 'bias': [out] (optional)}, with a sign, where sign(0) = 1, after every
layer but the last; the loss is the mean over batch and outputs of (output - y)². x is [batch, in], y [batch] or
[batch, out].
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.scipy.special import erf

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Key, Params, PyTree
from jaxnas.estimators.tiles import sum_over, sum_over_tiles, target_columns

Layer = Any  # {'kernel': [in, out]} with or without 'bias': [out]
TILE = 512  # examples at a time, so that a tile's values stay in the cache


def smoothed(
    key: Key | None, params: Params, x: Array, y: Array, *, sigma: Array | float, draws: int = 1, tile: int = TILE
) -> Params:
    """The gradient of the expected loss for the means of parameters that are distributed as N(params, sigma²).

    Exact for up to one hidden layer; unbiased, from `draws` codes per example, for more. An example's draws depend on
    the key and the example's place in the batch, not on `tile`, the number of examples that are computed together.

    Args:
      key: a typed key; may be None where nothing is drawn (up to one hidden layer).
      params: the network, see above.
      x: inputs, [batch, in].
      y: targets, [batch] or [batch, out].
      sigma: the standard deviation of the noise, in the unit of the parameters.
      draws: codes per example, to average over.
      tile: examples at a time; memory is that of the parameters and one tile. Accelerators want it larger.

    Returns:
      A gradient shaped as params.

    Raises:
      UserError: for settings that are not positive, targets of another shape, or a key that is missing.
    """
    return _mean_over_draws(jax.grad(_surrogate), key, params, x, y, sigma, draws, tile)


def smoothed_loss(
    key: Key | None, params: Params, x: Array, y: Array, *, sigma: Array | float, draws: int = 1, tile: int = TILE
) -> Array:
    """The expected loss, a scalar; arguments, exactness and errors are those of `smoothed`."""
    return _mean_over_draws(_sampled_loss, key, params, x, y, sigma, draws, tile)


def affine(layer: Layer, inputs: Array) -> Array:
    """The pre-activations [batch, out] of a layer for inputs [batch, in]."""
    products = inputs @ layer["kernel"]
    return products + layer["bias"] if "bias" in layer else products


def noise(layer: Layer, inputs: Array, sigma: Array | float) -> Array:
    """The standard deviation of a layer's pre-activations, [batch, 1], for inputs [batch, in]."""
    return sigma * jnp.sqrt(jnp.sum(inputs**2, axis=-1, keepdims=True) + ("bias" in layer))


def expected_signs(layer: Layer, inputs: Array, sigma: Array | float) -> Array:
    """E sign(pre-activation), [batch, out]; 1 where an input of zeros leaves nothing to disturb."""
    scale = noise(layer, inputs, sigma)
    return jnp.where(scale > 0, _mean_sign(affine(layer, inputs), jnp.where(scale > 0, scale, 1)), 1)


def output_moments(layers: Sequence[Layer], inputs: Array, sigma: Array | float) -> tuple[Array, Array]:
    """Mean and variance of the outputs, each [batch, out], of the last one or two layers given their inputs."""
    if len(layers) == 2:
        return _moments_of_signs(layers[1], expected_signs(layers[0], inputs, sigma), sigma)
    mean = affine(layers[0], inputs)
    return mean, jnp.broadcast_to(noise(layers[0], inputs, sigma) ** 2, mean.shape)


def expected_loss(moments: tuple[Array, Array], y: Array) -> Array:
    """E[(output - y)²], [batch], averaged over outputs, from the outputs' mean and variance, each [batch, out]."""
    mean, variance = moments
    return jnp.mean((mean - y) ** 2 + variance, axis=-1)


def checked_targets(params: Params, x: Array, y: Array, sigma: Array | float) -> Array:
    """The targets as [batch, out]; raises UserError for those of another shape, an empty batch or sigma ≤ 0."""
    if not isinstance(sigma, Tracer) and not sigma > 0:
        raise UserError(f"sigma must be positive, not {sigma}; 0.1 is a usual value.")
    return target_columns(params, x, y)


def _mean_over_draws(function, key, params, x, y, sigma, draws, tile) -> PyTree:
    """The mean of function(params, uniforms, x, y, weights, sigma), a sum over a tile, over the batch and the draws."""
    targets = checked_targets(params, x, y, sigma)
    for name, value in (("draws", draws), ("tile", tile)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}.")
    widths = [layer["kernel"].shape[1] for layer in params[:-2]]
    if widths and key is None:
        raise UserError(
            "smoothed draws codes where there are two or more hidden layers; give a key: jax.random.key(0)."
        )

    def over_batch(key):
        def one_tile(index, weights, x, y):
            uniforms = [_uniforms(jax.random.fold_in(key, i), index, n, x.dtype) for i, n in enumerate(widths)]
            return function(params, uniforms, x, y, weights, sigma)

        return sum_over_tiles(one_tile, x.shape[0], tile, x, targets)

    if not widths:
        return over_batch(None)
    total = sum_over(lambda draw: over_batch(jax.random.fold_in(key, draw)), jnp.arange(draws))
    return jax.tree.map(lambda a: a / draws, total)


def _uniforms(key: Key, index: Array, width: int, dtype: Any) -> Array:
    """Uniform numbers [examples, width]; an example's are a function of the key and its number alone."""
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (width,), dtype))(index)


def _mean_sign(mean: Array, deviation: Array | float) -> Array:
    """E sign(a) for a ~ N(mean, deviation²)."""
    return erf(mean * (math.sqrt(0.5) / deviation))


def _draw(means: Array, uniforms: Array) -> Array:
    """Signs ±1 with the given means, a non-decreasing function of them for given uniform numbers."""
    return jnp.where(2 * uniforms - 1 < means, 1, -1).astype(means.dtype)


def _moments_of_signs(layer: Layer, means: Array, sigma: Array | float) -> tuple[Array, Array]:
    """Mean and variance, each [batch, out], of a noisy layer's outputs for independent signs with the given means."""
    kernel = layer["kernel"]
    variance = (1 - means**2) @ kernel**2 + sigma**2 * (kernel.shape[0] + ("bias" in layer))
    return affine(layer, means), variance


def _chain(params, uniforms, x, sigma) -> tuple[list[Array], list[Array]]:
    """Mean signs and drawn codes, each [batch, width], of the hidden layers but the last."""
    means, codes = [], []
    for layer, numbers in zip(params[:-2], uniforms, strict=True):
        means.append(expected_signs(layer, codes[-1] if codes else x, sigma))
        codes.append(_draw(means[-1], numbers))
    return means, codes


def _sampled_loss(params, uniforms, x, y, weights, sigma) -> Array:
    """The weighted sum over examples of the expected loss given the codes drawn with the uniforms."""
    inputs = [x, *_chain(params, uniforms, x, sigma)[1]][-1]
    return jnp.vdot(weights, expected_loss(output_moments(params[-2:], inputs, sigma), y))


def _surrogate(params, uniforms, x, y, weights, sigma) -> Array:
    """A scalar whose *gradient* is an unbiased estimate, summed over the examples with their weights.

    The last two layers have the closed form. The derivative of P(sign = 1) is half that of the mean sign, and what it
    multiplies, the difference that the sign makes, is a constant here.
    """
    means, codes = _chain(params, uniforms, x, sigma)
    total = jnp.vdot(weights, expected_loss(output_moments(params[-2:], [x, *codes][-1], sigma), y))
    constants = jax.lax.stop_gradient(params)
    differences = []  # of the layers after this one
    for i in reversed(range(len(codes))):
        made = _sign_differences(constants[i + 1 :], codes[i], uniforms[i + 1 :], differences, y, sigma)
        total = total + jnp.vdot(weights, jnp.sum(made * means[i], axis=-1)) / 2
        differences = [made, *differences]
    return total


def _sign_differences(layers, codes: Array, uniforms, differences, y: Array, sigma) -> Array:
    """Loss with a sign at +1 minus the loss with it at -1, the others as drawn: [batch, width] as codes are.

    Hidden layers after it are drawn with the same uniform numbers in both cases; `differences` are theirs, as drawn.
    """
    preactivations = affine(layers[0], codes)
    drawn = _loss_from(layers, preactivations, uniforms, differences, y, sigma)

    def flip(_, unit):
        code, row = unit
        flipped = _loss_from(layers, preactivations - 2 * code[:, None] * row, uniforms, differences, y, sigma)
        return None, (drawn - flipped) * code

    return jax.lax.scan(flip, None, (codes.T, layers[0]["kernel"]))[1].T


def _loss_from(layers, preactivations: Array, uniforms, differences, y: Array, sigma) -> Array:
    """An unbiased draw of the loss [batch] from the mean pre-activations of layers[0], whose inputs are signs.

    Where a draw turns a sign against its mean, the difference which that sign makes is taken off again: a term of mean
    zero, as the difference does not depend on the sign itself. If one sign alone turns, no noise is left.
    """
    correction = 0.0
    for layer, following, numbers, made in zip(layers[:-2], layers[1:-1], uniforms, differences, strict=True):
        means = _mean_sign(preactivations, _noise_of_signs(layer, sigma))
        codes = _draw(means, numbers)
        correction = correction + jnp.sum((means - codes) * made, axis=-1) / 2
        preactivations = affine(following, codes)
    means = _mean_sign(preactivations, _noise_of_signs(layers[-2], sigma))
    return expected_loss(_moments_of_signs(layers[-1], means, sigma), y) + correction


def _noise_of_signs(layer: Layer, sigma: Array | float) -> Array | float:
    """The standard deviation of a layer's pre-activations when its inputs are signs."""
    return sigma * math.sqrt(layer["kernel"].shape[0] + ("bias" in layer))
