"""ACDC: a matrix as a product of diagonals and cosine transforms, with shuffles of the channels between.

A layer of a stack multiplies the channels by a diagonal A, takes their cosine transform C, multiplies by a diagonal D
and transforms back, which Moczulski et al. 2016 ("ACDC: A Structured Efficient Linear Layer") write A C D C⁻¹. The
diagonals start near one. The two forms of the shuffle are from Gray, Crowley & Storkey 2019.
"""

from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.fft import dct, idct

from jaxnas.core.types import Array
from jaxnas.layers import backend
from jaxnas.layers.convolution import pointwise
from jaxnas.layers.substitutes.kinds import Dense, Factor, Substitute, Weights
from jaxnas.layers.substitutes.separable import Part, in_two_steps

MOST_LAYERS = 128
DEVIATION = 0.01  # of the initial diagonals


class Shuffles(NamedTuple):
    """Which channel comes at which place, int [layers, width]: between the two transforms, and after a layer."""

    within: np.ndarray
    after: np.ndarray


def acdc(dense: Dense, layers: int) -> Substitute:
    """Depthwise, then a stack of ACDC layers with perfect riffles of the channels, within each layer and after it."""
    order = np.arange(_width(dense))
    riffle = np.tile(np.concatenate([order[::2], order[1::2]]), (layers, 1))
    return in_two_steps(dense, _stack(dense, Shuffles(riffle, riffle)))


def acdc_permutation(dense: Dense, layers: int) -> Substitute:
    """Depthwise, then a stack of plain ACDC layers, each with a fixed random permutation of the channels after it."""
    unchanged = np.tile(np.arange(_width(dense)), (layers, 1))
    return in_two_steps(dense, _stack(dense, Shuffles(unchanged, permutations(dense, layers))))


def permutations(dense: Dense, layers: int) -> np.ndarray:
    """Random orders of the channels that are the same for the same layer, int [layers, width]."""
    random = np.random.default_rng((*dense.size, dense.inputs, dense.features))
    return np.stack([random.permutation(_width(dense)) for _ in range(layers)])


def acdc_bounds(dense: Dense) -> tuple[int, int]:
    """Layers up to as many numbers as the matrix has that they stand for, and up to 128."""
    most = dense.inputs * dense.features // (2 * _width(dense))
    return 1, max(1, min(most, MOST_LAYERS))


def _width(dense: Dense) -> int:
    return max(dense.inputs, dense.features)


def _stack(dense: Dense, shuffles: Shuffles) -> Part:
    """The matrix of a stack of layers.

    All layers have as many channels as the wider side. Fewer inputs are repeated in turns; fewer features are sums of
    neighbours, as many for each as there are for all, and what is left over is cut.
    """
    layers, width = shuffles.after.shape
    summed = width // dense.features
    # The mean squares of A and of D multiply the squared norm, which transforms and shuffles keep; what comes in white,
    # as it does where features are summed, goes out white. So the stack multiplies variances by gain / summed.
    mean = (dense.gain / summed) ** (1 / (2 * layers)) / (1 + DEVIATION**2)
    factors = {
        "diagonal_a": Factor((layers, width), DEVIATION**2, 1.0),
        "diagonal_d": Factor((layers, width), (DEVIATION * mean) ** 2, mean),
    }

    def transformed(weights: Weights, rows: Array) -> Array:
        rows = jnp.tile(rows, (1, -(-width // dense.inputs)))[:, :width]
        rows = _through(weights, rows, shuffles)[:, : summed * dense.features]
        return jnp.sum(rows.reshape(-1, dense.features, summed), axis=-1)

    def matrix(weights: Weights) -> Array:
        precision = jnp.promote_types(weights["diagonal_a"].dtype, jnp.float32)
        return transformed(weights, jnp.eye(dense.inputs, dtype=precision))

    def product(weights: Weights, images: Array) -> Array:
        sizes = images.shape[:-1]
        few = all(isinstance(size, int) for size in sizes) and prod(sizes) <= dense.inputs
        # Fewer rows go through the stack if they are those of the identity. Exports know no number of rows, and
        # multiply-adds are counted for one image as they are for many.
        if not few or backend.implementation() == "library":
            return pointwise(images, matrix(weights).astype(images.dtype))
        rows = images.reshape(-1, dense.inputs)
        wide = rows.astype(jnp.promote_types(images.dtype, jnp.float32))  # the least that a transform takes
        return transformed(weights, wide).astype(images.dtype).reshape(*images.shape[:-1], dense.features)

    return Part(factors, matrix, product)


def _through(weights: Weights, rows: Array, shuffles: Shuffles) -> Array:
    """Rows [n, width] through all layers, one after another in a loop that compiles once."""

    def layer(rows: Array, own: tuple[Array, ...]) -> tuple[Array, None]:
        a, d, *orders = own
        rows = dct(rows * a, norm="ortho")
        rows = idct(_shuffled(rows, *orders[:2]) * d, norm="ortho")
        return _shuffled(rows, *orders[2:]), None

    orders = [jnp.asarray(order) for one in shuffles for order in (one, np.argsort(one, axis=1))]
    return lax.scan(layer, rows, (weights["diagonal_a"], weights["diagonal_d"], *orders))[0]


@jax.custom_vjp
def _shuffled(rows: Array, order: Array, inverse: Array) -> Array:
    """Columns of rows [n, width] in another order; the derivative gathers by its inverse, and does not scatter.

    The barrier keeps the gather out of a fusion with the transforms' own shuffles, which can take minutes to compile.
    """
    del inverse
    return lax.optimization_barrier(rows).at[:, order].get(mode="promise_in_bounds", unique_indices=True)


def _shuffled_forward(rows, order, inverse):
    return _shuffled(rows, order, inverse), (order, inverse)


def _shuffled_backward(residuals, cotangent):
    order, inverse = residuals
    return _shuffled(cotangent, inverse, order), None, None


_shuffled.defvjp(_shuffled_forward, _shuffled_backward)
