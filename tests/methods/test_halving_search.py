"""Successive halving of real trainings, beside a search by hand that trains every network alone, on a tiny network."""

import functools
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.core.errors import UserError
from jaxnas.core.keys import named
from jaxnas.core.types import Network
from jaxnas.data.augment import Augmentation, normalize
from jaxnas.methods import METHODS, Setup, Weights
from jaxnas.spaces.product import product_space
from jaxnas.train.checkpoint import Checkpoints
from jaxnas.train.logging import MetricLog
from jaxnas.train.loop import Cadence, Surroundings, train
from jaxnas.train.parallel import Devices
from jaxnas.train.search_task import SearchData, search_task
from jaxnas.train.signals import StopRequest
from jaxnas.train.task import rehearse

CLASSES, BATCH, TRAIN, VALID = 3, 6, 18, 27
STEPS = TRAIN // BATCH
SETTINGS = {"candidates": 4, "reduction": 2, "rungs": 3}
EPOCHS = 16  # 4 networks get 2 each, then 2 get 2 more, and one gets 4 more
COUNTS, EACH, DONE = (4, 2, 1), (2, 2, 4), (0, 2, 4)  # of every rung: networks, epochs of each, epochs each had before
RATE, FINAL, MOMENTUM, DECAY, CLIP = 0.3, 0.01, 0.9, 1e-2, 0.5
WEIGHTS = Weights(RATE, FINAL, momentum=MOMENTUM, weight_decay=DECAY, clip=CLIP)
SPACE = product_space("toy", {"layers": ("a", "b", "c"), "heads": ("s", "t")}, {"layers": 2, "heads": 1})
AUGMENTATION = Augmentation(0, False, 0, (0.5,), (0.25,))


def supernet(*, paths=None):
    """Two layers of candidate scales and a choice between two classifiers."""
    del paths

    def init(key):
        shapes = {"stem": (16, 8), "layers": (2, 3, 8), "heads": (2, 8, CLASSES)}
        return {name: jax.random.normal(named(key, name), shape) for name, shape in shapes.items()}

    def apply(params, gates, images, noise=None):
        del noise
        hidden = images.reshape(len(images), 16) @ params["stem"]
        for layer in range(2):
            hidden = jnp.tanh(hidden * jnp.einsum("o,oc->c", gates["layers"][layer], params["layers"][layer]))
        return hidden @ jnp.einsum("o,ocd->cd", gates["heads"][0], params["heads"])

    def active(gates):
        return {
            "stem": jnp.asarray(True),
            "layers": gates["layers"][:, :, None] > 0,
            "heads": gates["heads"][0][:, None, None] > 0,
        }

    return Network(init, apply, active)


def cost(gates):
    """0 to 5: how far all options are from the first."""
    return sum(jnp.sum(values * jnp.arange(values.shape[1])) for values in gates.values())


def make_data():
    """Images whose brightness hints at their class."""
    labels = np.arange(TRAIN + VALID) % CLASSES
    noise = np.random.default_rng(0).integers(0, 200, (TRAIN + VALID, 4, 4, 1))
    images = jnp.asarray((noise + 25 * labels[:, None, None, None]).astype(np.uint8))
    halves = np.split(np.arange(TRAIN + VALID, dtype=np.int32), [TRAIN])
    return SearchData(images, jnp.asarray(np.int32(labels)), *map(jnp.asarray, halves))


DATA = make_data()
IMAGES = jax.jit(normalize, static_argnums=0)(AUGMENTATION, DATA.images)


def build(epochs=EPOCHS, settings=SETTINGS, **of_setup):
    return METHODS["halving"](Setup(SPACE, supernet, STEPS, epochs, **of_setup), WEIGHTS, **settings)


def task_of(stage):
    counts = TRAIN, VALID
    return search_task(stage, SPACE, batch_size=BATCH, counts=counts, augmentation=AUGMENTATION, devices=Devices())


def taken(tree, which):
    """That of one network, or of several, in NumPy: in eager JAX every shape compiles a program of its own."""
    return jax.tree.map(lambda leaf: leaf[which], jax.device_get(tree))


def trained(task, folder, before=()):
    """A task run for one seed in a folder, from its newest checkpoint on; every second step is saved."""
    folder.mkdir(parents=True, exist_ok=True)
    one = taken(before, 0)
    with MetricLog(folder) as log, Checkpoints(folder / task.name, keep=99) as checkpoints:
        around = Surroundings((0,), Cadence(2, 1e9), log, StopRequest())
        return train(task, rehearse(task, DATA, one), DATA, around, checkpoints, 0, before).run


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """(the stages, the run of each, the folder with all checkpoints) of one whole search."""
    folder = tmp_path_factory.mktemp("searched")
    stages, runs = build(), []
    for stage in stages:
        runs.append(trained(task_of(stage), folder, runs[-1].learner if runs else ()))
    return stages, runs, folder


def alone(run):
    return taken(run.learner, 0)


@jax.jit
def epoch_by_hand(params, trace, first_step, gates, order):
    """One epoch of SGD with clipped gradients, decay, momentum and one cosine; then the accuracy of the other half."""

    def loss(params, rows):
        logs = jax.nn.log_softmax(supernet().apply(params, gates, IMAGES[rows]))
        return -jnp.mean(logs[jnp.arange(BATCH), DATA.labels[rows]])

    active = supernet().active(gates)
    for number in range(STEPS):
        slope = jax.grad(loss)(params, DATA.train_rows[order[number * BATCH : (number + 1) * BATCH]])
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in slope.values()))
        progress = (first_step + number) / (8 * STEPS)  # a survivor is trained for eight epochs
        rate = FINAL + (RATE - FINAL) * (1 + jnp.cos(jnp.pi * progress)) / 2
        for name, leaf in slope.items():
            clipped = leaf / jnp.maximum(1.0, norm / CLIP) + DECAY * params[name]
            moved = jnp.where(active[name], MOMENTUM * trace[name] + clipped, trace[name])
            trace = trace | {name: moved}
            params = params | {name: jnp.where(active[name], params[name] - rate * moved, params[name])}
    hits = jnp.argmax(supernet().apply(params, gates, IMAGES[TRAIN:]), axis=-1) == DATA.labels[TRAIN:]
    return params, trace, jnp.mean(hits)


@functools.cache
def by_hand():
    """For every rung: (number in the first rung, weights, momentum, accuracy after each epoch) of every network."""
    stages = build()
    first = jax.device_get(jax.jit(stages[0].method.init)(named(jax.random.key(0), "learner")).memory.networks)
    present = [(number, taken(first.params, number)) for number in range(COUNTS[0])]
    present = [(number, params, jax.tree.map(np.zeros_like, params)) for number, params in present]
    rungs = []
    for rung, stage in enumerate(stages):
        key = named(jax.random.key(0), stage.name) if rung else jax.random.key(0)
        done, begin_epoch = [], jax.jit(task_of(stage).begin_epoch)
        for turn, (number, params, trace) in enumerate(present):
            gates = {part: values[number] for part, values in first.logits.items()}
            accuracies = []
            for epoch in range(EACH[rung]):
                order, _ = begin_epoch(named(key, "data"), turn * EACH[rung] + epoch)
                step = (DONE[rung] + epoch) * STEPS
                params, trace, accuracy = epoch_by_hand(params, trace, step, gates, order)
                accuracies.append(float(accuracy))
            done.append((number, params, trace, accuracies))
        rungs.append(done)
        best_first = sorted(range(len(done)), key=lambda place: (-done[place][3][-1], place))
        present = [done[place][:3] for place in best_first[: len(done) // 2]]
    return first.logits, rungs


@pytest.mark.parametrize("rung", range(3))
def test_every_network_of_a_rung_is_trained_as_if_it_were_alone(rung, searched):
    """With the same batches: weights, momentum and the count on which the learning rate depends.

    The same sums in another order: after at most 24 steps the difference is a few units in the last place.
    """
    logits, rungs = by_hand()
    bank = alone(searched[1][rung]).memory
    for place, (number, params, trace, accuracies) in enumerate(rungs[rung]):
        found = taken(bank.networks, place)
        chex.assert_trees_all_equal(found.logits, {part: values[number] for part, values in logits.items()})
        chex.assert_trees_all_close(found.params, params, rtol=1e-4, atol=1e-5)
        momentum = optax.tree_utils.tree_get(found.weights_state, "trace")
        chex.assert_trees_all_close(momentum, trace, rtol=1e-4, atol=1e-5)
        assert int(optax.tree_utils.tree_get(found.weights_state, "count")) == (DONE[rung] + EACH[rung]) * STEPS
        np.testing.assert_allclose(bank.accuracies[place], accuracies[-1], rtol=1e-6)


@pytest.mark.parametrize("rung", range(3))
def test_what_is_shown_and_derived_is_the_best_of_the_rung_so_far(rung, searched):
    """Of the networks that are done; before the first is, the present accuracy, and what the rung before derived."""
    logits, rungs = by_hand()
    history = searched[1][rung].history
    curve = [accuracy for *_, accuracies in rungs[rung] for accuracy in accuracies]
    np.testing.assert_allclose(history["valid_accuracy"][0], curve, rtol=1e-6)
    before = rungs[max(rung - 1, 0)]
    best = max(before, key=lambda one: one[3][-1])[0] if rung else 0
    shown, derived = [], []
    for epoch, accuracy in enumerate(curve):
        done = rungs[rung][: (epoch + 1) // EACH[rung]]
        if done:
            best = max(done, key=lambda one: one[3][-1])[0]  # the first of equal ones
        shown.append(max((one[3][-1] for one in done), default=accuracy))
        derived.append(best)
    np.testing.assert_allclose(history["search_accuracy"][0], shown, rtol=1e-6)
    for part, values in logits.items():
        expected = np.argmax(values, axis=-1)[derived]
        np.testing.assert_array_equal(history[f"architecture/{part}"][0], expected)


def test_the_first_networks_differ_and_what_is_trained_is_what_is_judged(searched):
    """One test of the others: were all networks equal, or none better than another, they would show little."""
    _, rungs = by_hand()
    last = [accuracies[-1] for *_, accuracies in rungs[0]]
    assert len(set(last)) > 2 and [one[0] for one in rungs[1]] != [0, 1]
    state = alone(searched[1][2])
    logits = jax.jit(searched[0][2].method.predict)(state, np.asarray(IMAGES)[TRAIN:])
    hits = np.equal(np.argmax(np.asarray(logits), axis=-1), np.asarray(DATA.labels)[TRAIN:])
    np.testing.assert_allclose(np.mean(hits), state.memory.best.accuracy, rtol=1e-6)


def test_of_equal_networks_the_earlier_is_promoted_and_of_no_number_none():
    first, second, _ = build()
    state = jax.device_get(jax.jit(first.method.init)(jax.random.key(3)))
    state, enter = state._replace(step=np.int32(9)), jax.jit(second.enter)
    for accuracies, expected in (([0.2, np.nan, 0.5, 0.5], [2, 3]), ([np.nan, 0.1, 0.0, 0.1], [1, 3])):
        bank = state.memory._replace(accuracies=np.float32(accuracies))
        entered = enter(jax.random.key(4), state._replace(memory=bank))
        kept = taken(bank.networks, expected)
        chex.assert_trees_all_equal(entered.memory.networks, kept)
        loaded = entered.params, entered.weights_state, entered.logits
        chex.assert_trees_all_equal(loaded, tuple(taken(kept, 0)))
        assert entered.memory.accuracies.tolist() == [-1, -1] and entered.memory.best.accuracy == -1
        chex.assert_trees_all_equal(entered.memory.best.best, bank.best.best)
        assert int(entered.step) == 0


@pytest.mark.parametrize(("rung", "step"), [(0, 2 * STEPS), (0, 3 * STEPS + 1), (1, 2 * STEPS + 2), (2, 2)])
def test_killed_within_a_rung_and_continued_it_ends_the_same(rung, step, searched, tmp_path):
    """Between two turns, and in the middle of an epoch."""
    stages, runs, folder = searched
    name = stages[rung].name
    shutil.copytree(folder / name / str(step), tmp_path / name / str(step))
    continued = trained(task_of(stages[rung]), tmp_path, runs[rung - 1].learner if rung else ())
    chex.assert_trees_all_equal(continued, runs[rung])


def test_killed_between_rungs_and_continued_it_ends_the_same(searched, tmp_path):
    """The rung that is over is restored from its last checkpoint, the next one begins from it."""
    stages, runs, folder = searched
    last = COUNTS[0] * EACH[0] * STEPS
    shutil.copytree(folder / "rung_1" / str(last), tmp_path / "rung_1" / str(last))
    restored = trained(task_of(stages[0]), tmp_path)
    chex.assert_trees_all_equal(restored, runs[0])
    chex.assert_trees_all_equal(trained(task_of(stages[1]), tmp_path, restored.learner), runs[1])


@pytest.mark.parametrize(
    ("candidates", "reduction", "rungs", "epochs", "first"),
    [(4, 2, 3, 16, 2), (9, 3, 3, 42, 2), (27, 3, 4, 81, 1), (6, 3, 2, 10, 1), (3, 2, 1, 12, 4), (8, 4, 2, 28, 2)],
)
def test_the_rungs_spend_what_they_promise(candidates, reduction, rungs, epochs, first):
    """All of the epochs; after every rung each of its networks has had `reduction` times those of the one before."""
    stages = build(epochs, {"candidates": candidates, "reduction": reduction, "rungs": rungs})
    assert [stage.name for stage in stages] == [f"rung_{number + 1}" for number in range(rungs)]
    assert sum(stage.epochs for stage in stages) == epochs
    assert epochs == round(candidates * first * (1 + (rungs - 1) * (1 - 1 / reduction)))
    total = 0
    for rung, stage in enumerate(stages):
        total += stage.epochs / (candidates // reduction**rung)
        assert total == first * reduction**rung


def test_every_candidate_is_within_the_limit():
    """Half of the architectures cost more; those drawn are not all the same."""
    limited, free = (build(cost=cost, limit=limit)[0].method for limit in (2.0, 0.0))
    keys = jax.random.split(jax.random.key(5), 16)
    costs = []
    for method in (limited, free):
        costs_of = jax.jit(jax.vmap(lambda key, method=method: jax.vmap(cost)(method.init(key).memory.networks.logits)))
        costs.append(np.asarray(costs_of(keys)))
    assert costs[0].max() <= 2.0 < costs[1].max()
    assert set(costs[0].ravel().tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reduction": 1}, "reduction is 1, but a rung has to be smaller than the one before"),
        ({"rungs": 0}, "rungs is 0, but successive halving needs at least 1"),
        ({"candidates": 6}, "candidates is 6, which cannot be divided by 2 in each of 2 .* that can is 8"),
        ({"epochs": 15}, "epochs is 15, but 4 candidates in 3 rungs .* multiple of 8 epochs; the nearest is 16"),
        ({"epochs": 3}, "epochs is 3, but .* a multiple of 8 epochs; the nearest is 8"),
        ({"limit": -1.0, "cost": cost}, "the limit of the cost is -1, which no architecture meets"),
    ],
)
def test_settings_have_to_fit(changed, message):
    settings = SETTINGS | {name: value for name, value in changed.items() if name in SETTINGS}
    with pytest.raises(UserError, match=message):
        build(settings=settings, **{name: value for name, value in changed.items() if name not in SETTINGS})
