"""The order of the channels of an elastic network: the most important come first, as smaller networks keep the first.

Source: Once-for-All (Cai et al. 2020), "channel sorting": a channel is as important as the L1 norm of the weights that
read it.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array, Params
from jaxnas.networks.elastic_sharing import groups
from jaxnas.spaces.elastic import Elastic, hidden_options, squeezed_channels


def reordered(plan: Elastic, blocks: Params, trained: Array) -> Params:
    """What blocks learn (a sharing that is `nested`) with their hidden and squeezed channels sorted by importance.

    trained: bool [layers, expansions], the expansions whose function is to stay: channels change places within the
    segments that their widths delimit, and all of a block's weights with them.
    """
    sorted_blocks = {}
    for group in groups(plan):
        counts = hidden_options(plan, group.numbers[0])
        squeezed = tuple(squeezed_channels(plan, count) for count in counts)
        rows = jnp.asarray(trained)[group.rows]

        def sort(own: Mapping[str, Any], kept: Array, counts=counts, squeezed=squeezed) -> Params:
            own = _permuted(own, HIDDEN, _order(own["projection"]["kernel"], counts, kept))
            if "excite" in own:
                own = _permuted(own, SQUEEZED, _order(own["excite"]["kernel"], squeezed, kept))
            return own

        sorted_blocks[group.name] = jax.vmap(sort)(blocks[group.name], rows)
    return sorted_blocks


# The axis of the channels in every tensor that has them.
HIDDEN = {
    "expansion": {"kernel": 1, "scale": 0, "shift": 0},
    "depthwise": {"kernel": 2, "scale": 0, "shift": 0},
    "squeeze": {"kernel": 0},
    "excite": {"kernel": 1, "bias": 0},
    "projection": {"kernel": 0},
}
SQUEEZED = {"squeeze": {"kernel": 1, "bias": 0}, "excite": {"kernel": 0}}


def _order(readers: Array, counts: tuple[int, ...], kept: Array) -> Array:
    """The order of channels by falling L1 norm of the rows of readers [channels, out], segment after segment.

    counts: channels of every option; kept: bool [options], those that end a segment.
    """
    before = jnp.asarray(counts) <= jnp.arange(len(readers))[:, None]
    segments = jnp.sum(before & kept, axis=-1)
    return jnp.lexsort((-jnp.sum(jnp.abs(readers), axis=-1), segments))


def _permuted(own: Mapping[str, Any], axes: Mapping[str, Mapping[str, int]], order: Array) -> Params:
    moved = {
        part: own[part] | {name: jnp.take(own[part][name], order, axis=axis) for name, axis in of.items()}
        for part, of in axes.items()
        if part in own
    }
    return {**own, **moved}
