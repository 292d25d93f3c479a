"""What a student learns from a teacher, and the steps of training in parts, in bfloat16 and beside a teacher."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.data.augment import Augmentation, normalize
from jaxnas.evaluate.distillation import (
    Distillation,
    apply_tapped,
    attention_loss,
    attention_map,
    check_taps,
    soft_loss,
    tap_shapes,
)
from jaxnas.evaluate.recipe import Recipe
from jaxnas.evaluate.retrain import smoothed_cross_entropy, training_task
from jaxnas.evaluate.training_data import TrainingData
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.networks.cell_operations import Linear
from jaxnas.networks.residual_network import WideResNet
from jaxnas.networks.substituted import substituted
from jaxnas.spaces.genotype import Genotype
from jaxnas.train.parallel import Devices
from tests.networks.random_variables import random_variables

SHAPE, CLASSES = (4, 4, 1), 3
CELL = (("skip_connect", 0), ("dil_conv_3x3", 1))
CELLS = CellNetwork(Genotype(CELL, (2,), CELL, (2,)), 2, 3, CLASSES)
WIDE = WideResNet(10, 1, CLASSES)
COMPRESSED = substituted(WIDE, SHAPE, kind="low_rank", budget=0.5, keep=("stem", "shortcut"))
NETWORKS = {
    "wide": (WIDE, {"stem": (4, 4, 16), "group_1": (4, 4, 16), "group_2/block_1": (2, 2, 32), "group_3": (1, 1, 64)}),
    "cells": (CELLS, {"cell_0": (4, 4, 2), "cell_1": (2, 2, 4), "cell_2": (1, 1, 8)}),
    "compressed": (COMPRESSED, {"group_1/block_1/convolution_2": (4, 4, 16), "group_3": (1, 1, 64)}),
}
PLAIN = Augmentation(0, False, 0, (0.5,), (0.25,))
RECIPE = Recipe(2, 8, 0.1, 0.9, 0.0, 0.0, drop_path=0.0, auxiliary_weight=0.0)


def features(seed, shape=(2, 3, 4, 5)):
    return np.random.default_rng(seed).normal(size=shape)


def map_by_hand(values):
    energies = np.mean(values**2, axis=-1).reshape(len(values), -1)
    return energies / np.sqrt(np.sum(energies**2, axis=1, keepdims=True))


def test_attention_maps_are_unit_vectors_of_energies():
    of = jax.jit(attention_map)
    np.testing.assert_allclose(of(features(0)), map_by_hand(features(0)), rtol=1e-5)
    np.testing.assert_array_equal(of(np.zeros((1, 2, 2, 3))), np.zeros((1, 4)))  # nothing, not NaN


@pytest.mark.parametrize("taps", [1, 2, 3, 4])
def test_the_attention_loss_weighs_as_three_taps_whatever_their_number(taps):
    """Channels need not be as many; sizes differ from tap to tap."""
    shapes = [((2, 4, 4, 3), (2, 4, 4, 5)), ((2, 2, 2, 6), (2, 2, 2, 2))] * 2
    pairs = [(features(n, ours), features(n + 9, theirs)) for n, (ours, theirs) in enumerate(shapes[:taps])]
    expected = [np.mean((map_by_hand(ours) - map_by_hand(theirs)) ** 2) for ours, theirs in pairs]
    found = jax.jit(attention_loss)(*zip(*pairs, strict=True), 1000.0)
    np.testing.assert_allclose(found, 1000 * 3 * np.mean(expected), rtol=1e-4)


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_soft_loss_is_a_divergence_of_softened_answers(temperature):
    ours, theirs = features(1, (5, 4)), features(2, (5, 4))
    p, q = softmax(theirs / temperature), softmax(ours / temperature)
    expected = temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))
    np.testing.assert_allclose(jax.jit(soft_loss)(ours, theirs, temperature), expected, rtol=1e-4)


def test_a_student_that_equals_its_teacher_has_nothing_to_learn():
    """Of the soft answers up to the rounding of a softmax; nothing at all of the maps."""
    logits, maps = features(3, (5, 4)), features(4)
    soft = jax.jit(jax.value_and_grad(soft_loss))(logits, logits, 4.0)
    attention = jax.jit(jax.value_and_grad(attention_loss))([maps], [maps], 1000.0)
    assert all(np.max(np.abs(one)) < 2e-6 for one in soft)
    assert all(np.max(np.abs(one)) == 0 for one in jax.tree.leaves(attention))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing(smoothing):
    """Cross-entropy with labels of 1 - s + s / classes for the right one and s / classes for every other."""
    logits, labels = features(5, (6, 4)), np.arange(6) % 4
    targets = np.full((6, 4), smoothing / 4) + (1 - smoothing) * np.eye(4)[labels]
    expected = -np.mean(np.sum(targets * np.log(softmax(logits)), axis=1))
    found = jax.jit(smoothed_cross_entropy, static_argnums=2)(logits, labels, smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_are_found_by_their_paths(name):
    """With their shapes; tapping changes neither the answer nor the running statistics."""
    network, expected = NETWORKS[name]
    shapes = tap_shapes(network, SHAPE)
    assert {tap: shapes[tap] for tap in expected} == expected
    assert "classifier" not in shapes  # has no pixels
    variables, images = random_variables(network, SHAPE), features(0, (2, *SHAPE))

    @jax.jit
    def both(variables, images):
        return apply_tapped(network, variables, images, tuple(expected), train=True), network.apply(
            variables, images, train=True, mutable=["batch_stats"]
        )

    (answer, changed, found), (plain, updated) = both(variables, images)
    np.testing.assert_array_equal(answer[0], plain[0])
    jax.tree.map(np.testing.assert_array_equal, changed, dict(updated))
    assert [one.shape[1:] for one in found] == list(expected.values())


def test_a_tap_is_what_its_module_answers():
    """The last group of a wide network, and what follows it: a normalisation, ReLU, the mean, a linear layer."""
    variables = random_variables(WIDE, SHAPE)
    tapped = jax.jit(functools.partial(apply_tapped, WIDE, taps=("group_3", "group_1"), train=False))
    (logits, _), changed, (last, first) = jax.device_get(tapped(variables, features(0, (2, *SHAPE))))
    assert (last.shape[-1], first.shape[-1], dict(changed)) == (64, 16, {})
    learned, running = (variables[part]["normalization"]["batch_norm"] for part in ("params", "batch_stats"))
    hidden = (last - running["mean"]) / np.sqrt(running["var"] + 1e-5) * learned["scale"] + learned["bias"]
    classifier = variables["params"]["classifier"]
    expected = np.maximum(hidden, 0).mean((1, 2)) @ classifier["kernel"] + classifier["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "pair", "message"),
    [
        (WIDE, WIDE, ("group_4", "group_1"), "unknown tap of the student 'group_4'; did you mean 'group_"),
        (WIDE, CELLS, ("group_1", "cell_9"), "unknown tap of the teacher 'cell_9'; did you mean 'cell_"),
        (WIDE, WIDE, ("classifier", "classifier"), "unknown tap of the student 'classifier'"),
        (COMPRESSED, WIDE, ("group_1", "group_2"), "'group_1' and 'group_2' have maps of 4x4 and 2x2 pixels"),
    ],
)
def test_taps_that_cannot_be(student, teacher, pair, message):
    distillation = Distillation(teacher, (pair,), 1.0, 0.0, 4.0)
    with pytest.raises(UserError, match=message):
        check_taps(student, distillation, SHAPE)


def test_taps_of_other_networks_of_the_same_size():
    check_taps(COMPRESSED, Distillation(WIDE, (("group_1/block_1", "group_1"),), 1.0, 0.0, 4.0), SHAPE)
    check_taps(WIDE, Distillation(CELLS, (("group_1", "cell_0"), ("group_3", "cell_2")), 1.0, 0.0, 4.0), SHAPE)


class Flat(nn.Module):
    """A linear layer on all pixels, with statistics that nothing depends on."""

    @nn.compact
    def __call__(self, images, *, train, drop_path_rate=0.0):
        del drop_path_rate
        mean = self.variable("batch_stats", "mean", jnp.zeros, ())
        if train and not self.is_initializing():
            mean.value = mean.value + 1.0
        return Linear(CLASSES, name="classifier")(images.reshape(len(images), -1)), None


def data_of(seed=0, count=8, teacher=()):
    images = np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)
    return TrainingData(images, np.arange(count, dtype=np.int32) % CLASSES, teacher)


def stepped(network, data, *, variables=None, distillation=None, **changes):
    """The states before and after one step on this very batch, and its metrics."""
    recipe = RECIPE._replace(**changes)
    task = training_task(
        network,
        recipe,
        name="t",
        count=24,
        image_shape=SHAPE,
        augmentation=PLAIN,
        devices=Devices(),
        distillation=distillation,
        feed=lambda first_step: iter(()),
    )
    state = jax.jit(task.init)(jax.random.key(0), ())
    state = state._replace(variables=variables or state.variables)
    return state, *task.step(jax.random.key(1), state, data, (), np.int32(0))


def gradient_of(state):
    """Without decay and clipping the momentum after one step is the gradient."""
    return optax.tree_utils.tree_get(state.optimizer, "trace")


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(jax.device_get(tree))))


def distance(one, other):
    """The norm of what two trees differ by, in NumPy: in eager JAX every shape compiles programs of its own."""
    return norm(jax.tree.map(np.subtract, jax.device_get(one), jax.device_get(other)))


def assert_close(actual, expected, rtol=1e-4, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_one_batch_where_no_statistics_are_shared(parts):
    (_, one, metrics), (_, many, found) = (stepped(Flat(), data_of(), accumulate=number) for number in (1, parts))
    assert_close(gradient_of(many), gradient_of(one))
    assert_close(found, metrics)
    assert_close(many.variables["params"], one.variables["params"])
    assert (one.variables["batch_stats"]["mean"], many.variables["batch_stats"]["mean"]) == (1, parts)


@pytest.fixture(scope="module")
def halves():
    """Two equal halves, stepped at once and one after the other."""
    images, labels, *_ = data_of(seed=3, count=4)
    data = TrainingData(np.concatenate([images, images]), np.concatenate([labels, labels]))
    return data, *(stepped(WIDE, data, accumulate=number) for number in (1, 2))


def test_equal_halves_have_the_gradient_of_the_whole(halves):
    """Batch normalisation sees the same statistics in both; the running ones move twice instead of once."""
    _, (before, one, metrics), (_, two, found) = halves
    assert distance(gradient_of(two), gradient_of(one)) < 1e-3 * norm(gradient_of(one))
    assert_close(found, metrics, rtol=1e-3)
    start, once, twice = (jax.device_get(state.variables["batch_stats"]) for state in (before, one, two))
    # Once r₁ = 0.9 r₀ + 0.1 b, twice 0.9 r₁ + 0.1 b = 1.9 r₁ - 0.9 r₀.
    expected = jax.tree.map(lambda r0, r1: 1.9 * r1 - 0.9 * r0, start, once)
    assert_close(twice, expected, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_for_products_only(halves):
    """Parameters, statistics and momenta stay in float32; loss and gradient are those of float32 in two digits."""
    data, (_, one, metrics), _ = halves
    _, state, found = stepped(WIDE, data, precision="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves((state.variables, gradient_of(state), found))} == {
        jnp.dtype("float32")
    }
    np.testing.assert_allclose(found["loss"], metrics["loss"], rtol=0.05)
    assert 0 < distance(gradient_of(state), gradient_of(one)) < 0.2 * norm(gradient_of(one))


@pytest.mark.parametrize(("soft", "taps"), [(0.3, ("group_1", "group_3")), (0.0, ("group_2",)), (0.5, ())])
def test_a_step_follows_all_that_a_teacher_says(soft, taps):
    """(1 - α) times the labels' loss, α times the soft one, and the maps; the teacher has its running statistics."""
    variables, teacher = (random_variables(WIDE, SHAPE, seed) for seed in (1, 2))
    distillation = Distillation(WIDE, tuple((tap, tap) for tap in taps), 20.0, soft, 4.0)
    data = data_of(teacher=teacher)
    _, state, metrics = stepped(WIDE, data, variables=variables, distillation=distillation)

    def expected(params):
        images = normalize(PLAIN, data.images)
        inputs = variables | {"params": params}
        (logits, _), _, ours = apply_tapped(WIDE, inputs, images, taps, train=True)
        (said, _), _, theirs = apply_tapped(WIDE, teacher, images, taps, train=False)
        label = smoothed_cross_entropy(logits, data.labels, 0.0)
        parts = {"loss": label}
        total = (1 - soft) * label
        if soft:
            parts["soft_loss"] = soft_loss(logits, said, 4.0)
            total = total + soft * parts["soft_loss"]
        if taps:
            parts["attention_loss"] = attention_loss(ours, theirs, 20.0)
            total = total + parts["attention_loss"]
        return total, parts

    gradient, parts = jax.jit(jax.grad(expected, has_aux=True))(variables["params"])
    assert set(metrics) == {"accuracy", *parts}
    assert_close({name: metrics[name] for name in parts}, parts, rtol=1e-3)
    assert distance(gradient_of(state), gradient) < 2e-3 * norm(gradient)


class Watched(Flat):
    """Answers as `Flat`, and says while it is traced what it was given."""

    @nn.compact
    def __call__(self, images, *, train, drop_path_rate=0.0):
        del train, drop_path_rate
        assert images.dtype == jnp.bfloat16
        assert self.variable("batch_stats", "mean", jnp.zeros, ()).value.dtype == jnp.float32
        return Linear(CLASSES, name="classifier")(images.reshape(len(images), -1)), None


def test_a_teachers_statistics_stay_in_float32_too():
    data = data_of(teacher=random_variables(Flat(), SHAPE))
    distillation = Distillation(Watched(), (), 0.0, 0.5, 4.0)
    assert "soft_loss" in stepped(Flat(), data, distillation=distillation, precision="bfloat16")[2]


def test_the_average_is_what_a_network_is_judged_by():
    before, state, _ = stepped(Flat(), data_of(), average_decay=0.5)
    old, new = jax.device_get((before.variables, state.variables))
    first = jax.tree.map(lambda one, other: 0.1 * one + 0.9 * other, old, new)
    assert_close(state.judged, first)
    assert_close(stepped(Flat(), data_of())[1].judged, state.variables)
