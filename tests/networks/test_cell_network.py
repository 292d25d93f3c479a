import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import count_params
from jaxnas.layers.normalization import batch_norm
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.layers.operations import Source
from jaxnas.networks.cell_network import Cell, CellNetwork
from jaxnas.networks.cell_operations import OPERATIONS, FactorizedReduction
from jaxnas.networks.initial import init_variables
from jaxnas.spaces.genotype import parse_genotype
from jaxnas.spaces.zoo import ZOO, Genotype
from tests.networks.few_programs import (
    applied,
    assert_close,
    convolved,
    init_and_apply,
    normal,
    normalized,
    one_program,
    trained,
    trained_on_devices,
)

POOLS = Genotype((("max_pool_3x3", 0), ("skip_connect", 1)), (2,), (("avg_pool_3x3", 0), ("skip_connect", 1)), (2,))
SMALL = CellNetwork(POOLS, channels=4, layers=2, classes=3)
# Cells that a research log of searches in a modified P-DARTS prints (June 2021).
EXPERIMENT_17 = (
    "Genotype(normal=[('dil_conv_3x3', 0), ('sep_conv_5x5', 1), ('conv 3x3', 0), ('conv_3x1_1x3', 1), "
    "('conv 3x3', 0), ('conv 3x3', 1), ('conv_3x1_1x3', 1), ('conv 3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_7x7', 0), ('max_pool_3x3', 1), ('max_pool_7x7', 0), ('avg_pool_3x3', 2), "
    "('max_pool_7x7', 1), ('max_pool_5x5', 3), ('max_pool_7x7', 0), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
EXPERIMENT_34 = (
    "Genotype(normal=[('conv 1x1', 0), ('sep_conv_3x3', 1), ('conv 1x1', 0), ('conv 3x3', 1), "
    "('conv 1x1', 0), ('conv 3x3', 1), ('skip_connect', 0), ('conv 1x1', 1)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_5x5', 0), ('avg_pool_3x3', 1), ('max_pool_7x7', 0), ('max_pool_3x3', 2), "
    "('skip_connect', 1), ('max_pool_3x3', 3), ('max_pool_5x5', 0), ('max_pool_5x5', 2)], reduce_concat=range(2, 6))"
)


@functools.cache
def variables_of(network, shape):
    return one_program(lambda key: network.init(key, jnp.zeros((1, *shape)), train=False))(jax.random.key(1))


def shapes_of(network, images, train, **streams):
    """The logits' shapes of initialising and applying a network, without computing anything."""

    def run(images):
        variables = network.init(jax.random.key(0), images, train=False)
        mutable = ["batch_stats"] if train else False
        result = network.apply(variables, images, train=train, mutable=mutable, **streams)
        return result[0] if train else result

    return jax.tree.map(jnp.shape, jax.eval_shape(run, jax.ShapeDtypeStruct(images, jnp.float32)))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize(("stem", "size"), [("cifar", (8, 8, 3)), ("cifar", (7, 5, 1)), ("imagenet", (33, 40, 2))])
def test_published_cells_take_images_of_any_size(name, stem, size):
    network = CellNetwork(ZOO[name], channels=2, layers=3, classes=7, stem=stem)
    assert shapes_of(network, (4, *size), train=True) == ((4, 7), None)


@pytest.mark.parametrize(("stem", "size"), [("cifar", 32), ("cifar", 45), ("imagenet", 224), ("imagenet", 200)])
def test_the_auxiliary_head_answers_in_training_only(stem, size):
    network = CellNetwork(ZOO["DARTS_V2"], channels=2, layers=3, classes=7, stem=stem, auxiliary=True)
    assert shapes_of(network, (4, size, size, 3), train=True) == ((4, 7), (4, 7))
    assert shapes_of(network, (4, size, size, 3), train=False) == ((4, 7), None)


@pytest.mark.parametrize(("stem", "size", "map_size"), [("cifar", 28, 7), ("imagenet", 192, 6)])
def test_maps_too_small_for_the_auxiliary_head(stem, size, map_size):
    network = CellNetwork(ZOO["DARTS_V2"], channels=2, layers=3, classes=7, stem=stem, auxiliary=True)
    with pytest.raises(UserError, match=f"gets {map_size}x{map_size}; take larger images"):
        shapes_of(network, (4, size, size, 3), train=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "at least 1 layer"),
        ({"channels": 0}, "at least 1 of channels"),
        ({"classes": 0}, "at least 1 of classes"),
        ({"stem": "imagnet"}, "did you mean 'imagenet'"),
        ({"stem": "imagenet", "channels": 3}, "channels has to be even"),
        ({"genotype": POOLS._replace(normal=(("skip", 0), ("skip_connect", 1)))}, "did you mean 'skip_connect'"),
    ],
)
def test_mistaken_settings(changes, message):
    settings = {"genotype": POOLS, "channels": 4, "layers": 2, "classes": 3} | changes
    with pytest.raises(UserError, match=message):
        CellNetwork(**settings)


def operation(name, stride, channels):
    return OPERATIONS[name](channels, stride, None, name)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("stride", "size"), [(1, (5, 4)), (2, (6, 4)), (2, (5, 7))])
def test_operations_round_sizes_up(name, stride, size):
    run = functools.partial(init_and_apply, operation(name, stride, channels=2))
    _, output = jax.eval_shape(run, normal(2, *size, 2))
    assert output.shape == (2, -(-size[0] // stride), -(-size[1] // stride), 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("name", "size"), [("conv_3x1_1x3", 3), ("conv_7x1_1x7", 7)])
def test_rows_then_columns(name, size, stride):
    """A convolution strided along rows and one strided along columns, each with one kernel."""
    images = normal(2, 6, 5, 3)
    variables, output = applied(operation(name, stride, channels=3), images)
    rows, columns = (variables["params"][axis]["kernel"] for axis in ("rows", "columns"))
    assert rows.shape[:2] == columns.shape[:2] == (1, size)
    hidden = convolved(np.maximum(images, 0), rows, (1, stride))
    hidden = convolved(hidden, columns.swapaxes(0, 1), (stride, 1))
    np.testing.assert_allclose(output, normalized(hidden), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("name", "sizes"), [("conv 1x1", (1,)), ("conv 3x3", (3,)), ("conv_1x1_3x3", (1, 3))])
def test_dense_convolutions(name, sizes, stride):
    """One after another without anything between, the stride in the last."""
    images = normal(2, 6, 5, 3)
    variables, output = applied(operation(name, stride, channels=3), images)
    hidden = np.maximum(images, 0)
    for number, size in enumerate(sizes, start=1):
        kernel = variables["params"][f"convolution_{number}"]["kernel"]
        assert kernel.shape[:2] == (size, size)
        hidden = convolved(hidden, kernel, (stride, stride) if number == len(sizes) else (1, 1))
    np.testing.assert_allclose(output, normalized(hidden), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [name for name in CANDIDATES if name in OPERATIONS])
def test_operations_are_those_of_the_supernet(name, stride):
    """With the weights of the one in the other, in training; pools are normalised in the supernet only."""
    images = normal(2, 6, 4, 2)
    variables, expected = applied(operation(name, stride, channels=2), images)
    candidate = CANDIDATES[name]
    kernels = {path[0].key: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("params", {}))}
    kernels = {place: leaf for place, leaf in kernels.items() if leaf.ndim > 1}
    shapes = candidate.shapes(2, stride)
    places = [place.replace("kernel", "convolution") for place in shapes]
    weights = {own: kernels[place].reshape(shapes[own]) for own, place in zip(shapes, places, strict=True)}
    assert len(weights) == len(kernels)

    @jax.jit
    def run(weights, images):
        output = candidate.apply(weights, Source(images, jax.nn.relu(images)), stride, None)
        return batch_norm(output) if "pool" not in name and candidate.normalized(stride) else output

    np.testing.assert_allclose(run(weights, images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "params", "logged"), [(EXPERIMENT_17, 9_814_654, 9.81), (EXPERIMENT_34, 5_366_998, 5.36)]
)
def test_sizes_that_the_log_reports(text, params, logged):
    """At 36 channels and 20 layers without a second classifier; the log cuts off after two digits of millions."""
    network = CellNetwork(parse_genotype(text), channels=36, layers=20, classes=10)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), normal(1, 32, 32, 3))
    assert count_params(shapes["params"]) == params
    assert int(params / 1e4) / 100 == logged


def test_one_normalisation_for_rows_and_columns():
    """2 · 3 · c² weights and one scale and shift: with two normalisations experiment 17 would have 6,048 more."""
    run = functools.partial(init_and_apply, operation("conv_3x1_1x3", 1, channels=5))
    variables, _ = jax.eval_shape(run, normal(1, 3, 3, 5))
    assert count_params(variables["params"]) == 2 * 3 * 5**2 + 2 * 5


@pytest.mark.parametrize("size", [(4, 6), (5, 3)])
def test_factorized_reduction(size):
    images = normal(2, *size, 3)
    variables, output = applied(FactorizedReduction(4, None), images)
    grown = np.maximum(np.pad(images, ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0))), 0)
    halves = [
        grown[:, start::2, start::2] @ variables["params"][name]["kernel"][0, 0]
        for start, name in enumerate(("even", "odd"))
    ]
    np.testing.assert_allclose(output, normalized(np.concatenate(halves, axis=-1)), rtol=1e-4, atol=1e-4)


def test_weights_start_as_in_pytorch():
    """Uniform on ±1/√fan-in: the largest is near the bound, and the mean square is a third of the bound's."""
    network = CellNetwork(ZOO["AmoebaNet"], channels=8, layers=2, classes=50, auxiliary=True)
    params = variables_of(network, (32, 32, 3))["params"]
    kernels = [
        (path[-2].key, leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key == "kernel" and leaf.size >= 256
    ]
    assert len(kernels) > 20
    for name, kernel in kernels:
        # Depthwise kernels are [size, size, channels], and every channel sees itself alone.
        fan_in = kernel.size // kernel.shape[-1]
        assert kernel.ndim == 3 if name.startswith("depthwise") else kernel.ndim in (2, 4)
        scaled = kernel * np.sqrt(fan_in)
        assert 0.97 < np.abs(scaled).max() <= 1.0
        assert abs(np.mean(scaled**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / scaled.size)
        assert abs(np.mean(scaled)) < 5 * np.sqrt(1 / 3 / scaled.size)


def test_running_statistics_move_a_tenth_towards_the_batch():
    images = 2 + normal(5, 6, 6, 3)
    variables = variables_of(SMALL, (6, 6, 3))
    stem = convolved(images, variables["params"]["stem"]["convolution_0"]["kernel"])
    stats = trained(SMALL, variables, images)[2]["stem"]["normalization_0"]["batch_norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * stem.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * stem.var((0, 1, 2)), rtol=1e-4)


def test_evaluation_treats_every_example_by_itself():
    images = normal(3, 6, 6, 3)
    variables = variables_of(SMALL, (6, 6, 3))
    answer = jax.jit(lambda images: SMALL.apply(variables, images, train=False)[0])
    alone = np.concatenate([answer(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(answer(images), alone, rtol=1e-4, atol=1e-5)


def test_statistics_shared_over_devices_are_those_of_the_whole_batch():
    images = normal(8, 6, 6, 3)
    variables = variables_of(SMALL, (6, 6, 3))
    whole, _, whole_stats = trained(SMALL, variables, images)
    parts, stats = trained_on_devices(SMALL, variables, images.reshape(4, 2, 6, 6, 3))
    np.testing.assert_allclose(parts.reshape(8, 3), whole, rtol=1e-3, atol=1e-4)
    assert_close(stats, whole_stats, rtol=1e-4, atol=1e-5)


def cell_output(edges, images, rate, reduction=False):
    cell = Cell(edges, (2,), 4, reduction, halve_first=False, axis_name=None)
    return applied(cell, images, images, rate=rate)[1]


def test_drop_path_drops_examples_and_rescales_the_rest():
    images = normal(64, 4, 4, 3)
    edges = (("max_pool_3x3", 0), ("none", 0))
    kept, dropped = (cell_output(edges, images, rate) for rate in (0.0, 0.25))
    gone = np.all(dropped == 0, axis=(1, 2, 3))
    np.testing.assert_allclose(dropped[~gone], kept[~gone] / 0.75, rtol=1e-5)
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 64)


def test_drop_path_spares_the_identity_but_not_a_strided_skip():
    images = normal(8, 4, 4, 3)
    edges = (("skip_connect", 0), ("none", 1))
    np.testing.assert_array_equal(cell_output(edges, images, 0.9), cell_output(edges, images, 0.0))
    strided = [cell_output(edges, images, rate, reduction=True) for rate in (0.9, 0.0)]
    assert np.any(np.all(strided[0] == 0, axis=(1, 2, 3))) and not np.any(np.all(strided[1] == 0, axis=(1, 2, 3)))


def test_the_drop_path_rate_may_be_traced():
    variables, images = variables_of(SMALL, (6, 6, 3)), normal(4, 6, 6, 3)

    @jax.jit
    def logits(rate):
        rngs = {"drop_path": jax.random.key(0)}
        return SMALL.apply(variables, images, train=True, drop_path_rate=rate, rngs=rngs, mutable=["batch_stats"])[0][0]

    undropped, _, _ = trained(SMALL, variables, images)
    np.testing.assert_allclose(logits(0.0), undropped, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(logits(0.5) - undropped)) > 1e-3


def test_init_variables_is_distributed_as_the_modules_say():
    """Same shapes; every leaf within the module's bounds and, where it has enough entries, filling them."""
    network = CellNetwork(ZOO["DARTS_V2"], 4, 3, 10)
    image = jnp.zeros((1, 8, 8, 3))
    expected = one_program(lambda key: network.init(key, image, train=False))(jax.random.key(0))
    actual = one_program(lambda key: init_variables(network, key, (8, 8, 3)))(jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)

    def check(a, b):
        if a.size >= 100:  # the largest of 100 uniforms is below 0.9 of the bound once in 30,000 draws
            assert 0.85 < np.abs(a).max() / np.abs(b).max() < 1.18
            assert abs(a.mean()) < 5 * a.std() / a.size**0.5
        elif b.std() == 0:
            np.testing.assert_array_equal(a, b)

    jax.tree.map(check, actual, expected)
