"""Arrays whose elements share the numbers of a small bank by a hash that is computed, not stored.

A table of where each element reads would be as large as the array that the bank is to save. So the hash is arithmetic:
position i reads number π(i) mod bank, where π is a pseudo-random permutation of all positions. That is as even as can
be, and since π is inverted as easily, the gradient of a number is gathered from the positions that read it, where the
derivative of a table's look-up would scatter.
"""

import functools
from math import isqrt, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnas.core.types import Array

ROUNDS = 4


class Hash(NamedTuple):
    """Which of the numbers 0 .. bank - 1 each of the positions 0 .. elements - 1 reads.

    A position is a row and a column of a table of rows · columns = elements, as square as it can be. π shifts the rows
    by a hash of the column and the columns by a hash of the row, in turns: a Feistel network whose halves are whole
    numbers modulo rows and columns, so that it permutes the positions exactly.
    """

    rows: int
    columns: int
    bank: int
    salts: tuple[int, ...]  # one for every round

    @property
    def elements(self) -> int:
        """How many positions there are."""
        return self.rows * self.columns


def hash_of(shape: tuple[int, ...], bank: int) -> Hash:
    """The hash for an array of this shape; other shapes and banks have unrelated ones."""
    elements = prod(shape)
    rows = next(rows for rows in range(isqrt(elements), 0, -1) if elements % rows == 0)
    salts = np.random.SeedSequence((*shape, bank)).generate_state(ROUNDS)
    return Hash(rows, elements // rows, bank, tuple(salts.tolist()))


def _mixed(numbers: Array, salt: int) -> Array:
    """The finaliser of MurmurHash3 (Appleby 2011), uint32 -> uint32."""
    numbers = numbers ^ np.uint32(salt)
    numbers = (numbers ^ numbers >> 16) * np.uint32(0x85EBCA6B)
    numbers = (numbers ^ numbers >> 13) * np.uint32(0xC2B2AE35)
    return numbers ^ numbers >> 16


def slots(hashing: Hash) -> Array:
    """The number that every position reads, uint32 [rows, columns]."""
    row = lax.broadcasted_iota(jnp.uint32, (hashing.rows, 1), 0)
    column = lax.broadcasted_iota(jnp.uint32, (1, hashing.columns), 1)
    for turn, salt in enumerate(hashing.salts):
        if turn % 2 == 0:
            row = (row + _mixed(column, salt) % hashing.rows) % hashing.rows
        else:
            column = (column + _mixed(row, salt) % hashing.columns) % hashing.columns
    return (row * hashing.columns + column) % hashing.bank


def positions(hashing: Hash, permuted: Array) -> Array:
    """The inverse of π: the positions, uint32, that it takes to these."""
    row, column = permuted // hashing.columns, permuted % hashing.columns
    for turn, salt in reversed(list(enumerate(hashing.salts))):
        if turn % 2 == 0:
            row = (row + hashing.rows - _mixed(column, salt) % hashing.rows) % hashing.rows
        else:
            column = (column + hashing.columns - _mixed(row, salt) % hashing.columns) % hashing.columns
    return row * hashing.columns + column


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def spread(hashing: Hash, bank: Array) -> Array:
    """What every position reads of bank [bank]: [elements]."""
    return bank.at[slots(hashing)].get(mode="promise_in_bounds").reshape(-1)


def _spread_forward(hashing, bank):
    return spread(hashing, bank), None


def _spread_backward(hashing, _, cotangent):
    """Number m is read by the positions that π takes to m, m + bank, m + 2 bank, ..."""
    readers = -(-hashing.elements // hashing.bank)
    permuted = lax.iota(jnp.uint32, readers * hashing.bank)
    last = np.uint32(hashing.elements - 1)
    own = cotangent.at[positions(hashing, jnp.minimum(permuted, last))].get(mode="promise_in_bounds")
    return (jnp.sum(jnp.where(permuted <= last, own, 0).reshape(readers, hashing.bank), axis=0),)


spread.defvjp(_spread_forward, _spread_backward)
