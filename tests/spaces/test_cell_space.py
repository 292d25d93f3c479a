import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.spaces.cell import (
    DENSE_NORMAL,
    OPERATIONS,
    POOLING_REDUCE,
    architecture,
    cell_edges,
    cell_space,
    genotype,
    reduction_layers,
)
from jaxnas.spaces.genotype import KNOWN_OPERATIONS
from jaxnas.spaces.space import encode, random
from jaxnas.spaces.zoo import ZOO

TWO_NODES = cell_space(2, ("max_pool_3x3", "none", "skip_connect"))
TWO_SETS = cell_space(2, ("none", "conv 1x1", "conv_3x1_1x3", "skip_connect"), ("max_pool_7x7", "none"))


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


@pytest.mark.parametrize(("operations", "reduce_operations"), [(3, 2), (2, 3)])
def test_size_where_the_cells_choose_from_different_sets(operations, reduce_operations):
    space = cell_space(2, OPERATIONS[:operations], OPERATIONS[:reduce_operations])
    assert space.size == np.prod([len(valid_cells(2, count, none=0)) for count in (operations, reduce_operations)])


def test_the_space_of_dense_convolutions_and_large_pools():
    space = cell_space(operations=DENSE_NORMAL, reduce_operations=POOLING_REDUCE)
    assert space.size == 180 * 9**8 * 180 * 5**8
    assert space.shapes == {"normal": (14, 10), "reduce": (14, 6)}
    assert space.options == {"normal": DENSE_NORMAL, "reduce": POOLING_REDUCE}


def test_cells_of_different_sets_are_written_and_read_in_their_own():
    for seed in range(10):
        drawn = random(TWO_SETS, jax.random.key(seed))
        for back in (
            TWO_SETS.decode(encode(TWO_SETS, drawn)),
            TWO_SETS.parse(TWO_SETS.canonical(drawn)),
            architecture(TWO_SETS, genotype(TWO_SETS, drawn)),
        ):
            jax.tree.map(np.testing.assert_array_equal, back, drawn)
        assert {name for name, _ in genotype(TWO_SETS, drawn).reduce} == {"max_pool_7x7"}


def test_an_operation_of_the_other_cell_is_unknown():
    text = TWO_SETS.canonical(random(TWO_SETS, jax.random.key(0)))
    with pytest.raises(UserError, match=r"operation at node 0 of reduce: 'skip_connect'; known are: max_pool_7x7"):
        TWO_SETS.parse(text.partition(";")[0] + ";reduce:" + "+".join(["|skip_connect~0|skip_connect~1|"] * 2))


def test_every_edge_has_every_option():
    for part, shape in TWO_SETS.shapes.items():
        assert TWO_SETS.allowed[part].shape == shape
        assert TWO_SETS.allowed[part].all()


def test_the_best_cell_has_the_largest_sum_of_scores():
    """Brute force over all valid cells: what is not kept scores 0, whatever the scores of none, and signs are free."""
    scores = 2 * jax.random.normal(jax.random.key(3), (50, 5, 3)) - 1
    best = jax.jit(jax.vmap(TWO_NODES.best))({"normal": scores, "reduce": -scores})
    for part, values in (("normal", scores), ("reduce", -scores)):
        counted = np.asarray(values) * [1, 0, 1]
        sums = counted[:, np.arange(5)[:, None], CELLS.T].sum(axis=1)
        np.testing.assert_array_equal(best[part], CELLS[sums.argmax(axis=1)])


def test_options_that_are_ruled_out_lose_but_none_never_wins():
    """With -inf everywhere else a node still keeps two edges."""
    scores = {part: jnp.full(shape, -jnp.inf).at[:, 1].set(5.0) for part, shape in TWO_NODES.shapes.items()}
    for choose in (TWO_NODES.best, TWO_NODES.decode):
        np.testing.assert_array_equal(choose(scores)["normal"], [0, 0, 0, 0, 1])
    likely = {part: values.at[1:4, 2].set(-1.0) for part, values in scores.items()}
    np.testing.assert_array_equal(TWO_NODES.best(likely)["normal"], [0, 2, 2, 2, 1])


def test_decoding_is_the_best_of_the_log_probabilities():
    logits = {part: 3 * jax.random.normal(jax.random.key(4), (50, *shape)) for part, shape in TWO_NODES.shapes.items()}
    decoded = jax.vmap(TWO_NODES.decode)(logits)
    best = jax.vmap(TWO_NODES.best)(jax.tree.map(jax.nn.log_softmax, logits))
    jax.tree.map(np.testing.assert_array_equal, decoded, best)


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
        (4, ("none", "bare_avg_pool_3x3"), "unknown operation 'bare_avg_pool_3x3'; did you mean 'avg_pool_3x3'"),
        (4, ("none", "conv 1x1_3x3"), "did you mean 'conv_1x1_3x3'"),
    ],
)
def test_mistaken_spaces(nodes, operations, message):
    with pytest.raises(UserError, match=message):
        cell_space(nodes, operations)


@pytest.mark.parametrize(
    ("operations", "message"),
    [((), "at least one other"), (("skip_connect", "max_pool_3x3"), "have to contain 'none'")],
)
def test_mistaken_sets_of_the_reduction_cell(operations, message):
    with pytest.raises(UserError, match=message):
        cell_space(4, OPERATIONS, operations)


def test_a_network_needs_a_layer():
    with pytest.raises(UserError, match="at least 1 layer, not 0"):
        reduction_layers(0)


def test_the_space_takes_every_candidate_operation_that_genotypes_name():
    both = [name for name in CANDIDATES if name in KNOWN_OPERATIONS]
    assert set(CANDIDATES) - set(both) == {"bare_avg_pool_3x3"}
    assert cell_space(1, both).shapes["normal"] == (2, len(both))
