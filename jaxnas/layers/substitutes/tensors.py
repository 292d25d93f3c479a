"""Separable substitutes whose matrix, seen as a tensor of three axes, is a tensor train or a Tucker decomposition.

Sources: Oseledets 2011 and Tucker 1966; as layers with these axes and ranks, Gray, Crowley & Storkey 2019.
"""

import jax.numpy as jnp

from jaxnas.core.types import Array
from jaxnas.layers.substitutes.kinds import Dense, Factor, Substitute, Weights
from jaxnas.layers.substitutes.separable import Part, in_two_steps

FULL = 1000  # ranks are set in thousandths of the largest


def rank_bounds(dense: Dense) -> tuple[int, int]:
    """Any share of the largest ranks, in thousandths."""
    del dense
    return 1, FULL


def axes(number: int) -> tuple[int, int, int]:
    """Three factors of a number, each the least one that is not below its cube root, as far as there is one."""
    root = round(number ** (1 / 3))
    first = _divisor(number, root)
    second = _divisor(number // first, root)
    return first, second, number // first // second


def _divisor(number: int, least: int) -> int:
    return next(divisor for divisor in range(min(least, number), number + 1) if number % divisor == 0)


def _rank(thousandths: int, largest: int) -> int:
    return max(1, round(thousandths / FULL * largest))


def tensor_train(dense: Dense, thousandths: int) -> Substitute:
    """A chain of three cores; the largest rank between two axes is the smaller axis."""
    i, j, k = axes(dense.inputs * dense.features)
    left, right = _rank(thousandths, min(i, j)), _rank(thousandths, min(j, k))
    shapes = {"core_1": (i, left), "core_2": (left, j, right), "core_3": (right, k)}
    return _decomposed(dense, shapes, "ia,ajb,bk->ijk", terms=left * right)


def tucker(dense: Dense, thousandths: int) -> Substitute:
    """A small core times a matrix for every axis; the largest ranks are the axes themselves."""
    i, j, k = axes(dense.inputs * dense.features)
    ranks = a, b, c = _rank(thousandths, i), _rank(thousandths, j), _rank(thousandths, k)
    shapes = {"core": ranks, "axis_1": (i, a), "axis_2": (j, b), "axis_3": (k, c)}
    return _decomposed(dense, shapes, "abc,ia,jb,kc->ijk", terms=a * b * c)


def _decomposed(dense: Dense, shapes: dict[str, tuple[int, ...]], contraction: str, terms: int) -> Substitute:
    """The matrix [inputs, features] as a contraction, every element a sum of so many products of one of each factor."""
    variance = (dense.gain / dense.inputs / terms) ** (1 / len(shapes))

    def matrix(weights: Weights) -> Array:
        tensor = jnp.einsum(contraction, *(weights[name] for name in shapes))
        return tensor.reshape(dense.inputs, dense.features)

    factors = {name: Factor(shape, variance) for name, shape in shapes.items()}
    return in_two_steps(dense, Part(factors, matrix))
