"""The noise of evolution strategies: a pure function of a key and the numbers of the directions, drawn when needed."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxnas.core.types import Array, Key, PyTree


def draw(key: Key, numbers: Array, like: Array, orthogonal: bool) -> Array:
    """Standard Gaussian directions [len(numbers), len(like)] of the type of `like`, each from the key and its number.

    orthogonal: makes these directions orthogonal to each other. Every single one stays standard Gaussian
    (Choromanski et al. 2018): its length is that of the draw, which is independent of where the draw points. There may
    be at most len(like) of them then.
    """
    noise = jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), like.shape, like.dtype))(numbers)
    if not orthogonal:
        return noise
    axes, triangle = jnp.linalg.qr(noise.T)
    # With these signs the axes are uniform among all rotations (Mezzadri 2007).
    axes = axes * jnp.where(jnp.diagonal(triangle) < 0, -1, 1)
    return jnp.linalg.norm(noise, axis=1, keepdims=True) * axes.T


def span(directions: Sequence[PyTree]) -> Array:
    """An orthonormal basis [parameters, directions] of the span; columns of zeros where directions are dependent.

    Directions count by where they point, not by their length; one that is zero spans nothing.
    """
    columns = jnp.stack([ravel_pytree(direction)[0] for direction in directions], axis=1)
    lengths = jnp.linalg.norm(columns, axis=0)
    axes, sizes, _ = jnp.linalg.svd(columns / jnp.where(lengths > 0, lengths, 1), full_matrices=False)
    # There cannot be more axes than parameters.
    axes = jnp.pad(axes, ((0, 0), (0, len(directions) - axes.shape[1])))
    sizes = jnp.pad(sizes, (0, len(directions) - len(sizes)))
    return axes * (sizes > sizes[0] * jnp.finfo(columns.dtype).eps ** 0.5)
