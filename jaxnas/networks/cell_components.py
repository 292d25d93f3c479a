"""What the choices of a space of two cells cost: the operations of its stand-alone network, piece by piece."""

from collections.abc import Iterator

import numpy as np

from jaxnas.core.types import Space
from jaxnas.networks.cell_operations import OPERATIONS
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.cell import PARTS, cell_edges, reduction_layers


def cell_terms(space: Space, images: Images, nodes: int, channels: int, layers: int) -> list[Term]:
    """One term for every edge of both cells: the pieces of each operation in all layers that have the cell.

    channels, layers: of the stand-alone network. An edge that is not kept, and an identity, cost nothing.
    """
    terms = []
    for part in PARTS:
        for row, (source, _) in enumerate(cell_edges(nodes)):
            pieces = np.empty(len(space.options[part]), object)
            for option, operation in enumerate(space.options[part]):
                pieces[option] = tuple(_pieces(operation, part, source, images, channels, layers))
            terms.append(Term(((part, row),), pieces))
    return terms


def _pieces(operation: str, part: str, source: int, images: Images, channels: int, layers: int) -> Iterator[Component]:
    """An operation on an edge out of `source`, in every layer whose cell is `part`."""
    stride = 2 if part == "reduce" and source < 2 else 1
    if operation == "none" or (operation == "skip_connect" and stride == 1):
        return
    height, width, reductions = images.height, images.width, reduction_layers(layers)
    for layer in range(layers):
        reduction = layer in reductions
        channels *= 2 if reduction else 1
        # Inputs of a reduction cell have the size before it; its nodes, and all cells after it, the size behind it.
        inside = (-(-height // 2), -(-width // 2)) if reduction else (height, width)
        if reduction == (part == "reduce"):
            rows, columns = (height, width) if stride == 2 else inside
            name = f"{operation} {channels}x{rows}x{columns} s{stride}"
            yield Component(name, OPERATIONS[operation](channels, stride, None, operation), (rows, columns, channels))
        height, width = inside
