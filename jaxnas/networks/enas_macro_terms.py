"""What the choices of ENAS's macro space cost: the operations of its layers. To add a state costs nothing."""

from collections.abc import Sequence

import numpy as np

from jaxnas.networks.enas_macro import LayerOperation
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.enas_macro import OPERATIONS, PART, reductions


def enas_macro_terms(images: Images, channels: int, layers: int, operations: Sequence[str]) -> list[Term]:
    """One term for every layer: its operation. All states are halved whether they are read again or not."""
    terms = []
    for row in range(layers):
        halvings = sum(row >= number for number in reductions(layers))
        height, width = images.height // 2**halvings, images.width // 2**halvings
        pieces = np.empty(len(operations), object)
        for option, name in enumerate(operations):
            module = LayerOperation(OPERATIONS[name])
            pieces[option] = (Component(f"{name} {channels}x{height}x{width} s1", module, (height, width, channels)),)
        terms.append(Term(((PART, row),), pieces))
    return terms
