"""The DARTS cell space: two cells, normal and reduction, each a directed acyclic graph of nodes (Liu et al. 2019).

Node i of a cell can read the two inputs of the cell (states 0 and 1) and every node before it (states 2 to i + 1). An
architecture numbers the operation of each possible edge; edges that are not kept have the operation `none`, which every
operation set therefore has to contain. It is valid if every node keeps exactly two edges. The two cells may choose from
different operations.
"""

from collections.abc import Mapping, Sequence
from math import comb, prod

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError, choose, unknown
from jaxnas.core.types import Architecture, Array, Logits, Space
from jaxnas.layers.operations import OPERATIONS as CANDIDATES
from jaxnas.spaces.genotype import KNOWN_OPERATIONS, Genotype, check_genotype
from jaxnas.spaces.zoo import Edges

PARTS = ("normal", "reduce")
NONE = "none"
KEPT = 2  # edges per node
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
# The sets of a research log of reinforcement-learning searches in a modified P-DARTS (May to July 2021).
DENSE_NORMAL = (
    "none",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv 1x1",
    "conv 3x3",
    "conv_1x1_3x3",
    "conv_3x1_1x3",
)
POOLING_REDUCE = ("none", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7")
Sets = Mapping[str, tuple[str, ...]]  # the operations of each part


def cell_edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """All possible edges (source state, node), node by node: 4 nodes have 14. Raises UserError below one node."""
    if nodes < 1:
        raise UserError(f"a cell needs at least 1 node, not {nodes}.")
    return tuple((source, node) for node in range(nodes) for source in range(node + 2))


def reduction_layers(layers: int) -> tuple[int, ...]:
    """Which cells of a stack are reductions: those after a third and two thirds. Raises UserError below one layer."""
    if layers < 1:
        raise UserError(f"a network needs at least 1 layer, not {layers}.")
    return tuple(sorted({layers // 3, 2 * layers // 3}))


def cell_space(
    nodes: int = 4,
    operations: Sequence[str] = OPERATIONS,
    reduce_operations: Sequence[str] | None = None,
    name: str = "darts",
) -> Space:
    """The space of pairs of cells of `nodes` nodes; its logits are {"normal", "reduce"}: [edges, operations].

    reduce_operations: what reduction cells choose from, None for the same as normal cells.
    Raises UserError for fewer than one node, unknown or repeated operations, and operation sets without `none` or with
    nothing else.
    """
    edges = cell_edges(nodes)
    reduce_operations = operations if reduce_operations is None else reduce_operations
    sets = {"normal": tuple(operations), "reduce": tuple(reduce_operations)}
    for own in sets.values():
        _check_operations(own)

    def best(scores: Logits) -> Architecture:
        return {part: _best_cell(scores[part], nodes, sets[part].index(NONE)) for part in PARTS}

    shapes = {part: (len(edges), len(own)) for part, own in sets.items()}
    pairs = prod(comb(node + 2, KEPT) for node in range(nodes))
    return Space(
        name=name,
        shapes=shapes,
        options=sets,
        allowed={part: np.ones(shape, bool) for part, shape in shapes.items()},
        size=prod(pairs * (len(own) - 1) ** (KEPT * nodes) for own in sets.values()),
        decode=lambda logits: best({part: jax.nn.log_softmax(logits[part]) for part in PARTS}),
        best=best,
        canonical=lambda architecture: ";".join(
            f"{part}:{_write_cell(_kept(part, architecture, nodes, own))}" for part, own in sets.items()
        ),
        parse=lambda text: _parse(text, nodes, sets),
    )


def _check_operations(operations: tuple[str, ...]) -> None:
    """Raises UserError unless supernets and genotypes both know all operations, and `none` is among them."""
    possible = [operation for operation in KNOWN_OPERATIONS if operation in CANDIDATES]
    for operation in operations:
        if operation not in possible:
            raise unknown("operation", operation, possible)
    if len(set(operations)) < len(operations):
        raise UserError(f"the operations {', '.join(operations)} name one of them twice.")
    if NONE not in operations or len(operations) < 2:
        raise UserError(
            f"the operations of a cell space have to contain 'none', which stands for an edge that is not kept, "
            f"and at least one other, not just ({', '.join(operations)})."
        )


def _best_cell(scores: Array, nodes: int, none: int) -> Array:
    """Keeps per node the two edges whose best operation other than none scores highest; int32 [edges].

    Liu et al. 2019, section 2.4, where the scores are probabilities. Of equals the first is kept. With independent,
    identically distributed logits all valid cells are equally likely: exchanging two edges of a node exchanges what
    becomes of them, so every pair is kept equally often; exchanging two operations other than none on one edge changes
    no edge's rank, so that whichever edges are kept, each of their operations is equally likely and independent of the
    other edges.
    """
    # none is out even where all else is -inf. Comparing all pairs of a node takes a tenth of what sorting would.
    others = jnp.concatenate([scores[:, :none], scores[:, none + 1 :]], axis=1)
    best = jnp.argmax(others, axis=-1).astype(jnp.int32)
    strength = jnp.max(others, axis=-1)
    kept = []
    start = 0
    for node in range(nodes):
        own = strength[start : start + node + 2]
        earlier = np.tri(node + 2, k=-1, dtype=bool)
        before = (own > own[:, None]) | (earlier & (own == own[:, None]))
        kept.append(jnp.sum(before, axis=1) < KEPT)
        start += node + 2
    return jnp.where(jnp.concatenate(kept), best + (best >= none), none)


def _kept(part: str, architecture: Architecture, nodes: int, operations: tuple[str, ...]) -> Edges:
    """The kept edges of a concrete architecture, two per node in order of their source; UserError if it is invalid."""
    options = np.asarray(architecture[part])
    edges = cell_edges(nodes)
    if options.shape != (len(edges),) or not np.issubdtype(options.dtype, np.integer):
        raise UserError(
            f"{part} of the architecture has to be {len(edges)} integers, not {options.dtype} of shape {options.shape}."
        )
    if np.any((options < 0) | (options >= len(operations))):
        raise UserError(f"{part} of the architecture has to hold option numbers from 0 to {len(operations) - 1}.")
    named = [(operations[option], *edge) for option, edge in zip(options, edges, strict=True)]
    kept = [[(name, source) for name, source, at in named if at == node and name != NONE] for node in range(nodes)]
    for node, pair in enumerate(kept):
        if len(pair) != KEPT:
            raise UserError(f"node {node} of {part} keeps {len(pair)} edges, but has to keep {KEPT}.")
    return tuple(edge for pair in kept for edge in pair)


def _options(part: str, kept: Edges, nodes: int, operations: tuple[str, ...]) -> Array:
    """The inverse of `_kept`; the two edges of a node in any order. Raises UserError for edges outside the space."""
    if len(kept) != KEPT * nodes:
        raise UserError(f"{part} has {len(kept) / KEPT:g} nodes, but the cells of this space have {nodes}.")
    positions = {edge: number for number, edge in enumerate(cell_edges(nodes))}
    options = np.full(len(positions), operations.index(NONE), np.int32)
    table = {operation: number for number, operation in enumerate(operations) if operation != NONE}
    for number, (operation, source) in enumerate(kept):
        node = number // KEPT
        if (source, node) not in positions:
            raise UserError(f"node {node} of {part} reads state {source}, but can read states 0 to {node + 1} only.")
        if source == kept[KEPT * node][1] and number > KEPT * node:
            raise UserError(
                f"node {node} of {part} reads state {source} twice, which the cells of this space cannot express."
            )
        options[positions[source, node]] = choose(f"operation at node {node} of {part}:", operation, table)
    return jax.device_put(options)


def _write_cell(kept: Edges) -> str:
    nodes = (kept[number : number + KEPT] for number in range(0, len(kept), KEPT))
    return "+".join("".join(f"|{operation}~{source}" for operation, source in node) + "|" for node in nodes)


def _parse(text: str, nodes: int, sets: Sets) -> Architecture:
    """Reads "normal:|operation~source|operation~source|+...;reduce:...", as `canonical` writes it."""
    cells = [cell.partition(":") for cell in text.strip().split(";")]
    if [name for name, _, _ in cells] != list(PARTS):
        raise UserError(f"the architecture {text!r} is not written normal:|operation~source|...;reduce:|....")
    return {name: _options(name, _read_cell(name, cell), nodes, sets[name]) for name, _, cell in cells}


def _read_cell(part: str, text: str) -> Edges:
    edges: list[tuple[str, int]] = []
    for number, node in enumerate(text.split("+")):
        pairs = [edge.partition("~") for edge in node[1:-1].split("|")]
        bars = node.startswith("|") and node.endswith("|")
        if not bars or len(pairs) != KEPT or not all(source.isdecimal() for _, _, source in pairs):
            raise UserError(
                f"node {number} of {part} is {node!r}, but has to look like |sep_conv_3x3~0|skip_connect~1|."
            )
        edges += [(operation, int(source)) for operation, _, source in pairs]
    return tuple(edges)


def _nodes_of(space: Space) -> int:
    """How many nodes the cells of a cell space have: `nodes` nodes have nodes · (nodes + 3) / 2 edges."""
    edges = space.shapes[PARTS[0]][0]
    return next(nodes for nodes in range(1, edges + 1) if nodes * (nodes + 3) // 2 == edges)


def genotype(space: Space, architecture: Architecture) -> Genotype:
    """A concrete architecture of a cell space as a genotype, edges in order of their source, all nodes concatenated.

    Raises UserError if the architecture is not valid.
    """
    nodes = _nodes_of(space)
    normal, reduce = (_kept(part, architecture, nodes, space.options[part]) for part in PARTS)
    concat = tuple(range(2, 2 + nodes))
    return Genotype(normal, concat, reduce, concat)


def architecture(space: Space, genotype: Genotype) -> Architecture:
    """A genotype as an architecture of a cell space; undoes `genotype` up to the order of a node's two edges.

    Raises UserError for what the space cannot express: another number of nodes, operations outside its set, one source
    twice for a node, or a concat other than all nodes.
    """
    check_genotype(genotype)
    nodes = _nodes_of(space)
    kept: Mapping[str, tuple[Edges, tuple[int, ...]]] = {
        "normal": (genotype.normal, genotype.normal_concat),
        "reduce": (genotype.reduce, genotype.reduce_concat),
    }
    options = {part: _options(part, edges, nodes, space.options[part]) for part, (edges, _) in kept.items()}
    for part, (_, concat) in kept.items():
        if concat != tuple(range(2, 2 + nodes)):
            raise UserError(f"{part}_concat is {list(concat)}, but cells of this space concatenate all nodes in order.")
    return options


def nodes_of(space: Space) -> int:
    """Nodes of the cells of a space of two cells: `nodes` nodes have nodes · (nodes + 3) / 2 edges."""
    edges = space.shapes[PARTS[0]][0]
    return next(nodes for nodes in range(1, edges + 1) if nodes * (nodes + 3) // 2 == edges)
