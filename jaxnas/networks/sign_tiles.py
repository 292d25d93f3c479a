"""The loss of a sign network, a tile of examples at a time: for loops that evaluate it many thousand times."""

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array, Params
from jaxnas.layers import backend
from jaxnas.networks import sign_network

TILE = 16_384  # examples; up to here a loop over tiles costs more than their activations' way out of the cache
LARGE_TILE = 262_144  # on accelerators, where small kernels cost most and memory is plenty
NARROW = 16  # on the CPU, layers up to this width run faster with the examples along the last axis, where
NARROW_TILE = 32_768  # a tile has this many activations in a layer, to stay in the second-level cache


def tiled_loss(params: Params, x: Array, y: Array, tile: int | None = None) -> Array:
    """What `sign_network.loss` gives, up to rounding, with memory for one tile.

    tile: examples at a time, which need not divide the batch; None chooses by the width and the backend.
    """
    width = max(layer["kernel"].shape[1] for layer in params)
    cpu = backend.implementation() == "cpu"
    transposed = cpu and width <= NARROW
    size = tile or (NARROW_TILE // width if transposed else TILE if cpu else LARGE_TILE)
    squares = _transposed_squares if transposed else _squares
    batch = x.shape[0]
    y = y.reshape(batch, -1)
    if batch <= size:
        return squares(params, x, y) / y.size
    whole = batch // size * size
    tiles = x[:whole].reshape(-1, size, x.shape[1]), y[:whole].reshape(-1, size, y.shape[1])
    total = jax.lax.map(lambda one: squares(params, *one), tiles).sum()
    if whole < batch:
        total = total + squares(params, x[whole:], y[whole:])
    return total / y.size


def _sign(values: Array) -> Array:
    """The sign, but NaN of NaN.

    The second comparison is here for speed: XLA:CPU unrolls a shorter loop over a layer of 32 before it could use
    vector instructions, and the whole network takes twice as long.
    """
    return jnp.where(values >= 0, 1, jnp.where(values < 0, -1, values))


def _squares(params: Params, x: Array, y: Array) -> Array:
    """The sum of squared errors of a tile."""
    return jnp.sum((sign_network.apply(params, x, _sign) - y) ** 2)


def _transposed_squares(params: Params, x: Array, y: Array) -> Array:
    """The same with activations [width, tile]."""
    values = x.T
    for number, layer in enumerate(params):
        values = layer["kernel"].T @ values
        values = values + layer["bias"][:, None] if "bias" in layer else values
        values = _sign(values) if number < len(params) - 1 else values
    return jnp.sum((values - y.T) ** 2)
