"""Searches that train shared weights by paths and then decide: on a network so small that all can be enumerated."""

import functools
import inspect
import itertools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.types import Network
from jaxnas.data.augment import Augmentation, normalize
from jaxnas.layers.normalization import batch_norm, leading
from jaxnas.methods import METHODS, Evolution, Method, Setup, Stage, Weights
from jaxnas.spaces.product import product_space
from jaxnas.spaces.space import encode
from jaxnas.strategies.seen import look_up
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Cadence, Surroundings, train
from jaxnas.train.parallel import Devices
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import finish_epoch, init_run, rehearse

CLASSES, BATCH, TRAIN, VALID, EPOCHS = 3, 6, 18, 27, 2
WEIGHTS = Weights(0.1, 0.0, momentum=0.9, weight_decay=1e-3, clip=5.0)
SPACE = product_space(
    "toy",
    {"kinds": ("a", "b", "c"), "sizes": ("s", "t")},
    {"kinds": 2, "sizes": 1},
    allowed={"kinds": np.asarray([[1, 1, 1], [1, 0, 1]], bool)},
)
ARCHITECTURES = [
    {"kinds": jnp.asarray(kinds, jnp.int32), "sizes": jnp.asarray([size], jnp.int32)}
    for *kinds, size in itertools.product((0, 1, 2), (0, 2), (0, 1))
]
STACKED = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ARCHITECTURES)
AUGMENTATION = Augmentation(0, False, 0, (0.5,), (0.25,))


def supernet(*, paths=None, bare_gates=False, calibrate=0):
    """Two layers of candidate scales, normalised as supernets are, and a choice between two classifiers."""
    del paths, bare_gates

    def init(key):
        shapes = {"stem": (16, 8), "kinds": (2, 3, 8), "sizes": (2, 8, CLASSES)}
        return {name: jax.random.normal(jax.random.fold_in(key, len(name)), shape) for name, shape in shapes.items()}

    def apply(params, gates, images, noise=None):
        del noise
        hidden = images.reshape(len(images), 1, 1, 16) @ params["stem"]
        for layer in range(2):
            scaled = jnp.tanh(hidden * jnp.einsum("o,oc->c", gates["kinds"][layer], params["kinds"][layer]))
            hidden = batch_norm(scaled, leading(None, calibrate))
        return hidden[:, 0, 0] @ jnp.einsum("o,ocd->cd", gates["sizes"][0], params["sizes"])

    def active(gates):
        return {
            "stem": jnp.asarray(True),
            "kinds": gates["kinds"][:, :, None] > 0,
            "sizes": gates["sizes"][0][:, None, None] > 0,
        }

    return Network(init, apply, active)


def cost(gates):
    """0 to 11: of the twelve architectures the number of each in ARCHITECTURES."""
    weights = {"kinds": jnp.asarray([[0.0, 4.0, 8.0], [0.0, 0.0, 2.0]]), "sizes": jnp.asarray([[0.0, 1.0]])}
    return sum(jnp.sum(weights[part] * gates[part]) for part in gates)


def error_and_cost(loss, cost):
    return loss + 0.01 * cost


def make_data():
    """Images whose brightness hints at their class."""
    labels = np.arange(TRAIN + VALID) % CLASSES
    noise = np.random.default_rng(0).integers(0, 150, (TRAIN + VALID, 4, 4, 1))
    images = jnp.asarray((noise + 50 * labels[:, None, None, None]).astype(np.uint8))
    rows = jnp.arange(TRAIN + VALID)
    return SearchData(images, jnp.asarray(labels, jnp.int32), rows[:TRAIN], rows[TRAIN:])


DATA = make_data()
EVOLUTION = Evolution(rounds=4, population=4, parents=2, mutants=2, crossovers=1, mutation_rate=0.4)
SPOS = {"evolution": EVOLUTION, "cost_bins": 0}
FAIRNAS = {"rounds": 4, "population": 4, "mutation_rate": 0.4, "crossover_rate": 0.5}
PRICED = {"cost": cost, "penalty": error_and_cost}
LIMITED = PRICED | {"limit": 4.0}
# {name: (method, its settings, of the setup, calibrate)}
ROWS = {
    "random_nas": ("random_nas", {"candidates": 6, "finalists": 2}, {}, 0),
    "one_shot": ("one_shot", {"dropout": 0.3, "candidates": 52}, LIMITED, 0),
    "spos": ("spos", SPOS, {}, 4),
    "spos, limited": ("spos", SPOS | {"cost_bins": 3}, LIMITED, 0),
    "fairnas": ("fairnas", FAIRNAS, PRICED, 4),
    "fairnas without a cost": ("fairnas", FAIRNAS, {}, 0),
}


def build(name, settings, of_setup, calibrate=0):
    setup = Setup(SPACE, supernet, TRAIN // BATCH, EPOCHS)._replace(**of_setup)
    return METHODS[name](setup, WEIGHTS, **settings, calibrate=calibrate)


def task_of(stage):
    counts = TRAIN, VALID
    return search_task(stage, SPACE, batch_size=BATCH, counts=counts, augmentation=AUGMENTATION, devices=Devices())


def trained(task, folder, before=(), every_steps=1):
    """A task run for one seed in a folder, from its newest checkpoint on."""
    folder.mkdir(parents=True, exist_ok=True)
    one = jax.tree.map(lambda leaf: leaf[0], before)
    with MetricLog(folder) as log, Checkpoints(folder / task.name, keep=99) as checkpoints:
        around = Surroundings((0,), Cadence(every_steps, 1e9), log, StopRequest())
        return train(task, rehearse(task, DATA, one), DATA, around, checkpoints, 0, before).run


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """row -> (its stages, the run of each, the folder with all checkpoints), every row searched once."""

    @functools.cache
    def of(row):
        folder = tmp_path_factory.mktemp("searched")
        stages = build(*ROWS[row])
        first = trained(task_of(stages[0]), folder)
        second = trained(task_of(stages[1]), folder, first.learner)
        return stages, (first, second), folder

    return of


@functools.partial(jax.jit, static_argnums=(1, 2))
def accuracies_of(params, calibrate, count=VALID):
    """By hand, of all architectures: batch after batch, the last one filled up with the first images of the half."""
    images = normalize(AUGMENTATION, DATA.images)
    network = supernet(calibrate=calibrate)

    def one(architecture):
        correct = 0
        for begin in range(0, count, BATCH):
            rows = TRAIN + (begin + np.arange(BATCH)) % VALID
            both = jnp.concatenate([images[:calibrate], images[rows]])
            logits = network.apply(params, encode(SPACE, architecture), both)[calibrate:]
            hits = jnp.argmax(logits, axis=-1) == DATA.labels[rows]
            correct += jnp.sum(hits[: VALID - begin])
        return correct / min(count, VALID)

    return jax.lax.map(one, STACKED)


def alone(run):
    return jax.tree.map(lambda leaf: leaf[0], run.learner)


def judged(state):
    """{number of an architecture: its accuracy}, of those that were judged in full."""
    known, accuracies = look_up(state.memory.seen, STACKED)
    assert int(state.memory.seen.stored) == int(jnp.sum(known)) > 0  # none twice, and none besides
    return {number: float(accuracies[number]) for number in np.flatnonzero(known)}


@pytest.mark.parametrize("row", ROWS)
def test_candidates_are_judged_once_by_the_weights_as_they_are(row, searched):
    """Nothing but the memory changes in the second stage; every accuracy is the one found by hand."""
    stages, (first, second), _ = searched(row)
    before, state = alone(first), alone(second)
    chex.assert_trees_all_equal(before.params, state.params)
    expected = accuracies_of(state.params, ROWS[row][3])
    for number, accuracy in judged(state).items():
        np.testing.assert_allclose(accuracy, expected[number], rtol=1e-6)
    assert second.step.tolist() == [stages[1].epochs]
    assert np.isnan(second.history["train_loss"]).all() and np.isfinite(first.history["train_loss"]).all()
    np.testing.assert_array_equal(second.history["valid_accuracy"], second.history["search_accuracy"])


@pytest.mark.parametrize("row", ROWS)
def test_what_is_derived_is_the_best_of_what_was_judged(row, searched):
    """By its reward, within the limit; the accuracy by which the search is judged is its own."""
    stages, (_, second), _ = searched(row)
    state, of_setup = alone(second), ROWS[row][2]
    accuracies = judged(state)
    rewards = {number: one - (0.01 * number if of_setup else 0) for number, one in accuracies.items()}
    derived = stages[1].method.derive(state)
    (found,) = (
        number for number, one in enumerate(ARCHITECTURES) if jax.tree.all(jax.tree.map(jnp.array_equal, one, derived))
    )
    np.testing.assert_allclose(rewards[found], max(rewards.values()), atol=1e-6)
    np.testing.assert_allclose(second.history["search_accuracy"][0, -1], accuracies[found], rtol=1e-6)
    assert max(accuracies) <= of_setup.get("limit", 11)  # an architecture costs its number
    best_so_far = np.asarray(second.history["search_accuracy"][0])
    if not of_setup and row != "random_nas":  # whose first accuracies are those of a few images
        assert np.all(np.diff(best_so_far) >= 0)


def test_random_nas_judges_its_finalists_alone_in_full(searched):
    _, (_, second), _ = searched("random_nas")
    assert len(judged(alone(second))) in (1, 2)  # the two may be the same


def test_fairnas_trains_all_options_equally_often(searched):
    """Three paths a step: each of three options once, of two options three times in two steps, every path counted."""
    _, (first, _), _ = searched("fairnas")
    steps = EPOCHS * TRAIN // BATCH
    assert alone(first).memory["kinds"].tolist() == [[steps] * 3, [3 * steps // 2, 0, 3 * steps // 2]]
    assert alone(first).memory["sizes"].tolist() == [[3 * steps // 2] * 2]


@pytest.mark.parametrize("row", ["random_nas", "one_shot", "spos", "fairnas"])
def test_a_second_stage_that_was_killed_between_rounds_ends_the_same(row, searched, tmp_path):
    """Continued from the state saved after its first round, in which all that the strategy knows is kept."""
    stages, (first, second), folder = searched(row)
    assert stages[1].epochs > 1
    shutil.copytree(folder / "search" / "1", tmp_path / "search" / "1")
    continued = trained(task_of(stages[1]), tmp_path, first.learner)
    chex.assert_trees_all_equal(continued, second)


@pytest.mark.parametrize("calibrate", [0, 4])
def test_a_share_of_the_validation_half_is_its_first_batches(calibrate):
    """Of five batches, the last of which is half full."""
    shares = {0.01: 1, 1 / 5: 1, 0.3: 2, 3 / 5: 3, 0.999: 5, 1.0: 5}
    stage = build(*ROWS["spos"])[1]

    def finish(key, state, epoch, accuracy, judge):
        def one(share):
            return judge(ARCHITECTURES[3], share=share, calibrate=calibrate)

        judged = jax.lax.map(one, jnp.asarray(list(shares)))
        return state._replace(memory=state.memory._replace(strategy=judged)), judged[0]

    own = {"finish_epoch": finish, "probabilities": lambda state: encode(SPACE, ARCHITECTURES[0])}
    own |= {"derive": lambda state: ARCHITECTURES[0], "metrics": lambda state: {}}
    task = task_of(stage._replace(method=stage.method._replace(**own), enter=None))
    run = init_run(task, jax.random.key(0), rehearse(task, DATA))
    closed = jax.jit(lambda run: finish_epoch(task, run, DATA))(run._replace(step=jnp.asarray(1, jnp.int32)))
    for batches, found in zip(shares.values(), closed.learner.memory.strategy, strict=True):
        expected = accuracies_of(run.learner.params, calibrate, min(batches * BATCH, VALID))[3]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_calibrated_predictions_depend_on_no_other_image():
    """With the first five images held, the rest may come in any order and any company."""
    method = build(*ROWS["spos"])[1].method
    state = method.init(jax.random.key(1))
    images = jax.random.normal(jax.random.key(2), (12, 4, 4, 1))
    predict = functools.partial(method.child, state, ARCHITECTURES[7], calibrate=5)
    whole = predict(images)
    np.testing.assert_allclose(
        predict(images[::-1][jnp.asarray([11, 10, 9, 8, 7, 0, 3])])[5:], whole[jnp.asarray([11, 8])]
    )
    np.testing.assert_allclose(predict(images[:5]), whole[:5], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(method.child(state, ARCHITECTURES[7], images[:5]), whole[:5], rtol=1e-5, atol=1e-6)
    apart = method.child(state, ARCHITECTURES[7], images)[5:]
    assert not np.allclose(apart, whole[5:], rtol=1e-2)


def test_a_reward_that_is_not_finite_names_its_architecture(tmp_path):
    """At the round in which it was proposed; the first one of that round is named."""
    forbidden = PRICED | {"penalty": lambda loss, cost: jnp.where(cost == 11.0, jnp.nan, loss)}
    stages = build("one_shot", {"dropout": 0.0, "candidates": 49}, forbidden)
    first = trained(task_of(stages[0]), tmp_path)
    message = (
        "search: the reward of kinds:c[+]c;sizes:t is not finite at step 0 of seed 0; no step had been saved yet; "
    )
    with pytest.raises(UserError, match=message + "try another cost or penalty in a new workdir"):
        trained(task_of(stages[1]), tmp_path, first.learner)


@pytest.mark.parametrize(
    ("name", "settings", "of_setup", "message"),
    [
        ("random_nas", {"candidates": 7, "finalists": 3}, {}, "7, which 3 finalists do not divide; .* they do is 6"),
        ("spos", SPOS | {"cost_bins": 4}, {}, "method.cost_bins is 4, but the search has no cost"),
        (
            "spos",
            SPOS | {"evolution": EVOLUTION._replace(parents=9)},
            {},
            "population is 4, but has to be at least parents",
        ),
        ("spos", SPOS, PRICED | {"limit": -1.0}, "which no architecture meets"),
        ("fairnas", FAIRNAS | {"population": 1}, PRICED, "population is 1, but has to be at least"),
    ],
)
def test_settings_have_to_fit(name, settings, of_setup, message):
    with pytest.raises(UserError, match=message):
        build(name, settings, of_setup)


def test_calibration_needs_as_many_images():
    stages = build("spos", SPOS, {}, calibrate=TRAIN + 1)
    with pytest.raises(UserError, match=f"method.calibrate is {TRAIN + 1}, but the weights learn from {TRAIN} images"):
        rehearse(task_of(stages[1]._replace(enter=None)), DATA)


@pytest.mark.parametrize("name", ["random_nas", "one_shot", "spos", "fairnas"])
def test_every_sampled_method_decides_in_a_stage_of_its_own(name):
    """Two stages, of which the second takes one step, of nothing, for every round."""
    row = next(row for row, entry in ROWS.items() if entry[0] == name)
    stages = build(*ROWS[row])
    assert [stage.name for stage in stages] == ["supernet", "search"]
    assert [stage.steps_per_epoch for stage in stages] == [None, 1]
    assert all(isinstance(stage, Stage) and isinstance(stage.method, Method) for stage in stages)
    assert {"calibrate"} <= set(inspect.signature(METHODS[name]).parameters)
