import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.block import FORMS, Block, parse_block
from jaxnas.spaces.chain import (
    Layer,
    allowed_blocks,
    chain_plan,
    chain_space,
    check_image_size,
    choice_layers,
    choice_names,
    chosen_blocks,
    input_sizes,
)
from jaxnas.spaces.space import random

SETTINGS = {
    "stem": 4,
    "stem_stride": 2,
    "first": 6,
    "widths": (8, 8, 10),
    "depths": (1, 2, 1),
    "strides": (2, 1, 1),
    "head": 16,
    "candidates": ("identity", "mbconv_k3_e3", "zero"),
    "activation": "relu",
    "identity_activation": False,
    "expand_always": False,
}
PLAN = chain_plan(**SETTINGS)
DIGITS = chain_space(PLAN, "digits", digits=True)
NAMES = chain_space(PLAN, "names")
SHARED = chain_space(PLAN, "shared", shared=True)


def plan_with(**changes):
    return chain_plan(**SETTINGS | changes)


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("mbconv_k3_e6", Block("mbconv", 3, 6)),
        ("mbconv_k5_e1_g2", Block("mbconv", 5, 1, groups=2)),
        ("mbconv_k3_e3_se", Block("mbconv", 3, 3, squeeze=0.25)),
        ("mbconv_k7_e1.5_g3_se0.5", Block("mbconv", 7, 1.5, 3, 0.5)),
        ("separable_k3", Block("separable", 3)),
        ("separable_k5_se", Block("separable", 5, squeeze=0.25)),
        ("residual", Block("residual", 3)),
        ("residual_w2_a4", Block("residual", 3, bits=(2, 4))),
        ("identity", Block("identity")),
        ("zero", Block("zero")),
    ],
)
def test_blocks_are_written_and_read(text, block):
    assert parse_block(text) == block
    assert str(block) == text


def test_other_spellings_of_a_block():
    assert str(parse_block("mbconv_k3_e6.0_g1_se0.25")) == "mbconv_k3_e6_se"


@pytest.mark.parametrize("text", FORMS)
def test_the_forms_that_errors_suggest_exist(text):
    assert str(parse_block(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mbconv_3_6", "did you mean 'mbconv_k3_e6'"),
        ("mbconv_k3", "did you mean"),
        ("mbconv_k3_e6 ", "did you mean 'mbconv_k3_e6'"),
        ("separable_k3_e6", "did you mean 'separable_k3"),
        ("skip", "known are"),
        ("", "known are"),
        (3, "known are"),
        (None, "known are"),
        ("residual_w2", "did you mean 'residual"),
        ("residual_w0_a4", "weights of 0 bits, which have to be 1 to 8"),
        ("residual_w2_a9", "activations of 9 bits, which have to be 1 to 8"),
        ("mbconv_k4_e6", "kernel of size 4, but sizes are odd"),
        ("mbconv_k0_e6", "kernel of size 0, but sizes are odd"),
        ("mbconv_k3_e0", "expansion 0, which has to be above 0"),
        ("mbconv_k3_e1_g0", "groups 0, which has to be above 0"),
        ("mbconv_k3_e1_se1.5", "squeeze ratio 1.5"),
        ("mbconv_k3_e1_se0.0", "squeeze ratio 0"),
    ],
)
def test_mistaken_blocks(text, message):
    with pytest.raises(UserError, match=message):
        parse_block(text)


@pytest.mark.parametrize(
    ("block", "channels_in", "hidden", "squeezed"),
    [("mbconv_k3_e6_se", 16, 96, 4), ("mbconv_k3_e1.5_se", 10, 15, 2), ("mbconv_k3_e0.1_se", 1, 1, 1)],
)
def test_channels_inside_a_block(block, channels_in, hidden, squeezed):
    assert parse_block(block).hidden(channels_in) == hidden
    assert parse_block(block).squeezed(channels_in) == squeezed


def test_the_layers_of_a_plan():
    assert PLAN.layers == (
        Layer(4, 6, 1, "first block", 0, Block("mbconv", 3, 1)),
        Layer(6, 8, 2, "stage 1 block 1", 1),
        Layer(8, 8, 1, "stage 2 block 1", 2),
        Layer(8, 8, 1, "stage 2 block 2", 2),
        Layer(8, 10, 1, "stage 3 block 1", 3),
    )
    assert plan_with(first=0).layers[0] == Layer(4, 8, 2, "stage 1 block 1", 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem": 0}, "stem is 0, but has to be a whole number of at least 1"),
        ({"head": 1.5}, "head is 1.5, but has to be a whole number of at least 1"),
        ({"first": -1}, "first is -1, but has to be a whole number of at least 0"),
        ({"widths": (8, 8)}, "one number for every stage, but have 2, 3 and 3"),
        ({"widths": (), "depths": (), "strides": ()}, "but have 0, 0 and 0"),
        ({"widths": (8, 0, 10)}, "the width of stage 2 is 0, but has to be a whole number of at least 1"),
        ({"depths": (1, 2, 0)}, "the depth of stage 3"),
        ({"strides": (2, 3, 1)}, "the stride of stage 2 has to be 1 or 2, not 3"),
        ({"stem_stride": 4}, "the stride of the stem has to be 1 or 2, not 4"),
        ({"activation": "rele6"}, "did you mean 'relu6'"),
        ({"candidates": ()}, "at least one block"),
        ({"candidates": ("mbconv_k3_e6", "zero", "mbconv_k3_e6.0")}, "'mbconv_k3_e6' twice"),
        ({"candidates": ("mbconv_k3_e",)}, "did you mean 'mbconv_k3_e6'"),
        ({"candidates": ("mbconv_k3_e1_g4",)}, "stage 1 block 1 has a pointwise convolution of 6 .* take 8"),
    ],
)
def test_mistaken_plans(changes, message):
    with pytest.raises(UserError, match=message):
        plan_with(**changes)


@pytest.mark.parametrize("shared", [False, True])
def test_a_layer_whose_shape_changes_needs_more_than_zero(shared):
    with pytest.raises(UserError, match="changes the shape of its input, which 'zero' cannot"):
        chain_space(plan_with(candidates=("zero",)), "zeros", shared=shared)


@pytest.mark.parametrize(("size", "fits"), [((4, 4), True), ((4, 9), True), ((3, 4), False), ((8, 1), False)])
def test_images_have_at_least_a_pixel_for_every_stride(size, fits):
    if fits:
        check_image_size(PLAN, *size)
    else:
        with pytest.raises(UserError, match=f"at least 4x4 pixels, not {size[0]}x{size[1]}"):
            check_image_size(PLAN, *size)


def test_sizes_are_rounded_up():
    assert input_sizes(PLAN, 9, 8) == ((5, 4), (5, 4), (3, 2), (3, 2), (3, 2), (3, 2))


@pytest.mark.parametrize(
    ("shared", "layers", "names"),
    [
        (
            False,
            ((1,), (2,), (3,), (4,)),
            ("stage 1 block 1", "stage 2 block 1", "stage 2 block 2", "stage 3 block 1"),
        ),
        (True, ((1,), (2, 3), (4,)), ("stage 1", "stage 2", "stage 3")),
    ],
)
def test_choices(shared, layers, names):
    assert choice_layers(PLAN, shared) == layers
    assert choice_names(PLAN, shared) == names


def test_zero_is_possible_only_where_the_shape_stays():
    zero = PLAN.options.index("zero")
    np.testing.assert_array_equal(allowed_blocks(PLAN)[:, zero], [False, True, True, False])
    assert NAMES.size == 2 * 3 * 3 * 2
    # A stage that shares its choice has what all its layers can have.
    deeper = plan_with(depths=(2, 2, 1))
    np.testing.assert_array_equal(allowed_blocks(deeper, shared=True)[:, zero], [False, True, False])
    np.testing.assert_array_equal(allowed_blocks(deeper)[:, zero], [False, True, True, True, False])
    assert SHARED.size == 2 * 3 * 2


@pytest.mark.parametrize(
    ("space", "text", "numbers"),
    [
        (DIGITS, "1201", [1, 2, 0, 1]),
        (NAMES, "mbconv_k3_e3+zero+identity+mbconv_k3_e3", [1, 2, 0, 1]),
        (SHARED, "identity+zero+mbconv_k3_e3", [0, 2, 1]),
    ],
    ids=["digits", "names", "shared"],
)
def test_canonical_strings(space, text, numbers):
    architecture = space.parse(f" {text}\n")
    np.testing.assert_array_equal(architecture["blocks"], numbers)
    assert architecture["blocks"].dtype == jnp.int32
    assert space.canonical(architecture) == text
    for seed in range(5):
        drawn = random(space, jax.random.key(seed))
        np.testing.assert_array_equal(space.parse(space.canonical(drawn))["blocks"], drawn["blocks"])


@pytest.mark.parametrize(
    ("space", "text", "message"),
    [
        (DIGITS, "12011", "not written as 4 digits from 0 to 2"),
        (DIGITS, "120", "not written as 4 digits from 0 to 2"),
        (DIGITS, "1203", "not written as 4 digits from 0 to 2"),
        (DIGITS, "12a1", "not written as 4 digits from 0 to 2"),
        (DIGITS, "12²1", "not written as 4 digits from 0 to 2"),
        (DIGITS, "", "not written as 4 digits from 0 to 2"),
        (DIGITS, "2000", "unknown option at choice 0 of blocks: 'zero'"),
        (NAMES, "identity+zero", "2 choices, but this space has 4"),
        (NAMES, "identity+zero+mbconv_k3_e2+identity", "did you mean 'mbconv_k3_e3'"),
    ],
)
def test_mistaken_strings(space, text, message):
    with pytest.raises(UserError, match=message):
        space.parse(text)


def test_digits_number_ten_candidates():
    eleven = [f"mbconv_k3_e{expansion}" for expansion in range(1, 12)]
    with pytest.raises(UserError, match="cannot number 11 candidates"):
        chain_space(plan_with(candidates=eleven), "eleven", digits=True)
    space = chain_space(plan_with(candidates=eleven[:10]), "ten", digits=True)
    assert space.canonical(space.parse("9090")) == "9090"


def test_chosen_blocks_fill_every_layer():
    one, zero, same = Block("mbconv", 3, 3), Block("zero"), Block("identity")
    first = Block("mbconv", 3, 1)
    assert chosen_blocks(PLAN, DIGITS.parse("1201")) == (first, one, zero, same, one)
    assert chosen_blocks(PLAN, SHARED.parse("identity+zero+mbconv_k3_e3"), shared=True) == (
        *(first, same, zero, zero, one),
    )
    with pytest.raises(UserError, match="has to be 4 integers"):
        chosen_blocks(PLAN, SHARED.parse("identity+zero+mbconv_k3_e3"))
