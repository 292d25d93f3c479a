"""One step of shared weights in which all options learn equally: several paths, one update (FairNAS)."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.types import Array, Gates, PyTree, Space
from jaxnas.search.objectives import Loss, Mean
from jaxnas.search.paths import fair_paths
from jaxnas.search.updates import Update


def untrained(space: Space) -> Mapping[str, Array]:
    """How often each option was trained before the first step: int32 zeros, {part: [choices, options]}."""
    return {part: jnp.zeros(shape, jnp.int32) for part, shape in space.shapes.items()}


def learn_fairly(
    paths: int,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    active: Callable[[Gates], PyTree],
    mean: Mean = lambda tree: tree,
) -> Update:
    """One optimizer step of the weights on the sum of the gradients of `paths` fair paths (Chu et al. 2019, alg. 1).

    All of them are taken at the same weights, on the same training batch. `state.memory` counts how often each option
    was trained (see `untrained`), equally after every step: see `search.paths.fair_paths`.
    active: gates -> which weights took part; the optimizer is told of those that did in any of the paths.
    """

    def update(key, state, batches):
        gates = fair_paths(paths, key, state.visible, state.memory)

        def add(total, own):
            gradients = jax.value_and_grad(loss, has_aux=True)(state.params, own, batches.train)
            (value, metrics), gradient = gradients
            return jax.tree.map(jnp.add, total, gradient), (value, metrics["accuracy"])

        nothing = jax.tree.map(jnp.zeros_like, state.params)
        gradient, (values, accuracies) = jax.lax.scan(add, nothing, gates)
        part = jax.tree.map(lambda leaf: jnp.any(leaf, axis=0), jax.vmap(active)(gates))
        changes, weights_state = optimizer.update(mean(gradient), state.weights_state, state.params, active=part)
        counts = {name: state.memory[name] + jnp.sum(one, axis=0).astype(jnp.int32) for name, one in gates.items()}
        state = state._replace(
            params=optax.apply_updates(state.params, changes), weights_state=weights_state, memory=counts
        )
        return state, {"train_loss": jnp.mean(values), "train_accuracy": jnp.mean(accuracies)}

    return update
