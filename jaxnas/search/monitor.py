"""Signs that a differentiable search collapses, and stopping before it has (Zela et al. 2020; Liang et al. 2019)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Architecture, Array, Batch, Gates, Logits, Space
from jaxnas.search.objectives import Loss, SearchState

SKIPS = ("skip_connect", "identity", "zero")  # options that compute nothing
ABSENT = "none"  # stands for an edge that is not there, and counts as no choice
WINDOW = 5  # epochs over which curvatures are averaged
ITERATIONS = 10  # of the power method


class Limits(NamedTuple):
    """When a search is stopped early; 0 for never.

    skips: when the derived first part (the normal cell) has more identities than this. curvature: when the dominant
    eigenvalue, averaged over WINDOW epochs, has grown by more than this factor against WINDOW epochs before.
    """

    skips: int = 0
    curvature: float = 0.0

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return self.skips > 0 or self.curvature > 0


class Watch(NamedTuple):
    """What the monitor remembers: the epoch whose end stopped the search (-1: none), the logits and the options as they
    were one epoch earlier, and the curvatures of the last 2 · WINDOW epochs (0 before)."""

    stopped: Array
    logits: Logits
    allowed: Mapping[str, Array]
    curvatures: Array


def begin_watch(state: SearchState) -> SearchState:
    """A state with a monitor that has seen nothing yet."""
    return state._replace(watch=Watch(jnp.full((), -1, jnp.int32), state.logits, state.allowed, jnp.zeros(2 * WINDOW)))


def signs(space: Space, probabilities: Mapping[str, Array], architecture: Architecture) -> dict[str, Array]:
    """{"skips/part", "pools/part", "dominant/part"}: shares of the choices that the architecture makes in a part which
    are identities, pools, and whichever option is most frequent; {"entropy/part": [choices]} in nats."""
    found: dict[str, Array] = {}
    for part, names in space.options.items():
        counts = jnp.sum(jax.nn.one_hot(architecture[part], len(names)), axis=0)
        present = np.asarray([name != ABSENT for name in names])
        total = jnp.maximum(jnp.sum(counts * present), 1)
        found[f"skips/{part}"] = jnp.sum(counts * np.asarray([name in SKIPS for name in names])) / total
        found[f"pools/{part}"] = jnp.sum(counts * np.asarray(["pool" in name for name in names])) / total
        found[f"dominant/{part}"] = jnp.max(counts * present) / total
        if part in probabilities:
            values = probabilities[part]
            found[f"entropy/{part}"] = -jnp.sum(jax.scipy.special.xlogy(values, values), axis=-1)
    return found


def curvature(loss: Loss, gates: Callable[[Logits], Gates]) -> Callable[[SearchState, Batch], Array]:
    """The dominant eigenvalue of the Hessian of the validation loss in the logits, of one batch (Zela et al. 2020).

    By the power method with exact Hessian-vector products; the eigenvalue of largest magnitude, with its sign.
    """

    def of_state(state: SearchState, batch: Batch) -> Array:
        def gradient(logits: Logits) -> Logits:
            return jax.grad(lambda values: loss(state.params, gates(values), batch)[0])(logits)

        def product(direction: Logits) -> Logits:
            def along(logits: Logits) -> Array:
                return _dot(gradient(logits), direction)

            return jax.grad(along)(state.visible)

        def iterate(_: int, direction: Logits) -> Logits:
            following = product(direction)
            norm = jnp.sqrt(_dot(following, following))
            return jax.tree.map(lambda leaf: leaf / jnp.maximum(norm, 1e-12), following)

        visible = state.visible
        start = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(0), leaf.shape), dict(visible))
        scale = jnp.sqrt(_dot(start, start))
        direction = jax.lax.fori_loop(0, ITERATIONS, iterate, jax.tree.map(lambda leaf: leaf / scale, start))
        return _dot(direction, product(direction))

    return of_state


def _dot(one: Logits, other: Logits) -> Array:
    return jnp.sum(jnp.stack([jnp.vdot(one[part], other[part]) for part in one]))


def watch(
    limits: Limits, space: Space, state: SearchState, architecture: Architecture, epoch: Array, value: Array
) -> SearchState:
    """The state after an epoch's end: what was sound one epoch earlier is kept once a limit is exceeded.

    value: the epoch's curvature, 0 where it is not measured.
    """
    before: Watch = state.watch
    curvatures = jnp.concatenate([before.curvatures[1:], value[None]])
    exceeded = jnp.zeros((), bool)
    part = next(iter(space.options))
    if limits.skips:
        skip = np.asarray([name in SKIPS for name in space.options[part]])
        exceeded |= jnp.sum(jnp.asarray(skip)[architecture[part]]) > limits.skips
    if limits.curvature:
        early, late = jnp.mean(curvatures[:WINDOW]), jnp.mean(curvatures[WINDOW:])
        exceeded |= (epoch + 1 >= 2 * WINDOW) & (late > limits.curvature * early)
    stopped = jnp.where((before.stopped < 0) & exceeded, epoch, before.stopped).astype(jnp.int32)
    logits, allowed = jax.tree.map(
        lambda kept, now: jnp.where(stopped < 0, now, kept),
        (before.logits, before.allowed),
        (state.logits, state.allowed),
    )
    return state._replace(watch=Watch(stopped, logits, allowed, curvatures))


def sound(state: SearchState) -> SearchState:
    """The state with the logits from before the search was stopped; as it is where it was not."""
    kept: Watch = state.watch
    logits, allowed = jax.tree.map(
        lambda old, now: jnp.where(kept.stopped < 0, now, old),
        (kept.logits, kept.allowed),
        (state.logits, state.allowed),
    )
    return state._replace(logits=logits, allowed=allowed)
