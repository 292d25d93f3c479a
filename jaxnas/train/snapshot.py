"""A state as one array of bytes and back: what a checkpoint stores.

Orbax spends about half a millisecond of computing on every array that it saves, whatever its size, and a supernet with
its optimizers has a thousand small ones; as one array they cost what one array costs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Array, PyTree


class LeafType(NamedTuple):
    """Where a leaf is in the state, its dtype ("float32", "key<fry>"), and its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def layout(state: PyTree) -> list[LeafType]:
    """Name, dtype and shape of every leaf of a state, or of its abstract template, in the order of their bytes."""
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return [LeafType(f"state{jax.tree_util.keystr(path)}", str(leaf.dtype), tuple(leaf.shape)) for path, leaf in paths]


def byte_count(template: PyTree) -> int:
    """The length of what `pack` gives for a state like `template`."""
    return sum(_raw_type(leaf).nbytes for leaf in jax.tree.leaves(template))


def pack(state: PyTree) -> np.ndarray:
    """Copies all leaves, typed keys as their data, to uint8 [byte_count]; the buffers of `state` may then be reused."""
    raw = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]
    data, position = np.empty(byte_count(state), np.uint8), 0
    for leaf in jax.device_get(raw):  # starts all transfers before it waits for the first
        data[position : position + leaf.nbytes] = leaf.reshape(-1).view(np.uint8)
        position += leaf.nbytes
    return data


def unpack(template: PyTree, data: np.ndarray) -> PyTree:
    """The inverse of `pack`: uncommitted arrays on the default device, in memory of their own (they can be donated).

    What is weakly typed in `template` is weakly typed again, so that a program is not compiled a second time.
    """
    leaves, structure = jax.tree.flatten(template)
    placed, position = [], 0
    for leaf in leaves:
        raw = _raw_type(leaf)
        part = data[position : position + raw.nbytes].copy().view(raw.dtype).reshape(raw.shape)
        position += raw.nbytes
        array = jax.device_put(part)  # jnp.array would compile a program for every shape
        placed.append(_wrap_key(leaf.dtype, array) if _is_key(leaf) else array)
    weak = {number: placed[number] for number, leaf in enumerate(leaves) if getattr(leaf, "weak_type", False)}
    for number, array in _weaken(weak).items():
        placed[number] = array
    return structure.unflatten(placed)


class _RawType(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int


def _raw_type(leaf: Any) -> _RawType:
    """Shape and dtype of a leaf as numpy knows them: of a typed key, those of its data."""
    raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    dtype = np.dtype(raw.dtype)
    return _RawType(tuple(raw.shape), dtype, dtype.itemsize * int(np.prod(raw.shape, dtype=np.int64)))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _wrap_key(dtype: Any, data: Array) -> Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(jnp.empty((), dtype)))


def _weaken(arrays: dict[int, Array]) -> dict[int, Array]:
    """The same values with weak types, which only a program can make: one compiled for weakly typed arguments."""
    if not arrays:
        return {}
    types = {at: jax.ShapeDtypeStruct(array.shape, array.dtype, weak_type=True) for at, array in arrays.items()}
    return jax.jit(lambda weak: weak).lower(types).compile()(arrays)
