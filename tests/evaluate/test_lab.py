"""The lab's table: every estimator by the same properties, and its bias against the arcsine law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.estimators.nes import nes
from jaxnas.evaluate import lab
from jaxnas.evaluate.lab import table
from jaxnas.evaluate.lab.table import TABLE
from jaxnas.networks import sign_network

KEY = jax.random.key(0)
SETTINGS = {"nes": {"population": 64}}  # where the defaults are too much for a test


def problem(widths=(3, 4, 3, 1), batch=64, bias=True):
    teacher, student = (sign_network.init(jax.random.key(seed), widths, bias) for seed in (1, 2))
    x = jax.random.normal(jax.random.key(3), (batch, widths[0]))
    return student, x, sign_network.apply(teacher, x)


def run(name, params, x, y, key=KEY, **settings):
    return lab.gradient(name, params, x, y, key, **(SETTINGS.get(name, {}) | settings))


def cosine(a, b):
    a, b = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", TABLE)
def test_a_gradient_is_shaped_as_the_parameters_and_repeatable(name, bias):
    params, x, y = problem(bias=bias)
    gradient = run(name, params, x, y)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), gradient) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), params
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    jax.tree.map(np.testing.assert_array_equal, gradient, run(name, params, x, y))
    jax.tree.map(np.testing.assert_array_equal, gradient, run(name, params, x, y[:, 0]))


@pytest.mark.parametrize("name", TABLE)
def test_inside_jit_and_vmap(name):
    """The pure function of a row, over two inits at once, gives what it gives one by one."""
    _, x, y = problem()
    both = [sign_network.init(jax.random.key(seed), (3, 4, 3, 1)) for seed in (4, 5)]
    function = lab.estimator(name, **SETTINGS.get(name, {}))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *both)
    mapped = jax.jit(jax.vmap(lambda params: function(KEY, params, x, y)))(stacked)
    for number, params in enumerate(both):
        jax.tree.map(
            lambda a, b, number=number: np.testing.assert_allclose(a[number], b, rtol=1e-4, atol=1e-5),
            mapped,
            run(name, params, x, y),
        )


@pytest.mark.parametrize("name", TABLE)
def test_a_perfect_student_has_nothing_to_learn_in_its_last_layer(name):
    """With targets of its own the residual is zero, and so is the gradient of the last layer without noise."""
    params, x, _ = problem()
    gradient = run(name, params, x, sign_network.apply(params, x))[-1]["kernel"]
    if name in ("ste", "cdg", "cdg_naive"):
        np.testing.assert_allclose(gradient, 0, atol=2e-5)  # naive differences of float32 losses round
    else:
        assert np.isfinite(gradient).all()


def test_structure_changes_nothing():
    params, x, y = problem()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        run("cdg", params, x, y),
        run("cdg_naive", params, x, y),
    )


def arcsine_loss(student, teacher):
    """E over x ~ N(0, I) of the squared error of two networks of one hidden layer of signs, without biases.

    E sign(u·x) sign(v·x) = 2/π · asin(cos(u, v)) (Grothendieck's identity; Williams 1998).
    """

    def overlap(first, second):
        a, b = (one[0]["kernel"] / jnp.linalg.norm(one[0]["kernel"], axis=0) for one in (first, second))
        products = 2 / jnp.pi * jnp.arcsin(jnp.clip(a.T @ b, -1, 1) * (1 - 1e-6))
        return first[1]["kernel"][:, 0] @ products @ second[1]["kernel"][:, 0]

    return overlap(student, student) - 2 * overlap(student, teacher) + overlap(teacher, teacher)


# What one may expect of each: the cosine with the truth of the hidden layer's gradient, at least.
LEAST_COSINE = {
    "ste": 0.5,
    "sr_ste": 0.5,
    "cdg": 0.98,
    "cdg_naive": 0.98,
    "smoothed": 0.98,
    "enumerated": 0.98,
    "nes": 0.3,
}


@pytest.fixture(scope="module")
def gaussian():
    params, x, y = problem(widths=(4, 5, 1), batch=16_384, bias=False)
    teacher = sign_network.init(jax.random.key(1), (4, 5, 1), False)
    truth = jax.grad(arcsine_loss)(params, teacher)
    return params, teacher, x, y, truth


def test_the_arcsine_law_is_the_loss(gaussian):
    params, teacher, x, y, truth = gaussian
    errors = (sign_network.apply(params, x) - y) ** 2
    standard_error = float(errors.std() / len(x) ** 0.5)
    assert abs(float(arcsine_loss(params, teacher)) - float(errors.mean())) < 4 * standard_error
    # Scaling a unit's incoming weights changes nothing, so the truth is orthogonal to them.
    along = jnp.sum(truth[0]["kernel"] * params[0]["kernel"], axis=0)
    np.testing.assert_allclose(along, 0, atol=1e-5)


@pytest.mark.parametrize("name", TABLE)
def test_bias_against_the_arcsine_law(name, gaussian):
    """Differences and smoothing are the truth up to their step and the batch; straight-through gradients are not."""
    params, _, x, y, truth = gaussian
    close = {"cdg": {"epsilon": 0.05}, "cdg_naive": {"epsilon": 0.05}, "smoothed": {"sigma": 0.03}}
    close |= {"enumerated": {"sigma": 0.03}}
    gradient = run(name, params, x, y, **close.get(name, {}))
    assert cosine(gradient[0], truth[0]) > LEAST_COSINE[name]
    assert cosine(gradient[1], truth[1]) > 0.8  # rounding stochastically also changes the codes that this layer sees


def test_every_row_is_described():
    described = lab.estimators()
    assert list(described) == list(TABLE)
    assert described["cdg"].settings == {"epsilon": 0.1}
    assert all(one.about and one.source for one in described.values())


GOOD = problem()
MISTAKES = [
    ("stee", {}, "unknown estimator 'stee'; did you mean 'ste'?"),
    ("cdg", {"epsilom": 1.0}, "unknown setting of cdg 'epsilom'; did you mean 'epsilon'?"),
    ("cdg", {"epsilon": 0.0}, "epsilon must be positive and finite, not 0.0"),
    ("cdg_naive", {"epsilon": -1.0}, "epsilon must be positive and finite, not -1.0"),
    ("smoothed", {"sigma": float("nan")}, "sigma must be positive and finite, not nan"),
    ("enumerated", {"sigma": 0}, "sigma must be positive and finite, not 0"),
    ("ste", {"surrogate": "polynom"}, "unknown surrogate 'polynom'; did you mean 'polynomial'?"),
    ("ste", {"slope": 2.0}, "the surrogate 'clipped' has no setting 'slope'"),
    ("sr_ste", {"draws": 0}, "draws must be at least 1, not 0."),
    ("sr_ste", {"weighting": "even"}, "unknown weighting 'even'"),
    ("sr_ste", {"draws": 1.5}, "draws must be a whole number, not 1.5."),
    ("cdg", {"epsilon": "1"}, "epsilon must be a number, not '1'."),
    ("smoothed", {"sigma": (0.1, 0.2)}, "sigma must be a number, not (0.1, 0.2)."),
    ("ste", {"surrogate": ["clipped"]}, "surrogate must be a text, not ['clipped']."),
    ("ste", {"threshold": "wide"}, "threshold must be a number, not 'wide'."),
    ("nes", {"antithetic": "no"}, "antithetic must be True or False, not 'no'."),
    ("nes", {"natural": 1}, "natural must be True or False, not 1."),
    ("nes", {"control": 1}, "control must be a name or None, not 1."),
    ("nes", {"subspace": "ste"}, "subspace must be a tuple of names, not 'ste'."),
    ("nes", {"shift": "ste", "step": float("nan")}, "step must be positive and finite, not nan"),
    ("nes", {"population": 2**31}, "population must be below 2³¹"),
    (["ste"], {}, "unknown estimator"),
]


@pytest.mark.parametrize(("name", "settings", "message"), MISTAKES)
def test_wrong_names_and_settings(name, settings, message):
    with pytest.raises(UserError) as caught:
        lab.gradient(name, *GOOD, KEY, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings", "plain"),
    [
        ("nes", {"population": np.int64(4), "sigma": jnp.asarray(0.1)}, {"population": 4, "sigma": 0.1}),
        ("nes", {"population": 4, "subspace": ["clipped"]}, {"population": 4, "subspace": ("clipped",)}),
        ("cdg", {"epsilon": np.array(1.0)}, {"epsilon": 1.0}),
    ],
)
def test_settings_may_be_arrays_and_lists(name, settings, plain):
    for one, other in zip(
        *(jax.tree.leaves(lab.gradient(name, *GOOD, KEY, **s)) for s in (settings, plain)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("name", ["cdg", "smoothed", "enumerated", "ste", "nes"])
@pytest.mark.parametrize("kind", [np.int32, np.uint8, bool, np.float16, list])
def test_inputs_of_any_real_type(name, kind):
    """Whole numbers are the same inputs, whatever holds them."""
    params, _, y = GOOD
    x = np.random.default_rng(0).integers(0, 2, (len(y), 3))
    given = x.tolist() if kind is list else x.astype(kind)
    found, expected = (lab.gradient(name, params, one, y, KEY) for one in (given, x.astype(np.float32)))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_list_of_layers_gives_a_list_that_can_be_swept():
    params, x, y = GOOD
    direction = lab.gradient("ste", list(params), np.asarray(x), np.asarray(y))
    assert isinstance(direction, list)
    swept = lab.sweep(list(params), direction, np.asarray(x).tolist(), np.asarray(y).tolist(), [0.1])
    np.testing.assert_array_equal(swept.losses, lab.sweep(params, tuple(direction), x, y, [0.1]).losses)


def test_a_helper_has_random_numbers_of_its_own():
    """A control variate made of the very directions that it is to correct would leave nothing to correct."""
    params, x, y = GOOD
    control = lab.gradient("nes", params, x, y, named(KEY, "nes"), population=500)
    estimator = nes(population=64, sigma=0.3, control=control)
    expected = estimator(KEY, params, jnp.zeros((), int), lambda moved: (lab.loss(moved, x, y), {})).gradient
    found = lab.gradient("nes", params, x, y, KEY, population=64, sigma=0.3, control="nes")
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["smoothed", "cdg", "nes"])
def test_floats_may_be_traced_and_do_not_compile_again(name):
    params, x, y = GOOD
    setting = "epsilon" if name == "cdg" else "sigma"
    traced = jax.jit(lambda value: lab.estimator(name, **{setting: value})(KEY, params, x, y))(0.3)
    for one, other in zip(
        jax.tree.leaves(traced), jax.tree.leaves(lab.gradient(name, params, x, y, KEY, **{setting: 0.3})), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5)
    before = table._compiled.cache_info().misses
    lab.gradient(name, params, x, y, KEY, **{setting: 0.4})
    assert table._compiled.cache_info().misses == before


def test_one_hidden_layer_is_smoothed_without_a_key():
    lab.gradient("smoothed", *problem((3, 4, 1)))


def test_wrong_losses():
    params, x, y = GOOD
    for arguments, message in [
        ((params, x[:, 0], y), "x must be [batch, 3]"),
        ((params, x, y.T), "y must be ["),
        ((None, x, y), "params must be a tuple of layers"),
        (((), x, y), "params must be a tuple of layers"),
    ]:
        with pytest.raises(UserError) as caught:
            lab.loss(*arguments)
        assert message in str(caught.value)


def test_wrong_inputs():
    params, x, y = GOOD
    linear = problem((3, 1))
    for arguments, message in [
        (("smoothed", params, x, y), "smoothed draws at random: give it a key"),
        (("ste", *linear), "ste needs a layer with a sign"),
        (("cdg", params, x.at[0, 0].set(jnp.nan), y), "x holds numbers that are not finite"),
        (("cdg", params, x[:, :2], y), "x must be [batch, 3]"),
        (("cdg", None, x, y), "params must be a tuple of layers"),
        (("cdg", params, None, y), "x must be an array of real numbers."),
        (("cdg", params, x, "abc"), "y must be an array of real numbers."),
        (("cdg", params, x + 1j, y), "x must be an array of real numbers."),
        (("cdg", params, [[1.0], [1.0, 2.0]], y), "x must be an array of real numbers."),
        (("cdg", jax.tree.map(lambda leaf: leaf.astype(int), params), x, y), "params must be floats of one type"),
        (("nes", params, x, y, 0), "key must be one random key"),
        (("nes", params, x, y, jax.random.split(KEY, 3)), "key must be one random key"),
        (("enumerated", *problem((3, 11, 3, 1))), "hidden layer 1 is 11 wide; enumeration holds up to 10 units"),
    ]:
        with pytest.raises(UserError) as caught:
            lab.gradient(*arguments)
        assert message in str(caught.value)
