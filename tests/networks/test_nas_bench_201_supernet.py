"""The supernet of NAS-Bench-201: one path is the stand-alone network, in values and gradients of few and all paths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.networks.families import FAMILIES
from jaxnas.networks.family import Images
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, PART
from jaxnas.spaces.space import encode, random

IMAGES = Images(8, 8, 2, classes=3)
FAMILY = FAMILIES["nas_bench_201"](IMAGES, channels=2, cells=2)
NAMES = {"nor_conv_1x1": "conv 1x1", "nor_conv_3x3": "conv 3x3"}


def double(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


def stand_alone_params(architecture, params, shapes):
    """The weights of the stand-alone network that has the supernet's; scale 1 and shift 0 everywhere."""
    operations = [OPERATIONS[option] for option in np.asarray(architecture[PART])]

    def found(path, leaf):
        *where, last = [entry.key for entry in path]
        if last in ("scale", "bias") and where[-1] == "batch_norm":
            return jnp.full(leaf.shape, float(last == "scale"), jnp.float64)
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
        params = double(mixture.init(jax.random.key(0)))
        images = jax.random.normal(jax.random.key(1), (4, *IMAGES.shape), jnp.float64)
        applies = [jax.jit(network.apply) for network in (mixture, single)]
        for seed in range(3):
            architecture = random(FAMILY.space, jax.random.key(seed))
            network = FAMILY.network(architecture, None)
            shapes = jax.eval_shape(lambda network=network: network.init(jax.random.key(0), images, train=False))
            variables = {
                "params": stand_alone_params(architecture, params, shapes),
                "batch_stats": jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes.get("batch_stats", {})),
            }
            (expected, _), _ = network.apply(variables, images, train=True, mutable=["batch_stats"])
            for apply in applies:
                actual = apply(params, double(encode(FAMILY.space, architecture)), images)
                np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-9)


def test_two_paths_are_the_mixture_of_two():
    """In values and gradients, also of the gates that do not vanish."""
    with jax.enable_x64(True):
        mixture, two = FAMILY.supernet(), FAMILY.supernet(paths=2)
        params = double(mixture.init(jax.random.key(0)))
        images = jax.random.normal(jax.random.key(1), (4, *IMAGES.shape), jnp.float64)
        soft = jax.nn.softmax(jax.random.normal(jax.random.key(2), (len(EDGES), len(OPERATIONS)), jnp.float64))
        gates = {PART: jnp.where(soft < jnp.sort(soft)[:, -2:-1], 0.0, soft)}

        def loss(network):
            return lambda params, gates: jnp.sum(jnp.sin(network.apply(params, gates, images)))

        expected, actual = (jax.jit(jax.grad(loss(one), argnums=(0, 1)))(params, gates) for one in (mixture, two))
        assert_close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)  # noqa: E731
        jax.tree.map(assert_close, actual[0], expected[0])
        assert_close(actual[1][PART], jnp.where(gates[PART] > 0, expected[1][PART], 0.0))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_active_names_the_weights_that_ran(operation):
    gates = encode(FAMILY.space, {PART: jnp.full(len(EDGES), OPERATIONS.index(operation))})
    params = jax.eval_shape(FAMILY.supernet().init, jax.random.key(0))
    active = FAMILY.supernet().active(gates)
    assert jax.tree.structure(active) == jax.tree.structure(params)
    for name, weights in active["stage_1"].items():
        assert all(bool(jnp.all(leaf)) == (name == NAMES.get(operation)) for leaf in weights.values())
