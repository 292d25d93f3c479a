"""Bilinear resizing of images: to a size that is known, or to one that gates choose among several.

Both are linear in each axis: an interpolation matrix times the rows, another times the columns.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array


def interpolation(pixels: int, size: int) -> np.ndarray:
    """The matrix that resizes an axis of so many pixels to another size, float64 [size, pixels]; its rows sum to 1.

    Every new pixel weighs the old ones by a triangle around its centre, which reaches to the next pixel of the coarser
    of the two grids: linear interpolation where the image grows, antialiased where it shrinks, as in
    jax.image.resize(..., "linear").
    """
    centres = (np.arange(size) + 0.5) * pixels / size - 0.5
    distances = np.abs(centres[:, None] - np.arange(pixels)) / max(1.0, pixels / size)
    weights = np.maximum(0.0, 1.0 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


def resized(images: Array, size: int) -> Array:
    """Images [b, h, w, c] at size × size pixels; as they are where they have that size.

    Of an interpolation matrix only the few weights that are not zero are used, pixel by pixel. So no products are made
    that `costs.counting` would count, which counts the multiply-adds of a network's layers.
    """
    for axis in (1, 2):
        if images.shape[axis] != size:
            images = _interpolated(images, interpolation(images.shape[axis], size), axis)
    return images


def _interpolated(images: Array, matrix: np.ndarray, axis: int) -> Array:
    reach = int(np.count_nonzero(matrix, axis=1).max())
    # Of every row first the pixels whose weights are above zero.
    pixels = np.argsort(matrix == 0, axis=1, kind="stable")[:, :reach]
    weights = np.take_along_axis(matrix, pixels, axis=1)
    total = jnp.zeros((), images.dtype)
    for of_pixel, weight in zip(pixels.T, weights.T, strict=True):
        column = jnp.asarray(weight, images.dtype).reshape(-1, *[1] * (images.ndim - 1 - axis))
        total = total + jnp.take(images, of_pixel, axis=axis) * column
    return total


def on_canvas(images: Array, sizes: Sequence[int], gates: Array) -> Array:
    """Images [b, h, w, c] resized to the size that one-hot gates [sizes] choose; [b, largest, largest, c].

    They stand in the top left corner, with zeros around. Under other gates every axis is resized by the mixture of the
    matrices. Sizes rise. Where there is only one the gates are not read.
    """
    if len(sizes) == 1:
        return resized(images, sizes[0])

    def mixed(pixels: int) -> Array:
        stacked = np.zeros((len(sizes), sizes[-1], pixels))
        for matrix, size in zip(stacked, sizes, strict=True):
            matrix[:size] = interpolation(pixels, size)
        return jnp.sum(gates[:, None, None] * jnp.asarray(stacked, images.dtype), axis=0)

    height, width = (mixed(pixels) for pixels in images.shape[1:3])
    # At full precision: accelerators would round the pixels.
    rows = jnp.einsum("ih,bhwc->biwc", height, images, precision=lax.Precision.HIGHEST)
    return jnp.einsum("jw,biwc->bijc", width, rows, precision=lax.Precision.HIGHEST)
