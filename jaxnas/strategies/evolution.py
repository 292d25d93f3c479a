"""Evolution: architectures that did well are changed and mixed, under a limit that every one of them keeps."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key
from jaxnas.spaces.space import crossover, mutate
from jaxnas.strategies.drawing import (
    Propose,
    draw_new,
    draw_several,
    frequencies,
    joined,
    many,
    pick,
    prepared,
    randomly,
)
from jaxnas.strategies.seen import Seen, among, look_up, nothing_seen, remember, repeated
from jaxnas.strategies.strategy import Incumbent, Problem, Strategy, better, whole

MEMORY = 1024  # evaluated architectures that are not proposed again


class Elite(NamedTuple):
    """What evolution with a hall of fame knows.

    architectures: {part: [parents, choices]}, the best different ones ever evaluated, best first, and their rewards
        [parents], -inf where there is none yet. seen: what was evaluated. repetitions: the share of the last batch that
        had been evaluated before.
    """

    architectures: Architecture
    rewards: Array
    seen: Seen
    repetitions: Array


def evolution(
    problem: Problem, *, population: int, parents: int, mutants: int, crossovers: int, mutation_rate: float
) -> Strategy:
    """The evolution of SPOS (Guo et al. 2020, algorithm 1): the best ever seen are the parents of every generation.

    The first generation of `population` architectures is random. Then `mutants` are mutated parents, every choice at
    `mutation_rate`, `crossovers` are crossed from two parents, and random ones fill up; parents are drawn uniformly.
    Everything is drawn by rejection until it is legal and none of the last MEMORY that were evaluated, as far as the
    effort of `drawing.draw_new` allows; what cannot be found so is random.
    Raises UserError for numbers that do not fit one another, and as `drawing.prepared` does.
    """
    check_population("population", population, "parents", parents)
    check_rate("mutation_rate", mutation_rate)
    if min(mutants, crossovers) < 0 or mutants + crossovers > population:
        raise UserError(
            f"mutants and crossovers are {mutants} and {crossovers}, but have to be at least 0 and together at most "
            f"{population}, the population."
        )
    problem, least = prepared(problem)
    space = problem.space

    def init(key):
        del key
        seen = nothing_seen(space, max(MEMORY, population))
        return Elite(many(least, parents), jnp.full(parents, -jnp.inf), seen, jnp.zeros(()))

    def ask(key, state):
        def parent(key: Key) -> Architecture:
            return pick(state.architectures, jax.random.randint(key, (), 0, parents))

        def mutant(key: Key) -> Architecture:
            return mutate(space, named(key, "mutation"), parent(named(key, "parent")), mutation_rate)

        def crossed(key: Key) -> Architecture:
            first, second = parent(named(key, "parent")), parent(named(key, "other parent"))
            return crossover(space, named(key, "crossover"), first, second)

        def group(label: str, make: Propose, size: int, others: Sequence[Architecture]) -> Architecture:
            def propose(key: Key) -> Architecture:
                return jax.lax.cond(state.seen.stored == 0, randomly(space), make, key)

            def known(architectures: Architecture) -> Array:
                known, _ = look_up(state.seen, architectures)
                return reduce(jnp.logical_or, (among(space, architectures, other) for other in others), known)

            return draw_new(problem, propose, least, named(key, label), size, known)

        groups: list[Architecture] = []
        kinds = (
            ("mutants", mutant, mutants),
            ("crossovers", crossed, crossovers),
            ("random", randomly(space), population - mutants - crossovers),
        )
        for label, make, size in kinds:
            if size:
                groups.append(group(label, make, size, groups))
        return whole(joined(*groups))

    def tell(key, state, proposal, outcome):
        del key
        known, _ = look_up(state.seen, proposal.architectures)
        architectures = joined(state.architectures, proposal.architectures)
        rewards = jnp.concatenate([state.rewards, outcome.reward])
        different = jnp.where(repeated(space, architectures, rewards > -jnp.inf), jnp.nan, rewards)
        order = jnp.argsort(-different)[:parents]  # NaN comes last
        return Elite(
            pick(architectures, order),
            jnp.where(jnp.isnan(different[order]), -jnp.inf, different[order]),
            remember(state.seen, proposal.architectures, outcome.accuracy),
            jnp.mean(known.astype(jnp.float32)),
        )

    return Strategy(
        batch=population,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: pick(state.architectures, 0),
        probabilities=lambda state: frequencies(space, state.architectures, state.rewards > -jnp.inf),
        metrics=lambda state: {"repetitions": state.repetitions},
    )


class Living(NamedTuple):
    """A population by age.

    architectures, rewards: {part: [population, choices]} and [population]; the one that was born as number n is in
        place n modulo the population. born: how many were.
    incumbent: the best that ever lived.
    """

    architectures: Architecture
    rewards: Array
    born: Array
    incumbent: Incumbent


def ageing(problem: Problem, *, population: int, sample: int, mutation_rate: float, batch: int) -> Strategy:
    """Regularised evolution (Real et al. 2019, algorithm 1): tournaments choose who has a child, age who dies.

    Until the population is full, architectures are random. Then `batch` times a parent is the best of `sample` drawn
    from the population with replacement; its child, every choice mutated at `mutation_rate` and at least one, takes the
    place of the oldest. The paper has a batch of 1. Parent and child are drawn by rejection until the child is legal.
    Raises UserError for numbers that do not fit one another, and as `drawing.prepared` does.
    """
    check_population("population", population, "sample", sample)
    check_population("population", population, "batch", batch)
    check_rate("mutation_rate", mutation_rate)
    problem, least = prepared(problem)
    space = problem.space

    def init(key):
        del key
        incumbent = Incumbent(least, jnp.full((), -jnp.inf))
        nothing = jnp.full(population, -jnp.inf)
        return Living(many(least, population), nothing, jnp.zeros((), jnp.int32), incumbent)

    def ask(key, state):
        def child(key: Key) -> Architecture:
            contestants = jax.random.randint(named(key, "tournament"), (sample,), 0, population)
            winner = contestants[jnp.argsort(-state.rewards[contestants])[0]]  # NaN comes last
            return mutate(space, named(key, "mutation"), pick(state.architectures, winner), mutation_rate, always=True)

        def propose(key: Key) -> Architecture:
            return jax.lax.cond(state.born < population, randomly(space), child, key)

        return whole(draw_several(problem, propose, least, key, batch))

    def tell(key, state, proposal, outcome):
        del key
        places = (state.born + jnp.arange(batch)) % population

        def put(held: Array, new: Array) -> Array:
            return held.at[places].set(new)

        return Living(
            jax.tree.map(put, dict(state.architectures), dict(proposal.architectures)),
            put(state.rewards, outcome.reward),
            state.born + batch,
            better(state.incumbent, proposal.architectures, outcome.reward),
        )

    return Strategy(
        batch=batch,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: state.incumbent.architecture,
        probabilities=lambda state: frequencies(space, state.architectures, jnp.arange(population) < state.born),
    )


def check_population(name: str, population: int, of: str, taken: int) -> None:
    """Raises UserError unless a population has as many architectures as are taken from it, at least one."""
    if taken < 1:
        raise UserError(f"{of} is {taken}, but has to be at least 1.")
    if population < taken:
        raise UserError(f"{name} is {population}, but has to be at least {of}, which is {taken}.")


def check_rate(name: str, rate: float, least: str = "above 0") -> None:
    """Raises UserError unless a rate is at most 1 and above 0 (or at least 0, where that is said)."""
    if not (0 <= rate <= 1 and (rate > 0 or least != "above 0")):
        raise UserError(f"{name} is {rate}, but has to be {least} and at most 1, such as 0.1.")
