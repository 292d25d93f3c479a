"""Drawing architectures that a problem allows: by rejection, in fixed shapes, so that it compiles.

Every search that proposes by chance draws here, so that whatever it proposes is legal.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array, Key, Space
from jaxnas.costs.constraints import attainable, cheapest, scored_options
from jaxnas.spaces.space import encode, random
from jaxnas.strategies.seen import repeated
from jaxnas.strategies.strategy import Problem

TRIES = 256  # proposals for every architecture that is to be legal
# For every architecture that is to be new: proposals, and those of them that are legal but known already.
NEW_TRIES, EFFORT = 64, 5
STAND_IN, LEGAL, NEW = 0, 1, 2  # grades: the fallback, a legal proposal, one that is not known either

Propose = Callable[[Key], Architecture]
Known = Callable[[Architecture], Array]  # {part: [n, choices]} -> which are not to be drawn if others can be, bool [n]


class Pool(NamedTuple):
    """What was drawn so far, the best grades in front.

    architectures: {part: [count, choices]}, and their grades, int32 [count]. batches: how many were proposed.
    repeats: how many of all proposals were legal, but known.
    """

    architectures: Architecture
    grades: Array
    batches: Array
    repeats: Array


def prepared(problem: Problem) -> tuple[Problem, Architecture]:
    """The problem with a space that makes nothing but allowed options, and a legal architecture to fall back on.

    A choice that decides nothing (see `Space.relevant`) takes its first option, so that architectures which are told
    apart differ in what they compute. What to fall back on is the cheapest one where there is a limit, else that of
    equal scores. What stands for "nothing here" is added to the allowed options. (The size of the space stays that of
    the whole.) Runs before a search.
    Raises UserError with the attainable costs for a limit that no architecture meets, and for options that leave no
    architecture.
    """
    space = problem.space
    if problem.allowed is not None:
        allowed = _completed(space, problem.allowed)
        space = _narrowed(space, allowed)
        problem = problem._replace(space=space, allowed=allowed)
    if space.relevant is not None:
        space = _settled(space)
        problem = problem._replace(space=space)
    least = space.best({part: jax.device_put(np.zeros(shape, np.float32)) for part, shape in space.shapes.items()})
    if not legal(problem._replace(limit=0.0), least):
        raise UserError(f"the options that are still allowed leave no architecture of the space {space.name!r}.")
    if problem.cost is not None and problem.limit:
        least = cheapest(space, problem.cost) if problem.cheapest is None else problem.cheapest
        if not legal(problem, least):
            low, high = attainable(space, problem.cost)
            raise UserError(
                f"the limit of the cost is {problem.limit:,.6g}, which no architecture meets: those of this space cost "
                f"{low:,.6g} to {high:,.6g}."
            )
    return problem, dict(least)


def _completed(space: Space, allowed: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Allowed options and what stands for "nothing here", bool {part: [choices, options]}.

    The latter are the options whose scores do not count where others' do, such as `none` of an edge of a cell.
    """
    scored = scored_options(space)
    return {
        part: mask & (np.asarray(allowed[part], bool) | (~scored[part] & scored[part].any(axis=1, keepdims=True)))
        for part, mask in space.allowed.items()
    }


def _narrowed(space: Space, allowed: Mapping[str, np.ndarray]) -> Space:
    def only(scores: Mapping[str, Array]) -> Mapping[str, Array]:
        return {part: jnp.where(allowed[part], values, -jnp.inf) for part, values in scores.items()}

    return space._replace(
        allowed=allowed,
        decode=lambda logits: space.decode(only(logits)),
        best=lambda scores: space.best(only(scores)),
    )


def _settled(space: Space) -> Space:
    first = {part: np.argmax(mask, axis=1).astype(np.int32) for part, mask in space.allowed.items()}

    def settle(architecture: Architecture) -> Architecture:
        assert space.relevant is not None
        matters = space.relevant(architecture)
        return {part: jnp.where(matters[part], options, first[part]) for part, options in architecture.items()}

    return space._replace(
        decode=lambda logits: settle(space.decode(logits)), best=lambda scores: settle(space.best(scores))
    )


def legal(problem: Problem, architecture: Architecture) -> Array:
    """Whether a valid architecture has allowed options only and is within the limit, a bool scalar.

    problem: as `prepared` gives it.
    """
    answers = [jnp.asarray(True)]
    if problem.allowed is not None:
        for part, mask in problem.allowed.items():
            answers.append(jnp.all(jnp.take_along_axis(jnp.asarray(mask), architecture[part][:, None], axis=1)))
    if problem.cost is not None and problem.limit:
        answers.append(problem.price(architecture) <= problem.limit)
    return jnp.all(jnp.stack(answers))


def draw_legal(
    problem: Problem, propose: Propose, fallback: Architecture, key: Key, tries: int = TRIES
) -> Architecture:
    """The first of `tries` proposals that is legal, else the fallback."""
    return pick(draw_several(problem, propose, fallback, key, 1, tries), 0)


def draw_several(
    problem: Problem, propose: Propose, fallback: Architecture, key: Key, count: int, tries: int = TRIES
) -> Architecture:
    """The first `count` of count · `tries` proposals that are legal, {part: [count, choices]}.

    The fallback stands in for those that are missing.
    """
    if problem.allowed is None and (problem.cost is None or not problem.limit):
        return _proposals(propose, key, 0, count)  # all are legal

    def unfinished(pool: Pool) -> Array:
        return jnp.any(pool.grades < NEW) & (pool.batches < tries)

    def more(pool: Pool) -> Pool:
        return _joined_by(problem, pool, _proposals(propose, key, pool.batches, count), None)

    return jax.lax.while_loop(unfinished, more, _stand_ins(fallback, count)).architectures


def draw_new(
    problem: Problem, propose: Propose, fallback: Architecture, key: Key, count: int, known: Known
) -> Architecture:
    """Legal architectures {part: [count, choices]}, none that is known and none twice, as far as effort allows.

    When count · EFFORT legal proposals were not new, or after count · NEW_TRIES proposals, random architectures are
    proposed instead, as many; then legal ones that are known are taken, and the fallback for those that are missing.
    """

    def spent(pool: Pool, shares: int) -> Array:
        return (pool.batches >= shares * NEW_TRIES) | (pool.repeats >= shares * EFFORT * count)

    def unfinished(pool: Pool) -> Array:
        return jnp.any(pool.grades < NEW) & ~spent(pool, 2)

    def more(pool: Pool) -> Pool:
        def proposal(key: Key) -> Architecture:
            return jax.lax.cond(spent(pool, 1), randomly(problem.space), lambda key: dict(propose(key)), key)

        return _joined_by(problem, pool, _proposals(proposal, key, pool.batches, count), known)

    return jax.lax.while_loop(unfinished, more, _stand_ins(fallback, count)).architectures


def randomly(space: Space) -> Propose:
    """A function of a key alone that proposes random architectures of the space."""
    return lambda key: dict(random(space, key))


def random_legal(problem: Problem, tries: int = TRIES) -> Propose:
    """A function of a key that draws random legal architectures, uniform over them if `random` is over the space.

    Raises UserError as `prepared` does.
    """
    problem, least = prepared(problem)
    return lambda key: draw_legal(problem, randomly(problem.space), least, key, tries)


def _stand_ins(fallback: Architecture, count: int) -> Pool:
    nothing = jnp.zeros((), jnp.int32)
    return Pool(many(fallback, count), jnp.full(count, STAND_IN, jnp.int32), nothing, nothing)


def _proposals(propose: Propose, key: Key, number: Array | int, count: int) -> Architecture:
    return dict(jax.vmap(propose)(jax.random.split(jax.random.fold_in(key, number), count)))


def _joined_by(problem: Problem, pool: Pool, proposed: Architecture, known: Known | None) -> Pool:
    """The pool with better ones of these {part: [count, choices]} in the places behind, in the order they came.

    So a pool whose proposals are independent holds independent draws of what is legal.
    """
    count = pool.grades.shape[0]
    fits = jax.vmap(lambda one: legal(problem, one))(proposed)
    new = jnp.ones(count, bool) if known is None else ~known(proposed)
    grades = jnp.concatenate([pool.grades, jnp.where(fits, jnp.where(new, NEW, LEGAL), STAND_IN)])
    architectures = joined(pool.architectures, proposed)
    if known is not None:
        again = repeated(problem.space, architectures, grades == NEW)
        grades = jnp.where(again, jnp.minimum(grades, LEGAL), grades)
    order = jnp.argsort(-grades)[:count]
    repeats = pool.repeats + jnp.sum(grades[count:] == LEGAL)
    return Pool(pick(architectures, order), grades[order], pool.batches + 1, repeats)


def many(architecture: Architecture, count: int) -> Architecture:
    """One architecture `count` times: {part: [choices]} -> {part: [count, choices]}."""
    return {part: jnp.tile(options, (count, 1)) for part, options in architecture.items()}


def pick(architectures: Architecture, index: Array | int) -> Architecture:
    """Those of architectures {part: [n, choices]} with these numbers; a scalar picks one."""
    return {part: options[index] for part, options in architectures.items()}


def joined(*groups: Architecture) -> Architecture:
    """Groups of architectures {part: [n, choices]}, one behind the other."""
    return {part: jnp.concatenate([group[part] for group in groups]) for part in groups[0]}


def frequencies(space: Space, architectures: Architecture, counts: Array) -> Mapping[str, Array]:
    """How frequent options are among those architectures {part: [n, choices]} that count, or in all if none does.

    counts: bool [n]. The frequencies are float32 {part: [choices, options]}, rows summing to 1.
    """
    weights = jnp.where(jnp.any(counts), counts, True).astype(jnp.float32)
    gates = jax.vmap(lambda one: encode(space, one))(architectures)
    return {part: jnp.einsum("n,nco->co", weights, rows) / jnp.sum(weights) for part, rows in gates.items()}
