"""The published methods, each a short composition of samplers, estimators, objectives, updates and optimizers.

A method is built from a `Setup` and its own settings (the fields of `config.method` other than `name`). To add one,
write a function here and add it to METHODS.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Gates, Key, Logits, Network, PyTree, Space
from jaxnas.estimators.pathwise import pathwise
from jaxnas.relax import categorical
from jaxnas.search import optimizers
from jaxnas.search.objectives import Mean, SearchState, classification, first_order, unrolled
from jaxnas.search.updates import Update, alternating, learn_logits, learn_weights
from jaxnas.spaces.space import encode, random


class Setup(NamedTuple):
    """What a search gives every method.

    network: builds the supernet, with the method's choice of evaluation and treatment of bare gates.
    steps_per_epoch, epochs: the budget. mean: the mean over devices.
    """

    space: Space
    network: Callable[..., Network]
    steps_per_epoch: int
    epochs: int
    mean: Mean = lambda tree: tree

    @property
    def steps(self) -> int:
        """Steps of the whole search."""
        return self.steps_per_epoch * self.epochs


class Method(NamedTuple):
    """A search method as pure functions of its state.

    branches: whether a step chooses by its data what to run (a single path), rather than running all of it.
    init: key -> state. step: (key, state, batches) -> (state, metrics), the metrics scalars.
    predict: (state, images) -> class logits of the supernet as the method would judge it.
    finish_epoch: (key, state, epoch, validation accuracy) -> (state, accuracy), after each epoch's validation; the
        accuracy returned is that by which the search is judged: of the mixture (DARTS), of the derived cells with the
        shared weights (GDAS), of the best candidate (random search).
    probabilities: state -> {part: [choices, options]}. derive: state -> the architecture found.
    """

    branches: bool
    init: Callable[[Key], SearchState]
    step: Update
    predict: Callable[[SearchState, Array], Array]
    finish_epoch: Callable[[Key, SearchState, Array, Array], tuple[SearchState, Array]]
    probabilities: Callable[[SearchState], Mapping[str, Array]]
    derive: Callable[[SearchState], Architecture]


def _initial_logits(space: Space, key: Key) -> Logits:
    """Small random logits, 1e-3 · N(0, 1): nearly uniform, with ties broken."""
    return {p: 1e-3 * jax.random.normal(named(key, p), shape) for p, shape in space.shapes.items()}


def _relaxation(
    setup: Setup,
    network: Network,
    updates: tuple[Update, ...],
    weights: optax.GradientTransformation,
    logits: optax.GradientTransformation,
    judged_by: Callable[[Logits], Gates],
    branches: bool,
) -> Method:
    """A method whose architecture is a set of logits: most of the family. `judged_by` gives the gates of `predict`."""

    def init(key):
        params = network.init(named(key, "weights"))
        values = _initial_logits(setup.space, named(key, "logits"))
        return SearchState(jnp.zeros((), jnp.int32), params, weights.init(params), values, logits.init(values), ())

    def predict(state, images):
        return network.apply(state.params, judged_by(state.logits), images)

    return Method(
        branches=branches,
        init=init,
        step=alternating(*updates),
        predict=predict,
        finish_epoch=lambda key, state, epoch, accuracy: (state, accuracy),
        probabilities=lambda state: jax.tree.map(jax.nn.softmax, state.logits),
        derive=lambda state: setup.space.decode(state.logits),
    )


def darts(
    setup: Setup,
    *,
    order: int,
    hessian: str,
    weights_learning_rate: float,
    weights_final_learning_rate: float,
    momentum: float,
    weight_decay: float,
    clip: float,
    logits_learning_rate: float,
    logits_weight_decay: float,
) -> Method:
    """DARTS (Liu, Simonyan & Yang 2019): softmax mixtures, architecture and weights updated in turn.

    order: 1 (the validation loss at the present weights) or 2 (after one unrolled step of the weights).
    hessian: for order 2, "autodiff" or "finite_differences".
    """
    rate = optax.cosine_decay_schedule(
        weights_learning_rate, setup.steps, weights_final_learning_rate / weights_learning_rate
    )
    network = setup.network(evaluation="auto")
    loss = classification(network)
    bilevel = unrolled(
        loss, learning_rate=rate, momentum=momentum, weight_decay=weight_decay, hessian=hessian, mean=setup.mean
    )
    objective = choose("order", str(order), {"1": first_order(loss), "2": bilevel})
    weights = optimizers.sgd(rate, momentum=momentum, weight_decay=weight_decay, clip=clip)
    logits = optimizers.adam(logits_learning_rate, b1=0.5, b2=0.999, weight_decay=logits_weight_decay)
    sampler = categorical.softmax()
    updates = (
        learn_logits(pathwise(sampler), objective, logits, setup.mean),
        learn_weights(sampler, loss, weights, network.active, setup.mean),
    )

    def mixture(values: Logits) -> Gates:
        return jax.tree.map(jax.nn.softmax, values)

    return _relaxation(setup, network, updates, weights, logits, mixture, branches=False)


def gdas(
    setup: Setup,
    *,
    temperature: float,
    final_temperature: float,
    bare_gates: bool,
    weights_learning_rate: float,
    weights_final_learning_rate: float,
    momentum: float,
    weight_decay: float,
    clip: float,
    logits_learning_rate: float,
    logits_weight_decay: float,
) -> Method:
    """GDAS (Dong & Yang 2019): one operation per edge runs, drawn by Gumbel-argmax, with a straight-through gradient.

    bare_gates: give unselected gates the gradient of the published code, which adds them bare to the node, or none.
    Weights of operations that were not drawn keep their value and their momentum in that step.
    """
    rate = optax.cosine_decay_schedule(
        weights_learning_rate, setup.steps, weights_final_learning_rate / weights_learning_rate
    )
    network = setup.network(evaluation="single_path", bare_gates=bare_gates)
    loss = classification(network)
    weights = optimizers.skip_inactive(optimizers.sgd(rate, momentum=momentum, weight_decay=weight_decay, clip=clip))
    logits = optimizers.adam(logits_learning_rate, b1=0.5, b2=0.999, weight_decay=logits_weight_decay)
    annealed = categorical.linear_temperature(temperature, final_temperature, setup.steps)
    sampler = categorical.gumbel_straight_through(annealed)
    updates = (
        learn_weights(sampler, loss, weights, network.active, setup.mean),
        learn_logits(pathwise(sampler), first_order(loss), logits, setup.mean),
    )

    def derived(values: Logits) -> Gates:
        return encode(setup.space, setup.space.decode(values))

    return _relaxation(setup, network, updates, weights, logits, derived, branches=True)


class Candidates(NamedTuple):
    """What random search remembers: the best architecture so far and its validation accuracy (-1 before the first)."""

    best: Architecture
    accuracy: Array


def random_search(
    setup: Setup,
    *,
    candidates: int,
    weights_learning_rate: float,
    weights_final_learning_rate: float,
    momentum: float,
    weight_decay: float,
    clip: float,
) -> Method:
    """Random search, the baseline of Liu et al. 2019: trains random architectures from scratch and keeps the best.

    The epochs are shared equally by `candidates` architectures, trained one after another in the supernet's own shape
    with only their operations running, and compared by validation accuracy. Raises UserError unless every candidate
    gets the same number of whole epochs, at least one.
    """
    if candidates < 1 or setup.epochs % candidates:
        possible = [number for number in range(1, setup.epochs + 1) if setup.epochs % number == 0]
        nearest = min(possible, key=lambda number: abs(number - candidates))
        raise UserError(
            f"method.candidates is {candidates}, which does not share {setup.epochs} epochs equally; "
            f"the nearest number that does is {nearest}."
        )
    epochs_each = setup.epochs // candidates
    per_candidate = epochs_each * setup.steps_per_epoch
    cosine = optax.cosine_decay_schedule(
        weights_learning_rate, per_candidate, weights_final_learning_rate / weights_learning_rate
    )
    network = setup.network(evaluation="single_path")
    loss = classification(network)
    weights = optimizers.skip_inactive(optimizers.sgd(cosine, momentum=momentum, weight_decay=weight_decay, clip=clip))
    step = alternating(learn_weights(categorical.argmax(), loss, weights, network.active, setup.mean))

    def start(key: Key) -> tuple[PyTree, optax.OptState, Logits]:
        params = network.init(named(key, "weights"))
        return params, weights.init(params), encode(setup.space, random(setup.space, named(key, "architecture")))

    def init(key):
        params, weights_state, logits = start(key)
        memory = Candidates(setup.space.decode(logits), jnp.full((), -1.0))
        return SearchState(jnp.zeros((), jnp.int32), params, weights_state, logits, (), memory)

    def finish_epoch(key, state, epoch, accuracy):
        done = (epoch + 1) % epochs_each == 0
        better = done & (accuracy > state.memory.accuracy)
        current = Candidates(setup.space.decode(state.logits), accuracy)
        memory = jax.tree.map(lambda new, old: jnp.where(better, new, old), current, state.memory)
        following = done & ((epoch + 1) // epochs_each < candidates)
        params, weights_state, logits = jax.lax.cond(
            following,
            lambda: start(key),
            lambda: (state.params, state.weights_state, state.logits),
        )
        state = state._replace(params=params, weights_state=weights_state, logits=logits, memory=memory)
        return state, jnp.where(memory.accuracy < 0, accuracy, memory.accuracy)

    return Method(
        branches=True,
        init=init,
        step=step,
        predict=lambda state, images: network.apply(state.params, state.logits, images),
        finish_epoch=finish_epoch,
        probabilities=lambda state: state.logits,
        derive=lambda state: state.memory.best,
    )


METHODS: Mapping[str, Callable[..., Method]] = {"darts": darts, "gdas": gdas, "random": random_search}
