"""Training a stand-alone network: the recipe's schedules, and the evaluation against brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.data.augment import Augmentation, normalize
from jaxnas.evaluate.accuracy import evaluate, is_right
from jaxnas.evaluate.recipe import Recipe
from jaxnas.evaluate.retrain import training_task
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.spaces.genotype import Genotype
from jaxnas.train.parallel import check_devices, compile_program, init_over_seeds, over_seeds
from jaxnas.train.task import advance, init_run, rehearse

CELL = (("skip_connect", 0), ("dil_conv_3x3", 1))
GENOTYPE = Genotype(CELL, (2,), CELL, (2,))
PLAIN = Augmentation(0, False, 0, (0.5,), (0.25,))
RECIPE = Recipe(2, 4, 0.1, 0.9, 3e-4, 5.0, drop_path=0.0, auxiliary_weight=0.4)
COUNT = 12


def data_of(count=COUNT):
    labels = jnp.arange(count) % 3
    noise = jax.random.randint(jax.random.key(0), (count, 4, 4, 1), 0, 60)
    return TrainingData((noise + 90 * labels[:, None, None, None]).astype(jnp.uint8), labels.astype(jnp.int32))


def start(devices=1, recipe=RECIPE):
    chosen = check_devices(devices, {})
    network = CellNetwork(GENOTYPE, 2, 1, 3, axis_name=chosen.axis_name)
    task = training_task(
        network, recipe, name="t", count=COUNT, image_shape=(4, 4, 1), augmentation=PLAIN, devices=chosen
    )
    shapes = rehearse(task, data_of())
    run, data = chosen.replicate((init_over_seeds(lambda key, before: init_run(task, key, shapes), (0,)), data_of()))
    step = over_seeds(lambda run, data, count: advance(task, run, data, count), one_by_one=True)
    program = compile_program(step, chosen, run, data, jnp.zeros((), jnp.int32))
    return network, run, lambda run, count: program(run, data, jnp.asarray(count, jnp.int32))


@pytest.fixture(scope="module")
def one_device():
    return start()


def test_training_learns_and_moves_the_running_statistics(one_device):
    _, run, steps = one_device
    before = jax.tree.map(np.asarray, run.learner.variables["batch_stats"])
    first = steps(run, 3)  # one epoch
    first_loss = float(first.sums["loss"][0])
    second = steps(first._replace(sums=jax.tree.map(jnp.zeros_like, first.sums)), 3)
    assert float(second.sums["loss"][0]) < first_loss
    moved = jax.tree.map(lambda a, b: bool(np.any(a != np.asarray(b))), before, second.learner.variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_four_devices_train_as_one(one_device):
    """Without drop-path, which every device draws for itself: the momentum is the gradient after one step."""
    momenta = []
    for _, run, steps in (start(), start(devices=4)):
        momenta.append(optax.tree_utils.tree_get(steps(run, 1).learner.optimizer, "trace"))
    difference = optax.tree.norm(jax.tree.map(lambda a, b: np.asarray(a) - np.asarray(b), *momenta))
    assert float(difference) < 2e-3 * float(optax.tree.norm(momenta[0]))


@pytest.mark.parametrize("count", [1, 5, 8])
def test_evaluation_counts_every_example_once(count):
    """Also where the last batch is filled up: against the network called on each example by itself."""
    network = CellNetwork(GENOTYPE, 2, 1, 3)
    data = data_of(count)
    variables = network.init(jax.random.key(3), jnp.zeros((1, 4, 4, 1)), train=False)
    logits = [network.apply(variables, normalize(PLAIN, data.images[i : i + 1]), train=False)[0] for i in range(count)]
    right = [int(jnp.argmax(one)) == int(label) for one, label in zip(logits, data.labels, strict=True)]
    accuracy = evaluate(network, variables, data, batch_size=4, augmentation=PLAIN)
    np.testing.assert_allclose(accuracy, np.mean(right), rtol=1e-6)


@pytest.mark.parametrize("top", [1, 2, 5])
def test_the_label_counts_among_the_largest_logits(top):
    """Against sorting; of equal logits the first counts."""
    logits = np.random.default_rng(0).integers(0, 4, (40, 6)).astype(np.float32)
    labels = np.arange(40) % 6
    order = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    expected = [label in row for label, row in zip(labels, order, strict=True)]
    np.testing.assert_array_equal(is_right(jnp.asarray(logits), jnp.asarray(labels), top), expected)
