"""The bilevel objectives on a quadratic problem, where everything has a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.search.objectives import Batches, SearchState, accuracy, cross_entropy, first_order, unrolled
from jaxnas.search.optimizers import sgd

RATE, MOMENTUM, DECAY = 0.3, 0.9, 0.1
A = jax.random.normal(jax.random.key(0), (5, 6))
B = jax.random.normal(jax.random.key(1), (5,))
C = jax.random.normal(jax.random.key(2), (6,))
GATES = {"normal": jax.random.uniform(jax.random.key(3), (2, 3))}


def loss(params, gates, batch):
    """Train: ½‖w - A g‖². Valid: ½‖w - b‖² + c·g. The batch is the flag that says which."""
    g = gates["normal"].reshape(-1)
    train = 0.5 * jnp.sum((params["w"] - A @ g) ** 2)
    valid = 0.5 * jnp.sum((params["w"] - B) ** 2) + C @ g
    return jnp.where(batch, valid, train), {}


@pytest.fixture
def state():
    params = {"w": jax.random.normal(jax.random.key(4), (5,))}
    optimizer = sgd(RATE, momentum=MOMENTUM, weight_decay=DECAY, clip=1e9)
    _, optimizer_state = optimizer.update({"w": jnp.ones(5)}, optimizer.init(params), params)  # some momentum
    return SearchState(jnp.zeros((), jnp.int32), params, optimizer_state, GATES, (), {}, ())


BATCHES = Batches(train=jnp.asarray(False), valid=jnp.asarray(True))


def unrolled_with(hessian):
    return unrolled(loss, learning_rate=lambda _: RATE, momentum=MOMENTUM, weight_decay=DECAY, hessian=hessian)


def test_first_order_sees_the_direct_dependence_only(state):
    value, gradient = jax.value_and_grad(lambda gates: first_order(loss)(state, gates, BATCHES)[0])(GATES)
    np.testing.assert_allclose(value, loss(state.params, GATES, True)[0], rtol=1e-6)
    np.testing.assert_allclose(gradient["normal"].reshape(-1), C, rtol=1e-6)


@pytest.mark.parametrize(("hessian", "tolerance"), [("autodiff", 1e-5), ("finite_differences", 2e-3)])
def test_unrolled_equals_the_closed_form(state, hessian, tolerance):
    """d/dg L_valid(w'(g), g) = c + η Aᵀ (w' - b), with w' = w - η (m v + w - A g + λ w)."""
    g = GATES["normal"].reshape(-1)
    w, v = state.params["w"], optax.tree_utils.tree_get(state.weights_state, "trace")["w"]
    stepped = w - RATE * (MOMENTUM * v + w - A @ g + DECAY * w)
    expected_value = 0.5 * jnp.sum((stepped - B) ** 2) + C @ g
    expected_gradient = C + RATE * A.T @ (stepped - B)
    objective = unrolled_with(hessian)
    value, gradient = jax.jit(jax.value_and_grad(lambda gates: objective(state, gates, BATCHES)[0]))(GATES)
    np.testing.assert_allclose(value, expected_value, rtol=1e-5)
    # Central differences are exact for a quadratic; what is left is float32 rounding over 2ε.
    np.testing.assert_allclose(gradient["normal"].reshape(-1), expected_gradient, rtol=tolerance, atol=tolerance)


def test_the_lookahead_step_is_the_optimizer_step(state):
    """Without clipping, w' is what the search's own SGD would do next."""
    optimizer = sgd(RATE, momentum=MOMENTUM, weight_decay=DECAY, clip=1e9)
    gradient = jax.grad(lambda params: loss(params, GATES, False)[0])(state.params)
    changes, _ = optimizer.update(gradient, state.weights_state, state.params)
    expected = loss(optax.apply_updates(state.params, changes), GATES, True)[0]
    np.testing.assert_allclose(unrolled_with("autodiff")(state, GATES, BATCHES)[0], expected, rtol=1e-6)


def test_unknown_hessian_is_refused():
    with pytest.raises(UserError, match=r"unknown hessian 'autodif'; did you mean 'autodiff'\?"):
        unrolled_with("autodif")


def test_cross_entropy_and_accuracy():
    logits = jnp.log(jnp.asarray([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]))
    labels = jnp.asarray([0, 1])
    np.testing.assert_allclose(cross_entropy(logits, labels), -(np.log(0.7) + np.log(0.3)) / 2, rtol=1e-6)
    assert float(accuracy(logits, labels)) == 0.5


def test_finite_differences_where_the_validation_loss_is_flat(state):
    """No gradient with respect to the weights, no direction to differ along: what is left is the direct gradient."""

    def flat(params, gates, batch):
        return jnp.where(batch, C @ gates["normal"].reshape(-1), loss(params, gates, batch)[0]), {}

    objective = unrolled(
        flat, learning_rate=lambda _: RATE, momentum=MOMENTUM, weight_decay=DECAY, hessian="finite_differences"
    )
    gradient = jax.grad(lambda gates: objective(state, gates, BATCHES)[0])(GATES)["normal"]
    np.testing.assert_allclose(gradient, C.reshape(2, 3), rtol=1e-6)
