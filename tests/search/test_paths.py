"""Samplers of paths against enumeration, exact probabilities and counts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxnas.relax.categorical import EXCLUDED, masked
from jaxnas.search.paths import cost_uniform_paths, dropped_paths, fair_paths, uniform_paths
from jaxnas.spaces.cell import cell_space
from jaxnas.spaces.product import product_space

ALLOWED = {"kinds": np.asarray([[1, 1, 1], [1, 0, 1]], bool), "sizes": np.asarray([[1, 1]], bool)}
SPACE = product_space("toy", {"kinds": ("a", "b", "c"), "sizes": ("s", "t")}, {"kinds": 2, "sizes": 1}, allowed=ALLOWED)
DRAWS = 4000
SIGNIFICANCE = 1e-3  # seeds are fixed; a sampler that is wrong is off by far more


def logits_of(space, preference=3.0):
    """Logits that prefer some options strongly, which no sampler of paths may heed."""
    shapes = space.shapes.items()
    values = {part: preference * np.arange(np.prod(shape), dtype=np.float32).reshape(shape) for part, shape in shapes}
    return jax.jit(masked)(values, dict(space.allowed))


def draws(sampler, space, number=DRAWS, count=0):
    keys = jax.random.split(jax.random.key(0), number)
    return jax.jit(jax.vmap(lambda key: sampler(key, logits_of(space), jnp.asarray(count))))(keys)


def codes(architectures):
    return [
        tuple(row) for row in np.concatenate([np.asarray(rows) for rows in architectures.values()], axis=1).tolist()
    ]


def chi_square(found, expected):
    of = stats.chisquare([found.count(code) for code in expected], [len(found) * p for p in expected.values()])
    return float(of.pvalue)


@pytest.mark.parametrize(
    "space", [SPACE, cell_space(1, ("none", "skip_connect", "max_pool_3x3"))], ids=lambda s: s.name
)
def test_uniform_paths_draw_every_architecture_equally_often(space):
    """Chi-square over all that are valid; gates are one-hot and belong to the architecture."""
    drawn = draws(uniform_paths(space), space)
    ranges = (range(options) for choices, options in space.shapes.values() for _ in range(choices))
    found = codes(drawn.architecture)
    assert len(set(found)) == space.size
    assert set(found) <= set(itertools.product(*ranges))
    assert chi_square(found, dict.fromkeys(set(found), 1 / space.size)) > SIGNIFICANCE
    for part, gates in drawn.gates.items():
        np.testing.assert_array_equal(gates, np.eye(space.shapes[part][1])[drawn.architecture[part]])


def test_the_log_probability_of_a_path_is_that_of_the_product():
    drawn = draws(uniform_paths(SPACE), SPACE, 2)
    np.testing.assert_allclose(drawn.log_prob, -np.log(SPACE.size), rtol=1e-6)


def cost(gates):
    """0, 1, ..., 11 for the twelve architectures, in the order of their codes."""
    weights = {"kinds": jnp.asarray([[0.0, 4.0, 8.0], [0.0, 0.0, 2.0]]), "sizes": jnp.asarray([[0.0, 1.0]])}
    return sum(jnp.sum(weights[part] * gates[part]) for part in gates)


costs_of = jax.jit(jax.vmap(cost))


def test_costs_are_spread_evenly_over_the_bins():
    """Bins 0-2, 3-5, 6-8 and 9-11: each as often as the others, and uniform within."""
    drawn = draws(cost_uniform_paths(SPACE, cost, -0.5, 11.5, bins=4, tries=64), SPACE)
    costs = costs_of(drawn.gates).tolist()
    assert chi_square(costs, dict.fromkeys(range(12), 1 / 12)) > SIGNIFICANCE
    narrow = draws(cost_uniform_paths(SPACE, cost, -0.5, 4.5, bins=5, tries=64), SPACE)
    costs = costs_of(narrow.gates).tolist()
    assert chi_square(costs, dict.fromkeys(range(5), 1 / 5)) > SIGNIFICANCE


def test_bins_without_an_architecture_give_the_nearest():
    """Of 100 to 101, all draws are the dearest one; with one try, whatever is drawn."""
    drawn = draws(cost_uniform_paths(SPACE, cost, 100.0, 101.0, bins=2, tries=256), SPACE, 100)
    np.testing.assert_array_equal(costs_of(drawn.gates), 11.0)
    drawn = draws(cost_uniform_paths(SPACE, cost, 100.0, 101.0, bins=2, tries=1), SPACE)
    assert chi_square(codes(drawn.architecture), dict.fromkeys(set(codes(drawn.architecture)), 1 / 12)) > SIGNIFICANCE


@pytest.mark.parametrize(("count", "rate"), [(0, 0.0), (5, 0.3), (20, 0.6)])
def test_dropped_paths_keep_options_at_the_rate_of_the_step(count, rate):
    """P(kept) = 1 - p + p^k / k with p = r^(1/k): dropped unless it is the one that stays when all would go."""
    drawn = draws(dropped_paths(optax.linear_schedule(0.0, 0.6, 10)), SPACE, count=count)
    for part, mask in SPACE.allowed.items():
        gates, options = np.asarray(drawn.gates[part]), mask.sum(axis=1, keepdims=True)
        chance = rate ** (1 / options)
        kept = mask * (1 - chance + chance**options / options)
        error = np.sqrt(kept * (1 - kept) / DRAWS)
        np.testing.assert_array_less(np.abs((gates > 0).mean(axis=0) - kept), 4 * error + 1e-9)
        # Those kept have equal gates that sum to one, and the architecture is one of them.
        number = (gates > 0).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(gates, (gates > 0) / number, rtol=1e-6)
        assert np.all(np.take_along_axis(gates, np.asarray(drawn.architecture[part])[..., None], axis=-1) > 0)
    if rate:
        single = np.asarray(drawn.gates["kinds"])[:, 0].max(axis=-1) == 1  # all dropped but one, or all but one dropped
        chance = rate ** (1 / 3)
        expected = rate + 3 * chance**2 * (1 - chance)
        assert abs(single.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / DRAWS)


FAIR = jax.jit(fair_paths, static_argnums=0)
NOTHING = {part: np.zeros(shape, np.int32) for part, shape in SPACE.shapes.items()}


def test_three_fair_paths_are_a_permutation_for_every_choice():
    """All six permutations of a choice of three, equally often and independent of the other choices."""
    draw = jax.jit(jax.vmap(functools.partial(fair_paths, 3), (0, None, None)))
    gates = jax.device_get(draw(jax.random.split(jax.random.key(0), DRAWS), logits_of(SPACE), NOTHING))
    orders = [tuple(row) for row in np.argmax(gates["kinds"][:, :, 0], axis=-1).tolist()]
    permutations = list(itertools.permutations(range(3)))
    assert chi_square(orders, dict.fromkeys(permutations, 1 / 6)) > SIGNIFICANCE
    second = [tuple(row) for row in np.argmax(gates["kinds"][:, :, 1], axis=-1).tolist()]
    six = [(0, 0, 2), (0, 2, 0), (2, 0, 0), (0, 2, 2), (2, 0, 2), (2, 2, 0)]  # two options for three paths
    joint = dict.fromkeys(itertools.product(permutations, six), 1 / 36)
    assert chi_square(list(zip(orders, second, strict=True)), joint) > SIGNIFICANCE


@pytest.mark.parametrize("paths", [1, 2, 3, 6, 7])
def test_counts_are_equal_or_differ_by_one_after_every_step(paths):
    """Equal whenever the options divide all uses so far; what is not allowed is never trained."""
    trained, logits = NOTHING, logits_of(SPACE)
    for step in range(1, 9):
        gates = jax.device_get(FAIR(paths, jax.random.key(step), logits, trained))
        trained = {part: trained[part] + np.sum(gates[part], axis=0).astype(np.int32) for part in trained}
        for part, counts in trained.items():
            np.testing.assert_array_equal(np.sum(gates[part], axis=-1), 1.0)
            for row, may in zip(counts, SPACE.allowed[part], strict=True):
                assert row.sum() == paths * step
                assert np.all(row[~may] == 0)
                assert np.ptp(row[may]) == (0 if paths * step % may.sum() == 0 else 1)


def test_what_was_trained_least_comes_first():
    """Options that fell behind are caught up with before any other is trained."""
    trained = {**NOTHING, "kinds": np.asarray([[5, 3, 4], [0, 0, 2]], np.int32)}
    gates = FAIR(3, jax.random.key(0), logits_of(SPACE), trained)
    after = trained["kinds"] + np.sum(jax.device_get(gates["kinds"]), axis=0)
    np.testing.assert_array_equal(after[0], [5, 5, 5])
    assert after[1].tolist() in ([3, 0, 2], [2, 0, 3])  # the third use may be of either


def test_masks_of_the_logits_are_heeded():
    """An option that the search has dropped is drawn by none of them."""
    values = logits_of(SPACE) | {"sizes": np.asarray([[0.0, EXCLUDED]], np.float32)}
    samplers = (
        uniform_paths(SPACE),
        cost_uniform_paths(SPACE, cost, 0.0, 11.0, bins=2, tries=4),
        dropped_paths(optax.constant_schedule(0.5)),
    )

    def drawn(key):
        return [*(sampler(key, values, 0).gates for sampler in samplers), fair_paths(2, key, values, NOTHING)]

    for gates in jax.jit(jax.vmap(drawn))(jax.random.split(jax.random.key(0), 8)):
        assert np.all(np.asarray(gates["sizes"])[..., 1] == 0)
