"""Bit operations of networks in mixed precision: exact, by hand, and as a cost of gates with a limit."""

import functools
import itertools

import jax
import numpy as np

from configs.search import spaces
from jaxnas.costs.constraints import attainable, derive_within
from jaxnas.costs.terms import (
    bit_operations,
    bit_operations_cost,
    exact_cost,
    exact_figure,
    mult_adds_cost,
)
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.spaces.space import encode, random

IMAGES = Images(8, 8, 1, classes=10)
NAMES = ("residual_w1_a2", "residual_w3_a4", "residual", "identity")
BITS = {"residual_w1_a2": 1 * 2, "residual_w3_a4": 3 * 4, "residual": 32 * 32, "identity": 32 * 32}
SETTINGS = {"stem": 3, "stem_stride": 1, "widths": (3, 5), "depths": (1, 1), "strides": (1, 2), "head": 7}
FAMILY = FAMILIES["resnet"](IMAGES, **SETTINGS, candidates=NAMES)
ALL = list(itertools.product(range(len(NAMES)), repeat=2))


def by_hand(options):
    """Every layer's multiply-adds: output pixels · kernel · channels in · channels out; (parameters, BitOPs)."""
    first, second = (NAMES[option] for option in options)
    params = [9 * 3 + 2 * 3, 0, 0, 5 * 7 + 2 * 7, 7 * 10 + 10]
    total = 1024 * (64 * 9 * 1 * 3 + 16 * 5 * 7 + 7 * 10)
    if first != "identity":
        params[1] = 2 * (9 * 3 * 3 + 2 * 3) + 2 * (first != "residual")
        total += BITS[first] * 2 * 64 * 9 * 3 * 3
    if second == "identity":
        params[2] = 3 * 5 + 2 * 5
        total += BITS[second] * 16 * 3 * 5
    else:
        params[2] = 9 * 3 * 5 + 9 * 5 * 5 + 3 * 5 + 3 * 2 * 5 + 2 * (second != "residual")
        total += BITS[second] * 16 * (9 * 3 * 5 + 9 * 5 * 5 + 3 * 5)
    return sum(params), total


@functools.cache
def counted():
    """The BitOPs of all architectures in float64, and as a cost of gates."""
    return np.asarray([by_hand(options)[1] for options in ALL], float), jax.jit(bit_operations_cost(FAMILY, IMAGES))


def test_every_architecture_by_hand():
    exact, cost = counted()
    costs = jax.jit(jax.vmap(lambda blocks: cost(encode(FAMILY.space, {"blocks": blocks}))))(np.asarray(ALL))
    np.testing.assert_allclose(costs, exact, rtol=1e-6)
    for options in ALL[::5]:
        architecture = {"blocks": np.asarray(options)}
        assert exact_figure(FAMILY, IMAGES, architecture, bit_operations) == by_hand(options)[1]
        assert exact_cost(FAMILY, IMAGES, architecture).params == by_hand(options)[0]


def test_the_expectation_is_that_of_all_architectures():
    exact, cost = counted()
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(NAMES)), 2)
    joint = np.outer(*probabilities).ravel()
    np.testing.assert_allclose(cost({"blocks": probabilities}), joint @ exact, rtol=1e-5)


def test_within_a_limit():
    """Within it, and no better one within it differs in one choice only."""
    exact, cost = counted()
    logits = {"blocks": 2 * np.random.default_rng(1).standard_normal((2, len(NAMES)), np.float32)}
    np.testing.assert_allclose(attainable(FAMILY.space, cost), [exact.min(), exact.max()], rtol=1e-6)
    worth = np.add.outer(*logits["blocks"]).ravel()  # log-probabilities, up to one number for all
    for limit in np.quantile(exact, (0.1, 0.4, 0.7)):
        found = derive_within(FAMILY.space, cost, float(limit), logits)
        options = tuple(np.asarray(found["blocks"]).tolist())
        number = ALL.index(options)
        assert exact[number] <= limit * (1 + 1e-6)
        near = np.asarray([sum(map(int.__ne__, options, others)) < 2 for others in ALL]) & (exact <= limit)
        assert worth[number] >= worth[near].max() - 1e-5


def test_without_quantised_blocks_every_multiply_add_counts_32_times_32():
    settings = {name: value for name, value in spaces.NAS_BENCH_201_8.items() if name != "name"}
    family = FAMILIES["nas_bench_201"](IMAGES, **settings)
    gates = jax.jit(lambda key: encode(family.space, random(family.space, key)))(jax.random.key(0))
    costs = [jax.jit(build(family, IMAGES))(gates) for build in (bit_operations_cost, mult_adds_cost)]
    np.testing.assert_allclose(costs[0], 1024 * costs[1], rtol=1e-6)
