"""Convolutions whose kernels are hashed into banks; with a bias for every feature, as in the reference.

Source: HashedNets (Chen et al. 2015), without the hash of signs; the separable forms and those with a tenth of the
dense layer's numbers, Gray, Crowley & Storkey 2019.
"""

from math import prod

import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array
from jaxnas.layers.convolution import Padding, convolution
from jaxnas.layers.substitutes.hashing import hash_of, spread
from jaxnas.layers.substitutes.kinds import Dense, Factor, Substitute, Weights, substitute
from jaxnas.layers.substitutes.separable import POINT, Part, in_two_steps

DECIMATED = 10  # the dense layer's numbers over those that stay


def _part(name: str, shape: tuple[int, ...], bank: int, variance: float) -> Part:
    hashing = hash_of(shape, bank)

    def array(weights: Weights) -> Array:
        return jnp.reshape(spread(hashing, weights[name]), shape)

    return Part({name: Factor((bank,), variance)}, array)


def _matrix(dense: Dense, bank: int) -> Part:
    return _part("bank", (dense.inputs, dense.features), bank, dense.gain / dense.inputs)


def _depthwise_params(dense: Dense) -> int:
    return 0 if dense.size == POINT else prod(dense.size) * dense.inputs


def hashed(dense: Dense, bank: int) -> Substitute:
    """The whole kernel out of one bank."""
    shape = (*dense.size, dense.inputs, dense.features)
    part = _part("bank", shape, bank, dense.gain / prod(shape[:3]))

    def apply(weights: Weights, images: Array, stride: int, padding: Padding | None) -> Array:
        return convolution(images, part.array(weights), stride=stride, padding=padding) + weights["bias"]

    return substitute({**part.factors, "bias": Factor((dense.features,), 0.0)}, apply, part.array)


def hashed_bounds(dense: Dense) -> tuple[int, int]:
    """Any bank up to a number for every element."""
    return 1, dense.params


def decimated_bounds(dense: Dense) -> tuple[int, int]:
    """A bank of a tenth of the dense layer's numbers."""
    bank = max(1, dense.params // DECIMATED)
    return bank, bank


def half_hashed_separable(dense: Dense, bank: int) -> Substitute:
    """A learned depthwise kernel, then a hashed matrix."""
    return in_two_steps(dense, _matrix(dense, bank), bias=True)


def half_hashed_separable_bounds(dense: Dense) -> tuple[int, int]:
    """Any bank up to a number for every element of the matrix."""
    return 1, dense.inputs * dense.features


def half_decimated_bounds(dense: Dense) -> tuple[int, int]:
    """A bank of what the depthwise kernel leaves of a tenth of the dense layer's numbers.

    Raises UserError where it leaves nothing.
    """
    spent, tenth = _depthwise_params(dense), max(1, dense.params // DECIMATED)
    if tenth <= spent:
        features = -(-DECIMATED * (spent + 1) // spent)
        raise UserError(
            f"a tenth of a {dense.text} is {tenth} numbers, of which a hashed separable substitute needs {spent} for "
            f"its depthwise part and more for the rest; it needs a layer with at least {features} features."
        )
    bank = min(tenth - spent, dense.inputs * dense.features)
    return bank, bank


def hashed_separable(dense: Dense, bank: int) -> Substitute:
    """A hashed depthwise kernel, then a hashed matrix, with banks in proportion to what they stand for."""
    if dense.size == POINT:
        return half_hashed_separable(dense, bank)
    shape = (*dense.size, dense.inputs)
    own = max(1, bank * prod(shape) // hashed_separable_bounds(dense)[1])
    first = _part("depthwise_bank", shape, own, 1 / prod(dense.size))
    return in_two_steps(dense, _matrix(dense, bank - own), first=first, bias=True)


def hashed_separable_bounds(dense: Dense) -> tuple[int, int]:
    """Banks up to a number for every element of both, and at least one number each."""
    spent = _depthwise_params(dense)
    return 2 if spent else 1, spent + dense.inputs * dense.features
