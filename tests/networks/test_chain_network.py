import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.costs.counting import Cost, network_cost
from jaxnas.layers.convolution import channel_shuffle, grouped_pointwise
from jaxnas.layers.operations import CONSTANTS
from jaxnas.networks import chain_families, chain_operations
from jaxnas.networks.chain_components import block_components
from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_operations import MBConv, NormalizedConvolution, block_module
from jaxnas.networks.family import Images
from jaxnas.networks.initial import init_variables
from jaxnas.spaces.block import parse_block
from jaxnas.spaces.chain import ACTIVATIONS, Layer, chain_plan, is_allowed
from tests.networks.few_programs import (
    applied,
    architectures,
    assert_close,
    convolved,
    normal,
    normalized,
    one_program,
    trained,
    trained_on_devices,
)

SETTINGS = {
    "stem": 4,
    "stem_stride": 1,
    "first": 0,
    "widths": (4, 6),
    "depths": (1, 2),
    "strides": (1, 2),
    "head": 8,
    "candidates": ("mbconv_k3_e2", "separable_k3_se", "identity"),
    "activation": "relu6",
    "identity_activation": False,
    "expand_always": False,
}
PLAN = chain_plan(**SETTINGS)
SMALL = ChainNetwork(PLAN, PLAN.candidates, 3)
RESIDUAL = Layer(4, 4, 1, "residual", 1)
STRIDED = Layer(4, 6, 2, "strided", 1)


def settings(constant):
    return {field: value for field, value in getattr(spaces, constant).items() if field != "name"}


FAMILIES = {
    f"{name}{suffix.lower()}": (name, settings(f"{name.upper()}{suffix}"), size)
    for name, sizes in (
        ("nas_bench_macro", {"": 32, "_8": 8}),
        ("proxylessnas", {"": 224, "_32": 32, "_8": 8}),
        ("fbnet", {"": 224, "_32": 32, "_8": 8}),
        ("mnasnet", {"": 224, "_32": 32, "_8": 8}),
        ("resnet", {"_8": 8}),
    )
    for suffix, size in sizes.items()
}


@functools.cache
def family_of(name):
    builder, settings, size = FAMILIES[name]
    images = Images(size, size, 3, 10 if size < 224 else 1000)
    return getattr(chain_families, builder)(images, **settings), images


@functools.cache
def component_cost(name, module, input_shape, bits):
    del name, bits
    return network_cost(module, input_shape)


def cost_of(family, images, architecture):
    return network_cost(family.network(architecture, None), images.shape)


def stacked(*runs):
    """Names of blocks, each as often as told: (("mbconv_k3_e6", 2), "zero") -> three names."""
    return [name for run in runs for name in ([run] if isinstance(run, str) else [run[0]] * run[1])]


# Networks that the papers found, as far as they lie in these spaces.
PROXYLESS_MOBILE = stacked(
    *("mbconv_k5_e3", "mbconv_k3_e3", ("zero", 2)),
    *("mbconv_k7_e3", "mbconv_k3_e3", ("mbconv_k5_e3", 2)),
    *("mbconv_k7_e6", ("mbconv_k5_e3", 3)),
    *("mbconv_k5_e6", ("mbconv_k5_e3", 3)),
    *(("mbconv_k7_e6", 2), ("mbconv_k7_e3", 2), "mbconv_k7_e6"),
)
FBNET_C = stacked(
    *("mbconv_k3_e1", "mbconv_k3_e6", "identity", ("mbconv_k3_e1", 2)),
    *("mbconv_k5_e6", "mbconv_k5_e3", "mbconv_k5_e6", "mbconv_k3_e6"),
    *("mbconv_k5_e6", "mbconv_k5_e3", ("mbconv_k5_e6", 2)),
    *(("mbconv_k5_e6", 3), "mbconv_k5_e3", ("mbconv_k5_e6", 4), "mbconv_k3_e6"),
)
MNASNET_A1 = stacked(
    *("separable_k3", "mbconv_k3_e6", "mbconv_k5_e3_se", "mbconv_k3_e6"),
    *("mbconv_k3_e6_se", "mbconv_k5_e6_se", "mbconv_k3_e6"),
)


@pytest.mark.parametrize(
    ("name", "text", "changes", "params", "mult_adds"),
    [
        # The benchmark's own figures.
        ("nas_bench_macro", "11111111", {}, 1_588_874, 53_246_464),
        ("nas_bench_macro", "22212202", {}, 1_985_514, 85_164_544),
        # The published models' parameters, and the papers' millions of mult-adds. ProxylessNAS (mobile) has 32 channels
        # where the search starts from 24. FBNet-C's 375 million are not those of its published model.
        ("proxylessnas", "+".join(PROXYLESS_MOBILE), {"widths": (32, 40, 80, 96, 192, 320)}, 4_080_512, 320),
        ("fbnet", "+".join(FBNET_C), {}, 5_572_200, None),
        ("mnasnet", "+".join(MNASNET_A1), {}, 3_887_038, 312),
        # MobileNetV2 (Sandler et al. 2018), which all of them start from.
        (
            *("proxylessnas", "+".join(["mbconv_k3_e6"] * 16)),
            {"widths": (24, 32, 64, 96, 160, 320), "depths": (2, 3, 4, 3, 3, 1)},
            *(3_504_872, 300_774_272),
        ),
    ],
    ids=["macro-1", "macro-2", "proxyless-mobile", "fbnet-c", "mnasnet-a1", "mobilenet-v2"],
)
def test_published_costs(name, text, changes, params, mult_adds):
    builder, settings, size = FAMILIES[name]
    images = Images(size, size, 3, 10 if size < 224 else 1000)
    family = getattr(chain_families, builder)(images, **settings | changes)
    cost = cost_of(family, images, family.space.parse(text))
    assert cost.params == params
    assert mult_adds in (None, cost.mult_adds, round(cost.mult_adds / 1e6))


@pytest.mark.parametrize(
    ("name", "choices", "size"),
    [
        ("nas_bench_macro", 8, 3**8),
        ("proxylessnas", 21, 6**6 * 7**15),  # "zero" is not possible in the first layers of the six stages
        ("fbnet", 22, 9**22),
        ("mnasnet", 7, 12**7),
    ],
)
def test_published_spaces(name, choices, size):
    family, _ = family_of(name)
    assert family.space.shapes["blocks"][0] == choices == len(family.rows["blocks"]) == len(family.terms())
    assert family.space.size == size


@pytest.mark.parametrize("name", ["proxylessnas", "fbnet", "mnasnet"])
def test_chains_for_small_images_are_the_published_ones_with_fewer_strides(name):
    large, small = (family_of(variant)[0] for variant in (name, f"{name}_32"))
    assert small.space.size == large.space.size and small.rows == large.rows
    last = [max(piece.input_shape for piece in family.terms()[-1].pieces[0]) for family in (large, small)]
    assert last == [(7, 7, last[0][2]), (4, 4, last[0][2])]  # 224 / 32 and 32 / 8


@pytest.mark.parametrize("name", [name for name in FAMILIES if not name.endswith("_32")])
def test_costs_are_those_of_the_chosen_pieces_and_a_constant(name):
    """Exactly: a network costs what its terms' pieces do, and a rest that is the same for every architecture."""
    family, images = family_of(name)
    terms, bases = family.terms(), set()
    for architecture in architectures(family.space, range(4 if name.endswith("_8") else 2)):
        whole = cost_of(family, images, architecture)
        pieces = [
            component_cost(*piece)
            for term in terms
            for piece in term.pieces[tuple(int(architecture[part][row]) for part, row in term.choices)]
        ]
        bases.add(
            Cost(
                whole.params - sum(cost.params for cost in pieces),
                whole.mult_adds - sum(cost.mult_adds for cost in pieces),
            )
        )
    assert len(bases) == 1
    base = bases.pop()
    assert base.params > 0 and base.mult_adds > 0


BLOCKS = (
    *("mbconv_k3_e1", "mbconv_k3_e6", "mbconv_k5_e1_g2", "mbconv_k3_e1.5", "mbconv_k3_e3_se"),
    *("separable_k7", "separable_k3_se", "residual", "residual_w2_a4", "identity", "zero"),
)
PLACED = [(text, layer) for text in BLOCKS for layer in (RESIDUAL, STRIDED) if is_allowed(parse_block(text), layer)]


@pytest.mark.parametrize(("text", "layer"), PLACED, ids=[f"{text}-{layer.name}" for text, layer in PLACED])
@pytest.mark.parametrize("expand_always", [False, True])
def test_costs_of_blocks_in_closed_form(text, layer, expand_always):
    block = parse_block(text)
    plan = PLAN._replace(expand_always=expand_always)
    c, d, h, g = layer.channels_in, layer.channels, block.hidden(layer.channels_in), block.groups
    pixels, outputs = 5 * 4, 5 * 4 if layer is RESIDUAL else 3 * 2
    params = mult_adds = 0
    if block.kind in ("mbconv", "separable"):
        params = h * block.kernel**2 + 2 * h + h * d // g + 2 * d
        mult_adds = outputs * (h * block.kernel**2 + h * d // g)
        if block.kind == "mbconv" and (h > c or expand_always):
            params += c * h // g + 2 * h
            mult_adds += pixels * c * h // g
        if block.squeeze:
            params += 2 * h * 1 + 1 + h  # a quarter of four channels is one
            mult_adds += 2 * h
    elif block.kind == "residual":
        kernels = [9 * c * d, 9 * d * d, *([c * d] if layer is STRIDED else [])]
        params, mult_adds = sum(kernels) + len(kernels) * 2 * d + 2 * block.quantized, outputs * sum(kernels)
    elif block.kind == "identity" and layer is STRIDED:
        params, mult_adds = c * d + 2 * d, outputs * c * d
    components = block_components(plan, layer, block, (5, 4))
    assert [component_cost(*component) for component in components] == ([Cost(params, mult_adds)] if params else [])
    assert all(component.name == f"{text} {c}x5x4 c{d} s{layer.stride}" for component in components)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.endswith("_8")])
def test_pieces_take_the_images_of_their_layers(name):
    family, _ = family_of(name)
    for term in family.terms():
        for option in term.pieces:
            for piece in option:
                block, read, channels, stride = piece.name.split()
                height, width, channels_in = piece.input_shape
                assert read == f"{channels_in}x{height}x{width}" and str(parse_block(block)) == block
                output, _ = jax.eval_shape(
                    lambda image, module=piece.module: module.init_with_output(jax.random.key(0), image, False),
                    jax.ShapeDtypeStruct((2, *piece.input_shape), jnp.float32),
                )
                step = int(stride[1:])
                assert output.shape == (2, -(-height // step), -(-width // step), int(channels[1:]))


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_pointwise_convolutions_in_groups(groups):
    """As the library's grouped convolution, and as a product with a matrix of blocks on the diagonal."""
    images, kernel = normal(2, 3, 4, 6), normal(6 // groups, 12, seed=1)
    output = jax.jit(functools.partial(grouped_pointwise, groups=groups))(images, kernel)
    reference = convolved(images, kernel[None, None], groups=groups)
    np.testing.assert_allclose(output, reference, rtol=1e-5, atol=1e-5)  # six products, summed in any order
    rows, columns = np.arange(6) // (6 // groups), np.arange(12) // (12 // groups)
    blocks = np.where(rows[:, None] == columns, np.tile(kernel, (groups, 1)), 0)
    np.testing.assert_allclose(output, images @ blocks, rtol=1e-5, atol=1e-5)


def test_channel_shuffle():
    np.testing.assert_array_equal(channel_shuffle(np.arange(6), 2), [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(channel_shuffle(np.arange(6), 3), [0, 2, 4, 1, 3, 5])
    images = normal(2, 3, 4, 6)
    np.testing.assert_array_equal(channel_shuffle(channel_shuffle(images, 2), 3), images)  # 2 · 3 groups undo it


@pytest.mark.parametrize("layer", [RESIDUAL, STRIDED], ids=lambda layer: layer.name)
@pytest.mark.parametrize("text", ["mbconv_k3_e2", "mbconv_k5_e3_g2_se", "separable_k3"])
def test_a_block_against_its_definition(text, layer):
    block, images = parse_block(text), 3 * normal(3, 5, 4, 4)
    variables, output = applied(block_module(PLAN, layer, block), images)
    params, strides = variables["params"], (layer.stride, layer.stride)
    hidden = images
    if block.kind == "mbconv":
        hidden = convolved(hidden, params["expansion"]["kernel"][None, None], groups=block.groups)
        hidden = np.clip(normalized(hidden), 0, 6)
        order = np.arange(hidden.shape[-1]).reshape(block.groups, -1).T.ravel()
        hidden = hidden[..., order]
    hidden = convolved(hidden, params["depthwise"]["kernel"][:, :, None], strides, hidden.shape[-1])
    hidden = np.clip(normalized(hidden), 0, 6)
    if block.squeeze:
        squeeze, excite = (params["squeeze_excitation"][name] for name in ("squeeze", "excite"))
        inner = np.clip(hidden.mean((1, 2)) @ squeeze["kernel"] + squeeze["bias"], 0, 6)
        hidden = hidden / (1 + np.exp(-inner @ excite["kernel"] - excite["bias"]))[:, None, None]
    hidden = normalized(convolved(hidden, params["projection"]["kernel"][None, None], groups=block.groups))
    expected = hidden + images if layer is RESIDUAL else hidden
    # Three normalisations in float32, each of which divides by a deviation of about a tenth.
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-4)


def clipped(values, clip, bits):
    """PACT, equations 1 and 2."""
    (alpha,), steps = np.asarray(clip), 2**bits - 1
    return np.round((abs(values) - abs(values - alpha) + alpha) / 2 * steps / alpha) * alpha / steps


def in_bits(kernel, bits):
    """DoReFa-Net's weights; of one bit, a scale for every channel."""
    if bits == 1:
        return np.where(kernel >= 0, 1, -1) * np.abs(kernel).mean((0, 1, 2))
    squashed, steps = np.tanh(kernel), 2**bits - 1
    return 2 * np.round(steps * (squashed / (2 * np.abs(squashed).max()) + 0.5)) / steps - 1


@pytest.mark.parametrize("layer", [RESIDUAL, STRIDED], ids=lambda layer: layer.name)
@pytest.mark.parametrize("text", ["residual", "residual_w1_a1", "residual_w2_a4"])
def test_a_residual_block_against_its_definition(text, layer):
    block = parse_block(text)
    with jax.enable_x64(True):  # values next to the middle of two levels would round to either
        images = 3 * normal(3, 5, 4, 4)
        variables, output = applied(block_module(PLAN, layer, block), images)
        params = variables["params"]

        def own(name, inputs, stride):
            kernel = params[name]["convolution"]["kernel"]
            kernel = in_bits(kernel, block.bits[0]) if block.quantized else kernel
            return normalized(convolved(inputs, kernel, (stride, stride)))

        def activated(name, values):
            return clipped(values, params[name]["clip"], block.bits[1])

        read = activated("input", images) if block.quantized else images
        hidden = own("convolution_1", read, layer.stride)
        hidden = own("convolution_2", activated("between", hidden) if block.quantized else np.clip(hidden, 0, 6), 1)
        shortcut = images if layer is RESIDUAL else own("projection", read, layer.stride)
        expected = np.clip(shortcut + hidden, 0, 6)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)  # scale and shift are float32


@pytest.mark.parametrize("activation", [False, True])
def test_an_identity_that_reshapes(activation):
    images = normal(3, 5, 4, 4)
    module = block_module(PLAN._replace(identity_activation=activation), STRIDED, parse_block("identity"))
    assert isinstance(module, NormalizedConvolution)
    variables, output = applied(module, images)
    expected = normalized(images[:, ::2, ::2] @ variables["params"]["convolution"]["kernel"][0, 0])
    np.testing.assert_allclose(output, np.clip(expected, 0, 6) if activation else expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["identity", "zero"])
def test_blocks_that_leave_their_input_as_it_is(text):
    images = normal(2, 3, 3, 4)
    variables, output = applied(block_module(PLAN, RESIDUAL, parse_block(text)), images)
    assert variables == {}
    np.testing.assert_array_equal(output, images)


@pytest.mark.parametrize(("layer", "drops"), [(RESIDUAL, True), (STRIDED, False)], ids=["residual", "strided"])
def test_stochastic_depth_drops_residual_branches_of_whole_examples(layer, drops):
    images = normal(64, 4, 4, 4)
    module = block_module(PLAN, layer, parse_block("mbconv_k3_e1"))
    assert isinstance(module, MBConv)
    kept, dropped = (applied(module, images, rate=rate)[1] for rate in (0.0, 0.25))
    if not drops:
        np.testing.assert_array_equal(dropped, kept)
        return
    branches = kept - images, dropped - images
    gone = np.all(branches[1] == 0, axis=(1, 2, 3))
    np.testing.assert_allclose(branches[1][~gone], branches[0][~gone] / 0.75, rtol=1e-4, atol=1e-5)
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 64)


def test_stochastic_depth_leaves_the_activated_input_of_a_residual_block():
    images = normal(64, 4, 4, 4)
    _, output = applied(block_module(PLAN, RESIDUAL, parse_block("residual_w2_a4")), images, rate=0.25)
    gone = np.all(output == np.clip(images, 0, 6), axis=(1, 2, 3))
    assert abs(gone.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 64)


def test_a_strided_block_of_one_pixel_has_no_residual():
    layer = Layer(4, 4, 2, "one pixel", 1)
    module = block_module(PLAN, layer, parse_block("mbconv_k3_e1"))
    # The normalised branch of a single pixel is zero, so that a residual would answer with the input.
    np.testing.assert_array_equal(applied(module, normal(1, 1, 1, 4))[1], 0)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(lambda key: SMALL.init(key, jnp.zeros((1, 6, 6, 3)), train=False))(jax.random.key(1))


def test_the_drop_path_rate_may_be_traced(variables):
    images = normal(4, 6, 6, 3)

    @jax.jit
    def logits(rate):
        rngs = {"drop_path": jax.random.key(0)}
        options = {"rngs": rngs, "mutable": ["batch_stats"]}
        return SMALL.apply(variables, images, train=True, drop_path_rate=rate, **options)[0][0]

    expected, auxiliary, _ = trained(SMALL, variables, images)
    assert auxiliary is None and expected.shape == (4, 3)
    np.testing.assert_allclose(logits(0.0), expected, rtol=1e-4, atol=1e-5)
    assert np.max(np.abs(logits(0.5) - expected)) > 1e-3


def test_evaluation_treats_every_example_by_itself(variables):
    images = normal(3, 6, 6, 3)
    answer = jax.jit(lambda images: SMALL.apply(variables, images, train=False)[0])
    alone = np.concatenate([answer(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(answer(images), alone, rtol=1e-4, atol=1e-5)


def test_statistics_shared_over_devices_are_those_of_the_whole_batch(variables):
    images = normal(8, 6, 6, 3)

    whole, _, whole_stats = trained(SMALL, variables, images)
    parts, stats = trained_on_devices(SMALL, variables, images.reshape(4, 2, 6, 6, 3))
    np.testing.assert_allclose(parts.reshape(8, 3), whole, rtol=1e-3, atol=1e-4)
    assert_close(stats, whole_stats, rtol=1e-4, atol=1e-5)


def test_init_variables_is_distributed_as_the_modules_say():
    """Same shapes, and every kernel fills the same bounds: U(±1/√fan-in), in groups those of one group."""
    candidates = ("mbconv_k3_e6", "mbconv_k3_e6_g4", "mbconv_k5_e3_se", "residual_w2_a4")
    plan = chain_plan(
        **SETTINGS | {"widths": (16,), "depths": (4,), "strides": (1,), "stem": 16, "candidates": candidates}
    )
    network = ChainNetwork(plan, plan.candidates, 10)
    image = jnp.zeros((1, 6, 6, 3))
    expected = jax.eval_shape(lambda key: network.init(key, image, train=False), jax.random.key(0))
    variables = one_program(lambda key: init_variables(network, key, (6, 6, 3)))(jax.random.key(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, expected)
    assert variables["params"]["layer_3_residual"]["input"]["clip"] == CONSTANTS["clip"]
    grouped = variables["params"]["layer_1_mbconv"]
    assert grouped["expansion"]["kernel"].shape == (4, 96) and grouped["projection"]["kernel"].shape == (24, 16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        if path[-1].key == "kernel" and leaf.size >= 256:
            fan_in = leaf.size // leaf.shape[-1]
            assert 0.97 < np.abs(leaf).max() * np.sqrt(fan_in) <= 1.0 + 1e-6
    block = block_module(PLAN, Layer(16, 16, 1, "grouped", 1), parse_block("mbconv_k3_e6_g4"))
    for params in (grouped, applied(block, normal(1, 2, 2, 16))[0]["params"]):
        assert 0.97 < np.max(np.abs(params["expansion"]["kernel"])) * 2 <= 1.0 + 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": PLAN.candidates[:2]}, "3 layers, which 2 blocks do not fill"),
        ({"blocks": tuple(map(parse_block, ("zero", "zero", "zero")))}, "stage 2 block 1 changes the shape .* 'zero'"),
        ({"classes": 0}, "at least 1 of classes"),
    ],
)
def test_mistaken_settings(changes, message):
    with pytest.raises(UserError, match=message):
        ChainNetwork(**{"plan": PLAN, "blocks": PLAN.candidates, "classes": 3} | changes)


def test_images_that_a_chain_shrinks_to_nothing():
    with pytest.raises(UserError, match="shrink images 32 times, which needs at least 32x32 pixels, not 28x28"):
        chain_families.fbnet(Images(28, 28, 1, 10), **settings("FBNET"))


def test_plans_and_operations_know_the_same_activations():
    assert set(ACTIVATIONS) == set(chain_operations.ACTIVATIONS)
