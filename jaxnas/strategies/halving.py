"""Successive halving: many candidates for a little while, and ever fewer of them for ever longer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.errors import UserError
from jaxnas.core.types import Architecture, Array
from jaxnas.strategies.drawing import draw_several, frequencies, many, pick, prepared, randomly
from jaxnas.strategies.strategy import Incumbent, Problem, Proposal, Strategy, better


class Bracket(NamedTuple):
    """One run from the first rung to the last.

    architectures: {part: [candidates, choices]}, those of the present rung in front, and in the end those of the last.
    rewards: [candidates], those of the present rung as far as they are known. round: how many batches were evaluated.
    incumbent: the best of those that were evaluated with the highest fidelity so far. fidelity: this one.
    """

    architectures: Architecture
    rewards: Array
    round: Array
    incumbent: Incumbent
    fidelity: Array


def successive_halving(problem: Problem, *, candidates: int, reduction: int, rungs: int) -> Strategy:
    """Successive halving (Jamieson & Talwalkar 2016), one bracket after another.

    A bracket draws `candidates` random legal architectures and evaluates them with the fidelity reduction^(1 - rungs);
    then the best 1 / reduction of them with `reduction` times that, and so on, the last rung with fidelity 1. Every
    rung spends candidates / reduction^(rungs - 1) whole evaluations. This is the synchronous form of ASHA (Li et al.
    2020): a round is a whole batch here, so that nothing is gained by promoting before a rung is done.
    The number proposed at a time is that of the last rung, which divides all others, so that nothing is evaluated in
    vain. Of equal rewards the earlier candidate is promoted; rewards that are NaN are the worst.
    Raises UserError for settings that do not fit one another, and as `drawing.prepared` does.
    """
    check_rungs(candidates, reduction, rungs)
    problem, least = prepared(problem)
    space = problem.space
    sizes = candidates // reduction ** np.arange(rungs)  # candidates of each rung
    fidelities = (sizes[-1] / sizes).astype(np.float32)
    batch = int(sizes[-1])
    rung_of_round = np.repeat(np.arange(rungs), sizes // batch)
    first_round = np.cumsum(sizes // batch) - sizes // batch  # of each rung

    def place(state: Bracket) -> tuple[Array, Array]:
        """The rung of the next batch, and the number of its first candidate."""
        rung = jnp.asarray(rung_of_round)[state.round]
        return rung, (state.round - jnp.asarray(first_round)[rung]) * batch

    def init(key):
        del key
        incumbent = Incumbent(least, jnp.full((), -jnp.inf))
        nothing = jnp.full(candidates, -jnp.inf)
        return Bracket(many(least, candidates), nothing, jnp.zeros((), jnp.int32), incumbent, jnp.zeros(()))

    def ask(key, state):
        rung, start = place(state)
        architectures = jax.lax.cond(
            rung == 0,
            lambda: draw_several(problem, randomly(space), least, key, batch),
            lambda: jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, batch), dict(state.architectures)
            ),
        )
        return Proposal(architectures, jnp.full(batch, jnp.asarray(fidelities)[rung]))

    def tell(key, state, proposal, outcome):
        del key
        rung, start = place(state)
        rung_done = jnp.any(state.round + 1 == jnp.asarray(np.append(first_round, len(rung_of_round))))

        def put(held: Array, new: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(held, new, start, axis=0)

        rewards = put(state.rewards, outcome.reward)
        # Those of earlier rungs count as NaN: the sort is stable, and leaves them behind all others.
        present = jnp.where(jnp.arange(candidates) < jnp.asarray(sizes)[rung], rewards, jnp.nan)
        order = jnp.where(rung_done, jnp.argsort(-present), jnp.arange(candidates))
        architectures = jax.tree.map(put, dict(state.architectures), dict(proposal.architectures))
        fidelity = proposal.fidelity[0]
        known = jnp.where(fidelity > state.fidelity, -jnp.inf, state.incumbent.reward)
        found = better(state.incumbent._replace(reward=known), proposal.architectures, outcome.reward)
        incumbent = jax.tree.map(
            lambda new, old: jnp.where(fidelity >= state.fidelity, new, old), found, state.incumbent
        )
        return Bracket(
            pick(architectures, order),
            rewards[order],
            (state.round + 1) % len(rung_of_round),
            incumbent,
            jnp.maximum(fidelity, state.fidelity),
        )

    def probabilities(state):
        rung, start = place(state)
        present = jnp.where(rung == 0, jnp.maximum(start, batch), jnp.asarray(sizes)[rung])
        return frequencies(space, state.architectures, jnp.arange(candidates) < present)

    return Strategy(
        batch=batch,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: state.incumbent.architecture,
        probabilities=probabilities,
        metrics=lambda state: {"rung": place(state)[0]},
    )


def check_rungs(candidates: int, reduction: int, rungs: int) -> None:
    """Raises UserError unless so many candidates can be divided by `reduction` from every rung to the next."""
    if reduction < 2:
        raise UserError(f"reduction is {reduction}, but a rung has to be smaller than the one before; take 2 or more.")
    if rungs < 1:
        raise UserError(f"rungs is {rungs}, but successive halving needs at least 1.")
    unit = reduction ** (rungs - 1)
    if candidates < 1 or candidates % unit:
        nearest = max(1, round(candidates / unit)) * unit
        raise UserError(
            f"candidates is {candidates}, which cannot be divided by {reduction} in each of {rungs - 1} promotions; "
            f"the nearest number that can is {nearest}."
        )
