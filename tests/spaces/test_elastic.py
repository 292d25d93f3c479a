import functools
import itertools

import jax
import numpy as np
import pytest

from configs.search import spaces
from jaxnas.core.errors import UserError
from jaxnas.spaces.elastic import (
    ConcreteBlock,
    ElasticLayer,
    choice_names,
    concrete,
    divisible,
    elastic_plan,
    elastic_space,
    hidden_options,
    map_sizes,
    running,
    squeezed_channels,
)
from jaxnas.spaces.space import features, mutate, random

SETTINGS = {
    "stem": 4,
    "stem_stride": 2,
    "first": 6,
    "widths": (8, 10),
    "strides": (2, 1),
    "squeeze": (False, True),
    "hard_swish": (False, True),
    "final": 16,
    "head": 12,
    "kernels": (3, 5),
    "expansions": (1, 2.5),
    "depths": (1, 3),
    "resolutions": (7, 16),
    "divisor": 2,
}


def plan_with(**changes):
    return elastic_plan(**SETTINGS | changes)


PLAN = plan_with()
SPACE = elastic_space(PLAN)
described = jax.jit(functools.partial(features, SPACE))


def test_a_mutation_that_has_to_be_one_changes_what_decides_something():
    """From the smallest architecture on, most of whose kernels and expansions are of blocks that it does not have."""
    smallest = {part: np.zeros(choices, np.int32) for part, (choices, _) in SPACE.shapes.items()}
    keys = jax.random.split(jax.random.key(0), 64)
    mutated = jax.jit(jax.vmap(lambda key: features(SPACE, mutate(SPACE, key, smallest, 1e-6, always=True))))
    assert np.all(np.any(np.asarray(mutated(keys)) != described(smallest), axis=1))


def test_layers():
    assert PLAN.layers == (
        ElasticLayer(6, 8, 2, False, "relu", 1, 0),
        ElasticLayer(8, 8, 1, False, "relu", 1, 1),
        ElasticLayer(8, 8, 1, False, "relu", 1, 2),
        ElasticLayer(8, 10, 1, True, "hard_swish", 2, 0),
        ElasticLayer(10, 10, 1, True, "hard_swish", 2, 1),
        ElasticLayer(10, 10, 1, True, "hard_swish", 2, 2),
    )
    assert plan_with(first=0).layers[0].channels_in == 4


def test_the_space_is_all_combinations():
    assert SPACE.shapes == {"kernel": (6, 2), "expansion": (6, 2), "depth": (2, 2), "resolution": (1, 2)}
    assert SPACE.options["expansion"] == ("1", "2.5")
    assert SPACE.size == 2 ** (6 + 6 + 2 + 1)
    layers = [f"stage {stage} block {block}" for stage in (1, 2) for block in (1, 2, 3)]
    assert choice_names(PLAN) == {
        "kernel": tuple(layers),
        "expansion": tuple(layers),
        "depth": ("stage 1", "stage 2"),
        "resolution": ("images",),
    }


def test_published_size():
    """Once-for-All: 3 kernels and expansions of up to 4 blocks in each of 5 stages are about 2 · 10^19 networks."""
    plan = elastic_plan(**{field: value for field, value in spaces.ELASTIC.items() if field != "name"})
    distinct = sum(9**depth for depth in plan.depths) ** plan.stages
    assert round(distinct / 1e19) == 2
    assert elastic_space(plan).size == 9**20 * 3**5 * 4  # of which those are, at four resolutions


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (16, 8, 16),
        (20, 8, 24),
        (19, 8, 24),
        (18, 8, 24),
        (17, 8, 16),
        (3, 8, 8),
        (10.4, 1, 10),
        (92, 8, 96),
        (91, 8, 88),
    ],
)
def test_channels_are_rounded_as_in_mobilenet(channels, divisor, expected):
    """To the nearest multiple, unless that loses more than a tenth."""
    assert divisible(channels, divisor) == expected


def test_options_in_channels():
    assert [hidden_options(PLAN, number) for number in (0, 1, 4)] == [(6, 16), (8, 20), (10, 26)]
    assert [squeezed_channels(PLAN, hidden) for hidden in (4, 10, 26, 960)] == [2, 2, 6, 240]


@pytest.mark.parametrize(("resolution", "sizes"), [(16, [8, *[4] * 6]), (7, [4, *[2] * 6]), (5, [3, *[2] * 6])])
def test_strides_round_sizes_up(resolution, sizes):
    assert map_sizes(PLAN, resolution) == tuple(sizes)


TEXT = "kernel:3+5+3+5+3+5;expansion:1+1+2.5+2.5+1+1;depth:1+3;resolution:7"


def test_a_concrete_architecture_has_the_blocks_of_its_depths():
    architecture = SPACE.parse(TEXT)
    assert SPACE.canonical(architecture) == TEXT
    blocks, resolution = concrete(PLAN, architecture)
    assert blocks == (
        ConcreteBlock(0, 3, 6),
        ConcreteBlock(3, 5, 20),
        ConcreteBlock(4, 3, 10),
        ConcreteBlock(5, 5, 10),
    )
    assert resolution == 7


def test_choices_of_blocks_that_run_are_relevant():
    runs = np.array([True, False, False, True, True, True])
    architecture = SPACE.parse(TEXT)
    relevant = jax.jit(SPACE.relevant)(architecture)
    np.testing.assert_array_equal(jax.jit(lambda chosen: running(PLAN, chosen))(architecture), runs)
    np.testing.assert_array_equal(relevant["kernel"], runs)
    np.testing.assert_array_equal(relevant["expansion"], runs)
    assert relevant["depth"].all() and relevant["resolution"].all()


def test_features_are_equal_exactly_where_the_networks_are():
    draw = jax.jit(functools.partial(random, SPACE))
    drawn = [jax.device_get(draw(jax.random.key(seed))) for seed in range(4)]
    beyond = {part: np.array(numbers) for part, numbers in SPACE.parse(TEXT).items()}
    beyond["kernel"][1] = 0  # of a block that does not run
    drawn += [SPACE.parse(TEXT), beyond]
    for one, other in itertools.combinations(drawn, 2):
        same = concrete(PLAN, one) == concrete(PLAN, other)
        assert np.array_equal(described(one), described(other)) == same
    assert concrete(PLAN, drawn[-1]) == concrete(PLAN, drawn[-2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": 0}, "stem is 0, but has to be a whole number of at least 1"),
        ({"first": -1}, "first is -1, but has to be a whole number of at least 0"),
        ({"final": 1.5}, "final is 1.5, but has to be a whole number"),
        ({"head": True}, "head is True, but has to be a whole number"),
        ({"divisor": 0}, "divisor is 0, but has to be a whole number of at least 1"),
        ({"widths": (8, 0)}, r"widths\[1\] is 0, but has to be a whole number"),
        ({"widths": ()}, "have one entry for each stage, but here widths 0, strides 2"),
        ({"squeeze": (True,)}, "have one entry for each stage, but here .*squeeze 1"),
        ({"stem_stride": 3}, "stem_stride is 3, but has to be 1 or 2"),
        ({"strides": (2, 0)}, r"strides\[1\] is 0, but has to be 1 or 2"),
        ({"kernels": (2, 3)}, r"kernels has to hold odd whole numbers that rise, as in \(3, 5\), not \(2, 3\)"),
        ({"kernels": (5, 3)}, "kernels has to hold odd whole numbers that rise"),
        ({"expansions": (0, 1)}, "expansions has to hold numbers above 0 that rise"),
        ({"expansions": (1, 1.05)}, "the expansions of stage 1 block 1 round to 6, 6 channels"),
        ({"depths": ()}, "depths has to hold whole numbers above 0 that rise"),
        ({"resolutions": (8, 7)}, "resolutions has to hold whole numbers above 0 that rise"),
        ({"resolutions": (3, 8)}, "resolutions begin with 3 pixels, but .* by a factor of 4; take at least 4"),
        ({"resolutions": 8}, r"resolutions has to be a tuple, such as \(24, 32\), not 8"),
        ({"strides": (2.0, 1)}, r"strides\[0\] is 2.0, but has to be 1 or 2"),
        ({"strides": None}, r"strides has to be a tuple, such as \(1, 2\), not None"),
        ({"squeeze": ("False", True)}, r"squeeze\[0\] is 'False', but has to be True or False"),
    ],
)
def test_mistaken_settings(changes, message):
    with pytest.raises(UserError, match=message):
        plan_with(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": np.zeros(5, np.int32)}, "kernel of the architecture has to be 6 integers"),
        ({"depth": None}, "the architecture has no depth, but only kernel, expansion, resolution"),
        ({"depth": np.array([0, 2])}, "depth of the architecture has to hold option numbers from 0 to 1"),
    ],
)
def test_an_architecture_of_another_space_is_a_mistake(changes, message):
    with pytest.raises(UserError, match=message):
        concrete(PLAN, {part: of for part, of in {**SPACE.parse(TEXT), **changes}.items() if of is not None})
