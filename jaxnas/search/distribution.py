"""Learning a distribution over options by counting and comparing, without gradients (MDENAS, Zheng et al. 2019)."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.types import Array, Sampler, Space
from jaxnas.search.objectives import Loss, Mean
from jaxnas.search.updates import Update


class Tallies(NamedTuple):
    """How options fared, each {part: float [choices, options]}.

    trained: how often each was drawn, since the search began. drawn, correct: how often in this epoch, and the sum of
    the validation accuracies of these draws.
    """

    trained: Mapping[str, Array]
    drawn: Mapping[str, Array]
    correct: Mapping[str, Array]


def no_tallies(space: Space) -> Tallies:
    """Nothing drawn yet."""
    zeros = {part: jnp.zeros(shape) for part, shape in space.shapes.items()}
    return Tallies(zeros, zeros, zeros)


def tally(learn: Update, sampler: Sampler, loss: Loss, mean: Mean = lambda tree: tree) -> Update:
    """Runs an update of the weights and notes the validation accuracy of what it drew, in `state.memory`.

    sampler: the update's own, so that with the same key it draws the same architecture.
    """

    def update(key, state, batches):
        draw = sampler(key, state.visible, state.step)
        state, metrics = learn(key, state, batches)
        value, of_valid = loss(state.params, draw.gates, batches.valid)
        gates = {part: (values > 0).astype(jnp.float32) for part, values in draw.gates.items()}
        accuracy = mean(of_valid["accuracy"])
        memory = Tallies(
            jax.tree.map(jnp.add, state.memory.trained, gates),
            jax.tree.map(jnp.add, state.memory.drawn, gates),
            jax.tree.map(lambda total, one: total + accuracy * one, state.memory.correct, gates),
        )
        return state._replace(memory=memory), {
            **metrics,
            "logits_loss": value,
            "logits_accuracy": of_valid["accuracy"],
        }

    return update


def dominance(tallies: Tallies, allowed: Mapping[str, Array]) -> Mapping[str, Array]:
    """How many options of its choice each one dominates, less those that dominate it; {part: [choices, options]}.

    One option dominates another that was trained more often and yet is less accurate (Zheng et al. 2019, eq. 5).
    Options that were not drawn in this epoch, or are not allowed, are compared with none.
    """

    def of_part(trained: Array, drawn: Array, correct: Array, may: Array) -> Array:
        known = (drawn > 0) & may
        accuracy = correct / jnp.maximum(drawn, 1)
        fewer = trained[..., :, None] < trained[..., None, :]
        better = accuracy[..., :, None] > accuracy[..., None, :]
        comparable = known[..., :, None] & known[..., None, :]
        wins = (fewer & better & comparable).astype(jnp.float32)
        return jnp.sum(wins, axis=-1) - jnp.sum(wins, axis=-2)

    return {
        part: of_part(tallies.trained[part], tallies.drawn[part], tallies.correct[part], allowed[part])
        for part in tallies.trained
    }
