"""The network of one architecture: its published size, what it reads, and what it drops."""

import functools

import jax
import numpy as np
import pytest

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.costs.counting import Cost, network_cost
from jaxnas.layers.resizing import resized
from jaxnas.networks.mobilenet_v3 import ElasticBlock, MobileNetV3
from jaxnas.spaces.elastic import concrete, elastic_plan, elastic_space
from tests.networks.random_variables import random_variables


def plan_with(constant, **changes):
    settings = {field: value for field, value in getattr(spaces, constant).items() if field != "name"}
    return elastic_plan(**settings | changes)


def uniform(plan, kernel, expansion, depth, resolution):
    """The architecture with the same kernel and expansion in every layer, and the same depth in every stage."""
    layers = len(plan.layers)
    written = (f"kernel:{'+'.join([kernel] * layers)}", f"expansion:{'+'.join([expansion] * layers)}")
    text = ";".join((*written, f"depth:{'+'.join([depth] * plan.stages)}", f"resolution:{resolution}"))
    return elastic_space(plan).parse(text)


@functools.cache
def small(resolution="8"):
    plan = plan_with("ELASTIC_8")
    return MobileNetV3(plan, concrete(plan, uniform(plan, "3", "4", "2", resolution)), 10)


@pytest.mark.parametrize(
    ("options", "cost"),
    [(("7", "6", "4", "224"), Cost(7_664_760, 566_170_656)), (("3", "3", "2", "224"), Cost(3_410_792, 121_278_672))],
    ids=["largest", "smallest"],
)
@pytest.mark.parametrize("size", [(224, 224), (180, 201)], ids=str)
def test_published_sizes(options, cost, size):
    """Of the largest and the smallest network at 224 pixels; to resize what they read costs no multiply-adds."""
    plan = plan_with("ELASTIC")
    network = MobileNetV3(plan, concrete(plan, uniform(plan, *options)), 1000)
    assert network_cost(network, (*size, 3)) == cost


def test_images_of_another_size_are_resized():
    network, variables = small("6"), random_variables(small("6"), (8, 8, 3))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))

    @jax.jit
    def answers(images):
        return network.apply(variables, images, train=False)[0]

    smaller = jax.jit(resized, static_argnums=1)(images, 6)
    np.testing.assert_allclose(answers(images), answers(smaller), rtol=1e-5, atol=1e-5)
    assert answers(images).shape == (2, 10)


def test_names_of_the_variables():
    found = random_variables(small(), (8, 8, 3))
    blocks = {f"stage_{stage}_block_{block}" for stage in (1, 2) for block in (1, 2)}
    assert set(found["params"]) == {"stem", "first", "final", "head", "classifier"} | blocks
    assert "squeeze_excitation" not in found["params"]["stage_1_block_1"]
    assert found["params"]["stage_2_block_2"]["squeeze_excitation"]["squeeze"]["kernel"].shape == (64, 16)
    assert set(found["params"]["head"]) == {"kernel"}  # no bias


@pytest.mark.parametrize(("number", "adds"), [(0, False), (1, True), (3, False), (4, True)])
def test_a_dropped_branch_leaves_the_input(number, adds):
    """At a rate near 1 in training, where a block is added to what it reads."""
    plan = plan_with("ELASTIC_8")
    layer = plan.layers[number]
    block = ElasticBlock(plan, number, 3, 8, None)
    images = np.float32(np.random.default_rng(0).normal(size=(2, 4, 4, layer.channels_in)))

    @jax.jit
    def run(first, second):
        variables = block.init(first, images, False)
        return block.apply(variables, images, True, 1 - 1e-7, rngs={"drop_path": second}, mutable=["batch_stats"])[0]

    hidden = run(jax.random.key(1), jax.random.key(2))
    assert (hidden.shape == images.shape and np.array_equal(hidden, images)) == adds


def test_a_network_needs_classes():
    plan = plan_with("ELASTIC_8")
    with pytest.raises(UserError, match="at least 1 of classes, not 0"):
        MobileNetV3(plan, concrete(plan, uniform(plan, "3", "4", "2", "8")), 0)
