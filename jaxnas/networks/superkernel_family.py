"""The family of superkernels: chains of MBConv blocks whose kernels and channels are masks of the widest network's.

Sources: Single-Path NAS (Stamoulis et al. 2019) and FBNetV2 (Wan et al. 2020).
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.chain_components import block_components
from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_operations import NormalizedConvolution
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.networks.superkernel_supernet import subsampled, superkernel_supernet
from jaxnas.spaces.chain import check_image_size, input_sizes
from jaxnas.spaces.superkernel import (
    EXPANSION,
    KERNEL,
    RESOLUTION,
    WIDTH,
    Superkernel,
    allowed_expansions,
    channel_options,
    choice_names,
    chosen_resolution,
    concrete_chain,
    concrete_layer,
    starts_stage,
    superkernel_plan,
    superkernel_space,
)

Pieces = tuple[Component, ...]


class Subsampled(nn.Module):
    """A network that reads images at size × size pixels, subsampled as the supernet does."""

    network: ChainNetwork
    size: int

    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] -> what the network answers."""
        return self.network(subsampled(images, self.size), train=train, drop_path_rate=drop_path_rate)


def superkernel(
    images: Images,
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    kernels: Sequence[int],
    expansions: Sequence[float],
    width_fractions: Sequence[float],
    resolutions: Sequence[int],
) -> Family:
    """Superkernels in a chain of stages; settings and errors: see `spaces.superkernel.superkernel_plan`.

    Also raises UserError for resolutions above the size of the images, and for those that the strides shrink to less
    than one pixel.
    """
    plan = superkernel_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=first,
        widths=widths,
        depths=depths,
        strides=strides,
        head=head,
        kernels=kernels,
        expansions=expansions,
        width_fractions=width_fractions,
        resolutions=resolutions,
    )
    _check_resolutions(plan, images)
    space = superkernel_space(plan)

    def network(architecture: Architecture, axis_name: str | None) -> nn.Module:
        chain, size = concrete_chain(plan, architecture), chosen_resolution(plan, architecture)
        blocks = tuple(layer.fixed for layer in chain.layers if layer.fixed is not None)  # all are
        alone = ChainNetwork(chain, blocks, images.classes, axis_name)
        return alone if (size, size) == (images.height, images.width) else Subsampled(alone, size)

    return Family(
        space=space,
        supernet=functools.partial(superkernel_supernet, plan, images),
        network=network,
        terms=lambda: superkernel_terms(plan, images),
        describe=space.canonical,
        rows=choice_names(plan),
    )


def _check_resolutions(plan: Superkernel, images: Images) -> None:
    """Raises UserError for resolutions that are too large for the images, or too small for the strides."""
    least = min(images.height, images.width)
    if plan.resolutions[-1] > least:
        raise UserError(
            f"resolutions go up to {plan.resolutions[-1]}, but images of {images.height}x{images.width} pixels can be "
            f"subsampled only; take at most {least}."
        )
    for size in plan.resolutions:
        check_image_size(plan.chain, size, size)


def superkernel_terms(plan: Superkernel, images: Images) -> list[Term]:
    """What choices decide: each searchable layer and, where widths or resolutions are chosen, stem and head.

    A layer costs what its kernel, its expansion, the widths of its stage and of the one that it reads, and the
    resolution make of it. The rest, at least the classifier, is the same for every architecture.
    """
    layers = [_layer_term(plan, number) for number in plan.searchable]
    return [term for term in (_stem_term(plan, images), *layers, _head_term(plan)) if term.choices]


def _term(plan: Superkernel, choices: Sequence[tuple[str, int]], pieces: Callable[..., Pieces]) -> Term:
    """The term of pieces(option of each choice); a choice that the space does not have has option 0 and no axis."""
    options = [len(plan.options.get(part, ())) if row >= 0 else 0 for part, row in choices]
    entries = np.empty([max(1, count) for count in options], object)
    for index in np.ndindex(entries.shape):
        entries[index] = pieces(*index)
    kept = tuple(choice for choice, count in zip(choices, options, strict=True) if count)
    return Term(kept, entries.reshape([count for count in options if count]))


def _layer_term(plan: Superkernel, number: int) -> Term:
    """The block of one layer; the first of a stage reads the width of the stage before, the others their own's."""
    row, stage = plan.searchable.index(number), plan.chain.layers[number].stage
    allowed = allowed_expansions(plan)[row]
    sizes = [input_sizes(plan.chain, size, size)[number] for size in plan.resolutions]

    def pieces(kernel: int, expansion: int, width: int, resolution: int, before: int | None = None) -> Pieces:
        layer = concrete_layer(plan, number, kernel, expansion, width if before is None else before, width)
        if layer.fixed is None or not allowed[expansion]:
            return ()
        return block_components(plan.chain, layer, layer.fixed, sizes[resolution])

    choices = [(KERNEL, row), (EXPANSION, row), (WIDTH, stage - 1), (RESOLUTION, 0)]
    return _term(plan, [*choices, (WIDTH, stage - 2)] if starts_stage(plan, number) else choices, pieces)


def _stem_term(plan: Superkernel, images: Images) -> Term:
    """The stem and the fixed block after it, which the resolution alone decides."""
    chain = plan.chain

    def pieces(resolution: int) -> Pieces:
        size = plan.resolutions[resolution]
        stem = NormalizedConvolution(chain.stem, 3, chain.stem_stride, chain.activation, None)
        name = f"stem {images.channels}x{size}x{size} c{chain.stem} s{chain.stem_stride}"
        found = [Component(name, stem, (size, size, images.channels))]
        for layer, read in zip(chain.layers, input_sizes(chain, size, size), strict=False):
            found += block_components(chain, layer, layer.fixed, read) if layer.fixed else ()
        return tuple(found)

    return _term(plan, [(RESOLUTION, 0)], pieces)


def _head_term(plan: Superkernel) -> Term:
    """The convolution before the classifier, which reads the last stage."""
    chain, counts = plan.chain, channel_options(plan, plan.stages)

    def pieces(width: int, resolution: int) -> Pieces:
        height, columns = input_sizes(chain, plan.resolutions[resolution], plan.resolutions[resolution])[-1]
        head = NormalizedConvolution(chain.head, 1, 1, chain.activation, None)
        name = f"head {counts[width]}x{height}x{columns} c{chain.head}"
        return (Component(name, head, (height, columns, counts[width])),)

    return _term(plan, [(WIDTH, plan.stages - 1), (RESOLUTION, 0)], pieces)
