"""What a search minimises: losses of (params, gates, batch), and objectives over gates built from them."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import choose
from jaxnas.core.types import Array, Batch, Gates, Logits, Metrics, Network, Params, PyTree
from jaxnas.relax.categorical import masked

Loss = Callable[[Params, Gates, Batch], tuple[Array, Metrics]]
Mean = Callable[[PyTree], PyTree]  # the mean over devices of every leaf; the identity on a single one


class Batches(NamedTuple):
    """One step's two batches: `train` for the weights, `valid` for the architecture."""

    train: Batch
    valid: Batch


class SearchState(NamedTuple):
    """Everything that a search method learns or remembers.

    step: int32, steps done. params and weights_state: the weights and their optimizer. logits and logits_state: the
    architecture parameters and theirs. allowed: {part: bool [choices, options]}, the options that are still searched.
    memory: whatever else the method keeps (a population, the best so far). watch: what the monitor remembers.
    """

    step: Array
    params: Params
    weights_state: optax.OptState
    logits: PyTree
    logits_state: optax.OptState
    allowed: Mapping[str, Array]
    memory: PyTree
    watch: PyTree = ()

    @property
    def visible(self) -> Logits:
        """The logits, with options that are no longer searched excluded."""
        return masked(self.logits, self.allowed)


GateObjective = Callable[[SearchState, Gates, Batches], tuple[Array, Metrics]]


def classification(network: Network) -> Loss:
    """Mean cross-entropy of a network's class logits, with the accuracy as a metric."""

    def loss(params, gates, batch):
        logits = network.apply(params, gates, batch.images, batch.noise)
        return cross_entropy(logits, batch.labels), {"accuracy": accuracy(logits, batch.labels)}

    return loss


def penalised(loss: Loss, cost: Callable[[Gates], Array], penalty: Callable[[Array, Array], Array]) -> Loss:
    """A loss that also counts what the gates cost, penalty(loss, cost(gates)); the cost becomes a metric."""

    def with_cost(params, gates, batch):
        value, metrics = loss(params, gates, batch)
        price = cost(gates)
        return penalty(value, price), {**metrics, "cost": price}

    return with_cost


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean of -log softmax(logits [batch, classes]) at labels [batch]."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def accuracy(logits: Array, labels: Array) -> Array:
    """Share of examples whose largest logit [batch, classes] is at their label [batch]."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def first_order(loss: Loss) -> GateObjective:
    """The validation loss at the present weights (DARTS, Liu et al. 2019, ξ = 0)."""
    return lambda state, gates, batches: loss(state.params, gates, batches.valid)


def _linearized(value: Array, gradient: PyTree, at: PyTree) -> Array:
    """A scalar with a given value and a given gradient at the point `at`."""
    terms = jax.tree.map(lambda g, x: jnp.vdot(jax.lax.stop_gradient(g), x - jax.lax.stop_gradient(x)), gradient, at)
    return jax.lax.stop_gradient(value) + jax.tree.reduce(jnp.add, terms)


def unrolled(
    loss: Loss,
    *,
    learning_rate: optax.Schedule,
    momentum: float,
    weight_decay: float,
    hessian: str = "autodiff",
    mean: Mean = lambda tree: tree,
    outer: Loss | None = None,
) -> GateObjective:
    """The validation loss after one step of the weights on the training batch (DARTS, Liu et al. 2019, eq. 5-8).

    The step is w' = w - η (m·v + ∇w + λ·w) with v the momentum buffer kept by `optax.trace` in the weights' state.
    outer: the loss on the validation batch, where it is another one (a penalised one, say).
    hessian: how the gradient flows back through that step. "autodiff" is exact; "finite_differences" is the paper's
        eq. 8 with ε = 0.01 / ‖∇w' L_valid‖, which needs no second derivatives.
    """

    outer = outer or loss

    def lookahead(state: SearchState, gates: Gates, batch: Batch) -> tuple[Params, Array]:
        rate = learning_rate(state.step)
        velocity = optax.tree_utils.tree_get(state.weights_state, "trace")
        gradient = mean(jax.grad(loss, has_aux=True)(state.params, gates, batch)[0])
        step = jax.tree.map(
            lambda w, v, g: w - rate * (momentum * v + g + weight_decay * w), state.params, velocity, gradient
        )
        return step, jnp.asarray(rate)

    def exact(state, gates, batches):
        params, _ = lookahead(state, gates, batches.train)
        return outer(params, gates, batches.valid)

    def finite_differences(state, gates, batches):
        live, gates = gates, jax.lax.stop_gradient(gates)  # nothing below is differentiated again
        params, rate = lookahead(state, gates, batches.train)
        gradients = jax.value_and_grad(outer, argnums=(0, 1), has_aux=True)(params, gates, batches.valid)
        (value, metrics), (direction, direct) = gradients
        direction = mean(direction)
        epsilon = 0.01 / jnp.maximum(optax.tree.norm(direction), 1e-12)  # a gradient of zero has no direction

        def train_gradient(sign):  # both perturbations run through one compiled body
            shifted = jax.tree.map(lambda w, d: w + sign * epsilon * d, state.params, direction)
            return jax.grad(loss, argnums=1, has_aux=True)(shifted, gates, batches.train)[0]

        both = jax.lax.map(train_gradient, jnp.asarray([1.0, -1.0]))
        implicit = jax.tree.map(lambda g: (g[0] - g[1]) / (2 * epsilon), both)
        gradient = jax.tree.map(lambda d, i: d - rate * i, direct, implicit)
        return _linearized(value, gradient, live), metrics

    return choose("hessian", hessian, {"autodiff": exact, "finite_differences": finite_differences})
