"""One table of samplers, one list of properties that all of them have."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.relax import categorical
from jaxnas.spaces.space import log_prob

TEMPERATURE = categorical.linear_temperature(2.0, 0.5, 10)
SAMPLERS = {
    "softmax": (categorical.softmax(), False),
    "gumbel_softmax": (categorical.gumbel_softmax(TEMPERATURE), False),
    "gumbel_straight_through": (categorical.gumbel_straight_through(TEMPERATURE), True),
    "multinomial_straight_through": (categorical.multinomial_straight_through(), True),
    "log_prob_straight_through": (categorical.log_prob_straight_through(), True),
    "two_paths": (categorical.two_paths(), True),
    "ordered_threshold": (categorical.ordered_threshold(), True),
    "argmax": (categorical.argmax(), True),
}
RANDOM = np.random.default_rng(0)
LOGITS = {
    "normal": RANDOM.standard_normal((5, 4), np.float32),
    "reduce": 3 * RANDOM.standard_normal((2, 4), np.float32),
}
COUNT = np.asarray(3)


@pytest.fixture(params=SAMPLERS.values(), ids=SAMPLERS.keys())
def sampler_and_hard(request):
    return request.param


def gates_of(name, key, logits):
    """Drawn in one program: called as they are, samplers compile each of their operations by itself."""
    return jax.jit(lambda key, logits: SAMPLERS[name][0](key, logits, COUNT).gates)(key, logits)


def softmax(values):
    """In numpy, which compiles nothing."""
    return np.exp(values) / np.sum(np.exp(values), axis=-1, keepdims=True)


def test_draw(sampler_and_hard):
    sampler, hard = sampler_and_hard
    draw = jax.device_get(jax.jit(sampler)(jax.random.key(2), LOGITS, COUNT))
    chex.assert_trees_all_equal_shapes_and_dtypes(draw.gates, LOGITS)
    for part, gates in draw.gates.items():
        np.testing.assert_allclose(np.sum(gates, -1), 1.0, rtol=1e-6)
        assert np.min(gates) >= 0
        assert draw.architecture[part].shape == gates.shape[:1]
        assert jnp.issubdtype(draw.architecture[part].dtype, jnp.integer)
        if hard:  # up to a gate that is there for its gradient alone
            np.testing.assert_array_equal(
                np.where(gates == categorical.VANISHING, 0.0, gates), np.eye(4)[draw.architecture[part]]
            )
    np.testing.assert_allclose(draw.log_prob, jax.jit(log_prob)(LOGITS, draw.architecture), rtol=1e-5)


def test_gradient_is_finite_and_a_draw_repeats(sampler_and_hard):
    sampler, _ = sampler_and_hard

    def loss(logits):
        gates = sampler(jax.random.key(2), logits, COUNT).gates
        return sum(jnp.sum(jnp.sin(3 * values)) for values in gates.values())

    chex.assert_tree_all_finite(jax.jit(jax.grad(loss))(LOGITS))
    first, second = (jax.jit(sampler)(jax.random.key(5), LOGITS, COUNT) for _ in range(2))
    chex.assert_trees_all_equal(first, second)


def test_vmap_equals_one_by_one(sampler_and_hard):
    sampler, _ = sampler_and_hard
    keys = jax.random.split(jax.random.key(3), 4)
    together = jax.device_get(jax.jit(jax.vmap(sampler, (0, None, None)))(keys, LOGITS, COUNT))
    for number, key in enumerate(keys):
        one = jax.tree.map(lambda leaf, number=number: leaf[number], together)
        chex.assert_trees_all_close(one, jax.jit(sampler)(key, LOGITS, COUNT), rtol=1e-6)


DRAWN = (
    "gumbel_softmax",
    "gumbel_straight_through",
    "multinomial_straight_through",
    "log_prob_straight_through",
)


@pytest.mark.parametrize("name", DRAWN)
def test_draws_follow_softmax(name):
    """Whatever the temperature; the bound is five standard errors of a binomial share."""
    count = 20_000
    keys = jax.random.split(jax.random.key(4), count)
    draws = jax.jit(jax.vmap(lambda key: SAMPLERS[name][0](key, LOGITS, COUNT).architecture))(keys)
    for part, values in LOGITS.items():
        expected = softmax(values)
        share = np.mean(np.eye(4)[draws[part]], axis=0)
        assert np.max(np.abs(share - expected) / np.sqrt(expected * (1 - expected) / count)) < 5


def test_excluded_options_are_never_drawn(sampler_and_hard):
    """Their gates are zero, exactly, and so is the gradient of their logits; the ordered options end before them."""
    sampler, _ = sampler_and_hard
    allowed = {part: np.broadcast_to(np.arange(4) < 3, values.shape) for part, values in LOGITS.items()}

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_gates(logits, key):
        gates = sampler(key, categorical.masked(logits, allowed), COUNT).gates
        return sum(jnp.sum(jnp.sin(g)) for g in gates.values()), gates

    for number in range(5):
        for found in gradient_and_gates(LOGITS, jax.random.key(number)):
            for part, values in jax.device_get(found).items():
                np.testing.assert_array_equal(values[:, 3], 0.0, err_msg=part)


WEIGHTS = {
    part: np.cos(np.arange(values.size, dtype=np.float32)).reshape(values.shape) for part, values in LOGITS.items()
}


@functools.partial(jax.jit, static_argnums=0)
def linear_gradient(name, logits, key):
    """Of a loss that is linear in the gates: its gradient for the gates is WEIGHTS."""

    def loss(logits):
        gates = SAMPLERS[name][0](key, logits, COUNT).gates
        return sum(jnp.vdot(WEIGHTS[part], gates[part]) for part in gates)

    return jax.grad(loss)(logits)


def test_multinomial_straight_through_has_the_derivative_of_the_softmax():
    """Whatever was drawn; for a linear loss it is the exact gradient of the expectation."""
    expected = linear_gradient("softmax", LOGITS, jax.random.key(0))
    for seed in range(3):
        actual = linear_gradient("multinomial_straight_through", LOGITS, jax.random.key(seed))
        chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-7)


def test_log_prob_straight_through_credits_the_option_drawn():
    """∇ = Σ over choices of ∂L/∂gate drawn · ∇ log p (DSNAS)."""
    key = jax.random.key(3)
    drawn = jax.device_get(jax.jit(SAMPLERS["log_prob_straight_through"][0])(key, LOGITS, COUNT).architecture)

    def credited(logits):
        terms = [
            jnp.take_along_axis(WEIGHTS[part] * jax.nn.log_softmax(values), drawn[part][:, None], -1)
            for part, values in logits.items()
        ]
        return sum(jnp.sum(term * 1.0) for term in terms)

    actual = linear_gradient("log_prob_straight_through", LOGITS, key)
    chex.assert_trees_all_close(actual, jax.jit(jax.grad(credited))(LOGITS), rtol=1e-5, atol=1e-7)


def test_two_paths_follow_their_probabilities():
    """Pairs are drawn without replacement, and one of the two by the softmax of the two; frequencies as computed."""
    logits = {"cell": np.asarray([[0.0, 1.0, -1.0]], np.float32)}
    count = 20_000
    keys = jax.random.split(jax.random.key(0), count)
    draws = jax.vmap(lambda key: SAMPLERS["two_paths"][0](key, logits, COUNT).gates["cell"][0])
    gates = np.asarray(jax.jit(draws)(keys))
    np.testing.assert_array_equal(np.sum(gates > 0, axis=-1), 2)
    p = softmax(logits["cell"][0])
    for active in range(3):
        for other in {0, 1, 2} - {active}:
            pair = p[active] * p[other] * (1 / (1 - p[active]) + 1 / (1 - p[other]))
            expected = pair * p[active] / (p[active] + p[other])
            share = np.mean((gates[:, active] == 1) & (gates[:, other] == categorical.VANISHING))
            assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / count)


def test_two_paths_have_the_derivative_of_the_softmax_of_the_two():
    logits = {"cell": np.asarray([[0.5, 1.0, -1.0, 0.2]], np.float32)}
    key = jax.random.key(1)
    sampled = np.flatnonzero(gates_of("two_paths", key, logits)["cell"])
    weights = np.asarray([0.3, -1.0, 2.0, 0.7], np.float32)

    def of_two(values):
        return jnp.vdot(jax.nn.softmax(values[0, sampled]), weights[sampled])

    def drawn(values):
        return jnp.vdot(SAMPLERS["two_paths"][0](key, {"cell": values}, COUNT).gates["cell"][0], weights)

    actual, expected = (jax.jit(jax.grad(one))(logits["cell"]) for one in (drawn, of_two))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@jax.jit
def ordered_gates_and_jacobian(values):
    def gates(values):
        return SAMPLERS["ordered_threshold"][0](jax.random.key(0), {"kernel": values}, COUNT).gates["kernel"]

    return gates(values), jax.jacobian(gates)(values)


@pytest.mark.parametrize(
    ("margins", "option"),
    [((-1.0, 5.0), 0), ((1.0, -1.0), 1), ((1.0, 0.5), 2), ((-0.1, -0.1), 0)],
)
def test_ordered_options_are_reached_one_after_another(margins, option):
    """The gates are products of steps, and their derivatives those of the same products of sigmoids' slopes."""
    values = np.asarray([[9.0, *margins]], np.float32)
    gates, jacobian = ordered_gates_and_jacobian(values)
    np.testing.assert_array_equal(gates, np.eye(3)[[option]])
    one, two = (np.asarray(margins) > 0).astype(float)
    slope_1, slope_2 = (np.exp(m) / (1 + np.exp(m)) ** 2 for m in margins)
    expected = [[0, -slope_1, 0], [0, slope_1 * (1 - two), -one * slope_2], [0, slope_1 * two, one * slope_2]]
    np.testing.assert_allclose(jacobian[0, :, 0], expected, rtol=1e-5, atol=1e-7)


def test_ordered_options_pass_over_what_is_excluded():
    """Where the first option is excluded the second is reached whatever its margin."""
    values = np.asarray([[categorical.EXCLUDED, -3.0, -1.0]], np.float32)
    gates, _ = ordered_gates_and_jacobian(values)
    np.testing.assert_array_equal(gates, [[0.0, 1.0, 0.0]])


def test_edges_are_weighed_by_a_softmax_over_the_sources_of_their_node():
    edges = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 1))
    sources = np.asarray([[0.3, -0.5, categorical.EXCLUDED], [1.0, 0.0, 2.0]], np.float32)
    logits = {"normal": LOGITS["normal"], "normal_sources": sources}
    sampler = categorical.edge_normalized(categorical.softmax(), {"normal": ("normal_sources", edges)})
    gates = jax.device_get(jax.jit(sampler)(jax.random.key(0), logits, COUNT).gates)
    assert set(gates) == {"normal"}
    weights = softmax(sources)
    for row, (source, node) in enumerate(edges):
        expected = weights[node, source] * softmax(LOGITS["normal"][row])
        np.testing.assert_allclose(gates["normal"][row], expected, rtol=1e-6)


def test_parts_are_independent_streams():
    """Parts of equal logits draw different noise, and a part's noise does not depend on which others there are."""
    same = {"normal": LOGITS["normal"], "reduce": LOGITS["normal"]}
    both = gates_of("gumbel_softmax", jax.random.key(0), same)
    assert not np.allclose(both["normal"], both["reduce"])
    alone = gates_of("gumbel_softmax", jax.random.key(0), {"normal": LOGITS["normal"]})
    np.testing.assert_array_equal(alone["normal"], both["normal"])


def test_straight_through_has_the_relaxed_derivative():
    """For an objective that is linear in the gates, exactly that of the Gumbel-softmax with the same noise."""
    hard, soft = (
        linear_gradient(name, LOGITS, jax.random.key(6)) for name in ("gumbel_straight_through", "gumbel_softmax")
    )
    chex.assert_trees_all_close(hard, soft, rtol=1e-6)


def test_exponential_temperature():
    schedule = categorical.exponential_temperature(5.0, 0.05, 10)
    np.testing.assert_allclose(
        [schedule(0), schedule(5), schedule(10), schedule(20)], [5.0, 0.5, 0.05, 0.05], rtol=1e-6
    )


def test_temperature_goes_from_start_to_end():
    np.testing.assert_allclose(
        [TEMPERATURE(0), TEMPERATURE(5), TEMPERATURE(10), TEMPERATURE(20)], [2.0, 1.25, 0.5, 0.5]
    )
