"""Sums over a batch a tile of examples at a time, for estimators whose intermediate results outgrow the cache."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Params, PyTree


def target_columns(params: Params, x: Array, y: Array) -> Array:
    """The targets of a network for x, given as [batch] or [batch, out], as [batch, out].

    params: a tuple of {'kernel': [in, out], ...}. Raises UserError for targets of another shape or an empty batch.
    """
    if x.shape[0] == 0:
        raise UserError("x holds no examples; give at least one row.")
    shape = (x.shape[0], params[-1]["kernel"].shape[1])
    targets = y[:, None] if y.ndim == 1 else y
    if targets.shape != shape:
        raise UserError(f"y has the shape {y.shape}; this network and x need targets of the shape {shape}.")
    return targets


def sum_over_tiles(function: Callable[..., PyTree], batch: int, tile: int, *arrays: Array) -> PyTree:
    """The sum of function(example numbers, weights, *arrays) over tiles of a batch, in a compiled loop.

    Tiles are of one size, `tile` or less; in the last one, rows of zeros with weight 0 may fill up. Weights are 1/batch
    otherwise, both [tile]; arrays are [batch, ...] and become [tile, ...].
    """
    count = math.ceil(batch / tile)
    size = math.ceil(batch / count)
    index = jnp.arange(count * size)
    weights = jnp.where(index < batch, 1 / batch, 0).astype(arrays[0].dtype)
    filled = [jnp.pad(a, [(0, count * size - batch)] + [(0, 0)] * (a.ndim - 1)) for a in arrays]
    tiles = [a.reshape(count, size, *a.shape[1:]) for a in (index, weights, *filled)]
    return sum_over(lambda items: function(*items), tiles)


def sum_over(function: Callable[[PyTree], PyTree], items: PyTree) -> PyTree:
    """The sum of function(item) over the leading axis of `items`, holding one result at a time."""
    one = jax.eval_shape(function, jax.tree.map(lambda a: a[0], items))
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), one)
    return jax.lax.scan(lambda total, item: (jax.tree.map(jnp.add, total, function(item)), None), zeros, items)[0]
