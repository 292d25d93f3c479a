"""The cell space of NAS-Bench-201 (Dong & Yang 2020): one operation for each of six edges, every combination valid.

A cell has one input, state 0, and three nodes, each the sum of what its edges bring from every state before it.
"""

from collections.abc import Mapping

import jax
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Space
from jaxnas.spaces.product import option_names, options_to_numbers, product_space

PART = "cell"
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 3
# (source state, node), node by node; node i is state i + 1.
EDGES = tuple((source, node) for node in range(NODES) for source in range(node + 1))
# The benchmark's names -> those of the same operations in `layers.operations.OPERATIONS`.
SUPERNET_OPERATIONS: Mapping[str, str] = {
    "none": "none",
    "skip_connect": "skip_connect",
    "nor_conv_1x1": "conv 1x1",
    "nor_conv_3x3": "conv 3x3",
    "avg_pool_3x3": "bare_avg_pool_3x3",
}
_ALL = np.ones((len(EDGES), len(OPERATIONS)), bool)


def nas_bench_201_space() -> Space:
    """The space of 15,625 cells; its logits are {"cell": [6 edges, 5 operations]}, edges in the order of `EDGES`.

    Canonical strings are the benchmark's, "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...~0|...~1|...~2|": nodes are
    joined by +, and an edge is written as its operation and its source state. Different cells may compute the same.
    """
    return product_space("nas_bench_201", {PART: OPERATIONS}, {PART: len(EDGES)}, canonical=_write, parse=_parse)


def cell_operations(architecture: Architecture) -> tuple[str, ...]:
    """The benchmark's name of the operation on every edge, in the order of `EDGES`.

    Raises UserError if the architecture is not valid.
    """
    return option_names(PART, OPERATIONS, _ALL, architecture)


def _write(architecture: Architecture) -> str:
    named = list(zip(EDGES, cell_operations(architecture), strict=True))
    return "+".join(
        "".join(f"|{operation}~{source}" for (source, at), operation in named if at == node) + "|"
        for node in range(NODES)
    )


def _parse(text: str) -> Architecture:
    nodes = text.strip().split("+")
    if len(nodes) != NODES:
        raise UserError(f"the cell {text.strip()!r} has {len(nodes)} nodes joined by +, but has to have {NODES}.")
    operations: list[str] = []
    for number, node in enumerate(nodes):
        pairs = [edge.rpartition("~") for edge in node[1:-1].split("|")]
        bars = node.startswith("|") and node.endswith("|")
        if not bars or [source for _, _, source in pairs] != [str(source) for source in range(number + 1)]:
            form = "".join(f"|skip_connect~{source}" for source in range(number + 1))
            raise UserError(f"node {number} of the cell is {node!r}, but has to look like {form}|.")
        operations += [operation for operation, _, _ in pairs]
    return {PART: jax.device_put(options_to_numbers(PART, operations, OPERATIONS, _ALL))}
