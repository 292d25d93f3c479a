import functools
import itertools

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import Cost, count_params, network_cost
from jaxnas.layers.normalization import batch_norm
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.layers.operations import Source
from jaxnas.networks.initial import init_variables
from jaxnas.networks.nas_bench_201 import CELL_OPERATIONS, BenchmarkCell, NasBench201Network, ResidualReduction
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, SUPERNET_OPERATIONS, cell_operations, nas_bench_201_space
from tests.networks.few_programs import applied, init_and_apply, normal, one_program, trained

MIXED = ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "none")


def closed_form(architecture, channels, cells, classes, pixels):
    """Parameters and multiply-adds, added up by hand; a normalisation has two parameters a channel."""
    kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}
    params, products = 27 * channels + 2 * channels, 27 * channels * pixels
    for stage in range(3):
        width, area = channels * 2**stage, pixels // 4**stage
        for taps in [kernels[name] for name in architecture if name in kernels]:
            params += cells * (taps * width**2 + 2 * width)
            products += cells * taps * width**2 * area
        if stage:
            half = width // 2
            weights = 9 * half * width + 9 * width**2 + half * width
            params += weights + 2 * 2 * width
            products += weights * area
    last = 4 * channels
    return Cost(params + 2 * last + last * classes + classes, products + last * classes)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_costs_of_one_operation_on_every_edge(operation):
    settings = {"channels": 3, "cells": 2, "classes": 7}
    network = NasBench201Network((operation,) * 6, **settings)
    assert network_cost(network, (8, 12, 3)) == closed_form((operation,) * 6, pixels=96, **settings)


@pytest.mark.parametrize(
    ("text", "params", "flops"),
    [
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            1.531546,
            220.11969,
        ),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", 0.073306, 7.78305),
    ],
)
def test_costs_listed_by_the_benchmark(text, params, flops):
    """In millions. The benchmark's FLOPs are multiply-adds and, beyond ours, the ten additions of the biases."""
    architecture = cell_operations(nas_bench_201_space().parse(text))
    cost = network_cost(NasBench201Network(architecture), (32, 32, 3))
    assert cost == closed_form(architecture, 16, 5, 10, 1024)
    assert (cost.params, cost.mult_adds + 10) == (round(params * 1e6), round(flops * 1e6))


def cell(*operations):
    return BenchmarkCell(operations, None)


@functools.cache
def identities():
    """Every choice of edges that are there, an image, and what the cells of identities there make of it."""
    chosen, image = list(itertools.product((False, True), repeat=6)), normal(1, 2, 2, 1)
    cells = [cell(*("skip_connect" if here else "none" for here in present)) for present in chosen]
    run = one_program(lambda image: [init_and_apply(one, image, rate=0.0)[1] for one in cells])
    return chosen, image, run(image)


@pytest.mark.parametrize("kept", range(64))
def test_a_cell_of_identities_counts_the_paths_through_it(kept):
    """Every path from the input to the last node carries the input there once: four with all edges, or fewer."""
    chosen, image, outputs = identities()
    paths = [1, 0, 0, 0]
    for (source, node), here in zip(EDGES, chosen[kept], strict=True):
        paths[node + 1] += here * paths[source]
    np.testing.assert_allclose(outputs[kept], paths[-1] * image, rtol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_the_supernet(name):
    """With the weights of the one in the other, in training, where a new normalisation has neither scale nor shift."""
    images = normal(2, 5, 4, 3)
    variables, expected = applied(CELL_OPERATIONS[name](3, 1, None, name), images)
    candidate = CANDIDATES[SUPERNET_OPERATIONS[name]]
    kernels = [leaf for leaf in jax.tree.leaves(variables) if leaf.ndim == 4]
    shapes = candidate.shapes(3, 1)
    assert [kernel.shape for kernel in kernels] == list(shapes.values())

    @jax.jit
    def run(weights, images):
        output = candidate.apply(weights, Source(images, jax.nn.relu(images)), 1, None)
        return batch_norm(output) if candidate.normalized(1) else output

    output = run(dict(zip(shapes, kernels, strict=True)), images)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_the_residual_block_is_its_shortcut_where_the_second_normalisation_is_zero():
    images = normal(2, 4, 6, 3)
    block = ResidualReduction(5, None)
    variables, _ = applied(block, images)
    params = variables["params"]
    params["second"]["Normalization_0"]["batch_norm"]["scale"] = np.zeros(5)
    means = (images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4
    output = jax.jit(lambda variables, images: block.apply(variables, images, False))(variables, images)
    np.testing.assert_allclose(output, means @ params["shortcut"]["kernel"][0, 0], rtol=1e-5, atol=1e-6)


def test_it_trains_and_draws_its_weights_at_once():
    """Logits in both modes; statistics move in training only; no auxiliary logits; `init_variables` fits it."""
    network = NasBench201Network(MIXED, channels=2, cells=1, classes=3)
    images = normal(4, 8, 4, 3)
    variables = jax.jit(lambda key: init_variables(network, key, (8, 4, 3)))(jax.random.key(1))
    logits, auxiliary, updated = trained(network, variables, images)
    assert (logits.shape, auxiliary) == ((4, 3), None)
    changed = jax.tree.map(lambda a, b: np.any(np.not_equal(a, b)), updated, variables["batch_stats"])
    assert all(jax.tree.leaves(changed))
    evaluated = jax.jit(lambda images: network.apply(variables, images, train=False)[0])
    assert evaluated(images[:1]).shape == (1, 3)
    assert count_params(variables["params"]) == closed_form(MIXED, 2, 1, 3, 32).params


def test_drop_path_drops_pools_of_examples_and_spares_identities():
    images = normal(64, 2, 2, 1)
    pooled = cell("none", "none", "none", "avg_pool_3x3", "none", "none")
    kept, dropped = (applied(pooled, images, rate=rate)[1] for rate in (0.0, 0.25))
    gone = np.all(dropped == 0, axis=(1, 2, 3))
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.75, rtol=1e-5)
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 64)
    np.testing.assert_allclose(applied(cell(*["skip_connect"] * 6), images, rate=0.9)[1], 4 * images, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": MIXED[:5]}, "names 5 operations, but has 6 edges"),
        (
            {"architecture": (*MIXED[:5], "nor_conv_5x5")},
            "from state 2 to state 3: 'nor_conv_5x5'; did you mean 'nor_con",
        ),
        ({"channels": 0}, "at least 1 of channels"),
        ({"cells": 0}, "at least 1 of cells"),
        ({"classes": 0}, "at least 1 of classes"),
    ],
)
def test_mistaken_settings(changes, message):
    with pytest.raises(UserError, match=message):
        NasBench201Network(**({"architecture": MIXED} | changes))


def test_images_that_cannot_be_halved_twice():
    with pytest.raises(UserError, match=r"6×4 pixels cannot be halved 2 times; .* multiple of 4"):
        network_cost(NasBench201Network(MIXED), (6, 4, 3))
