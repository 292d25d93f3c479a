"""Rank correlation against closed forms, and judging with shared weights against judging one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.types import Network
from jaxnas.data.augment import Augmentation
from jaxnas.evaluate.ranking import kendall_interval, random_architectures, rank_correlation, shared_weights
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.methods import METHODS, Setup, Weights
from jaxnas.search.monitor import begin_watch, sound
from jaxnas.spaces.product import product_space

SPACE = product_space("toy", {"a": tuple("012"), "b": tuple("01")}, {"a": 2, "b": 1})  # 18 architectures
WEIGHTS = Weights(0.1, 0.01, 0.9, 0.0, 5.0)


@pytest.mark.parametrize(
    ("judged", "true", "kendall", "spearman"),
    [
        ((1, 2, 3, 4), (10, 20, 30, 40), 1.0, 1.0),
        ((1, 2, 3, 4), (4, 3, 2, 1), -1.0, -1.0),
        ((1, 2, 3), (1, 3, 2), 1 / 3, 0.5),  # two pairs of three in order; 1 - 6 · 2 / (3 · 8)
        ((2, 1, 3, 4), (1, 2, 3, 4), 2 / 3, 0.8),  # five pairs of six in order; 1 - 6 · 2 / (4 · 15)
        ((1, 2, 99, 3), (10, 20, np.nan, 30), 1.0, 1.0),  # one is not known
        ((1, 1, 2), (1, 2, 3), 2 / np.sqrt(6), np.sqrt(3) / 2),  # a tie: τ-b and mean ranks
    ],
)
def test_correlations_have_their_closed_forms(judged, true, kendall, spearman):
    found = rank_correlation(np.asarray(judged, float), np.asarray(true, float))
    assert found["count"] == np.sum(~np.isnan(true))
    assert found["kendall"] == pytest.approx(kendall, abs=1e-12)
    assert found["spearman"] == pytest.approx(spearman, abs=1e-12)


@pytest.mark.parametrize(
    ("judged", "true", "count"),
    [((1, 1, 1), (1, 2, 3), 3), ((1, 2, 3), (5, 5, 5), 3), ((1, 2), (1, np.nan), 1), ((), (), 0)],
)
def test_there_is_no_order_of_equals(judged, true, count):
    found = rank_correlation(np.asarray(judged, float), np.asarray(true, float))
    assert np.isnan([found["kendall"], found["spearman"]]).all() and found["count"] == count


def test_correlations_do_not_change_with_the_scale():
    draws = np.random.default_rng(0)
    judged, true = draws.normal(size=20), draws.normal(size=20)
    found = rank_correlation(judged, true)
    again = rank_correlation(np.exp(judged), 100 * true - 3)
    assert found["kendall"] == again["kendall"]
    # Spearman's is a sum of squares of ranks, Kendall's a count: they agree up to rounding only.
    assert found["spearman"] == pytest.approx(again["spearman"], abs=1e-12)


def test_the_interval_holds_the_correlation_and_narrows_with_more_architectures():
    draws = np.random.default_rng(1)

    def interval(count):
        true = draws.normal(size=count)
        judged = true + draws.normal(size=(2, count))  # two searches with independent noise of the same size
        low, high = kendall_interval(judged, true)
        mean = np.mean([rank_correlation(one, true)["kendall"] for one in judged])
        assert low < mean < high
        return high - low

    # The width falls with the root of the count: by 3 from 20 to 180, give or take a third of a random width.
    assert 2 < interval(20) / interval(180) < 4.5


@pytest.mark.parametrize(
    ("judged", "true", "low", "high"),
    [
        ([range(12)], range(12), 1.0, 1.0),
        ([range(12), range(12)[::-1]], range(12), 0.0, 0.0),  # the mean of 1 and -1, however resampled
        ([range(2)], range(2), np.nan, np.nan),
        ([[1, 2, 3]], [1, 2, np.nan], np.nan, np.nan),
    ],
)
def test_intervals_without_spread(judged, true, low, high):
    found = kendall_interval(np.asarray(judged, float), np.asarray(true, float), resamples=50)
    np.testing.assert_allclose(found, (low, high), atol=1e-12)


@pytest.mark.parametrize(("count", "found"), [(1, 1), (10, 10), (18, 18), (50, 18)])
def test_random_architectures_are_different(count, found):
    drawn = random_architectures(SPACE, jax.random.key(0), count)
    assert {part: rows.shape for part, rows in drawn.items()} == {"a": (found, 2), "b": (found, 1)}
    assert len(np.unique(np.concatenate([drawn["a"], drawn["b"]], axis=1), axis=0)) == found
    again = random_architectures(SPACE, jax.random.key(0), count)
    assert all(np.array_equal(drawn[part], again[part]) for part in drawn)


def make_method():
    """MDENAS on a supernet of one matrix: the right class is found by architectures whose first options are 2."""

    def apply(params, gates, images, noise=None):
        strength = gates["a"][:, 2].sum() - 1.0
        return params["kernel"] * strength * jnp.stack([images.sum((1, 2, 3)), -images.sum((1, 2, 3))], axis=-1)

    network = Network(
        init=lambda key: {"kernel": jnp.ones(())},
        apply=apply,
        active=lambda gates: {"kernel": jnp.asarray(True)},
    )
    setup = Setup(SPACE, lambda *, paths=None: network, steps_per_epoch=2, epochs=2)
    return METHODS["mdenas"](setup, WEIGHTS, distribution_learning_rate=0.1, warmup_epochs=0)


def make_data(count=10):
    labels = jnp.arange(count, dtype=jnp.int32) % 2
    return TrainingData(jnp.where(labels == 0, 255, 0).astype(jnp.uint8)[:, None, None, None], labels)


@pytest.mark.parametrize("batch_size", [10, 4, 3])
def test_shared_weights_judge_every_architecture_by_itself(batch_size):
    method, data = make_method(), make_data()
    state = method.init(jax.random.key(0))
    state = sound(begin_watch(state, method.derive(state)))
    augmentation = Augmentation(0, False, 0, (0.5,), (0.5,))
    judge = shared_weights(method, data, batch_size=batch_size, augmentation=augmentation)
    architectures = random_architectures(SPACE, jax.random.key(0), 18)
    found = np.asarray(judge(state, architectures))
    twos = np.sum(np.asarray(architectures["a"]) == 2, axis=1)
    # Both logits are 0 with one option 2, and the first class is taken; with none all answers are wrong.
    np.testing.assert_allclose(found, np.select([twos == 2, twos == 1], [1.0, 0.5], 0.0), atol=1e-6)
    one = functools.partial(judge, state)({part: rows[3:4] for part, rows in architectures.items()})
    np.testing.assert_array_equal(one, found[3:4])
    assert rank_correlation(found, twos.astype(float))["kendall"] == 1.0


def test_architectures_are_judged_one_after_another():
    calls = []

    def child(state, architecture, images):
        def branch(number):
            jax.debug.callback(lambda: calls.append(number))
            return jnp.zeros((len(images), 2))

        branches = [functools.partial(branch, number) for number in range(3)]
        return jax.lax.switch(architecture["a"][0], branches)

    method = make_method()._replace(child=child)
    judge = shared_weights(method, make_data(), batch_size=5, augmentation=Augmentation(0, False, 0, (0.5,), (0.5,)))
    architectures = random_architectures(SPACE, jax.random.key(0), 7)
    jax.block_until_ready(judge(method.init(jax.random.key(0)), architectures))
    jax.effects_barrier()
    # Two batches each, and only the branch that was chosen: batched, all three would run.
    assert sorted(calls) == sorted(2 * np.asarray(architectures["a"])[:, 0].tolist())


def test_a_method_without_shared_weights_cannot_judge():
    setup = Setup(SPACE, lambda *, paths=None: Network(lambda key: {}, lambda *a: None, lambda gates: {}), 2, 2)
    method = METHODS["random"](setup, WEIGHTS, candidates=1)
    with pytest.raises(ValueError, match="no weights for its architectures"):
        shared_weights(method, make_data(), batch_size=5, augmentation=Augmentation(0, False, 0, (0.5,), (0.5,)))
