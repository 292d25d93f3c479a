"""Augmentation of image batches inside a compiled step: random crop, flip and cutout, one key per example.

The order is that of the DARTS reference (Liu et al. 2019): the raw image is padded with zeros and cropped, flipped,
normalised, and only then cutout (DeVries & Taylor 2017) sets a square to zero, which is the mean of the data.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Key


class Augmentation(NamedTuple):
    """Settings of augmentation.

    crop_padding: zero pixels added at every side before a crop of the original size; 0 turns cropping off.
    flip: whether half of the images, by chance, are mirrored left to right.
    cutout: side of the square that is set to zero, in pixels, clipped at the border; 0 turns it off. The square has
        2 * (cutout // 2) pixels a side, as in the reference.
    mean, std: of each channel, in units where a full pixel is 1.
    """

    crop_padding: int
    flip: bool
    cutout: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_settings(settings: Augmentation, channels: int) -> None:
    """Raises UserError for settings that do not suit images of `channels` channels."""
    for name, value in (("crop_padding", settings.crop_padding), ("cutout", settings.cutout)):
        if value < 0:
            raise UserError(f"augmentation: {name} must be 0 (off) or more pixels, not {value}.")
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if len(values) != channels:
            raise UserError(f"augmentation: {name} has {len(values)} values for images of {channels} channels.")
    if min(settings.std) <= 0:
        raise UserError(f"augmentation: std must be above 0 in every channel, not {min(settings.std)}.")


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 [n, height, width, channels], where a full pixel is 1.

    Computed in integers, hence exact. A constant channel gets the standard deviation 1, so that normalising gives 0.
    """
    count = int(np.prod(images.shape[:-1]))
    sums = images.sum(axis=(0, 1, 2), dtype=np.int64).tolist()
    squares = np.einsum("nhwc,nhwc->c", images, images, dtype=np.int64).tolist()
    mean = tuple(total / count / 255 for total in sums)
    variances = [(count * square - total * total) / count**2 for total, square in zip(sums, squares, strict=True)]
    return mean, tuple(variance**0.5 / 255 if variance else 1.0 for variance in variances)


def normalize(settings: Augmentation, images: Array) -> Array:
    """(images / 255 - mean) / std; uint8 [batch, height, width, channels] -> float32 of the same shape."""
    chex.assert_rank(images, 4)
    chex.assert_type(images, jnp.uint8)
    check_settings(settings, images.shape[-1])
    mean, std = (jnp.asarray(values, jnp.float32) for values in (settings.mean, settings.std))
    return (images.astype(jnp.float32) / 255 - mean) / std


def augment(settings: Augmentation, keys: Key, images: Array) -> Array:
    """Crops, flips, normalises and cuts out at random.

    keys: [batch], one for every example, so that an example's result does not depend on the batch it is in.
    images: uint8 [batch, height, width, channels]; the result is float32 of the same shape.
    """
    chex.assert_rank(images, 4)
    chex.assert_shape(keys, images.shape[:1])
    height, width = images.shape[1:3]
    offsets, flips = 2 * settings.crop_padding + 1, 2 if settings.flip else 1
    # What is turned off is drawn from one value: every key serves one draw, whatever the settings.
    limits = jnp.array([offsets, offsets, flips, height, width])
    top, left, flip, row, column = jax.vmap(lambda key: jax.random.randint(key, (5,), 0, limits))(keys).T
    if settings.crop_padding or settings.flip:
        images = crop_and_flip(images, top, left, flip == 1, settings.crop_padding)
    result = normalize(settings, images)
    if settings.cutout:
        result = jnp.where(cutout_mask(row, column, settings.cutout, height, width)[..., None], 0, result)
    return result


def crop_and_flip(images: Array, top: Array, left: Array, flip: Array, padding: int) -> Array:
    """Crops every image, padded with `padding` zeros a side, at its (top, left), and mirrors it where flip is true.

    images: [batch, height, width, channels]; top, left: int [batch] in 0 ... 2 * padding; flip: bool [batch].

    Two gathers along one axis each: on a CPU several times faster than a dynamic slice for every example, or than
    products with one-hot matrices.
    """
    batch, height, width, channels = images.shape
    rows = jnp.arange(height) + top[:, None] - padding
    columns = jnp.arange(width)
    columns = jnp.where(flip[:, None], width - 1 - columns, columns) + left[:, None] - padding
    inside = (_within(rows, height)[:, :, None] & _within(columns, width)[:, None, :])[..., None]
    rows, columns = jnp.clip(rows, 0, height - 1), jnp.clip(columns, 0, width - 1)
    moved = jnp.take_along_axis(images.reshape(batch, height, width * channels), rows[:, :, None], axis=1)
    moved = jnp.take_along_axis(moved.reshape(images.shape), columns[:, None, :, None], axis=2)
    return jnp.where(inside, moved, jnp.zeros((), images.dtype))


def cutout_mask(row: Array, column: Array, side: int, height: int, width: int) -> Array:
    """True in the square around (row, column), int [batch] each; bool [batch, height, width], clipped at the border."""
    rows, columns = jnp.arange(height) - row[:, None], jnp.arange(width) - column[:, None]
    half = side // 2
    return ((rows >= -half) & (rows < half))[:, :, None] & ((columns >= -half) & (columns < half))[:, None, :]


def _within(positions: Array, length: int) -> Array:
    return (positions >= 0) & (positions < length)
