"""3×3 pooling with padding 1, the two kinds that cell spaces use, with derivatives that are fast on the CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array
from jaxnas.layers import backend
from jaxnas.layers.convolution import shifted_view

_TAPS = [(i, j) for i in range(3) for j in range(3)]
_WINDOW = {"window_dimensions": (1, 3, 3, 1), "padding": ((0, 0), (1, 1), (1, 1), (0, 0))}


def max_pool(images: Array, *, stride: int) -> Array:
    """3×3 maximum over images [b, h, w, c] with padding 1; of equal values the first one takes the gradient."""
    if backend.implementation() == "library":
        return lax.reduce_window(images, -jnp.inf, lax.max, window_strides=(1, stride, stride, 1), **_WINDOW)
    return _max_pool(images, stride)


def avg_pool(images: Array, *, stride: int) -> Array:
    """3×3 mean over images [b, h, w, c] with padding 1, the padding left out of the mean (count_include_pad=False)."""
    if backend.implementation() == "library":
        total = lax.reduce_window(images, 0.0, lax.add, window_strides=(1, stride, stride, 1), **_WINDOW)
        return total * _inverse_counts(images.shape[1], images.shape[2], stride)
    return _avg_pool(images, stride)


def _inverse_counts(height: int, width: int, stride: int) -> np.ndarray:
    """1 / number of real pixels in each window, [out height, out width, 1]."""
    ones = np.pad(np.ones((1, height, width, 1), np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    counts = sum(ones[0, i : i + height : stride, j : j + width : stride] for i, j in _TAPS)
    return 1.0 / np.asarray(counts, np.float32)


def _padded(images: Array, value: float) -> Array:
    widths = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.optimization_barrier(jnp.pad(images, widths, constant_values=value))


def _spread(cotangent: Array, stride: int, height: int, width: int, fill: int | float) -> Array:
    """Puts an output-sized array back on the grid of the padded input, `fill` between and around the entries."""
    edges = [
        (1, size - stride * (out - 1), stride - 1)
        for size, out in zip((height, width), cotangent.shape[1:3], strict=True)
    ]
    return lax.optimization_barrier(
        lax.pad(cotangent, jnp.asarray(fill, cotangent.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images: Array, stride: int) -> Array:
    return _max_pool_forward(images, stride)[0]


@functools.partial(jax.jit, static_argnums=1)  # traced once per shape
def _max_pool_forward(images, stride):
    """Keeps which tap won (int8) instead of the images: the backward pass is nine comparisons."""
    height, width = (-(-size // stride) for size in images.shape[1:3])
    padded = _padded(images, -jnp.inf)
    largest = shifted_view(padded, 0, 0, height, width, stride)
    winner = jnp.zeros(largest.shape, jnp.int8)
    for number, (i, j) in enumerate(_TAPS[1:], start=1):
        view = shifted_view(padded, i, j, height, width, stride)
        larger = view > largest
        largest = jnp.where(larger, view, largest)
        winner = jnp.where(larger, jnp.int8(number), winner)
    return largest, (winner, jnp.zeros((0, *images.shape[1:3], 0), images.dtype))


@functools.partial(jax.jit, static_argnums=0)
def _max_pool_backward(stride, residuals, cotangent):
    winner, shape_of_input = residuals
    height, width = shape_of_input.shape[1:3]
    winners = _spread(winner, stride, height, width, -1)
    gradients = _spread(cotangent, stride, height, width, 0.0)
    parts = (
        jnp.where(
            shifted_view(winners, 2 - i, 2 - j, height, width, 1) == number,
            shifted_view(gradients, 2 - i, 2 - j, height, width, 1),
            0.0,
        )
        for number, (i, j) in enumerate(_TAPS)
    )
    return (functools.reduce(jnp.add, parts),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _sum_of_taps(padded: Array, height: int, width: int, stride: int) -> Array:
    return functools.reduce(jnp.add, (shifted_view(padded, i, j, height, width, stride) for i, j in _TAPS))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _avg_pool(images: Array, stride: int) -> Array:
    height, width = (-(-size // stride) for size in images.shape[1:3])
    return _sum_of_taps(_padded(images, 0.0), height, width, stride) * _inverse_counts(
        images.shape[1], images.shape[2], stride
    )


def _avg_pool_forward(images, stride):
    return _avg_pool(images, stride), jnp.zeros((0, *images.shape[1:3], 0), images.dtype)


def _avg_pool_backward(stride, shape_of_input, cotangent):
    height, width = shape_of_input.shape[1:3]
    shares = cotangent * _inverse_counts(height, width, stride)
    return (_sum_of_taps(_spread(shares, stride, height, width, 0.0), height, width, 1),)


_avg_pool.defvjp(_avg_pool_forward, _avg_pool_backward)
