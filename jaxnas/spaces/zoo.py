"""What a genotype is, and the published ones."""

from collections.abc import Mapping
from typing import NamedTuple

Edges = tuple[tuple[str, int], ...]


class Genotype(NamedTuple):
    """Two cells as the literature writes them.

    normal, reduce: (operation, source state) of every edge, two edges for each node in turn. States 0 and 1 are the
        outputs of the two cells before, state 2 + i is node i.
    normal_concat, reduce_concat: the states whose channels, concatenated in this order, are the cell's output.
    """

    normal: Edges
    normal_concat: tuple[int, ...]
    reduce: Edges
    reduce_concat: tuple[int, ...]


def _cell(*nodes: str) -> Edges:
    """Edges from one string per node, "operation source, operation source"."""
    pairs = [edge.strip().rsplit(maxsplit=1) for node in nodes for edge in node.split(",")]
    return tuple((operation, int(source)) for operation, source in pairs)


ALL_FOUR = (2, 3, 4, 5)

# Liu, Simonyan & Yang 2019: first and second order on CIFAR-10.
DARTS_V1 = Genotype(
    normal=_cell(
        "sep_conv_3x3 1, sep_conv_3x3 0",
        "skip_connect 0, sep_conv_3x3 1",
        "skip_connect 0, sep_conv_3x3 1",
        "sep_conv_3x3 0, skip_connect 2",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_3x3 0, max_pool_3x3 1",
        "skip_connect 2, max_pool_3x3 0",
        "max_pool_3x3 0, skip_connect 2",
        "skip_connect 2, avg_pool_3x3 0",
    ),
    reduce_concat=ALL_FOUR,
)
DARTS_V2 = Genotype(
    normal=_cell(
        "sep_conv_3x3 0, sep_conv_3x3 1",
        "sep_conv_3x3 0, sep_conv_3x3 1",
        "sep_conv_3x3 1, skip_connect 0",
        "skip_connect 0, dil_conv_3x3 2",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_3x3 0, max_pool_3x3 1",
        "skip_connect 2, max_pool_3x3 1",
        "max_pool_3x3 0, skip_connect 2",
        "skip_connect 2, max_pool_3x3 1",
    ),
    reduce_concat=ALL_FOUR,
)

# Chen, Xie, Wu & Tian 2019, on CIFAR-10.
PDARTS = Genotype(
    normal=_cell(
        "skip_connect 0, dil_conv_3x3 1",
        "skip_connect 0, sep_conv_3x3 1",
        "sep_conv_3x3 1, sep_conv_3x3 3",
        "sep_conv_3x3 0, dil_conv_5x5 4",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "avg_pool_3x3 0, sep_conv_5x5 1",
        "sep_conv_3x3 0, dil_conv_5x5 2",
        "max_pool_3x3 0, dil_conv_3x3 1",
        "dil_conv_3x3 1, dil_conv_5x5 3",
    ),
    reduce_concat=ALL_FOUR,
)

# Xu, Xie, Zhang, Chen, Qi, Tian & Xiong 2020, on CIFAR-10 and on ImageNet.
PC_DARTS_cifar = Genotype(
    normal=_cell(
        "sep_conv_3x3 1, skip_connect 0",
        "sep_conv_3x3 0, dil_conv_3x3 1",
        "sep_conv_5x5 0, sep_conv_3x3 1",
        "avg_pool_3x3 0, dil_conv_3x3 1",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "sep_conv_5x5 1, max_pool_3x3 0",
        "sep_conv_5x5 1, sep_conv_5x5 2",
        "sep_conv_3x3 0, sep_conv_3x3 3",
        "sep_conv_3x3 1, sep_conv_3x3 2",
    ),
    reduce_concat=ALL_FOUR,
)
PC_DARTS_image = Genotype(
    normal=_cell(
        "skip_connect 1, sep_conv_3x3 0",
        "sep_conv_3x3 0, skip_connect 1",
        "sep_conv_3x3 1, sep_conv_3x3 3",
        "sep_conv_3x3 1, dil_conv_5x5 4",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "sep_conv_3x3 0, skip_connect 1",
        "dil_conv_5x5 2, max_pool_3x3 1",
        "sep_conv_3x3 2, sep_conv_3x3 1",
        "sep_conv_5x5 0, sep_conv_3x3 3",
    ),
    reduce_concat=ALL_FOUR,
)

# Zoph, Vasudevan, Shlens & Le 2018, as Liu et al. 2019 restate it.
NASNet = Genotype(
    normal=_cell(
        "sep_conv_5x5 1, sep_conv_3x3 0",
        "sep_conv_5x5 0, sep_conv_3x3 0",
        "avg_pool_3x3 1, skip_connect 0",
        "avg_pool_3x3 0, avg_pool_3x3 0",
        "sep_conv_3x3 1, skip_connect 1",
    ),
    normal_concat=(2, 3, 4, 5, 6),
    reduce=_cell(
        "sep_conv_5x5 1, sep_conv_7x7 0",
        "max_pool_3x3 1, sep_conv_7x7 0",
        "avg_pool_3x3 1, sep_conv_5x5 0",
        "skip_connect 3, avg_pool_3x3 2",
        "sep_conv_3x3 2, max_pool_3x3 1",
    ),
    reduce_concat=(4, 5, 6),
)

# Real, Aggarwal, Huang & Le 2019, as Liu et al. 2019 restate it.
AmoebaNet = Genotype(
    normal=_cell(
        "avg_pool_3x3 0, max_pool_3x3 1",
        "sep_conv_3x3 0, sep_conv_5x5 2",
        "sep_conv_3x3 0, avg_pool_3x3 3",
        "sep_conv_3x3 1, skip_connect 1",
        "skip_connect 0, avg_pool_3x3 1",
    ),
    normal_concat=(4, 5, 6),
    reduce=_cell(
        "avg_pool_3x3 0, sep_conv_3x3 1",
        "max_pool_3x3 0, sep_conv_7x7 2",
        "sep_conv_7x7 0, avg_pool_3x3 1",
        "max_pool_3x3 0, max_pool_3x3 1",
        "conv_7x1_1x7 0, sep_conv_3x3 5",
    ),
    reduce_concat=(3, 4, 6),
)

# Cells of the log of the progressive off-policy search on CIFAR-10, by the numbers of its experiments. In the last one
# dil_conv_3x3 stands for conv 3x3, as its authors trained it.
OFF_POLICY_17 = Genotype(
    normal=_cell(
        "dil_conv_3x3 0, sep_conv_5x5 1",
        "conv 3x3 0, conv_3x1_1x3 1",
        "conv 3x3 0, conv 3x3 1",
        "conv_3x1_1x3 1, conv 3x3 2",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_7x7 0, max_pool_3x3 1",
        "max_pool_7x7 0, avg_pool_3x3 2",
        "max_pool_7x7 1, max_pool_5x5 3",
        "max_pool_7x7 0, max_pool_3x3 1",
    ),
    reduce_concat=ALL_FOUR,
)
OFF_POLICY_31 = Genotype(
    normal=_cell(
        "conv 1x1 0, conv 1x1 1",
        "sep_conv_3x3 0, conv 1x1 1",
        "skip_connect 0, skip_connect 1",
        "skip_connect 0, conv 3x3 1",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_3x3 0, skip_connect 1",
        "max_pool_3x3 1, avg_pool_3x3 2",
        "max_pool_3x3 0, max_pool_5x5 3",
        "max_pool_5x5 1, avg_pool_3x3 2",
    ),
    reduce_concat=ALL_FOUR,
)
OFF_POLICY_34 = Genotype(
    normal=_cell(
        "conv 1x1 0, sep_conv_3x3 1",
        "conv 1x1 0, conv 3x3 1",
        "conv 1x1 0, conv 3x3 1",
        "skip_connect 0, conv 1x1 1",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_5x5 0, avg_pool_3x3 1",
        "max_pool_7x7 0, max_pool_3x3 2",
        "skip_connect 1, max_pool_3x3 3",
        "max_pool_5x5 0, max_pool_5x5 2",
    ),
    reduce_concat=ALL_FOUR,
)
OFF_POLICY_36 = Genotype(
    normal=_cell(
        "conv 1x1 0, sep_conv_3x3 1",
        "skip_connect 0, dil_conv_3x3 1",
        "skip_connect 0, conv 1x1 1",
        "skip_connect 0, conv_3x1_1x3 1",
    ),
    normal_concat=ALL_FOUR,
    reduce=_cell(
        "max_pool_5x5 0, max_pool_3x3 1",
        "max_pool_7x7 0, avg_pool_3x3 1",
        "max_pool_3x3 0, max_pool_7x7 3",
        "max_pool_7x7 0, max_pool_3x3 1",
    ),
    reduce_concat=ALL_FOUR,
)

ZOO: Mapping[str, Genotype] = {
    "DARTS_V1": DARTS_V1,
    "DARTS_V2": DARTS_V2,
    "PDARTS": PDARTS,
    "PC_DARTS_cifar": PC_DARTS_cifar,
    "PC_DARTS_image": PC_DARTS_image,
    "NASNet": NASNet,
    "AmoebaNet": AmoebaNet,
    "OFF_POLICY_17": OFF_POLICY_17,
    "OFF_POLICY_31": OFF_POLICY_31,
    "OFF_POLICY_34": OFF_POLICY_34,
    "OFF_POLICY_36": OFF_POLICY_36,
}
