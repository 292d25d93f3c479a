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
    stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes["batch_stats"])
    return {"params": unflatten_dict(flat), "batch_stats": stats}


@pytest.mark.parametrize(("kind", "shared"), [*((kind, False) for kind in CANDIDATES), ("mnasnet", True)])
def test_one_path_is_the_stand_alone_network(kind, shared):
    """With the same weights, and the batch's own statistics; also where only that path runs."""
    with jax.enable_x64(True):
        plan, space, mixture = make(kind, shared)
        single = make(kind, shared, paths=1)[2]
        params, images = perturbed(mixture), normal(4, *IMAGES.shape)
        run = [jax.jit(network.apply) for network in (mixture, single)]
        for architecture in architectures(space, range(2)):
            blocks = chosen_blocks(plan, architecture, shared=shared)
            network = ChainNetwork(plan, blocks, IMAGES.classes)
            variables = stand_alone_variables(plan, blocks, params, network)
            expected, _, _ = trained(network, variables, images)
            for apply in run:
                assert_close(apply(params, one_hot(space, architecture), images), expected)


@pytest.mark.parametrize("kind", ["fbnet", "mnasnet"])
def test_evaluations_agree(kind):
    """Mixtures: recomputed or kept. Two paths: those of two non-zero gates, in values and gradients."""
    with jax.enable_x64(True):
        _, space, network = make(kind)
        params, images = perturbed(network), normal(4, *IMAGES.shape)
        soft, kept = soft_gates(space), value_and_gradients(network)
        recomputed, of_two = (value_and_gradients(make(kind, **own)[2]) for own in ({"recompute": True}, {"paths": 2}))
        assert_close(recomputed(params, soft, images), kept(params, soft, images))
        two = {part: largest(gates, 2) for part, gates in soft.items()}
        logits, params_bar, gates_bar = kept(params, two, images)
        assert_close(of_two(params, two, images), (logits, params_bar, of_positive(two, gates_bar)))


def test_active_names_the_weights_that_a_path_uses():
    _, space, network = make("fbnet", paths=1)
    gates = one_hot(space, *architectures(space, [4]))
    params, images = initial(network), np.ones((2, *IMAGES.shape))
    _, gradient, _ = value_and_gradients(network)(params, gates, images)
    active = one_program(network.active)(gates)
    assert jax.tree.structure(active) == jax.tree.structure(params)
    jax.tree.map(lambda used, bar: np.testing.assert_array_equal(np.where(used, 0.0, bar), 0.0), active, gradient)
    flags = [np.all(leaf) for leaf in jax.tree.leaves(active["layers"])]
    assert any(flags) and not all(flags)
