"""The families of networks by name, as `config.space.name` chooses them. To add one, write its builder and a row here.

A builder takes the images and the settings of its space (the fields of `config.space` other than `name`), and, as
`retrain_...`, those of the stand-alone networks that the space alone does not fix. Keyword arguments with a default are
no settings but what makes the family.
"""

import functools
import inspect
from collections.abc import Callable, Mapping

from jaxnas.core.types import Architecture
from jaxnas.networks.cell_components import cell_terms
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_supernet import cell_supernet
from jaxnas.networks.chain_families import fbnet, mnasnet, nas_bench_macro, proxylessnas, resnet
from jaxnas.networks.elastic_family import elastic
from jaxnas.networks.enas_macro import MacroNetwork
from jaxnas.networks.enas_macro_supernet import enas_macro_supernet
from jaxnas.networks.enas_macro_terms import enas_macro_terms
from jaxnas.networks.family import Family, Images
from jaxnas.networks.memory_bank_family import memory_banks
from jaxnas.networks.nas_bench_201 import NasBench201Network
from jaxnas.networks.nas_bench_201_supernet import nas_bench_201_supernet
from jaxnas.networks.nas_bench_201_terms import nas_bench_201_terms
from jaxnas.networks.substitute_family import substitutes
from jaxnas.networks.superkernel_family import superkernel
from jaxnas.spaces.cell import cell_edges, cell_space, genotype
from jaxnas.spaces.enas_macro import enas_macro_space, macro_layers, skip_edges
from jaxnas.spaces.genotype import format_genotype
from jaxnas.spaces.nas_bench_201 import EDGES, PART, cell_operations, nas_bench_201_space


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
        terms=lambda: cell_terms(space, images, nodes, retrain_channels, retrain_layers),
        describe=lambda architecture: format_genotype(genotype(space, architecture)),
        rows=dict.fromkeys(space.shapes, names),
    )


def nas_bench_201(images: Images, *, channels: int, cells: int) -> Family:
    """The cell of NAS-Bench-201 (Dong & Yang 2020): `channels` in the first stage, `cells` in each of the three."""
    space = nas_bench_201_space()

    def network(architecture: Architecture, axis_name: str | None) -> NasBench201Network:
        return NasBench201Network(cell_operations(architecture), channels, cells, images.classes, axis_name)

    return Family(
        space=space,
        supernet=functools.partial(nas_bench_201_supernet, images, channels=channels, cells=cells),
        network=network,
        terms=lambda: nas_bench_201_terms(images, channels, cells),
        describe=space.canonical,
        rows={PART: tuple(f"{source} → {node + 1}" for source, node in EDGES)},
    )


def enas_macro(images: Images, *, channels: int, layers: int, operations: tuple[str, ...]) -> Family:
    """The macro space of ENAS (Pham et al. 2018): an operation for each of `layers`, and the outputs that it adds.

    channels: of all layers, an even number. operations: some of `spaces.enas_macro.OPERATIONS`.
    """
    space = enas_macro_space(layers, operations)

    def network(architecture: Architecture, axis_name: str | None) -> MacroNetwork:
        return MacroNetwork(macro_layers(layers, operations, architecture), channels, images.classes, axis_name)

    return Family(
        space=space,
        # By position, so that they are no settings of methods: another depth is another space.
        supernet=functools.partial(enas_macro_supernet, images, channels, layers, operations),
        network=network,
        terms=lambda: enas_macro_terms(images, channels, layers, operations),
        describe=space.canonical,
        rows={
            "operations": tuple(f"layer {number}" for number in range(1, layers + 1)),
            "skips": tuple(f"layer {layer} adds {state}" for state, layer in skip_edges(layers)),
        },
    )


FAMILIES: Mapping[str, Callable[..., Family]] = {
    "darts": darts,
    "nas_bench_201": nas_bench_201,
    "nas_bench_macro": nas_bench_macro,
    "proxylessnas": proxylessnas,
    "fbnet": fbnet,
    "mnasnet": mnasnet,
    "resnet": resnet,
    "superkernel": superkernel,
    "elastic": elastic,
    "enas_macro": enas_macro,
    "substitutes": substitutes,
    "memory_banks": memory_banks,
}


def settings_of(build: Callable[..., Family]) -> tuple[str, ...]:
    """The names of the settings that a builder takes."""
    parameters = inspect.signature(build).parameters.values()
    return tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty)
