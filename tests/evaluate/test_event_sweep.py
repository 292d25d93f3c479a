import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.evaluate.lab import event_sweep, flips
from jaxnas.evaluate.lab.event_sweep import naive_sweep, sweep
from jaxnas.networks import sign_network


def problem(widths, bias=True, batch=20, seed=0):
    """Float64 params, direction, x and y, all at random."""
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(seed), 4)
        params, direction = (
            jax.tree.map(lambda leaf: leaf.astype(jnp.float64), sign_network.init(key, widths, bias))
            for key in keys[:2]
        )
        x, y = (
            jax.random.normal(key, (batch, width)) for key, width in zip(keys[2:], (widths[0], widths[-1]), strict=True)
        )
        return params, direction, x, y


def numpy_loss(params, direction, x, y, rate):
    """Brute force in NumPy, independent of the package."""
    hidden = np.asarray(x, np.float64)
    for number, (layer, step) in enumerate(zip(params, direction, strict=True)):
        moved = {
            name: np.asarray(layer[name], np.float64) - rate * np.asarray(step[name], np.float64) for name in layer
        }
        hidden = hidden @ moved["kernel"] + moved.get("bias", 0.0)
        hidden = np.where(hidden >= 0, 1.0, -1.0) if number < len(params) - 1 else hidden
    return np.mean((hidden - np.asarray(y, np.float64).reshape(hidden.shape)) ** 2)


GRIDS = {
    "uniform": np.linspace(0.002, 2.0, 700),
    "geometric": np.geomspace(1e-6, 3.0, 300),
    "random": np.sort(np.random.default_rng(0).uniform(0.0, 5.0, 200)),
    "clustered": np.concatenate([0.3 + np.arange(1, 200) * 1e-9, [0.7, 40.0]]),
    "one": np.array([0.9]),
}
NETWORKS = [
    ((3, 1), True),
    ((3, 2), False),
    ((2, 1, 1), True),
    ((4, 5, 1), True),
    ((4, 5, 3), False),
    ((3, 6, 4, 1), True),
    ((3, 6, 4, 2), False),
    ((2, 4, 5, 3, 2), True),
]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("widths", "bias"), NETWORKS)
def test_losses_equal_brute_force(widths, bias, grid):
    with jax.enable_x64(True):
        arguments = problem(widths, bias)
        brute = [numpy_loss(*arguments, rate) for rate in GRIDS[grid]]
        np.testing.assert_allclose(sweep(*arguments, GRIDS[grid]).losses, brute, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize(("widths", "bias"), NETWORKS[3:6])
def test_naive_sweep_equals_brute_force(widths, bias, chunk):
    with jax.enable_x64(True):
        arguments = problem(widths, bias)
        brute = [numpy_loss(*arguments, rate) for rate in GRIDS["random"][:30]]
        losses = naive_sweep(*arguments, jnp.asarray(GRIDS["random"][:30]), chunk=chunk)
        assert losses.dtype == jnp.float64
        np.testing.assert_allclose(losses, brute, rtol=0, atol=1e-12)


def test_float32_values_and_targets_of_rank_one_are_taken_exactly():
    params, direction, x, y = problem((3, 4, 1))
    params, direction, x, y = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, direction, x, y[:, 0]))
    brute = [numpy_loss(params, direction, x, y, rate) for rate in GRIDS["uniform"]]
    np.testing.assert_allclose(sweep(params, direction, x, y, GRIDS["uniform"]).losses, brute, rtol=0, atol=1e-10)


def test_a_batch_of_many_blocks_is_the_mean_of_its_parts(monkeypatch):
    with jax.enable_x64(True):
        params, direction, x, y = problem((3, 5, 4, 1), batch=23)
        whole = sweep(params, direction, x, y, GRIDS["uniform"])
        monkeypatch.setattr(event_sweep, "ROWS", 3)
        monkeypatch.setattr(event_sweep, "BLOCK", 6)
        cut = sweep(params, direction, x, y, GRIDS["uniform"])
        np.testing.assert_allclose(cut.losses, whole.losses, rtol=0, atol=1e-13)
        assert cut[1:] == pytest.approx(whole[1:], abs=1e-11)
        parts = [sweep(params, direction, x[some], y[some], GRIDS["uniform"]) for some in (slice(7), slice(7, 23))]
        np.testing.assert_allclose((7 * parts[0].losses + 16 * parts[1].losses) / 23, whole.losses, rtol=0, atol=1e-13)


def piece_minimum(arguments, high):
    """The infimum over [0, high], by the three points that determine the quadratic between neighbouring jumps.

    The jumps of a network with one hidden layer are where its first pre-activations are zero.
    """
    params, direction, x, _ = (jax.tree.map(np.asarray, part) for part in arguments)
    zeros = np.ravel((x @ params[0]["kernel"]) / (x @ direction[0]["kernel"]))
    ends = np.concatenate([[0.0], np.sort(zeros[(zeros > 0) & (zeros < high)]), [high]])
    lowest = np.inf
    for low, end in itertools.pairwise(ends):
        points = np.array([0.999 * low + 0.001 * end, (low + end) / 2, 0.001 * low + 0.999 * end])
        quadratic = np.polynomial.Polynomial.fit(points, [numpy_loss(*arguments, rate) for rate in points], 2)
        candidates = [low, end, *(root.real for root in quadratic.deriv().roots() if low < root.real < end)]
        lowest = min(lowest, *quadratic(np.array(candidates)))
    return lowest


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("uniform", "collect"), [(4096, 10**6), (1, 10**6), (3, 5), (1, 0), (64, 0)])
def test_best_rate_is_the_minimiser_of_all_pieces(seed, uniform, collect, monkeypatch):
    monkeypatch.setattr(event_sweep, "UNIFORM", uniform)
    monkeypatch.setattr(event_sweep, "COLLECT", collect)
    monkeypatch.setattr(event_sweep, "BLOCK", 7)
    monkeypatch.setattr(event_sweep, "ROWS", 7)
    with jax.enable_x64(True):
        arguments = problem((2, 3, 2), bias=False, batch=12, seed=seed)
        found = sweep(*arguments, [0.4, 1.7])
        assert found.best_loss == pytest.approx(piece_minimum(arguments, 1.7), abs=1e-9)
        assert numpy_loss(*arguments, found.best_rate) == pytest.approx(found.best_loss, abs=1e-10)


@pytest.mark.parametrize("rates", [[0.05, 1.5], np.linspace(0.001, 1.5, 1000)], ids=["coarse", "fine"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("widths", "bias"), [((3, 1), True), ((3, 6, 1), True), ((3, 5, 4, 2), True)])
def test_no_rate_of_a_fine_grid_is_better_than_the_best(widths, bias, seed, rates):
    with jax.enable_x64(True):
        arguments = problem(widths, bias, seed=seed)
        found = sweep(*arguments, rates)
        fine = naive_sweep(*arguments, jnp.linspace(0, 1.5, 30_011), chunk=64)
        assert 0 <= found.best_rate <= 1.5
        assert found.best_loss <= fine.min() + 1e-12
        assert numpy_loss(*arguments, found.best_rate) == pytest.approx(found.best_loss, abs=1e-10)


def test_one_example_whose_flips_are_known():
    """Output sign(1 - rate) - sign(rate - 2), target -1: loss 9, then 1 between the flips at 1 and 2, and 1 after."""
    params = ({"kernel": np.array([[1.0, -2.0]])}, {"kernel": np.array([[1.0], [-1.0]])})
    direction = ({"kernel": np.array([[1.0, -1.0]])}, {"kernel": np.zeros((2, 1))})
    found = sweep(params, direction, np.ones((1, 1)), np.array([-1.0]), [0.5, 0.999, 1.001, 1.999, 2.001, 9.0])
    np.testing.assert_allclose(found.losses, [9, 9, 1, 1, 1, 1])
    assert found.best_loss == 1.0
    assert 1.0 < found.best_rate <= 9.0


def test_nothing_changes_along_a_direction_of_zeros():
    with jax.enable_x64(True):
        params, direction, x, y = problem((3, 4, 2))
        zero = jax.tree.map(jnp.zeros_like, direction)
        found = sweep(params, zero, x, y, GRIDS["geometric"])
        loss = numpy_loss(params, zero, x, y, 0.0)
        np.testing.assert_allclose(found.losses, loss, rtol=0, atol=1e-13)
        assert found[1:] == (0.0, pytest.approx(loss, abs=1e-13))


def test_duplicated_units_make_no_rates_that_only_rounding_has():
    """Two equal units whose outputs cancel leave the loss that of the others, also where both flip."""
    with jax.enable_x64(True):
        params, direction, x, y = (jax.tree.map(np.array, part) for part in problem((3, 4, 1)))
        for tree, sign in ((params, -1.0), (direction, -1.0)):
            for name in ("kernel", "bias"):
                tree[0][name][..., 1] = tree[0][name][..., 0]
            tree[1]["kernel"][1] = sign * tree[1]["kernel"][0]
        found = sweep(params, direction, x, y, [2.0])
        keep = np.array([2, 3])
        fewer, along = (
            ({name: tree[0][name][..., keep] for name in tree[0]}, {**tree[1], "kernel": tree[1]["kernel"][keep]})
            for tree in (params, direction)
        )
        assert found.best_loss == pytest.approx(sweep(fewer, along, x, y, [2.0]).best_loss, abs=1e-10)


def test_a_zero_pre_activation_is_positive_at_the_start():
    params = ({"kernel": np.zeros((1, 1))}, {"kernel": np.ones((1, 1))})
    direction = ({"kernel": np.ones((1, 1))}, {"kernel": np.zeros((1, 1))})
    found = sweep(params, direction, np.ones((1, 1)), np.array([1.0]), [0.5])
    np.testing.assert_allclose(found.losses, [4.0])
    assert found[1:] == (0.0, 0.0)


def test_placement_equals_a_search():
    edges = np.unique(np.concatenate(list(GRIDS.values())))
    values = np.concatenate([edges, edges * (1 - 1e-15), np.random.default_rng(0).uniform(0, edges[-1], 5000), [0.0]])
    np.testing.assert_array_equal(event_sweep._placement(edges)(values), np.searchsorted(edges, values))


def test_flips_are_sorted_by_example_and_rate():
    generator = np.random.default_rng(0)
    rows, rates = generator.integers(0, flips.ROWS, 500), generator.uniform(1.0, 3.0, 500)
    found = flips._sorted(
        [flips._Flips(rows[some], rates[some], np.arange(500)[some]) for some in (slice(9), slice(9, None))], 1.0, 3.0
    )
    np.testing.assert_array_equal(found.codes, np.lexsort((rates, rows)))


BAD_RATES = [[], 0.1, [[0.1]], [0.1, 0.1], [0.2, 0.1], [0.0, 0.1], [-0.1, 0.1], [0.1, np.nan], [0.1, np.inf]]


@pytest.mark.parametrize("rates", BAD_RATES, ids=str)
def test_bad_rates_are_named(rates):
    with pytest.raises(UserError, match=r"^rates must be .*\.$"):
        sweep(*problem((2, 3, 1)), rates)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda direction: direction[:1], r"^direction must be shaped as params"),
        (lambda direction: problem((2, 4, 1))[1], r"^direction must be shaped as params"),
        (lambda direction: problem((2, 3, 1), bias=False)[1], r"^direction must be shaped as params"),
        (
            lambda direction: jax.tree.map(lambda leaf: np.asarray(leaf) * np.nan, direction),
            r"^direction holds numbers",
        ),
    ],
)
def test_bad_directions_are_named(spoil, message):
    params, direction, x, y = problem((2, 3, 1))
    with pytest.raises(UserError, match=message):
        sweep(params, spoil(direction), x, y, [0.1])


def test_bad_data_are_named():
    params, direction, x, y = problem((2, 3, 1))
    with pytest.raises(UserError, match=r"^x must be \[batch, 2\]"):
        sweep(params, direction, x[:, :1], y, [0.1])
