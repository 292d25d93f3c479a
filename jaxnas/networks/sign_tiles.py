"""The loss of a sign network, a tile of examples at a time: for loops that evaluate it many thousand times."""

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array, Params
from jaxnas.networks import sign_network

TILE = 4096  # examples whose activations stay in the second-level cache
NARROW = 16  # layers up to this width run faster with the examples along the last axis


def tiled_loss(params: Params, x: Array, y: Array, tile: int = TILE) -> Array:
    """What `sign_network.loss` gives, up to rounding, with memory for one tile; `tile` need not divide the batch."""
    batch = x.shape[0]
    y = y.reshape(batch, -1)
    whole = batch // tile * tile
    total = jnp.zeros((), x.dtype)
    if whole:
        tiles = x[:whole].reshape(-1, tile, x.shape[1]), y[:whole].reshape(-1, tile, y.shape[1])
        total = total + jax.lax.map(lambda one: _total(params, *one), tiles).sum()
    if whole < batch:
        total = total + _total(params, x[whole:], y[whole:])
    return total / y.size


def _total(params: Params, x: Array, y: Array) -> Array:
    """The sum of squared errors of a tile."""
    if max(layer["kernel"].shape[1] for layer in params) > NARROW:
        return jnp.sum((sign_network.apply(params, x) - y) ** 2)
    values = x.T
    for number, layer in enumerate(params):
        values = layer["kernel"].T @ values
        values = values + layer["bias"][:, None] if "bias" in layer else values
        values = jnp.where(values >= 0, 1, -1).astype(values.dtype) if number < len(params) - 1 else values
    return jnp.sum((values - y.T) ** 2)
