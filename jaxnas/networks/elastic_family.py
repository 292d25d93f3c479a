"""The family of elastic networks: MobileNetV3 in every kernel, width, depth and resolution (Cai et al. 2020)."""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from jaxnas.core.types import Architecture
from jaxnas.networks.chain_operations import NormalizedConvolution
from jaxnas.networks.elastic_supernet import elastic_supernet
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.networks.mobilenet_v3 import SMOOTH, ElasticBlock, MobileNetV3, first_block
from jaxnas.spaces.elastic import (
    DEPTH,
    EXPANSION,
    KERNEL,
    RESOLUTION,
    Elastic,
    choice_names,
    concrete,
    elastic_plan,
    elastic_space,
    hidden_options,
    map_sizes,
    squeezed_channels,
)

Pieces = tuple[Component, ...]


def elastic(
    images: Images,
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    strides: Sequence[int],
    squeeze: Sequence[bool],
    hard_swish: Sequence[bool],
    final: int,
    head: int,
    kernels: Sequence[int],
    expansions: Sequence[float],
    depths: Sequence[int],
    resolutions: Sequence[int],
    divisor: int,
) -> Family:
    """All parts of one largest network; settings and errors: see `spaces.elastic.elastic_plan`.

    Images of any size are resized to the resolution, larger or smaller; those that are not square become so.
    """
    plan = elastic_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=first,
        widths=widths,
        strides=strides,
        squeeze=squeeze,
        hard_swish=hard_swish,
        final=final,
        head=head,
        kernels=kernels,
        expansions=expansions,
        depths=depths,
        resolutions=resolutions,
        divisor=divisor,
    )
    space = elastic_space(plan)

    def network(architecture: Architecture, axis_name: str | None) -> MobileNetV3:
        return MobileNetV3(plan, concrete(plan, architecture), images.classes, axis_name)

    return Family(
        space=space,
        supernet=functools.partial(elastic_supernet, plan, images),
        network=network,
        terms=lambda: elastic_terms(plan, images),
        describe=space.canonical,
        rows=choice_names(plan),
    )


def elastic_terms(plan: Elastic, images: Images) -> list[Term]:
    """What choices decide: stem and final convolution by the resolution, a block by its own, its stage's and that.

    The rest, the layers after the mean over pixels, is the same for every architecture.
    """
    blocks = [_block_term(plan, number) for number in range(len(plan.layers))]
    return [_resolution_term(lambda size: _stem(plan, images, size), plan), *blocks, _final_term(plan)]


def _term(choices: Sequence[tuple[str, int]], shape: Sequence[int], pieces: Callable[..., Pieces]) -> Term:
    """The term of pieces(option of each choice)."""
    entries = np.empty(shape, object)
    for index in np.ndindex(*shape):
        entries[index] = pieces(*index)
    return Term(tuple(choices), entries)


def _resolution_term(pieces: Callable[[int], Pieces], plan: Elastic) -> Term:
    """The term of pieces(resolution in pixels)."""
    sizes = plan.resolutions
    return _term([(RESOLUTION, 0)], [len(sizes)], lambda option: pieces(sizes[option]))


def _block_term(plan: Elastic, number: int) -> Term:
    """One block: () where the depth of its stage leaves it out."""
    layer, counts = plan.layers[number], hidden_options(plan, number)
    sizes = [map_sizes(plan, size)[number] for size in plan.resolutions]

    def pieces(kernel: int, expansion: int, resolution: int, depth: int = 0) -> Pieces:
        if layer.place >= plan.depths[depth]:
            return ()
        hidden, size = counts[expansion], sizes[resolution]
        block = ElasticBlock(plan, number, plan.kernels[kernel], hidden, None)
        squeeze = f" se{squeezed_channels(plan, hidden)}" if layer.squeeze else ""
        about = f"{layer.activation}{squeeze} s{layer.stride}"
        name = f"block_k{plan.kernels[kernel]}_h{hidden} {layer.channels_in}x{size}x{size} c{layer.channels} {about}"
        return (Component(name, block, (size, size, layer.channels_in)),)

    choices = [(KERNEL, number), (EXPANSION, number), (RESOLUTION, 0), (DEPTH, layer.stage - 1)]
    shape = [len(plan.kernels), len(plan.expansions), len(plan.resolutions), len(plan.depths)]
    kept = len(choices) if layer.place >= plan.depths[0] else len(choices) - 1  # always there: whatever the depth
    return _term(choices[:kept], shape[:kept], pieces)


def _stem(plan: Elastic, images: Images, size: int) -> Pieces:
    """The stem and, if there is one, the fixed block after it."""
    convolution = NormalizedConvolution(plan.stem, 3, plan.stem_stride, SMOOTH, None)
    name = f"stem {images.channels}x{size}x{size} c{plan.stem} s{plan.stem_stride}"
    found = (Component(name, convolution, (size, size, images.channels)),)
    if not plan.first:
        return found
    read = map_sizes(plan, size)[0]
    block = Component(
        f"first {plan.stem}x{read}x{read} c{plan.first}", first_block(plan, None), (read, read, plan.stem)
    )
    return (*found, block)


def _final_term(plan: Elastic) -> Term:
    """The 1×1 convolution after the last stage."""
    channels = plan.layers[-1].channels
    convolution = NormalizedConvolution(plan.final, 1, 1, SMOOTH, None)

    def pieces(resolution: int) -> Pieces:
        size = map_sizes(plan, resolution)[-1]
        return (Component(f"final {channels}x{size}x{size} c{plan.final}", convolution, (size, size, channels)),)

    return _resolution_term(pieces, plan)
