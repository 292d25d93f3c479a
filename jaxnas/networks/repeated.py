"""Blocks of one shape one after another: a loop that is compiled once, or so many copies of it.

XLA compiles every copy of a block by itself, so that a network of twenty cells takes twenty times as long to compile as
one cell. As iterations of a loop they are compiled once. The variables stay where they are, one tree for each block.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxnas.core.types import PyTree
from jaxnas.networks.choice import materialized

STREAMS = ("drop_path", "signs")  # of random numbers, which every block draws its own of
STATISTICS = "batch_stats"


def run_blocks(
    parent: nn.Module,
    blocks: Sequence[nn.Module],
    values: PyTree,
    call: Callable[[nn.Module, PyTree], PyTree],
    *,
    looped: bool,
    recomputed: bool,
) -> PyTree:
    """What the last of some blocks gives: values -> call(block, values) -> ... -> values.

    parent: the module in whose compact call this is. blocks: equal but for their names, and shapes of values stay the
    same from one to the next. looped: whether they are iterations of one loop, which modules outside cannot look into:
    neither substitutes nor taps reach the blocks. recomputed: whether a block runs again on the way back, so that only
    the values between blocks are kept.
    """
    if parent.is_initializing() or not (looped or recomputed):
        for block in blocks:
            values = call(block, values)
        return values
    variables = [_variables(parent, str(block.name)) for block in blocks]
    alone = blocks[0].clone(parent=None, name=None)
    present = [stream for stream in STREAMS if parent.has_rng(stream)]
    keys = {stream: jax.random.split(parent.make_rng(stream), len(blocks)) for stream in present}
    changes = parent.is_mutable_collection(STATISTICS)

    def body(values: PyTree, scanned: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        own, own_keys = scanned
        mutable: Any = [STATISTICS] if changes else False
        found = alone.apply(own, values, rngs=own_keys, mutable=mutable, method=call)
        return found if changes else (found, ())

    run = jax.checkpoint(body) if recomputed else body
    if looped and len(blocks) > 1:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
        values, changed = lax.scan(lambda v, s: run(v, (materialized(s[0]), s[1])), values, (stacked, keys))
        updates = [jax.tree.map(lambda leaf, n=n: leaf[n], changed) for n in range(len(blocks))]
    else:
        updates = []
        for number, own in enumerate(variables):
            values, changed = run(values, (own, {stream: each[number] for stream, each in keys.items()}))
            updates.append(changed)
    for block, changed in zip(blocks, updates, strict=True):
        if changes and changed:
            parent.put_variable(STATISTICS, str(block.name), changed[STATISTICS])
    return values


def _variables(parent: nn.Module, name: str) -> PyTree:
    """The variables of a child, {"params": ..., "batch_stats": ...}; {} for a collection that it does not have."""
    return {collection: tree[name] for collection, tree in parent.variables.items() if name in tree}
