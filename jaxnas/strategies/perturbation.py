"""The search of SMASH: random architectures, then perturbations of the best of them, then a chain of improvements."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key
from jaxnas.spaces.space import encode, mutate
from jaxnas.strategies.drawing import draw_several, prepared, randomly
from jaxnas.strategies.evolution import check_rate
from jaxnas.strategies.strategy import Incumbent, Problem, Strategy, better, whole


class Perturbed(NamedTuple):
    """What the search knows: the best of all, what it perturbs, and how many architectures were evaluated."""

    incumbent: Incumbent
    base: Architecture
    evaluated: Array


def perturbation(problem: Problem, *, samples: int, perturbations: int, mutation_rate: float, batch: int) -> Strategy:
    """The search by SMASH scores (Brock et al. 2017, section 4), as the authors' code has it.

    First `samples` architectures are random. Then `perturbations` are the best of them, every choice changed at
    mutation_rate and at least one. Whatever is proposed after that is a step of a chain: the best of all, changed in
    the same way, which an improvement replaces. `batch` are proposed at a time, of the chain all from one architecture
    (published: 1). All are drawn by rejection until they are legal.
    Raises UserError for settings out of range, samples and perturbations that the batch does not divide, and as
    `drawing.prepared` does.
    """
    if batch < 1:
        raise UserError(f"batch is {batch}, but at least 1 architecture has to be proposed at a time.")
    for name, count, least in (("samples", samples, 1), ("perturbations", perturbations, 0)):
        if count < least or count % batch:
            nearest = max(round(count / batch), least) * batch
            raise UserError(
                f"{name} is {count}, but has to be at least {least} and a multiple of batch, which is {batch}; the "
                f"nearest such number is {nearest}."
            )
    check_rate("mutation_rate", mutation_rate)
    problem, least_costly = prepared(problem)
    space = problem.space

    def init(key):
        del key
        return Perturbed(Incumbent(least_costly, jnp.full((), -jnp.inf)), least_costly, jnp.zeros((), jnp.int32))

    def ask(key, state):
        def perturbed(key: Key) -> Architecture:
            return mutate(space, named(key, "mutation"), state.base, mutation_rate, always=True)

        def propose(key: Key) -> Architecture:
            return jax.lax.cond(state.evaluated < samples, randomly(space), perturbed, key)

        return whole(draw_several(problem, propose, least_costly, key, batch))

    def tell(key, state, proposal, outcome):
        del key
        best = better(state.incumbent, proposal.architectures, outcome.reward)
        evaluated = state.evaluated + batch
        held = (evaluated > samples) & (evaluated < samples + perturbations)  # the best of the samples stays the base
        base = jax.tree.map(lambda old, new: jnp.where(held, old, new), dict(state.base), dict(best.architecture))
        return Perturbed(best, base, evaluated)

    def probabilities(state):
        """Of the next proposal, repairs and the one choice that always changes not counted."""

        def of_part(part: str, current: Array) -> Array:
            others = jnp.asarray(space.allowed[part]) & (current == 0)
            count = jnp.sum(others, axis=1, keepdims=True)
            changed = mutation_rate * (count > 0)
            perturbed = (1 - changed) * current + changed * others / jnp.maximum(count, 1)
            uniform = space.allowed[part] / space.allowed[part].sum(axis=1, keepdims=True)
            return jnp.where(state.evaluated < samples, uniform, perturbed).astype(jnp.float32)

        return {part: of_part(part, current) for part, current in encode(space, state.base).items()}

    return Strategy(
        batch=batch,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: state.incumbent.architecture,
        probabilities=probabilities,
    )
