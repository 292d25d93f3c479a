"""Optimizers as the papers set them, built from optax."""

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.types import PyTree


def sgd(
    learning_rate: optax.Schedule | float, *, momentum: float, weight_decay: float, clip: float
) -> optax.GradientTransformationExtraArgs:
    """SGD as PyTorch orders it: clip the global norm, add the decay to the gradient, then momentum, then the rate."""
    return optax.with_extra_args_support(
        optax.chain(
            optax.clip_by_global_norm(clip),
            optax.add_decayed_weights(weight_decay),
            optax.trace(momentum),
            optax.scale_by_learning_rate(learning_rate),
        )
    )


def adam(
    learning_rate: optax.Schedule | float, *, b1: float, b2: float, weight_decay: float
) -> optax.GradientTransformationExtraArgs:
    """Adam with the decay added to the gradient (L2, not decoupled), as architecture parameters are trained."""
    return optax.with_extra_args_support(
        optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_adam(b1=b1, b2=b2),
            optax.scale_by_learning_rate(learning_rate),
        )
    )


def skip_inactive(inner: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """Leaves weights that took no part in a step alone: no decay, no momentum, no change of their optimizer state.

    The update takes `active`, a pytree like the parameters whose boolean leaves broadcast against them. A zero gradient
    alone would not do: momentum and weight decay move a parameter without it.
    """

    def select(active: PyTree, new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(jnp.where, active, new, old)

    def update(updates: PyTree, state: PyTree, params: PyTree = None, **extra: PyTree) -> tuple[PyTree, PyTree]:
        active = extra.pop("active")
        changes, new_state = inner.update(updates, state, params, **extra)
        like_params = jax.tree.structure(updates)

        def is_like_params(tree):
            return jax.tree.structure(tree) == like_params

        kept = jax.tree.map(
            lambda new, old: select(active, new, old) if is_like_params(new) else new,
            new_state,
            state,
            is_leaf=is_like_params,
        )
        return select(active, changes, jax.tree.map(jnp.zeros_like, changes)), kept

    return optax.GradientTransformationExtraArgs(inner.init, update)
