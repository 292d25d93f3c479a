"""The accumulated update of FairNAS against its definition, path by path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.types import Batch, Network
from jaxnas.search.fair import learn_fairly, untrained
from jaxnas.search.objectives import Batches, SearchState, classification
from jaxnas.search.optimizers import skip_inactive
from jaxnas.search.paths import fair_paths
from jaxnas.spaces.product import product_space

ALLOWED = {"kinds": np.asarray([[1, 1, 1], [1, 0, 1]], bool)}
SPACE = product_space("toy", {"kinds": ("a", "b", "c")}, {"kinds": 2}, allowed=ALLOWED)
KEY = jax.random.key(3)


def apply(params, gates, images, noise=None):
    """Two layers, each of three candidate scales per channel, and a classifier."""
    del noise
    hidden = jnp.mean(images, axis=(1, 2))
    for number in range(2):
        hidden = jnp.tanh(hidden * jnp.einsum("o,oc->c", gates["kinds"][number], params["scales"][number]))
    return hidden @ params["classifier"]


def init(seed):
    generator = np.random.default_rng(seed)
    return {"scales": 1 + generator.normal(size=(2, 3, 4)), "classifier": generator.normal(size=(4, 3))}


NETWORK = Network(init, apply, lambda gates: {"scales": gates["kinds"][:, :, None] > 0, "classifier": True})
LOSS = classification(NETWORK)
gradient_of = jax.jit(jax.value_and_grad(LOSS, has_aux=True))


def start(optimizer):
    params = jax.tree.map(np.float32, init(0))
    return SearchState(
        step=np.int32(0),
        params=params,
        weights_state=optimizer.init(params),
        logits={"kinds": np.zeros((2, 3), np.float32)},
        logits_state=(),
        allowed=dict(SPACE.allowed),
        memory=untrained(SPACE),
    )


def batches_of(seed):
    images = np.random.default_rng(seed).normal(size=(6, 2, 2, 4))
    batch = Batch(images, np.arange(6) % 3)
    return Batches(batch, batch)


@functools.partial(jax.jit, static_argnums=0)
def drawn(paths, state):
    return fair_paths(paths, KEY, state.visible, state.memory)


@pytest.mark.parametrize("paths", [2, 3])
def test_the_update_is_one_step_on_the_sum_of_the_gradients_of_its_paths(paths):
    """By brute force: every path differentiated by itself, at the same weights, on the same batch."""
    optimizer = optax.with_extra_args_support(optax.sgd(0.1))
    state, batches = start(optimizer), batches_of(1)
    gates = jax.device_get(drawn(paths, state))
    each = [jax.tree.map(lambda leaf, n=n: leaf[n], gates) for n in range(paths)]
    results = jax.device_get([gradient_of(state.params, one, batches.train) for one in each])
    expected = jax.tree.map(lambda w, *gs: w - 0.1 * sum(gs), state.params, *(gradient for _, gradient in results))
    after, metrics = jax.jit(learn_fairly(paths, LOSS, optimizer, NETWORK.active))(KEY, state, batches)
    for part in expected:
        np.testing.assert_allclose(after.params[part], expected[part], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["train_loss"], np.mean([value for (value, _), _ in results]), rtol=1e-5)
    accuracies = [of["accuracy"] for (_, of), _ in results]
    np.testing.assert_allclose(metrics["train_accuracy"], np.mean(accuracies), rtol=1e-6)


def test_a_weight_of_one_option_learns_from_the_one_path_that_has_it():
    """With as many paths as options, every scale of the first layer moves by the gradient of a single path."""
    optimizer = optax.with_extra_args_support(optax.sgd(0.1))
    state, batches = start(optimizer), batches_of(1)
    gates = np.asarray(drawn(3, state)["kinds"])
    after, _ = jax.device_get(jax.jit(learn_fairly(3, LOSS, optimizer, NETWORK.active))(KEY, state, batches))
    for path in range(3):
        option = np.argmax(gates[path, 0])
        _, gradient = jax.device_get(gradient_of(state.params, {"kinds": gates[path]}, batches.train))
        expected = state.params["scales"][0, option] - 0.1 * gradient["scales"][0, option]
        np.testing.assert_allclose(after.params["scales"][0, option], expected, rtol=1e-5, atol=1e-6)


def test_the_optimizer_is_told_of_what_took_part_in_any_path():
    """With two paths, options in neither keep their weights and momentum, decay or not."""
    optimizer = skip_inactive(optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9)))
    state = start(optimizer)
    used = np.any(np.asarray(drawn(2, state)["kinds"]) > 0, axis=0)
    after, _ = jax.device_get(jax.jit(learn_fairly(2, LOSS, optimizer, NETWORK.active))(KEY, state, batches_of(1)))
    moved = np.any(after.params["scales"] != state.params["scales"], axis=-1)
    np.testing.assert_array_equal(moved, used)
    assert not used.all()
    rolling = optax.tree_utils.tree_get(after.weights_state, "trace")["scales"]
    np.testing.assert_array_equal(np.any(rolling != 0, axis=-1), used)


@pytest.mark.parametrize("paths", [3, 6])
def test_options_are_trained_equally_often_after_every_step(paths):
    """Exactly, where their number divides that of the paths; the others differ by at most one."""
    optimizer = optax.with_extra_args_support(optax.sgd(0.1))
    step = jax.jit(learn_fairly(paths, LOSS, optimizer, NETWORK.active))
    state = start(optimizer)
    for number in range(1, 6):
        state, _ = step(jax.random.key(number), state, batches_of(number))
        first, second = np.asarray(state.memory["kinds"])
        np.testing.assert_array_equal(first, paths * number // 3)
        assert second[1] == 0
        assert second.sum() == paths * number
        assert abs(second[0] - second[2]) == paths * number % 2
