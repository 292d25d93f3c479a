"""The supernet of NAS-Bench-201: one path is the stand-alone network, in values and gradients of few and all paths."""

import jax
import numpy as np
import pytest

from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, PART
from tests.networks.few_programs import (
    architectures,
    assert_close,
    initial,
    largest,
    normal,
    of_positive,
    one_hot,
    one_program,
    soft_gates,
    trained,
    value_and_gradients,
)

IMAGES = Images(8, 8, 2, classes=3)
FAMILY = FAMILIES["nas_bench_201"](IMAGES, channels=2, cells=2)
NAMES = {"nor_conv_1x1": "conv 1x1", "nor_conv_3x3": "conv 3x3"}


def stand_alone_params(architecture, params, shapes):
    """The weights of the stand-alone network that has the supernet's; scale 1 and shift 0 everywhere."""
    operations = [OPERATIONS[option] for option in np.asarray(architecture[PART])]

    def found(path, leaf):
        *where, last = [entry.key for entry in path]
        if last in ("scale", "bias") and where[-1] == "batch_norm":
            return np.full(leaf.shape, float(last == "scale"))
        if where[0] == "classifier":
            return params["classifier" if last == "kernel" else "bias"]
        if where[0] == "stem_convolution":
            return params["stem"]
        if where[0].startswith("reduction"):
            return params[where[0]][where[1]].reshape(leaf.shape)
        stage, number = (int(text) for text in (where[0].split("_")[1], where[0].split("_")[3]))
        _, source, node, *_ = where[1].split("_")
        row = EDGES.index((int(source), int(node) - 1))
        (kernel,) = params[f"stage_{stage}"][NAMES[operations[row]]].values()
        return kernel[number, row].reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(found, shapes["params"])


def test_one_path_is_the_stand_alone_network():
    with jax.enable_x64(True):
        mixture, single = FAMILY.supernet(), FAMILY.supernet(paths=1)
        params, images = initial(mixture), normal(4, *IMAGES.shape)
        applies = [jax.jit(network.apply) for network in (mixture, single)]
        for architecture in architectures(FAMILY.space, range(3)):
            network = FAMILY.network(architecture, None)
            shapes = jax.eval_shape(lambda network=network: network.init(jax.random.key(0), images, train=False))
            variables = {
                "params": stand_alone_params(architecture, params, shapes),
                "batch_stats": jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes.get("batch_stats", {})),
            }
            expected, _, _ = trained(network, variables, images)
            for apply in applies:
                assert_close(apply(params, one_hot(FAMILY.space, architecture), images), expected)


def test_two_paths_are_the_mixture_of_two():
    """In values and gradients, also of the gates that do not vanish."""
    with jax.enable_x64(True):
        mixture, two = (value_and_gradients(network) for network in (FAMILY.supernet(), FAMILY.supernet(paths=2)))
        params, images = initial(FAMILY.supernet()), normal(4, *IMAGES.shape)
        gates = {PART: largest(soft_gates(FAMILY.space)[PART], 2)}
        logits, params_bar, gates_bar = mixture(params, gates, images)
        assert_close(two(params, gates, images), (logits, params_bar, of_positive(gates, gates_bar)))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_active_names_the_weights_that_ran(operation):
    gates = one_hot(FAMILY.space, {PART: np.full(len(EDGES), OPERATIONS.index(operation))})
    params = jax.eval_shape(FAMILY.supernet().init, jax.random.key(0))
    active = one_program(FAMILY.supernet().active)(gates)
    assert jax.tree.structure(active) == jax.tree.structure(params)
    for name, weights in active["stage_1"].items():
        assert all(np.all(leaf) == (name == NAMES.get(operation)) for leaf in weights.values())
