"""The supernet of a chain: one path is the stand-alone network, and all ways of computing it agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_supernet import chain_supernet
from jaxnas.networks.family import Images
from jaxnas.spaces.chain import chain_plan, chain_space, chosen_blocks
from jaxnas.spaces.space import encode, random

IMAGES = Images(8, 8, 2, classes=3)
PLAN = {
    "stem": 4,
    "stem_stride": 1,
    "first": 4,
    "widths": (4, 8),
    "depths": (1, 3),
    "strides": (1, 2),
    "head": 8,
    "activation": "relu",
    "identity_activation": True,
    "expand_always": True,
}
CANDIDATES = {
    "fbnet": ("mbconv_k3_e2", "mbconv_k5_e1_g2", "identity"),
    "mnasnet": ("separable_k3_se", "mbconv_k3_e2_se", "zero"),
    "resnet": ("residual_w1_a2", "residual_w3_a4"),
}


def make(kind, shared=False, **settings):
    candidates = CANDIDATES[kind]
    plan = chain_plan(**PLAN, candidates=(*candidates, "identity") if shared and "zero" in candidates else candidates)
    return plan, chain_space(plan, kind, shared=shared), chain_supernet(plan, IMAGES, shared=shared, **settings)


def double(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


def inputs(network, seed=0):
    params = network.init(jax.random.key(seed))
    keys = iter(jax.random.split(jax.random.key(seed + 1), 1000))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    return double(params), jax.random.normal(jax.random.key(seed + 2), (4, 8, 8, 2), jnp.float64)


def value_and_gradients(network, params, gates, images):
    def loss(params, gates):
        logits = network.apply(params, gates, images)
        return jnp.sum(jnp.sin(logits)), logits

    gradients, logits = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, gates)
    return logits, *gradients


def assert_close(actual, expected):
    # Float64; sums in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9), actual, expected)


def stand_alone_variables(plan, blocks, params, network):
    """The variables of a ChainNetwork that has the supernet's weights."""
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *IMAGES.shape)), train=False))

    def found(path):
        *where, leaf = path
        if where[0] in ("stem", "head", "classifier"):
            own = params[where[0]]
        else:
            number = int(where[0].split("_")[1])
            own = params["layers"][number][str(blocks[number])]
            inner = [part.removesuffix("_normalization") for part in where[1:] if part != "squeeze_excitation"]
            own = own["identity"] if blocks[number].kind == "identity" else own[inner[0]]
        return own["shift" if "batch_norm" in where and leaf == "bias" else leaf]

    flat = {path: found(path).reshape(leaf.shape) for path, leaf in flatten_dict(shapes["params"]).items()}
    stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float64), shapes["batch_stats"])
    return {"params": unflatten_dict(flat), "batch_stats": stats}


@pytest.mark.parametrize(("kind", "shared"), [*((kind, False) for kind in CANDIDATES), ("mnasnet", True)])
def test_one_path_is_the_stand_alone_network(kind, shared):
    """With the same weights, and the batch's own statistics; also where only that path runs."""
    with jax.enable_x64(True):
        plan, space, mixture = make(kind, shared)
        single = make(kind, shared, paths=1)[2]
        params, images = inputs(mixture)
        run = [jax.jit(network.apply) for network in (mixture, single)]
        for seed in range(2):
            architecture = random(space, jax.random.key(seed))
            blocks = chosen_blocks(plan, architecture, shared=shared)
            network = ChainNetwork(plan, blocks, IMAGES.classes)
            variables = stand_alone_variables(plan, blocks, params, network)
            (expected, _), _ = network.apply(variables, images, train=True, mutable=["batch_stats"])
            for apply in run:
                assert_close(apply(params, double(encode(space, architecture)), images), expected)


@pytest.mark.parametrize("kind", ["fbnet", "mnasnet"])
def test_evaluations_agree(kind):
    """Mixtures: recomputed or kept. Two paths: those of two non-zero gates, in values and gradients."""
    with jax.enable_x64(True):
        _, space, network = make(kind)
        params, images = inputs(network)
        logits = {part: jax.random.normal(jax.random.key(3), shape) for part, shape in space.shapes.items()}
        soft = {part: jax.nn.softmax(jnp.where(space.allowed[part], values, -1e9)) for part, values in logits.items()}
        soft = double(soft)
        expected = value_and_gradients(network, params, soft, images)
        assert_close(value_and_gradients(make(kind, recompute=True)[2], params, soft, images), expected)
        two = jax.tree.map(lambda gates: jnp.where(gates < jnp.sort(gates)[:, -2:-1], 0.0, gates), soft)
        logits, params_bar, gates_bar = value_and_gradients(network, params, two, images)
        actual = value_and_gradients(make(kind, paths=2)[2], params, two, images)
        kept = jax.tree.map(lambda bar, gates: jnp.where(gates > 0, bar, 0.0), gates_bar, two)
        assert_close(actual, (logits, params_bar, kept))


def test_active_names_the_weights_that_a_path_uses():
    _, space, network = make("fbnet", paths=1)
    gates = encode(space, random(space, jax.random.key(4)))
    params, images = network.init(jax.random.key(0)), jnp.ones((2, *IMAGES.shape))
    _, gradient, _ = value_and_gradients(network, params, gates, images)
    active = network.active(gates)
    assert jax.tree.structure(active) == jax.tree.structure(params)
    jax.tree.map(lambda used, bar: np.testing.assert_array_equal(jnp.where(used, 0.0, bar), 0.0), active, gradient)
    flags = [bool(jnp.all(leaf)) for leaf in jax.tree.leaves(active["layers"])]
    assert any(flags) and not all(flags)
