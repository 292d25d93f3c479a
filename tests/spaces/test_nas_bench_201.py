import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, SUPERNET_OPERATIONS, cell_operations, nas_bench_201_space
from jaxnas.spaces.space import encode, random

SPACE = nas_bench_201_space()
TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_six_edges_of_five_operations():
    assert EDGES == ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))
    assert SPACE.shapes == {"cell": (6, 5)}
    assert SPACE.options == {"cell": OPERATIONS}
    assert SPACE.size == 15625
    assert SPACE.allowed["cell"].all()


def test_the_benchmarks_strings():
    architecture = SPACE.parse(f" {TEXT}\n")
    np.testing.assert_array_equal(architecture["cell"], [3, 3, 3, 1, 3, 3])
    assert SPACE.canonical(architecture) == TEXT
    assert cell_operations(architecture) == tuple(OPERATIONS[number] for number in (3, 3, 3, 1, 3, 3))


def test_strings_are_distinct_and_parse_back():
    """On every edge every operation, and the strings of a few hundred cells, most of which differ."""
    cells = np.asarray(jax.vmap(lambda key: random(SPACE, key))(jax.random.split(jax.random.key(0), 300))["cell"])
    assert all(set(column) == set(range(5)) for column in cells.T)
    texts = {SPACE.canonical({"cell": cell}): cell for cell in cells}
    assert len(texts) == len(np.unique(cells, axis=0))
    for text, cell in texts.items():
        np.testing.assert_array_equal(SPACE.parse(text)["cell"], cell)


def test_decoding_undoes_encoding():
    architecture = SPACE.parse(TEXT)
    for choose in (SPACE.decode, SPACE.best):
        np.testing.assert_array_equal(choose(encode(SPACE, architecture))["cell"], architecture["cell"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 1 nodes joined by \\+, but has to have 3"),
        (TEXT + "+|none~0|", "has 4 nodes"),
        (TEXT.replace("|nor_conv_3x3~0|+", "nor_conv_3x3~0|+", 1), "node 0 of the cell is 'nor_conv_3x3~0\\|'"),
        (TEXT.replace("~0|nor_conv_3x3~1|+", "~1|nor_conv_3x3~0|+"), "node 1 of the cell is .*~0\\|skip_connect~1\\|"),
        (TEXT.replace("skip_connect~0|", ""), "node 2 of the cell is"),
        (TEXT.replace("skip_connect~0", "skip_connect"), "node 2 of the cell is"),
        (
            TEXT.replace("skip_connect", "skip_conect"),
            "option at choice 3 of cell: 'skip_conect'; did you mean 'skip_c",
        ),
        (TEXT.replace("skip_connect", "sep_conv_3x3"), "'sep_conv_3x3'; did you mean 'nor_conv_3x3'"),
    ],
)
def test_strings_that_are_no_cell(text, message):
    with pytest.raises(UserError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("cell", "message"), [([0] * 5, "has to be 6 integers"), ([0, 1, 2, 3, 4, 5], "option numbers from 0 to 4")]
)
def test_invalid_architectures(cell, message):
    with pytest.raises(UserError, match=message):
        SPACE.canonical({"cell": np.asarray(cell)})


def test_supernets_have_every_operation_and_leave_the_pool_bare():
    assert tuple(SUPERNET_OPERATIONS) == OPERATIONS
    normalized = {name: CANDIDATES[key].normalized(1) for name, key in SUPERNET_OPERATIONS.items()}
    assert normalized == {name: name.startswith("nor_conv") for name in OPERATIONS}
