"""A state as named numpy arrays and back: what a checkpoint stores, and the checksum that proves it unchanged."""

import hashlib
from collections.abc import Mapping
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


def take(state: PyTree) -> dict[str, np.ndarray]:
    """Copies every leaf to the host, typed keys as their data; the buffers of `state` may be reused afterwards."""
    raw = {name: jax.random.key_data(leaf) if _is_key(leaf) else leaf for name, leaf in _named(state).items()}
    # device_get starts all transfers before it waits for the first; on the CPU it returns views, hence the copy.
    return {name: np.array(leaf) for name, leaf in jax.device_get(raw).items()}


def blank(template: PyTree) -> dict[str, np.ndarray]:
    """Arrays without values, of the names, dtypes and shapes that `take` gives for a state like `template`."""
    raw = {}
    for name, leaf in _named(template).items():
        shape = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        raw[name] = np.empty(shape.shape, shape.dtype)
    return raw


def put(template: PyTree, leaves: Mapping[str, np.ndarray]) -> PyTree:
    """The inverse of `take`: uncommitted arrays on the default device, in memory of their own, so that they can be
    donated. What is weakly typed in `template` is weakly typed again, so that nothing is compiled a second time.
    """

    def place(name: str, leaf: Any) -> Array:
        array = jnp.array(leaves[name])
        return (
            jax.random.wrap_key_data(array, impl=jax.random.key_impl(jnp.empty((), leaf.dtype)))
            if _is_key(leaf)
            else array
        )

    named = _named(template)
    placed = {name: place(name, leaf) for name, leaf in named.items()}
    weak = {name: placed[name] for name, leaf in named.items() if getattr(leaf, "weak_type", False)}
    return jax.tree.unflatten(jax.tree.structure(template), (placed | _weaken(weak)).values())


def layout(state: PyTree) -> list[LeafType]:
    """Name, dtype and shape of every leaf of a state or of its abstract template."""
    return [LeafType(name, str(leaf.dtype), tuple(leaf.shape)) for name, leaf in _named(state).items()]


def digest(leaves: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every array, as hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(leaves):
        leaf = leaves[name]
        total.update(f"{name}|{leaf.dtype}|{leaf.shape}|".encode())
        total.update(leaf.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _named(tree: PyTree) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {f"state{jax.tree_util.keystr(path)}": leaf for path, leaf in paths}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _weaken(arrays: dict[str, Array]) -> dict[str, Array]:
    """The same values with weak types, which only a program can make: one compiled for weakly typed arguments."""
    if not arrays:
        return {}
    types = {name: jax.ShapeDtypeStruct(array.shape, array.dtype, weak_type=True) for name, array in arrays.items()}
    return jax.jit(lambda weak: weak).lower(types).compile()(arrays)
