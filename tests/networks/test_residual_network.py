"""Wide and bottleneck ResNets: published counts, and whole networks against their definitions in plain jnp."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import network_cost
from jaxnas.networks.census import census
from jaxnas.networks.residual_network import BottleneckResNet, PreactivatedBlock, WideResNet
from tests.networks.random_variables import random_variables

RESNET_50 = BottleneckResNet((3, 4, 6, 3), width=1, expansion=4, classes=1000)
WRN_50_2 = BottleneckResNet((3, 4, 6, 3), width=2, expansion=2, classes=1000)
# Of PyTorch's ResNet-50 and Wide ResNet-50-2, and of the authors' WRN-28-10 (36.5 million).
COUNTS = {
    "wrn_28_10": (WideResNet(28, 10, 10), (32, 32, 3), (36_479_194, 5_243_328_768)),
    "resnet_50": (RESNET_50, (224, 224, 3), (25_557_032, 4_089_184_256)),
    "wrn_50_2": (WRN_50_2, (224, 224, 3), (68_883_240, 11_398_021_120)),
}
WIDE, BOTTLENECKS = WideResNet(16, 1, 3), BottleneckResNet((1, 2), width=1, expansion=2, classes=3)


@pytest.mark.parametrize(("network", "shape", "expected"), COUNTS.values(), ids=COUNTS)
def test_published_counts(network, shape, expected):
    assert network_cost(network, shape) == expected


def sizes(network, shape):
    """{path: (kernel's size, stride, output's height, features)} of every convolution."""
    found = census(network, shape).convolutions
    return {one.name: (one.dense.size[0], one.stride, one.output[0], one.dense.features) for one in found}


def test_a_wide_network_halves_its_maps_twice():
    found = sizes(WideResNet(16, 3, 10), (32, 32, 3))
    assert found.pop("stem") == (3, 1, 32, 16)
    expected = {}
    for group, (size, channels) in enumerate([(32, 48), (16, 96), (8, 192)], start=1):
        for block in (1, 2):
            stride = 2 if group > 1 and block == 1 else 1
            expected[f"group_{group}/block_{block}/convolution_1"] = (3, stride, size, channels)
            expected[f"group_{group}/block_{block}/convolution_2"] = (3, 1, size, channels)
        expected[f"group_{group}/block_1/shortcut"] = (1, 1 if group == 1 else 2, size, channels)
    assert found == expected


def test_bottlenecks_stride_in_their_middle():
    found = sizes(WRN_50_2, (64, 64, 3))
    assert found.pop("stem") == (7, 2, 32, 64)
    for group, depth in enumerate((3, 4, 6, 3), start=1):
        inner, size = 64 * 2**group, 32 // 2**group
        for block in range(1, depth + 1):
            place, stride = f"group_{group}/block_{block}", 2 if group > 1 and block == 1 else 1
            assert found.pop(f"{place}/convolution_1") == (1, 1, size * stride, inner)
            assert found.pop(f"{place}/convolution_2") == (3, stride, size, inner)
            assert found.pop(f"{place}/convolution_3") == (1, 1, size, 2 * inner)
        assert found.pop(f"group_{group}/block_1/shortcut") == (1, 1 if group == 1 else 2, size, 2 * inner)
    assert found == {}


def convolved(variables, images, name, stride=1):
    kernel = variables["params"][name]["kernel"]
    pad = kernel.shape[0] // 2
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (stride,) * 2, ((pad, pad),) * 2, dimension_numbers=dimensions)


def normalized(variables, images, name, train):
    learned, running = (variables[part][name]["batch_norm"] for part in ("params", "batch_stats"))
    mean, var = (images.mean((0, 1, 2)), images.var((0, 1, 2))) if train else (running["mean"], running["var"])
    return (images - mean) / jnp.sqrt(var + 1e-5) * learned["scale"] + learned["bias"]


def inside(variables, name):
    return {part: tree[name] for part, tree in variables.items() if name in tree}


def rectified(images):
    return jnp.maximum(images, 0)


def preactivated(variables, images, stride, train):
    read = rectified(normalized(variables, images, "normalization_1", train))
    hidden = convolved(variables, read, "convolution_1", stride)
    hidden = convolved(variables, rectified(normalized(variables, hidden, "normalization_2", train)), "convolution_2")
    return hidden + (convolved(variables, read, "shortcut", stride) if "shortcut" in variables["params"] else images)


def bottleneck(variables, images, stride, train):
    def layer(images, name, stride=1):
        return normalized(variables, convolved(variables, images, name, stride), f"{name}_normalization", train)

    hidden = rectified(layer(rectified(layer(images, "convolution_1")), "convolution_2", stride))
    beside = layer(images, "shortcut", stride) if "shortcut" in variables["params"] else images
    return rectified(layer(hidden, "convolution_3") + beside)


def by_hand(block, depths, variables, images, train):
    hidden = convolved(variables, images, "stem", stride=2 if block is bottleneck else 1)
    if block is bottleneck:
        hidden = rectified(normalized(variables, hidden, "stem_normalization", train))
        padded = jnp.pad(hidden, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
        rows, columns = ((size + 1) // 2 for size in hidden.shape[1:3])
        windows = [padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2] for i in range(3) for j in range(3)]
        hidden = functools.reduce(jnp.maximum, (one[:, :rows, :columns] for one in windows))
    for group, depth in enumerate(depths, start=1):
        for number in range(1, depth + 1):
            stride = 2 if group > 1 and number == 1 else 1
            own = inside(inside(variables, f"group_{group}"), f"block_{number}")
            hidden = block(own, hidden, stride, train)
    if block is preactivated:
        hidden = rectified(normalized(variables, hidden, "normalization", train))
    classifier = variables["params"]["classifier"]
    return hidden.mean((1, 2)) @ classifier["kernel"] + classifier["bias"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("network", "shape", "block", "depths"),
    [(WIDE, (8, 8, 2), preactivated, (2, 2, 2)), (BOTTLENECKS, (16, 16, 2), bottleneck, (1, 2))],
)
def test_a_network_is_its_definition(network, shape, block, depths, train):
    variables = random_variables(network, shape)
    images = jax.random.normal(jax.random.key(1), (3, *shape))

    @jax.jit
    def both(variables, images):
        answer = network.apply(variables, images, train=train, mutable=["batch_stats"])[0][0]
        return answer, by_hand(block, depths, variables, images, train)

    np.testing.assert_allclose(*both(variables, images), rtol=1e-3, atol=1e-4)


def test_drop_path_drops_whole_residual_branches():
    """An example keeps its input or gets twice the branch, at a rate of a half; blocks that change shapes keep all."""
    images = jax.random.normal(jax.random.key(2), (32, 3, 3, 4))
    for channels, dropped in ((4, True), (5, False)):
        block = PreactivatedBlock(channels, 1, None)
        variables = block.init(jax.random.key(0), images, train=False)

        def answer(rate, block=block, variables=variables):
            rngs = {"drop_path": jax.random.key(1)}
            return block.apply(variables, images, True, rate, rngs=rngs, mutable=["batch_stats"])[0]

        whole, drawn = answer(0.0), answer(0.5)
        if not dropped:
            np.testing.assert_array_equal(drawn, whole)
            continue
        kept = np.any(np.asarray(drawn != images), axis=(1, 2, 3))
        assert 4 < kept.sum() < 28  # of 32 at a half
        np.testing.assert_allclose(drawn[kept], (2 * whole - images)[kept], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WideResNet(27, 10, 10), "is 6 n \\+ 4, not 27; the nearest is 28"),
        (lambda: WideResNet(30, 10, 10), "not 30; the nearest is 28"),
        (lambda: WideResNet(4, 10, 10), "not 4; the nearest is 10"),
        (lambda: WideResNet(10, 0, 10), "at least 1 of width, not 0"),
        (lambda: WideResNet(10, 1, 0), "at least 1 of classes, not 0"),
        (lambda: BottleneckResNet((1,), 1, 0, 10), "at least 1 of expansion, not 0"),
        (lambda: BottleneckResNet((1, 0), 1, 1, 10), "at least 1 of depths, not 0"),
        (lambda: BottleneckResNet((), 1, 1, 10), "at least 1 of depths, not 0"),
    ],
)
def test_impossible_networks_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
