"""What the choices of a cell of NAS-Bench-201 cost: its operations in all cells of the stand-alone network."""

import numpy as np

from jaxnas.networks.family import Component, Images, Term
from jaxnas.networks.nas_bench_201 import CELL_OPERATIONS, IDENTITIES, STAGES
from jaxnas.spaces.nas_bench_201 import EDGES, OPERATIONS, PART


def nas_bench_201_terms(images: Images, channels: int, cells: int) -> list[Term]:
    """One term for every edge: its operation runs in all cells of the three stages."""

    def pieces(operation: str) -> tuple[Component, ...]:
        if operation in IDENTITIES:
            return ()
        found = []
        for stage in range(STAGES):
            shape = (images.height // 2**stage, images.width // 2**stage, channels * 2**stage)
            module = CELL_OPERATIONS[operation](shape[-1], 1, None, operation)
            name = f"{operation} {shape[2]}x{shape[0]}x{shape[1]} s1"
            found += [Component(name, module, shape)] * cells
        return tuple(found)

    entries = np.empty(len(OPERATIONS), object)
    for option, operation in enumerate(OPERATIONS):
        entries[option] = pieces(operation)
    return [Term(((PART, row),), entries) for row in range(len(EDGES))]
