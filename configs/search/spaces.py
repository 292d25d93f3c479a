"""Settings of the spaces, as published and small enough for 32×32 and 8×8 images. Data only.

Of every space the constant without a number is the published one, for images of 224×224 pixels (32×32 for the two
benchmarks). Those ending in _32 have the same layers at a stride of 8 instead of 32: stride 1 in the stem and in the
first stage that halves. Those ending in _8 are small spaces of the same kind.
"""

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
DARTS = {
    "name": "darts",
    "channels": 16,
    "layers": 8,
    "nodes": 4,
    "operations": OPERATIONS,
    "reduce_operations": (),  # of the reduction cell, where they are others
}
DARTS_8 = {**DARTS, "channels": 8, "layers": 4}

# The sets of the log of the progressive off-policy search: dense convolutions in normal cells, pools in reductions.
DENSE = {
    **DARTS,
    "operations": (
        *("none", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
        *("conv 1x1", "conv 3x3", "conv_1x1_3x3", "conv_3x1_1x3"),
    ),
    "reduce_operations": ("none", "skip_connect", "avg_pool_3x3", "max_pool_3x3", "max_pool_5x5", "max_pool_7x7"),
}
DENSE_8 = {**DENSE, "channels": 8, "layers": 4}

NAS_BENCH_201 = {"name": "nas_bench_201", "channels": 16, "cells": 5}
NAS_BENCH_201_8 = {**NAS_BENCH_201, "channels": 8, "cells": 1}

NAS_BENCH_MACRO = {
    "name": "nas_bench_macro",
    "stem": 32,
    "widths": (64, 128, 256),
    "depths": (2, 3, 3),
    "strides": (2, 2, 2),
    "head": 1280,
    "candidates": ("identity", "mbconv_k3_e3", "mbconv_k5_e6"),
}
NAS_BENCH_MACRO_8 = {**NAS_BENCH_MACRO, "stem": 8, "widths": (8, 16), "depths": (2, 2), "strides": (2, 2), "head": 32}

PROXYLESSNAS = {
    "name": "proxylessnas",
    "stem": 32,
    "stem_stride": 2,
    "first": 16,
    "widths": (24, 40, 80, 96, 192, 320),
    "depths": (4, 4, 4, 4, 4, 1),
    "strides": (2, 2, 2, 1, 2, 1),
    "head": 1280,
    "candidates": (*(f"mbconv_k{kernel}_e{expansion}" for expansion in (3, 6) for kernel in (3, 5, 7)), "zero"),
}
PROXYLESSNAS_32 = {**PROXYLESSNAS, "stem_stride": 1, "strides": (1, 2, 2, 1, 2, 1)}
PROXYLESSNAS_8 = {
    **PROXYLESSNAS_32,
    "stem": 8,
    "first": 8,
    "widths": (12, 16),
    "depths": (2, 2),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("mbconv_k3_e3", "mbconv_k5_e3", "zero"),
}

FBNET = {
    "name": "fbnet",
    "stem": 16,
    "stem_stride": 2,
    "widths": (16, 24, 32, 64, 112, 184, 352),
    "depths": (1, 4, 4, 4, 4, 4, 1),
    "strides": (1, 2, 2, 2, 1, 2, 1),
    "head": 1984,
    "candidates": (*(f"mbconv_k{k}_{e}" for k in (3, 5) for e in ("e1", "e1_g2", "e3", "e6")), "identity"),
}
FBNET_32 = {**FBNET, "stem_stride": 1, "strides": (1, 1, 2, 2, 1, 2, 1)}
FBNET_8 = {
    **FBNET_32,
    "stem": 8,
    "widths": (8, 16),
    "depths": (1, 3),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("mbconv_k3_e1", "mbconv_k3_e1_g2", "mbconv_k3_e3", "mbconv_k5_e3", "identity"),
}

# The layers and channels of MnasNet-A1, the network that the paper found; there, they are part of the search.
MNASNET = {
    "name": "mnasnet",
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
MNASNET_32 = {**MNASNET, "stem_stride": 1, "strides": (1, 1, 2, 2, 1, 2, 1)}
MNASNET_8 = {
    **MNASNET_32,
    "stem": 8,
    "widths": (8, 16),
    "depths": (1, 2),
    "strides": (1, 2),
    "head": 32,
    "candidates": ("separable_k3", "mbconv_k3_e3", "mbconv_k3_e3_se", "mbconv_k5_e3"),
}

# Blocks of ResNet-18 in the pairs of bits, of weights and of activations, that Single Path One-Shot chooses from.
RESNET_8 = {
    "name": "resnet",
    "stem": 8,
    "stem_stride": 1,
    "widths": (8, 16),
    "depths": (2, 2),
    "strides": (1, 2),
    "head": 16,
    "candidates": tuple(f"residual_w{w}_a{a}" for w, a in ((1, 2), (2, 2), (1, 4), (2, 4), (3, 4), (4, 4))),
}

# The layers and channels of ProxylessNAS, as Single-Path NAS has them: MobileNetV2's with more layers.
SINGLE_PATH = {
    "name": "superkernel",
    "stem": 32,
    "stem_stride": 2,
    "first": 16,
    "widths": (24, 40, 80, 96, 192, 320),
    "depths": (4, 4, 4, 4, 4, 1),
    "strides": (2, 2, 2, 1, 2, 1),
    "head": 1280,
    "kernels": (3, 5),
    "expansions": (0.0, 3.0, 6.0),
    "width_fractions": (1.0,),
    "resolutions": (224,),
}
SINGLE_PATH_32 = {**SINGLE_PATH, "stem_stride": 1, "strides": (1, 2, 2, 1, 2, 1), "resolutions": (32,)}
SINGLE_PATH_8 = {
    **SINGLE_PATH_32,
    "stem": 8,
    "first": 8,
    "widths": (12, 16),
    "depths": (2, 3),
    "strides": (1, 2),
    "head": 32,
    "resolutions": (8,),
}

# The stages, widest channels and expansions of FBNetV2's largest space, with fractions where it has channels in steps
# of 4 or 8, image sizes of our own, and FBNet's skipped block; without its squeeze-and-excitation and activations.
FBNET_V2 = {
    "name": "superkernel",
    "stem": 16,
    "stem_stride": 2,
    "first": 16,
    "widths": (28, 40, 96, 128, 216),
    "depths": (3, 3, 3, 4, 4),
    "strides": (2, 2, 2, 1, 2),
    "head": 1984,
    "kernels": (3, 5),
    "expansions": (0.0, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25),
    "width_fractions": (0.5, 0.75, 1.0),
    "resolutions": (160, 192, 224),
}
FBNET_V2_32 = {**FBNET_V2, "stem_stride": 1, "strides": (1, 2, 2, 1, 2), "resolutions": (16, 24, 32)}
FBNET_V2_8 = {
    **FBNET_V2_32,
    "stem": 8,
    "first": 8,
    "widths": (12, 16),
    "depths": (2, 2),
    "strides": (1, 2),
    "head": 32,
    "expansions": (0.0, 1.5, 3.0),
    "resolutions": (6, 8),
}

# MobileNetV3 as Once-for-All makes it elastic, with its four image sizes.
ELASTIC = {
    "name": "elastic",
    "stem": 16,
    "stem_stride": 2,
    "first": 16,
    "widths": (24, 40, 80, 112, 160),
    "strides": (2, 2, 2, 1, 2),
    "squeeze": (False, True, False, True, True),
    "hard_swish": (False, False, True, True, True),
    "final": 960,
    "head": 1280,
    "kernels": (3, 5, 7),
    "expansions": (3.0, 4.0, 6.0),
    "depths": (2, 3, 4),
    "resolutions": (128, 160, 192, 224),
    "divisor": 8,
}
ELASTIC_32 = {**ELASTIC, "stem_stride": 1, "strides": (1, 2, 2, 1, 2), "resolutions": (20, 24, 28, 32)}
ELASTIC_8 = {
    **ELASTIC_32,
    "stem": 8,
    "first": 8,
    "widths": (12, 16),
    "strides": (1, 2),
    "squeeze": (False, True),
    "hard_swish": (False, True),
    "final": 32,
    "head": 32,
    "depths": (1, 2, 3),
    "resolutions": (6, 8),
    "divisor": 4,
}

# The paper's six operations and its 12 layers; 36 channels are those of the published search.
ENAS_MACRO = {
    "name": "enas_macro",
    "channels": 36,
    "layers": 12,
    "operations": ("conv_3x3", "conv_5x5", "sep_conv_3x3", "sep_conv_5x5", "max_pool_3x3", "avg_pool_3x3"),
}
ENAS_MACRO_8 = {**ENAS_MACRO, "channels": 8, "layers": 6}

# WRN-16-4 with any of four layers in the place of every convolution but the first and the shortcuts.
SUBSTITUTES = {
    "name": "substitutes",
    "depth": 16,
    "width": 4,
    "candidates": ("dense", "low_rank@0.25", "half_hashed_separable@0.15", "hashed@0.1"),
}
SUBSTITUTES_8 = {**SUBSTITUTES, "depth": 10, "width": 1, "candidates": ("dense", "low_rank@0.3", "hashed@0.1")}

# SMASH's memory banks: twelve operations in three blocks. The paper's blocks are as many, with more and larger banks.
MEMORY_BANKS = {
    "name": "memory_banks",
    "banks": 4,
    "filled": 2,
    "bank_channels": (16, 32, 64),
    "depth": 4,
    "kernels": (3, 5),
    "dilations": (1, 2),
    "bottleneck": 2,
    "width_fractions": (0.5, 1.0),
    "hypernetwork_hidden": 32,
    "hypernetwork_depth": 4,
}
MEMORY_BANKS_8 = {**MEMORY_BANKS, "bank_channels": (6, 12), "depth": 3, "hypernetwork_hidden": 16}
