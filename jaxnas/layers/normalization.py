"""Batch normalisation by the statistics of the batch at hand, as supernets use it: no running averages, no state."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnas.core.types import Array

EPSILON = 1e-5


class Leading(NamedTuple):
    """The statistics of the first `examples` of every batch alone, which then normalise the whole of it."""

    examples: int
    axis_name: str | None


# The mapped axis along which the batches of all devices have their statistics together, None for each its own.
Statistics = str | None | Leading


def leading(axis_name: str | None, count: int) -> Statistics:
    """The statistics of the first `count` examples of a batch; 0 for those of all."""
    return Leading(count, axis_name) if count else axis_name


def batch_norm(images: Array, statistics: Statistics = None, region: Array | None = None) -> Array:
    """Normalises images [b, h, w, c] to zero mean and unit variance per channel (biased variance, ε = 1e-5).

    With the name of an axis the statistics are those of the batches of all devices along that mapped axis together,
    with `Leading` those of the first examples alone: what the network answers to another does not depend on the rest.
    region: how much every position counts in the statistics, [h, w], which normalise all of them; None for equally.
    Source: Ioffe & Szegedy 2015, without the learned scale and shift (DARTS searches with affine=False).
    """
    share = None if region is None else (region / jnp.sum(region))[..., None]
    if isinstance(statistics, Leading):
        return _by_leading(images, *statistics, share)
    return _normalized(images, share, statistics)


def mean_of_pixels(images: Array, region: Array | None = None) -> Array:
    """The mean over the positions of images [b, h, w, c], weighed by a region [h, w] if there is one; [b, c]."""
    if region is None:
        return jnp.mean(images, axis=(1, 2))
    return jnp.sum(images * (region / jnp.sum(region))[..., None], axis=(1, 2))


def _by_leading(images: Array, examples: int, axis_name: str | None, share: Array | None = None) -> Array:
    centred = images - _mean(images[:examples], axis_name, share)
    return centred * lax.rsqrt(_mean(jnp.square(centred[:examples]), axis_name, share) + EPSILON)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalized(images: Array, share: Array | None, axis_name: str | None) -> Array:
    return _forward(images, axis_name, share)[0]


def _mean(values: Array, axis_name: str | None, share: Array | float | None = None) -> Array:
    """Per-channel mean over examples, positions and devices, kept broadcastable: [1, 1, 1, c].

    share: of each position in it, [h, w, 1], or one number for all; None for equal ones.
    """
    axes = range(values.ndim - 1)
    if share is None:
        mean = jnp.mean(values, axis=axes, keepdims=True)
    else:
        mean = jnp.sum(values * share, axis=axes, keepdims=True) / len(values)
    return mean if axis_name is None else lax.pmean(mean, axis_name)


@functools.partial(jax.jit, static_argnums=1)  # traced once per shape
def _forward(images, axis_name, share=None):
    # In two passes: E[x²] - E[x]² would be a quarter faster and lose all digits where the mean is large.
    centred = images - _mean(images, axis_name, share)
    inverse = lax.rsqrt(_mean(jnp.square(centred), axis_name, share) + EPSILON)
    normalised = centred * inverse
    return normalised, (normalised, inverse)


def _forward_with_share(images, share, axis_name):
    normalised, residuals = _forward(images, axis_name, share)
    return normalised, (*residuals, share)


@functools.partial(jax.jit, static_argnums=0)
def _backward(axis_name, residuals, cotangent):
    normalised, inverse, share = residuals
    if share is None:
        along = _mean(cotangent * normalised, axis_name)
        return (cotangent - _mean(cotangent, axis_name) - normalised * along) * inverse, None
    total = _mean(cotangent, axis_name, 1.0)
    along = _mean(cotangent * normalised, axis_name, 1.0)
    images_bar = (cotangent - share * (total + normalised * along)) * inverse
    # Up to a constant: shares add up to 1, which removes it.
    of_share = normalised * (total + normalised * along / 2)
    return images_bar, -jnp.sum(of_share, axis=(0, -1))[..., None]


_normalized.defvjp(_forward_with_share, _backward)


def normalized_sum(images: Sequence[Array], gates: Array, statistics: Statistics = None) -> Array:
    """Σ over i of gates[i] · batch_norm(images[i]): a mixture of images of one shape [b, h, w, c], gates [images].

    Its derivative shares what the sum of the parts would do again for every image: the mean of the cotangent is one,
    and a gate's gradient is a sum that the normalisation's own derivative needs anyway.
    """
    if isinstance(statistics, Leading):
        parts = (gate * _by_leading(image, *statistics) for gate, image in zip(gates, images, strict=True))
        return functools.reduce(jnp.add, parts)
    return _normalized_sum(tuple(images), gates, statistics)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _normalized_sum(images: tuple[Array, ...], gates: Array, axis_name: str | None) -> Array:
    return _sum_forward(images, gates, axis_name)[0]


def _sum_forward(images, gates, axis_name):
    normalised, inverse = zip(*(_forward(one, axis_name)[1] for one in images), strict=True)
    total = functools.reduce(jnp.add, (gate * one for gate, one in zip(gates, normalised, strict=True)))
    return total, (normalised, inverse, gates)


def _sum_backward(axis_name, residuals, cotangent):
    mean = _mean(cotangent, axis_name)
    count = cotangent.size // cotangent.shape[-1]
    images_bar, gates_bar = [], []
    for normalised, inverse, gate in zip(*residuals, strict=True):
        along = _mean(cotangent * normalised, None)
        gates_bar.append(count * jnp.sum(along))
        along = along if axis_name is None else lax.pmean(along, axis_name)
        images_bar.append((cotangent - mean - normalised * along) * (gate * inverse))
    return tuple(images_bar), jnp.stack(gates_bar)


_normalized_sum.defvjp(_sum_forward, _sum_backward)
