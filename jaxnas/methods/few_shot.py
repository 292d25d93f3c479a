"""Few-shot NAS: a supernet that is split into several, each of which shares its weights among fewer architectures."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Averaged, Key, Metrics, Params, PyTree, Space
from jaxnas.methods.method import Method, Setup, Stage, Weights
from jaxnas.methods.sampled import Evolution, decision_stage, problem_of, supernet_stage
from jaxnas.search.objectives import Batches, SearchState, classification
from jaxnas.search.paths import uniform_paths
from jaxnas.search.splitting import Members, disagreements, learn_members, most_options, split_supernet
from jaxnas.search.updates import Update, alternating
from jaxnas.spaces.space import encode, random

MOST_MEMBERS = 64  # each has the weights of a whole supernet


def few_shot(
    setup: Setup,
    weights: Weights,
    evolution: Evolution,
    *,
    splits: int,
    split_at: tuple[int, ...],
    probes: int,
    member_epochs: int,
    calibrate: int,
) -> tuple[Stage, ...]:
    """Few-shot NAS (Zhao et al. 2021): uniform paths train one supernet, then one for each option of some choices.

    splits: how many choices the supernet is split at, so that there are options^splits sub-supernets, which begin with
        its weights; 0: it goes on as one. split_at: the numbers of these choices, counted from 0 through all parts; ():
        those whose options disagree most, by the gradients of `probes` batches (Hu et al. 2022, see
        `search.splitting.disagreements`). member_epochs: in which the sub-supernets learn, all from every batch.
    calibrate: see `sampled.spos`, as which the search goes on; an architecture is judged by the sub-supernet that
    holds it. Raises UserError for choices that the space does not have, and for too many sub-supernets.
    """
    _check_splits(setup.space, splits, split_at)
    supernet = supernet_stage(setup, weights)
    by_disagreement = splits > 0 and not split_at
    members = _members_stage(setup, weights, supernet.method, splits, split_at, member_epochs)
    strategy = evolution.strategy(problem_of(setup))
    search = decision_stage(setup, strategy, evolution.rounds, calibrate, _holding(setup.space))
    return supernet, *([_probing_stage(setup, supernet.method, probes)] if by_disagreement else []), members, search


def _holding(space: Space) -> Callable[[PyTree, Architecture], Params]:
    def params_of(params: Members, architecture: Architecture) -> PyTree:
        return params.holding(space, architecture)

    return params_of


def _check_splits(space: Space, splits: int, split_at: tuple[int, ...]) -> None:
    choices = sum(count for count, _ in space.shapes.values())
    if split_at and len(split_at) != splits:
        raise UserError(
            f"method.split_at names {len(split_at)} choices, but method.splits is {splits}; give as many, or () for "
            "those whose options disagree most."
        )
    if splits > choices or len(set(split_at)) < len(split_at) or any(not 0 <= one < choices for one in split_at):
        raise UserError(
            f"method.splits is {splits} and method.split_at {split_at}, but the choices of {space.name!r} are "
            f"numbered from 0 to {choices - 1}, and each can be taken once."
        )
    if most_options(space) ** splits > MOST_MEMBERS:
        raise UserError(
            f"method.splits is {splits}, which makes {most_options(space) ** splits} sub-supernets of choices with "
            f"{most_options(space)} options; take fewer, so that there are at most {MOST_MEMBERS}."
        )


def _probing_stage(setup: Setup, supernet: Method, probes: int) -> Stage:
    """Measures how much options disagree, on one training batch a step; the sums are what the state remembers."""
    space, network = setup.space, setup.network(paths=1)
    loss = classification(network)
    choices = sum(count for count, _ in space.shapes.values())

    def probe(key: Key, state: SearchState, batches: Batches) -> tuple[SearchState, Metrics]:
        architecture = random(space, key)
        found = disagreements(space, loss, network.active, state.params, architecture, batches.train, setup.mean)
        nothing = Averaged(jnp.zeros(()), jnp.zeros(()))
        return state._replace(memory=state.memory + found), {"train_loss": nothing, "train_accuracy": nothing}

    def enter(key: Key, before: SearchState) -> SearchState:
        del key
        return before._replace(memory=jnp.zeros(choices))

    return Stage("probe", 1, _with_step(supernet, probe), enter, steps_per_epoch=probes)


def _with_step(method: Method, update: Update) -> Method:
    return method._replace(step=alternating(update))


def _members_stage(
    setup: Setup, weights: Weights, supernet: Method, splits: int, split_at: tuple[int, ...], epochs: int
) -> Stage:
    """Trains the sub-supernets along the same paths, which differ where the supernet was split."""
    space, network = setup.space, setup.network(paths=1)
    optimizer = weights.optimizer(setup.steps_per_epoch * epochs, paths=True)
    learn = learn_members(space, uniform_paths(space), classification(network), optimizer, network.active, setup.mean)

    def enter(key: Key, before: SearchState) -> SearchState:
        del key
        choices = jnp.asarray(split_at, jnp.int32)
        if splits and not split_at:
            choices = jax.lax.top_k(before.memory, splits)[1].astype(jnp.int32)
        params = split_supernet(space, before.params, choices)
        weights_state = jax.vmap(optimizer.init)(params.params)
        return before._replace(step=jnp.zeros((), jnp.int32), params=params, weights_state=weights_state, memory=())

    def child(state: SearchState, architecture: Architecture, images: Array) -> Array:
        params = state.params.holding(space, architecture)
        return network.apply(params, encode(space, architecture), images)

    method = _with_step(supernet, learn)._replace(
        init=lambda key: enter(key, supernet.init(named(key, "supernet"))),
        predict=lambda state, images: child(state, supernet.derive(state), images),
        child=child,
    )
    return Stage("members", epochs, method, enter)
