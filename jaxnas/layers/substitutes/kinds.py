"""What a substitute is: a linear layer that stands for a dense convolution and learns fewer numbers than it.

Source: Gray, Crowley & Storkey 2019, "Separable Layers Enable Structured Efficient Linear Substitutions".
"""

import functools
from collections.abc import Callable, Mapping
from itertools import accumulate
from math import prod
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Key
from jaxnas.layers.convolution import Padding

Weights = Mapping[str, Array]


class Dense(NamedTuple):
    """The convolution to be replaced: kernel [*size, inputs, features], without bias.

    gain: the variance of its initial kernel times its fan-in; PyTorch's default is 1/3, that of He et al. (2015) is 2.
    """

    size: tuple[int, int]
    inputs: int
    features: int
    gain: float = 1 / 3

    @property
    def params(self) -> int:
        """How many numbers its kernel has."""
        return prod(self.size) * self.inputs * self.features

    @property
    def text(self) -> str:
        """How a message names it, "3×3 convolution of 8 to 16 channels"."""
        height, width = self.size
        return f"{height}×{width} convolution of {self.inputs} to {self.features} channels"


class Substitute(NamedTuple):
    """A linear layer in place of a dense one.

    params: how many numbers it learns.
    init: key -> weights, under which outputs have the variance that they have under the dense layer's initial kernel.
    apply: (weights, images [b, h, w, inputs], stride, padding) -> [b, h', w', features]; `padding` is that of
        `layers.convolution.convolution`.
    kernel: weights -> the dense kernel [*size, inputs, features] of the same map, leaving a bias out.
    """

    params: int
    init: Callable[[Key], Weights]
    apply: Callable[[Weights, Array, int, Padding | None], Array]
    kernel: Callable[[Weights], Array]


class Kind(NamedTuple):
    """A family of substitutes with one whole number to set.

    parameter: what the number is, in a word.
    bounds: dense layer -> the least and the greatest number that make sense for it; both are the same where there is
        nothing to set. Raises UserError for a layer that has no substitute of this kind.
    build: (dense layer, number) -> the substitute. `params` rises with the number, or falls with it, throughout.
    """

    parameter: str
    bounds: Callable[[Dense], tuple[int, int]]
    build: Callable[[Dense, int], Substitute]


class Factor(NamedTuple):
    """An array that a substitute learns: its shape, and the variance and the mean of its initial values."""

    shape: tuple[int, ...]
    variance: float
    mean: float = 0.0


@functools.partial(jax.jit, static_argnums=1)
def _drawn(key: Key, factors: tuple[tuple[str, Factor], ...]) -> Weights:
    """Initial weights, uniform around their means; all come from one draw, which compiles faster than many."""
    ends = list(accumulate(prod(factor.shape) for _, factor in factors))
    pieces = jnp.split(jax.random.uniform(key, (ends[-1],), minval=-1.0), ends[:-1])
    return {
        name: factor.mean + (3 * factor.variance) ** 0.5 * piece.reshape(factor.shape)
        for (name, factor), piece in zip(factors, pieces, strict=True)
    }


def substitute(
    factors: Mapping[str, Factor],
    apply: Callable[[Weights, Array, int, Padding | None], Array],
    kernel: Callable[[Weights], Array],
) -> Substitute:
    """The substitute that learns these factors."""
    params = sum(prod(factor.shape) for factor in factors.values())
    return Substitute(params, lambda key: _drawn(key, tuple(factors.items())), apply, kernel)


def kind(parameter: str, bounds: Callable[[Dense], tuple[int, int]], build: Callable[[Dense, int], Substitute]) -> Kind:
    """A kind that refuses numbers out of bounds with a UserError."""

    def checked(dense: Dense, number: int) -> Substitute:
        least, most = bounds(dense)
        if not least <= number <= most:
            raise UserError(
                f"the substitute's {parameter} is {number}, but for a {dense.text} it is from {least} to {most}."
            )
        return build(dense, number)

    return Kind(parameter, bounds, checked)
