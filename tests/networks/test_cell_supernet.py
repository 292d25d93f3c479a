"""The supernet: its published size, and the equality of its evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.types import Dropout
from jaxnas.networks import cell_supernet as module
from jaxnas.networks.cell_supernet import cell_supernet, layer_plan
from jaxnas.networks.mixed_cell import EVALUATIONS, Cell, selected, tape
from jaxnas.spaces.cell import cell_edges, cell_space

OPERATIONS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3")
NODES = 2
EDGES = len(cell_edges(NODES))


def build(evaluation, layers=3, channels=2, **settings):
    return cell_supernet(
        channels=channels,
        layers=layers,
        classes=3,
        nodes=NODES,
        operations=OPERATIONS,
        evaluation=evaluation,
        **settings,
    )


def gates_of(kind):
    gates = {}
    for number, part in enumerate(("normal", "reduce")):
        logits = jax.random.normal(jax.random.key(number), (EDGES, len(OPERATIONS)))
        soft = jax.nn.softmax(logits)
        kept = {"mixture": len(OPERATIONS), "two paths": 2, "one-hot": 1}[kind]
        smallest = -jnp.sort(-soft, axis=-1)[:, kept - 1 : kept]
        gates[part] = jnp.where(soft >= smallest, 1.0 if kind == "one-hot" else soft, 0.0)
    return gates


def value_and_gradients(network, params, gates, images, noise=None):
    def loss(params, gates):
        logits = network.apply(params, gates, images, noise)
        return jnp.sum(jnp.sin(logits)), logits

    gradients, logits = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, gates)
    return logits, *gradients


def double(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


def assert_close(actual, expected):
    # Batch statistics of nearly constant maps amplify rounding; in float64 what is left is far below this.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), actual, expected)


def test_size_of_the_published_supernet():
    shapes = jax.eval_shape(cell_supernet(channels=16, layers=8, classes=10).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 1_930_618
    assert sum(np.prod(shape) for shape in cell_space().shapes.values()) == 2 * 14 * 8


@pytest.mark.parametrize(("evaluation", "paths"), [("plain", None), ("wide", None), ("tape", None), ("tape", 1)])
def test_edges_without_any_weights(evaluation, paths):
    """A space of pools and identities: the normal cells' edges have nothing to draw or to learn."""
    operations = ("none", "skip_connect", "max_pool_3x3")
    settings = {"operations": operations, "evaluation": evaluation, "paths": paths}
    network = cell_supernet(channels=2, layers=4, classes=3, nodes=1, **settings)
    gates = {part: jax.nn.one_hot(jnp.asarray([2, 1]), 3) for part in ("normal", "reduce")}
    params = network.init(jax.random.key(0))
    assert params["cells"][0]["edges"] == {"stride_1": {}}
    logits, *gradients = value_and_gradients(network, params, gates, jnp.ones((2, 8, 8, 3)))
    assert logits.shape == (2, 3)
    assert jax.tree.structure(gradients[0]) == jax.tree.structure(params)


@pytest.mark.parametrize("layers", [1, 3, 4, 8, 20])
def test_channels_double_at_the_two_reductions(layers):
    plan = layer_plan(16, layers, 4)
    reductions = [number for number, layer in enumerate(plan) if layer.part == "reduce"]
    assert reductions == sorted({layers // 3, 2 * layers // 3})
    assert [layer.channels for layer in plan] == [16 * 2 ** sum(r <= i for r in reductions) for i in range(layers)]


NOISE = Dropout(jax.random.key(5), jnp.asarray(0.4))


@pytest.mark.parametrize(
    ("kind", "noise", "settings", "wholes", "paths"),
    [
        ("mixture", NOISE, {}, ("wide", "tape"), ()),
        ("one-hot", None, {}, ("wide",), ("tape",)),
        ("two paths", NOISE, {}, (), ("plain", "tape")),
        ("two paths", None, {"partial": 2}, ("wide",), ("tape",)),
    ],
    ids=["dropout on identities", "one path", "two paths, dropout", "two paths, partial channels"],
)
def test_evaluations_agree(kind, noise, settings, wholes, paths):
    """The same function of the same weights, in values and in gradients for weights and gates.

    wholes: evaluations that run all operations. paths: those that run the operations of non-zero gates alone.
    """
    with jax.enable_x64(True):
        gates = double(gates_of(kind))
        settings = settings | {"channels": 4}
        params = double(build("plain", **settings).init(jax.random.key(1)))
        images = jax.random.normal(jax.random.key(2), (2, 8, 8, 3), jnp.float64)
        expected = value_and_gradients(build("plain", **settings), params, gates, images, noise)
        for evaluation in wholes:
            assert_close(value_and_gradients(build(evaluation, **settings), params, gates, images, noise), expected)
        for evaluation in paths:
            network = build(evaluation, paths={"one-hot": 1, "two paths": 2}[kind], **settings)
            logits, params_bar, gates_bar = value_and_gradients(network, params, gates, images, noise)
            assert_close((logits, params_bar), expected[:2])
            # The gates of the operations that ran have their gradient; the others, which did not run, have none.
            # (The weight of an edge's channels that pass by is the sum of its gates: a gradient that all of them have.)
            if "partial" not in settings:
                kept = jax.tree.map(lambda bar, gate: jnp.where(gate > 0, bar, 0.0), expected[2], gates)
                assert_close(gates_bar, kept)


def test_noise_drops_identities_alone():
    """With rate r an identity keeps an element with probability 1 - r and divides it by that: 0 or x / (1 - r)."""
    cell = Cell(("none", "skip_connect", "max_pool_3x3"), ((0, 0), (1, 0)), reduction=False)
    inputs = jnp.ones((2, 4, 8, 8, 16))
    for operation, values in ((1, {0.0, 1 / 0.6}), (2, {0.0})):
        gates = jax.nn.one_hot(jnp.asarray([operation, 0]), 3)
        output = np.asarray(tape(cell, inputs, {"stride_1": {}}, gates, NOISE))
        np.testing.assert_allclose(sorted(set(output.ravel().tolist())), sorted(values), rtol=1e-6)
        if operation == 1:
            dropped = np.mean(output == 0)
            assert abs(dropped - 0.4) < 5 * np.sqrt(0.4 * 0.6 / output.size)  # five standard deviations


def test_partial_channels_leave_the_rest_as_it_is():
    """One channel of two goes through the mixture; the other passes by, and the two sets are interleaved."""
    cell = Cell(("none", "skip_connect"), ((0, 0), (1, 0)), reduction=False, partial=2)
    inputs = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 4))
    gates = jnp.asarray([[0.75, 0.25], [0.0, 0.0]])
    output = tape(cell, inputs, {"stride_1": {}}, gates)
    np.testing.assert_allclose(output[..., 0::2], 0.25 * inputs[0][..., :2], rtol=1e-6)
    np.testing.assert_allclose(output[..., 1::2], inputs[0][..., 2:], rtol=1e-6)


def test_a_longer_stage_is_a_loop_over_the_same_cells(monkeypatch):
    """Seven layers have stages of up to three normal cells, whose bodies are one loop: equal to cell after cell."""
    with jax.enable_x64(True):
        network, gates = build("tape", layers=7), double(gates_of("mixture"))
        params = double(network.init(jax.random.key(1)))
        images = jax.random.normal(jax.random.key(2), (2, 4, 4, 3), jnp.float64)
        looped = jax.jit(network.apply)(params, gates, images)
        monkeypatch.setattr(module, "_stages", lambda plan: [[number] for number in range(len(plan))])
        apart = jax.jit(build("tape", layers=7).apply)(params, gates, images)
        assert_close(looped, apart)


def test_bare_gates_add_the_cotangent_sum_of_the_published_code():
    """GDAS's code adds a gate that was not selected to the node: its derivative is the node's summed cotangent."""
    operations = ("none", "skip_connect", "max_pool_3x3")
    cell = Cell(operations, ((0, 0), (1, 0)), reduction=False, paths=1, bare_gates=True)
    image = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    cotangent = jax.random.normal(jax.random.key(1), image.shape)
    gates = jnp.asarray([0.0, 1.0, 0.0])

    def published(gates):  # Σ over operations of gate · output if selected, else the bare gate
        return jnp.vdot(cotangent, gates[1] * image + gates[0] + gates[2])

    actual = jax.grad(lambda gates: jnp.vdot(cotangent, selected(cell, 1, image, {}, gates)))(gates)
    np.testing.assert_allclose(actual, jax.grad(published)(gates), rtol=1e-5)


def test_active_names_exactly_the_weights_with_a_gradient():
    network, gates = build("tape", paths=1), gates_of("one-hot")
    params = network.init(jax.random.key(1))
    images = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
    _, gradient, _ = value_and_gradients(network, params, gates, images)
    # Weights feeding a batch norm's mean have no gradient at all, so only the inactive direction is exact.
    jax.tree.map(
        lambda active, g: np.testing.assert_array_equal(jnp.where(active, 0.0, g), 0.0), network.active(gates), gradient
    )
    for layer in network.active(gates)["cells"]:
        for group in layer["edges"].values():
            for weights in group.values():
                assert all(leaf.dtype == bool for leaf in weights.values())


def test_vmap_over_weights_equals_one_by_one():
    network, gates = build("tape"), gates_of("mixture")
    params = [network.init(jax.random.key(seed)) for seed in (1, 2)]
    images = jax.random.normal(jax.random.key(2), (2, 8, 8, 3))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    together = jax.jit(jax.vmap(lambda p: network.apply(p, gates, images)))(stacked)
    for number, one in enumerate(params):
        np.testing.assert_allclose(together[number], network.apply(one, gates, images), rtol=2e-3, atol=2e-3)


def test_sizes_that_cannot_be_halved_are_refused():
    network = build("tape")
    with pytest.raises(UserError, match="9×8 pixels cannot be halved 2 times"):
        jax.eval_shape(network.apply, network.init(jax.random.key(0)), gates_of("mixture"), jnp.zeros((2, 9, 8, 3)))


def test_unknown_evaluation_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown evaluation 'tap'; did you mean 'tape'\?"):
        build("tap")
    assert set(EVALUATIONS) == {"plain", "wide", "tape"}
