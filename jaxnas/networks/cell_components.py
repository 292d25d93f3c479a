"""What the edges of the DARTS cells cost: their operations in every layer, each as a piece that stands by itself."""

from collections.abc import Sequence

import numpy as np

from jaxnas.core.types import Space
from jaxnas.networks.cell_operations import OPERATIONS
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.cell import NONE, PARTS, cell_edges, nodes_of, reduction_layers

Layer = tuple[int, int, int]  # channels, height, width of what the edges of a cell read


def cell_terms(space: Space, images: Images, channels: int, layers: int) -> list[Term]:
    """One term for every edge of either cell: each operation's pieces in all layers of that cell, () where it is free.

    channels, layers: those of the `CellNetwork` with the "cifar" stem. What no edge decides (stem, preprocessing,
    classifier) is in no term, so that a network costs a constant and the sum of its terms.
    Raises UserError below one layer.
    """
    inputs = _inputs(images, channels, layers)
    terms = []
    for part in PARTS:
        for row, (source, _) in enumerate(cell_edges(nodes_of(space))):
            stride = 2 if part == "reduce" and source < 2 else 1
            pieces = np.empty(len(space.options[part]), object)
            for option, operation in enumerate(space.options[part]):
                pieces[option] = _components(operation, stride, [_read(layer, part, source) for layer in inputs[part]])
            terms.append(Term(((part, row),), pieces))
    return terms


def _inputs(images: Images, channels: int, layers: int) -> dict[str, list[Layer]]:
    """What the two input states of every cell are, by the cell's part; reductions double channels and halve images."""
    found: dict[str, list[Layer]] = {part: [] for part in PARTS}
    height, width = images.height, images.width
    reductions = reduction_layers(layers)
    for number in range(layers):
        reduction = number in reductions
        channels *= 2 if reduction else 1
        found["reduce" if reduction else "normal"].append((channels, height, width))
        if reduction:
            height, width = -(-height // 2), -(-width // 2)
    return found


def _read(layer: Layer, part: str, source: int) -> Layer:
    """What an edge from `source` reads: in a reduction, all states but the two inputs are half their size."""
    channels, height, width = layer
    return (channels, -(-height // 2), -(-width // 2)) if part == "reduce" and source > 1 else layer


def _components(operation: str, stride: int, layers: Sequence[Layer]) -> tuple[Component, ...]:
    """The operation in each of the layers, named "sep_conv_3x3 16x32x32 s2": channels x height x width, stride."""
    if operation == NONE or (operation == "skip_connect" and stride == 1):
        return ()
    return tuple(
        Component(
            f"{operation} {channels}x{height}x{width} s{stride}",
            OPERATIONS[operation](channels, stride, None, None),
            (height, width, channels),
        )
        for channels, height, width in layers
    )
