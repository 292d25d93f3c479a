import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.spaces.cell import OPERATIONS, architecture, cell_edges, cell_space, genotype, reduction_layers
from jaxnas.spaces.space import encode
from jaxnas.spaces.zoo import ZOO

TWO_NODES = cell_space(2, ("max_pool_3x3", "none", "skip_connect"))


def valid_cells(nodes, options, none):
    """Brute force: all assignments of options to edges with two edges other than none at every node."""
    ends = np.asarray([node for _, node in cell_edges(nodes)])
    cells = np.asarray(list(itertools.product(range(options), repeat=len(ends))), np.int32)
    kept = np.stack([((cells != none) & (ends == node)).sum(axis=1) for node in range(nodes)], axis=1)
    return cells[(kept == 2).all(axis=1)]


CELLS = valid_cells(2, 3, none=1)


def test_edges_node_by_node():
    assert cell_edges(1) == ((0, 0), (1, 0))
    assert cell_edges(2) == ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1))
    assert len(cell_edges(4)) == 14


@pytest.mark.parametrize(
    ("layers", "reductions"), [(1, (0,)), (2, (0, 1)), (3, (1, 2)), (8, (2, 5)), (14, (4, 9)), (20, (6, 13))]
)
def test_reductions_after_a_third_and_two_thirds(layers, reductions):
    assert reduction_layers(layers) == reductions


@pytest.mark.parametrize(("nodes", "operations"), [(1, 2), (1, 4), (2, 3), (3, 2)])
def test_size_counts_the_valid_architectures(nodes, operations):
    space = cell_space(nodes, OPERATIONS[:operations])
    assert space.size == len(valid_cells(nodes, operations, none=0)) ** 2


def test_size_of_the_published_space():
    space = cell_space()
    assert space.size == (180 * 7**8) ** 2
    assert space.shapes == {"normal": (14, 8), "reduce": (14, 8)}


def test_decoding_undoes_encoding_for_every_cell():
    both = {"normal": CELLS, "reduce": CELLS[::-1]}
    decoded = jax.jit(jax.vmap(lambda a: TWO_NODES.decode(encode(TWO_NODES, a))))(both)
    for part, cells in both.items():
        np.testing.assert_array_equal(decoded[part], cells)
        assert decoded[part].dtype == jnp.int32


def test_decoding_keeps_the_most_probable_cell():
    """Of all valid cells the one with the largest sum of probabilities of its kept operations (Liu et al., 2.4)."""
    logits = 2 * jax.random.normal(jax.random.key(0), (50, 5, 3))
    decoded = jax.vmap(TWO_NODES.decode)({"normal": logits, "reduce": -logits})
    for part, values in (("normal", logits), ("reduce", -logits)):
        probabilities = np.asarray(jax.nn.softmax(values)) * [1, 0, 1]
        scores = probabilities[:, np.arange(5)[:, None], CELLS.T].sum(axis=1)
        np.testing.assert_array_equal(decoded[part], CELLS[scores.argmax(axis=1)])


def test_ties_go_to_the_first_edge_and_the_first_operation():
    equal = {part: jnp.zeros(shape) for part, shape in TWO_NODES.shapes.items()}
    np.testing.assert_array_equal(TWO_NODES.decode(equal)["normal"], [0, 0, 0, 0, 1])


def test_canonical_strings_are_distinct_and_parse_back():
    texts = set()
    for cell in CELLS:
        text = TWO_NODES.canonical({"normal": cell, "reduce": CELLS[0]})
        parsed = TWO_NODES.parse(text)
        np.testing.assert_array_equal(parsed["normal"], cell)
        np.testing.assert_array_equal(parsed["reduce"], CELLS[0])
        texts.add(text)
    assert len(texts) == len(CELLS) == 48


def test_the_canonical_string():
    cells = {"normal": np.asarray([0, 2, 1, 2, 0]), "reduce": np.asarray([2, 2, 2, 2, 1])}
    assert TWO_NODES.canonical(cells) == (
        "normal:|max_pool_3x3~0|skip_connect~1|+|skip_connect~1|max_pool_3x3~2|;"
        "reduce:|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|"
    )


def test_genotypes_and_architectures_are_inverse():
    for cell in CELLS:
        cells = {"normal": cell, "reduce": CELLS[0]}
        back = architecture(TWO_NODES, genotype(TWO_NODES, cells))
        np.testing.assert_array_equal(back["normal"], cell)
        np.testing.assert_array_equal(back["reduce"], CELLS[0])


@pytest.mark.parametrize("name", ["DARTS_V1", "DARTS_V2", "PDARTS", "PC_DARTS_cifar", "PC_DARTS_image"])
def test_published_cells_are_in_the_space(name):
    space = cell_space()
    back = genotype(space, architecture(space, ZOO[name]))
    for ours, published in ((back.normal, ZOO[name].normal), (back.reduce, ZOO[name].reduce)):
        nodes = [published[i : i + 2] for i in range(0, len(published), 2)]
        assert ours == tuple(edge for node in nodes for edge in sorted(node, key=lambda edge: edge[1]))
    assert (back.normal_concat, back.reduce_concat) == ((2, 3, 4, 5), (2, 3, 4, 5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "normal has 5 nodes, but the cells of this space have 4"),
        ({"normal": (("skip_connect", 0),) * 2 + ZOO["DARTS_V2"].normal[2:]}, "node 0 of normal reads state 0 twice"),
        ({"normal": (("sep_conv_7x7", 0), *ZOO["DARTS_V2"].normal[1:])}, "'sep_conv_7x7'; did you mean 'sep_conv"),
        ({"normal": (("none", 0), *ZOO["DARTS_V2"].normal[1:])}, "operation at node 0 of normal: 'none'"),
        ({"normal_concat": (2, 3, 4)}, r"normal_concat is \[2, 3, 4\]"),
        ({"reduce_concat": (3, 2, 4, 5)}, r"reduce_concat is \[3, 2, 4, 5\]"),
    ],
)
def test_genotypes_outside_of_the_space(changes, message):
    with pytest.raises(UserError, match=message):
        architecture(cell_space(), ZOO["DARTS_V2"]._replace(**changes) if changes else ZOO["NASNet"])


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        ([0, 2, 1, 1, 0], "node 1 of normal keeps 1 edges, but has to keep 2"),
        ([0, 2, 0, 0, 0], "node 1 of normal keeps 3 edges"),
        ([0, 2, 0, 0], "has to be 5 integers"),
        ([0.0, 2.0, 1.0, 0.0, 0.0], "has to be 5 integers, not float64"),
        ([0, 2, 1, 0, 3], "option numbers from 0 to 2"),
    ],
)
def test_invalid_architectures(normal, message):
    cells = {"normal": np.asarray(normal), "reduce": CELLS[0]}
    for use in (TWO_NODES.canonical, lambda cells: genotype(TWO_NODES, cells)):
        with pytest.raises(UserError, match=message):
            use(cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("normal", "is not written normal:"),
        ("reduce:|a~0|b~1|;normal:|a~0|b~1|", "is not written normal:"),
        ("normal:;reduce:", "node 0 of normal is ''"),
        ("normal:|skip_connect~0|;reduce:|skip_connect~0|skip_connect~1|", "node 0 of normal is"),
        ("normal:|skip_connect~0|skip_connect~x|;reduce:|skip_connect~0|skip_connect~1|", "node 0 of normal is"),
        ("normal:|skip_connect~0|skip_connect~1|;reduce:|skip_connect~0|skip_connect~1|", "normal has 1 nodes"),
        ("normal:|skip_connect~0|skip_connect~2|+|skip_connect~0|skip_connect~1|;reduce:", "reads state 2, but can"),
        ("normal:|skip_conect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|;reduce:", "mean 'skip_connect'"),
    ],
)
def test_strings_that_are_no_architecture(text, message):
    with pytest.raises(UserError, match=message):
        TWO_NODES.parse(text)


@pytest.mark.parametrize(
    ("nodes", "operations", "message"),
    [
        (0, OPERATIONS, "at least 1 node, not 0"),
        (4, ("none",), "at least one other"),
        (4, ("skip_connect", "max_pool_3x3"), "have to contain 'none'"),
        (4, ("none", "sep_conv_3"), "unknown operation 'sep_conv_3'; did you mean 'sep_conv_3x3'"),
        (4, ("none", "skip_connect", "skip_connect"), "twice"),
    ],
)
def test_mistaken_spaces(nodes, operations, message):
    with pytest.raises(UserError, match=message):
        cell_space(nodes, operations)


def test_a_network_needs_a_layer():
    with pytest.raises(UserError, match="at least 1 layer, not 0"):
        reduction_layers(0)


def test_the_space_takes_every_candidate_operation():
    assert cell_space(1, tuple(CANDIDATES)).shapes["normal"] == (2, len(CANDIDATES))
