"""Signs that a differentiable search collapses, and stopping before it has (Zela et al. 2020; Liang et al. 2019)."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.core.types import Architecture, Array, Batch, Gates, Logits, Space
from jaxnas.search.objectives import Loss, Mean, SearchState

SKIPS = ("skip_connect", "identity", "zero", "0")  # options that compute nothing; 0 is an expansion
ABSENT = "none"  # stands for an edge that is not there, and counts as no choice
WINDOW = 5  # epochs over which curvatures are averaged
ITERATIONS = 10  # of the power method


class Limits(NamedTuple):
    """When a search is stopped early; 0 for never.

    skips: when the derived part that can have identities (the first: of two cells the normal one) has more than this.
    curvature: when the magnitude of the dominant eigenvalue, averaged over WINDOW epochs, has grown by more than this
    factor against WINDOW epochs before. warmup_epochs: before the architecture learns nothing is stopped.
    """

    skips: int = 0
    curvature: float = 0.0
    warmup_epochs: int = 0

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return self.skips > 0 or self.curvature > 0


class Watch(NamedTuple):
    """What the monitor remembers.

    stopped: the epoch whose end stopped the search, -1 for none. architecture, logits, allowed, accuracy: what would
    have been derived one epoch earlier, and from what; the accuracy by which the search was judged then.
    curvatures: of the last 2 · WINDOW epochs, 0 before.
    """

    stopped: Array
    architecture: Architecture
    logits: Logits
    allowed: Mapping[str, Array]
    accuracy: Array
    curvatures: Array


def begin_watch(state: SearchState, architecture: Architecture) -> SearchState:
    """A state with a monitor that has seen nothing yet, but for what would be derived at once."""
    nothing, nowhere = jnp.full((), -1, jnp.int32), jnp.zeros(())
    watch = Watch(nothing, architecture, state.logits, state.allowed, nowhere, jnp.zeros(2 * WINDOW))
    return state._replace(watch=watch)


def part_of_skips(space: Space) -> str | None:
    """The first part that has identities among its options, None where none has."""
    return next((part for part, names in space.options.items() if set(names) & set(SKIPS)), None)


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


def curvature(
    loss: Loss, gates: Callable[[Logits], Gates], mean: Mean = lambda tree: tree
) -> Callable[[SearchState, Batch], Array]:
    """The dominant eigenvalue of the Hessian of the validation loss in the logits, of one batch (Zela et al. 2020).

    By the power method with exact Hessian-vector products; the eigenvalue of largest magnitude, with its sign.
    """

    def of_state(state: SearchState, batch: Batch) -> Array:
        def gradient(logits: Logits) -> Logits:
            return jax.grad(lambda values: loss(state.params, gates(values), batch)[0])(logits)

        def product(direction: Logits) -> Logits:
            def along(logits: Logits) -> Array:
                return _dot(gradient(logits), direction)

            return mean(jax.grad(along)(state.visible))

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
    limits: Limits,
    space: Space,
    state: SearchState,
    architecture: Architecture,
    accuracy: Array,
    epoch: Array,
    value: Array,
) -> SearchState:
    """The state after an epoch's end: what was sound one epoch earlier is kept once a limit is exceeded.

    value: the epoch's curvature, 0 where it is not measured.
    """
    before: Watch = state.watch
    curvatures = jnp.concatenate([before.curvatures[1:], value[None]])
    exceeded = jnp.zeros((), bool)
    part = part_of_skips(space)
    if limits.skips and part is not None:
        skip = np.asarray([name in SKIPS for name in space.options[part]])
        exceeded |= jnp.sum(jnp.asarray(skip)[architecture[part]]) > limits.skips
    if limits.curvature:
        early, late = (jnp.abs(jnp.mean(half)) for half in (curvatures[:WINDOW], curvatures[WINDOW:]))
        exceeded |= (epoch + 1 >= limits.warmup_epochs + 2 * WINDOW) & (late > limits.curvature * early)
    exceeded &= epoch >= limits.warmup_epochs
    stopped = jnp.where((before.stopped < 0) & exceeded, epoch, before.stopped).astype(jnp.int32)
    found, logits, allowed, judged = jax.tree.map(
        lambda kept, now: jnp.where(stopped < 0, now, kept),
        (before.architecture, before.logits, before.allowed, before.accuracy),
        (architecture, state.logits, state.allowed, accuracy),
    )
    return state._replace(watch=Watch(stopped, found, logits, allowed, judged, curvatures))


def sound(state: SearchState) -> SearchState:
    """The state with the logits from before the search was stopped, or its own where it was not."""
    kept: Watch = state.watch
    return state._replace(logits=kept.logits, allowed=kept.allowed)
