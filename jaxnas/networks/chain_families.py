"""Families of chains of blocks: NAS-Bench-Macro, ProxylessNAS, FBNet, MnasNet and ResNet are one builder, bound."""

import functools
from collections.abc import Sequence

from jaxnas.core.types import Architecture
from jaxnas.networks.chain_components import chain_terms
from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_supernet import chain_supernet
from jaxnas.networks.family import Family, Images
from jaxnas.spaces.chain import PART, chain_plan, chain_space, check_image_size, choice_names, chosen_blocks


def chain(
    images: Images,
    *,
    stem: int,
    stem_stride: int,
    first: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    candidates: Sequence[str],
    name: str,
    activation: str = "relu",
    identity_activation: bool = False,
    expand_always: bool = False,
    shared: bool = False,
    digits: bool = False,
) -> Family:
    """A chain of stages whose layers each choose one of the candidate blocks.

    Settings and errors: see `spaces.chain.chain_plan` and, for shared and digits, `spaces.chain.chain_space`. Also
    raises UserError for images that the strides shrink to less than one pixel.
    """
    plan = chain_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=first,
        widths=widths,
        depths=depths,
        strides=strides,
        head=head,
        candidates=candidates,
        activation=activation,
        identity_activation=identity_activation,
        expand_always=expand_always,
    )
    check_image_size(plan, images.height, images.width)
    space = chain_space(plan, name, shared=shared, digits=digits)

    def network(architecture: Architecture, axis_name: str | None) -> ChainNetwork:
        return ChainNetwork(plan, chosen_blocks(plan, architecture, shared=shared), images.classes, axis_name)

    return Family(
        space=space,
        supernet=functools.partial(chain_supernet, plan, images, shared=shared),
        network=network,
        terms=lambda: chain_terms(plan, images, shared=shared),
        describe=space.canonical,
        rows={PART: choice_names(plan, shared)},
    )


# Su et al. 2021: architectures are written as digits.
nas_bench_macro = functools.partial(chain, name="nas_bench_macro", stem_stride=1, first=0, digits=True)

# Cai, Zhu & Han 2019: a choice for every layer; a fixed first block and ReLU6, as in MobileNetV2.
proxylessnas = functools.partial(chain, name="proxylessnas", activation="relu6")

# Wu et al. 2019: blocks of expansion 1 keep their first convolution, an identity that reshapes has an activation.
fbnet = functools.partial(chain, name="fbnet", first=0, identity_activation=True, expand_always=True)

# Tan et al. 2019: a choice for every stage, which its layers share. Of the paper's factorised hierarchy, operation,
# kernel, expansion and squeeze-and-excitation are chosen; layers and channels are settings.
mnasnet = functools.partial(chain, name="mnasnet", first=0, shared=True)

# Guo et al. 2020, section 4.3: residual blocks, of which each has its bits chosen. A head, which ResNet lacks, is ours.
resnet = functools.partial(chain, name="resnet", first=0)
