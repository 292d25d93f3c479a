import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.enas_macro import OPERATIONS, MacroLayer, enas_macro_space, macro_layers, reductions, skip_edges
from jaxnas.spaces.space import encode, random

NAMES = ("conv_3x3", "sep_conv_5x5", "max_pool_3x3")
SPACE = enas_macro_space(4, NAMES)
TEXT = "conv_3x3|sep_conv_5x5:1|conv_3x3:01|max_pool_3x3:110"


def test_the_published_space():
    """12 layers of six operations; reductions after each third; 66 skips, so that there are 6^12 · 2^66 networks."""
    space = enas_macro_space(12, tuple(OPERATIONS))
    assert space.shapes == {"operations": (12, 6), "skips": (66, 2)}
    assert space.size == 6**12 * 2**66
    assert reductions(12) == (4, 8)
    assert [skip_edges(12)[row] for row in (0, 1, 2, 65)] == [(0, 2), (0, 3), (1, 3), (10, 12)]


@pytest.mark.parametrize("layers", range(3, 10))
def test_every_layer_can_add_each_state_before_its_input(layers):
    edges = skip_edges(layers)
    assert len(edges) == layers * (layers - 1) // 2 == len(set(edges))
    assert all(0 <= state < layer - 1 < layers for state, layer in edges)
    first, second = reductions(layers)
    assert 0 < first < second < layers


def test_strings_are_operations_and_a_digit_for_every_state():
    architecture = SPACE.parse(f" {TEXT}\n")
    np.testing.assert_array_equal(architecture["operations"], [0, 1, 0, 2])
    np.testing.assert_array_equal(architecture["skips"], [1, 0, 1, 1, 1, 0])
    assert SPACE.canonical(architecture) == TEXT
    assert macro_layers(4, NAMES, architecture) == (
        MacroLayer("conv_3x3", ()),
        MacroLayer("sep_conv_5x5", (0,)),
        MacroLayer("conv_3x3", (1,)),
        MacroLayer("max_pool_3x3", (0, 1)),
    )


def test_strings_are_distinct_and_parse_back():
    """Random architectures take every option of every choice, and are uniform over answers and operations."""
    drawn = jax.jit(jax.vmap(lambda key: random(SPACE, key)))(jax.random.split(jax.random.key(0), 400))
    rows = np.concatenate([np.asarray(drawn[part]) for part in SPACE.shapes], axis=1)
    # Five standard deviations of a mean of 400: the largest variance of an option's indicator is 1/4.
    for part, (_, options) in SPACE.shapes.items():
        shares = np.mean(np.asarray(drawn[part])[..., None] == np.arange(options), axis=0)
        np.testing.assert_allclose(shares, 1 / options, atol=5 * 0.5 / 400**0.5)
    one = [{part: np.asarray(values[number]) for part, values in drawn.items()} for number in range(100)]
    texts = [SPACE.canonical(architecture) for architecture in one]
    assert len(set(texts)) == len(np.unique(rows[:100], axis=0))
    for text, architecture in zip(texts, one, strict=True):
        for part, numbers in SPACE.parse(text).items():
            np.testing.assert_array_equal(numbers, architecture[part])


def test_decoding_undoes_encoding():
    architecture = SPACE.parse(TEXT)
    for part, numbers in SPACE.decode(encode(SPACE, architecture)).items():
        np.testing.assert_array_equal(numbers, architecture[part])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 1 layers joined by |, but needs 4"),
        (TEXT + "|conv_3x3:0000", "has 5 layers"),
        (TEXT.replace("5x5:1", "5x5"), "layer 2 is 'sep_conv_5x5', but has to look like 'sep_conv_5x5:0'"),
        (TEXT.replace("conv_3x3|", "conv_3x3:|", 1), "layer 1 is 'conv_3x3:', but has to look like 'conv_3x3'"),
        (TEXT.replace(":01", ":011"), "layer 3 is 'conv_3x3:011', but has to look like 'conv_3x3:00'"),
        (TEXT.replace(":01", ":02"), "layer 3 is 'conv_3x3:02', but"),
        (TEXT.replace("max_pool", "max_pol"), "option at choice 3 of operations: 'max_pol_3x3'; did you mean 'max_p"),
    ],
)
def test_strings_that_are_no_architecture(text, message):
    with pytest.raises(UserError) as raised:
        SPACE.parse(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("operations", "skips", "message"),
    [
        ([0, 1, 2], [0] * 3, "operations of the architecture has to be 4 integers"),
        ([0, 1, 2, 3], [0] * 6, "operations of the architecture has to hold option numbers from 0 to 2"),
        ([0, 1, 2, 0], [0] * 5, "skips of the architecture has to be 6 integers"),
        ([0, 1, 2, 0], [2] * 6, "skips of the architecture has to hold option numbers from 0 to 1"),
    ],
)
def test_invalid_architectures(operations, skips, message):
    with pytest.raises(UserError, match=message):
        SPACE.canonical({"operations": np.asarray(operations), "skips": np.asarray(skips)})


@pytest.mark.parametrize(
    ("layers", "operations", "message"),
    [
        (2, NAMES, "layers is 2, but the macro space has three sizes; take at least 3"),
        (3, (), "operations has to name at least one operation, such as 'conv_3x3'"),
        (3, ("conv_3x3", "sep_conv3x3"), "unknown operation 'sep_conv3x3'; did you mean 'sep_conv_3x3'"),
        (3, ("conv_3x3", "conv_3x3"), "name one of them twice"),
    ],
)
def test_wrong_settings(layers, operations, message):
    with pytest.raises(UserError, match=message):
        enas_macro_space(layers, operations)
