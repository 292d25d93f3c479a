"""What a search rules out on its way and at its end: weak options between stages, too many identities in a cell."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnas.core.types import Architecture, Array, Logits, Space

SKIP = "skip_connect"


def keep_strongest(logits: Logits, count: int) -> Mapping[str, Array]:
    """The `count` most probable options of every choice: bool {part: [choices, options]}, all where there are fewer."""

    def strongest(values: Array) -> Array:
        _, kept = jax.lax.top_k(values, min(count, values.shape[-1]))
        return jnp.any(jax.nn.one_hot(kept, values.shape[-1], dtype=bool), axis=-2)

    return {part: strongest(values) for part, values in logits.items()}


def restricted_skips(space: Space, logits: Logits, most: int, part: str = "normal") -> Architecture:
    """`space.decode`, with at most `most` identities in a part: the weakest lose their probability, one by one.

    The probabilities of the other options stay as they are, so that an edge that was kept for its identity may give way
    to another edge (P-DARTS, Chen et al. 2019, section 3.3.2). Spaces without such a part or operation are decoded as
    they are.
    """
    if SKIP not in space.options.get(part, ()):
        return space.decode(logits)
    skip = space.options[part].index(SKIP)

    probabilities = jax.tree.map(jax.nn.softmax, dict(logits))

    def exclude_weakest(_: int, values: Array) -> Array:
        skips = space.best({**probabilities, part: values})[part] == skip
        strength = jnp.where(skips, values[:, skip], jnp.inf)
        # Below what was dropped before, which comes back where an edge has nothing else left.
        without = values.at[jnp.argmin(strength), skip].set(-1.0)
        return jnp.where(jnp.sum(skips) > most, without, values)

    restricted = jax.lax.fori_loop(0, space.shapes[part][0], exclude_weakest, probabilities[part])
    return space.best({**probabilities, part: restricted})
