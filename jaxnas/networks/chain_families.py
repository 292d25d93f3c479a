"""Families of chains of blocks: NAS-Bench-Macro, ProxylessNAS, FBNet and MnasNet."""

import functools
from collections.abc import Sequence

from jaxnas.core.types import Architecture
from jaxnas.networks.chain_components import chain_terms
from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_supernet import chain_supernet
from jaxnas.networks.family import Family, Images
from jaxnas.spaces.chain import PART, Chain, chain_plan, chain_space, check_image_size, choice_names, chosen_blocks


def nas_bench_macro(
    images: Images,
    *,
    stem: int,
    widths: Sequence[int],
    depths: Sequence[int],
    head: int,
    candidates: Sequence[str],
) -> Family:
    """NAS-Bench-Macro's chain (Su et al. 2021): every stage halves the images, architectures are written as digits.

    An identity that reshapes is a 1×1 convolution without activation. Settings and errors: see `spaces.chain`.
    """
    plan = chain_plan(
        stem=stem,
        stem_stride=1,
        first=0,
        widths=widths,
        depths=depths,
        strides=(2,) * len(widths),
        head=head,
        candidates=candidates,
        activation="relu",
        identity_activation=False,
        expand_always=False,
    )
    return _family(images, plan, "nas_bench_macro", digits=True)


def proxylessnas(
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
) -> Family:
    """ProxylessNAS's chain (Cai, Zhu & Han 2019): a choice for every layer, ReLU6 as in MobileNetV2.

    Settings and errors: see `spaces.chain`.
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
        activation="relu6",
        identity_activation=False,
        expand_always=False,
    )
    return _family(images, plan, "proxylessnas")


def fbnet(
    images: Images,
    *,
    stem: int,
    stem_stride: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    candidates: Sequence[str],
) -> Family:
    """FBNet's chain (Wu et al. 2019): a choice for every layer; blocks of expansion 1 keep their first convolution.

    An identity that reshapes is a 1×1 convolution with activation. Settings and errors: see `spaces.chain`.
    """
    plan = chain_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=0,
        widths=widths,
        depths=depths,
        strides=strides,
        head=head,
        candidates=candidates,
        activation="relu",
        identity_activation=True,
        expand_always=True,
    )
    return _family(images, plan, "fbnet")


def mnasnet(
    images: Images,
    *,
    stem: int,
    stem_stride: int,
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
    head: int,
    candidates: Sequence[str],
) -> Family:
    """MnasNet's chain (Tan et al. 2019): a choice for every stage, which its layers share.

    Of the paper's factorised hierarchy, operation, kernel, expansion and squeeze-and-excitation are chosen; layers and
    channels are settings. Settings and errors: see `spaces.chain`.
    """
    plan = chain_plan(
        stem=stem,
        stem_stride=stem_stride,
        first=0,
        widths=widths,
        depths=depths,
        strides=strides,
        head=head,
        candidates=candidates,
        activation="relu",
        identity_activation=False,
        expand_always=False,
    )
    return _family(images, plan, "mnasnet", shared=True)


def _family(images: Images, plan: Chain, name: str, *, shared: bool = False, digits: bool = False) -> Family:
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
