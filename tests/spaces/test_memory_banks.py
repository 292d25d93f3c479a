"""The space of memory banks: its settings, its strings and what its numbers mean."""

import jax
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.spaces.memory_banks import (
    BankOperation,
    bank_operations,
    hidden_options,
    membership,
    memory_banks_plan,
    memory_banks_space,
    operation_names,
)
from jaxnas.spaces.space import encode, random

SETTINGS = {
    "banks": 3,
    "filled": 1,
    "bank_channels": (4, 8),
    "depth": 2,
    "kernels": (3, 5),
    "dilations": (1, 2),
    "bottleneck": 2,
    "width_fractions": (0.25, 1.0),
}
PLAN = memory_banks_plan(**SETTINGS)
SPACE = memory_banks_space(PLAN)
TEXT = "0+2>1:k3d1w0.25|1>0+1+2:k5d2w1||0>0:k3d2w1|0+1>2:k5d1w0.25"


def test_all_combinations_of_subsets_and_options():
    """7 sets of banks to read and to write, and two kernels, dilations and widths, for each of four operations."""
    assert SPACE.shapes == {"reads": (4, 7), "writes": (4, 7), "kernel": (4, 2), "dilation": (4, 2), "width": (4, 2)}
    assert SPACE.size == (7 * 7 * 8) ** 4
    assert SPACE.options["reads"] == ("0", "1", "0+1", "2", "0+2", "1+2", "0+1+2")
    np.testing.assert_array_equal(membership(PLAN), [[n >> bank & 1 for bank in range(3)] for n in range(1, 8)])
    assert [hidden_options(PLAN, block) for block in (0, 1)] == [(2, 8), (4, 16)]
    assert operation_names(PLAN)[1:3] == ("block 1 operation 2", "block 2 operation 1")


def test_strings_are_what_operations_read_and_write():
    architecture = SPACE.parse(f" {TEXT}\n")
    assert SPACE.canonical(architecture) == TEXT
    assert bank_operations(PLAN, architecture) == (
        (BankOperation((0, 2), (1,), 3, 1, 2), BankOperation((1,), (0, 1, 2), 5, 2, 8)),
        (BankOperation((0,), (0,), 3, 2, 16), BankOperation((0, 1), (2,), 5, 1, 4)),
    )


def test_strings_are_distinct_and_parse_back():
    drawn = jax.jit(jax.vmap(lambda key: random(SPACE, key)))(jax.random.split(jax.random.key(0), 50))
    one = [{part: np.asarray(values[number]) for part, values in drawn.items()} for number in range(50)]
    assert len({SPACE.canonical(architecture) for architecture in one}) == 50
    for architecture in one:
        for other in (SPACE.parse(SPACE.canonical(architecture)), SPACE.decode(encode(SPACE, architecture))):
            for part, numbers in other.items():
                np.testing.assert_array_equal(numbers, architecture[part])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has to be 2 blocks joined by ||, each of 2 operations joined by |"),
        (TEXT.replace("||", "|"), "has to be 2 blocks"),
        (TEXT.replace("0>0:k3d2w1", "0:k3d2w1"), "block 2 operation 1 is '0:k3d2w1', but has to look like"),
        (TEXT.replace("0+2>", "0+3>"), "option at choice 0 of reads: '0+3'; did you mean '0"),
        (TEXT.replace("k5d2", "k7d2"), "option at choice 1 of kernel: '7'"),
    ],
)
def test_strings_that_are_no_architecture(text, message):
    with pytest.raises(UserError) as raised:
        SPACE.parse(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"banks": 0}, "banks is 0, but has to be a whole number of at least 1"),
        ({"depth": 1.5}, "depth is 1.5, but has to be a whole number"),
        ({"banks": 9}, "banks is 9, but a choice has an option for each set of banks; take at most 8"),
        ({"filled": 4}, "filled is 4, but a block has 3 banks; take at most 3"),
        ({"bank_channels": ()}, "bank_channels has to hold a whole number above 0 for each block"),
        ({"bank_channels": (4, 0)}, "bank_channels has to hold a whole number above 0 for each block"),
        ({"kernels": (2, 3)}, "kernels has to hold odd whole numbers that rise"),
        ({"dilations": (2, 1)}, "dilations has to hold whole numbers above 0 that rise"),
        ({"width_fractions": (0.5, 1.5)}, "width_fractions has to hold fractions of 1 that rise"),
        ({"width_fractions": (0.5, 0.51)}, "of 8 hidden channels are 4, 4, which have to be different"),
        ({"width_fractions": (0.01, 1.0)}, "of 8 hidden channels are 0, 8, which have to be different and at least 1"),
    ],
)
def test_settings_that_make_no_space(changed, message):
    with pytest.raises(UserError) as raised:
        memory_banks_plan(**SETTINGS | changed)
    assert message in str(raised.value)
