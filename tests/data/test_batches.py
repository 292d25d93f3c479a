"""Data order is a pure function of (key, epoch, step), and every example is counted as often as it should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.data.batches import epoch_order, evaluation_rows, rows, split_rows, steps_per_epoch

KEY = jax.random.key(0)


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(10, 3, 3), (9, 3, 3), (5, 5, 1), (7, 1, 7), (500, 64, 7)])
def test_steps_per_epoch_drops_the_remainder(count, batch_size, steps):
    assert steps_per_epoch(count, batch_size) == steps


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (9, 3), (5, 5), (7, 1)])
def test_an_epoch_visits_every_row_at_most_once(count, batch_size):
    order = epoch_order(KEY, 4, count)
    assert order.dtype == jnp.int32 and sorted(order.tolist()) == list(range(count))
    steps = steps_per_epoch(count, batch_size)
    visited = [row for step in range(steps) for row in rows(order, step, batch_size).tolist()]
    assert len(visited) == len(set(visited)) == steps * batch_size
    assert visited == order[: steps * batch_size].tolist()


def test_the_order_of_an_epoch_depends_on_key_and_epoch_alone():
    first = {epoch: epoch_order(KEY, epoch, 20).tolist() for epoch in range(4)}
    again = {epoch: jax.jit(epoch_order, static_argnums=2)(KEY, epoch, 20).tolist() for epoch in reversed(range(4))}
    assert first == again
    assert len({tuple(order) for order in first.values()}) == 4
    assert epoch_order(jax.random.key(1), 0, 20).tolist() != first[0]


def test_batches_inside_a_scan_and_over_seeds():
    def epoch(key):
        order = epoch_order(key, 0, 11)
        return jax.lax.scan(lambda carry, step: (carry, rows(order, step, 4)), None, jnp.arange(2))[1]

    seeds = jax.random.split(KEY, 3)
    visited = jax.jit(jax.vmap(epoch))(seeds)
    assert visited.shape == (3, 2, 4)
    for key, batches in zip(seeds, visited, strict=True):
        assert batches.ravel().tolist() == epoch_order(key, 0, 11)[:8].tolist()


@pytest.mark.parametrize(("count", "batch_size", "steps"), [(10, 4, 3), (8, 4, 2), (3, 8, 1), (1, 1, 1)])
def test_evaluation_covers_every_example_exactly_once(count, batch_size, steps):
    index, mask = evaluation_rows(count, batch_size)
    assert index.shape == mask.shape == (steps, batch_size)
    assert index.dtype == jnp.int32 and mask.dtype == jnp.float32
    assert float(mask.sum()) == count and set(np.unique(mask)) <= {0.0, 1.0}
    assert index[mask == 1].tolist() == list(range(count))
    assert bool(jnp.all((index >= 0) & (index < count)))


@pytest.mark.parametrize(("count", "fraction", "first"), [(10, 0.5, 5), (11, 0.3, 3), (2, 0.5, 1), (1437, 0.5, 718)])
def test_split_is_a_fixed_partition(count, fraction, first):
    one, two = split_rows(KEY, count, fraction)
    assert len(one) == first and one.dtype == two.dtype == jnp.int32
    assert sorted(one.tolist() + two.tolist()) == list(range(count))
    again = split_rows(KEY, count, fraction)
    assert jnp.array_equal(one, again[0]) and jnp.array_equal(two, again[1])


def test_splits_of_two_keys_differ():
    assert split_rows(KEY, 40, 0.5)[0].tolist() != split_rows(jax.random.key(1), 40, 0.5)[0].tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: steps_per_epoch(10, 64), "batch_size 64 is larger than the 10 examples"),
        (lambda: steps_per_epoch(10, 0), "batch_size must be at least 1, not 0"),
        (lambda: evaluation_rows(10, -1), "batch_size must be at least 1, not -1"),
        (lambda: evaluation_rows(0, 4), "at least one example, not 0"),
        (lambda: split_rows(KEY, 10, 0.0), "into 0 and 10"),
        (lambda: split_rows(KEY, 10, 1.0), "into 10 and 0"),
        (lambda: split_rows(KEY, 10, 1.5), "into 15 and -5"),
        (lambda: split_rows(KEY, 1, 0.5), "into 0 and 1"),
    ],
)
def test_impossible_sizes_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
