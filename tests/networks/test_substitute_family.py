"""The space of substitutes: one-hot gates are the stand-alone networks, and costs of gates are enumerations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import network_cost
from jaxnas.costs.terms import mult_adds_cost, params_cost
from jaxnas.layers.substitutes import KINDS
from jaxnas.networks.census import census
from jaxnas.networks.family import Images
from jaxnas.networks.residual_network import WideResNet
from jaxnas.networks.substitute_family import PART, substitutes
from jaxnas.spaces.space import encode, random

IMAGES = Images(4, 4, 1, classes=3)
# The second is too small a share for the first group's convolutions.
CANDIDATES = ("dense", "low_rank@0.06", "hashed@0.2")
FAMILY = substitutes(IMAGES, depth=10, width=1, candidates=CANDIDATES)
BASE = WideResNet(10, 1, 3)
LAYERS = [one for one in census(BASE, IMAGES.shape).convolutions if one.name.rpartition("/")[2].startswith("conv")]
BATCH = jax.random.normal(jax.random.key(1), (6, *IMAGES.shape))
TEXT = "0;2;1;0;2;1"


def architecture(text):
    return {PART: jnp.asarray([int(number) for number in text.split(";")])}


@pytest.fixture(scope="module")
def params():
    """Around ones for scales, else around zero."""
    generator = np.random.default_rng(0)

    def drawn(path, leaf):
        noise = jnp.asarray(0.2 * generator.normal(size=leaf.shape), jnp.float32)
        return noise + (path[-1].key == "scale")

    shapes = jax.eval_shape(FAMILY.supernet().init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(drawn, shapes)


def alone(params, chosen):
    """The weights of a stand-alone network: those of the base, and each layer's chosen option's in its place."""
    flat = flatten_dict(params["base"])
    for row, (layer, number) in enumerate(zip(LAYERS, np.asarray(chosen[PART]), strict=True)):
        own = params["layers"][str(row)][str(int(number))]
        flat |= {(*layer.path, name): leaf for name, leaf in own.items()}
    return unflatten_dict(flat)


def score(logits):
    return jnp.sum(jnp.sin(logits + jnp.arange(logits.size).reshape(logits.shape)))


def sizes():
    """Parameters of every layer under every option, [layers, options]; where it lacks one, those of the dense layer."""
    found = np.asarray([[one.dense.params] * 3 for one in LAYERS])
    for row, option in np.argwhere(np.asarray(FAMILY.space.allowed[PART])):
        chosen = {PART: jnp.zeros(6, jnp.int32).at[row].set(option)}
        for one in FAMILY.network(chosen, None).replacements:
            found[row, option] = one.substitute().params
    return found


def test_the_choices_are_the_convolutions_of_blocks_and_what_each_can_be():
    assert FAMILY.rows[PART] == tuple(one.name for one in LAYERS)
    allowed = np.asarray(FAMILY.space.allowed[PART])
    np.testing.assert_array_equal(allowed, [[True, row > 1, True] for row in range(6)])
    shares = sizes() / np.asarray([[one.dense.params] for one in LAYERS])
    for option, (name, share) in enumerate([("low_rank", 0.06), ("hashed", 0.2)], start=1):
        for layer, able, found in zip(LAYERS, allowed[:, option], shares[:, option], strict=True):
            least = min(KINDS[name].build(layer.dense, end).params for end in KINDS[name].bounds(layer.dense))
            assert able == (least <= share * layer.dense.params)
            assert found <= share or not able


def test_one_hot_gates_are_the_stand_alone_network(params):
    """With the same weights and the statistics of the same batch: logits, and gradients of all weights."""
    chosen = architecture(TEXT)
    gates, network = encode(FAMILY.space, chosen), FAMILY.network(chosen, None)
    path = FAMILY.supernet(paths=1).apply

    def by_itself(params):
        logits, _ = network.apply({"params": alone(params, chosen)}, BATCH, train=True, mutable=["batch_stats"])[0]
        return score(logits), logits

    def within(recompute):
        def loss(params):
            logits = FAMILY.supernet(recompute=recompute).apply(params, gates, BATCH)
            return score(logits), logits

        return loss

    @jax.jit
    def compared(params):
        losses = by_itself, within(recompute=False), within(recompute=True)
        return [jax.grad(loss, has_aux=True)(params) for loss in losses], path(params, gates, BATCH)

    ((expected_bar, expected), *others), of_path = compared(params)
    np.testing.assert_allclose(of_path, expected, rtol=1e-3, atol=1e-4)
    for found_bar, found in others:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        # Those of options that were not taken are zero in both. Float32 through nine normalisations of six examples.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3, atol=2e-3), found_bar, expected_bar)


def test_paths_run_the_options_of_the_largest_gates(params):
    gates = encode(FAMILY.space, architecture(TEXT))
    mixed = {PART: gates[PART].at[2].set(jnp.asarray([0.3, 0.0, 0.7])).at[5].set(jnp.asarray([0.0, 0.6, 0.4]))}

    @jax.jit
    def both(params, gates):
        return FAMILY.supernet().apply(params, gates, BATCH), FAMILY.supernet(paths=2).apply(params, gates, BATCH)

    whole, two = both(params, mixed)
    np.testing.assert_allclose(two, whole, rtol=1e-3, atol=1e-4)
    assert not np.allclose(both(params, gates)[0], whole, atol=1e-3)


def test_the_cost_of_gates_is_the_enumerated_expectation():
    """Parameters over all 3^6 architectures, those that no layer can have at probability zero."""
    rest = network_cost(BASE, IMAGES.shape).params - sum(one.dense.params for one in LAYERS)
    drawn = jax.random.uniform(jax.random.key(3), (6, 3)) * FAMILY.space.allowed[PART]
    gates = np.asarray(drawn / drawn.sum(axis=1, keepdims=True), np.float64)
    table, expected = sizes(), 0.0
    for numbers in itertools.product(range(3), repeat=6):
        places = np.arange(6), np.asarray(numbers)
        expected += np.prod(gates[places]) * (rest + np.sum(table[places]))
    found = params_cost(FAMILY, IMAGES)({PART: jnp.asarray(gates, jnp.float32)})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_network_costs_what_its_options_do():
    """And random architectures are allowed, and read back as they are written."""
    costs = params_cost(FAMILY, IMAGES), mult_adds_cost(FAMILY, IMAGES)
    rest = network_cost(BASE, IMAGES.shape).params - sum(one.dense.params for one in LAYERS)
    for seed in range(3):
        chosen = random(FAMILY.space, jax.random.key(seed))
        numbers = np.asarray(chosen[PART])
        assert np.all(np.asarray(FAMILY.space.allowed[PART])[np.arange(6), numbers])
        cost = network_cost(FAMILY.network(chosen, None), IMAGES.shape)
        assert cost.params == rest + np.sum(sizes()[np.arange(6), numbers])
        for found, expected in zip(costs, cost, strict=True):
            np.testing.assert_allclose(found(encode(FAMILY.space, chosen)), expected, rtol=1e-6)
        np.testing.assert_array_equal(FAMILY.space.parse(FAMILY.space.canonical(chosen))[PART], numbers)


def test_active_weights_are_those_of_the_gates_above_zero(params):
    gates = {PART: encode(FAMILY.space, architecture(TEXT))[PART].at[0].set(jnp.asarray([0.5, 0, 0.5]))}
    active = FAMILY.supernet().active(gates)
    assert jax.tree.structure(active) == jax.tree.structure(params)
    assert all(bool(flag) for flag in jax.tree.leaves(active["base"]))
    for row, options in active["layers"].items():
        for number, flags in options.items():
            assert all(bool(flag) == bool(gates[PART][int(row), int(number)] > 0) for flag in jax.tree.leaves(flags))


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (("dense", "low_rnk@0.3"), "unknown substitute 'low_rnk'; did you mean 'low_rank'"),
        (("dense", "low_rank"), "'low_rank' has to be written KIND@SHARE with a share between 0 and 1"),
        (("dense", "low_rank@1.0"), "'low_rank@1.0' has to be written"),
        (("dense", "low_rank@nan"), "'low_rank@nan' has to be written"),
        (("dense", "low_rank@0.001"), "'low_rank@0.001', which no layer can be as small as"),
    ],
)
def test_impossible_candidates(candidates, message):
    with pytest.raises(UserError, match=message):
        substitutes(IMAGES, depth=10, width=1, candidates=candidates)
