"""Random keys by name: every purpose has its own stream, so that adding one never shifts another."""

import zlib

import jax

from jaxnas.core.types import Array, Key


def named(key: Key, purpose: str) -> Key:
    """The stream of `key` for one purpose ("weights", "augment", ...), the same in every process and version."""
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()))


def at_step(key: Key, purpose: str, step: Array | int) -> Key:
    """The stream of `key` for one purpose at one step: randomness is a pure function of (key, purpose, step)."""
    return jax.random.fold_in(named(key, purpose), step)
