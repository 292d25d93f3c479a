"""Evolution strategies on functions whose smoothed gradient is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.estimators.nes import nes, nes_gradients
from jaxnas.estimators.nes_noise import draw, span

SIGMA = 0.3
MATRIX = np.asarray([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]], np.float32)
PARAMS = {"a": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}
SLOPE = {"a": jnp.asarray([3.0, -1.0]), "b": jnp.asarray(2.0)}
SPAN = (
    {"a": jnp.asarray([1.0, 1.0]), "b": jnp.asarray(0.0)},
    {"a": jnp.asarray([0.0, 10.0]), "b": jnp.asarray(20.0)},
)
PAIRS = {"antithetic": True}
SINGLES = {"antithetic": False}


def vector(tree):
    return jnp.concatenate([tree["a"], tree["b"][None]])


def tree(vector):
    return {"a": vector[:2], "b": vector[2]}


def quadratic(params):
    """½ wᵀMw + Σw: its gradient for the means is Mw + 1, and for the deviations σ · diag(M), exactly."""
    w = vector(params)
    return 0.5 * w @ MATRIX @ w + w.sum()


def linear(params):
    return vector(params) @ vector(SLOPE)


TRUE_MEAN = MATRIX @ np.asarray(vector(PARAMS)) + 1
TRUE_SIGMA = SIGMA * np.diagonal(MATRIX)
TRUE_LOSS = np.asarray(quadratic(PARAMS)) + SIGMA**2 / 2 * np.trace(MATRIX)


def gradient(params=PARAMS, loss=quadratic, seed=1, population=24, **settings):
    """In one program: called as it is, the estimator compiles each of its operations by itself."""
    settings = {"sigma": SIGMA, "population": population} | settings
    return jax.jit(lambda params: nes_gradients(jax.random.key(seed), params, loss, **settings))(params)


def estimates(seeds=400, population=12, **settings):
    """Losses [seeds] and gradients for means and deviations [seeds, 3] of many keys."""

    def one(key):
        found = nes_gradients(key, PARAMS, quadratic, **({"population": population, "sigma": SIGMA} | settings))
        return found.loss, vector(found.mean), None if found.sigma is None else vector(found.sigma)

    return jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), seeds)))


def assert_mean(values, truth):
    """Within 4.5 standard errors of the mean."""
    error = values.std(axis=0, ddof=1) / len(values) ** 0.5
    np.testing.assert_array_less(np.abs(values.mean(axis=0) - truth), 4.5 * error + 1e-5)


def assert_same(first, second, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), first, second)


@pytest.mark.parametrize(
    "settings",
    [
        PAIRS | {"baseline": "none"},
        SINGLES | {"baseline": "none", "chunk": 5},
        SINGLES | {"baseline": "leave_one_out"},
        PAIRS | {"baseline": "leave_one_out", "chunk": 4},
        PAIRS | {"baseline": "leave_one_out", "orthogonal": 3},
        SINGLES | {"baseline": "leave_one_out", "orthogonal": 2},
        SINGLES | {"baseline": "leave_one_out", "orthogonal": 3, "population": 7},
        SINGLES | {"baseline": "leave_one_out", "control": SLOPE},
        PAIRS | {"baseline": "none", "sigma": {"a": jnp.full(2, SIGMA), "b": SIGMA}},
    ],
    ids=str,
)
def test_unbiased_for_means_deviations_and_the_loss(settings):
    loss, mean, sigma = estimates(**settings)
    assert_mean(mean, TRUE_MEAN)
    assert_mean(sigma, TRUE_SIGMA)
    assert_mean(loss, TRUE_LOSS)


def test_the_mean_as_baseline_shrinks_by_one_part_in_the_population():
    _, mean, sigma = estimates(**SINGLES, baseline="mean", population=4, seeds=4000)
    assert_mean(mean, 0.75 * TRUE_MEAN)
    assert_mean(sigma, 0.75 * TRUE_SIGMA)


def test_deviations_may_differ_between_parameters():
    sigma = {"a": jnp.asarray([0.1, 0.3]), "b": 0.5}
    _, mean, spread = estimates(sigma=sigma, baseline="leave_one_out", seeds=1000)
    assert_mean(mean, TRUE_MEAN)
    assert_mean(spread, np.asarray([0.1, 0.3, 0.5]) * np.diagonal(MATRIX))


def test_the_formula_by_hand():
    """Noise from the keys of the numbers; a plain mean of loss · ε / σ and of loss · (ε² - 1) / σ."""
    key = jax.random.key(1)
    draws = jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), (3,)))
    noise = np.asarray(jax.jit(draws)(np.arange(4)))
    losses = np.asarray(jax.jit(jax.vmap(lambda one: quadratic(tree(vector(PARAMS) + SIGMA * one))))(noise))
    found = gradient(population=4, **SINGLES, baseline="none")
    np.testing.assert_allclose(vector(found.mean), losses @ noise / (4 * SIGMA), rtol=1e-4)
    np.testing.assert_allclose(vector(found.sigma), losses @ (noise**2 - 1) / (4 * SIGMA), rtol=1e-4, atol=1e-5)
    others = (losses.sum() - losses) / 3
    found = gradient(population=4, **SINGLES, baseline="leave_one_out")
    np.testing.assert_allclose(vector(found.mean), (losses - others) @ noise / (4 * SIGMA), rtol=1e-4)
    ranks = np.argsort(np.argsort(losses)) / 3 - 0.5
    found = gradient(population=4, **SINGLES, shaping="rank", baseline="none")
    np.testing.assert_allclose(vector(found.mean), ranks @ noise / (4 * SIGMA), rtol=1e-4)
    np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        PAIRS,
        SINGLES | {"baseline": "leave_one_out"},
        PAIRS | {"shaping": "rank"},
        SINGLES | {"orthogonal": 3, "subspace": SPAN},
    ],
    ids=str,
)
@pytest.mark.parametrize("chunk", [2, 5, 100])
def test_the_chunk_changes_nothing(chunk, settings):
    assert_same(gradient(**settings), gradient(**settings, chunk=chunk), rtol=2e-4, atol=2e-5)


def test_pairs_are_blind_to_even_functions():
    even = gradient(params=jax.tree.map(jnp.zeros_like, PARAMS), loss=lambda p: vector(p) @ MATRIX @ vector(p))
    np.testing.assert_allclose(vector(even.mean), 0, atol=1e-6)
    assert float(jnp.abs(vector(even.sigma)).min()) > 0


def test_pairs_are_blind_to_constants_and_their_deviations_to_odd_functions():
    first = gradient(loss=linear, baseline="none")
    np.testing.assert_allclose(vector(gradient(loss=lambda p: linear(p) + 7).mean), vector(first.mean), rtol=1e-4)
    centred = gradient(loss=lambda p: linear(p) - linear(PARAMS), baseline="none")
    np.testing.assert_allclose(vector(centred.sigma), 0, atol=1e-5)


@pytest.mark.parametrize("settings", [PAIRS, SINGLES | {"baseline": "leave_one_out"}, PAIRS | {"orthogonal": 2}])
def test_a_control_variate_is_exact_for_a_linear_loss(settings):
    np.testing.assert_allclose(vector(gradient(loss=linear, control=SLOPE, **settings).mean), vector(SLOPE), rtol=1e-4)
    doubled = gradient(loss=linear, control=SLOPE, natural=True, **settings)
    np.testing.assert_allclose(vector(doubled.mean), SIGMA**2 * vector(SLOPE), rtol=1e-4)


def test_ranks_see_the_order_of_losses_only():
    def monotone(params):
        return jnp.exp(0.3 * quadratic(params)) - 5

    first, second = gradient(shaping="rank"), gradient(shaping="rank", loss=monotone)
    assert_same((first.mean, first.sigma), (second.mean, second.sigma), rtol=1e-5, atol=1e-6)


def test_equal_losses_have_equal_ranks():
    flat = gradient(shaping="rank", loss=lambda p: 0 * p["b"] + 3.0, **SINGLES)
    np.testing.assert_allclose(vector(flat.mean), 0, atol=1e-7)
    np.testing.assert_allclose(flat.loss, 3.0)


def test_natural_is_the_inverse_fisher_matrix_times_plain():
    plain, natural = gradient(), gradient(natural=True)
    np.testing.assert_allclose(vector(natural.mean), SIGMA**2 * vector(plain.mean), rtol=1e-5)
    np.testing.assert_allclose(vector(natural.sigma), SIGMA**2 / 2 * vector(plain.sigma), rtol=1e-5, atol=1e-7)


def test_a_shift_moves_the_point():
    shift = {"a": jnp.asarray([0.5, 0.0]), "b": jnp.asarray(1.0)}
    moved = jax.tree.map(jnp.add, PARAMS, shift)
    assert_same(gradient(shift=shift), gradient(params=moved), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"control": SLOPE}, {"orthogonal": 2}], ids=str)
def test_a_subspace_holds_the_gradient_and_its_projection_is_estimated(settings):
    basis = np.linalg.qr(np.stack([vector(one) for one in SPAN], axis=1))[0]
    _, mean, sigma = estimates(subspace=SPAN, **settings)
    np.testing.assert_allclose(mean @ basis @ basis.T, mean, rtol=1e-4, atol=1e-4)
    assert_mean(mean @ basis, TRUE_MEAN @ basis)
    assert sigma is None


@pytest.mark.parametrize("scale", [-3.0, 0.0])
def test_dependent_directions_span_no_more_than_one_of_them(scale):
    first = SPAN[0]
    found = gradient(subspace=(first, jax.tree.map(lambda leaf: scale * leaf, first)), population=200).mean
    unit = vector(first) / jnp.linalg.norm(vector(first))
    np.testing.assert_allclose(unit * (unit @ vector(found)), vector(found), atol=1e-4)
    assert abs(unit @ vector(found)) > 0.1


def test_a_basis_is_orthonormal_also_for_more_directions_than_parameters():
    directions = [tree(one) for one in np.random.default_rng(0).standard_normal((5, 3), np.float32)]
    basis = np.asarray(jax.jit(span)(directions))
    assert basis.shape == (3, 5)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-5)


def test_orthogonal_directions_are_orthogonal_and_as_long_as_independent_ones():
    key, like, numbers = jax.random.key(0), jnp.zeros(5), jnp.arange(3, 7)
    compiled = jax.jit(draw, static_argnums=3)
    free, orthogonal = (np.asarray(compiled(key, numbers, like, flag)) for flag in (False, True))
    products = orthogonal @ orthogonal.T
    np.testing.assert_allclose(products, np.diag(np.diagonal(products)), atol=1e-5)
    np.testing.assert_allclose(np.diagonal(products), (free**2).sum(axis=1), rtol=1e-5)


def test_every_orthogonal_direction_is_standard_gaussian():
    draws = jax.jit(jax.vmap(lambda key: draw(key, jnp.arange(2), jnp.zeros(3), True)))
    noise = np.asarray(draws(jax.random.split(jax.random.key(0), 4000)))
    for one in (noise[:, 0], noise[:, 1]):
        assert_mean(one, 0.0)
        assert_mean(one[:, :, None] * one[:, None, :], np.eye(3))
        assert_mean(one**4, 3.0)


def test_the_sign_of_a_factorisation_does_not_show():
    """Every point of the sphere is as likely as its opposite, given the other direction."""
    draws = jax.jit(jax.vmap(lambda key: draw(key, jnp.arange(2), jnp.zeros(3), True)))
    noise = np.asarray(draws(jax.random.split(jax.random.key(1), 4000)))
    assert_mean(np.cross(noise[:, 0], noise[:, 1]), 0.0)


def test_the_estimator_type():
    estimate = jax.jit(
        lambda key: nes(population=8, sigma=SIGMA, chunk=2)(
            key, PARAMS, jnp.zeros((), jnp.int32), lambda p: (quadratic(p), {"w": p["b"]})
        )
    )(jax.random.key(1))
    assert_same(estimate.gradient, gradient(population=8).mean, rtol=1e-4)
    assert estimate.metrics["w"] == PARAMS["b"] and estimate.draw is None


def test_sigma_may_be_traced():
    found = jax.jit(lambda sigma: gradient(sigma=sigma).mean)(jnp.asarray(SIGMA))
    assert_same(found, gradient().mean, rtol=1e-4)


def test_memory_does_not_grow_with_the_population():
    """What grows is one loss for every sample, and noise that is drawn one direction at a time."""
    size = 1000

    def scratch(population):
        find = functools.partial(nes_gradients, loss=lambda w: jnp.sum(w**2), population=population, shaping="rank")
        memory = jax.jit(find).lower(jax.random.key(0), jnp.zeros(size)).compile().memory_analysis()
        return memory.temp_size_in_bytes

    assert scratch(2000) - scratch(20) < 100 * 2000 < 4 * size * 2000 / 10


MISTAKES = [
    ({"population": 5}, "population must be even, because antithetic samples come in pairs, not 5; 6 is the next."),
    ({"population": 0}, "population must be a whole number of at least 1, not 0."),
    ({"population": 5e3}, "population must be a whole number of at least 1, not 5000.0."),
    ({"sigma": 0.0}, "sigma must be positive and finite, not 0.0; 0.1 is a usual value."),
    ({"sigma": float("nan")}, "sigma must be positive and finite, not nan; 0.1 is a usual value."),
    ({"shaping": "ranks"}, "unknown shaping 'ranks'; did you mean 'rank'?"),
    ({"baseline": "median"}, "unknown baseline 'median'; did you mean 'mean'?"),
    (
        {"population": 2, "baseline": "leave_one_out"},
        "the baseline leave_one_out needs a population of more than 2, as many as depend on each other, not 2.",
    ),
    ({"chunk": 0}, "chunk must be a whole number of at least 1, not 0."),
    ({"orthogonal": -1}, "orthogonal must be a whole number of at least 0, not -1."),
]
MISFITS = [
    (
        {"population": 6, "baseline": "leave_one_out", "orthogonal": 9},
        "the baseline leave_one_out needs a population of more than 6, as many as depend on each other, not 6.",
    ),
    (
        {"control": SLOPE, "shaping": "rank"},
        "a control needs the shaping 'raw', because it predicts losses and not their ranks.",
    ),
    ({"shift": {"a": SLOPE["a"]}}, "shift must be a pytree with the structure and the shapes of the parameters."),
    (
        {"subspace": (SLOPE, SLOPE["a"])},
        "direction 1 of subspace must be a pytree with the structure and the shapes of the parameters.",
    ),
    (
        {"subspace": (SLOPE,), "sigma": {"a": 0.1, "b": 0.1}},
        "sigma must be one number within a subspace, not a pytree.",
    ),
    (
        {"sigma": {"a": 0.1}},
        "sigma must be one number or a pytree with the structure of the parameters, with their shapes or one number "
        "for each leaf.",
    ),
    (
        {"params": {"a": jnp.arange(2), "b": jnp.asarray(1.0)}},
        "params must hold floats only, because noise is added to all of them.",
    ),
]


@pytest.mark.parametrize(("settings", "message"), MISTAKES)
def test_mistakes_are_found_when_the_estimator_is_made(settings, message):
    with pytest.raises(UserError) as caught:
        nes(**({"population": 4, "sigma": 0.1} | settings))
    assert str(caught.value) == message


@pytest.mark.parametrize(("settings", "message"), MISTAKES + MISFITS)
def test_mistakes_are_found_before_anything_is_evaluated(settings, message):
    with pytest.raises(UserError) as caught:
        gradient(loss=lambda params: pytest.fail("evaluated"), **settings)
    assert str(caught.value) == message
