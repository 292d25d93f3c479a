"""Substitutes in two steps: a depthwise convolution, then a 1×1 convolution whose matrix is made of something smaller.

With a 1×1 kernel there is no first step. At the start the first step keeps the variance of the images, and the second
multiplies it by the dense layer's gain.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnas.core.types import Array
from jaxnas.layers.convolution import Padding, depthwise, pointwise
from jaxnas.layers.substitutes.kinds import Dense, Factor, Substitute, Weights, substitute

POINT = (1, 1)


class Part(NamedTuple):
    """One step: an array made of what the step learns, a matrix [inputs, features] or a depthwise kernel [kh, kw, c].

    product: (weights, images [..., inputs]) -> images times the matrix, where that needs not form the matrix.
    """

    factors: Mapping[str, Factor]
    array: Callable[[Weights], Array]
    product: Callable[[Weights, Array], Array] | None = None


def learned(name: str, shape: tuple[int, ...], variance: float) -> Part:
    """A part that learns its array itself."""
    return Part({name: Factor(shape, variance)}, lambda weights: weights[name])


def sampled(images: Array, stride: int, padding: Padding | None) -> Array:
    """The pixels that a 1×1 convolution of images [b, h, w, c] sees."""
    if padding:
        edges = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
        images = lax.pad(images, jnp.zeros((), images.dtype), edges)
    return images[:, ::stride, ::stride]


def in_two_steps(dense: Dense, matrix: Part, *, first: Part | None = None, bias: bool = False) -> Substitute:
    """Depthwise, by default with a learned kernel, then `matrix`, then with `bias` one number for every feature."""
    point = dense.size == POINT
    first = first or learned("depthwise", (*dense.size, dense.inputs), 1 / prod(dense.size))
    factors = {
        **({} if point else first.factors),
        **matrix.factors,
        **({"bias": Factor((dense.features,), 0.0)} if bias else {}),
    }

    def apply(weights: Weights, images: Array, stride: int, padding: Padding | None) -> Array:
        if point:
            images = sampled(images, stride, padding)
        else:
            images = depthwise(images, first.array(weights), stride=stride, padding=padding)
        images = matrix.product(weights, images) if matrix.product else pointwise(images, matrix.array(weights))
        return images + weights["bias"] if bias else images

    def kernel(weights: Weights) -> Array:
        product = matrix.array(weights)
        return product[None, None] if point else first.array(weights)[..., None] * product

    return substitute(factors, apply, kernel)


def separable(dense: Dense, multiplier: int) -> Substitute:
    """Depthwise and pointwise, both learned as they are. multiplier: depthwise kernels for every channel, one."""
    del multiplier
    shape = dense.inputs, dense.features
    return in_two_steps(dense, learned("pointwise", shape, dense.gain / dense.inputs))


def low_rank(dense: Dense, rank: int) -> Substitute:
    """Depthwise, then a 1×1 contraction to `rank` channels, then a 1×1 expansion."""
    factors = {
        "contract": Factor((dense.inputs, rank), 1 / dense.inputs),
        "expand": Factor((rank, dense.features), dense.gain / rank),
    }

    def product(weights: Weights, images: Array) -> Array:
        return pointwise(pointwise(images, weights["contract"]), weights["expand"])

    return in_two_steps(dense, Part(factors, lambda weights: weights["contract"] @ weights["expand"], product))
