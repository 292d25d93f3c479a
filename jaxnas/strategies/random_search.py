"""Random search as a strategy, the baseline of every other."""

import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.strategies.drawing import draw_several, prepared, randomly
from jaxnas.strategies.strategy import Incumbent, Problem, Strategy, better, whole


def random_search(problem: Problem, *, batch: int) -> Strategy:
    """Proposes random legal architectures, `batch` at a time, and keeps the one with the largest reward.

    Its probabilities are equal for all options that a choice may have (repairs by the space are not counted).
    Raises UserError for a batch below 1, and as `drawing.prepared` does.
    """
    if batch < 1:
        raise UserError(f"batch is {batch}, but at least 1 architecture has to be proposed at a time.")
    problem, least = prepared(problem)
    space = problem.space

    def ask(key, state):
        del state
        return whole(draw_several(problem, randomly(space), least, key, batch))

    return Strategy(
        batch=batch,
        init=lambda key: Incumbent(least, jnp.full((), -jnp.inf)),
        ask=ask,
        tell=lambda key, state, proposal, outcome: better(state, proposal.architectures, outcome.reward),
        best=lambda state: state.architecture,
        probabilities=lambda state: {
            part: jnp.asarray(mask / mask.sum(axis=1, keepdims=True), jnp.float32)
            for part, mask in space.allowed.items()
        },
    )
