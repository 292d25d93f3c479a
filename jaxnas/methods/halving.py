"""Random search that stops early: successive halving of trainings from scratch."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array, Key
from jaxnas.methods.method import Candidates, Setup, Stage, Weights
from jaxnas.methods.random_search import Trainee, leading, one_by_one, trainee_of, untrained
from jaxnas.search.objectives import SearchState
from jaxnas.strategies.halving import check_rungs

UNKNOWN = -1.0  # stands for an accuracy that was not measured yet


class Bank(NamedTuple):
    """All networks of a rung, as they were at the end of the last epoch.

    networks: each with a leading axis of their number. accuracies: [networks], on the validation half; UNKNOWN of those
    whose turn did not come yet. best: the best of those that are done; before the first of the rung is, the best of the
    rung before, its accuracy UNKNOWN.
    """

    networks: Trainee
    accuracies: Array
    best: Candidates


def halving(setup: Setup, weights: Weights, *, candidates: int, reduction: int, rungs: int) -> tuple[Stage, ...]:
    """Successive halving (Jamieson & Talwalkar 2016) of trainings from scratch; every rung is a Stage.

    The first rung trains `candidates` random architectures within the limit, r epochs each. Every other goes on with
    the best 1 / reduction of the networks before it, by their validation accuracy, until each has had `reduction` times
    as many epochs in total: with its weights, its momentum, and its place on the one cosine that the learning rate
    follows over the r · reduction^(rungs - 1) epochs of a survivor. Of equal networks the earlier is promoted. All
    rungs spend candidates · r · (1 + (rungs - 1) (1 - 1 / reduction)) epochs, from which r follows. This is
    the synchronous form of ASHA (Li et al. 2020).
    The networks of a rung take turns, each in the supernet's own shape with only its operations running, so that a step
    costs what a step of one network costs. (Batched, each would run the operations of all: measured 2.3 times slower
    for four small chains on a CPU.) The state holds them all, `candidates` times the supernet's weights and momentum.
    Raises UserError for settings that do not fit one another, and for epochs that the rungs cannot share.
    """
    check_rungs(candidates, reduction, rungs)
    first = _first_epochs(setup.epochs, candidates, reduction, rungs)
    network = setup.network(paths=1)
    optimizer = weights.optimizer(first * reduction ** (rungs - 1) * setup.steps_per_epoch, paths=True)
    draw = untrained(setup, network, optimizer)

    def stage(rung: int) -> Stage:
        count, total = candidates // reduction**rung, first * reduction**rung
        epochs_each = total - total // reduction if rung else total
        begin = _beginners(setup, draw, count)
        finish_epoch = _take_turns(setup, count, epochs_each)
        method = one_by_one(setup, network, optimizer, begin, finish_epoch, lambda state: state.memory.best.best)
        return Stage(f"rung_{rung + 1}", count * epochs_each, method, _promote(count) if rung else None)

    return tuple(stage(rung) for rung in range(rungs))


def _first_epochs(epochs: int, candidates: int, reduction: int, rungs: int) -> int:
    """How many epochs a candidate gets in the first rung; raises UserError unless it is a whole number above 0."""
    unit = candidates + (rungs - 1) * (candidates - candidates // reduction)  # of all rungs, for one such epoch
    if epochs < 1 or epochs % unit:
        nearest = max(1, round(epochs / unit)) * unit
        raise UserError(
            f"epochs is {epochs}, but {candidates} candidates in {rungs} rungs with a reduction of {reduction} share "
            f"a multiple of {unit} epochs; the nearest is {nearest}."
        )
    return epochs // unit


def _beginners(setup: Setup, draw: Callable[[Key], Trainee], count: int) -> Callable[[Key], tuple[Trainee, Bank]]:
    """A rung of networks that nothing has trained yet."""

    def begin(key: Key) -> tuple[Trainee, Bank]:
        networks = jax.lax.map(draw, jax.random.split(key, count))
        first = _pick(networks, 0)
        best = Candidates(setup.space.decode(first.logits), jnp.full((), UNKNOWN))
        return first, Bank(networks, jnp.full(count, UNKNOWN), best)

    return begin


def _take_turns(setup: Setup, count: int, epochs_each: int) -> Callable[..., tuple[SearchState, Array]]:
    """The end of an epoch: the present network goes to its place in the bank, the one whose turn it is leaves it."""

    def finish_epoch(key, state, epoch, accuracy, judge):
        del key, judge
        bank, number = state.memory, epoch // epochs_each
        done = (epoch + 1) % epochs_each == 0
        best, shown = leading(setup.space, state, bank.best, done, accuracy)
        networks = jax.tree.map(lambda held, new: held.at[number].set(new), bank.networks, trainee_of(state))
        bank = Bank(networks, bank.accuracies.at[number].set(accuracy), best)
        return _with(state, bank, jnp.minimum(number + done, count - 1)), shown

    return finish_epoch


def _promote(count: int) -> Callable[[Key, SearchState], SearchState]:
    """The best `count` networks of the rung before, the best first."""

    def enter(key: Key, before: SearchState) -> SearchState:
        del key
        bank = before.memory
        order = jnp.argsort(-bank.accuracies)[:count]  # stable, and NaN is the worst
        best = bank.best._replace(accuracy=jnp.full((), UNKNOWN))
        bank = Bank(_pick(bank.networks, order), jnp.full(count, UNKNOWN), best)
        return _with(before._replace(step=jnp.zeros((), jnp.int32)), bank, 0)

    return enter


def _with(state: SearchState, bank: Bank, number: Array | int) -> SearchState:
    """The state in which this network of the bank is trained."""
    return state._replace(**_pick(bank.networks, number)._asdict(), memory=bank)


def _pick(networks: Trainee, index: Array | int) -> Trainee:
    return jax.tree.map(lambda leaf: leaf[index], networks)
