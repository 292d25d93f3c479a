"""The accuracy predictor: what it learns, what it is told of its errors, and whose architectures it takes."""

import functools

import chex
import jax
import numpy as np
import pytest
from scipy import stats

from jaxnas.core.errors import UserError
from jaxnas.search.predictor import Fitting, agreement, check_same_space, predict, train_predictor, untrained
from jaxnas.spaces.elastic import elastic_plan, elastic_space, running
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import random

SPACE = product_space("toy", {"kinds": ("a", "b", "c"), "sizes": ("s", "t")}, {"kinds": 3, "sizes": 2})
SETTINGS = Fitting((32, 16), steps=400, batch=32, learning_rate=1e-2, weight_decay=1e-2, held_out=0.25)
WORTH = {"kinds": np.asarray([[0.0, 0.1, 0.2], [0.05, 0.0, 0.02], [0.0, 0.0, 0.1]]), "sizes": np.eye(2) * 0.07}
COUNT = 72


def accuracy(architectures):
    """A sum over choices, between 0.1 and 0.6."""
    each = (np.sum(of[np.arange(len(of)), architectures[part]], axis=1) for part, of in WORTH.items())
    return np.float32(0.1 + sum(each))


def drawn(space, count, seed=0):
    draw = jax.jit(jax.vmap(functools.partial(random, space)))
    return jax.device_get(draw(jax.random.split(jax.random.key(seed), count)))


PAIRS = drawn(SPACE, COUNT)
MEASURED, EVERY = accuracy(PAIRS), np.ones(COUNT, bool)
predicted = jax.jit(lambda predictor, architectures: predict(predictor, SPACE, architectures))
train = jax.jit(functools.partial(train_predictor, SPACE, SETTINGS))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("missing", [0, 5])
def test_agreement_is_that_of_scipy(ties, missing):
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 30)).round(0 if ties else 9)
    counts = np.arange(30) >= missing
    found = jax.jit(agreement)(one, one + other, counts)
    one, other = one[counts], (one + other)[counts]
    np.testing.assert_allclose(found.kendall, stats.kendalltau(one, other).statistic, rtol=1e-5)
    np.testing.assert_allclose(found.spearman, stats.spearmanr(one, other).statistic, rtol=1e-5)
    np.testing.assert_allclose(found.rmse, np.sqrt(np.mean((one - other) ** 2)), rtol=1e-5)


def test_what_has_no_order_has_no_correlation():
    equal, rising, judge = np.ones(4), np.arange(4.0), jax.jit(agreement)
    for of in ((equal, rising), (rising, equal)):
        found = judge(*of, np.ones(4, bool))
        assert np.isnan(found.kendall) and np.isnan(found.spearman) and np.isfinite(found.rmse)
    assert all(np.isnan(value) for value in judge(rising, rising, np.zeros(4, bool)))


def test_it_learns_a_sum_over_choices():
    """Of architectures that it never saw it predicts what they have within a tenth of their spread."""
    predictor, held_out = train(jax.random.key(0), PAIRS, MEASURED, EVERY)
    others = drawn(SPACE, 200, seed=1)
    truth, found = accuracy(others), np.asarray(predicted(predictor, others))
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.1 * np.std(truth)
    assert int(held_out.counts.sum()) == COUNT // 4
    told = jax.jit(agreement)(*held_out)
    assert float(told.rmse) < 0.1 * np.std(MEASURED) and float(told.kendall) > 0.9


def test_what_is_not_known_has_no_effect():
    known = np.arange(COUNT) % 3 > 0
    key = jax.random.key(2)
    predictor, held_out = train(key, PAIRS, np.where(known, MEASURED, 0.0), known)
    others = jax.tree.map(lambda of: np.where(known[:, None], of, 0), dict(PAIRS))
    chex.assert_trees_all_equal(train(key, others, np.where(known, MEASURED, 7.0), known)[0], predictor)
    measured = np.asarray(held_out.measured)[np.asarray(held_out.counts)]
    assert len(measured) == int(known.sum()) // 4
    assert set(measured.tolist()) <= set(MEASURED[known].tolist())


def test_what_is_held_out_is_only_looked_at():
    """Other accuracies of a quarter of the pairs change nothing, if it is this quarter that was held out."""
    distinct = np.float32(MEASURED + 1e-5 * np.arange(COUNT))  # so that a pair is known by its accuracy
    key = jax.random.key(3)
    predictor, held_out = train(key, PAIRS, distinct, EVERY)
    held = np.isin(distinct, held_out.measured)
    assert int(held.sum()) == COUNT // 4
    again, told = train(key, PAIRS, np.where(held, 0.0, distinct), EVERY)
    chex.assert_trees_all_equal(again, predictor)
    np.testing.assert_array_equal(told.measured, 0.0)
    np.testing.assert_array_equal(told.predicted, held_out.predicted)


def test_units_do_not_matter():
    """Accuracies in per cent, from any level, are predicted as those in fractions; rounding is learned from, too."""
    key = jax.random.key(4)
    one, other = (train(key, PAIRS, values, EVERY)[0] for values in (MEASURED, 100 * MEASURED + 20))
    expected = 100 * np.asarray(predicted(one, PAIRS)) + 20
    np.testing.assert_allclose(predicted(other, PAIRS), expected, atol=0.1)


def test_equal_accuracies_are_predicted_for_all():
    """Their deviation is 0, which divides nothing."""
    predictor, _ = train(jax.random.key(5), PAIRS, np.full(COUNT, np.float32(0.5)), EVERY)
    np.testing.assert_array_equal(predicted(predictor, PAIRS), 0.5)


def test_several_are_trained_at_once():
    keys = jax.random.split(jax.random.key(6), 2)
    short = jax.jit(functools.partial(train_predictor, SPACE, SETTINGS._replace(steps=5)))
    batched, _ = jax.device_get(jax.jit(jax.vmap(short, in_axes=(0, None, None, None)))(keys, PAIRS, MEASURED, EVERY))
    for number, key in enumerate(keys):
        alone = short(key, PAIRS, MEASURED, EVERY)[0]
        chex.assert_trees_all_close(jax.tree.map(lambda leaf, n=number: leaf[n], batched), alone, rtol=1e-3, atol=1e-5)


ELASTIC = {
    **{"stem": 4, "stem_stride": 1, "first": 0, "widths": (4, 8), "strides": (1, 2), "squeeze": (False, True)},
    **{"hard_swish": (False, True), "final": 8, "head": 8, "kernels": (3, 5), "expansions": (2.0, 3.0)},
    **{"depths": (1, 2, 3), "resolutions": (6, 8), "divisor": 2},
}


def test_choices_that_decide_nothing_are_not_seen():
    """Blocks beyond the depth of their stage may be anything."""
    plan = elastic_plan(**ELASTIC)
    space = elastic_space(plan)
    answer = jax.jit(lambda of: predict(untrained(space, SETTINGS, jax.random.key(0)), space, of))
    architectures, others = drawn(space, 20), drawn(space, 20, seed=1)
    absent = ~np.asarray(jax.jit(jax.vmap(functools.partial(running, plan)))(architectures))
    blocks = {part: np.where(absent, others[part], architectures[part]) for part in ("kernel", "expansion")}
    found, again = (answer(of) for of in (architectures, {**architectures, **blocks}))
    np.testing.assert_array_equal(found, again)
    assert len(np.unique(found)) > 10 and absent.any()


def other_elastic(**changed):
    return elastic_space(elastic_plan(**ELASTIC | changed))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (SPACE, "trained on the space 'toy', but is applied to 'elastic', which is another space; take"),
        (
            other_elastic(kernels=(3, 5, 7)),
            "on the space 'elastic', but is applied to 'elastic', whose part 'kernel' has 6 choices of 3, 5 instead of "
            "6 choices of 3, 5, 7; take the predictor of a search of this space",
        ),
        (other_elastic(depths=(1, 2)), "'kernel' has 6 choices of 3, 5 instead of 4 choices of 3, 5; take"),
        (other_elastic(resolutions=(8,)), "'resolution' has 1 choices of 6, 8 instead of 1 choices of 8; take"),
    ],
)
def test_a_predictor_knows_one_space(other, message):
    with pytest.raises(UserError, match=message):
        check_same_space(other, other_elastic())
    check_same_space(other, other)
