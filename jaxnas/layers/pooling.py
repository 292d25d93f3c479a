"""Pooling over squares of odd size, padded by half of it, with derivatives that are fast on the CPU."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array
from jaxnas.layers import backend
from jaxnas.layers.convolution import shifted_view


def max_pool(images: Array, *, stride: int, size: int = 3) -> Array:
    """Maximum over size × size pixels of images [b, h, w, c], padding size // 2.

    Of equal values the first one, row by row, takes the gradient. The size is odd and at most 11.
    """
    if backend.implementation() == "library":
        return _library(images, -jnp.inf, lax.max, stride, size)
    return _max_pool(images, stride, size)


def avg_pool(images: Array, *, stride: int, size: int = 3) -> Array:
    """Mean over size × size pixels of images [b, h, w, c], padding size // 2, for an odd size.

    The padding is left out of the mean (count_include_pad=False).
    """
    if backend.implementation() == "library":
        total = _library(images, 0.0, lax.add, stride, size)
        return total * _inverse_counts(images.shape[1], images.shape[2], stride, size)
    return _avg_pool(images, stride, size)


def _library(images: Array, initial: float, reduce: Callable[..., Array], stride: int, size: int) -> Array:
    return lax.reduce_window(
        images,
        initial,
        reduce,
        window_dimensions=(1, size, size, 1),
        window_strides=(1, stride, stride, 1),
        padding=_margins(size),
    )


def _margins(size: int) -> tuple[tuple[int, int], ...]:
    """The padding of images [b, h, w, c] on both sides of each axis."""
    return ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0))


def _taps(size: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(size) for j in range(size)]


def _inverse_counts(height: int, width: int, stride: int, size: int) -> np.ndarray:
    """1 / number of real pixels in each window, [out height, out width, 1]."""
    ones = np.pad(np.ones((1, height, width, 1), np.float32), _margins(size))
    counts = sum(ones[0, i : i + height : stride, j : j + width : stride] for i, j in _taps(size))
    return 1.0 / np.asarray(counts, np.float32)


def _padded(images: Array, value: float, size: int) -> Array:
    return lax.optimization_barrier(jnp.pad(images, _margins(size), constant_values=value))


def _spread(cotangent: Array, stride: int, size: int, height: int, width: int, fill: int | float) -> Array:
    """Puts an output-sized array back on the grid of the padded input, `fill` between and around the entries."""
    margin = size // 2
    edges = [
        (margin, margin + length - 1 - stride * (out - 1), stride - 1)
        for length, out in zip((height, width), cotangent.shape[1:3], strict=True)
    ]
    return lax.optimization_barrier(
        lax.pad(cotangent, jnp.asarray(fill, cotangent.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(images: Array, stride: int, size: int) -> Array:
    return _max_pool_forward(images, stride, size)[0]


@functools.partial(jax.jit, static_argnums=(1, 2))  # traced once per shape
def _max_pool_forward(images, stride, size):
    """Keeps which tap won (int8) instead of the images: the backward pass is size² comparisons."""
    height, width = (-(-length // stride) for length in images.shape[1:3])
    padded = _padded(images, -jnp.inf, size)
    largest = shifted_view(padded, 0, 0, height, width, stride)
    winner = jnp.zeros(largest.shape, jnp.int8)
    for number, (i, j) in enumerate(_taps(size)[1:], start=1):
        view = shifted_view(padded, i, j, height, width, stride)
        larger = view > largest
        largest = jnp.where(larger, view, largest)
        winner = jnp.where(larger, jnp.int8(number), winner)
    return largest, (winner, jnp.zeros((0, *images.shape[1:3], 0), images.dtype))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _max_pool_backward(stride, size, residuals, cotangent):
    winner, shape_of_input = residuals
    height, width = shape_of_input.shape[1:3]
    winners = _spread(winner, stride, size, height, width, -1)
    gradients = _spread(cotangent, stride, size, height, width, 0.0)
    last = size - 1
    parts = (
        jnp.where(
            shifted_view(winners, last - i, last - j, height, width, 1) == number,
            shifted_view(gradients, last - i, last - j, height, width, 1),
            0.0,
        )
        for number, (i, j) in enumerate(_taps(size))
    )
    return (functools.reduce(jnp.add, parts),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _sum_of_taps(padded: Array, height: int, width: int, stride: int, size: int) -> Array:
    return functools.reduce(jnp.add, (shifted_view(padded, i, j, height, width, stride) for i, j in _taps(size)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _avg_pool(images: Array, stride: int, size: int) -> Array:
    height, width = (-(-length // stride) for length in images.shape[1:3])
    total = _sum_of_taps(_padded(images, 0.0, size), height, width, stride, size)
    return total * _inverse_counts(images.shape[1], images.shape[2], stride, size)


def _avg_pool_forward(images, stride, size):
    return _avg_pool(images, stride, size), jnp.zeros((0, *images.shape[1:3], 0), images.dtype)


def _avg_pool_backward(stride, size, shape_of_input, cotangent):
    height, width = shape_of_input.shape[1:3]
    shares = cotangent * _inverse_counts(height, width, stride, size)
    return (_sum_of_taps(_spread(shares, stride, size, height, width, 0.0), height, width, 1, size),)


_avg_pool.defvjp(_avg_pool_forward, _avg_pool_backward)
