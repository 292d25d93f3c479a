"""Signs of collapse against their definitions, curvature against the Hessian, and when a search is stopped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.types import Batch
from jaxnas.search.monitor import WINDOW, Limits, begin_watch, curvature, signs, sound, watch
from jaxnas.search.objectives import SearchState
from jaxnas.spaces.product import product_space

OPTIONS = ("none", "skip_connect", "max_pool_3x3", "conv")
SPACE = product_space("cells", {"normal": OPTIONS, "reduce": OPTIONS}, {"normal": 5, "reduce": 2})


def state_of(logits):
    allowed = {part: mask for part, mask in SPACE.allowed.items() if part in logits}
    state = SearchState(np.int32(0), {"w": np.float32(0.5)}, (), logits, (), allowed, ())
    return begin_watch(state, architecture(3, 3, 3, 3, 3))


def logits_of(number):
    return {part: np.full(shape, np.float32(number)) for part, shape in SPACE.shapes.items()}


def architecture(*normal):
    return {"normal": np.asarray(normal), "reduce": np.asarray([3, 3])}


judge = jax.jit(functools.partial(signs, SPACE))


def test_signs_are_shares_of_the_choices_made():
    """An edge that is not there is no choice."""
    probabilities = {"normal": np.asarray([[1.0, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0], [0, 0, 0, 1], [0.25] * 4])}
    found = judge(probabilities, architecture(0, 1, 1, 2, 3))
    assert {name: float(found[f"{name}/normal"]) for name in ("skips", "pools", "dominant")} == {
        "skips": 0.5,
        "pools": 0.25,
        "dominant": 0.5,
    }
    assert float(found["dominant/reduce"]) == 1.0
    np.testing.assert_allclose(found["entropy/normal"], [0, np.log(4), np.log(2), 0, np.log(4)], atol=1e-6)


def test_an_architecture_of_absent_edges_has_no_shares():
    found = judge({}, architecture(0, 0, 0, 0, 0))
    assert float(found["skips/normal"]) == float(found["dominant/normal"]) == 0.0


def test_curvature_is_the_dominant_eigenvalue():
    """Of a quadratic loss of the gates whose Hessian is known, and through a softmax, against jax.hessian."""
    generator = np.random.default_rng(0)
    matrix, batch = generator.normal(size=(6, 6)), Batch(np.zeros(1), np.zeros(1))

    def loss(params, gates, batch):
        del params, batch
        flat = jnp.concatenate([gates["normal"].ravel(), gates["reduce"].ravel()])
        return flat @ matrix @ matrix.T @ flat, {}

    logits = {"normal": np.float32(generator.normal(size=(2, 2))), "reduce": np.ones((1, 2), np.float32)}
    allowed = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), logits)
    state = SearchState(np.int32(0), (), (), logits, (), allowed, ())
    flat = np.concatenate([logits["normal"].ravel(), logits["reduce"].ravel()])

    def of_flat(gates):
        return lambda flat: loss(
            (), gates({"normal": flat[:4].reshape(2, 2), "reduce": flat[4:].reshape(1, 2)}), batch
        )[0]

    for gates in (lambda values: values, lambda values: jax.tree.map(jax.nn.softmax, values)):
        eigenvalues = np.linalg.eigvalsh(jax.jit(jax.hessian(of_flat(gates)))(flat))
        expected = eigenvalues[np.argmax(np.abs(eigenvalues))]
        # Ten iterations of the power method; here the next eigenvalue is at most 0.6 of the largest.
        np.testing.assert_allclose(jax.jit(curvature(loss, gates))(state, batch), expected, rtol=0.02)


def run(limits, architectures, curvatures=None):
    """Every epoch e the logits are e + 1; the state after the last."""
    state = state_of(logits_of(0))
    look = jax.jit(functools.partial(watch, limits, SPACE))
    for epoch, one in enumerate(architectures):
        state = state._replace(logits=logits_of(epoch + 1))
        value = np.float32(0.0 if curvatures is None else curvatures[epoch])
        state = look(state, one, np.float32(0.1 * epoch), epoch, value)
    return state


FINE, SKIPS = architecture(1, 1, 3, 3, 3), architecture(1, 1, 1, 3, 3)


@pytest.mark.parametrize(
    ("architectures", "stopped", "kept"),
    [
        ([FINE, FINE, FINE], -1, 3),
        ([FINE, SKIPS, FINE], 1, 1),  # the logits of the epoch before, whatever comes after
        ([FINE, FINE, SKIPS, SKIPS], 2, 2),
        ([SKIPS, FINE], 0, 0),
    ],
)
def test_too_many_identities_stop_a_search(architectures, stopped, kept):
    state = run(Limits(skips=2), architectures)
    assert int(state.watch.stopped) == stopped
    assert np.all(np.asarray(sound(state).logits["normal"]) == kept)
    expected = architectures[kept - 1] if kept else architecture(3, 3, 3, 3, 3)
    np.testing.assert_array_equal(state.watch.architecture["normal"], expected["normal"])
    assert int(run(Limits(), architectures).watch.stopped) == -1


def test_nothing_is_stopped_while_the_weights_alone_learn():
    assert int(run(Limits(skips=2, warmup_epochs=3), [SKIPS] * 3).watch.stopped) == -1
    assert int(run(Limits(skips=2, warmup_epochs=3), [SKIPS] * 4).watch.stopped) == 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_steady_curvature_of_either_sign_stops_nothing(sign):
    steady = [sign * 0.1] * 12
    assert int(run(Limits(curvature=1.3), [FINE] * 12, steady).watch.stopped) == -1


def test_growing_curvature_stops_a_search():
    """Once the mean of the last WINDOW epochs exceeds so many times that of the WINDOW before."""
    growing = [1.0] * WINDOW + [1.0, 1.0, 1.0, 4.0, 4.0, 4.0]
    state = run(Limits(curvature=2.0), [FINE] * len(growing), growing)
    assert int(state.watch.stopped) == 2 * WINDOW - 1  # (1 + 1 + 1 + 4 + 4) / 5 = 2.2
    assert int(run(Limits(curvature=3.0), [FINE] * len(growing), growing).watch.stopped) == -1
