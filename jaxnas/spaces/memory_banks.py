"""The memory-bank space of SMASH (Brock et al. 2017, section 3.1): operations that read and write banks of channels.

A network is a chain of blocks of falling resolution. A block has banks, tensors of as many channels each; what enters
the block fills the first of them, the others begin at zero. Its operations run one after another. Each reads some
banks, convolves what they hold, and adds the result to some banks. One bank that all read and write is a ResNet, a new
bank for each operation that all after it read is a DenseNet.

It has fewer choices than the paper's: the numbers of banks and operations and the channels of a bank are settings, what
an operation computes is added to each of its banks as it is, and its convolutions have neither groups nor gates.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Space
from jaxnas.spaces.product import option_names, options_to_numbers, product_space
from jaxnas.spaces.rising import check_list, check_rising, check_whole, is_number, is_whole

READS, WRITES, KERNEL, DILATION, WIDTH = "reads", "writes", "kernel", "dilation", "width"
MOST_BANKS = 8  # 255 subsets
OPERATION = re.compile(r"([^>:]+)>([^>:]+):k([^d]+)d([^w]+)w(.+)")  # as canonical strings have it


class MemoryBanks(NamedTuple):
    """What all architectures of a space have in common.

    banks: of a block. filled: how many of them the block's input fills. bank_channels: of a bank, for each block.
    depth: operations of a block. kernels, dilations: of their k×k convolutions. bottleneck: hidden channels of the
        widest operation for each channel of a bank. width_fractions: of these hidden channels.
    """

    banks: int
    filled: int
    bank_channels: tuple[int, ...]
    depth: int
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    bottleneck: int
    width_fractions: tuple[float, ...]

    @property
    def operations(self) -> int:
        """Operations of all blocks."""
        return self.depth * len(self.bank_channels)

    @property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """The sets of banks that can be read or written: all but the empty one, in the order of binary numbers."""
        return tuple(
            tuple(bank for bank in range(self.banks) if number >> bank & 1) for number in range(1, 2**self.banks)
        )

    @property
    def options(self) -> dict[str, tuple[str, ...]]:
        """Names of the options of every part of the space; a set of banks is written "0+2"."""
        subsets = tuple("+".join(map(str, subset)) for subset in self.subsets)
        numbers = {KERNEL: self.kernels, DILATION: self.dilations, WIDTH: self.width_fractions}
        named = {part: tuple(f"{number:g}" for number in of) for part, of in numbers.items()}
        return {READS: subsets, WRITES: subsets, **named}


class BankOperation(NamedTuple):
    """What an architecture chose for one operation: banks, the size and dilation of its kernel, its hidden channels."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    kernel: int
    dilation: int
    hidden: int


def memory_banks_plan(
    *,
    banks: int,
    filled: int,
    bank_channels: Sequence[int],
    depth: int,
    kernels: Sequence[int],
    dilations: Sequence[int],
    bottleneck: int,
    width_fractions: Sequence[float],
) -> MemoryBanks:
    """The plan with these settings, see `MemoryBanks`.

    Raises UserError for numbers that are not whole or too small, for more than MOST_BANKS banks, for more filled banks
    than there are, for options that do not rise, even kernels, fractions above 1, and two fractions that are as many
    hidden channels.
    """
    for name, value in (("banks", banks), ("filled", filled), ("depth", depth), ("bottleneck", bottleneck)):
        check_whole(name, value, 1)
    if banks > MOST_BANKS:
        raise UserError(
            f"banks is {banks}, but a choice has an option for each set of banks; take at most {MOST_BANKS}."
        )
    if filled > banks:
        raise UserError(f"filled is {filled}, but a block has {banks} banks; take at most {banks}.")
    check_list("bank_channels", bank_channels, (16, 32))
    if not bank_channels or not all(is_whole(channels) for channels in bank_channels):
        raise UserError(
            f"bank_channels has to hold a whole number above 0 for each block, as in (16, 32), not {bank_channels!r}."
        )
    check_rising("kernels", kernels, "odd whole numbers", lambda one: is_whole(one) and one % 2 == 1, (3, 5))
    check_rising("dilations", dilations, "whole numbers above 0", is_whole, (1, 2))
    check_rising(
        "width_fractions", width_fractions, "fractions of 1", lambda one: is_number(one) and 0 < one <= 1, (0.5, 1.0)
    )
    fields = (tuple(bank_channels), depth, tuple(kernels), tuple(dilations), bottleneck, tuple(width_fractions))
    plan = MemoryBanks(banks, filled, *fields)
    for block, channels in enumerate(bank_channels):
        counts = hidden_options(plan, block)
        if counts[0] < 1 or len(set(counts)) < len(counts):
            raise UserError(
                f"width_fractions {tuple(width_fractions)} of {bottleneck * channels} hidden channels are "
                f"{', '.join(map(str, counts))}, which have to be different and at least 1; take others, more "
                "bank_channels or a larger bottleneck."
            )
    return plan


def hidden_options(plan: MemoryBanks, block: int) -> tuple[int, ...]:
    """Hidden channels of an operation of a block for each width."""
    widest = plan.bottleneck * plan.bank_channels[block]
    return tuple(round(fraction * widest) for fraction in plan.width_fractions)


def membership(plan: MemoryBanks) -> np.ndarray:
    """Which banks each subset has, float32 [subsets, banks] of zeros and ones."""
    return np.asarray([[bank in subset for bank in range(plan.banks)] for subset in plan.subsets], np.float32)


def memory_banks_space(plan: MemoryBanks) -> Space:
    """The space of parts "reads", "writes", "kernel", "dilation" and "width", a choice for each operation.

    Every combination is valid; an operation may read banks that are still zero. Canonical strings join operations by |
    and blocks by ||; an operation is "banks read>banks written:k kernel d dilation w width", as in "0+2>1:k3d1w0.5".
    """
    return product_space(
        "memory_banks",
        plan.options,
        dict.fromkeys(plan.options, plan.operations),
        canonical=lambda architecture: _write(plan, architecture),
        parse=lambda text: _parse(plan, text),
    )


def bank_operations(plan: MemoryBanks, architecture: Architecture) -> tuple[tuple[BankOperation, ...], ...]:
    """The operations of one concrete architecture, block by block.

    Raises UserError where the architecture's numbers do not fit the space (see `spaces.product.option_names`).
    """
    chosen = _chosen(plan, architecture)
    subsets = dict(zip(plan.options[READS], plan.subsets, strict=True))
    operations = []
    for number, (reads, writes, kernel, dilation, width) in enumerate(zip(*chosen.values(), strict=True)):
        hidden = hidden_options(plan, number // plan.depth)[plan.options[WIDTH].index(width)]
        operations.append(BankOperation(subsets[reads], subsets[writes], int(kernel), int(dilation), hidden))
    return tuple(tuple(operations[first : first + plan.depth]) for first in range(0, plan.operations, plan.depth))


def operation_names(plan: MemoryBanks) -> tuple[str, ...]:
    """What each choice of each part is about, such as "block 2 operation 1"."""
    return tuple(
        f"block {block} operation {number}"
        for block in range(1, len(plan.bank_channels) + 1)
        for number in range(1, plan.depth + 1)
    )


def _chosen(plan: MemoryBanks, architecture: Architecture) -> dict[str, tuple[str, ...]]:
    return {part: option_names(part, names, _allowed(plan, part), architecture) for part, names in plan.options.items()}


def _allowed(plan: MemoryBanks, part: str) -> np.ndarray:
    """All options of every choice."""
    return np.ones((plan.operations, len(plan.options[part])), bool)


def _write(plan: MemoryBanks, architecture: Architecture) -> str:
    rows = zip(*_chosen(plan, architecture).values(), strict=True)
    texts = [f"{reads}>{writes}:k{kernel}d{dilation}w{width}" for reads, writes, kernel, dilation, width in rows]
    blocks = [texts[first : first + plan.depth] for first in range(0, plan.operations, plan.depth)]
    return "||".join("|".join(block) for block in blocks)


def _parse(plan: MemoryBanks, text: str) -> Architecture:
    blocks = [block.split("|") for block in text.strip().split("||")]
    if [len(block) for block in blocks] != [plan.depth] * len(plan.bank_channels):
        raise UserError(
            f"the architecture {text.strip()!r} has to be {len(plan.bank_channels)} blocks joined by ||, each of "
            f"{plan.depth} operations joined by |."
        )
    found: dict[str, list[str]] = {part: [] for part in plan.options}
    for number, piece in enumerate(piece for block in blocks for piece in block):
        match = OPERATION.fullmatch(piece)
        if match is None:
            name = operation_names(plan)[number]
            raise UserError(f"{name} is {piece!r}, but has to look like '0+2>1:k3d1w0.5'.")
        for part, option in zip(found, match.groups(), strict=True):
            found[part].append(option)
    return {
        part: jax.device_put(options_to_numbers(part, names, plan.options[part], _allowed(plan, part)))
        for part, names in found.items()
    }
