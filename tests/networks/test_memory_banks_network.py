"""Memory banks: one path of the supernet is the stand-alone network of the weights that are written for it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.costs.counting import network_cost
from jaxnas.costs.terms import exact_cost, mult_adds_cost, params_cost
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.networks.memory_bank_supernet import block_masks, encoding
from jaxnas.spaces.memory_banks import DILATION, WIDTH, bank_operations, memory_banks_plan
from jaxnas.spaces.space import encode
from tests.networks.few_programs import (
    architectures,
    assert_close,
    convolved,
    largest,
    normal,
    normalized,
    of_positive,
    one_hot,
    one_program,
    perturbed,
    soft_gates,
    trained,
)

IMAGES = Images(4, 8, 2, classes=3)
SETTINGS = {
    "banks": 3,
    "filled": 2,
    "bank_channels": (2, 4),
    "depth": 3,
    "kernels": (1, 3),
    "dilations": (1, 2),
    "bottleneck": 2,
    "width_fractions": (0.5, 1.0),
}
PLAN = memory_banks_plan(**SETTINGS)
WRITER = {"hypernetwork_hidden": 4, "hypernetwork_depth": 1}
FAMILY = FAMILIES["memory_banks"](IMAGES, **SETTINGS, **WRITER)
SPACE = FAMILY.space
# Every option of every kind, and a bank that is read before it is written.
TEXT = "0>1:k1d1w0.5|2>0+2:k3d2w1|0+1+2>2:k3d1w0.5||1+2>0:k1d2w1|0+2>0+1+2:k3d2w0.5|1>2:k3d1w1"


@functools.cache
def inputs():
    return perturbed(FAMILY.supernet()), normal(4, *IMAGES.shape)


class Traced:
    """(params, gates) -> (gradients, logits), compiled, with the number of times it was traced."""

    def __init__(self, **settings):
        network, self.traces = FAMILY.supernet(**settings), 0

        def loss(params, gates):
            self.traces += 1
            logits = network.apply(params, gates, inputs()[1])
            return jnp.sum(jnp.sin(logits)), logits

        self.run = one_program(jax.grad(loss, argnums=(0, 1), has_aux=True))


@functools.cache
def traced(**settings):
    return Traced(**settings)


def test_one_path_is_the_stand_alone_network_with_the_weights_written_for_it():
    """By the batch's own statistics; one program answers for all architectures, with one path or the mixture."""
    with jax.enable_x64(True):
        params, images = inputs()
        for architecture in (SPACE.parse(TEXT), *architectures(SPACE, (3, 4))):
            network = FAMILY.network(architecture, None)
            shapes = jax.eval_shape(lambda network=network: network.init(jax.random.key(0), images, train=False))
            variables = jax.jit(functools.partial(FAMILY.supernet().extract, architecture=architecture))(params)
            assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, dict(shapes))
            expected, _, _ = trained(network, variables, images)
            gates = one_hot(SPACE, architecture)
            assert_close(traced(paths=1).run(params, gates)[1], expected)
            assert_close(traced(recompute=True).run(params, gates)[1], expected)
        assert traced(paths=1).traces == traced(recompute=True).traces == 1


def test_paths_are_the_largest_dilations():
    """Two of two are the mixture; one is the mixture whose other gates vanish, but for the gradients of these."""
    with jax.enable_x64(True):
        params, _ = inputs()
        gates = soft_gates(SPACE, 5)
        assert_close(traced(paths=2).run(params, gates), traced(recompute=True).run(params, gates))
        gates |= {DILATION: largest(gates[DILATION], 1)}
        (params_bar, gates_bar), logits = traced(recompute=True).run(params, gates)
        (own_params_bar, own_gates_bar), own_logits = traced(paths=1).run(params, gates)
        assert_close((own_params_bar, own_logits), (params_bar, logits))
        assert_close(of_positive(gates, own_gates_bar), of_positive(gates, gates_bar))


def test_the_encoding_names_the_banks_and_the_options_of_each_operation():
    gates = encode(SPACE, SPACE.parse(TEXT))
    first, second, *_ = np.asarray(encoding(PLAN, gates), int).tolist()
    assert first == [1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert second == [0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0]


def test_masks_of_soft_gates_are_expectations():
    """The mask of a bank is the probability that it is read, under independent choices of subsets."""
    gates = soft_gates(SPACE, 6)
    masks = one_program(functools.partial(block_masks, PLAN, 1))(gates)
    for place in range(3):
        row = gates["reads"][3 + place]
        expected = [sum(row[k] for k, subset in enumerate(PLAN.subsets) if bank in subset) for bank in range(3)]
        np.testing.assert_allclose(masks.reads[place], expected, rtol=1e-5)
        narrow = gates[WIDTH][3 + place, 1]
        np.testing.assert_allclose(masks.width[place], [1.0] * 4 + [narrow] * 4, rtol=1e-5)


@pytest.mark.parametrize("pattern", ["resnet", "densenet"])
def test_patterns_of_reading_and_writing(pattern):
    """One bank that all add to is a residual network, a new bank for each that all after it read a DenseNet.

    Against these networks written down directly, of the modules' own functions.
    """
    banks, depth = (1, 3) if pattern == "resnet" else (4, 3)
    settings = SETTINGS | {"banks": banks, "filled": 1, "bank_channels": (2,), "depth": depth}
    family = FAMILIES["memory_banks"](IMAGES, **settings, **WRITER)
    reads = ["0"] * 3 if pattern == "resnet" else ["0", "0+1", "0+1+2"]
    writes = ["0"] * 3 if pattern == "resnet" else ["1", "2", "3"]
    text = "|".join(f"{read}>{write}:k3d1w1" for read, write in zip(reads, writes, strict=True))
    network = family.network(family.space.parse(text), None)
    images = normal(2, *IMAGES.shape)
    variables = one_program(lambda key: network.init(key, images, train=False))(jax.random.key(1))
    params = variables["params"]

    def scaled(own, values):
        return normalized(values) * own["scale"] + own["bias"]

    def layer(own, values):
        kernel = own["convolution"]["kernel"]
        kernel = kernel if kernel.ndim == 4 else kernel[None, None]
        return scaled(own["normalization"]["batch_norm"], convolved(values, kernel))

    stages = [layer(params["stem"], images)]
    for number in range(1, 4):
        name = f"block_1_operation_{number}"
        read = stages[-1] if pattern == "resnet" else np.concatenate(stages, axis=-1)
        new = layer(params[f"{name}_write"], np.maximum(layer(params[f"{name}_read"], read), 0))
        stages.append(stages[-1] + new if pattern == "resnet" else new)
    last = stages[-1] if pattern == "resnet" else np.concatenate(stages, axis=-1)
    pooled = np.maximum(scaled(params["normalization"]["batch_norm"], last), 0).mean((1, 2))
    expected = pooled @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(trained(network, variables, images)[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_of_the_hypernetwork_learn_from_every_operation():
    """A gradient reaches the kernels of all shapes and all shared tensors; all weights are named active."""
    with jax.enable_x64(True):
        params, _ = inputs()
        gates = one_hot(SPACE, SPACE.parse(TEXT))
        (gradient, _), _ = traced(paths=1).run(params, gates)
        assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["hypernetwork"]))
        assert np.any(gradient["block_1"]["kernel"] != 0)
        active = one_program(FAMILY.supernet().active)(gates)
        assert jax.tree.structure(active) == jax.tree.structure(params)
        assert all(jax.tree.leaves(active))


def closed_form(settings, images, operations):
    """Parameters and mult-adds by definition."""
    first, banks = settings["filled"] * settings["bank_channels"][0], settings["banks"]
    pixels = images.height * images.width
    params = 9 * images.channels * first + 2 * first
    products = 9 * images.channels * first * pixels
    for block, (channels, own) in enumerate(zip(settings["bank_channels"], operations, strict=True)):
        if block:
            before, after = banks * settings["bank_channels"][block - 1], settings["filled"] * channels
            params += 2 * before + before * after
            products += before * after * pixels
            pixels //= 4
        for one in own:
            read, write = len(one.reads) * channels * one.hidden, one.kernel**2 * one.hidden * channels
            params += read + write + 2 * (one.hidden + channels)
            products += (read + write) * pixels
    last = banks * settings["bank_channels"][-1]
    return params + 2 * last + (last + 1) * images.classes, products + last * images.classes


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_of_the_space_costs_what_its_definition_says(seed):
    own = {name: value for name, value in spaces.MEMORY_BANKS.items() if name != "name"}
    images = Images(32, 32, 3, classes=10)
    family = FAMILIES["memory_banks"](images, **own)
    (architecture,) = architectures(family.space, [seed])
    plan = memory_banks_plan(**{name: value for name, value in own.items() if not name.startswith("hypernetwork")})
    assert exact_cost(family, images, architecture) == closed_form(own, images, bank_operations(plan, architecture))


def test_expected_cost_is_the_enumerated_one():
    """Of all 36 architectures of one operation."""
    own = SETTINGS | {"banks": 2, "filled": 1, "bank_channels": (2,), "depth": 1, "dilations": (2,)}
    family = FAMILIES["memory_banks"](IMAGES, **own, **WRITER)
    shapes = family.space.shapes
    gates = soft_gates(family.space)
    enumerated = np.zeros(2)
    for chosen in itertools.product(*(range(options) for _, options in shapes.values())):
        architecture = {part: np.asarray([option]) for part, option in zip(shapes, chosen, strict=True)}
        cost = np.asarray(network_cost(family.network(architecture, None), IMAGES.shape))
        enumerated += cost * np.prod([gates[part][0, option] for part, option in zip(shapes, chosen, strict=True)])
    actual = [one_program(build(family, IMAGES))(gates) for build in (params_cost, mult_adds_cost)]
    np.testing.assert_allclose(actual, enumerated, rtol=1e-5)


def test_drop_path_drops_what_operations_write():
    images = normal(4, *IMAGES.shape)
    network = FAMILY.network(SPACE.parse(TEXT), None)
    variables = jax.jit(lambda: network.init(jax.random.key(0), images, train=False))()
    run = jax.jit(
        lambda rate, key: network.apply(
            variables, images, train=True, drop_path_rate=rate, mutable=["batch_stats"], rngs={"drop_path": key}
        )[0][0]
    )
    without, once, again = (run(rate, jax.random.key(key)) for rate, key in ((0.0, 0), (0.5, 0), (0.5, 1)))
    expected, _, _ = trained(network, variables, images)
    np.testing.assert_allclose(without, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(without, once, atol=1e-3)
    assert not np.allclose(once, again, atol=1e-3)


def test_names_of_the_choices():
    assert set(FAMILY.rows) == set(SPACE.shapes)
    assert FAMILY.rows["reads"][:4] == (*(f"block 1 operation {number}" for number in (1, 2, 3)), "block 2 operation 1")


def test_images_that_cannot_be_halved():
    with pytest.raises(UserError, match="images of 4x5 pixels cannot be halved 1 times, which 2 blocks do; take mult"):
        FAMILIES["memory_banks"](IMAGES._replace(width=5), **SETTINGS, **WRITER)
    network = FAMILY.network(SPACE.parse(TEXT), None)
    with pytest.raises(UserError, match="images of 3x4 pixels cannot be halved"):
        jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, 3, 4, 2)), train=False))
