"""Searches by prediction: some architectures are measured, a predictor learns from them, and evolution asks only that.

Once-for-All (Cai et al. 2020, section 3.4) searches its network so. Measuring takes most of the time and is done once;
then every request, for whatever device and limit, takes seconds.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnas.core.errors import UserError
from jaxnas.core.keys import at_step, named
from jaxnas.core.types import Architecture, Array, Key, Metrics, PyTree, Space
from jaxnas.methods.method import Setup, Stage, Weights
from jaxnas.methods.sampled import Evolution, decision_stage, problem_of, round_size, supernet_stage
from jaxnas.search.objectives import SearchState
from jaxnas.search.predictor import (
    Fitting,
    HeldOut,
    Predictor,
    agreement,
    predict,
    train_predictor,
    untrained,
)
from jaxnas.strategies.drawing import frequencies, pick
from jaxnas.strategies.evolution import evolution
from jaxnas.strategies.seen import Seen, nothing_seen, remembered
from jaxnas.strategies.strategy import (
    Incumbent,
    Problem,
    Strategy,
    better,
    no_incumbent,
    outcome_of,
    whole,
)

# As published, but for the training of the predictor, of which the paper tells only the layers.
PUBLISHED = Fitting((400, 400, 400), steps=5000, batch=256, learning_rate=1e-3, weight_decay=1e-3, held_out=0.2)
LEAST_HELD_OUT = 2  # pairs, which is the fewest that have an order
LEAST_TRAINED = 2  # architectures that a predictor learns from, which is the fewest that differ


class Prediction(NamedTuple):
    """How a search by prediction decides.

    measured: how many random architectures are judged, from which the predictor learns. predictor_*, held_out: how it
    does, see `search.predictor.Fitting`. rounds, ..., mutation_rate: the evolution over predictions, see
    `strategies.evolution`. finalists: of its best, so many are judged, and the best of these is derived.
    """

    measured: int
    predictor_hidden: tuple[int, ...]
    predictor_steps: int
    predictor_batch: int
    predictor_learning_rate: float
    predictor_weight_decay: float
    held_out: float
    rounds: int
    population: int
    parents: int
    mutants: int
    crossovers: int
    mutation_rate: float
    finalists: int

    @property
    def fitting(self) -> Fitting:
        """How the predictor is trained."""
        own = {name: getattr(self, f"predictor_{name}") for name in Fitting._fields if name != "held_out"}
        return Fitting(**own, held_out=self.held_out)

    @property
    def evolution(self) -> Evolution:
        """The evolution over predictions."""
        return Evolution(**{name: getattr(self, name) for name in Evolution._fields})


class Predicted(NamedTuple):
    """What a search by prediction knows.

    seen: what was measured before. predictor, held_out: what was learned from it, and how well.
    finalists: {part: [finalists, choices]}, best predicted first; predicted, measured: their accuracies [finalists].
    best: the best of them by its measured reward.
    """

    seen: Seen
    predictor: Predictor
    held_out: HeldOut
    finalists: Architecture
    predicted: Array
    measured: Array
    best: Incumbent


def predicted(setup: Setup, weights: Weights, prediction: Prediction, *, calibrate: int) -> tuple[Stage, ...]:
    """Uniform paths train the supernet, as in SPOS; then a search by prediction, on any space.

    calibrate: see `sampled.spos`. Raises UserError as `prediction_stages` does.
    """
    return supernet_stage(setup, weights), *prediction_stages(setup, prediction, calibrate)


def prediction_stages(setup: Setup, prediction: Prediction, calibrate: int) -> tuple[Stage, ...]:
    """The stages "measure" and "evolve", which search by prediction with the weights that the stage before left.

    The first judges different random architectures of the whole space, whatever they cost, so that its predictor
    serves every limit. The second trains the predictor, evolves over predictions within the search's limit, and judges
    the finalists. calibrate: see `sampled.spos`. Raises UserError for numbers that do not fit one another.
    """
    _check(setup.space, prediction)
    anywhere, size = setup._replace(limit=0.0), round_size(prediction.measured)
    # Evolution without mutants and crossovers proposes nothing but new random architectures.
    new = Evolution(rounds=0, population=size, parents=1, mutants=0, crossovers=0, mutation_rate=1.0)
    drawing = new.strategy(problem_of(anywhere))
    measure = decision_stage(anywhere, drawing, prediction.measured // size, calibrate, name="measure")
    strategy = by_prediction(problem_of(setup), prediction)

    def begin(key: Key, before: SearchState) -> Predicted:
        return strategy.init(key)._replace(seen=before.memory.seen)

    decide = decision_stage(setup, strategy, 1, calibrate, name="evolve", begin=begin)

    def metrics(state: SearchState) -> Metrics:
        return {**decide.method.metrics(state), **strategy.metrics(state.memory.strategy)}

    return measure, decide._replace(method=decide.method._replace(metrics=metrics))


def _check(space: Space, prediction: Prediction) -> None:
    if prediction.measured > space.size:
        raise UserError(
            f"method.measured is {prediction.measured}, but the space {space.name!r} has {space.size} architectures; "
            f"take at most {space.size}."
        )
    trained = prediction.measured - int(prediction.held_out * prediction.measured)
    if trained < LEAST_TRAINED:
        raise UserError(
            f"method.held_out is {prediction.held_out} of the {prediction.measured} that are measured, which leaves "
            f"{trained} to learn from, but a predictor needs at least {LEAST_TRAINED}; hold out fewer, such as 0.2."
        )
    if int(prediction.held_out * prediction.measured) < LEAST_HELD_OUT:
        least = math.ceil(LEAST_HELD_OUT / prediction.held_out)
        raise UserError(
            f"method.held_out is {prediction.held_out} of the {prediction.measured} that are measured, but to tell how "
            f"good the predictor is takes at least {LEAST_HELD_OUT} of them; measure at least {least}."
        )
    if prediction.finalists > prediction.parents:
        raise UserError(
            f"method.finalists is {prediction.finalists}, but evolution keeps the {prediction.parents} best "
            "(method.parents); take at most as many."
        )


def by_prediction(problem: Problem, prediction: Prediction) -> Strategy:
    """The strategy that proposes, once, what evolution over the predictions of a trained predictor likes best.

    What it learns from is the `seen` of its state. Raises UserError as `strategies.evolution` does.
    """
    space, fitting, searching = problem.space, prediction.fitting, prediction.evolution.strategy(problem)

    def init(key: Key) -> Predicted:
        none = jnp.zeros(int(fitting.held_out * prediction.measured))
        unknown = {part: jnp.zeros((prediction.finalists, choices), jnp.int32) for part, (choices, _) in shapes}
        return Predicted(
            nothing_seen(space, prediction.measured),
            untrained(space, fitting, key),
            HeldOut(none, none, none.astype(bool)),
            unknown,
            jnp.zeros(prediction.finalists),
            jnp.zeros(prediction.finalists),
            no_incumbent(space),
        )

    def ask(key, state):
        architectures, known = remembered(space, state.seen)
        own = named(key, "predictor")
        predictor, held_out = train_predictor(space, fitting, own, architectures, state.seen.accuracy, known)

        def answer(architectures: Architecture) -> Array:
            return predict(predictor, space, architectures)

        evolved, _ = evolve(problem, answer, searching, prediction.rounds, named(key, "evolution"))
        finalists = pick(evolved.architectures, jnp.arange(prediction.finalists))
        return whole(finalists, (predictor, held_out, answer(finalists)))

    def tell(key, state, proposal, outcome):
        del key
        predictor, held_out, predicted = proposal.info
        best = better(state.best, proposal.architectures, outcome.reward)
        return Predicted(state.seen, predictor, held_out, proposal.architectures, predicted, outcome.accuracy, best)

    shapes = space.shapes.items()
    return Strategy(
        batch=prediction.finalists,
        init=init,
        ask=ask,
        tell=tell,
        best=lambda state: state.best.architecture,
        probabilities=lambda state: frequencies(space, state.finalists, jnp.ones(prediction.finalists, bool)),
        metrics=_metrics,
    )


def _metrics(state: Predicted) -> Metrics:
    found = agreement(*state.held_out)
    of_finalists = {"predicted": jnp.mean(state.predicted), "measured": jnp.mean(state.measured)}
    return {
        **{f"predictor_{name}": value for name, value in found._asdict().items()},
        **{f"finalists_{name}": value for name, value in of_finalists.items()},
    }


def evolve(
    problem: Problem, predict: Callable[[Architecture], Array], strategy: Strategy, rounds: int, key: Key
) -> tuple[PyTree, Array]:
    """The state of a strategy after so many rounds of predictions, and the largest reward in each, [rounds].

    predict: architectures {part: [batch, choices]} -> accuracies [batch]. The whole search is one program.
    """

    def one_round(state: PyTree, number: Array) -> tuple[PyTree, Array]:
        proposal = strategy.ask(at_step(key, "ask", number), state)
        outcome = outcome_of(problem, proposal.architectures, predict(proposal.architectures))
        state = strategy.tell(at_step(key, "tell", number), state, proposal, outcome)
        return state, jnp.max(outcome.reward)

    return jax.lax.scan(one_round, strategy.init(named(key, "strategy")), jnp.arange(rounds))


def published_evolution(problem: Problem) -> Strategy:
    """The evolution of Once-for-All: of 100 a generation 50 are mutants and 50 crossed, of the 25 best ever seen."""
    return evolution(problem, population=100, parents=25, mutants=50, crossovers=50, mutation_rate=0.1)
