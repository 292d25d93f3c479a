"""Searches by prediction, on a space so small that all architectures can be looked at."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnas.core.errors import UserError
from jaxnas.core.types import Network
from jaxnas.methods import Prediction, Setup
from jaxnas.methods.predicted import evolve, prediction_stages, published_evolution
from jaxnas.search.predictor import predict
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.evolution import evolution
from jaxnas.strategies.seen import remembered
from jaxnas.strategies.strategy import Problem

KINDS = 4
SPACE = product_space("toy", {"kinds": ("a", "b", "c", "d")}, {"kinds": KINDS})
ALL = np.asarray(list(itertools.product(range(4), repeat=KINDS)))
WORTH = jnp.asarray(np.random.default_rng(3).uniform(0, 0.2, (KINDS, 4)), jnp.float32)
PREDICTION = Prediction(
    measured=100,
    predictor_hidden=(32,),
    predictor_steps=400,
    predictor_batch=32,
    predictor_learning_rate=1e-2,
    predictor_weight_decay=0.0,
    held_out=0.2,
    rounds=12,
    population=8,
    parents=4,
    mutants=4,
    crossovers=4,
    mutation_rate=0.3,
    finalists=3,
)


def accuracy(architecture, **settings):
    """A sum over choices: the judge of these tests."""
    del settings
    return jnp.sum(WORTH * encode(SPACE, architecture)["kinds"])


def cost(gates):
    """The sum of the numbers of all options, 0 to 12."""
    return jnp.sum(gates["kinds"] @ jnp.arange(4.0))


def several(architectures):
    return jax.vmap(accuracy)(architectures)


TRUE = np.asarray(several({"kinds": jnp.asarray(ALL)}))


@pytest.mark.parametrize("limit", [0.0, 5.0])
def test_evolution_over_right_predictions_finds_the_best(limit):
    problem = Problem(SPACE, cost, limit)
    strategy = published_evolution(problem)
    state, best = jax.jit(lambda key: evolve(problem, several, strategy, 4, key))(jax.random.key(0))
    within = (ALL.sum(axis=1) <= limit) | (limit == 0)
    order = np.argsort(-np.where(within, TRUE, -1))
    np.testing.assert_array_equal(state.architectures["kinds"][0], ALL[order[0]])
    np.testing.assert_allclose(best.max(), TRUE[order[0]], rtol=1e-6)
    assert best.shape == (4,)
    if limit:
        assert all(sum(one) <= limit for one in state.architectures["kinds"].tolist())


def test_rounds_are_what_a_loop_would_do():
    """Ask, predict, tell, with the same keys."""
    problem = Problem(SPACE)
    strategy = evolution(problem, population=6, parents=2, mutants=3, crossovers=2, mutation_rate=0.2)
    run = jax.jit(lambda rounds: evolve(problem, several, strategy, rounds, jax.random.key(1)), static_argnums=0)
    states, bests = zip(*(run(rounds) for rounds in (1, 3)), strict=True)
    np.testing.assert_array_equal(bests[0], bests[1][:1])
    assert float(states[1].rewards[0]) >= float(states[0].rewards[0])
    assert int(states[1].seen.stored) > int(states[0].seen.stored)


def supernet(*, paths=None, bare_gates=False, calibrate=0):
    """Nothing of it is used: the judge is a table."""
    del paths, bare_gates, calibrate
    return Network(lambda key: {}, lambda *of: jnp.zeros(()), lambda gates: {})


@functools.cache
def searched(limited):
    """Both stages and the states that they end with, judged by the table, and the accuracy of what is derived."""
    measure, decide = prediction_stages(PRICED if limited else SETUP, PREDICTION, calibrate=0)

    @functools.partial(jax.jit, static_argnums=0)
    def epoch(number, key, state, at):
        return (measure, decide)[number].method.finish_epoch(key, state, at, jnp.nan, accuracy)

    state = measure.method.init(jax.random.key(0))
    for at in range(measure.epochs):
        state, _ = epoch(0, jax.random.key(at), state, at)
    assert decide.enter is not None
    decided, best = epoch(1, jax.random.key(99), decide.enter(jax.random.key(1), state), 0)
    return measure, decide, state, decided, float(best)


SETUP = Setup(SPACE, supernet, 1, 1)
PRICED = SETUP._replace(cost=cost, penalty=lambda loss, cost: loss, limit=5.0)


@pytest.mark.parametrize("limited", [False, True])
def test_the_best_that_was_predicted_and_measured_is_derived(limited):
    measure, decide, before, after, best = searched(limited)
    assert (measure.name, decide.name, measure.epochs, decide.epochs) == ("measure", "evolve", 2, 1)
    assert {measure.steps_per_epoch, decide.steps_per_epoch} == {1}
    # A hundred different ones were measured, whatever they cost.
    assert int(before.memory.seen.stored) == PREDICTION.measured
    pairs, stored = remembered(SPACE, before.memory.seen)
    assert len({tuple(one) for one in pairs["kinds"].tolist()}) == PREDICTION.measured and bool(stored.all())
    np.testing.assert_allclose(before.memory.seen.accuracy, several(pairs), rtol=1e-6)
    known = after.memory.strategy
    np.testing.assert_allclose(known.predicted, predict(known.predictor, SPACE, known.finalists), rtol=1e-5)
    np.testing.assert_allclose(known.measured, several(known.finalists), rtol=1e-6)
    found = decide.method.derive(after)
    winner = int(np.argmax(known.measured))
    np.testing.assert_array_equal(found["kinds"], known.finalists["kinds"][winner])
    np.testing.assert_allclose(best, known.measured[winner], rtol=1e-6)
    within = ALL.sum(axis=1) <= (PRICED.limit if limited else np.inf)
    if limited:
        assert all(one <= PRICED.limit for one in known.finalists["kinds"].sum(axis=1).tolist())
    # A sum over choices is easy: what is found is among the three best of all.
    assert best >= np.sort(TRUE[within])[-3] - 1e-6


def test_how_good_the_predictor_is_is_told():
    _, decide, _, after, _ = searched(False)
    told, known = decide.method.metrics(after), after.memory.strategy
    predicted, measured = known.held_out.predicted, known.held_out.measured
    assert predicted.shape == (20,) and bool(known.held_out.counts.all())
    np.testing.assert_allclose(told["predictor_kendall"], stats.kendalltau(predicted, measured).statistic, rtol=1e-5)
    np.testing.assert_allclose(told["predictor_spearman"], stats.spearmanr(predicted, measured).statistic, rtol=1e-5)
    np.testing.assert_allclose(told["predictor_rmse"], np.sqrt(np.mean((predicted - measured) ** 2)), rtol=1e-5)
    np.testing.assert_allclose(told["finalists_measured"], np.mean(known.measured), rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"measured": 300}, "method.measured is 300, but the space 'toy' has 256 architectures; take at most 256"),
        ({"measured": 9}, "held_out is 0.2 of the 9 that are measured, .* measure at least 10"),
        ({"held_out": 0.99}, "held_out is 0.99 .* leaves 1 to learn from, but a predictor needs at least 2"),
        ({"finalists": 5}, "finalists is 5, but evolution keeps the 4 best"),
        ({"parents": 9}, "population is 8, but has to be at least parents, which is 9"),
    ],
)
def test_settings_have_to_fit(changed, message):
    with pytest.raises(UserError, match=message):
        prediction_stages(SETUP, PREDICTION._replace(**changed), calibrate=0)


def test_a_limit_that_nothing_meets():
    with pytest.raises(UserError, match="which no architecture meets: those of this space cost 0 to 12"):
        prediction_stages(PRICED._replace(limit=-1.0), PREDICTION, calibrate=0)
