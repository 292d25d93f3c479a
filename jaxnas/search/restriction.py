"""What a search rules out on its way and at its end: weak options between stages, too many identities in a cell."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.types import Architecture, Array, Logits, Space
from jaxnas.relax.categorical import EXCLUDED

SKIP = "skip_connect"


def keep_strongest(logits: Logits, count: int) -> Mapping[str, Array]:
    """The `count` most probable options of every choice: bool {part: [choices, options]}, all where there are fewer."""

    def strongest(values: Array) -> Array:
        _, kept = jax.lax.top_k(values, min(count, values.shape[-1]))
        return jnp.any(jax.nn.one_hot(kept, values.shape[-1], dtype=bool), axis=-2)

    return {part: strongest(values) for part, values in logits.items()}


def restricted_skips(space: Space, logits: Logits, most: int, part: str = "normal") -> Architecture:
    """`space.decode`, with at most `most` identities in a part: the weakest give way to what comes next on their edge.

    P-DARTS, Chen et al. 2019, section 3.3.2. Spaces without such a part or operation are decoded as they are.
    """
    if SKIP not in space.options.get(part, ()):
        return space.decode(logits)
    skip = space.options[part].index(SKIP)

    def exclude_weakest(_: int, values: Array) -> Array:
        skips = space.decode({**logits, part: values})[part] == skip
        strength = jnp.where(skips, jax.nn.softmax(values)[:, skip], jnp.inf)
        # Below what was dropped before, which comes back where an edge has nothing else left.
        without = values.at[jnp.argmin(strength), skip].set(2 * EXCLUDED)
        return jnp.where(jnp.sum(skips) > most, without, values)

    restricted = jax.lax.fori_loop(0, space.shapes[part][0], exclude_weakest, logits[part])
    return space.decode({**logits, part: restricted})
