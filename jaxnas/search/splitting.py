"""Splitting a supernet: which choices its options disagree about, and training a supernet for each of their options.

Sources: few-shot NAS (Zhao et al. 2021), which splits at a choice drawn at random, and the choice by gradient matching
of Hu et al. 2022.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Batch, Gates, Key, Params, PyTree, Sampler, Space
from jaxnas.search.objectives import Loss, Mean
from jaxnas.search.updates import Update
from jaxnas.spaces.space import encode


class Split(NamedTuple):
    """The choices at which a supernet is split: their numbers, counted through all parts, int32 [splits].

    Of the options^splits sub-supernets, options being the most that any choice has, the one of an architecture is
    numbered by the options that it takes there, the first choice counting most.
    """

    choices: Array

    def member(self, space: Space, architecture: Architecture) -> Array:
        """The number of the sub-supernet that holds an architecture, int32."""
        taken = jnp.concatenate([architecture[part] for part in space.shapes])[self.choices]
        return taken @ (most_options(space) ** jnp.arange(len(taken))[::-1])

    def within(self, space: Space, member: Array, gates: Gates) -> Gates:
        """The same single paths, with the options that a sub-supernet has where it was split."""
        most = most_options(space)
        digits = member // most ** jnp.arange(len(self.choices))[::-1] % most
        replaced, first = {}, 0
        for part, (choices, options) in space.shapes.items():
            at = (first + jnp.arange(choices))[:, None] == self.choices  # [choices, splits]
            own = jax.nn.one_hot(jnp.sum(jnp.where(at, digits, 0), axis=-1), options)
            possible = jnp.any(at, axis=-1) & jnp.any((own > 0) & space.allowed[part], axis=-1)
            replaced[part] = jnp.where(possible[:, None], own, gates[part])
            first += choices
        return replaced


class Members(NamedTuple):
    """What the weights of a supernet become when it is split: those of its sub-supernets, [members, ...]."""

    params: Params
    split: Split

    def holding(self, space: Space, architecture: Architecture) -> Params:
        """The weights of the sub-supernet that holds an architecture."""
        return jax.tree.map(lambda leaf: leaf[self.split.member(space, architecture)], self.params)


def split_supernet(space: Space, params: Params, choices: Array) -> Members:
    """Sub-supernets at choices [splits] that all begin with the weights of one supernet."""
    members = most_options(space) ** len(choices)
    return Members(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (members, *leaf.shape)), params), Split(choices))


def most_options(space: Space) -> int:
    """The number of options of the choice that has most."""
    return max(options for _, options in space.shapes.values())


def disagreements(
    space: Space,
    loss: Loss,
    active: Callable[[Gates], PyTree],
    params: Params,
    architecture: Architecture,
    batch: Batch,
    mean: Mean = lambda tree: tree,
) -> Array:
    """How little the options of every choice agree on the weights that they share, [choices of all parts] in [0, 2].

    One minus the cosine of the gradients for the weights that run under both, the mean over pairs of options; all else
    is as in `architecture`. 0 for a choice with one option.
    """
    gates = encode(space, architecture)

    def of_choice(part: str, choice: Array) -> Array:
        options = space.shapes[part][1]

        def with_option(option: Array) -> tuple[PyTree, PyTree]:
            own = {**gates, part: gates[part].at[choice].set(jax.nn.one_hot(option, options))}
            return mean(jax.grad(loss, has_aux=True)(params, own, batch)[0]), active(own)

        gradients, ran = jax.lax.map(with_option, jnp.arange(options))
        shared = jax.tree.map(_shared_products, gradients, ran)
        pairs_of = jax.tree.leaves(shared, is_leaf=lambda node: isinstance(node, _Pair))
        products = functools.reduce(jnp.add, (one.products for one in pairs_of))
        squares = functools.reduce(jnp.add, (one.squares for one in pairs_of))
        cosines = products / jnp.sqrt(jnp.maximum(squares * squares.T, 1e-30))
        may = jnp.asarray(space.allowed[part])[choice]
        pairs = may[:, None] & may[None, :] & ~jnp.eye(options, dtype=bool)
        return jnp.sum(jnp.where(pairs, 1 - cosines, 0.0)) / jnp.maximum(jnp.sum(pairs), 1)

    found = [
        jax.lax.map(lambda choice, part=part: of_choice(part, choice), jnp.arange(choices))
        for part, (choices, _) in space.shapes.items()
    ]
    return jnp.concatenate(found)


class _Pair(NamedTuple):
    products: Array
    squares: Array


def _shared_products(gradient: Array, ran: Array) -> _Pair:
    """Of a tensor's gradients [options, ...]: products of every two, and squares of each where the other runs, too.

    A gradient is zero where the tensor does not run, so that the products need no mask.
    """
    flat = gradient.reshape(len(gradient), -1)
    runs = jnp.broadcast_to(ran.reshape(ran.shape + (1,) * (gradient.ndim - ran.ndim)), gradient.shape)
    return _Pair(flat @ flat.T, jnp.square(flat) @ runs.reshape(flat.shape).astype(flat.dtype).T)


def learn_members(
    space: Space,
    sampler: Sampler,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    active: Callable[[Gates], PyTree],
    mean: Mean = lambda tree: tree,
) -> Update:
    """One optimizer step of every sub-supernet on the training batch, under one path that they share but at the split.

    state.params are Members, and state.weights_state has a leading axis of them, too. They learn one after another
    inside the program: batched, each would run the branches of all at the split.
    """

    def update(key: Key, state, batches):
        gates = sampler(named(key, "paths"), state.visible, state.step).gates
        members: Members = state.params

        def one(scanned: tuple[Array, Params, PyTree]) -> tuple[Params, PyTree, Array, Array]:
            number, params, weights_state = scanned
            own = members.split.within(space, number, gates)
            (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, own, batches.train)
            changes, weights_state = optimizer.update(mean(gradient), weights_state, params, active=active(own))
            return optax.apply_updates(params, changes), weights_state, value, metrics["accuracy"]

        numbers = jnp.arange(most_options(space) ** len(members.split.choices))
        params, weights_state, losses, accuracies = jax.lax.map(one, (numbers, members.params, state.weights_state))
        state = state._replace(params=members._replace(params=params), weights_state=weights_state)
        return state, {"train_loss": jnp.mean(losses), "train_accuracy": jnp.mean(accuracies)}

    return update
