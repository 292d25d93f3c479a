"""The family of memory banks, whose weights a hypernetwork writes (SMASH, Brock et al. 2017)."""

import functools
from collections.abc import Sequence

import numpy as np

from jaxnas.core.types import Architecture
from jaxnas.networks.family import Component, Family, Images, Term
from jaxnas.networks.memory_bank_network import MemoryBankNetwork, ReadBanks, WrittenBank, check_halvings
from jaxnas.networks.memory_bank_supernet import memory_bank_supernet
from jaxnas.spaces.memory_banks import (
    DILATION,
    KERNEL,
    READS,
    WIDTH,
    MemoryBanks,
    bank_operations,
    hidden_options,
    memory_banks_plan,
    memory_banks_space,
    operation_names,
)
from jaxnas.spaces.rising import check_whole


def memory_banks(
    images: Images,
    *,
    banks: int,
    filled: int,
    bank_channels: Sequence[int],
    depth: int,
    kernels: Sequence[int],
    dilations: Sequence[int],
    bottleneck: int,
    width_fractions: Sequence[float],
    hypernetwork_hidden: int,
    hypernetwork_depth: int,
) -> Family:
    """Operations that read and write banks; settings and errors: see `spaces.memory_banks.memory_banks_plan`.

    hypernetwork_hidden, hypernetwork_depth: of what writes the supernet's weights, see `networks.hypernetwork`.
    Also raises UserError for images that cannot be halved between the blocks.
    """
    for name, value in (("hypernetwork_hidden", hypernetwork_hidden), ("hypernetwork_depth", hypernetwork_depth)):
        check_whole(name, value, 1)
    plan = memory_banks_plan(
        banks=banks,
        filled=filled,
        bank_channels=bank_channels,
        depth=depth,
        kernels=kernels,
        dilations=dilations,
        bottleneck=bottleneck,
        width_fractions=width_fractions,
    )
    check_halvings((images.height, images.width), len(plan.bank_channels))
    space = memory_banks_space(plan)

    def network(architecture: Architecture, axis_name: str | None) -> MemoryBankNetwork:
        operations = bank_operations(plan, architecture)
        return MemoryBankNetwork(operations, plan.banks, plan.filled, plan.bank_channels, images.classes, axis_name)

    return Family(
        space=space,
        # By position, so that they are no settings of methods.
        supernet=functools.partial(memory_bank_supernet, plan, images, hypernetwork_hidden, hypernetwork_depth),
        network=network,
        terms=lambda: memory_bank_terms(plan, images),
        describe=space.canonical,
        rows=dict.fromkeys(space.shapes, operation_names(plan)),
    )


def memory_bank_terms(plan: MemoryBanks, images: Images) -> list[Term]:
    """Two terms for each operation: what it reads and what it writes. To how many banks it is added costs nothing."""
    terms = []
    for row in range(plan.operations):
        block = row // plan.depth
        height, width = images.height // 2**block, images.width // 2**block
        channels, counts = plan.bank_channels[block], hidden_options(plan, block)
        reads = np.empty((len(plan.subsets), len(counts)), object)
        for subset, option in np.ndindex(*reads.shape):
            inputs, hidden = len(plan.subsets[subset]) * channels, counts[option]
            name = f"read_c{hidden} {inputs}x{height}x{width}"
            reads[subset, option] = (Component(name, ReadBanks(hidden), (height, width, inputs)),)
        terms.append(Term(((READS, row), (WIDTH, row)), reads))
        writes = np.empty((len(plan.kernels), len(plan.dilations), len(counts)), object)
        for kernel, dilation, option in np.ndindex(*writes.shape):
            hidden, size, step = counts[option], plan.kernels[kernel], plan.dilations[dilation]
            name = f"write_k{size}_d{step}_c{channels} {hidden}x{height}x{width}"
            module = WrittenBank(channels, size, step)
            writes[kernel, dilation, option] = (Component(name, module, (height, width, hidden)),)
        terms.append(Term(((KERNEL, row), (DILATION, row), (WIDTH, row)), writes))
    return terms
