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
from tests.networks.few_programs import (
    assert_close,
    initial,
    largest,
    normal,
    of_positive,
    one_program,
    soft_gates,
    value_and_gradients,
)

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
    kept = {"mixture": len(OPERATIONS), "two paths": 2, "one-hot": 1}[kind]
    found = {part: largest(gates, kept) for part, gates in soft_gates(cell_space(NODES, OPERATIONS)).items()}
    return jax.tree.map(np.ceil, found) if kind == "one-hot" else found


def assert_near(actual, expected):
    """Batch statistics of nearly constant maps amplify rounding; in float64 what is left is far below this."""
    assert_close(actual, expected, rtol=1e-6, atol=1e-8)


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
    gates = {part: np.eye(3)[[2, 1]] for part in ("normal", "reduce")}
    params = initial(network)
    assert params["cells"][0]["edges"] == {"stride_1": {}}
    logits, *gradients = value_and_gradients(network)(params, gates, np.ones((2, 8, 8, 3)))
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
        gates, images = gates_of(kind), normal(2, 8, 8, 3)
        settings = settings | {"channels": 4}
        params = initial(build("plain", **settings))
        expected = value_and_gradients(build("plain", **settings))(params, gates, images, noise)
        for evaluation in wholes:
            assert_near(value_and_gradients(build(evaluation, **settings))(params, gates, images, noise), expected)
        for evaluation in paths:
            network = build(evaluation, paths={"one-hot": 1, "two paths": 2}[kind], **settings)
            logits, params_bar, gates_bar = value_and_gradients(network)(params, gates, images, noise)
            assert_near((logits, params_bar), expected[:2])
            # The gates of the operations that ran have their gradient; the others, which did not run, have none.
            # (The weight of an edge's channels that pass by is the sum of its gates: a gradient that all of them have.)
            if "partial" not in settings:
                assert_near(gates_bar, of_positive(gates, expected[2]))


def test_noise_drops_identities_alone():
    """With rate r an identity keeps an element with probability 1 - r and divides it by that: 0 or x / (1 - r)."""
    cell = Cell(("none", "skip_connect", "max_pool_3x3"), ((0, 0), (1, 0)), reduction=False)
    inputs = np.ones((2, 4, 8, 8, 16))
    run = one_program(lambda inputs, gates: tape(cell, inputs, {"stride_1": {}}, gates, NOISE))
    for operation, values in ((1, {0.0, 1 / 0.6}), (2, {0.0})):
        output = run(inputs, np.eye(3)[[operation, 0]])
        np.testing.assert_allclose(sorted(set(output.ravel().tolist())), sorted(values), rtol=1e-6)
        if operation == 1:
            dropped = np.mean(output == 0)
            assert abs(dropped - 0.4) < 5 * np.sqrt(0.4 * 0.6 / output.size)  # five standard deviations


def test_partial_channels_leave_the_rest_as_it_is():
    """One channel of two goes through the mixture; the other passes by, and the two sets are interleaved."""
    cell = Cell(("none", "skip_connect"), ((0, 0), (1, 0)), reduction=False, partial=2)
    inputs, gates = normal(2, 1, 4, 4, 4), np.array([[0.75, 0.25], [0.0, 0.0]])
    output = one_program(lambda inputs, gates: tape(cell, inputs, {"stride_1": {}}, gates))(inputs, gates)
    np.testing.assert_allclose(output[..., 0::2], 0.25 * inputs[0][..., :2], rtol=1e-6)
    np.testing.assert_allclose(output[..., 1::2], inputs[0][..., 2:], rtol=1e-6)


def test_a_longer_stage_is_a_loop_over_the_same_cells(monkeypatch):
    """Seven layers have stages of up to three normal cells, whose bodies are one loop: equal to cell after cell."""
    with jax.enable_x64(True):
        network, gates, images = build("tape", layers=7), gates_of("mixture"), normal(2, 4, 4, 3)
        params = initial(network)
        looped = jax.jit(network.apply)(params, gates, images)
        monkeypatch.setattr(module, "_stages", lambda plan: [[number] for number in range(len(plan))])
        apart = jax.jit(build("tape", layers=7).apply)(params, gates, images)
        assert_near(looped, apart)


def test_bare_gates_add_the_cotangent_sum_of_the_published_code():
    """GDAS's code adds a gate that was not selected to the node: its derivative is the node's summed cotangent."""
    operations = ("none", "skip_connect", "max_pool_3x3")
    cell = Cell(operations, ((0, 0), (1, 0)), reduction=False, paths=1, bare_gates=True)
    image, cotangent, gates = normal(2, 4, 4, 1), normal(2, 4, 4, 1, seed=1), np.array([0.0, 1.0, 0.0])

    def published(gates):  # Σ over operations of gate · output if selected, else the bare gate
        return jnp.vdot(cotangent, gates[1] * image + gates[0] + gates[2])

    def own(gates):
        return jnp.vdot(cotangent, selected(cell, 1, jnp.asarray(image), {}, gates))

    actual, expected = jax.jit(lambda gates: (jax.grad(own)(gates), jax.grad(published)(gates)))(gates)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_active_names_exactly_the_weights_with_a_gradient():
    network, gates = build("tape", paths=1), gates_of("one-hot")
    _, gradient, _ = value_and_gradients(network)(initial(network), gates, normal(2, 8, 8, 3))
    active = one_program(network.active)(gates)
    # Weights feeding a batch norm's mean have no gradient at all, so only the inactive direction is exact.
    jax.tree.map(lambda used, bar: np.testing.assert_array_equal(np.where(used, 0.0, bar), 0.0), active, gradient)
    for layer in active["cells"]:
        for group in layer["edges"].values():
            for weights in group.values():
                assert all(leaf.dtype == bool for leaf in weights.values())


def test_vmap_over_weights_equals_one_by_one():
    network, gates, images = build("tape"), gates_of("mixture"), normal(2, 8, 8, 3)
    stacked = one_program(jax.vmap(lambda seed: network.init(jax.random.key(seed))))(np.array([1, 2]))

    def run(params):
        return network.apply(params, gates, images)

    alone = jax.jit(run)
    one_by_one = [alone(jax.tree.map(lambda leaf, row=row: leaf[row], stacked)) for row in range(2)]
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(stacked), one_by_one, rtol=2e-3, atol=2e-3)


def test_sizes_that_cannot_be_halved_are_refused():
    network = build("tape")
    with pytest.raises(UserError, match="9×8 pixels cannot be halved 2 times"):
        params = jax.eval_shape(network.init, jax.random.key(0))
        jax.eval_shape(network.apply, params, gates_of("mixture"), np.zeros((2, 9, 8, 3)))


def test_unknown_evaluation_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown evaluation 'tap'; did you mean 'tape'\?"):
        build("tap")
    assert set(EVALUATIONS) == {"plain", "wide", "tape"}
