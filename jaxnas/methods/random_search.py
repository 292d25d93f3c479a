"""Random search, the baseline that every other method has to beat."""

import jax
import jax.numpy as jnp
import optax

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Key, Logits, PyTree
from jaxnas.methods.method import Candidates, Method, Setup, Weights
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
    per_candidate = epochs_each * setup.steps_per_epoch
    network = setup.network(paths=1)
    optimizer = weights.optimizer(per_candidate, paths=True)
    loss = classification(network)
    step = alternating(learn_weights(categorical.argmax(), loss, optimizer, network.active, setup.mean))
    allowed = {part: jnp.asarray(mask) for part, mask in setup.space.allowed.items()}

    drawn = random_legal(Problem(setup.space, setup.cost, setup.limit))

    def start(key: Key) -> tuple[PyTree, optax.OptState, Logits]:
        params = network.init(named(key, "weights"))
        return params, optimizer.init(params), encode(setup.space, drawn(named(key, "architecture")))

    def init(key):
        params, weights_state, logits = start(key)
        memory = Candidates(setup.space.decode(logits), jnp.full((), -1.0))
        return SearchState(jnp.zeros((), jnp.int32), params, weights_state, logits, (), allowed, memory)

    def finish_epoch(key, state, epoch, accuracy, judge):
        del judge
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
