"""Costs as functions of gates: a constant, and a table for each part of a network that choices decide.

For gates that are the probabilities of independent choices the value is the expected cost, as ProxylessNAS (Cai, Zhu &
Han 2019) and FBNet (Wu et al. 2019) use it; for one-hot gates it is the cost of that architecture.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Architecture, Array, Gates, Space
from jaxnas.costs.counting import Cost, network_cost
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.relax.quantized import UNQUANTIZED

ExpectedCost = Callable[[Gates], Array]  # gates -> cost, a scalar in the unit of its tables
# (cost, bits of the weights and of the activations) -> a number, proportional to the cost
Figure = Callable[[Cost, tuple[int, int]], int]


def tabulate(terms: Sequence[Term], measure: Callable[[Component], float]) -> list[np.ndarray]:
    """What every entry of every term costs: float64 tables shaped as the terms' pieces, sums over their components.

    Each distinct name of a component is measured once.
    """
    known: dict[str, float] = {}

    def total(components: Sequence[Component]) -> float:
        for component in components:
            if component.name not in known:
                known[component.name] = measure(component)
        return sum(known[component.name] for component in components)

    tables = []
    for term in terms:
        table = np.asarray([total(components) for components in term.pieces.flat], np.float64)
        tables.append(table.reshape(term.pieces.shape))
    return tables


def components(terms: Sequence[Term]) -> dict[str, Component]:
    """The distinct components of some terms by name, in the order in which they first occur."""
    found: dict[str, Component] = {}
    for term in terms:
        for pieces in term.pieces.flat:
            for component in pieces:
                found.setdefault(component.name, component)
    return found


def table_cost(terms: Sequence[Term], values: Sequence[np.ndarray], architecture: Architecture) -> float:
    """What the terms of one concrete architecture cost, summed in float64; values: as `tabulate` gives them."""
    options = {part: np.asarray(numbers) for part, numbers in architecture.items()}
    return float(
        sum(
            table[tuple(options[part][row] for part, row in term.choices)]
            for term, table in zip(terms, values, strict=True)
        )
    )


def expected_cost(space: Space, terms: Sequence[Term], values: Sequence[np.ndarray], base: float) -> ExpectedCost:
    """Gates {part: [choices, options]} -> base + the sum of every term's table under the gates of its choices.

    The value is linear in the gates of each choice, as long as no term names a choice twice, and so the exact
    expectation over independent choices; it works under jit, vmap and differentiation. Terms of the same parts are
    contracted together. Computed in float32: with terms of one sign the relative error is about 1e-6.
    Raises ValueError for a table that does not have an axis as long as its options for each choice of the term.
    """
    groups: dict[tuple[str, ...], list[tuple[tuple[int, ...], np.ndarray]]] = {}
    for term, table in zip(terms, values, strict=True):
        parts = tuple(part for part, _ in term.choices)
        shape = tuple(space.shapes[part][1] for part in parts)
        if table.shape != shape:
            raise ValueError(f"the table of {term.choices} has shape {table.shape}, but its options have {shape}.")
        groups.setdefault(parts, []).append((tuple(row for _, row in term.choices), table))
    contractions = [
        _contraction(parts, np.asarray([rows for rows, _ in group]), np.stack([table for _, table in group]))
        for parts, group in groups.items()
    ]

    def cost(gates: Gates) -> Array:
        return sum((contract(gates) for contract in contractions), start=jnp.asarray(base, jnp.float32))

    return cost


def _contraction(parts: tuple[str, ...], rows: np.ndarray, tables: np.ndarray) -> Callable[[Gates], Array]:
    """The sum of tables [terms, options, ...] under the gates of rows [terms, choices] of these parts."""
    tables = tables.astype(np.float32)
    axes = list(range(1, len(parts) + 1))

    def contract(gates: Gates) -> Array:
        operands = []
        for number, part in enumerate(parts):
            operands += [gates[part][rows[:, number]], [0, axes[number]]]
        # Accelerators would round the tables to fewer digits.
        return jnp.einsum(tables, [0, *axes], *operands, [], precision=jax.lax.Precision.HIGHEST)

    return contract


def params_cost(family: Family, images: Images) -> ExpectedCost:
    """The number of parameters of the family's stand-alone networks, an auxiliary head included; see `counted_cost`."""
    return counted_cost(family, images, lambda cost, bits: cost.params)


def mult_adds_cost(family: Family, images: Images) -> ExpectedCost:
    """Multiply-adds of the family's stand-alone networks for one image; see `counted_cost`."""
    return counted_cost(family, images, lambda cost, bits: cost.mult_adds)


def bit_operations_cost(family: Family, images: Images) -> ExpectedCost:
    """Bit operations of the family's stand-alone networks for one image; see `bit_operations` and `counted_cost`."""
    return counted_cost(family, images, bit_operations)


def bit_operations(cost: Cost, bits: tuple[int, int]) -> int:
    """Multiply-adds times the bits of the weights and those of the activations, BitOPs (Guo et al. 2020, section 4.3).

    What is not quantised counts as 32 x 32: stems, heads, classifiers, and all blocks whose names tell no bits.
    """
    return cost.mult_adds * bits[0] * bits[1]


# The costs that are counted: how each is built, and its unit.
COUNTED: Mapping[str, tuple[Callable[[Family, Images], ExpectedCost], str]] = {
    "params": (params_cost, "parameters"),
    "mult_adds": (mult_adds_cost, "mult-adds"),
    "bit_operations": (bit_operations_cost, "BitOPs"),
}


def counted_cost(family: Family, images: Images, figure: Figure) -> ExpectedCost:
    """A figure of `counting.network_cost` as a function of gates.

    Tables and constant are exact integers, counted without running anything; only the sum over the terms is in float32
    (see `expected_cost`). `exact_cost` and `exact_figure` count one architecture without rounding.
    """
    terms = family.terms()
    values, unquantized = _tables(terms, figure)
    reference = family.space.decode({part: jnp.zeros(shape) for part, shape in family.space.shapes.items()})
    whole = figure(exact_cost(family, images, reference), UNQUANTIZED)
    return expected_cost(family.space, terms, values, whole - table_cost(terms, unquantized, reference))


def exact_cost(family: Family, images: Images, architecture: Architecture) -> Cost:
    """Parameters and multiply-adds of one concrete architecture's stand-alone network, exact integers."""
    return network_cost(family.network(architecture, None), images.shape)


def exact_figure(family: Family, images: Images, architecture: Architecture, figure: Figure) -> int:
    """A figure of one concrete architecture's stand-alone network, an exact integer."""
    terms = family.terms()
    values, unquantized = (table_cost(terms, tables, architecture) for tables in _tables(terms, figure))
    return figure(exact_cost(family, images, architecture), UNQUANTIZED) + round(values - unquantized)


# Every figure of a space asks for the same pieces again.
_piece_cost = functools.lru_cache(maxsize=4096)(network_cost)


def _tables(terms: Sequence[Term], figure: Figure) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The tables of a figure, and what they would be if nothing were quantised."""
    costs = {name: _piece_cost(piece.module, piece.input_shape) for name, piece in components(terms).items()}
    return (
        tabulate(terms, lambda piece: figure(costs[piece.name], piece.bits)),
        tabulate(terms, lambda piece: figure(costs[piece.name], UNQUANTIZED)),
    )
