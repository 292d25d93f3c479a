"""Random search, the baseline that every other method has to beat, and how it trains one network after another."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Architecture, Array, Key, Logits, Network, Params, PyTree, Space
from jaxnas.methods.method import Candidates, Judge, Method, Setup, Weights
from jaxnas.relax import categorical
from jaxnas.search.objectives import SearchState, classification
from jaxnas.search.updates import alternating, learn_weights
from jaxnas.spaces.space import encode
from jaxnas.strategies.drawing import random_legal
from jaxnas.strategies.strategy import Problem


def random_search(setup: Setup, weights: Weights, *, candidates: int) -> Method:
    """Random search, the baseline of Liu et al. 2019: trains random architectures from scratch and keeps the best.

    The epochs are shared equally by `candidates` architectures, trained one after another in the supernet's own shape
    with only their operations running, and compared by validation accuracy; all are within the limit of the cost.
    Raises UserError unless every candidate gets the same number of whole epochs, at least one.
    """
    if candidates < 1 or setup.epochs % candidates:
        possible = [number for number in range(1, setup.epochs + 1) if setup.epochs % number == 0]
        nearest = min(possible, key=lambda number: abs(number - candidates))
        raise UserError(
            f"method.candidates is {candidates}, which does not share {setup.epochs} epochs equally; "
            f"the nearest number that does is {nearest}."
        )
    epochs_each = setup.epochs // candidates
    network = setup.network(paths=1)
    optimizer = weights.optimizer(epochs_each * setup.steps_per_epoch, paths=True)
    draw = untrained(setup, network, optimizer)

    def begin(key: Key) -> tuple[Trainee, Candidates]:
        first = draw(key)
        return first, Candidates(setup.space.decode(first.logits), jnp.full((), -1.0))

    def finish_epoch(key, state, epoch, accuracy, judge):
        del judge
        done = (epoch + 1) % epochs_each == 0
        best, shown = leading(setup.space, state, state.memory, done, accuracy)
        following = done & ((epoch + 1) // epochs_each < candidates)
        trainee = jax.lax.cond(following, lambda: draw(key), lambda: trainee_of(state))
        return state._replace(**trainee._asdict(), memory=best), shown

    return one_by_one(setup, network, optimizer, begin, finish_epoch, lambda state: state.memory.best)


class Trainee(NamedTuple):
    """A network that is trained by itself: its weights, their optimizer, and its architecture, encoded as logits."""

    params: Params
    weights_state: optax.OptState
    logits: Logits


def trainee_of(state: SearchState) -> Trainee:
    """The network that is trained in a state."""
    return Trainee(state.params, state.weights_state, state.logits)


def untrained(
    setup: Setup, network: Network, optimizer: optax.GradientTransformationExtraArgs
) -> Callable[[Key], Trainee]:
    """A function of a key that draws a random architecture within the limit, and its first weights.

    Raises UserError for a limit that no architecture meets.
    """
    drawn = random_legal(Problem(setup.space, setup.cost, setup.limit))

    def draw(key: Key) -> Trainee:
        params = network.init(named(key, "weights"))
        return Trainee(params, optimizer.init(params), encode(setup.space, drawn(named(key, "architecture"))))

    return draw


def leading(
    space: Space, state: SearchState, best: Candidates, done: Array, accuracy: Array
) -> tuple[Candidates, Array]:
    """The best at an epoch's end, among which the present network counts once it is done, and the accuracy to show.

    This is that of the best, or that of the present network as long as there is no best.
    """
    better = done & (accuracy > best.accuracy)
    present = Candidates(space.decode(state.logits), accuracy)
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), present, best)
    return best, jnp.where(best.accuracy < 0, accuracy, best.accuracy)


def one_by_one(
    setup: Setup,
    network: Network,
    optimizer: optax.GradientTransformationExtraArgs,
    begin: Callable[[Key], tuple[Trainee, PyTree]],
    finish_epoch: Callable[[Key, SearchState, Array, Array, Judge], tuple[SearchState, Array]],
    derive: Callable[[SearchState], Architecture],
) -> Method:
    """A method whose steps train one network at a time, in the supernet's shape with only its operations running.

    begin: key -> the first network, and what the state remembers. finish_epoch, derive: fields of Method; the former
    puts the network into the state that is trained next.
    """
    learn = learn_weights(categorical.argmax(), classification(network), optimizer, network.active, setup.mean)
    allowed = {part: jnp.asarray(mask) for part, mask in setup.space.allowed.items()}

    def init(key: Key) -> SearchState:
        trainee, memory = begin(key)
        zero = jnp.zeros((), jnp.int32)
        return SearchState(zero, **trainee._asdict(), logits_state=(), allowed=allowed, memory=memory)

    return Method(
        branches=True,
        init=init,
        step=alternating(learn),
        predict=lambda state, images: network.apply(state.params, state.logits, images),
        finish_epoch=finish_epoch,
        probabilities=lambda state: state.logits,
        derive=derive,
    )
