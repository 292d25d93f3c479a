"""Evolution strategies on functions whose smoothed gradient is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.estimators.nes import nes, nes_gradients
from jaxnas.networks import sign_network
from jaxnas.networks.sign_tiles import tiled_loss

SIGMA = 0.3
MATRIX = jnp.asarray([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])
PARAMS = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}


def vector(tree):
    return jnp.concatenate([tree["a"], tree["b"][None]])


def quadratic(params):
    """½ wᵀMw + Σw: its gradient for the means is Mw + 1, and for the deviations σ · diag(M), exactly."""
    w = vector(params)
    return 0.5 * w @ MATRIX @ w + w.sum()


TRUE_MEAN = MATRIX @ vector(PARAMS) + 1
TRUE_SIGMA = SIGMA * jnp.diagonal(MATRIX)
UNBIASED = [
    {},
    {"antithetic": False, "baseline": "none"},
    {"antithetic": False, "baseline": "leave_one_out"},
    {"orthogonal": 3},
    {"orthogonal": 2, "antithetic": False, "baseline": "none"},
    {"control": {"a": jnp.asarray([1.0, 1.0]), "b": jnp.asarray(-1.0)}},
    {"antithetic": False, "baseline": "none", "control": {"a": jnp.asarray([1.0, 1.0]), "b": jnp.asarray(-1.0)}},
    {"sigma": {"a": jnp.asarray([SIGMA, SIGMA]), "b": jnp.asarray(SIGMA)}},
    {"chunk": 5},
]


def estimates(seeds=400, population=12, **settings):
    def one(key):
        found = nes_gradients(key, PARAMS, quadratic, **({"population": population, "sigma": SIGMA} | settings))
        return vector(found.mean), vector(found.sigma)

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), seeds))


def assert_mean(values, truth):
    """Within 4.5 standard errors of the mean, for six numbers at a time."""
    error = values.std(axis=0, ddof=1) / len(values) ** 0.5
    np.testing.assert_array_less(jnp.abs(values.mean(axis=0) - truth), 4.5 * error + 1e-5)


@pytest.mark.parametrize("settings", UNBIASED, ids=str)
def test_unbiased_for_means_and_deviations(settings):
    mean, sigma = estimates(**settings)
    assert_mean(mean, TRUE_MEAN)
    if settings.get("baseline", "none") != "mean" and not ({"control", "orthogonal"} & set(settings)):
        sigma = estimates(**(settings | {"baseline": settings.get("baseline", "none")}))[1]
        assert_mean(sigma, TRUE_SIGMA)


def test_the_mean_as_baseline_shrinks_by_one_part_in_the_population():
    mean, _ = estimates(antithetic=False, baseline="mean", population=4, seeds=4000)
    assert_mean(mean, 0.75 * TRUE_MEAN)


def gradient(params=PARAMS, loss=quadratic, seed=1, population=24, **settings):
    return nes_gradients(jax.random.key(seed), params, loss, population=population, sigma=SIGMA, **settings)


def assert_same(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("shaping", ["raw", "rank"])
@pytest.mark.parametrize("chunk", [2, 5, 24, 100])
def test_the_chunk_changes_nothing(chunk, shaping, antithetic):
    settings = {"shaping": shaping, "antithetic": antithetic}
    assert_same(gradient(**settings), gradient(**settings, chunk=chunk), rtol=2e-4, atol=2e-5)


def test_pairs_are_blind_to_even_functions_and_a_control_variate_is_exact_for_linear_ones():
    even = gradient(params=jax.tree.map(jnp.zeros_like, PARAMS), loss=lambda p: vector(p) @ MATRIX @ vector(p))
    np.testing.assert_allclose(vector(even.mean), 0, atol=1e-6)
    slope = {"a": jnp.asarray([3.0, -1.0]), "b": jnp.asarray(2.0)}
    linear = gradient(loss=lambda p: vector(p) @ vector(slope), control=slope)
    np.testing.assert_allclose(vector(linear.mean), vector(slope), rtol=1e-5)


def test_ranks_see_the_order_of_losses_only():
    def monotone(params):
        return jnp.exp(0.3 * quadratic(params)) - 5

    assert_same(gradient(shaping="rank").mean, gradient(shaping="rank", loss=monotone).mean, rtol=1e-5, atol=1e-6)


def test_natural_is_the_inverse_fisher_matrix_times_plain():
    plain, natural = gradient(), gradient(natural=True)
    np.testing.assert_allclose(vector(natural.mean), SIGMA**2 * vector(plain.mean), rtol=1e-5)
    np.testing.assert_allclose(vector(natural.sigma), SIGMA**2 / 2 * vector(plain.sigma), rtol=1e-5, atol=1e-7)


def test_a_shift_moves_the_point():
    shift = {"a": jnp.asarray([0.5, 0.0]), "b": jnp.asarray(1.0)}
    moved = jax.tree.map(jnp.add, PARAMS, shift)
    assert_same(gradient(shift=shift), gradient(params=moved), rtol=1e-4, atol=1e-5)


def test_a_subspace_holds_the_gradient_and_its_projection_is_estimated():
    span = (
        {"a": jnp.asarray([1.0, 1.0]), "b": jnp.asarray(0.0)},
        {"a": jnp.asarray([0.0, 1.0]), "b": jnp.asarray(2.0)},
    )
    basis = jnp.linalg.qr(jnp.stack([vector(one) for one in span], axis=1))[0]
    mean, _ = estimates(subspace=span)
    np.testing.assert_allclose(mean @ basis @ basis.T, mean, rtol=1e-4, atol=1e-5)
    assert_mean(mean @ basis, TRUE_MEAN @ basis)


def test_orthogonal_directions_need_as_many_pairs_as_parameters_for_a_linear_loss():
    """Three orthogonal pairs of unit length would give it exactly; the lengths' randomness is all that is left."""
    slope = jnp.asarray([3.0, -1.0, 2.0])
    spread = {
        number: jnp.std(
            jax.vmap(
                lambda key, number=number: vector(
                    nes_gradients(
                        key, PARAMS, lambda p: vector(p) @ slope, population=6, sigma=SIGMA, orthogonal=number
                    ).mean
                )
            )(jax.random.split(jax.random.key(3), 500))
        )
        for number in (0, 3)
    }
    assert spread[3] < spread[0]


def test_the_estimator_type():
    estimate = nes(population=8, sigma=SIGMA)(
        jax.random.key(1), PARAMS, jnp.zeros((), jnp.int32), lambda p: (quadratic(p), {"w": p["b"]})
    )
    assert_same(estimate.gradient, gradient(population=8).mean, rtol=1e-6)
    assert estimate.metrics["w"] == PARAMS["b"] and estimate.draw is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 5}, "population must be even, because antithetic samples come in pairs, not 5."),
        ({"population": 0}, "population must be at least 1, not 0."),
        ({"sigma": 0.0}, "sigma must be positive, not 0.0"),
        ({"sigma": jnp.nan}, "sigma must be positive, not nan"),
        ({"shaping": "ranks"}, "unknown shaping 'ranks'; did you mean 'rank'?"),
        ({"baseline": "median"}, "unknown baseline 'median'"),
        ({"population": 1, "antithetic": False, "baseline": "leave_one_out"}, "needs a population of at least 2"),
        ({"chunk": 0}, "chunk must be at least 1"),
    ],
)
def test_mistakes(settings, message):
    with pytest.raises(UserError) as caught:
        nes(**({"population": 4, "sigma": 0.1} | settings))
    assert message in str(caught.value)


@pytest.mark.parametrize("width", [3, 20])
@pytest.mark.parametrize("tile", [4, 7, 100])
def test_a_tiled_loss_is_the_loss(tile, width):
    params = sign_network.init(jax.random.key(0), (3, width, width, 2))
    x = jax.random.normal(jax.random.key(1), (20, 3))
    y = jax.random.normal(jax.random.key(2), (20, 2))
    np.testing.assert_allclose(tiled_loss(params, x, y, tile), sign_network.loss(params, x, y), rtol=1e-5)
