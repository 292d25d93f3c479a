"""What a search method is, and the pieces that most of them are composed of."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.core.errors import UserError, choose
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Gates, Key, Logits, Metrics, Network, PyTree, Space
from jaxnas.search import optimizers
from jaxnas.search.objectives import GateObjective, Loss, Mean, SearchState, first_order, penalised, unrolled
from jaxnas.search.updates import Update, alternating
from jaxnas.spaces.space import encode


class Judge(Protocol):
    """The accuracy of an architecture on the validation half with the present weights, a scalar."""

    def __call__(self, architecture: Architecture, *, share: Array | float = 1.0, calibrate: int = 0) -> Array:
        """Judges by the first `share` of the batches of the half, at least one.

        calibrate: so many training images normalise it alone (see `Method.child`); 0: each batch by its own statistics.
        """
        ...


class Weights(NamedTuple):
    """How a method trains the weights: SGD with momentum, decay and clipped gradients, its rate falling by a cosine."""

    weights_learning_rate: float
    weights_final_learning_rate: float
    momentum: float
    weight_decay: float
    clip: float

    def rate(self, steps: int) -> optax.Schedule:
        """The learning rate over `steps` steps."""
        share = self.weights_final_learning_rate / self.weights_learning_rate
        return optax.cosine_decay_schedule(self.weights_learning_rate, max(steps, 1), share)

    def optimizer(self, steps: int, *, paths: bool) -> optax.GradientTransformationExtraArgs:
        """The optimizer; with `paths`, weights that took no part in a step are left alone, momentum and decay too."""
        sgd = optimizers.sgd(self.rate(steps), momentum=self.momentum, weight_decay=self.weight_decay, clip=self.clip)
        return optimizers.skip_inactive(sgd) if paths else sgd


class Arch(NamedTuple):
    """How a method trains the architecture parameters: Adam with L2 decay."""

    logits_learning_rate: float
    logits_weight_decay: float

    def optimizer(self, b1: float = 0.5) -> optax.GradientTransformationExtraArgs:
        """Adam; b1 is 0.5 in the papers on cells."""
        return optimizers.adam(self.logits_learning_rate, b1=b1, b2=0.999, weight_decay=self.logits_weight_decay)


class Setup(NamedTuple):
    """What a search gives every method.

    supernet: builds the supernet of the space's family with a method's settings (see `network`).
    steps_per_epoch, epochs: the budget. mean: the mean over devices.
    cost, penalty: what gates cost, and how that enters the loss of the architecture; None for a search without.
    limit: the most that a result may cost, 0 for none.
    """

    space: Space
    supernet: Callable[..., Network]
    steps_per_epoch: int
    epochs: int
    mean: Mean = lambda tree: tree
    cost: Callable[[Gates], Array] | None = None
    penalty: Callable[[Array, Array], Array] | None = None
    limit: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the whole search."""
        return self.steps_per_epoch * self.epochs

    def network(self, **settings: Any) -> Network:
        """The supernet; raises UserError where the space's networks do not have what the method needs of them."""
        self.require(*settings)
        return self.supernet(**settings)

    def require(self, *settings: str) -> None:
        """Raises UserError where the supernet of the space does not know one of these settings."""
        known = inspect.signature(self.supernet).parameters
        for name in settings:
            if name not in known:
                raise UserError(
                    f"the space {self.space.name!r} has no {NEEDS.get(name, name)}, which this method needs; "
                    "take the space 'darts'."
                )

    def after(self, warmup_epochs: int, every: int = 1) -> Callable[[Array], Array]:
        """step -> whether the architecture learns in it: every so many steps, after so many epochs.

        Raises UserError where there is no such step.
        """
        first = warmup_epochs * self.steps_per_epoch
        if warmup_epochs >= self.epochs:
            raise UserError(
                f"method.warmup_epochs is {warmup_epochs}, but the search has {self.epochs} epochs, of which at least "
                "one has to teach the architecture."
            )
        if every > self.steps - first:
            raise UserError(
                f"method.every is {every}, but only {self.steps - first} steps are left for the architecture."
            )
        return lambda step: (step >= first) & (step % every == every - 1)

    @property
    def multiplied(self) -> bool:
        """Whether the penalty multiplies the loss, so that it is nothing by itself."""
        if self.penalty is None:
            return False
        nothing, something = (float(self.penalty(jnp.asarray(loss), jnp.asarray(1e15))) for loss in (0.0, 1.0))
        return nothing == 0 and something != 1

    def priced(self, loss: Loss) -> Loss:
        """A loss of the architecture: the loss, penalised by the cost where the search has one."""
        if self.cost is None or self.penalty is None:
            return loss
        return penalised(loss, self.cost, self.penalty)

    def price(self, gates: Gates) -> tuple[Array, Metrics]:
        """What the penalty adds to a loss, by itself (for penalties that are added), and the cost as a metric."""
        if self.cost is None or self.penalty is None:
            raise ValueError("a search without a cost has no price.")
        cost = self.cost(gates)
        return self.penalty(jnp.zeros(()), cost), {"cost": cost}


NEEDS = {
    "layers": "stack of cells of any depth",
    "partial": "channels that can pass an edge by",
    "calibrate": "normalisation by some images of a batch alone",
}


class Method(NamedTuple):
    """A search method as pure functions of its state.

    branches: whether a step chooses by its data what to run (a single path), rather than running all of it.
    init: key -> state. step: (key, state, batches) -> (state, metrics), the metrics scalars.
    predict: (state, images) -> class logits of the supernet as the method would judge it; None where an epoch's end
        judges for itself.
    finish_epoch: (key, state, epoch, validation accuracy of `predict`, judge) -> (state, accuracy), at an epoch's end;
        the accuracy returned is that by which the search is judged: of the mixture (DARTS), of the derived cells with
        the shared weights (GDAS), of the best candidate (random search).
    probabilities: state -> {part: [choices, options]}. derive: state -> the architecture found.
    child: (state, architecture, images) -> class logits with the weights of the supernet; None where these weights are
        not the architecture's. Methods that calibrate take `calibrate`, too: the first so many images alone normalise.
    variants: state -> {name: architecture}, what else a method would have people look at.
    scores: state -> {part: [choices, options]}, log-probabilities (up to a constant for each choice) by which the most
        probable architecture within a limit is found.
    relaxed: () -> (network, logits -> gates), the mixture whose validation loss has a curvature in the logits; None
        where there is none.
    warmup_epochs: in which the architecture does not learn.
    metrics: state -> named scalars to log after every epoch.
    fault: state -> whether the reward of an architecture was not finite, and of which; None where there are no rewards.
    """

    branches: bool
    init: Callable[[Key], SearchState]
    step: Update
    predict: Callable[[SearchState, Array], Array] | None
    finish_epoch: Callable[[Key, SearchState, Array, Array, Judge], tuple[SearchState, Array]]
    probabilities: Callable[[SearchState], Mapping[str, Array]]
    derive: Callable[[SearchState], Architecture]
    child: Callable[..., Array] | None = None
    variants: Callable[[SearchState], Mapping[str, Architecture]] | None = None
    scores: Callable[[SearchState], Logits] = lambda state: state.visible
    relaxed: Callable[[], tuple[Network, Callable[[Logits], Gates]]] | None = None
    warmup_epochs: int = 0
    metrics: Callable[[SearchState], Metrics] = lambda state: {}
    fault: Callable[[SearchState], tuple[Array, Architecture]] | None = None


class Candidates(NamedTuple):
    """What sampling remembers: the best architecture so far and its validation accuracy (-1 before the first)."""

    best: Architecture
    accuracy: Array


def no_candidates(space: Space) -> Candidates:
    """No architecture yet (the field holds the first options)."""
    return Candidates(
        {p: jnp.zeros(choices, jnp.int32) for p, (choices, _) in space.shapes.items()}, jnp.full((), -1.0)
    )


def best_drawn(setup: Setup, key: Key, number: int, draw: Callable[[Key], Architecture], judge: Judge) -> Candidates:
    """The best of so many architectures, drawn and judged one after another.

    Those beyond the limit of the cost count as the worst, with an accuracy of -1.
    """

    def one(key: Key) -> tuple[Architecture, Array]:
        architecture = draw(key)
        accuracy = judge(architecture)
        if setup.cost is not None and setup.limit:
            within = setup.cost(encode(setup.space, architecture)) <= setup.limit
            accuracy = jnp.where(within, accuracy, -1.0)
        return architecture, accuracy

    drawn, accuracies = jax.lax.map(one, jax.random.split(key, number))
    winner = jnp.argmax(accuracies)
    return Candidates(jax.tree.map(lambda leaf: leaf[winner], drawn), accuracies[winner])


class Stage(NamedTuple):
    """A part of a search. `enter` makes its first state of the last state of the stage before.

    steps_per_epoch: None where the weights learn, from all of the training half in every epoch; otherwise they do not.
    room: for how many epochs the history has room, if for more than its own. Stages that differ in nothing but their
    first states have the same program where they have the same room, and it is compiled once.
    """

    name: str
    epochs: int
    method: Method
    enter: Callable[[Key, SearchState], SearchState] | None = None
    steps_per_epoch: int | None = None
    room: int = 0


def bilevel(setup: Setup, loss: Loss, weights: Weights, order: int, hessian: str) -> GateObjective:
    """The architecture's objective: the (priced) validation loss, now (1) or after one step of the weights (2)."""
    ahead = unrolled(
        loss,
        learning_rate=weights.rate(setup.steps),
        momentum=weights.momentum,
        weight_decay=weights.weight_decay,
        hessian=hessian,
        mean=setup.mean,
        outer=setup.priced(loss),
    )
    return choose("order", str(order), {"1": first_order(setup.priced(loss)), "2": ahead})


def initial_logits(shapes: Mapping[str, tuple[int, int]], key: Key) -> Logits:
    """Small random logits, 1e-3 · N(0, 1): nearly uniform, with ties broken."""
    return {part: 1e-3 * jax.random.normal(named(key, part), shape) for part, shape in shapes.items()}


def equal_logits(space: Space) -> Logits:
    """Logits of zero: every option as probable as the others."""
    return {part: jnp.zeros(shape) for part, shape in space.shapes.items()}


def softmax_gates(state: SearchState) -> Gates:
    """The probabilities of the options as gates: a mixture of all of them."""
    return jax.tree.map(jax.nn.softmax, state.visible)


def relaxation(
    setup: Setup,
    *updates: Update,
    network: Network,
    child_network: Network,
    weights: optax.GradientTransformationExtraArgs,
    logits: optax.GradientTransformationExtraArgs,
    branches: bool,
    judged_by: Callable[[SearchState], Gates] | None = None,
    initial: Callable[[Key], Logits] | None = None,
    allowed: Mapping[str, np.ndarray] | None = None,
    memory: PyTree = (),
    probabilities: Callable[[SearchState], Mapping[str, Array]] = softmax_gates,
    derive: Callable[[SearchState], Architecture] | None = None,
    finish_epoch: Callable[[Key, SearchState, Array, Array, Judge], tuple[SearchState, Array]] | None = None,
    variants: Callable[[SearchState], Mapping[str, Architecture]] | None = None,
    scores: Callable[[SearchState], Logits] = lambda state: state.visible,
    relaxed: Callable[[], tuple[Network, Callable[[Logits], Gates]]] | None = None,
    warmup_epochs: int = 0,
) -> Method:
    """A method whose architecture is a set of logits, and whose step is the updates one after another.

    network, child_network: the supernet, and the same running single paths. weights, logits: the optimizers.
    judged_by: the gates by which the search is validated; None for those of the derived architecture.
    initial: key -> logits, None for small random ones. allowed: masks of logits that are not the space's own.
    memory: what the state remembers at first. The other arguments are fields of Method, with the usual as default.
    """
    space = setup.space
    make_logits = initial or (lambda key: initial_logits(space.shapes, key))
    derive = derive or (lambda state: space.decode(state.visible))
    masks = {**space.allowed, **(allowed or {})}

    def init(key: Key) -> SearchState:
        params = network.init(named(key, "weights"))
        values = make_logits(named(key, "logits"))
        return SearchState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            weights_state=weights.init(params),
            logits=values,
            logits_state=logits.init(values),
            allowed={part: jnp.asarray(mask) for part, mask in masks.items()},
            memory=memory,
        )

    def child(state: SearchState, architecture: Architecture, images: Array) -> Array:
        return child_network.apply(state.params, encode(space, architecture), images)

    def predict(state: SearchState, images: Array) -> Array:
        if judged_by is None:
            return child(state, derive(state), images)
        return network.apply(state.params, judged_by(state), images)

    return Method(
        branches=branches,
        init=init,
        step=alternating(*updates),
        predict=predict,
        finish_epoch=finish_epoch or (lambda key, state, epoch, accuracy, judge: (state, accuracy)),
        probabilities=probabilities,
        derive=derive,
        child=child,
        variants=variants,
        scores=scores,
        relaxed=relaxed or (lambda: (setup.network(), lambda logits: jax.tree.map(jax.nn.softmax, dict(logits)))),
        warmup_epochs=warmup_epochs,
    )
