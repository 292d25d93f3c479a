import itertools

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import Layer
from jaxnas.spaces.space import random
from jaxnas.spaces.superkernel import (
    allowed_expansions,
    channel_options,
    choice_names,
    chosen_resolution,
    concrete_chain,
    hidden_options,
    superkernel_plan,
    superkernel_space,
)

SETTINGS = {
    "stem": 4,
    "stem_stride": 1,
    "first": 6,
    "widths": (8, 8, 10),
    "depths": (1, 2, 1),
    "strides": (2, 1, 1),
    "head": 16,
    "kernels": (3, 5),
    "expansions": (0, 1, 2.5),
    "width_fractions": (1.0,),
    "resolutions": (32,),
}
SCALED = {"width_fractions": (0.5, 1.0), "resolutions": (16, 24, 32)}
SKIPPED = Block("zero")


def plan_with(**changes):
    return superkernel_plan(**SETTINGS | changes)


PLAN, WIDE = plan_with(), plan_with(**SCALED)


def test_parts_with_one_option_are_no_choice():
    assert superkernel_space(PLAN).shapes == {"kernel": (4, 2), "expansion": (4, 3)}
    shapes = superkernel_space(WIDE).shapes
    assert shapes == {"kernel": (4, 2), "expansion": (4, 3), "width": (3, 2), "resolution": (1, 3)}


def test_names_of_choices():
    layers = ("stage 1 block 1", "stage 2 block 1", "stage 2 block 2", "stage 3 block 1")
    assert choice_names(PLAN) == {"kernel": layers, "expansion": layers}
    stages = ("stage 1", "stage 2", "stage 3")
    assert choice_names(WIDE) == {"kernel": layers, "expansion": layers, "width": stages, "resolution": ("images",)}


@pytest.mark.parametrize(("plan", "skippable"), [(PLAN, [0, 1, 1, 0]), (WIDE, [0, 0, 1, 0])], ids=["plan", "wide"])
def test_a_block_is_skipped_only_where_no_width_changes_its_shape(plan, skippable):
    allowed = allowed_expansions(plan)
    np.testing.assert_array_equal(allowed[:, 0], skippable)
    assert allowed[:, 1:].all()
    of_widths = 2**3 * 3 if plan is WIDE else 1
    assert superkernel_space(plan).size == 2**4 * 2 ** (4 - sum(skippable)) * 3 ** sum(skippable) * of_widths
    assert allowed_expansions(plan_with(expansions=(1, 2))).all()


def test_options_in_channels():
    assert [channel_options(WIDE, stage) for stage in range(4)] == [(6,), (4, 8), (4, 8), (5, 10)]
    assert channel_options(plan_with(first=0), 0) == (4,)
    assert [hidden_options(WIDE, number) for number in WIDE.searchable] == [(0, 6, 15), *[(0, 8, 20)] * 3]


@pytest.mark.parametrize(
    ("plan", "text", "layers", "resolution"),
    [
        (
            PLAN,
            "kernel:3+5+3+5;expansion:1+0+2.5+1",
            [
                Layer(6, 8, 2, "stage 1 block 1", 1, Block("mbconv", 3, 1)),
                Layer(8, 8, 1, "stage 2 block 1", 2, SKIPPED),
                Layer(8, 8, 1, "stage 2 block 2", 2, Block("mbconv", 3, 2.5)),
                Layer(8, 10, 1, "stage 3 block 1", 3, Block("mbconv", 5, 1)),
            ],
            32,
        ),
        (  # hidden channels are those of the widest input, and so more for each input channel of a narrower one
            WIDE,
            "kernel:3+5+3+5;expansion:1+1+0+2.5;width:0.5+1+0.5;resolution:24",
            [
                Layer(6, 4, 2, "stage 1 block 1", 1, Block("mbconv", 3, 1)),
                Layer(4, 8, 1, "stage 2 block 1", 2, Block("mbconv", 5, 2)),
                Layer(8, 8, 1, "stage 2 block 2", 2, SKIPPED),
                Layer(8, 5, 1, "stage 3 block 1", 3, Block("mbconv", 5, 2.5)),
            ],
            24,
        ),
    ],
    ids=["plan", "wide"],
)
def test_concrete_layers(plan, text, layers, resolution):
    space = superkernel_space(plan)
    architecture = space.parse(text)
    assert space.canonical(architecture) == text
    chain = concrete_chain(plan, architecture)
    assert chain.layers == (Layer(4, 6, 1, "first block", 0, Block("separable", 3)), *layers)
    assert chosen_resolution(plan, architecture) == resolution


@pytest.mark.parametrize("plan", [PLAN, WIDE, plan_with(first=0, kernels=(1, 3, 7), **SCALED)])
def test_concrete_chains_connect_and_have_the_chosen_hidden_channels(plan):
    space = superkernel_space(plan)
    for seed in range(5):
        architecture = random(space, jax.random.key(seed))
        layers = concrete_chain(plan, architecture).layers
        for before, layer in itertools.pairwise(layers):
            assert layer.channels_in == before.channels
        for row, number in enumerate(plan.searchable):
            layer, option = layers[number], int(architecture["expansion"][row])
            hidden = hidden_options(plan, number)[option]
            assert layer.keeps_shape if layer.fixed == SKIPPED else layer.fixed.hidden(layer.channels_in) == hidden


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ()}, r"kernels has to hold odd whole numbers that rise, as in \(3, 5\), not \(\)"),
        ({"kernels": (3, 4)}, "kernels has to hold odd whole numbers"),
        ({"kernels": (5, 3)}, "kernels has to hold odd whole numbers that rise"),
        ({"kernels": (3, 3)}, "kernels has to hold odd whole numbers that rise"),
        ({"kernels": (3, "5")}, "kernels has to hold odd whole numbers"),
        ({"expansions": (-1, 3)}, "expansions has to hold numbers of at least 0"),
        ({"expansions": (3, float("inf"))}, "expansions has to hold numbers of at least 0"),
        ({"expansions": (0,)}, "nothing but 0"),
        ({"expansions": (1, 1.05)}, "the expansions of stage 1 block 1 round to 6, 6 channels"),
        ({"width_fractions": (0, 1)}, "width_fractions has to hold numbers above 0"),
        ({"width_fractions": (0.5, 0.75)}, "the last has to be 1, not 0.75"),
        ({"width_fractions": (0.95, 1)}, "the width_fractions of stage 1 round to 8, 8 channels"),
        ({"resolutions": (32, 16)}, "resolutions has to hold whole numbers above 0 that rise"),
        ({"resolutions": (True,)}, "resolutions has to hold whole numbers above 0"),
        ({"widths": (8, 8)}, "one number for every stage"),
        ({"strides": (3, 1, 1)}, "the stride of stage 1 has to be 1 or 2"),
        ({"stem": 0}, "stem is 0, but has to be a whole number"),
    ],
)
def test_mistaken_plans(changes, message):
    with pytest.raises(UserError, match=message):
        plan_with(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel:3+5+3+5", "not written kernel:option.*;expansion:option"),
        ("kernel:3+5+3;expansion:1+1+1+1", "3 choices, but this space has 4"),
        ("kernel:3+5+3+7;expansion:1+1+1+1", "unknown option at choice 3 of kernel: '7'"),
        ("kernel:3+5+3+5;expansion:0+1+1+1", "unknown option at choice 0 of expansion: '0'"),
    ],
)
def test_mistaken_strings(text, message):
    with pytest.raises(UserError, match=message):
        superkernel_space(PLAN).parse(text)


def test_mistaken_architectures():
    architecture = superkernel_space(PLAN).parse("kernel:3+5+3+5;expansion:1+1+1+1")
    with pytest.raises(UserError, match="expansion of the architecture has to hold option numbers from 0 to 2"):
        concrete_chain(PLAN, architecture | {"expansion": np.asarray([1, 1, 1, 3])})
    with pytest.raises(UserError, match="unknown option at choice 0 of expansion: '0'"):
        concrete_chain(PLAN, architecture | {"expansion": np.asarray([0, 1, 1, 1])})
