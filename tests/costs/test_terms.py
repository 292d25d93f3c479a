"""Costs of gates: the sum of the pieces is the whole, and the cost at probabilities is the enumerated expectation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs.search import spaces
from jaxnas.costs.counting import network_cost
from jaxnas.costs.terms import exact_cost, expected_cost, mult_adds_cost, params_cost, table_cost, tabulate
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode, random

IMAGES = Images(8, 8, 2, classes=3)
LARGE = Images(32, 32, 3, classes=10)
CELLS = {"channels": 2, "layers": 1, "nodes": 2, "retrain_channels": 4, "retrain_layers": 3, "retrain_auxiliary": False}
DENSE = ("none", "skip_connect", "conv 1x1", "conv_3x1_1x3")
POOLS = ("none", "skip_connect", "max_pool_5x5")


def settings(space):
    return {name: value for name, value in space.items() if name != "name"}


FAMILY_ROWS = {
    "cells": ("darts", IMAGES, CELLS | {"operations": spaces.OPERATIONS, "reduce_operations": ()}),
    "cells, two sets": ("darts", IMAGES, CELLS | {"operations": DENSE, "reduce_operations": POOLS}),
    "nas_bench_201": ("nas_bench_201", IMAGES, settings(spaces.NAS_BENCH_201_8)),
    "nas_bench_macro": ("nas_bench_macro", LARGE, settings(spaces.NAS_BENCH_MACRO)),
    "proxylessnas": ("proxylessnas", IMAGES, settings(spaces.PROXYLESSNAS_8)),
    "fbnet": ("fbnet", IMAGES, settings(spaces.FBNET_8)),
    "mnasnet": ("mnasnet", IMAGES, settings(spaces.MNASNET_8)),
    "elastic": ("elastic", IMAGES, settings(spaces.ELASTIC_8)),
    "memory_banks": ("memory_banks", IMAGES, settings(spaces.MEMORY_BANKS_8)),
}


@pytest.mark.parametrize("row", FAMILY_ROWS)
def test_pieces_add_up_to_the_whole(row):
    """Exactly on the host: what two random architectures differ in is in the terms; up to float32 as cost of gates."""
    name, images, own = FAMILY_ROWS[row]
    family = FAMILIES[name](images, **own)
    draw = jax.jit(lambda seed: random(family.space, jax.random.key(seed)))
    drawn = [draw(seed) for seed in range(1, 3)]
    wholes = [exact_cost(family, images, architecture) for architecture in drawn]
    for field, build in enumerate((params_cost, mult_adds_cost)):
        values = tabulate(
            family.terms(), lambda piece, field=field: network_cost(piece.module, piece.input_shape)[field]
        )
        first, second = (table_cost(family.terms(), values, architecture) for architecture in drawn)
        assert first - second == wholes[0][field] - wholes[1][field]
        cost = build(family, images)
        expected = jax.jit(lambda one, cost=cost: cost(encode(family.space, one)))
        for architecture, whole in zip(drawn, wholes, strict=True):
            np.testing.assert_allclose(expected(architecture), whole[field], rtol=1e-6)


def test_macro_costs_what_its_authors_count():
    name, images, own = FAMILY_ROWS["nas_bench_macro"]
    family = FAMILIES[name](images, **own)
    for text, counts in {"11111111": (1_588_874, 53_246_464), "22212202": (1_985_514, 85_164_544)}.items():
        architecture = family.space.parse(text)
        assert exact_cost(family, images, architecture) == counts


def pieces(*shape):
    """An object array of tuples of components; every entry has as many as its position tells."""
    entries = np.empty(shape, object)
    for number, position in enumerate(np.ndindex(*shape)):
        entries[position] = tuple(Component(f"piece {number} {i}", nn.Module(), (1, 1, 1)) for i in range(number % 3))
    return entries


SPACE = product_space("two", {"kernel": ("3", "5"), "width": ("1", "2", "3")}, {"kernel": 3, "width": 2})
TERMS = [
    Term((("kernel", 0),), pieces(2)),
    Term((("kernel", 1), ("width", 0)), pieces(2, 3)),
    Term((("kernel", 2), ("width", 1)), pieces(2, 3)),
    Term((("kernel", 2), ("width", 0), ("width", 1)), pieces(2, 3, 3)),
]


def test_expectation_is_that_of_all_architectures():
    """In value and gradient, for terms of one, two and three choices; 72 architectures."""
    prices = {}
    rng = np.random.default_rng(0)
    tables = tabulate(TERMS, lambda piece: prices.setdefault(piece.name, rng.uniform(1, 2)))
    cost = expected_cost(SPACE, TERMS, tables, base=3.0)
    logits = {part: rng.standard_normal(shape, np.float32) for part, shape in SPACE.shapes.items()}
    kernels, widths = itertools.product(range(2), repeat=3), itertools.product(range(3), repeat=2)
    all_chosen = [{"kernel": kernel, "width": width} for kernel, width in itertools.product(kernels, widths)]
    costs = np.asarray([3.0 + table_cost(TERMS, tables, chosen) for chosen in all_chosen])

    def expected(logits):
        return cost(jax.tree.map(jax.nn.softmax, logits))

    def enumerated(logits):
        chances = 1.0
        for part, values in logits.items():
            options = np.asarray([chosen[part] for chosen in all_chosen])
            chances *= jnp.prod(jax.nn.softmax(values)[np.arange(len(values)), options], axis=1)
        return chances @ costs

    (value, actual), (truth, wanted) = (jax.jit(jax.value_and_grad(one))(logits) for one in (expected, enumerated))
    np.testing.assert_allclose(value, truth, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, wanted)


def test_a_piece_is_priced_once():
    asked = []
    tabulate([TERMS[1], TERMS[1]], lambda piece: asked.append(piece.name) or 1.0)
    assert len(asked) == len(set(asked)) > 0


def test_costs_of_many_architectures_at_once():
    cost = jax.jit(expected_cost(SPACE, TERMS, tabulate(TERMS, lambda piece: 1.0), 0.5))
    keys = jax.random.split(jax.random.key(0), 4)
    gates = jax.device_get(jax.jit(jax.vmap(lambda key: encode(SPACE, random(SPACE, key))))(keys))
    together = jax.jit(jax.vmap(cost))(gates)
    apart = [cost(jax.tree.map(lambda leaf, i=i: leaf[i], gates)) for i in range(4)]
    np.testing.assert_allclose(together, apart, rtol=1e-6)


def test_a_table_of_another_shape():
    with pytest.raises(ValueError, match=r"has shape \(3,\), but its options have \(2,\)"):
        expected_cost(SPACE, TERMS[:1], [np.zeros(3)], 0.0)
