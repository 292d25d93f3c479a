"""Several objectives at once: non-dominated sorting, crowding and NSGA-II (Deb et al. 2002).

Objectives are float [n, m], one row per architecture, all of them minimised. One row dominates another if it is nowhere
larger and somewhere smaller. Everything is O(n²) and works under jit and vmap.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key
from jaxnas.spaces.space import crossover, mutate
from jaxnas.strategies.drawing import draw_new, frequencies, joined, many, pick, prepared, randomly
from jaxnas.strategies.evolution import MEMORY, check_population, check_rate
from jaxnas.strategies.seen import Seen, look_up, nothing_seen, remember, repeated
from jaxnas.strategies.strategy import Problem, Strategy, whole


def dominates(objectives: Array) -> Array:
    """Whether row i dominates row j: bool [n, n]. NaN dominates nothing and is dominated by nothing."""
    no_larger = jnp.all(objectives[:, None] <= objectives, axis=-1)
    return no_larger & jnp.any(objectives[:, None] < objectives, axis=-1)


def front(objectives: Array) -> Array:
    """Which rows no other row dominates: bool [n]."""
    return ~jnp.any(dominates(objectives), axis=0)


def non_dominated_ranks(objectives: Array) -> Array:
    """The front that each row belongs to, int32 [n]: 0 if nothing dominates it, 1 if only rows of rank 0 do, ..."""
    above = dominates(objectives)
    unranked = objectives.shape[0]  # no rank is that large

    def peel(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rank, ranks = carry
        left = ranks == unranked
        on_front = left & ~jnp.any(above & left[:, None], axis=0)
        return rank + 1, jnp.where(on_front, rank, ranks)

    start = jnp.zeros((), jnp.int32), jnp.full(unranked, unranked, jnp.int32)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[1] == unranked), peel, start)[1]


def crowding_distances(objectives: Array, ranks: Array) -> Array:
    """How far the neighbours of each row on its own front are from one another, float [n]; inf at the ends of a front.

    The distance is summed over the objectives, each as a share of its range on the front (0 where all are equal).
    Of rows that are equal in an objective the first comes first. Section III-B of the paper.
    """
    count = objectives.shape[0]

    def along(values: Array) -> Array:
        order = jnp.lexsort((values, ranks))
        ordered, of_front = values[order], ranks[order]
        same = of_front[1:] == of_front[:-1]
        end = jnp.ones(1, bool)
        ends = jnp.concatenate([end, ~same]) | jnp.concatenate([~same, end])
        gap = jnp.roll(ordered, -1) - jnp.roll(ordered, 1)
        highest = jax.ops.segment_max(ordered, of_front, count)
        lowest = jax.ops.segment_min(ordered, of_front, count)
        extent = (highest - lowest)[of_front]
        share = jnp.where(jnp.isfinite(extent) & (extent > 0), gap / jnp.where(extent > 0, extent, 1.0), 0.0)
        return jnp.zeros(count, objectives.dtype).at[order].set(jnp.where(ends, jnp.inf, share))

    return jnp.sum(jax.vmap(along, in_axes=1)(objectives), axis=0)


class Ranked(NamedTuple):
    """A population in the order of survival: by rank, then by crowding.

    architectures: {part: [population, choices]}. objectives: [population, 2], inf where there is none yet.
    rewards: [population]. seen: what was evaluated.
    """

    architectures: Architecture
    objectives: Array
    rewards: Array
    seen: Seen


def nsga2(problem: Problem, *, population: int, mutation_rate: float, crossover_rate: float) -> Strategy:
    """NSGA-II (Deb et al. 2002) on error and cost, as FairNAS (Chu et al. 2019) searches: it derives a whole front.

    The first `population` architectures are random. Then as many children are made at a time: a parent wins a binary
    tournament, by rank and then by crowding; at `crossover_rate` it is crossed with another such parent; and every
    choice mutates at `mutation_rate`. The best of parents and children survive, by rank and then by crowding. Children
    are drawn by rejection until they are legal and none of the last MEMORY that were evaluated, as in `evolution`.
    The best architecture is that of the largest reward on the front; an accuracy that is not finite is on no front
    where another is finite. Raises UserError for a problem without cost, for settings that do not fit, and as
    `drawing.prepared` does.
    """
    if problem.cost is None:
        raise UserError("nsga2 weighs accuracy against cost, but this search has no cost; name one, such as 'params'.")
    check_population("population", population, "the size of a tournament", 2)
    check_rate("mutation_rate", mutation_rate)
    check_rate("crossover_rate", crossover_rate, "at least 0")
    problem, least = prepared(problem)
    space = problem.space

    def init(key):
        del key
        seen = nothing_seen(space, max(MEMORY, population))
        unknown = jnp.full((population, 2), jnp.inf)
        return Ranked(many(least, population), unknown, jnp.full(population, -jnp.inf), seen)

    def ask(key, state):
        def parent(key: Key) -> Architecture:
            return pick(state.architectures, jnp.min(jax.random.randint(key, (2,), 0, population)))

        def child(key: Key) -> Architecture:
            first, second = parent(named(key, "parent")), parent(named(key, "other parent"))
            crossed = crossover(space, named(key, "crossover"), first, second)
            crosses = jax.random.bernoulli(named(key, "whether"), crossover_rate)
            start = jax.tree.map(lambda new, old: jnp.where(crosses, new, old), crossed, first)
            return mutate(space, named(key, "mutation"), start, mutation_rate)

        def propose(key: Key) -> Architecture:
            return jax.lax.cond(state.seen.stored == 0, randomly(space), child, key)

        def known(architectures: Architecture) -> Array:
            return look_up(state.seen, architectures)[0]

        return whole(draw_new(problem, propose, least, key, population, known))

    def tell(key, state, proposal, outcome):
        del key
        architectures = joined(state.architectures, proposal.architectures)
        both = jnp.stack([-outcome.accuracy, outcome.cost], axis=1)
        objectives = jnp.concatenate([state.objectives, both])
        known = jnp.all(jnp.isfinite(objectives), axis=1)
        counts = known & ~repeated(space, architectures, known)
        objectives = jnp.where(counts[:, None], objectives, jnp.inf)
        ranks = non_dominated_ranks(objectives)
        order = jnp.lexsort((-crowding_distances(objectives, ranks), ranks))[:population]
        return Ranked(
            pick(architectures, order),
            objectives[order],
            jnp.concatenate([state.rewards, outcome.reward])[order],
            remember(state.seen, proposal.architectures, outcome.accuracy),
        )

    def best(state):
        eligible = front(state.objectives) & ~jnp.isnan(state.rewards)
        return pick(state.architectures, jnp.argmax(jnp.where(eligible, state.rewards, -jnp.inf)))

    def counted(state: Ranked) -> Array:
        return jnp.isfinite(state.objectives[:, 0])

    return Strategy(
        batch=population,
        init=init,
        ask=ask,
        tell=tell,
        best=best,
        probabilities=lambda state: frequencies(space, state.architectures, counted(state)),
        metrics=lambda state: {"front": jnp.sum(front(state.objectives) & counted(state))},
    )
