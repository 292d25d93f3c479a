"""Families of chains of blocks: NAS-Bench-Macro, ProxylessNAS, FBNet and MnasNet.

The settings as published are the constants without a number, for images of 224×224 pixels (32×32 for NAS-Bench-Macro).
Those ending in _32 have the same layers at a stride of 8 instead of 32, by taking stride 1 in the stem and in the first
stage that halves; those ending in _8 are small chains of the same kind.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnas.core.types import Architecture
from jaxnas.networks.chain_components import chain_terms
from jaxnas.networks.chain_network import ChainNetwork
from jaxnas.networks.chain_supernet import chain_supernet
from jaxnas.networks.family import Family, Images
from jaxnas.spaces.chain import PART, Chain, chain_plan, chain_space, check_image_size, choice_names, chosen_blocks

Settings = Mapping[str, Any]

NAS_BENCH_MACRO: Settings = {
    "stem": 32,
    "widths": (64, 128, 256),
    "depths": (2, 3, 3),
    "head": 1280,
    "candidates": ("identity", "mbconv_k3_e3", "mbconv_k5_e6"),
}
NAS_BENCH_MACRO_8: Settings = {**NAS_BENCH_MACRO, "stem": 8, "widths": (8, 16), "depths": (2, 2), "head": 32}

PROXYLESSNAS: Settings = {
    "stem": 32,
    "stem_stride": 2,
    "first": 16,
    "widths": (24, 40, 80, 96, 192, 320),
    "depths": (4, 4, 4, 4, 4, 1),
    "strides": (2, 2, 2, 1, 2, 1),
    "head": 1280,
    "candidates": (*(f"mbconv_k{kernel}_e{expansion}" for expansion in (3, 6) for kernel in (3, 5, 7)), "zero"),
}
PROXYLESSNAS_32: Settings = {**PROXYLESSNAS, "stem_stride": 1, "strides": (1, 2, 2, 1, 2, 1)}
PROXYLESSNAS_8: Settings = {
    "stem": 8,
    "stem_stride": 1,
    "first": 8,
    "widths": (12, 16),
    "depths": (2, 2),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("mbconv_k3_e3", "mbconv_k5_e3", "zero"),
}

FBNET: Settings = {
    "stem": 16,
    "stem_stride": 2,
    "widths": (16, 24, 32, 64, 112, 184, 352),
    "depths": (1, 4, 4, 4, 4, 4, 1),
    "strides": (1, 2, 2, 2, 1, 2, 1),
    "head": 1984,
    "candidates": (*(f"mbconv_k{k}_{e}" for k in (3, 5) for e in ("e1", "e1_g2", "e3", "e6")), "identity"),
}
FBNET_32: Settings = {**FBNET, "stem_stride": 1, "strides": (1, 1, 2, 2, 1, 2, 1)}
FBNET_8: Settings = {
    "stem": 8,
    "stem_stride": 1,
    "widths": (8, 16),
    "depths": (1, 3),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("mbconv_k3_e1", "mbconv_k3_e1_g2", "mbconv_k3_e3", "mbconv_k5_e3", "identity"),
}

# The layers and channels of MnasNet-A1, the network that the paper found; there, they are part of the search.
MNASNET: Settings = {
    "stem": 32,
    "stem_stride": 2,
    "widths": (16, 24, 40, 80, 112, 160, 320),
    "depths": (1, 2, 3, 4, 2, 3, 1),
    "strides": (1, 2, 2, 2, 1, 2, 1),
    "head": 1280,
    "candidates": tuple(
        f"{kind}{squeeze}"
        for kind in ("separable_k3", "separable_k5", "mbconv_k3_e3", "mbconv_k5_e3", "mbconv_k3_e6", "mbconv_k5_e6")
        for squeeze in ("", "_se")
    ),
}
MNASNET_32: Settings = {**MNASNET, "stem_stride": 1, "strides": (1, 1, 2, 2, 1, 2, 1)}
MNASNET_8: Settings = {
    "stem": 8,
    "stem_stride": 1,
    "widths": (8, 16),
    "depths": (1, 2),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("separable_k3", "mbconv_k3_e3", "mbconv_k3_e3_se", "mbconv_k5_e3"),
}


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
