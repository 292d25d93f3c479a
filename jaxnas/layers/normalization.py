"""Batch normalisation by the statistics of the batch at hand, as supernets use it: no running averages, no state."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.types import Array

EPSILON = 1e-5


def batch_norm(images: Array, axis_name: str | None = None) -> Array:
    """Normalises images [b, h, w, c] to zero mean and unit variance per channel (biased variance, ε = 1e-5).

    With `axis_name` the statistics are those of the batches of all devices along that mapped axis together.
    Source: Ioffe & Szegedy 2015, without the learned scale and shift (DARTS searches with affine=False).
    """
    return _normalized(images, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _normalized(images: Array, axis_name: str | None) -> Array:
    return _forward(images, axis_name)[0]


def _mean(values: Array, axis_name: str | None) -> Array:
    """Per-channel mean over examples, positions and devices, kept broadcastable: [1, 1, 1, c]."""
    mean = jnp.mean(values, axis=range(values.ndim - 1), keepdims=True)
    return mean if axis_name is None else lax.pmean(mean, axis_name)


@functools.partial(jax.jit, static_argnums=1)  # traced once per shape
def _forward(images, axis_name):
    # In two passes: E[x²] - E[x]² would be a quarter faster and lose all digits where the mean is large.
    centred = images - _mean(images, axis_name)
    inverse = lax.rsqrt(_mean(jnp.square(centred), axis_name) + EPSILON)
    normalised = centred * inverse
    return normalised, (normalised, inverse)


@functools.partial(jax.jit, static_argnums=0)
def _backward(axis_name, residuals, cotangent):
    normalised, inverse = residuals
    along = _mean(cotangent * normalised, axis_name)
    return ((cotangent - _mean(cotangent, axis_name) - normalised * along) * inverse,)


_normalized.defvjp(_forward, _backward)
