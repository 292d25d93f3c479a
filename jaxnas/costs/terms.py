"""What an architecture costs, and what it is expected to cost under gates, from the pieces of its network.

A family says which pieces run under which options (`networks.family.Term`). Whatever can be measured of a piece, its
parameters, its multiply-adds, its milliseconds, becomes a cost of gates that is linear in every row of them. Rows are
independent choices, so at probabilities it is the exact expectation, and at one-hot gates the cost of an architecture.
"""

import string
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Architecture, Array, Gates
from jaxnas.costs.counting import network_cost
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.spaces.space import random

GateCost = Callable[[Gates], Array]  # {part: [choices, options]} -> scalar, in the unit of the cost
COUNTED = ("params", "mult_adds")


class Tabulated(NamedTuple):
    """A term with a number for every combination of its options."""

    choices: tuple[tuple[str, int], ...]
    values: np.ndarray


def components(terms: Sequence[Term]) -> dict[str, Component]:
    """Every different piece of the terms, by its name."""
    found: dict[str, Component] = {}
    for term in terms:
        for entry in term.pieces.ravel():
            found |= {piece.name: piece for piece in entry}
    return found


def tabulate(terms: Sequence[Term], price: Callable[[Component], float]) -> list[Tabulated]:
    """The terms with the sum of their pieces' prices; `price` is asked once for every different piece."""
    prices = {name: price(piece) for name, piece in components(terms).items()}

    def total(entry: Sequence[Component]) -> float:
        return float(sum(prices[piece.name] for piece in entry))

    return [Tabulated(term.choices, np.vectorize(total, otypes=[float])(term.pieces)) for term in terms]


def expected_cost(terms: Sequence[Tabulated], base: float) -> GateCost:
    """base + Σ over terms of Σ over combinations of options of value · the product of their gates.

    Differentiable, and jit- and vmap-able; terms of one shape are computed together.
    """
    groups: Mapping[tuple, list[Tabulated]] = defaultdict(list)
    for term in terms:
        groups[tuple(part for part, _ in term.choices), term.values.shape].append(term)

    def cost(gates: Gates) -> Array:
        total = jnp.asarray(base, jnp.float32)
        for (parts, _), members in groups.items():
            values = jnp.asarray(np.stack([term.values for term in members]), jnp.float32)
            rows = [np.asarray([term.choices[axis][1] for term in members]) for axis in range(len(parts))]
            factors = [gates[part][row] for part, row in zip(parts, rows, strict=True)]
            axes = string.ascii_lowercase[: len(parts)]
            total += jnp.einsum(",".join([f"z{axes}", *(f"z{axis}" for axis in axes)]) + "->", values, *factors)
        return total

    return cost


def exact_cost(terms: Sequence[Tabulated], base: float, architecture: Architecture) -> float:
    """The cost of a concrete architecture in double precision: exact for counts."""
    chosen = {part: np.asarray(options) for part, options in architecture.items()}
    return base + sum(float(term.values[tuple(chosen[part][row] for part, row in term.choices)]) for term in terms)


class CostModel(NamedTuple):
    """A cost of a family: what its architectures have in common (base), its terms, and its unit, for people."""

    name: str
    unit: str
    base: float
    terms: tuple[Tabulated, ...]

    @property
    def expected(self) -> GateCost:
        """Gates -> expected cost, float32 (counts of more than 16 million are rounded in their eighth digit)."""
        return expected_cost(self.terms, self.base)

    def exact(self, architecture: Architecture) -> float:
        """The cost of a concrete architecture."""
        return exact_cost(self.terms, self.base, architecture)


def counted_cost(family: Family, images: Images, name: str) -> CostModel:
    """The parameters ("params") or multiply-adds ("mult_adds") of a family's stand-alone networks."""
    field = COUNTED.index(name)
    terms = tabulate(family.terms(), lambda piece: float(network_cost(piece.module, piece.input_shape)[field]))
    reference = random(family.space, jax.random.key(0))
    whole = network_cost(family.network(reference, None), images.shape)[field]
    unit = {"params": "parameters", "mult_adds": "mult-adds"}[name]
    return CostModel(name, unit, whole - exact_cost(terms, 0.0, reference), tuple(terms))
