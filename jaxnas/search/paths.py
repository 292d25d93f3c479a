"""Samplers of the paths that train shared weights: they ignore what the logits prefer, and draw what is allowed.

An option is ruled out by the logit EXCLUDED (see `relax.categorical`). The log-probability of a draw is that of options
drawn independently and uniformly for every choice.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Draw, Gates, Key, Logits, Sampler, Space
from jaxnas.relax.categorical import EXCLUDED
from jaxnas.spaces.space import encode


def uniform_paths(space: Space) -> Sampler:
    """One architecture of the space, every one as probable as the others (SPOS, Guo et al. 2020).

    It is what `decode` makes of noise, as in `spaces.space.random`: in a product space every choice takes one of its
    allowed options uniformly and independently.
    """

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        del count
        return _draw(space, _uniform(space, key, logits), logits)

    return sample


def cost_uniform_paths(
    space: Space, cost: Callable[[Gates], Array], low: float, high: float, bins: int, tries: int
) -> Sampler:
    """One architecture whose cost is spread evenly from `low` to `high` (SPOS's sampling under a constraint of FLOPs).

    One of `bins` equal intervals is drawn uniformly, then an architecture of such a cost: the first of `tries` uniform
    ones that lies in it, or the one nearest to its middle where none does.
    """

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        del count
        several = jax.vmap(lambda key: _uniform(space, key, logits))(
            jax.random.split(named(key, "architectures"), tries)
        )
        costs = jax.vmap(lambda one: cost(encode(space, one)))(several)
        width = (high - low) / bins
        start = low + width * jax.random.randint(named(key, "bin"), (), 0, bins)
        within = (costs >= start) & (costs <= start + width)
        index = jnp.where(jnp.any(within), jnp.argmax(within), jnp.argmin(jnp.abs(costs - start - width / 2)))
        return _draw(space, jax.tree.map(lambda leaf: leaf[index], several), logits)

    return sample


def dropped_paths(rate: optax.Schedule) -> Sampler:
    """Several options of every choice at once: path dropout (One-Shot, Bender et al. 2018).

    Each of the k allowed options of a choice is dropped independently with probability r^(1/k), with r = rate(steps
    done): the chance that all of them would be dropped, in which case one of them, any, is kept. In the paper k counts
    the paths into an operation, and what is left is summed; here the gates of those kept are the same and sum to one,
    so that a single path, by which architectures are judged, has the scale of what was trained.
    architecture: of those kept, one at random.
    """

    def sample(key: Key, logits: Logits, count: Array) -> Draw:
        def gates(part: str) -> tuple[Array, Array]:
            may = _allowed(logits[part])
            noise = jnp.where(may, jax.random.uniform(named(key, part), may.shape), -1.0)
            last = jax.nn.one_hot(jnp.argmax(noise, axis=-1), may.shape[-1], dtype=bool)
            chance = rate(count) ** (1 / jnp.sum(may, axis=-1, keepdims=True))
            kept = may & ((noise >= chance) | last)
            return kept / jnp.sum(kept, axis=-1, keepdims=True), jnp.argmax(noise, axis=-1).astype(jnp.int32)

        found = {part: gates(part) for part in logits}
        architecture = {part: option for part, (_, option) in found.items()}
        return Draw({part: gate for part, (gate, _) in found.items()}, architecture, _log_prob(logits))

    return sample


def fair_paths(paths: int, key: Key, logits: Logits, trained: Mapping[str, Array]) -> Gates:
    """Paths that train all options equally: one-hot gates {part: [paths, choices, options]} (FairNAS, Chu et al. 2019).

    trained: {part: int [choices, options]}, how often each option was trained before. The paths of a choice are its
    least trained options, in random order; ties are broken at random. So, from nothing on, a choice of as many allowed
    options as there are paths has a permutation of them, independent of those of other choices (strict fairness,
    definition 2). With fewer options they come round again: after every step the counts of a choice are equal where
    the number of its options divides that of the paths, and differ by at most one otherwise.
    """

    def of_part(part: str) -> Array:
        choices, options = logits[part].shape
        uses = jnp.arange(paths)
        # The n-th use of an option comes after every option that was used less often.
        turn = trained[part][:, :, None] + uses
        ties = jax.random.uniform(named(key, f"{part}/ties"), turn.shape)
        turn = jnp.where(_allowed(logits[part])[:, :, None], turn, jnp.iinfo(jnp.int32).max)
        flat, broken = (leaf.reshape(choices, -1) for leaf in (turn, ties))
        first = jnp.lexsort((broken, flat), axis=-1)[:, :paths] // paths
        shuffled = jax.random.permutation(named(key, f"{part}/order"), first, axis=1, independent=True)
        return jax.nn.one_hot(shuffled.T, options)

    return {part: of_part(part) for part in logits}


def _allowed(values: Array) -> Array:
    return values > EXCLUDED / 2


def _uniform(space: Space, key: Key, logits: Logits) -> Architecture:
    """An architecture by noise where options are allowed; it decides nothing else, whatever the logits."""
    return space.decode(
        {
            part: jnp.where(_allowed(values), jax.random.gumbel(named(key, part), values.shape), EXCLUDED)
            for part, values in logits.items()
        }
    )


def _draw(space: Space, architecture: Architecture, logits: Logits) -> Draw:
    return Draw(encode(space, architecture), architecture, _log_prob(logits))


def _log_prob(logits: Logits) -> Array:
    return -sum((jnp.sum(jnp.log(jnp.sum(_allowed(values), axis=-1))) for values in logits.values()), jnp.zeros(()))
