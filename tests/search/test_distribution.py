"""MDENAS's comparisons against a double loop."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.search.distribution import Tallies, dominance


def test_dominance_is_counted_over_all_pairs():
    """An option that was trained less than another and is better moves up by one, the other down by one."""
    rng = np.random.default_rng(0)
    trained = rng.integers(0, 4, (3, 5)).astype(np.float32)
    drawn = rng.integers(0, 3, (3, 5)).astype(np.float32)
    correct = drawn * rng.integers(0, 4, (3, 5)) / 4
    allowed = rng.random((3, 5)) < 0.8
    expected = np.zeros((3, 5))
    for choice in range(3):
        for i in range(5):
            for j in range(5):
                both = all(drawn[choice, n] > 0 and allowed[choice, n] for n in (i, j))
                if both and trained[choice, i] < trained[choice, j]:
                    better = correct[choice, i] / drawn[choice, i] > correct[choice, j] / drawn[choice, j]
                    expected[choice, i] += better
                    expected[choice, j] -= better
    tallies = jax.tree.map(jnp.asarray, Tallies({"cell": trained}, {"cell": drawn}, {"cell": correct}))
    np.testing.assert_array_equal(dominance(tallies, {"cell": jnp.asarray(allowed)})["cell"], expected)
    assert np.any(expected > 0) and np.any(expected < 0)
