"""The experiment on one convolution of a residual network: its gradients, its steps, and mistakes."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.types import Batch
from jaxnas.evaluate.lab import contenders
from jaxnas.evaluate.lab.layer_gradients import Layer, compiled, cosine, step_losses
from jaxnas.evaluate.lab.real_layer import real_layer
from jaxnas.networks import sign_resnet
from jaxnas.relax.binary import straight_through

KEY = jax.random.key(3)
PARAMS = sign_resnet.init(jax.random.key(0), 1, 4, channels=(2, 3), blocks=1)
BATCH = Batch(jax.random.normal(jax.random.key(1), (12, 8, 8, 1)), jnp.arange(12) % 4)
LAYERS = [Layer(0, False), Layer(1, True)]
TINY = {
    "seed": 0,
    "channels": (2,),
    "blocks": 2,
    "layers": (0, 1),
    "training": 2,
    "inits": 1,
    "batches": 2,
    "batch_size": 16,
    "estimators": ("ste", "sr_ste", "cdg", "nes_4", "nes_4_ste", "nes_4_shift", "nes_4_span"),
    "coordinates": 5,
    "rates": (0.01, 0.1, 3),
}


def gradient(layer, label):
    who = contenders.contender(label, sigma=0.1, epsilon=0.5)
    return np.asarray(compiled(layer, who, 5)(KEY, PARAMS, BATCH))


def loss_with(layer, kernel):
    blocks = [dict(block) for block in PARAMS["blocks"]]
    blocks[layer.block]["kernel"] = kernel
    changed = {**PARAMS, "blocks": tuple(blocks)}
    logits = sign_resnet.apply(changed, BATCH.images, binary_weights=layer.binary)
    return float(sign_resnet.cross_entropy(logits, BATCH.labels))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_ste_is_the_kernels_part_of_the_whole_gradient(layer):
    def loss(params):
        logits = sign_resnet.apply(params, BATCH.images, straight_through("clipped"), binary_weights=layer.binary)
        return sign_resnet.cross_entropy(logits, BATCH.labels)

    whole = jax.grad(loss)(PARAMS)["blocks"][layer.block]["kernel"]
    np.testing.assert_allclose(gradient(layer, "ste"), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_differences_are_those_of_the_loss(layer):
    found, kernel = gradient(layer, "cdg"), layer.kernel(PARAMS)
    measured = np.argwhere(np.isfinite(found))
    assert len(measured) == 5
    step = 0.5 * float(jnp.sqrt(jnp.mean(kernel**2)))
    for place in map(tuple, measured):
        up, down = (loss_with(layer, kernel.at[place].add(sign * step)) for sign in (1, -1))
        np.testing.assert_allclose(found[place], (up - down) / (2 * step), atol=1e-4)  # float32 losses around 1


def test_noise_in_the_span_of_stes_stays_there():
    layer = LAYERS[0]
    found = gradient(layer, "nes_4_span").ravel()
    stes = [gradient(layer, label).ravel() for label in ("ste", "ste_steep", "ste_swish", "ste_polynomial")]
    basis = np.linalg.qr(np.stack(stes, axis=1))[0]
    np.testing.assert_allclose(basis @ (basis.T @ found), found, atol=1e-3 * np.abs(found).max())


def test_a_step_is_so_many_lengths_of_the_kernel():
    layer = LAYERS[0]
    direction, kernel = 9.0 * jax.random.normal(KEY, layer.kernel(PARAMS).shape), layer.kernel(PARAMS)
    rates = jnp.array([0.1, 0.5])
    before, after = step_losses(layer, rates)(PARAMS, BATCH, direction)
    unit = direction * jnp.linalg.norm(kernel) / jnp.linalg.norm(direction)
    np.testing.assert_allclose(before, loss_with(layer, kernel), rtol=1e-5)
    np.testing.assert_allclose(after, [loss_with(layer, kernel - rate * unit) for rate in rates], rtol=1e-5)
    unmoved = step_losses(layer, rates)(PARAMS, BATCH, jnp.zeros_like(kernel))[1]
    np.testing.assert_allclose(unmoved, [before, before], rtol=1e-5)


def test_cosines_are_taken_where_the_truth_is_known():
    truth = np.array([3.0, np.nan, 4.0])
    assert cosine(np.array([3.0, 100.0, 4.0]), truth) == pytest.approx(1)
    assert cosine(np.array([4.0, 100.0, -3.0]), truth) == pytest.approx(0)
    assert cosine(np.array([0.0, 1.0, 0.0]), truth) == 0


@pytest.fixture(scope="module")
def experiment():
    return real_layer(**settings())


def settings(**changed):
    config = importlib.import_module("configs.lab.real_layer").get_config()
    return dict(config.settings.items()) | TINY | changed


@pytest.fixture(scope="module")
def measured(experiment):
    rows = [experiment.measure(cell) for cell in experiment.cells]
    return {name: np.array([row[name] for row in rows]) for name in experiment.shapes}


def test_what_is_measured(experiment, measured):
    assert len(experiment.cells) == 2 * 2 * 2 * 7
    assert all(np.isfinite(measured[name]).all() for name in experiment.shapes)
    labels = [cell["estimator"] for cell in experiment.cells]
    np.testing.assert_allclose(measured["cosine"][[label == "cdg" for label in labels]], 1, rtol=1e-6)
    assert (np.abs(measured["cosine"]) <= 1 + 1e-6).all()
    np.testing.assert_allclose(measured["best_decrease"], measured["decrease"].max(axis=1))
    # Raw and trained networks see the same images and differ.
    kinds = [np.array([cell["student"] == kind for cell in experiment.cells]) for kind in ("raw", "trained")]
    assert (measured["before"][kinds[0]] != measured["before"][kinds[1]]).all()


def test_a_cell_is_a_pure_function_of_its_labels(experiment, measured):
    again = real_layer(**settings())
    last = again.measure(again.cells[-1])
    for name, values in last.items():
        np.testing.assert_array_equal(values, measured[name][-1])


def test_what_is_found(experiment, measured):
    found = experiment.conclude(measured)
    assert set(found.numbers) == {"layer 0", "layer 1"} and set(found.numbers["layer 0"]) == {"raw", "trained"}
    assert set(found.numbers["layer 1"]["raw"]["estimators"]) == set(TINY["estimators"])
    assert len(found.figures) == len(found.tables) == len(found.sentences) == 4
    assert found.numbers["layer 0"]["raw"]["estimators"]["cdg"]["cosine"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": 0}, "layers must be a tuple, not 0; write (0,) for one value."),
        ({"layers": (-1,)}, "layers must be at least 0, not -1."),
        ({"channels": ()}, "channels must hold at least one value, but it is empty."),
        ({"channels": (0,)}, "channels must be at least 1, not 0."),
        ({"binary_weights": "yes"}, "binary_weights must be True or False, not 'yes'."),
        ({"data": 3}, "data must be a text, not 3."),
        ({"data": "npz", "path": "nowhere.npz"}, "the data file nowhere.npz does not exist"),
        ({"layers": (2,)}, "layers must be numbers of blocks, 0 ... 1, not 2."),
        ({"coordinates": 37}, "coordinates must be at most 36, all of layer 0, not 37."),
        (
            {"estimators": ("smoothed",)},
            "'smoothed' is for networks of full layers; here there are ste, sr_ste, cdg, nes.",
        ),
        (
            {"estimators": ("nes_5",)},
            "population must be even, because antithetic samples come in pairs, not 5; 6 is the next.",
        ),
        ({"students": ("pretrained",)}, "unknown student 'pretrained'; did you mean 'trained'?"),
        ({"batch_size": 5000}, "batch_size must be at most 1437, all training images of digits, not 5000."),
    ],
)
def test_mistakes(changed, message):
    with pytest.raises(UserError) as caught:
        real_layer(**settings(**changed))
    assert message in str(caught.value)
