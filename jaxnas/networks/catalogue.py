"""Stand-alone networks by name, as `config.network.name` of an evaluation chooses them. To add one, write its row here.

A builder takes the images, the architecture as people write it and the network's settings (the fields of
`config.network` other than `name`). Networks that are no architecture of a space take none.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from jaxnas.core.types import Architecture, Space
from jaxnas.networks.binary_resnet import XnorResNet
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.families import FAMILIES, settings_of
from jaxnas.networks.family import Images
from jaxnas.networks.residual_network import BottleneckResNet, WideResNet
from jaxnas.spaces.cell import cell_space, genotype
from jaxnas.spaces.genotype import format_genotype, parse_genotype


class Searchable(NamedTuple):
    """The space that an architecture is one of, to draw random ones from, and how these are written."""

    space: Space
    describe: Callable[[Architecture], str]


class Entry(NamedTuple):
    """How a network is built.

    build: (images, text of the architecture, **settings) -> the network. settings: names of its settings.
    searchable: (images, **settings) -> the space of its architectures; None for a network that has none.
    """

    build: Callable[..., nn.Module]
    settings: tuple[str, ...]
    searchable: Callable[..., Searchable] | None = None


def _cells(images: Images, text: str, *, channels: int, layers: int, auxiliary: bool, stem: str) -> nn.Module:
    """The network of a genotype, given by its published name or in the notation of DARTS."""
    return CellNetwork(
        parse_genotype(text),
        channels=channels,
        layers=layers,
        classes=images.classes,
        stem=stem,
        auxiliary=auxiliary,
        axis_name=images.axis_name,
    )


def _cell_genotypes(images: Images, **settings: Any) -> Searchable:
    """The space of DARTS, whatever the size of the network."""
    space = cell_space(nodes=4)
    return Searchable(space, lambda architecture: format_genotype(genotype(space, architecture)))


def _plain(kind: Callable[..., nn.Module], *settings: str) -> Entry:
    """A network without an architecture to choose."""

    def build(images: Images, text: str, **given: Any) -> nn.Module:
        return kind(**given, classes=images.classes, axis_name=images.axis_name)

    return Entry(build, settings)


def _of_family(name: str) -> Entry:
    """The networks of a space of chains or of another family of `networks.families`, by canonical string."""
    make = FAMILIES[name]

    def build(images: Images, text: str, **settings: Any) -> nn.Module:
        family = make(images, **settings)
        return family.network(family.space.parse(text), images.axis_name)

    def searchable(images: Images, **settings: Any) -> Searchable:
        family = make(images, **settings)
        return Searchable(family.space, family.space.canonical)

    return Entry(build, settings_of(make), searchable)


CELLS = "cells"
NETWORKS: Mapping[str, Entry] = {
    CELLS: Entry(_cells, tuple(inspect.signature(_cells).parameters)[2:], _cell_genotypes),
    "wide_resnet": _plain(WideResNet, "depth", "width"),
    "bottleneck_resnet": _plain(BottleneckResNet, "depths", "width", "expansion"),
    "xnor_resnet": _plain(XnorResNet, "width", "gradient", "depths"),
    **{name: _of_family(name) for name in FAMILIES if name != "darts"},  # whose networks are `CELLS`
}
