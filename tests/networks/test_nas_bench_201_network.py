import jax
import jax.numpy as jnp
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

MIXED = ("nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3", "skip_connect", "nor_conv_1x1", "none")


def images_of(*shape):
    return jax.random.normal(jax.random.key(0), shape)


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


def cell_output(architecture, images, rate=0.0):
    cell = BenchmarkCell(tuple(architecture), None)
    variables = cell.init(jax.random.key(1), images, False, 0.0)
    rngs = {"drop_path": jax.random.key(2)}
    return cell.apply(variables, images, True, rate, rngs=rngs, mutable=["batch_stats"])[0]


@pytest.mark.parametrize("kept", range(64))
def test_a_cell_of_identities_counts_the_paths_through_it(kept):
    """Every path from the input to the last node carries the input there once: four with all edges, or fewer."""
    present = [bool(kept >> edge & 1) for edge in range(6)]
    paths = [1, 0, 0, 0]
    for (source, node), here in zip(EDGES, present, strict=True):
        paths[node + 1] += here * paths[source]
    images = images_of(1, 2, 2, 1)
    output = cell_output(("skip_connect" if here else "none" for here in present), images)
    np.testing.assert_allclose(output, paths[-1] * images, rtol=1e-6)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_the_supernet(name):
    """With the weights of the one in the other, in training, where a new normalisation has neither scale nor shift."""
    images = images_of(2, 5, 4, 3)
    module = CELL_OPERATIONS[name](3, 1, None, name)
    variables = module.init(jax.random.key(1), images, True)
    expected = module.apply(variables, images, True, mutable=["batch_stats"])[0]
    candidate = CANDIDATES[SUPERNET_OPERATIONS[name]]
    kernels = [leaf for leaf in jax.tree.leaves(variables) if leaf.ndim == 4]
    shapes = candidate.shapes(3, 1)
    assert [kernel.shape for kernel in kernels] == list(shapes.values())
    output = candidate.apply(dict(zip(shapes, kernels, strict=True)), Source(images, jax.nn.relu(images)), 1, None)
    output = batch_norm(output) if candidate.normalized(1) else output
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_the_residual_block_is_its_shortcut_where_the_second_normalisation_is_zero():
    images = images_of(2, 4, 6, 3)
    block = ResidualReduction(5, None)
    variables = block.init(jax.random.key(1), images, False)
    params = variables["params"]
    scale = params["second"]["Normalization_0"]["batch_norm"]["scale"]
    params["second"]["Normalization_0"]["batch_norm"]["scale"] = jnp.zeros_like(scale)
    means = (images[:, ::2, ::2] + images[:, 1::2, ::2] + images[:, ::2, 1::2] + images[:, 1::2, 1::2]) / 4
    output = block.apply({**variables, "params": params}, images, False)
    np.testing.assert_allclose(output, means @ params["shortcut"]["kernel"][0, 0], rtol=1e-5, atol=1e-6)


def test_it_trains_and_draws_its_weights_at_once():
    """Logits in both modes; statistics move in training only; no auxiliary logits; `init_variables` fits it."""
    network = NasBench201Network(MIXED, channels=2, cells=1, classes=3)
    images = images_of(4, 8, 4, 3)
    variables = init_variables(network, jax.random.key(1), (8, 4, 3))
    (logits, auxiliary), updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    assert (logits.shape, auxiliary) == ((4, 3), None)
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), updated["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(changed))
    assert network.apply(variables, images[:1], train=False)[0].shape == (1, 3)
    assert count_params(variables["params"]) == closed_form(MIXED, 2, 1, 3, 32).params


def test_drop_path_drops_pools_of_examples_and_spares_identities():
    images = images_of(64, 2, 2, 1)
    pooled = ("none", "none", "none", "avg_pool_3x3", "none", "none")
    kept, dropped = (np.asarray(cell_output(pooled, images, rate)) for rate in (0.0, 0.25))
    gone = np.all(dropped == 0, axis=(1, 2, 3))
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.75, rtol=1e-5)
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 64)
    np.testing.assert_allclose(cell_output(("skip_connect",) * 6, images, 0.9), 4 * images, rtol=1e-6)


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
