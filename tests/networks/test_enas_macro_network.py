"""ENAS's macro space: one path of the supernet is the stand-alone network, and its pieces cost what the whole does."""

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
from jaxnas.networks.enas_macro import LayerOperation, MacroNetwork
from jaxnas.networks.enas_macro_supernet import operation_shapes, run_operation, stages
from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.spaces.enas_macro import OPERATIONS, PART, SKIPS, MacroLayer, macro_layers
from jaxnas.spaces.space import encode, random
from tests.networks.few_programs import (
    architectures,
    assert_close,
    initial,
    largest,
    normal,
    of_positive,
    one_hot,
    one_program,
    perturbed,
    soft_gates,
    trained,
    value_and_gradients,
)

IMAGES = Images(8, 8, 2, classes=3)
NAMES = ("conv_3x3", "sep_conv_3x3", "avg_pool_3x3")
SETTINGS = {"channels": 4, "layers": 6, "operations": NAMES}
FAMILY = FAMILIES["enas_macro"](IMAGES, **SETTINGS)
SPACE = FAMILY.space
# Every operation, and states of every size.
TEXT = "sep_conv_3x3|conv_3x3:1|avg_pool_3x3:01|sep_conv_3x3:110|avg_pool_3x3:0101|conv_3x3:10010"


@functools.cache
def inputs():
    return perturbed(FAMILY.supernet()), normal(3, *IMAGES.shape)


@functools.cache
def evaluate(**settings):
    """(params, gates, images) -> logits and gradients, compiled once for each way of computing them."""
    return value_and_gradients(FAMILY.supernet(**settings))


def scaled(own):
    return {"batch_norm": {"scale": own["scale"], "bias": own["shift"]}}


def module_params(own):
    """The weights of a `LayerOperation` or a stem that has these of the supernet."""
    if "shift" in own:
        return {"convolution": {"kernel": own["kernel"]}, "normalization": scaled(own)}
    return {name: weights if name == "depthwise" else module_params(weights) for name, weights in own.items()}


def stand_alone_params(layers, params):
    """The weights of the stand-alone network that has the supernet's."""

    def at(tree, row):
        return jax.tree.map(lambda leaf: leaf[row], tree)

    found = {"stem": module_params(params["stem"]), "classifier": dict(params["classifier"])}
    found["classifier"]["bias"] = params["classifier"]["bias"]
    for stage, numbers in enumerate(stages(len(layers))):
        for row, number in enumerate(numbers):
            own = at(params[f"stage_{stage}"][layers[number - 1].operation], row)
            found[f"layer_{number}_operation"] = module_params(own)
            if number > 1:
                found[f"layer_{number}_normalization"] = scaled(at(params["sums"], number - 2))
        for state in range(numbers[0]) if stage else ():
            own = at(params[f"reduction_{stage}"], state)
            halves = {half: {"kernel": own[half]["kernel"][None, None]} for half in ("even", "odd")}
            found[f"reduction_{numbers[0] - 1}_state_{state}"] = halves | {"normalization": scaled(own)}
    return found


def test_one_path_is_the_stand_alone_network():
    """With the same weights and the batch's own statistics; also where only that path runs."""
    with jax.enable_x64(True):
        params, images = inputs()
        architecture = SPACE.parse(TEXT)
        network = FAMILY.network(architecture, None)
        shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
        own = stand_alone_params(macro_layers(6, NAMES, architecture), params)
        assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, dict(shapes["params"]))
        variables = {
            "params": own,
            "batch_stats": jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes["batch_stats"]),
        }
        expected, _, _ = trained(network, variables, images)
        gates = one_hot(SPACE, architecture)
        assert_close(jax.jit(FAMILY.supernet().apply)(params, gates, images), expected)
        assert_close(evaluate(paths=1)(params, gates, images)[0], expected)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_those_of_the_stand_alone_network(name):
    with jax.enable_x64(True):
        shapes, module = operation_shapes(OPERATIONS[name], 4), LayerOperation(OPERATIONS[name])
        own = jax.tree.map(lambda shape: normal(*shape), shapes, is_leaf=lambda node: isinstance(node, tuple))

        @jax.jit
        def run(own, images):
            expected, _ = module.apply({"params": module_params(own)}, images, train=True, mutable=["batch_stats"])
            return run_operation(name, None, images, {name: own}), expected

        assert_close(*run(own, normal(2, 5, 4, 4, seed=1)))


def mixtures(seed, count):
    """Gates of so many operations in every layer, and of all answers."""
    gates = soft_gates(SPACE, seed)
    return gates | {PART: largest(gates[PART], count)}


def test_two_paths_are_the_mixture_of_two():
    """In values and gradients, also of the gates that do not vanish."""
    with jax.enable_x64(True):
        (params, images), gates = inputs(), mixtures(3, 2)
        logits, params_bar, gates_bar = evaluate(recompute=True)(params, gates, images)
        expected = logits, params_bar, of_positive(gates, gates_bar)
        assert_close(evaluate(paths=2)(params, gates, images), expected)


def test_one_path_has_the_gradients_of_the_gates_that_it_took():
    with jax.enable_x64(True):
        (params, images), gates = inputs(), one_hot(SPACE, *architectures(SPACE, [5]))
        logits, params_bar, gates_bar = evaluate(recompute=True)(params, gates, images)
        actual = evaluate(paths=1)(params, gates, images)
        assert_close(actual, (logits, params_bar, of_positive(gates, gates_bar)))
        np.testing.assert_array_equal(np.abs(actual[2][SKIPS])[:, 1] > 1e-9, gates[SKIPS][:, 1] > 0)


def test_a_constant_added_to_a_state_has_no_gradient():
    """So that bare gates, which are such constants, change nothing; only the last state is read as it is."""
    with jax.enable_x64(True):
        params, images = inputs()
        _, gradient, _ = evaluate(recompute=True)(params, mixtures(4, 3), images)
        shifts = gradient["sums"]["shift"]
        for constant in (gradient["stem"]["shift"], shifts[:-1]):
            np.testing.assert_allclose(constant, 0.0, atol=1e-9)
        assert np.all(np.abs(shifts[-1]) > 1e-3)


def test_active_names_the_weights_that_took_part():
    """Operations that ran, and reductions of states that a later layer adds or the next one reads; kernels exactly."""
    with jax.enable_x64(True):
        params, images = inputs()
        named = one_program(FAMILY.supernet(paths=1).active)
        for architecture in architectures(SPACE, (6, 7)):
            gates = one_hot(SPACE, architecture)
            _, gradient, _ = evaluate(paths=1)(params, gates, images)
            active = named(gates)
            assert jax.tree.structure(active) == jax.tree.structure(params)
            kinds = set()
            for (path, flag), bar in zip(
                jax.tree_util.tree_leaves_with_path(active), jax.tree.leaves(gradient), strict=True
            ):
                rest = tuple(range(min(flag.ndim, 1), bar.ndim))  # flags are one for a leaf, or for its first axis
                most = np.max(np.abs(bar), axis=rest).reshape(flag.shape)
                np.testing.assert_array_equal(np.where(flag, 0.0, most), 0.0)
                if path[-1].key == "kernel":
                    np.testing.assert_array_equal(flag, most > 1e-9)
                kinds |= {(path[0].key.split("_")[0], taken) for taken in np.unique(flag)}
            assert {("stage", False), ("stage", True), ("reduction", False), ("reduction", True)} <= kinds


def test_weights_start_within_their_fan_in_and_apart():
    params = initial(FAMILY.supernet())
    stage = params["stage_1"]
    for kernel, fan_in in (
        (stage["conv_3x3"]["output"]["kernel"], 36),
        (stage["sep_conv_3x3"]["depthwise"]["kernel"], 9),
        (stage["sep_conv_3x3"]["output"]["kernel"], 4),
        (params["reduction_2"]["even"]["kernel"], 4),
    ):
        # The largest of 32 or more uniform numbers is below 0.7 of their bound with probability 0.7^32 < 2e-5.
        assert 0.7 * fan_in**-0.5 < np.max(np.abs(kernel)) <= fan_in**-0.5
        assert len(np.unique(kernel)) == kernel.size


def closed_form(family_settings, images, names):
    """Parameters and mult-adds by the paper's definition; `names` are the operations of the layers."""
    c, layers = family_settings["channels"], family_settings["layers"]
    own = {"conv_3x3": 9 * c * c, "conv_5x5": 25 * c * c, "sep_conv_3x3": 9 * c + c * c, "sep_conv_5x5": 25 * c + c * c}
    pixels, third = images.height * images.width, layers // 3
    params = 9 * images.channels * c + 2 * c + (layers - 1) * 2 * c + (c + 1) * images.classes
    products = 9 * images.channels * c * pixels + c * images.classes
    for number, name in enumerate(names):
        if number in (third, 2 * third):
            pixels //= 4
            params += (number + 1) * (c * c + 2 * c)
            products += (number + 1) * c * c * pixels
        params += c * c + 2 * c + (own[name] + 2 * c if name in own else 0)
        products += (c * c + own.get(name, 0)) * pixels
    return params, products


@pytest.mark.parametrize("skips", [0, 1])
def test_the_published_network_costs_what_its_definition_says(skips):
    """Every operation twice in 12 layers of 36 channels; skips cost nothing."""
    images, settings = Images(32, 32, 3, classes=10), {k: v for k, v in spaces.ENAS_MACRO.items() if k != "name"}
    family = FAMILIES["enas_macro"](images, **settings)
    architecture = {PART: np.arange(12) % 6, SKIPS: np.full(66, skips)}
    names = [settings["operations"][number % 6] for number in range(12)]
    assert exact_cost(family, images, architecture) == closed_form(settings, images, names)


def test_expected_cost_is_the_enumerated_one():
    """64 architectures, of which those of the same operations are the same network but for sums, which are free."""
    settings = {"channels": 2, "layers": 3, "operations": ("conv_5x5", "max_pool_3x3")}
    images = Images(4, 4, 1, classes=2)
    family = FAMILIES["enas_macro"](images, **settings)
    assert {part for term in family.terms() for part, _ in term.choices} == {PART}
    gates = soft_gates(family.space)
    enumerated = np.zeros(2)
    for chosen in itertools.product(range(2), repeat=3):
        for skips in ((0, 0, 0), (1, 0, 1)):
            architecture = {PART: np.asarray(chosen), SKIPS: np.asarray(skips)}
            cost = np.asarray(network_cost(family.network(architecture, None), images.shape))
            enumerated += 0.5 * cost * float(np.prod([gates[PART][row, option] for row, option in enumerate(chosen)]))
    actual = [one_program(build(family, images))(gates) for build in (params_cost, mult_adds_cost)]
    np.testing.assert_allclose(actual, enumerated, rtol=1e-5)


def test_drop_path_spares_layers_that_would_be_left_with_nothing():
    """Without skips nothing is dropped; with them, which operations are depends on the key."""
    images = normal(4, *IMAGES.shape)
    family = FAMILIES["enas_macro"](IMAGES, channels=2, layers=3, operations=NAMES)
    for skips in (0, 1):
        network = family.network({PART: np.full(3, 2), SKIPS: np.full(3, skips)}, None)
        variables = jax.jit(lambda network=network: network.init(jax.random.key(0), images, train=False))()
        run = jax.jit(
            lambda rate, key, network=network, variables=variables: network.apply(
                variables, images, train=True, drop_path_rate=rate, mutable=["batch_stats"], rngs={"drop_path": key}
            )[0][0]
        )
        without, once, again = (run(rate, jax.random.key(key)) for rate, key in ((0.0, 0), (0.5, 0), (0.5, 1)))
        for drawn in (once, again):
            assert np.allclose(without, drawn, rtol=1e-5, atol=1e-5) == (not skips)
        assert np.allclose(once, again, rtol=1e-5, atol=1e-5) == (not skips)


def test_names_of_the_choices():
    assert FAMILY.rows[PART] == tuple(f"layer {number}" for number in range(1, 7))
    assert FAMILY.rows[SKIPS][:3] == ("layer 2 adds 0", "layer 3 adds 0", "layer 3 adds 1")
    assert {part: len(names) for part, names in FAMILY.rows.items()} == {PART: 6, SKIPS: 15}


LAYERS = (MacroLayer("conv_3x3", ()),) * 3


@pytest.mark.parametrize(
    ("layers", "channels", "classes", "message"),
    [
        (LAYERS[:2], 4, 3, "needs at least 3 layers, not 2"),
        ((*LAYERS[:2], MacroLayer("conv3x3", ())), 4, 3, "unknown operation of layer 3: 'conv3x3'; did you mean"),
        ((*LAYERS[:2], MacroLayer("conv_3x3", (2,))), 4, 3, "layer 3 adds state 2, but can add only those below 2"),
        (LAYERS, 5, 3, "channels is 5, but has to be even; take 6"),
        (LAYERS, 0, 3, "channels is 0, but has to be even; take 2"),
        (LAYERS, 4, 0, "at least 1 of classes, not 0"),
    ],
)
def test_networks_that_cannot_be(layers, channels, classes, message):
    with pytest.raises(UserError, match=message):
        MacroNetwork(layers, channels, classes)


def test_supernets_that_cannot_be():
    with pytest.raises(UserError, match="channels is 3, but has to be even; take 4"):
        FAMILIES["enas_macro"](IMAGES, **SETTINGS | {"channels": 3}).supernet()
    network = FAMILY.supernet()
    params = jax.eval_shape(network.init, jax.random.key(0))
    gates = jax.eval_shape(lambda: encode(SPACE, random(SPACE, jax.random.key(0))))
    with pytest.raises(UserError, match="images of 6×8 pixels cannot be halved 2 times"):
        jax.eval_shape(network.apply, params, gates, jax.ShapeDtypeStruct((1, 6, 8, 2), jnp.float32))
