"""The families of networks by name, as `config.space.name` chooses them. To add one, write its builder and a row here.

A builder takes the images and the settings of its space (the fields of `config.space` other than `name`), and, as
`retrain_...`, those of the stand-alone networks that the space alone does not fix.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

from jaxnas.core.types import Architecture
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.networks.family import Family, Images, Term
from jaxnas.spaces.cell import cell_edges, cell_space, genotype
from jaxnas.spaces.genotype import format_genotype


def darts(
    images: Images,
    *,
    channels: int,
    layers: int,
    nodes: int,
    operations: tuple[str, ...],
    reduce_operations: tuple[str, ...],
    retrain_channels: int,
    retrain_layers: int,
    retrain_auxiliary: bool,
) -> Family:
    """Two cells, normal and reduction, stacked (Liu, Simonyan & Yang 2019).

    channels, layers: of the supernet. nodes: of a cell. operations: of the edges; reduce_operations: of those of the
    reduction cell where they differ, () where they do not. retrain_*: of the stand-alone network.
    """
    own = tuple(reduce_operations) or None
    space = cell_space(nodes, tuple(operations), own)

    def network(architecture: Architecture, axis_name: str | None) -> CellNetwork:
        return CellNetwork(
            genotype(space, architecture),
            channels=retrain_channels,
            layers=retrain_layers,
            classes=images.classes,
            auxiliary=retrain_auxiliary,
            axis_name=axis_name,
        )

    def terms() -> Sequence[Term]:
        from jaxnas.networks.cell_components import cell_terms

        return cell_terms(space, images, retrain_channels, retrain_layers)

    names = [f"{source} → {node}" for source, node in cell_edges(nodes)]
    return Family(
        space=space,
        supernet=functools.partial(
            cell_supernet,
            channels=channels,
            layers=layers,
            classes=images.classes,
            nodes=nodes,
            operations=tuple(operations),
            reduce_operations=own,
            image_channels=images.channels,
            axis_name=images.axis_name,
        ),
        network=network,
        terms=terms,
        describe=lambda architecture: format_genotype(genotype(space, architecture)),
        rows=dict.fromkeys(space.shapes, names),
    )


FAMILIES: Mapping[str, Callable[..., Family]] = {"darts": darts}
