"""One step of weights that nested networks share: several subnets, summed gradients, answers of the largest.

Sources: Once-for-All (Cai et al. 2020) and the sandwich rule (Yu & Huang 2019; BigNAS, Yu et al. 2020). The subnets run
one after another inside the program, so that a step takes the memory of one of them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Batch, Gates, Key, Logits, Metrics, Network, Params, Sampler, Space
from jaxnas.search.objectives import Mean, SearchState, accuracy, cross_entropy
from jaxnas.search.updates import Update
from jaxnas.spaces.elastic import RESOLUTION
from jaxnas.spaces.space import encode

NAMES = ("smallest", "middle", "largest")
Teacher = Callable[[SearchState, Batch, Gates], Array]  # (state, batch, gates of a subnet) -> logits [batch, classes]


def named_subnets(space: Space) -> Mapping[str, Architecture]:
    """{name of `NAMES`: the first, the middle or the last option of every choice}; of two in the middle the lower.

    They are the smallest, a middle and the largest architecture of a space whose options rise.
    """

    def of_part(mask: np.ndarray, place: float) -> Array:
        return jnp.asarray([np.flatnonzero(row)[int(place * (row.sum() - 1))] for row in mask], jnp.int32)

    return {
        name: {part: of_part(mask, place) for part, mask in space.allowed.items()}
        for name, place in zip(NAMES, (0.0, 0.5, 1.0), strict=True)
    }


def subnet_accuracies(history: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{name of `NAMES`: [seeds, epochs]}, from a history with "accuracy/NAME"; empty for one that has none.

    The epochs after the last in which any of them was judged are left out: weights no longer learn in these.
    """
    known = {name: np.asarray(history[f"accuracy/{name}"], float) for name in NAMES if f"accuracy/{name}" in history}
    judged = {name: one for name, one in known.items() if np.isfinite(one).any()}
    epochs = max((1 + np.flatnonzero(np.isfinite(one).any(axis=0))[-1] for one in judged.values()), default=0)
    return {name: one[:, :epochs] for name, one in judged.items()}


def largest_options(space: Space, counts: Mapping[str, int]) -> Mapping[str, np.ndarray]:
    """The last so many options that every choice of a part has, all of a part that is not counted.

    counts: {part: how many}. Returns masks as `space.allowed`.
    """

    def of_part(part: str, mask: np.ndarray) -> np.ndarray:
        from_the_end = np.cumsum(mask[:, ::-1], axis=1)[:, ::-1]
        return mask & (from_the_end <= counts.get(part, mask.shape[1]))

    return {part: of_part(part, mask) for part, mask in space.allowed.items()}


def draw_subnets(sampler: Sampler, number: int, key: Key, logits: Logits, count: Array) -> Gates:
    """The gates of so many draws, {part: [number, choices, options]}; the first is the sampler's own with this key."""
    keys = jnp.stack([key, *(named(key, f"subnet_{one}") for one in range(1, number))])
    return jax.vmap(lambda key: sampler(key, logits, count).gates)(keys)


def largest_teacher(space: Space, network: Network, params_of: Callable[[SearchState], Params]) -> Teacher:
    """A teacher that is the largest network with these weights, at the resolution of the subnet that it teaches."""
    largest = encode(space, named_subnets(space)["largest"])

    def teach(state: SearchState, batch: Batch, gates: Gates) -> Array:
        own = {part: gates[part] if part == RESOLUTION else values for part, values in largest.items()}
        return network.apply(params_of(state), own, batch.images, batch.noise)

    return teach


def learn_subnets(
    sampler: Sampler,
    most: int,
    network: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    mean: Mean = lambda tree: tree,
    *,
    number: Callable[[SearchState], Array] | None = None,
    teacher: Teacher | None = None,
    distillation: float = 0.0,
) -> Update:
    """One optimizer step of the weights on the sum of the gradients of several subnets (Cai et al. 2020).

    most, number: how many there are, and how many of them learn in a state, at least 1; None for all. All are taken at
        the same weights, on the same training batch and at the same resolution, that of the first. As in the published
        code, gradients are added up and not divided by the number of subnets.
    distillation: a subnet's loss is its cross-entropy with the labels and so many times that with the teacher's
        answers, at temperature 1; the teacher answers once a step and learns nothing.
    The metrics are means over the subnets: train_loss and train_accuracy by the labels, soft_loss by the answers.
    """

    def update(key, state, batches):
        batch, count = batches.train, jnp.asarray(most) if number is None else number(state)
        gates = _of_one_size(draw_subnets(sampler, most, key, state.visible, state.step))
        answers = None
        if teacher is not None:
            answers = jax.nn.softmax(jax.lax.stop_gradient(teacher(state, batch, _subnet(gates, 0))))

        def loss(params: Params, own: Gates) -> tuple[Array, Metrics]:
            logits = network.apply(params, own, batch.images, batch.noise)
            metrics = _by_labels(logits, batch)
            value = metrics["train_loss"]
            if answers is not None:
                metrics["soft_loss"] = _by_answers(logits, answers)
                value = value + distillation * metrics["soft_loss"]
            return value, metrics

        def add(one: Array, total: tuple[Params, Metrics]) -> tuple[Params, Metrics]:
            found = jax.grad(loss, has_aux=True)(state.params, _subnet(gates, one))
            return jax.tree.map(jnp.add, total, found)

        names = ("train_loss", "train_accuracy", *(() if answers is None else ("soft_loss",)))
        nothing = jax.tree.map(jnp.zeros_like, state.params), dict.fromkeys(names, jnp.zeros(()))
        gradient, metrics = jax.lax.fori_loop(0, count, add, nothing)
        learns = jnp.arange(most) < count
        state = _stepped(state, optimizer, mean(gradient), network, gates, learns)
        return state, {name: value / count for name, value in metrics.items()}

    return update


def _subnet(gates: Gates, number: Array | int) -> Gates:
    return {part: values[number] for part, values in gates.items()}


def _of_one_size(gates: Gates) -> Gates:
    """Gates {part: [subnets, choices, options]}, all with the resolution of the first subnet."""
    if RESOLUTION not in gates:
        return gates
    sizes = gates[RESOLUTION]
    return {**gates, RESOLUTION: jnp.broadcast_to(sizes[:1], sizes.shape)}


def learn_sandwich(
    space: Space,
    sampler: Sampler,
    number: int,
    network: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    mean: Mean = lambda tree: tree,
) -> Update:
    """One optimizer step on the summed gradients of the largest, the smallest and `number` drawn subnets.

    The largest learns from the labels; all others from its answers alone, those of the present weights at temperature
    1, as in BigNAS (Yu et al. 2020), where the resolution is a choice like the others: the largest reads the largest
    images, the smallest the smallest. The metrics are those of `learn_subnets`, soft_loss over all but the largest.
    """
    ends = named_subnets(space)
    largest, smallest = encode(space, ends["largest"]), encode(space, ends["smallest"])

    def update(key, state, batches):
        batch = batches.train
        drawn = draw_subnets(sampler, number, key, state.visible, state.step)
        gates = {part: jnp.stack([largest[part], smallest[part], *drawn[part]]) for part in drawn}

        def loss(params: Params, own: Gates, answers: Array) -> tuple[Array, tuple[Array, Metrics]]:
            logits = network.apply(params, own, batch.images, batch.noise)
            value = _by_answers(logits, answers)
            return value, (logits, {**_by_labels(logits, batch), "soft_loss": value})

        def add(carry, scanned):
            total, answers = carry
            is_largest, own = scanned
            gradient, (logits, metrics) = jax.grad(loss, has_aux=True)(state.params, own, answers)
            # What comes after the largest learns from its answers instead of the labels.
            answers = jnp.where(is_largest, jax.nn.softmax(logits), answers)
            return (jax.tree.map(jnp.add, total, gradient), answers), metrics

        answer = jax.eval_shape(network.apply, state.params, largest, batch.images, batch.noise)
        nothing = jax.tree.map(jnp.zeros_like, state.params)
        begin = nothing, jax.nn.one_hot(batch.labels, answer.shape[-1], dtype=answer.dtype)
        (gradient, _), metrics = jax.lax.scan(add, begin, (jnp.arange(number + 2) == 0, gates))
        metrics["soft_loss"] = metrics["soft_loss"][1:]
        state = _stepped(state, optimizer, mean(gradient), network, gates, jnp.ones(number + 2, bool))
        return state, jax.tree.map(jnp.mean, metrics)

    return update


def _by_labels(logits: Array, batch: Batch) -> dict[str, Array]:
    return {"train_loss": cross_entropy(logits, batch.labels), "train_accuracy": accuracy(logits, batch.labels)}


def _by_answers(logits: Array, answers: Array) -> Array:
    """Mean of -Σ answers · log softmax(logits), both [batch, classes]."""
    return jnp.mean(optax.softmax_cross_entropy(logits, answers))


def _stepped(
    state: SearchState,
    optimizer: optax.GradientTransformationExtraArgs,
    gradient: Params,
    network: Network,
    gates: Gates,
    learns: Array,
) -> SearchState:
    """The state after a step of the weights; the optimizer is told of those that took part in any subnet that learns.

    gates: {part: [subnets, choices, options]}; learns: bool [subnets].
    """

    def in_any(runs: Array) -> Array:
        return jnp.any(runs & learns.reshape(-1, *[1] * (runs.ndim - 1)), axis=0)

    active = jax.tree.map(in_any, jax.vmap(network.active)(gates))
    changes, weights_state = optimizer.update(gradient, state.weights_state, state.params, active=active)
    return state._replace(params=optax.apply_updates(state.params, changes), weights_state=weights_state)
