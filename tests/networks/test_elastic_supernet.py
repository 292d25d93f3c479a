"""One-hot gates compute what the extracted network computes, whatever architectures share; sorting changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.layers import backend
from jaxnas.networks.elastic_sharing import SHARINGS, elastic_kernel, groups
from jaxnas.networks.elastic_supernet import elastic_supernet, regions
from jaxnas.networks.family import Images
from jaxnas.networks.mobilenet_v3 import MobileNetV3
from jaxnas.spaces.elastic import concrete, elastic_plan, elastic_space, hidden_options, map_sizes, squeezed_channels
from jaxnas.spaces.space import encode, random

IMAGES = Images(10, 12, 2, classes=3)
SETTINGS = {
    "stem": 4,
    "stem_stride": 1,
    "first": 4,
    "widths": (4, 6),
    "strides": (2, 2),
    "squeeze": (False, True),
    "hard_swish": (False, True),
    "final": 8,
    "head": 6,
    "kernels": (1, 3, 5),
    "expansions": (1.0, 2.0),
    "depths": (1, 3),
    "resolutions": (7, 9, 12, 16),
    "divisor": 2,
}
CHANGES = {
    "many sizes": {},
    # One size and no fixed block; the first block of a stage keeps the shape and is alone.
    "one size": {
        "first": 0,
        "widths": (4,),
        "strides": (1,),
        "squeeze": (True,),
        "hard_swish": (False,),
        "kernels": (3, 5),
        "expansions": (1.5, 2.0, 4.0),
        "depths": (1,),
        "resolutions": (10,),
        "stem_stride": 2,
    },
}


def plan_of(kind):
    return elastic_plan(**SETTINGS | CHANGES[kind])


@functools.cache
def make(kind, sharing="slices", **settings):
    plan = plan_of(kind)
    return plan, elastic_space(plan), elastic_supernet(plan, IMAGES, sharing=sharing, **settings)


def double(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


@functools.cache
def inputs(kind, sharing="slices"):
    """Weights that no two places share, scales, shifts and transforms away from where they start; images; float64."""

    @jax.jit
    def drawn(key):
        leaves, structure = jax.tree.flatten(make(kind, sharing)[2].init(key))
        noise = jax.random.normal(named(key, "noise"), (sum(leaf.size for leaf in leaves),))
        pieces = jnp.split(noise, np.cumsum([leaf.size for leaf in leaves])[:-1])
        moved = [leaf + 0.2 * piece.reshape(leaf.shape) for leaf, piece in zip(leaves, pieces, strict=True)]
        images = jax.random.normal(named(key, "images"), (4, *IMAGES.shape))
        return double(jax.tree.unflatten(structure, moved)), double(images)

    return drawn(jax.random.key(0))


def score(logits):
    return jnp.sum(jnp.sin(logits))


def compiled(function, implementation="library"):
    """A compiled (params, ...) -> (value, gradients of its score for params and the next argument)."""

    def loss(*arguments):
        value = function(*arguments)
        return score(value), value

    @jax.jit
    def run(*arguments):
        with backend.use(implementation):
            gradients, value = jax.grad(loss, argnums=(0, 1), has_aux=True)(*arguments)
        return value, gradients

    return run


@functools.cache
def supernet_gradients(kind, sharing="slices", implementation="library", **settings):
    """(params, images, gates) -> logits, gradients for params and images."""
    network = make(kind, sharing, **settings)[2]
    return compiled(lambda params, images, gates: network.apply(params, gates, images), implementation)


def alone(kind, sharing, architecture):
    """(params, images) -> logits in training mode of the network that is extracted from the params."""
    plan, _, supernet = make(kind, sharing)
    network = MobileNetV3(plan, concrete(plan, architecture), IMAGES.classes)

    def run(params, images):
        variables = supernet.extract(params, architecture)
        return network.apply(variables, images, train=True, mutable=["batch_stats"])[0][0]

    return run


def assert_close(actual, expected):
    # Float64; sums in another order, and with zeros in between.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), actual, expected)


CASES = [("many sizes", sharing, seed) for sharing in SHARINGS for seed in range(3 if sharing == "slices" else 1)]


@pytest.mark.parametrize(("kind", "sharing", "seed"), [*CASES, ("one size", "slices", 0), ("one size", "paths", 1)])
def test_one_hot_gates_are_the_extracted_network_and_its_gradients(kind, sharing, seed):
    """In training mode; the gradients are those for the shared weights, through the extraction, and for the images."""
    with jax.enable_x64(True):
        _, space, _ = make(kind, sharing)
        params, images = inputs(kind, sharing)
        architecture = random(space, jax.random.key(seed))
        expected = compiled(alone(kind, sharing, architecture))(params, images)
        actual = supernet_gradients(kind, sharing)(params, images, encode(space, architecture))
        assert_close(actual, expected)
